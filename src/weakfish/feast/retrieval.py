"""Retrieval of features for Feast: entity rows from memory, Parquet or a query, and beside them what was known at their times."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from feast.feature_view import DUMMY_ENTITY_ID, DUMMY_ENTITY_VAL
from feast.infra.offline_stores.offline_store import RetrievalMetadata
from feast.utils import compute_non_entity_date_range

from weakfish.contracts.record import CREATED, EVENT_TIMESTAMP, microseconds, moment
from weakfish.errors import StoreError, UserError
from weakfish.feast.asof import AsOfJoin, Newest, View, columns_of
from weakfish.feast.definitions import refuse_mixture
from weakfish.feast.source_files import (
    NANOSECOND,
    Limits,
    Parquet,
    Session,
    explained,
    first_line,
    in_unit,
    literal,
    open_files,
    open_source,
    quoted,
    selected,
    session,
)

READABLE = (".parquet", ".parq", ".pq", ".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".gz", ".zst")
"""How names end that DuckDB takes for files in a query."""

READING = "Reading the entity rows"


@dataclass(frozen=True)
class Numbered:
    """What joins need of a spine: a relation with the columns ``row`` (from 0), ``t`` and one per key.

    Attributes
    ----------
    rows : int
    unit : str
        Of ``t``, a whole number since 1970: ``us`` or ``ns``.
    first, last : int or None
        The least and greatest ``t``; None where no row has a time.
    keys : dict of str to tuple
        The relation's column and DuckDB's type of it, by the spine's column.
    """

    rows: int
    unit: str
    first: int | None
    last: int | None
    keys: Mapping[str, tuple[str, str]]
    relation: str = "spine"


class Spine(Protocol):
    """Rows in a fixed order; ``time`` is the column of their times."""

    names: Sequence[str]
    time: str

    def number(self, opened: Session, keys: Sequence[str]) -> Numbered:
        """Make the relation of row numbers, times and keys."""
        ...

    def batches(self, opened: Session, rows: int) -> tuple[pa.Schema, Iterator[pa.Table]]:
        """All columns of all rows, in order, in pieces of about ``rows`` rows; and their schema."""
        ...


class TableSpine:
    """A spine in memory."""

    def __init__(self, table: pa.Table) -> None:
        self.names: Sequence[str] = table.column_names
        self.time = time_column({field.name: pa.types.is_timestamp(field.type) for field in table.schema})
        position = self.names.index(self.time)
        times = utc(table[self.time])
        self.table = table.set_column(position, self.time, times).replace_schema_metadata(None)

    def number(self, opened: Session, keys: Sequence[str]) -> Numbered:
        """See `Spine`."""
        times, unit = _whole(self.table[self.time])
        columns = {"row": pa.array(np.arange(self.table.num_rows)), "t": times}
        columns |= {f"c{number}": self.table[key] for number, key in enumerate(keys)}
        opened.connection.register("spine_in_memory", pa.table(columns))
        opened.run("CREATE OR REPLACE TABLE spine AS FROM spine_in_memory", READING)
        opened.connection.unregister("spine_in_memory")
        ends = pc.min_max(times)
        found = _keys(opened, keys)
        for key, (column, _) in found.items():
            if pa.types.is_null(columns[column].type):  # DuckDB calls them integers, which a text key is not
                found[key] = column, '"NULL"'
        return Numbered(self.table.num_rows, unit, ends["min"].as_py(), ends["max"].as_py(), found)

    def batches(self, opened: Session, rows: int) -> tuple[pa.Schema, Iterator[pa.Table]]:
        """See `Spine`."""
        starts = range(0, self.table.num_rows, rows)
        return self.table.schema, (self.table.slice(start, rows) for start in starts)


class FileSpine:
    """A spine of Parquet, which is never in memory as a whole; its order is that of the files' names and their rows."""

    def __init__(self, source: Parquet) -> None:
        self.names: Sequence[str] = list(source.types)
        self.time = time_column({name: kind.startswith("TIMESTAMP") for name, kind in source.types.items()})
        self.source = source
        counts = [pq.read_metadata(file).num_rows for file in source.files]
        self.rows = sum(counts)
        starts = np.cumsum([0, *counts[:-1]]).tolist()
        self._row = f"CAST({starts} AS BIGINT[])[CAST(f.file_index AS BIGINT) + 1] + f.file_row_number"

    def number(self, opened: Session, keys: Sequence[str]) -> Numbered:
        """See `Spine`."""
        time = self.source.instant(self.time)
        columns = "".join(f", {self.source.column(key)} AS c{number}" for number, key in enumerate(keys))
        opened.run(
            f"CREATE OR REPLACE VIEW spine AS SELECT {self._row} AS row, {time.sql} AS t{columns} "  # noqa: S608
            f"FROM {self.source.scan} f",
            READING,
        )
        first, last = opened.run("SELECT min(t), max(t) FROM spine", READING)[0]
        return Numbered(self.rows, time.unit, first, last, _keys(opened, keys))

    def batches(self, opened: Session, rows: int) -> tuple[pa.Schema, Iterator[pa.Table]]:
        """See `Spine`."""
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


