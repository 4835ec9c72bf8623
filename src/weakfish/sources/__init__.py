"""Raw data into the staged table: the contract of a source, fetching, and ingest."""

from weakfish.sources.contract import Source

__all__ = ["Source"]
