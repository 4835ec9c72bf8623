"""The spine for retrieval without entity rows: every entity that has a row in a range of time, as of the end of it.

An entity of one view has null for the keys of the others, as other stores of Feast have it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import weakfish.feast.adapter  # noqa: F401 - first: it makes the import of Feast cheap

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from feast.errors import SavedDatasetLocationAlreadyExists
from feast.infra.offline_stores.offline_store import RetrievalJob, RetrievalMetadata
from feast.types import UnixTimestamp, from_feast_to_pyarrow_type

from weakfish.contracts.tables import ROWS_IN_A_GROUP, TIME
from weakfish.errors import StoreError, UserError
from weakfish.feast.asof import Join, View, Wanted, columns_of, conditions, held_reader
from weakfish.feast.parquet import (
    FUNCTIONS,
    Limits,
    Source,
    explained,
    first_line,
    microseconds,
    open_source,
    quoted,
    resolved,
    session,
)
from weakfish.feast.spine import TIMESTAMP, FileSpine, Spine, query_spine


def everyone(
    connection: duckdb.DuckDBPyConnection,
    views: Sequence[tuple[View, Any]],
    start: datetime,
    end: datetime,
    repo: Path | None,
) -> FileSpine:
    """The entities of views, ordered by their keys, with ``event_timestamp`` = ``end``.

    Raises
    ------
    UserError
        When no view has an entity.
    """
    columns = columns_of([view for view, _ in views])
    if not columns:
        raise UserError("Features without entities need entity rows to say as of when; give a frame of times.")
    opened = [(view, open_source(connection, source, repo, mapped=True)) for view, source in views if view.keys]
    kinds = {column: source.type(key) for view, source in opened for key, column in view.keys.items()}
    parts = [_entities(view, source, kinds, start, end) for view, source in opened]
    keys = ", ".join(quoted(column) for column in columns)
    time = f"CAST(make_timestamp({microseconds(end)}) AS TIMESTAMPTZ) AS {quoted(TIMESTAMP)}"
    return query_spine(
        connection,
        f"SELECT {time}, {keys} FROM ({' UNION '.join(parts)}) ORDER BY {keys}",  # noqa: S608
    )


def _entities(view: View, source: Source, kinds: dict[str, str], start: datetime, end: datetime) -> str:
    of = {column: source.column(key) for key, column in view.keys.items()}
    selected = [f"{of.get(column, f'CAST(NULL AS {kind})')} AS {quoted(column)}" for column, kind in kinds.items()]
    where = conditions(source, Wanted(list(view.keys), {}, view.time, view.created, end, start, known=view.known))
    return f"SELECT {', '.join(selected)} FROM {source.scan} f WHERE {' AND '.join(where)}"  # noqa: S608


Open = Callable[[duckdb.DuckDBPyConnection], Spine]


@dataclass(frozen=True)
class Retrieval:
    """What is to be retrieved; nothing is read before `reader`.

    Attributes
    ----------
    limits : Limits
    spine : callable
        Opens the spine in a session.
    views : sequence of tuple
        Each view with the Feast source behind it.
    """

    limits: Limits
    spine: Open
    views: Sequence[tuple[View, Any]]

    def reader(self, rows: int) -> pa.RecordBatchReader:
        """The result in batches of at most ``rows`` rows.

        Raises
        ------
        TableError, UserError
            When Parquet is missing or unreadable, lacks a column, or does not go with the spine.
        StoreError
            When DuckDB fails.
        """
        with ExitStack() as stack:
            connection = stack.enter_context(session(self.limits))
            with explained("The as-of join"):
                connection.execute(FUNCTIONS)
                spine = self.spine(connection)
                numbered = spine.number(connection, columns_of([view for view, _ in self.views]))
                joins = []
                for number, (view, source) in enumerate(self.views):
                    opened = open_source(connection, source, self.limits.repo, mapped=True)
                    joins.append(Join(view, opened, numbered, number))
                found = [_in_order(connection, join, rows) for join in joins]
                schema, asked = spine.batches(connection, rows)
            held = stack.pop_all()
        for features in found:
            for field in features.schema:
                schema = schema.append(field)
        return held_reader(schema, _beside(schema, asked, found), held, "The as-of join")


class InOrder:
    """The rows of a stream that is sorted by its first column, the row's number, as they stand beside a spine's."""

    def __init__(self, reader: pa.RecordBatchReader, view: str) -> None:
        self.schema = reader.schema.remove(0)
        self._reader, self._view = reader, view
        self._rest = reader.schema.empty_table()

    def rows(self, start: int, count: int) -> pa.Table:
        """The features of ``count`` rows from ``start`` on, null where there are none; raises `StoreError`."""
        parts = [self._rest]
        while not parts[-1].num_rows or parts[-1][0][-1].as_py() < start + count:
            try:
                parts.append(pa.Table.from_batches([self._reader.read_next_batch()]))
            except StopIteration:
                break
        table = pa.concat_tables(parts)
        numbers = table[0].to_numpy()
        cut = int(np.searchsorted(numbers, start + count))
        self._rest, mine = table.slice(cut), numbers[:cut]
        if len(mine) and (mine[0] < start or (np.diff(mine) <= 0).any()):
            raise StoreError(f"The as-of join of view {self._view!r} gave a row twice; its Parquet changed meanwhile.")
        found = table.slice(0, cut).remove_column(0)
        if cut == count:
            return found
        places = np.full(count, -1)
        places[mine - start] = np.arange(cut)
        return found.combine_chunks().take(pa.array(places, mask=places < 0))


def _in_order(connection: duckdb.DuckDBPyConnection, join: Join, rows: int) -> InOrder:
    what = f"The as-of join of view {join.view.name!r}"
    with explained(what):
        join.match(connection)
        return InOrder(connection.cursor().sql(join.features()).to_arrow_reader(rows), join.view.name)


def _beside(schema: pa.Schema, asked: Iterator[pa.Table], found: Sequence[InOrder]) -> Iterator[pa.RecordBatch]:
    start = 0
    for spine in asked:
        columns = list(spine.columns)
        for features in found:
            columns += features.rows(start, spine.num_rows).columns
        start += spine.num_rows
        yield from pa.table(columns, schema=schema).combine_chunks().to_batches()


WHOLE = 1_000_000
"""Rows of a batch when all batches are wanted at once."""

NULLABLE: dict[pa.DataType, Any] = {
    pa.int8(): pd.Int8Dtype(),
    pa.int16(): pd.Int16Dtype(),
    pa.int32(): pd.Int32Dtype(),
    pa.int64(): pd.Int64Dtype(),
    pa.uint8(): pd.UInt8Dtype(),
    pa.uint16(): pd.UInt16Dtype(),
    pa.uint32(): pd.UInt32Dtype(),
    pa.uint64(): pd.UInt64Dtype(),
}


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
    ) -> None:
        super().__init__()
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
        schema = self._computed(pa.Table.from_batches([], found.schema)).schema
        batches = (batch for part in found for batch in self._batches_of(part, schema))
        return held_reader(schema, batches, held, "An on-demand view")

    def to_parquet(self, path: str | Path) -> None:
        """Write the result to a file, batch by batch; the file is there as a whole or not at all.

        ``path`` starts at the Feast repository if relative. Raises like `to_arrow_batches`.
        """
        target = resolved(str(path), self._repo)
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f".{target.name}.part")
        try:
            with self.to_arrow_batches() as found, pq.ParquetWriter(part, found.schema, compression="zstd") as writer:
                for batch in found:
                    writer.write_batch(batch)
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)

    def persist(self, storage: Any, allow_overwrite: bool = False, timeout: int | None = None) -> None:
        """Write the result where a saved dataset of Feast is kept: a file ``*.parquet``, or a folder.

        Raises
        ------
        SavedDatasetLocationAlreadyExists
            When something is there and must stay.
        """
        uri: str = storage.file_options.uri
        target = resolved(uri, self._repo)
        if target.exists() and not allow_overwrite:
            raise SavedDatasetLocationAlreadyExists(location=uri)
        if target.suffix == ".parquet":
            if target.is_dir():
                raise UserError(f"{target} is a folder; name another place for the dataset.")
            self.to_parquet(target)
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as folder:
            whole = Path(folder) / "whole"
            ArrowJob.to_parquet(self, (whole / "part-0.parquet").absolute())
            if target.exists():
                target.rename(Path(folder) / "old")
            whole.rename(target)

    def _to_arrow_internal(self, timeout: int | None = None) -> pa.Table:
        with self._read(WHOLE) as found:
            return found.read_all().combine_chunks()  # Feast's own engine writes the first chunk alone

    def _to_df_internal(self, timeout: int | None = None) -> pd.DataFrame:
        return frame(self._to_arrow_internal(timeout))

    def _batches_of(self, batch: pa.RecordBatch, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        yield from self._computed(pa.Table.from_batches([batch])).select(schema.names).combine_chunks().to_batches()

    def _computed(self, table: pa.Table) -> pa.Table:
        """A batch with the features of on-demand views, in the types that they declare."""
        computed = _InMemory(table, self).to_arrow() if table.num_rows else self._declared(table)
        for position, name in enumerate(computed.column_names[table.num_columns :], table.num_columns):
            computed = computed.set_column(position, name, _typed(name, computed[name], self._types()[name]))
        return computed

    def _declared(self, table: pa.Table) -> pa.Table:
        wanted = set(self._metadata.features) if self._metadata else set()
        for view in self._on_demand:
            called = view.projection.name_to_use()
            for field in view.projection.features:
                if f"{called}:{field.name}" in wanted or f"{view.name}:{field.name}" in wanted:
                    name = f"{called}__{field.name}" if self._full_feature_names else field.name
                    table = table.append_column(name, pa.array([], self._types()[name]))
        return table

    def _types(self) -> dict[str, pa.DataType]:
        found = {}
        for view in self._on_demand:
            prefix = f"{view.projection.name_to_use()}__" if self._full_feature_names else ""
            for field in view.projection.features:
                kind = TIME if field.dtype == UnixTimestamp else from_feast_to_pyarrow_type(field.dtype)
                found[f"{prefix}{field.name}"] = kind
        return found


class _InMemory(ArrowJob):
    """One batch of a job, for Feast to compute its on-demand views."""

    def __init__(self, batch: pa.Table, job: ArrowJob) -> None:
        super().__init__(
            lambda rows: batch.to_reader(),
            repo=None,
            metadata=job.metadata,
            on_demand=job.on_demand_feature_views,
            full_feature_names=job.full_feature_names,
        )


def frame(table: pa.Table) -> pd.DataFrame:
    """A table as a pandas frame that keeps every integer: those of columns with nulls are nullable."""
    plain: pd.DataFrame = table.to_pandas(ignore_metadata=True)
    for position, column in enumerate(table.columns):
        kind = NULLABLE.get(column.type)
        if kind is not None and column.null_count:
            plain.isetitem(position, column.to_pandas(types_mapper=NULLABLE.get))
    return plain


def _typed(name: str, column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    try:
        return column.cast(kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise StoreError(
            f"{name} came back as {column.type} and is declared {kind} ({first_line(error)}); correct its view."
        ) from error
