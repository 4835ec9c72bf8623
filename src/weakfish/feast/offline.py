"""The offline store that Feast uses: what it asks for in our words, and jobs that give Arrow batches."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Any

from weakfish.feast.adapter import connect_in_utc

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from feast.errors import SavedDatasetLocationAlreadyExists
from feast.infra.offline_stores.file_source import FileLoggingDestination
from feast.infra.offline_stores.offline_store import OfflineStore, RetrievalJob, RetrievalMetadata
from feast.on_demand_feature_view import OnDemandFeatureView
from feast.repo_config import FeastConfigBaseModel
from feast.types import UnixTimestamp, from_feast_to_pyarrow_type
from pydantic import StrictStr

from weakfish.contracts.gate import require_open
from weakfish.contracts.pointers import exists
from weakfish.contracts.tables import ROWS_IN_A_GROUP, TIME
from weakfish.errors import StoreError, UserError
from weakfish.files import part_folder, whole_file
from weakfish.project.paths import Project

try:
    from feast.infra.offline_stores import duckdb as feasts
    from feast.infra.offline_stores.duckdb import DuckDBOfflineStore, DuckDBOfflineStoreConfig

    connect_in_utc(feasts)
except ModuleNotFoundError:
    # Where Weakfish is installed for reading online alone, Feast loads this module all the same, for the settings.
    DuckDBOfflineStore, DuckDBOfflineStoreConfig = OfflineStore, FeastConfigBaseModel


def _duckdb(part: str) -> Any:
    """A module of ours that needs DuckDB; raises `UserError` where that is not installed."""
    try:
        return importlib.import_module(f"weakfish.feast.{part}")
    except ModuleNotFoundError as error:
        if error.name not in {"duckdb", "ibis"}:
            raise
        raise UserError(
            "Features are read from tables by DuckDB; `pip install 'weakfish[pipeline]'` adds it."
        ) from error


def require_open_source(source: Any, repository: Path | None) -> None:
    """Raise `CheckFailed` when a source is a table of a Weakfish project whose gate is shut."""
    path = getattr(source, "path", None)
    if not isinstance(path, str) or "://" in path.removeprefix("file://"):
        return
    place = Path(repository or Path.cwd(), path.removeprefix("file://").split("*")[0]).resolve()
    try:
        project = Project.find(place)
    except UserError:  # the source lies in no project
        return
    folder, data = place.parent if exists(place) else place, project.data.resolve()
    if folder != data and folder.is_relative_to(data):
        require_open(project, [folder.relative_to(data).as_posix()])


class AsOfOfflineStoreConfig(DuckDBOfflineStoreConfig):
    """The settings below ``offline_store`` in ``feature_store.yaml``.

    Attributes
    ----------
    memory_limit : str or None
        What a retrieval may hold in DuckDB, such as ``2GB`` or ``50%`` of the machine's memory; more is spilled to
        disk. DuckDB's own default, 80 %, if not set.
    threads : int or None
        How many threads it uses; as many as there are processors if not set.
    temp_directory : str or None
        The folder of spill files, from the Feast repository if relative; ``.weakfish/tmp`` if not set.
    """

    type: StrictStr = "weakfish.feast.offline.AsOfOfflineStore"
    memory_limit: StrictStr | None = None
    threads: int | None = None
    temp_directory: StrictStr | None = None


class AsOfOfflineStore(DuckDBOfflineStore):
    """Point-in-time joins that return every entity row once, in order, with the types that were stored."""

    supports_filter_by_created_timestamp = True

    @staticmethod
    def get_historical_features(
        config: Any,
        feature_views: list[Any],
        feature_refs: list[str],
        entity_df: Any,
        registry: Any,
        project: str,
        full_feature_names: bool = False,
        filter_by_created_timestamp: bool = False,
        start_date: datetime | None = None,
        end_date: datetime | None = None,
    ) -> ArrowJob:
        """See Feast's ``OfflineStore`` and `weakfish.feast.retrieval.Retrieval`."""
        on_demand = OnDemandFeatureView.get_requested_odfvs(feature_refs, project, registry)
        retrieval = _duckdb("retrieval").Retrieval(
            config,
            feature_views,
            feature_refs,
            entity_df,
            on_demand,
            full_names=full_feature_names,
            known=filter_by_created_timestamp,
            start=start_date,
            end=end_date,
        )
        return ArrowJob(
            retrieval.reader,
            repo=config.repo_path,
            metadata=retrieval.metadata,
            on_demand=on_demand,
            full_feature_names=full_feature_names,
            retrieval=retrieval,
        )

    @staticmethod
    def pull_latest_from_table_or_query(config: Any, data_source: Any, *pull: Any, **named: Any) -> ArrowJob:
        """See Feast's ``OfflineStore`` and `weakfish.feast.retrieval.pulled`; `CheckFailed` when a gate is shut."""
        return _pull_job(True, config, data_source, *pull, **named)

    @staticmethod
    def pull_all_from_table_or_query(config: Any, data_source: Any, *pull: Any, **named: Any) -> ArrowJob:
        """See Feast's ``OfflineStore`` and `weakfish.feast.retrieval.pulled`; `CheckFailed` when a gate is shut."""
        return _pull_job(False, config, data_source, *pull, **named)

    @staticmethod
    def offline_write_batch(
        config: Any, feature_view: Any, table: pa.Table, progress: Callable[[int], Any] | None
    ) -> None:
        """Add rows to the Parquet of a view; see `weakfish.feast.source_files.append`."""
        if feature_view.batch_source is None:
            raise UserError(f"View {feature_view.name!r} has no batch source to write to; give it one.")
        _duckdb("source_files").append(feature_view.batch_source, table, config.repo_path)
        if progress is not None:
            progress(table.num_rows)

    @staticmethod
    def write_logged_features(
        config: Any, data: pa.Table | Path, source: Any, logging_config: Any, registry: Any
    ) -> None:
        """Add logged features to their folder; see `weakfish.feast.source_files.append_logs`."""
        destination = logging_config.destination
        if not isinstance(destination, FileLoggingDestination):
            raise UserError(f"Logs go to a FileLoggingDestination here, not to a {type(destination).__name__}.")
        _duckdb("source_files").append_logs(destination, data, config.repo_path)