def table_spine(rows: Any) -> TableSpine:
    """A spine of a pandas frame or an Arrow table; raises `UserError` when it is neither or its columns are mixed."""
    if isinstance(rows, pd.DataFrame):
        if EVENT_TIMESTAMP in rows.columns and not pd.api.types.is_datetime64_any_dtype(rows[EVENT_TIMESTAMP]):
            rows = rows.assign(**{EVENT_TIMESTAMP: _parsed(rows[EVENT_TIMESTAMP])})
        try:
            return TableSpine(pa.Table.from_pandas(rows, preserve_index=False))
        except (pa.ArrowInvalid, pa.ArrowTypeError, ValueError) as error:
            raise UserError(f"The entity rows cannot be used: {first_line(error)}; correct that column.") from error
    if isinstance(rows, pa.RecordBatch):
        return TableSpine(pa.Table.from_batches([rows]))
    if isinstance(rows, pa.Table):
        return TableSpine(rows)
    raise UserError(
        f"Entity rows come as a pandas frame, an Arrow table, a SQL query or a path of Parquet, not as a {type(rows)}."
    )


def file_spine(opened: Session, path: str) -> FileSpine:
    """A spine of the Parquet at a path; raises `TableError` when there is none."""
    return FileSpine(open_files(opened, path, "the entity rows"))


def query_spine(opened: Session, query: str) -> FileSpine:
    """A spine of a query's rows in the order they come, kept among the spill files; raises `StoreError`."""
    file = opened.spill / "spine.parquet"
    with explained("The query of the entity rows", query):
        reader = opened.connection.sql(query).to_arrow_reader(131_072)
        with pq.ParquetWriter(file, reader.schema, compression="lz4") as writer:
            for batch in reader:
                writer.write_batch(batch)
    return file_spine(opened, str(file))


def from_repository(opened: Session, query: str) -> str:
    """A query whose relative paths start at the Feast repository; raises `UserError` unless it is one that reads.

    DuckDB looks in the working directory first, whatever its ``file_search_path``. So the query is parsed, what names a
    file is made absolute, and the query is written out again.
    """
    parsed = json.loads(opened.connection.execute(f"SELECT json_serialize_sql({literal(query)})").fetchall()[0][0])
    if parsed["error"] or len(parsed["statements"]) != 1:
        said = parsed.get("error_message", "there is more than one statement")
        raise UserError(f"The query of the entity rows is no SELECT that DuckDB reads ({said}); correct it.")
    _resolve(parsed, (opened.repo or Path()).absolute())
    text = literal(json.dumps(parsed))
    written: str = opened.connection.execute(f"SELECT json_deserialize_sql({text})").fetchall()[0][0]
    return written


def columns_of_query(opened: Session, query: str) -> dict[str, str]:
    """The columns of a query and DuckDB's types of them; raises `UserError` when it cannot be run."""
    try:
        described = opened.connection.execute(f"DESCRIBE {query}").fetchall()
    except duckdb.Error as error:
        raise UserError(f"The query of the entity rows cannot be run: {first_line(error)}; correct it.") from error
    return {str(name): str(kind) for name, kind, *_ in described}


