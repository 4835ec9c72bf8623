"""The as-of join of one view: which of its rows was the last one known at the time of each row of a spine.

Keys and times alone find the rows that count, by DuckDB's ``ASOF JOIN``; then the features of just those are read.
Nothing is held in Python: relations of the session's database go in, a query over it comes out.

A row counts at time t when its event time, and on request its created time, is at or before t. Of those the one with
the newest event time counts, then the newest created time, then a fixed order of the other columns; if it is older
than the view's time to live, nothing does. Where a row was created after its own event time, a row with an older event
time can be known before it. So each row enters at the later of its times, and only those are joined that beat all that
entered before: what the last one to enter by t says is then the answer at t.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

import duckdb

from weakfish.errors import UserError
from weakfish.feast.latest import tie_order
from weakfish.feast.parquet import Source
from weakfish.feast.session import quoted
from weakfish.feast.spine import Numbered

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