def _pull_job(last: bool, config: Any, data_source: Any, *pull: Any, **named: Any) -> ArrowJob:
    pulled = _duckdb("retrieval").pulled
    require_open_source(data_source, config.repo_path)
    return ArrowJob(lambda rows: pulled(rows, last, config, data_source, *pull, **named), repo=config.repo_path)


WHOLE = 1_000_000
"""Rows of a batch when all batches are wanted at once."""

NULLABLE: dict[pa.DataType, Any] = {
    getattr(pa, name.lower())(): getattr(pd, f"{name}Dtype")()
    for name in ("Int8", "Int16", "Int32", "Int64", "UInt8", "UInt16", "UInt32", "UInt64")
}
"""What pandas keeps whole numbers in where some are null."""


class ArrowJob(RetrievalJob):
    """A retrieval that gives Arrow batches, each time it is run.

    Parameters
    ----------
    read : callable
        Gives a ``pyarrow.RecordBatchReader`` of batches of at most so many rows.
    metadata : RetrievalMetadata or None
    on_demand : list of OnDemandFeatureView
        Views that are computed of what is read, batch by batch.
    full_feature_names : bool
    retrieval : weakfish.feast.retrieval.Retrieval or None
        What is read, where it is that.
    repo : Path or None
        The Feast repository, from which relative paths start.
    """

    def __init__(
        self,
        read: Callable[[int], pa.RecordBatchReader],
        *,
        repo: Path | None,
        metadata: RetrievalMetadata | None = None,
        on_demand: list[Any] | None = None,
        full_feature_names: bool = False,
        retrieval: Any = None,
    ) -> None:
        super().__init__()
        self.retrieval = retrieval
        self._read, self._repo, self._metadata = read, repo, metadata
        self._on_demand = on_demand or []
        self._full_feature_names = full_feature_names

    @property
    def full_feature_names(self) -> bool:
        """Whether features are called ``<view>__<feature>``."""
        return self._full_feature_names

    @property
    def on_demand_feature_views(self) -> list[Any]:
        """The views that are computed of what is read."""
        return self._on_demand

    @property
    def metadata(self) -> RetrievalMetadata | None:
        """What was asked for."""
        return self._metadata

    def to_df(self, validation_reference: Any = None, timeout: int | None = None) -> pd.DataFrame:
        """The result as a pandas frame; see the module for its types."""
        return frame(self.to_arrow(validation_reference=validation_reference, timeout=timeout))

    def to_arrow_batches(self, rows: int = ROWS_IN_A_GROUP) -> pa.RecordBatchReader:
        """The result in batches of at most ``rows`` rows, of which one is held at a time.

        On-demand views are computed for each batch alone, and have the types that they declare.

        Raises
        ------
        TableError, UserError, StoreError
            See `to_arrow`; also when an on-demand view returns what is not of its declared type.
        """
        found = self._read(rows)
        if not self._on_demand:
            return found
        held = ExitStack()
        held.callback(found.close)
        schema = self.computed(found.schema.empty_table()).schema
        pieces = (self.computed(pa.Table.from_batches([part])).select(schema.names) for part in found)
        batches = (batch for piece in pieces for batch in piece.combine_chunks().to_batches())
        return _duckdb("retrieval").held_reader(schema, batches, held, "An on-demand view")

    def to_parquet(self, path: str | Path) -> None:
        """Write the result to a file, batch by batch; the file is there as a whole or not at all.

        ``path`` starts at the Feast repository if relative. Raises like `to_arrow_batches`.
        """
        target = _duckdb("source_files").resolved(str(path), self._repo)
        with (
            whole_file(target) as part,
            self.to_arrow_batches() as found,
            pq.ParquetWriter(part, found.schema, compression="zstd") as writer,
        ):
            for batch in found:
                writer.write_batch(batch)

    def persist(self, storage: Any, allow_overwrite: bool = False, timeout: int | None = None) -> None:
        """Write the result where a saved dataset of Feast is kept: a file ``*.parquet``, or a folder.

        Raises
        ------
        SavedDatasetLocationAlreadyExists
            When something is there and must stay.
        """
        uri: str = storage.file_options.uri
        target = _duckdb("source_files").resolved(uri, self._repo)
        if target.exists() and not allow_overwrite:
            raise SavedDatasetLocationAlreadyExists(location=uri)
        if target.suffix == ".parquet":
            if target.is_dir():
                raise UserError(f"{target} is a folder; name another place for the dataset.")
            self.to_parquet(target)
            return
        with part_folder(target) as folder:
            whole = folder / "whole"
            ArrowJob.to_parquet(self, (whole / "part-0.parquet").absolute())
            if target.exists():
                target.rename(folder / "old")
            whole.rename(target)

    def _to_arrow_internal(self, timeout: int | None = None) -> pa.Table:
        with self._read(WHOLE) as found:
            return found.read_all().combine_chunks()  # Feast's own engine writes the first chunk alone

    def _to_df_internal(self, timeout: int | None = None) -> pd.DataFrame:
        return frame(self._to_arrow_internal(timeout))

    def computed(self, table: pa.Table) -> pa.Table:
        """A batch with the features of on-demand views, in the types that they declare."""
        asked, kinds, computed = set(self._metadata.features) if self._metadata else set(), {}, table
        if table.num_rows:  # Feast computes them, of a job that reads this batch alone
            names: dict[str, Any] = {"on_demand": self._on_demand, "full_feature_names": self._full_feature_names}
            computed = ArrowJob(lambda rows: table.to_reader(), repo=None, metadata=self._metadata, **names).to_arrow()
        for view in self._on_demand:
            called = view.projection.name_to_use()
            for field in view.projection.features:
                name, kind = f"{called}__{field.name}" if self._full_feature_names else field.name, declared_type(field)
                kinds[name] = kind
                if not table.num_rows and asked & {f"{called}:{field.name}", f"{view.name}:{field.name}"}:
                    computed = computed.append_column(name, pa.array([], kind))
        for position, name in enumerate(computed.column_names[table.num_columns :], table.num_columns):
            column, kind = computed[name], kinds[name]
            try:
                computed = computed.set_column(position, name, column.cast(kind))
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
                raise StoreError(
                    f"{name} came back as {column.type} and is declared {kind} ({error}); correct its view."
                ) from error
        return computed


def is_on_demand(view: Any) -> bool:
    """Whether a view is computed when it is asked for, and not stored."""
    return isinstance(view, OnDemandFeatureView)


def declared_type(field: Any) -> pa.DataType:
    """The type in which a feature comes out that its view computes."""
    return TIME if field.dtype == UnixTimestamp else from_feast_to_pyarrow_type(field.dtype)


def frame(table: pa.Table) -> pd.DataFrame:
    """A table as a pandas frame that keeps every integer: those of columns with nulls are nullable."""
    plain: pd.DataFrame = table.to_pandas(ignore_metadata=True)
    for position, column in enumerate(table.columns):
        kind = NULLABLE.get(column.type)
        if kind is not None and column.null_count:
            plain.isetitem(position, column.to_pandas(types_mapper=NULLABLE.get))
    return plain