def _resolve(node: Any, repo: Path, *, texts: bool = False) -> None:
    """Make the names of files absolute in a parsed query: tables, and, below ``texts``, the texts of arguments."""
    if isinstance(node, dict):
        if node.get("type") == "BASE_TABLE" and node["table_name"].lower().endswith(READABLE):
            node["table_name"] = _absolute(node["table_name"], repo)
            node["qualified_name"]["path"] = [node["table_name"]]
        elif node.get("type") == "TABLE_FUNCTION":
            for argument in node["function"]["arguments"][:1]:
                _resolve(argument["expression"], repo, texts=True)
        elif texts and node.get("kind") == "STRING" and node["text"].lower().endswith(READABLE):
            node["text"] = _absolute(node["text"], repo)
    for part in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        _resolve(part, repo, texts=texts)


def _absolute(path: str, repo: Path) -> str:
    return path if "://" in path else str(repo / path)


def time_column(is_time: Mapping[str, bool]) -> str:
    """The column of the rows' times; raises `UserError` when none is called so and not just one is a time."""
    if EVENT_TIMESTAMP in is_time:
        return EVENT_TIMESTAMP
    times = [name for name, found in is_time.items() if found]
    if len(times) != 1:
        raise UserError(
            f"The entity rows have {', '.join(times) or 'no column'} of times; name the one that "
            f"counts {EVENT_TIMESTAMP!r}."
        )
    return times[0]


def utc(times: pa.ChunkedArray) -> pa.ChunkedArray:
    """Times in UTC, those without a zone being UTC; raises `UserError` for what is no time."""
    kind = times.type
    unit = kind.unit if pa.types.is_timestamp(kind) else "us"
    try:
        if pa.types.is_string(kind) or pa.types.is_large_string(kind):
            return pa.chunked_array([pa.array(_parsed(times.to_pandas()), pa.timestamp("us", "UTC"))])
        return times.cast(pa.timestamp("us" if unit in ("s", "ms") else unit, "UTC"))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise UserError(f"The times of the entity rows are {kind}, which are no times; give timestamps.") from error


def _parsed(times: pd.Series[Any]) -> pd.Series[Any]:
    try:
        return pd.to_datetime(times, utc=True)
    except (ValueError, TypeError) as error:
        raise UserError(
            f"The times of the entity rows cannot be parsed ({first_line(error)}); give timestamps."
        ) from error


def _whole(times: pa.ChunkedArray) -> tuple[pa.ChunkedArray, str]:
    """Times as whole numbers, in microseconds where that is exact."""
    numbers = times.cast(pa.int64())
    if times.type.unit == "us":
        return numbers, "us"
    micros = pc.divide(numbers, NANOSECOND)
    exact = pc.all(pc.equal(pc.multiply(micros, NANOSECOND), numbers)).as_py()
    return (numbers, "ns") if exact is False else (micros, "us")


def _keys(opened: Session, keys: Sequence[str]) -> dict[str, tuple[str, str]]:
    """The columns of the relation ``spine`` that hold keys, and DuckDB's types of them."""
    types = {name: str(kind) for name, kind, *_ in opened.run("DESCRIBE spine", READING)}
    return {key: (f"c{number}", types[f"c{number}"]) for number, key in enumerate(keys)}


# noqa: F401 - first: it makes the import of Feast cheap


ROWS = 65_536
"""Rows of a batch of last rows."""

JOINING = "The as-of join"

QUERY = re.compile(r"(\s|--[^\n]*\n|/\*.*?\*/)*(select|with|from|values|table|pivot|unpivot|\()[\s(*]", re.I | re.S)
"""How a query begins; any other text is a path."""

Open = Callable[[Session], Spine]


@dataclass(frozen=True)
class Heading:
    """The columns of a spine, the one of its times, and how it is opened in a session."""

    names: Sequence[str]
    time: str
    open: Open


