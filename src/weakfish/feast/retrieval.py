"""Retrieval of features for Feast: entity rows from memory, Parquet or a query, and what was known at their times."""

from __future__ import annotations

import json
import os
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import weakfish.feast.adapter  # noqa: F401 - first: it makes the import of Feast cheap

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from feast.feature_view import DUMMY_ENTITY_ID, DUMMY_ENTITY_VAL
from feast.infra.offline_stores.offline_store import RetrievalMetadata
from feast.utils import compute_non_entity_date_range

from weakfish.contracts.record import CREATED, EVENT_TIMESTAMP, UNITS, microseconds, moment
from weakfish.engine.duckdb import first_line
from weakfish.errors import StoreError, UserError
from weakfish.feast.asof import AsOfJoin, Numbered, RowsInTime, ViewColumns
from weakfish.feast.definitions import refuse_mixture
from weakfish.feast.source_files import (
    Session,
    StoredRows,
    explained,
    in_unit,
    literal,
    open_files,
    open_source,
    quoted,
    selected,
    session,
)

ROWS = 65_536
"""Rows of a batch of last rows."""

READABLE = (".parquet", ".parq", ".pq", ".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".gz", ".zst")
"""How names end that DuckDB takes for files in a query."""

READING = "Reading the entity rows"

QUERY = re.compile(r"(\s|--[^\n]*\n|/\*.*?\*/)*(select|with|from|values|table|pivot|unpivot|\()[\s(*]", re.I | re.S)
"""How a query begins; any other text is a path."""


class TableSpine:
    """Entity rows in memory, in their order; ``time`` is the column of their times."""

    def __init__(self, rows: Any) -> None:
        table = _table(rows)
        self.names: Sequence[str] = table.column_names
        self.time = time_column({field.name: pa.types.is_timestamp(field.type) for field in table.schema})
        times = utc(table[self.time])
        self.table = table.set_column(self.names.index(self.time), self.time, times).replace_schema_metadata(None)

    def number(self, opened: Session, keys: Sequence[str]) -> Numbered:
        """Make the relation of row numbers, times and keys."""
        stored = {key: f"c{number}" for number, key in enumerate(keys)}
        try:
            times = self.table[self.time].cast(pa.timestamp("us"))
        except pa.ArrowInvalid:  # there are nanoseconds, which take longer to join
            times = self.table[self.time].cast(pa.timestamp("ns"))
        columns = {"row": pa.array(np.arange(self.table.num_rows)), "t": times}
        columns |= {column: self.table[key] for key, column in stored.items()}
        opened.connection.register("entity_rows", pa.table(columns))
        types = opened.types("FROM entity_rows", READING)
        source = StoredRows("the entity rows", [], "entity_rows", types, {**stored, self.time: "t"})
        return _numbered(opened, source, "f.row", self.time, keys)

    def batches(self, opened: Session, rows: int) -> tuple[pa.Schema, Iterator[pa.Table]]:
        """All columns of all rows, in order, in pieces of about ``rows`` rows; and their schema."""
        starts = range(0, self.table.num_rows, rows)
        return self.table.schema, (self.table.slice(start, rows) for start in starts)


class FileSpine:
    """Entity rows of Parquet, which are never in memory as a whole; their order is that of files by name."""

    def __init__(self, source: StoredRows) -> None:
        self.names: Sequence[str] = list(source.types)
        self.time = time_column({name: kind.startswith("TIMESTAMP") for name, kind in source.types.items()})
        self.source = source
        starts = np.cumsum([0, *(pq.read_metadata(file).num_rows for file in source.files[:-1])]).tolist()
        self._row = f"CAST({starts} AS BIGINT[])[CAST(f.file_index AS BIGINT) + 1] + f.file_row_number"

    def number(self, opened: Session, keys: Sequence[str]) -> Numbered:
        """See `TableSpine`."""
        return _numbered(opened, self.source, self._row, self.time, keys)

    def batches(self, opened: Session, rows: int) -> tuple[pa.Schema, Iterator[pa.Table]]:
        """See `TableSpine`."""
        columns = {name: self.source.column(name) for name in self.names}
        if self.source.type(self.time) == "VARCHAR":
            columns[self.time] = f"CAST({columns[self.time]} AS TIMESTAMPTZ)"
        query = f"SELECT {self._row}, {selected(columns)} FROM {self.source.scan} f"  # noqa: S608
        reader = opened.stream(query, rows, READING)
        return self._in_utc(reader.schema.empty_table()).schema, self._checked(reader)

    def _checked(self, reader: pa.RecordBatchReader) -> Iterator[pa.Table]:
        next_row = 0
        for batch in reader:
            table = pa.Table.from_batches([batch])
            if table.num_rows and table[0][0].as_py() != next_row:
                raise UserError("The Parquet of the entity rows changed while it was read; ask again.")
            next_row += table.num_rows
            yield self._in_utc(table)

    def _in_utc(self, table: pa.Table) -> pa.Table:
        table = table.remove_column(0)
        return table.set_column(table.column_names.index(self.time), self.time, utc(table[self.time]))


Spine = TableSpine | FileSpine
Open = Callable[[Session], Spine]


def _numbered(opened: Session, source: StoredRows, row: str, time: str, keys: Sequence[str]) -> Numbered:
    """The relation ``spine`` over rows, given the SQL of their numbers."""
    instant = source.instant(time)
    columns = "".join(f", {source.column(key)} AS c{number}" for number, key in enumerate(keys))
    made = f"SELECT {row} AS row, {instant.sql} AS t{columns} FROM {source.scan} f"  # noqa: S608
    opened.run(f"CREATE OR REPLACE TEMP VIEW spine AS {made}", READING)
    rows, first, last = opened.run("SELECT count(*), min(t), max(t) FROM spine", READING)[0]
    types = opened.types("FROM spine", READING)
    found = {key: (f"c{number}", types[f"c{number}"]) for number, key in enumerate(keys)}
    return Numbered(rows, instant.unit, first, last, found)


def file_spine(opened: Session, path: str) -> FileSpine:
    """Entity rows of the Parquet at a path; raises `TableError` when there is none."""
    return FileSpine(open_files(opened, path, "the entity rows"))


def query_spine(opened: Session, query: str) -> FileSpine:
    """Entity rows of a query in the order they come, kept among the spill files; raises `StoreError`."""
    file = opened.spill / "spine.parquet"
    with explained("The query of the entity rows", query):
        reader = opened.connection.sql(query).to_arrow_reader(131_072)
        with pq.ParquetWriter(file, reader.schema, compression="lz4") as writer:
            for batch in reader:
                writer.write_batch(batch)
    return file_spine(opened, str(file))


def _spine(rows: Any, config: Any) -> tuple[Sequence[str], str, Open]:
    """The columns of entity rows, the one of their times, and how they are opened in a session.

    Raises
    ------
    TableError, UserError
        When they cannot be read.
    """
    if not isinstance(rows, str | os.PathLike):
        table = TableSpine(rows)
        return table.names, table.time, lambda opened: table
    text = str(rows)
    with session(config) as opened:
        if not isinstance(rows, str) or not QUERY.match(text):
            spine = file_spine(opened, text)
            return spine.names, spine.time, lambda opened: file_spine(opened, text)
        query = _from_repository(opened, text)
        try:
            described = opened.connection.execute(f"DESCRIBE {query}").fetchall()
        except duckdb.Error as error:
            raise UserError(f"The query of the entity rows cannot be run: {first_line(error)}; correct it.") from error
        time = time_column({name: str(kind).startswith("TIMESTAMP") for name, kind, *_ in described})
        return [name for name, *_ in described], time, lambda opened: query_spine(opened, query)


def _from_repository(opened: Session, query: str) -> str:
    """A query whose relative paths start at the Feast repository; raises `UserError` unless it is one that reads.

    DuckDB looks in the working directory first, whatever its ``file_search_path``. So the query is parsed, what names a
    file is made absolute, and the query is written out again.
    """
    repo = (opened.repo or Path()).absolute()

    def absolute(path: str) -> str:
        return path if "://" in path or not path.lower().endswith(READABLE) else str(repo / path)

    def resolve(node: Any, texts: bool = False) -> None:
        """Make names of files absolute: those of tables, and, below ``texts``, texts that are arguments."""
        if isinstance(node, dict):
            if node.get("type") == "BASE_TABLE" and node["table_name"].lower().endswith(READABLE):
                node["table_name"] = absolute(node["table_name"])
                node["qualified_name"]["path"] = [node["table_name"]]
            elif node.get("type") == "TABLE_FUNCTION":
                for argument in node["function"]["arguments"][:1]:
                    resolve(argument["expression"], texts=True)
            elif texts and node.get("kind") == "STRING":
                node["text"] = absolute(node["text"])
        for part in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
            resolve(part, texts)

    parsed = json.loads(opened.connection.execute(f"SELECT json_serialize_sql({literal(query)})").fetchall()[0][0])
    if parsed["error"] or len(parsed["statements"]) != 1:
        said = parsed.get("error_message", "there is more than one statement")
        raise UserError(f"The query of the entity rows is no SELECT that DuckDB reads ({said}); correct it.")
    resolve(parsed)
    text = literal(json.dumps(parsed))
    written: str = opened.connection.execute(f"SELECT json_deserialize_sql({text})").fetchall()[0][0]
    return written


def _table(rows: Any) -> pa.Table:
    """Entity rows in memory as a table; raises `UserError` when they are none or their columns are mixed."""
    if isinstance(rows, pa.Table):
        return rows
    if isinstance(rows, pa.RecordBatch):
        return pa.Table.from_batches([rows])
    if not isinstance(rows, pd.DataFrame):
        raise UserError(
            "Entity rows must be a pandas frame, an Arrow table, a SQL query or a path of Parquet, not a "
            f"{type(rows).__name__}."
        )
    if EVENT_TIMESTAMP in rows.columns and not pd.api.types.is_datetime64_any_dtype(rows[EVENT_TIMESTAMP]):
        times = rows[EVENT_TIMESTAMP]
        if pd.api.types.infer_dtype(times) in _NUMBERS:
            times = _since_1970(pa.chunked_array([pa.Array.from_pandas(times)])).to_pandas().set_axis(rows.index)
        else:
            times = _parsed(times)
        rows = rows.assign(**{EVENT_TIMESTAMP: times})
    try:
        return pa.Table.from_pandas(rows, preserve_index=False)
    except (pa.ArrowInvalid, pa.ArrowTypeError, ValueError) as error:
        raise UserError(f"The entity rows cannot be used: {first_line(error)}; correct that column.") from error


def time_column(is_time: Mapping[str, bool]) -> str:
    """The column of the rows' times; raises `UserError` when none is called so and not just one is a time."""
    if EVENT_TIMESTAMP in is_time:
        return EVENT_TIMESTAMP
    times = [name for name, found in is_time.items() if found]
    if len(times) != 1:
        raise UserError(
            f"The entity rows have {', '.join(times) or 'no column'} of times; call the one that counts "
            f"{EVENT_TIMESTAMP!r}."
        )
    return times[0]


def utc(times: pa.ChunkedArray) -> pa.ChunkedArray:
    """Times in UTC, those without a zone being UTC; raises `UserError` for what is no time."""
    kind = times.type
    unit = kind.unit if pa.types.is_timestamp(kind) else "us"
    try:
        if pa.types.is_string(kind) or pa.types.is_large_string(kind):
            return pa.chunked_array([pa.array(_parsed(times.to_pandas()), pa.timestamp("us", "UTC"))])
        if pa.types.is_integer(kind) or pa.types.is_floating(kind):
            return _since_1970(times)
        return times.cast(pa.timestamp("us" if unit in ("s", "ms") else unit, "UTC"))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise UserError(f"The times of the entity rows are {kind}, which is not a time; give timestamps.") from error


_NUMBERS = ("integer", "floating", "mixed-integer-float")
_LEAST = {"s": 10**8, "ms": 10**11, "us": 10**14, "ns": 10**17}
"""The least number that counts since 1970 in each unit, from 1973 on: the ranges do not overlap until 5138."""


def _since_1970(counts: pa.ChunkedArray) -> pa.ChunkedArray:
    """Numbers as times, with a warning that says of which unit; raises `UserError` where they are not of one."""
    ends = pc.min_max(counts)
    found = {_unit(end.as_py()) for end in (ends["min"], ends["max"]) if end.is_valid} or {"us"}
    unit = found.pop()
    if unit is None or found:
        raise UserError(
            f"The times of the entity rows are numbers from {ends['min']} to {ends['max']}, which do not count "
            "seconds, milliseconds, microseconds or nanoseconds since 1970; give timestamps."
        )
    if pa.types.is_floating(counts.type):
        per = {"s": 1e6, "ms": 1e3, "us": 1.0, "ns": 1e-3}[unit]
        times = pc.round(pc.multiply(counts, per)).cast(pa.int64()).cast(pa.timestamp("us", "UTC"))
    else:
        times = counts.cast(pa.int64()).cast(pa.timestamp(unit, "UTC"))
        times = times if unit == "ns" else times.cast(pa.timestamp("us", "UTC"))
    first = pc.min(times).as_py()
    warnings.warn(
        f"The times of the entity rows are numbers; they are read as {UNITS[unit]} since 1970, the first is {first}.",
        stacklevel=2,
    )
    return times


def _unit(count: float) -> str | None:
    return next((unit for unit, least in reversed(_LEAST.items()) if abs(count) >= least), None)


def _parsed(times: pd.Series[Any]) -> pd.Series[Any]:
    try:
        return pd.to_datetime(times, utc=True)
    except (ValueError, TypeError) as error:
        raise UserError(
            f"The times of the entity rows cannot be parsed ({first_line(error)}); give timestamps."
        ) from error


class SpineMetadata(RetrievalMetadata):
    """What Feast wants to know of a retrieval; the range of its times, in UTC, is looked up when it is asked for."""

    def __init__(self, features: Sequence[str], keys: Sequence[str], open_spine: Open, config: Any) -> None:
        self.features, self.keys, self._open, self._config = list(features), list(keys), open_spine, config

    @property
    def min_event_timestamp(self) -> datetime | None:
        """The first time of the entity rows."""
        return self._range[0]

    @property
    def max_event_timestamp(self) -> datetime | None:
        """The last time of the entity rows."""
        return self._range[1]

    @cached_property
    def _range(self) -> list[datetime | None]:
        with session(self._config) as opened:
            found = self._open(opened).number(opened, [])
        ends = (found.first, found.last)
        return [None if end is None else moment(in_unit(end, found.unit, "us")) for end in ends]


class Retrieval:
    """How features are retrieved for entity rows; no row is read before `reader`.

    Parameters
    ----------
    views, on_demand
        Feast's views, and those of them that are computed on demand.
    references
        ``<view>:<feature>`` for every feature wanted, on-demand ones included.
    rows
        A pandas frame, an Arrow table, a query or a path of Parquet; None asks for every entity that has a row between
        ``start`` and ``end``, as of ``end``.
    known
        Whether rows count only from their created time on.

    Raises
    ------
    UserError
        When the rows lack a key or what an on-demand view asks for, or a column of theirs has a feature's name.
    TableError
        When their Parquet is missing.
    """

    def __init__(
        self,
        config: Any,
        views: Sequence[Any],
        references: Sequence[str],
        rows: Any,
        on_demand: Sequence[Any],
        *,
        full_names: bool,
        known: bool,
        start: datetime | None = None,
        end: datetime | None = None,
    ) -> None:
        refuse_mixture(views)
        self.config = config
        self.views = [(_columns(view, references, full_names, known), view.batch_source) for view in views]
        self.keys = list(dict.fromkeys(column for view, _ in self.views for column in view.keys.values()))
        if rows is None:
            begin, until = compute_non_entity_date_range(list(views), start_date=start, end_date=end)
            names: Sequence[str] = [EVENT_TIMESTAMP, *self.keys]
            self.open: Open = lambda opened: self._everyone(opened, begin, until)
            self.metadata = RetrievalMetadata(list(references), self.keys, begin, until)
        else:
            names, time, self.open = _spine(rows, config)
            keys = [name for name in names if name != time]
            self.metadata = SpineMetadata(references, keys, self.open, config)
        needs = [(name, f"view {view.name!r}") for view, _ in self.views for name in view.keys.values()]
        needs += [(name, f"view {view.name!r}") for view in on_demand for name in view.get_request_data_schema()]
        for name, who in needs:
            if name not in names:
                raise UserError(f"The entity rows have no column {name!r}, which {who} needs; add it to them.")
        features = [name for view, _ in self.views for name in view.features]
        for view in on_demand:
            of, prefix = view.projection.name_to_use(), f"{view.projection.name_to_use()}__" if full_names else ""
            wanted = [field.name for field in view.projection.features if f"{of}:{field.name}" in references]
            features += [f"{prefix}{name}" for name in wanted]
        _refuse_twins(names, features)

    def reader(self, rows: int) -> pa.RecordBatchReader:
        """The entity rows, each once and in order, and beside them the features; in batches of at most ``rows`` rows.

        Raises
        ------
        TableError, UserError
            When Parquet is missing or unreadable, lacks a column, or does not go with the entity rows.
        StoreError
            When DuckDB fails.
        """
        with ExitStack() as stack:
            opened = stack.enter_context(session(self.config))
            spine = self.open(opened)
            numbered = spine.number(opened, self.keys)
            sources = [open_source(opened, source, mapped=True) for _, source in self.views]
            joins = [
                AsOfJoin(opened, view, source, numbered, number)
                for number, ((view, _), source) in enumerate(zip(self.views, sources, strict=True))
            ]
            found = [InOrder(join.features(rows), join.view.name) for join in joins]
            schema, asked = spine.batches(opened, rows)
            held = stack.pop_all()
        for features in found:
            for field in features.schema:
                schema = schema.append(field)

        def beside() -> Iterator[pa.RecordBatch]:
            start = 0
            for piece in asked:
                columns = [*piece.columns]
                for features in found:
                    columns += features.rows(start, piece.num_rows).columns
                start += piece.num_rows
                yield from pa.table(columns, schema=schema).combine_chunks().to_batches()

        return held_reader(schema, beside(), held, "The as-of join")

    def _everyone(self, opened: Session, start: datetime, end: datetime) -> FileSpine:
        """Every entity of a view that has a row in a range of time, as of the end of it.

        Rows are ordered by their keys; an entity of one view has null for the keys of the others, as other stores of
        Feast have it. Raises `UserError` when no view has an entity.
        """
        if not self.keys:
            raise UserError("Features without entities need entity rows to say as of when; give a frame of times.")
        found = [(view, open_source(opened, source, mapped=True)) for view, source in self.views if view.keys]
        kinds = {column: source.type(key) for view, source in found for key, column in view.keys.items()}
        parts = []
        for view, source in found:
            columns = {column: f"CAST(NULL AS {kind})" for column, kind in kinds.items()}
            columns |= {column: source.column(key) for key, column in view.keys.items()}
            parts.append(
                RowsInTime(source, list(view.keys), columns, view.time, view.created, start, end, view.known).sql()
            )
        keys = ", ".join(quoted(column) for column in self.keys)
        time = f"CAST(make_timestamp({microseconds(end)}) AS TIMESTAMPTZ) AS {quoted(EVENT_TIMESTAMP)}"
        return query_spine(opened, f"SELECT {time}, {keys} FROM ({' UNION '.join(parts)}) ORDER BY {keys}")  # noqa: S608


def _columns(view: Any, references: Sequence[str], full_names: bool, known: bool) -> ViewColumns:
    source, projection = view.batch_source, view.projection
    if source is None:
        raise UserError(f"View {view.name!r} has no batch source to retrieve history from; give it one.")
    of, prefix = projection.name_to_use(), f"{projection.name_alias or view.name}__" if full_names else ""
    wanted = [reference.partition(":")[2] for reference in references if reference.partition(":")[0] == of]
    renamed = projection.join_key_map or {}
    return ViewColumns(
        name=of,
        keys={key: renamed.get(key, key) for key in view.join_keys if key != DUMMY_ENTITY_ID},
        features={f"{prefix}{feature}": feature for feature in wanted},
        time=source.timestamp_field,
        created=source.created_timestamp_column or None,
        ttl=getattr(view, "ttl", None) or None,
        known=known,
        day=source.date_partition_column or None,
    )


def _refuse_twins(names: Sequence[str], features: Sequence[str]) -> None:
    """Raise `UserError` when two columns of the result would have one name."""
    for name, count in Counter(names).items():
        if count > 1:
            raise UserError(f"The entity rows have {count} columns {name!r}; rename one of them.")
    for name, count in Counter(features).items():
        if name in names:
            raise UserError(
                f"Column {name!r} of the entity rows has the name of a feature that is asked for; rename or drop it, "
                "or ask with full_feature_names=True."
            )
        if count > 1:
            raise UserError(f"{count} features are called {name!r}; ask with full_feature_names=True.")


class InOrder:
    """The rows of a stream that is sorted by its first column, the row's number, as they stand beside entity rows."""

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


def latest(view: Any, end: datetime, config: Any, *, start: datetime | None = None) -> pa.RecordBatchReader:
    """The last row of each entity of a Feast view, known at ``end``: what an online store should hold then.

    Parameters
    ----------
    view : FeatureView
        A view with Parquet behind it; its field mapping is applied.
    end, start : datetime
        Rows with an event time in between, both included, and a created time (where the source has one) at or before
        ``end``. Without a zone they are UTC.
    config : RepoConfig
        Feast's settings: relative paths start at its repository, the limits of `session` are its offline store's.

    Returns
    -------
    pyarrow.RecordBatchReader
        Join keys, features, ``event_timestamp`` and ``created`` (both ``timestamp[us, tz=UTC]``; ``created`` is null
        where the source has none), in any order; one row without keys for a view without entities. What it holds is
        free when it has been read to its end, or is forgotten.

    Raises
    ------
    TableError, UserError
        When the Parquet is missing or unreadable, or lacks a column.
    StoreError
        When DuckDB fails.
    """
    keys = [key for key in view.join_keys if key != DUMMY_ENTITY_ID]
    features = [feature.name for feature in view.features]
    time, created = view.batch_source.timestamp_field, view.batch_source.created_timestamp_column or None

    def wanted(source: StoredRows) -> RowsInTime:
        found = {name: source.column(name) for name in [*keys, *features]}
        for name, column in {EVENT_TIMESTAMP: time, CREATED: created}.items():
            number = "NULL" if column is None else source.instant(column).to("us")
            found[name] = f"CAST(make_timestamp(CAST({number} AS BIGINT)) AS TIMESTAMPTZ)"
        return RowsInTime(source, keys, found, time, created, start, end, ordered=False)

    return _reader(view.batch_source, config, wanted, ROWS, mapped=True, last=True)


def pulled(
    rows: int,
    last: bool,
    config: Any,
    data_source: Any,
    join_key_columns: Sequence[str],
    feature_name_columns: Sequence[str],
    timestamp_field: str,
    created_timestamp_column: str | None = None,
    start_date: datetime | None = None,
    end_date: datetime | None = None,
) -> pa.RecordBatchReader:
    """What Feast's pull hooks ask of a source, in batches of at most ``rows``; columns are as they are stored.

    With ``last``, the last row of each entity, in the order of the keys (see `latest`); one row for a source without
    keys. Else every row with an event time in the range, file by file, in the order of their names; created times do
    not count then, nor does a key that is null.

    Parameters
    ----------
    join_key_columns, feature_name_columns : sequence of str
        The columns wanted, by their stored names; all of the source's where no feature is named, as Feast means it.
    timestamp_field, created_timestamp_column : str
        The time columns; the second may be None or empty.
    start_date, end_date : datetime or None
        Both included; None for no such bound.
    """
    keys, time, created = join_key_columns, timestamp_field, created_timestamp_column or None

    def wanted(source: StoredRows) -> RowsInTime:
        named = [*keys, *feature_name_columns, time, *([created] if created else [])]
        named += [] if feature_name_columns else source.rest(named)
        found = {name: source.column(name) for name in named}
        if not keys:
            found[DUMMY_ENTITY_ID] = f"'{DUMMY_ENTITY_VAL}'"  # the key that Feast has for it
        entity = (keys, found, time, created) if last else ([], found, time, None)
        return RowsInTime(source, *entity, start_date, end_date)

    return _reader(data_source, config, wanted, rows, mapped=False, last=last)


def _reader(
    data_source: Any, config: Any, wanted: Callable[[StoredRows], RowsInTime], rows: int, *, mapped: bool, last: bool
) -> pa.RecordBatchReader:
    what = f"Reading the rows of source {data_source.name!r}"
    with ExitStack() as stack:
        opened = stack.enter_context(session(config))
        asked = wanted(open_source(opened, data_source, mapped=mapped))
        reader = asked.newest(opened, rows, what) if last else opened.stream(asked.sql(), rows, what)
        held = stack.pop_all()
    return held_reader(reader.schema, reader, held, what)


def held_reader(schema: pa.Schema, found: Iterable[pa.RecordBatch], held: ExitStack, what: str) -> pa.RecordBatchReader:
    """A reader that lets go of what it holds when it has been read to its end, or is forgotten."""

    def batches() -> Iterator[Any]:
        with held, explained(what):
            yield None
            yield from found

    started = batches()
    next(started)  # only a generator that has begun is told of its end
    return pa.RecordBatchReader.from_batches(schema, started)
