"""The last row of each entity up to a time: what an online store should hold as of that time.

A Feast view or source goes in, Arrow comes out, one row per entity in the order of the keys. Of the rows with event
time and created time at or before the end, the newest event time wins, then the newest created time, then a fixed
order of all other columns, so that neither the order of files nor the number of threads decides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import duckdb
import pyarrow as pa

from weakfish.feast.parquet import FUNCTIONS, Source, microseconds, open_source
from weakfish.feast.session import Limits, explained, quoted, session

Query = Callable[[duckdb.DuckDBPyConnection, Source], str]
"""Makes a query of a source that is open in a session."""

ROWS = 65_536
"""Rows of a batch."""

EVENT_TIME = "event_timestamp"
CREATED = "created"


@dataclass(frozen=True)
class Wanted:
    """What is asked of a source.

    Attributes
    ----------
    keys : sequence of str
        The columns that make an entity; a row in which one is null is none's, and is left out.
    columns : mapping of str to str
        What comes out: an expression over the source's rows ``f`` by the name of the column.
    time, created : str
        The time columns; ``created`` may be None.
    start, end : datetime or None
        Both included; None for no such bound. Times without a zone are UTC.
    known : bool
        Leave out rows that were created after ``end``, or at no known time.
    """

    keys: Sequence[str]
    columns: Mapping[str, str]
    time: str
    created: str | None
    end: datetime | None
    start: datetime | None = None
    known: bool = True


def latest(
    view: Any, end: datetime, config: Any, *, columns: Sequence[str] | None = None, start: datetime | None = None
) -> pa.RecordBatchReader:
    """The last row of each entity of a Feast view, known at ``end``.

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
    from feast.feature_view import DUMMY_ENTITY_ID

    batch_source = view.batch_source
    keys = [key for key in view.join_keys if key != DUMMY_ENTITY_ID]
    features = list(columns) if columns is not None else [feature.name for feature in view.features]
    created = batch_source.created_timestamp_column or None

    def wanted(source: Source) -> Wanted:
        found = {name: source.column(name) for name in [*keys, *features]}
        times = {EVENT_TIME: batch_source.timestamp_field, CREATED: created}
        for name, column in times.items():
            number = "NULL" if column is None else source.instant(column).to("us")
            found[name] = f"CAST(make_timestamp(CAST({number} AS BIGINT)) AS TIMESTAMPTZ)"
        return Wanted(keys, found, batch_source.timestamp_field, created, end, start)

    return _reader(
        batch_source, config, lambda opened, source: newest(opened, source, wanted(source)), ROWS, mapped=True
    )


@dataclass(frozen=True)
class Pull:
    """What Feast's pull hooks ask of a source.

    Attributes
    ----------
    source : DataSource
    config : RepoConfig
    keys, features : sequence of str
        The columns wanted, by their stored names; all of the source's where no feature is named, as Feast means it.
    time, created : str
        The time columns; ``created`` may be None.
    start, end : datetime or None
        Both included; None for no such bound.
    """

    source: Any
    config: Any
    keys: Sequence[str]
    features: Sequence[str]
    time: str
    created: str | None
    start: datetime | None
    end: datetime | None

    def columns(self, opened: Source) -> dict[str, str]:
        """An expression for each column that comes out; a source without keys gives the key that Feast has for it."""
        from feast.feature_view import DUMMY_ENTITY_ID, DUMMY_ENTITY_VAL

        named = [*self.keys, *self.features, self.time, *([self.created] if self.created else [])]
        named += [] if self.features else opened.rest(named)
        found = {name: opened.column(name) for name in named}
        return found if self.keys else {**found, DUMMY_ENTITY_ID: f"'{DUMMY_ENTITY_VAL}'"}


def latest_stored(pull: Pull, rows: int = ROWS) -> pa.RecordBatchReader:
    """The last row of each entity of a Feast source, in batches of ``rows``; one row for a source without keys.

    See `latest`; columns are named and typed as they are stored.
    """

    def query(connection: duckdb.DuckDBPyConnection, opened: Source) -> str:
        wanted = Wanted(pull.keys, pull.columns(opened), pull.time, pull.created, pull.end, pull.start)
        return newest(connection, opened, wanted)

    return _reader(pull.source, pull.config, query, rows, mapped=False)


def all_stored(pull: Pull, rows: int = ROWS) -> pa.RecordBatchReader:
    """Every row of a Feast source with an event time in the range, in batches of ``rows``.

    Columns are named and typed as they are stored; rows come file by file, in the order of their names.
    """

    def query(connection: duckdb.DuckDBPyConnection, opened: Source) -> str:
        found = ", ".join(f"{column} AS {quoted(name)}" for name, column in pull.columns(opened).items())
        where = " AND ".join(conditions(opened, Wanted([], {}, pull.time, None, pull.end, pull.start)))
        return f"SELECT {found} FROM {opened.scan} f WHERE {where}"  # noqa: S608

    return _reader(pull.source, pull.config, query, rows, mapped=False)