class Metadata(RetrievalMetadata):
    """What Feast tells of a retrieval; the range of its times is looked up when it is asked for."""

    def __init__(self, features: Sequence[str], heading: Heading, limits: Limits) -> None:
        self.features = list(features)
        self.keys = [name for name in heading.names if name != heading.time]
        self._heading, self._limits = heading, limits

    @property
    def min_event_timestamp(self) -> datetime | None:
        """The first time of the spine, in UTC."""
        return self._range[0]

    @property
    def max_event_timestamp(self) -> datetime | None:
        """The last time of the spine, in UTC."""
        return self._range[1]

    @cached_property
    def _range(self) -> tuple[datetime | None, datetime | None]:
        with session(self._limits) as opened:
            found = self._heading.open(opened).number(opened, [])
        first, last = (
            None if end is None else moment(in_unit(end, found.unit, "us")) for end in (found.first, found.last)
        )
        return first, last


def plan(
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
) -> tuple[Retrieval, RetrievalMetadata]:
    """How features are retrieved for entity rows.

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
    refuse_mixture(views)
    limits = Limits.of(config)
    asked = [(_view(view, references, full_names=full_names, known=known), view.batch_source) for view in views]
    if rows is None:
        begin, until = compute_non_entity_date_range(list(views), start_date=start, end_date=end)
        names = [EVENT_TIMESTAMP, *columns_of([view for view, _ in asked])]
        heading = Heading(names, EVENT_TIMESTAMP, lambda opened: everyone(opened, asked, begin, until))
        metadata = RetrievalMetadata(list(references), names[1:], begin, until)
    else:
        heading = _heading(rows, limits)
        metadata = Metadata(references, heading, limits)
    _refuse_missing(heading, [view for view, _ in asked], on_demand)
    computed = [
        f"{view.projection.name_to_use()}__{field.name}" if full_names else field.name
        for view in on_demand
        for field in view.projection.features
        if f"{view.projection.name_to_use()}:{field.name}" in references
    ]
    _refuse_twins(heading, [*(name for view, _ in asked for name in view.features), *computed])
    return Retrieval(limits, heading.open, asked), metadata


def _view(view: Any, references: Sequence[str], *, full_names: bool, known: bool) -> View:
    source, projection = view.batch_source, view.projection
    if source is None:
        raise UserError(f"View {view.name!r} has no batch source to retrieve history from; give it one.")
    of, prefix = projection.name_to_use(), f"{projection.name_alias or view.name}__" if full_names else ""
    wanted = [reference.partition(":")[2] for reference in references if reference.partition(":")[0] == of]
    renamed = projection.join_key_map or {}
    return View(
        name=of,
        keys={key: renamed.get(key, key) for key in view.join_keys if key != DUMMY_ENTITY_ID},
        features={f"{prefix}{feature}": feature for feature in wanted},
        time=source.timestamp_field,
        created=source.created_timestamp_column or None,
        ttl=getattr(view, "ttl", None) or None,
        known=known,
        day=source.date_partition_column or None,
    )


def _heading(rows: Any, limits: Limits) -> Heading:
    if not isinstance(rows, str | os.PathLike):
        table = table_spine(rows)
        return Heading(table.names, table.time, lambda opened: table)
    text = str(rows)
    with session(limits) as opened:
        if isinstance(rows, str) and QUERY.match(text):
            query = from_repository(opened, text)
            types = columns_of_query(opened, query)
            time = time_column({name: kind.startswith("TIMESTAMP") for name, kind in types.items()})
            return Heading(list(types), time, lambda opened: query_spine(opened, query))
        spine = file_spine(opened, text)
        return Heading(spine.names, spine.time, lambda opened: file_spine(opened, text))


def _refuse_missing(heading: Heading, views: Sequence[View], on_demand: Sequence[Any]) -> None:
    needs = [(name, f"view {view.name!r}") for view in views for name in view.keys.values()]
    needs += [(name, f"view {view.name!r}") for view in on_demand for name in view.get_request_data_schema()]
    for name, who in needs:
        if name not in heading.names:
            raise UserError(f"The entity rows have no column {name!r}, which {who} needs; add it to them.")


def _refuse_twins(heading: Heading, features: Sequence[str]) -> None:
    """Raise `UserError` when two columns of the result would have one name."""
    for name, count in Counter(heading.names).items():
        if count > 1:
            raise UserError(f"The entity rows have {count} columns {name!r}; rename one of them.")
    counts = Counter(features)
    for name in counts:
        if name in heading.names:
            raise UserError(
                f"Column {name!r} of the entity rows has the name of a feature that is asked for; rename or drop it, "
                "or ask with full_feature_names=True."
            )
        if counts[name] > 1:
            raise UserError(f"{counts[name]} features are called {name!r}; ask with full_feature_names=True.")


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
        """The spine's rows, each once and in order, and beside them the features; in batches of at most ``rows`` rows.

        Raises
        ------
        TableError, UserError
            When Parquet is missing or unreadable, lacks a column, or does not go with the spine.
        StoreError
            When DuckDB fails.
        """
        with ExitStack() as stack:
            opened = stack.enter_context(session(self.limits))
            spine = self.spine(opened)
            numbered = spine.number(opened, columns_of([view for view, _ in self.views]))
            sources = [open_source(opened, source, mapped=True) for _, source in self.views]
            found = []
            for number, (view, _) in enumerate(self.views):
                join = AsOfJoin(view, sources[number], numbered, number)
                match(opened, join)
                found.append(InOrder(opened.stream(join.features_sql(), rows, join.what), view.name))
            schema, asked = spine.batches(opened, rows)
            held = stack.pop_all()
        for features in found:
            for field in features.schema:
                schema = schema.append(field)
        return held_reader(schema, _beside(schema, asked, found), held, JOINING)


def match(opened: Session, join: AsOfJoin) -> None:
    """Find, for each row of the spine that has an answer, where the answer stands: the join's table of places."""

    def run(sql: str) -> list[tuple[Any, ...]]:
        return opened.run(sql, join.what)

    run(join.entities_sql())
    run(join.times_sql())
    late_rows = join.late_rows_sql()
    late = late_rows is not None and opened.holds(late_rows, join.what)
    run(join.matched_sql(late))
    run(join.places_sql(late))
    places, answers = run(join.ties_sql())[0]
    if places != answers:  # several rows have the entity and times of one answer
        run(join.tied_sql(late))
        if opened.holds(join.alike_rows_sql(late), join.what):
            run(join.best_sql(late))
        run(join.chosen_sql(late))
    run(join.tidy_sql())


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


