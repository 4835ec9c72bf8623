"""The last row of each entity up to a time: what an online store should hold as of that time.

A Feast view or source goes in, Arrow comes out, one row per entity in the order of the keys. Of the rows with event
time and created time at or before the end, the newest event time wins, then the newest created time, then a fixed
order of all other columns, so that neither the order of files nor the number of threads decides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import duckdb
import pyarrow as pa

from weakfish.errors import UserError
from weakfish.feast.parquet import FUNCTIONS, Limits, Source, explained, microseconds, open_source, quoted, session
from weakfish.feast.spine import Numbered

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
    import weakfish.feast.adapter  # noqa: F401 - first: it makes the import of Feast cheap

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
        import weakfish.feast.adapter  # noqa: F401 - first: it makes the import of Feast cheap

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


WHOLE = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "HUGEINT")
TEXT = ("VARCHAR", "ENUM")

PLACE = "(CAST(f.file_index AS BIGINT) << 40) + f.file_row_number"
"""Where a stored row stands among the files of its source."""


@dataclass(frozen=True)
class View:
    """What is asked of a feature view.

    Attributes
    ----------
    name : str
    keys : dict of str to str
        The spine's column by the view's join key; empty for a view without entities.
    features : dict of str to str
        The view's feature by the name of the column that comes out.
    time, created : str
        The source's time columns; ``created`` is None where it has none.
    ttl : timedelta or None
        The age beyond which a row does not count.
    known : bool
        Whether rows count only from their created time on.
    day : str or None
        A column of the days of event times, by which a source is partitioned.
    """

    name: str
    keys: Mapping[str, str]
    features: Mapping[str, str]
    time: str
    created: str | None
    ttl: timedelta | None
    known: bool
    day: str | None = None


class Join:
    """The join of one view with a numbered spine, in the session's database; ``number`` tells its tables apart."""

    def __init__(self, view: View, source: Source, spine: Numbered, number: int) -> None:
        self.view, self.source, self.spine = view, source, spine
        self.entities, self.times, self.places = (f"{name}_{number}" for name in ("entities", "times", "places"))
        self.event = source.instant(view.time)
        self.created = source.instant(view.created) if view.created else None
        units = {spine.unit, self.event.unit, self.created.unit if self.created else "us"}
        self.unit = "ns" if "ns" in units else "us"

    def match(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Find, for each row of the spine that has an answer, where the answer stands."""
        connection.execute(f"CREATE OR REPLACE TABLE {self.entities} AS {self._entities()}")
        connection.execute(f"CREATE OR REPLACE TABLE {self.times} AS {self._times()}")
        late = self.created is not None and self.view.known and self._any(connection, f"FROM {self.times} WHERE c > e")
        rows, enters = (self._entering(), "known") if late else (f"FROM {self.times}", "e")
        same = ", ".join(["id", "e", *(["c"] if late else [])])
        by = ", f.c" if self.created and not late else ""
        answers = ", ".join(f"f.{name}" for name in same.split(", "))
        connection.execute(
            f"CREATE OR REPLACE TABLE matched AS SELECT s.row, {answers} "  # noqa: S608
            f"FROM ({self._asking()}) s ASOF JOIN ({rows}) f ON s.id = f.id AND s.t >= f.{enters} {self._young()}"
        )
        connection.execute(
            f"CREATE OR REPLACE TABLE {self.places} AS SELECT m.row, f.place, {same}{by} "  # noqa: S608
            f"FROM matched m JOIN {self.times} f USING ({same})"
        )
        self._settle(connection, same)
        connection.execute(f"DROP TABLE matched; DROP TABLE {self.times}; DROP TABLE {self.entities}")

    def features(self) -> str:
        """A query for ``row`` and the features of each row of the spine that has an answer, by row."""
        found = {name: self.source.column(feature) for name, feature in self.view.features.items()}
        columns = "".join(f", {column} AS {quoted(name)}" for name, column in found.items())
        return f"SELECT m.row{columns} {self._whole(self.places)} ORDER BY m.row"

    def _settle(self, connection: duckdb.DuckDBPyConnection, same: str) -> None:
        """Where several rows have the entity and times of an answer, choose among them by all that they hold."""
        counts = f"SELECT (SELECT count(*) FROM {self.places}), (SELECT count(*) FROM matched)"  # noqa: S608
        rows, answers = connection.execute(counts).fetchall()[0]
        if rows == answers:
            return
        newest = f"QUALIFY rank() OVER (PARTITION BY {same} ORDER BY c DESC NULLS LAST) = 1" if self.created else ""
        connection.execute(
            f"CREATE OR REPLACE TABLE tied AS SELECT place, {same} FROM (SELECT DISTINCT * EXCLUDE (row) "  # noqa: S608
            f"FROM {self.places}) {newest}"
        )
        order = tie_order(self.source, self.view.created, [*self.view.keys, self.view.time])
        alike = f"FROM tied GROUP BY {same} HAVING count(*) > 1"
        if self._any(connection, alike):
            chosen = f"QUALIFY row_number() OVER (PARTITION BY {same} ORDER BY {order}) = 1"
            connection.execute(f"CREATE OR REPLACE TABLE best AS SELECT m.place, {same} {self._whole('tied')} {chosen}")
        else:
            connection.execute("ALTER TABLE tied RENAME TO best")
        connection.execute(
            f"CREATE OR REPLACE TABLE {self.places} AS SELECT m.row, b.place FROM matched m "  # noqa: S608
            f"JOIN best b USING ({same}); DROP TABLE IF EXISTS tied; DROP TABLE best"
        )

    def _whole(self, places: str) -> str:
        """The stored rows at the places that a table ``m`` names."""
        return f"FROM {self.source.scan} f JOIN {places} m ON {PLACE} = m.place WHERE {self._where()}"

    def _entities(self) -> str:
        """The entities of the spine, numbered: whole numbers are quicker to join by than what they stand for."""
        keys = self._spine_keys()
        if not keys:
            return "SELECT CAST(0 AS INTEGER) AS id"
        columns = ", ".join(f"{column} AS {name}" for name, column in keys.items())
        kind = "INTEGER" if self.spine.rows < 2**31 else "BIGINT"  # the join sorts less of the one
        distinct = f"SELECT DISTINCT {columns} FROM {self.spine.relation} s"  # noqa: S608
        return f"SELECT CAST(row_number() OVER () AS {kind}) AS id, * FROM ({distinct})"  # noqa: S608

    def _asking(self) -> str:
        """The number, time and entity of each row of the spine."""
        t = "saturated_ns(s.t)" if self.unit != self.spine.unit else "s.t"
        on = " AND ".join(f"{column} = q.{name}" for name, column in self._spine_keys().items()) or "true"
        return f"SELECT s.row, {t} AS t, q.id FROM {self.spine.relation} s JOIN {self.entities} q ON {on}"  # noqa: S608

    def _times(self) -> str:
        """The entity, times and place of each stored row that can be an answer."""
        keys = {f"k{number}": self.source.column(key) for number, key in enumerate(self.view.keys)}
        on = " AND ".join(f"{column} = q.{name}" for name, column in keys.items()) or "true"
        created = f", {self.created.to(self.unit)} AS c" if self.created else ""
        return (
            f"SELECT q.id, {self.event.to(self.unit)} AS e{created}, {PLACE} AS place "  # noqa: S608
            f"FROM {self.source.scan} f JOIN {self.entities} q ON {on} WHERE {self._where()}"
        )

    def _entering(self) -> str:
        """Those of `_times` that beat all that were known before them, and when they were known."""
        frame = "ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW"
        return (
            "SELECT * FROM (SELECT *, max(e) OVER w AS best, lead(known) OVER w AS following "  # noqa: S608
            f"FROM (SELECT *, greatest(e, c) AS known FROM {self.times}) "
            f"WINDOW w AS (PARTITION BY id ORDER BY known, e, c {frame})) "
            "WHERE e = best AND known IS DISTINCT FROM following"
        )

    def _spine_keys(self) -> dict[str, str]:
        keys, name = self.spine.keys, self.view.name
        return {
            f"k{number}": spine_key(f"s.{keys[of][0]}", keys[of][1], self.source.type(key), of, name)
            for number, (key, of) in enumerate(self.view.keys.items())
        }

    def _young(self) -> str:
        """The condition that an answer is not older than the view's time to live."""
        if not self.view.ttl or self.spine.first is None:
            return ""
        longest = _ticks(self.view.ttl, self.unit)
        safe = self.spine.first * (1 if self.unit == self.spine.unit else 1000) - longest > -(2**63)
        return f"WHERE f.e >= {'s.t' if safe else 'CAST(s.t AS HUGEINT)'} - {longest}"

    def _any(self, connection: duckdb.DuckDBPyConnection, rows: str) -> bool:
        return bool(connection.execute(f"SELECT EXISTS (SELECT 1 {rows})").fetchall()[0][0])

    def _where(self) -> str:
        """The rows that can be an answer to any row of the spine, told by times alone."""
        first, last, unit = self.spine.first, self.spine.last, self.spine.unit
        if first is None or last is None:
            return "false"
        source, view = self.source, self.view
        found = [source.until(view.time, *_coarse(last, unit, self.event.unit)), *self._days("<=", last)]
        if view.ttl:
            oldest = first - _ticks(view.ttl, unit)
            found += [source.since(view.time, *_coarse(oldest, unit, self.event.unit)), *self._days(">=", oldest)]
        if self.created and view.created and view.known:
            found.append(source.until(view.created, *_coarse(last, unit, self.created.unit)))
        return " AND ".join(found)

    def _days(self, comparison: str, time: int) -> list[str]:
        if not self.view.day:
            return []
        seconds = time // _ticks(timedelta(seconds=1), self.spine.unit)
        return [f"CAST({self.source.column(self.view.day)} AS DATE) {comparison} CAST(to_timestamp({seconds}) AS DATE)"]


def spine_key(column: str, kind: str, wanted: str, name: str, view: str) -> str:
    """A key column of a spine as one to compare with a view's, which has the type ``wanted``.

    Whole numbers that came as floats, as pandas has them beside nulls, are whole numbers again.

    Raises
    ------
    UserError
        When one is text and the other is not.
    """
    if kind == '"NULL"':
        return f"CAST({column} AS {wanted})"
    if wanted in WHOLE and (kind in ("DOUBLE", "FLOAT") or kind.startswith("DECIMAL")):
        return f"CASE WHEN {column} = trunc({column}) THEN TRY_CAST({column} AS {wanted}) END"
    if kind.startswith(TEXT) != wanted.startswith(TEXT) and not {kind, wanted} & {"UUID"}:
        raise UserError(
            f"Column {name!r} of the entity rows is {kind}, which view {view!r} keeps as {wanted}; convert one of them."
        )
    return column


def _coarse(number: int, unit: str, wanted: str) -> tuple[int, str]:
    """A bound in the unit in which a column is stored; whole microseconds, which prune, for microseconds."""
    if unit == wanted:
        return number, unit
    if wanted == "us":
        return number // 1000, "us"
    return max(-(2**63) + 1, min(2**63 - 1, number * 1000)), "ns"


def _ticks(age: timedelta, unit: str) -> int:
    return age // timedelta(microseconds=1) * (1000 if unit == "ns" else 1)


def columns_of(views: Sequence[View]) -> list[str]:
    """The columns of a spine that views need, each once."""
    return list(dict.fromkeys(column for view in views for column in view.keys.values()))
