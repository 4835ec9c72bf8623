"""Files of rows as a source: CSV, JSON Lines and Parquet by a mapping of columns, and what to guess of such files."""

from weakfish.sources.tabular.infer import Inferred, infer
from weakfish.sources.tabular.pieces import Reject, Rejects, Tally
from weakfish.sources.tabular.settings import TabularSettings
from weakfish.sources.tabular.source import TabularSource, tabular_source

__all__ = ["Inferred", "Reject", "Rejects", "TabularSettings", "TabularSource", "Tally", "infer", "tabular_source"]