def _beside(schema: pa.Schema, asked: Iterator[pa.Table], found: Sequence[InOrder]) -> Iterator[pa.RecordBatch]:
    start = 0
    for spine in asked:
        columns = list(spine.columns)
        for features in found:
            columns += features.rows(start, spine.num_rows).columns
        start += spine.num_rows
        yield from pa.table(columns, schema=schema).combine_chunks().to_batches()


def everyone(opened: Session, views: Sequence[tuple[View, Any]], start: datetime, end: datetime) -> FileSpine:
    """The spine without entity rows: every entity of a view that has a row in a range of time, as of the end of it.

    Rows are ordered by their keys; an entity of one view has null for the keys of the others, as other stores of Feast
    have it.

    Raises
    ------
    UserError
        When no view has an entity.
    """
    columns = columns_of([view for view, _ in views])
    if not columns:
        raise UserError("Features without entities need entity rows to say as of when; give a frame of times.")
    found = [(view, open_source(opened, source, mapped=True)) for view, source in views if view.keys]
    kinds = {column: source.type(key) for view, source in found for key, column in view.keys.items()}
    parts = []
    for view, source in found:
        nulls = {column: f"CAST(NULL AS {kind})" for column, kind in kinds.items()}
        of = {**nulls, **{column: source.column(key) for key, column in view.keys.items()}}
        parts.append(Newest(source, list(view.keys), of, view.time, view.created, start, end, view.known).all_sql())
    keys = ", ".join(quoted(column) for column in columns)
    time = f"CAST(make_timestamp({microseconds(end)}) AS TIMESTAMPTZ) AS {quoted(EVENT_TIMESTAMP)}"
    return query_spine(opened, f"SELECT {time}, {keys} FROM ({' UNION '.join(parts)}) ORDER BY {keys}")  # noqa: S608