def _reader(data_source: Any, config: Any, query: Query, rows: int, *, mapped: bool) -> pa.RecordBatchReader:
    limits = Limits.of(config)
    what = f"Reading the rows of source {data_source.name!r}"
    with ExitStack() as stack:
        connection = stack.enter_context(session(limits))
        source = open_source(connection, data_source, limits.repo, mapped=mapped)
        with explained(what):
            connection.execute(FUNCTIONS)
            found = connection.sql(query(connection, source)).to_arrow_reader(rows)
        held = stack.pop_all()
    return held_reader(found.schema, found, held, what)


def held_reader(schema: pa.Schema, found: Iterable[pa.RecordBatch], held: ExitStack, what: str) -> pa.RecordBatchReader:
    """A reader that lets go of what it holds when it has been read to its end, or is forgotten."""
    batches = _batches(found, held, what)
    next(batches)  # only a generator that has begun is told of its end
    return pa.RecordBatchReader.from_batches(schema, batches)


def _batches(found: Iterable[pa.RecordBatch], held: ExitStack, what: str) -> Iterator[Any]:
    with held, explained(what):
        yield None
        yield from found


def newest(connection: duckdb.DuckDBPyConnection, source: Source, wanted: Wanted) -> str:
    """A query for the newest row of each entity, by the keys; makes the table of their times that it reads.

    Times are found first, from the key and time columns alone; whole rows are read once it is known which they are, and
    compared with each other only if several have an entity's last time.
    """
    instant = source.instant(wanted.time)
    keys = {f"k{number}": source.column(key) for number, key in enumerate(wanted.keys)}
    where = " AND ".join(conditions(source, wanted))
    selected = "".join(f"{column} AS {name}, " for name, column in keys.items())
    grouped = f"GROUP BY {', '.join(keys)}" if keys else "HAVING count(*) > 0"
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE newest AS SELECT {selected}max({instant.sql}) AS e "  # noqa: S608
        f"FROM {source.scan} f WHERE {where} {grouped}"
    )
    on = " AND ".join([f"{instant.sql} = n.e", *(f"{column} = n.{name}" for name, column in keys.items())])
    joined = f"FROM {source.scan} f JOIN newest n ON {on} WHERE {where}"
    rows, entities = connection.execute(
        f"SELECT (SELECT count(*) {joined}), (SELECT count(*) FROM newest)"  # noqa: S608
    ).fetchall()[0]
    columns = ", ".join(f"{column} AS {quoted(name)}" for name, column in wanted.columns.items())
    first = ""
    if rows != entities:
        partition = f"PARTITION BY {', '.join(f'n.{name}' for name in keys)} " if keys else ""
        order = tie_order(source, wanted.created, [*wanted.keys, wanted.time])
        first = f"QUALIFY row_number() OVER ({partition}ORDER BY {order}) = 1"
    by_key = f"ORDER BY {', '.join(f'n.{name}' for name in keys)}" if keys else ""
    return f"SELECT {columns} {joined} {first} {by_key}"


def tie_order(source: Source, created: str | None, same: Sequence[str]) -> str:
    """The order of rows of one entity and event time, for ORDER BY: the one that counts comes first.

    The newest created time, none being the oldest; then all other stored columns by name, the greatest first.

    Parameters
    ----------
    same
        Columns in which the rows do not differ.
    """
    terms = [f"{source.instant(created).sql} DESC NULLS LAST"] if created else []
    for name in source.rest([*same, *([created] if created else [])]):
        column = f"f.{quoted(name)}"
        terms.append(f"{column} DESC NULLS LAST")
        if source.types[name] in ("FLOAT", "DOUBLE"):
            terms.append(f"signbit({column})")  # 0 and -0 are equal, and are not the same
    return ", ".join(terms) or "1"


def conditions(source: Source, wanted: Wanted) -> list[str]:
    """The conditions for a row of a source to count, for WHERE."""
    found = ["true"]
    unit = source.instant(wanted.time).unit
    if wanted.start is not None:
        found.append(source.since(wanted.time, _in(unit, microseconds(wanted.start)), unit))
    if wanted.end is not None:
        end = microseconds(wanted.end)
        found.append(source.until(wanted.time, _in(unit, end), unit))
        if wanted.created and wanted.known:
            unit = source.instant(wanted.created).unit
            found.append(source.until(wanted.created, _in(unit, end), unit))
    return found + [f"{source.column(key)} IS NOT NULL" for key in wanted.keys]


def _in(unit: str, number: int) -> int:
    """Microseconds as a number of a unit that 64 bits hold."""
    return number if unit == "us" else max(-(2**63) + 1, min(2**63 - 1, number * 1000))