def latest(
    view: Any, end: datetime, config: Any, *, columns: Sequence[str] | None = None, start: datetime | None = None
) -> pa.RecordBatchReader:
    """The last row of each entity of a Feast view, known at ``end``: what an online store should hold then.

    Parameters
    ----------
    view : FeatureView
        A view with Parquet behind it; its field mapping is applied.
    end, start : datetime
        Rows with an event time in between, both included, and a created time (where the source has one) at or before
        ``end``. Without a zone they are UTC.
    config : RepoConfig
        Feast's settings: relative paths start at its repository, `Limits` come from its offline store.
    columns
        The features wanted; all of the view's by default.

    Returns
    -------
    pyarrow.RecordBatchReader
        Join keys, features, ``event_timestamp`` and ``created`` (both ``timestamp[us, tz=UTC]``; ``created`` is null
        where the source has none), ordered by the keys; one row without keys for a view without entities. What it
        holds is free when it has been read to its end, or is forgotten.

    Raises
    ------
    TableError, UserError
        When the Parquet is missing or unreadable, or lacks a column.
    StoreError
        When DuckDB fails.
    """

    stored = view.batch_source
    keys = [key for key in view.join_keys if key != DUMMY_ENTITY_ID]
    features = list(columns) if columns is not None else [feature.name for feature in view.features]
    time, created = stored.timestamp_field, stored.created_timestamp_column or None

    def wanted(source: Parquet) -> Newest:
        found = {name: source.column(name) for name in [*keys, *features]}
        for name, column in {EVENT_TIMESTAMP: time, CREATED: created}.items():
            number = "NULL" if column is None else source.instant(column).to("us")
            found[name] = f"CAST(make_timestamp(CAST({number} AS BIGINT)) AS TIMESTAMPTZ)"
        return Newest(source, keys, found, time, created, start, end)

    return _reader(stored, config, wanted, ROWS, mapped=True, last=True)


@dataclass(frozen=True)
class Pull:
    """What Feast's pull hooks ask of a source.

    Attributes
    ----------
    join_key_columns, feature_name_columns : sequence of str
        The columns wanted, by their stored names; all of the source's where no feature is named, as Feast means it.
    timestamp_field, created_timestamp_column : str
        The time columns; the second may be None or empty.
    start_date, end_date : datetime or None
        Both included; None for no such bound.
    """

    config: Any
    data_source: Any
    join_key_columns: Sequence[str]
    feature_name_columns: Sequence[str]
    timestamp_field: str
    created_timestamp_column: str | None = None
    start_date: datetime | None = None
    end_date: datetime | None = None

    def latest(self, rows: int = ROWS) -> pa.RecordBatchReader:
        """The last row of each entity, in the order of the keys, in batches; one row for a source without keys.

        See `latest`; columns are named and typed as they are stored.
        """
        return _reader(self.data_source, self.config, self._wanted, rows, mapped=False, last=True)

    def all(self, rows: int = ROWS) -> pa.RecordBatchReader:
        """Every row with an event time in the range, file by file, in the order of their names, in batches.

        Columns are named and typed as they are stored; created times do not count, nor does a key that is null.
        """

        def wanted(opened: Parquet) -> Newest:
            return replace(self._wanted(opened), keys=[], created=None)

        return _reader(self.data_source, self.config, wanted, rows, mapped=False, last=False)

    def _wanted(self, opened: Parquet) -> Newest:
        keys, time, created = self.join_key_columns, self.timestamp_field, self.created_timestamp_column or None
        named = [*keys, *self.feature_name_columns, time, *([created] if created else [])]
        named += [] if self.feature_name_columns else opened.rest(named)
        found = {name: opened.column(name) for name in named}
        if not keys:
            found[DUMMY_ENTITY_ID] = f"'{DUMMY_ENTITY_VAL}'"  # the key that Feast has for it
        return Newest(opened, keys, found, time, created, self.start_date, self.end_date)


def _reader(
    data_source: Any, config: Any, wanted: Callable[[Parquet], Newest], rows: int, *, mapped: bool, last: bool
) -> pa.RecordBatchReader:
    what = f"Reading the rows of source {data_source.name!r}"
    with ExitStack() as stack:
        opened = stack.enter_context(session(Limits.of(config)))
        asked = wanted(open_source(opened, data_source, mapped=mapped))
        if last:
            opened.run(asked.times_sql(), what)
            found, entities = opened.run(asked.ties_sql(), what)[0]
            reader = opened.stream(asked.rows_sql(tied=found != entities), rows, what)
        else:
            reader = opened.stream(asked.all_sql(), rows, what)
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
