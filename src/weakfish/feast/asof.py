"""The SQL of point-in-time joins: which row of a view was the last one known at a time. It is run in `retrieval`.

A row counts at time t when its event time, and on request its created time, is at or before t. Of those the one with
the newest event time counts, then the newest created time, then a fixed order of the other columns, so that neither the
order of files nor the number of threads decides; if it is older than the view's time to live, nothing does.

Keys and times alone find the rows that count; then the features of just those are read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from weakfish.contracts.record import microseconds
from weakfish.errors import UserError
from weakfish.feast.retrieval import Numbered
from weakfish.feast.source_files import NANOSECOND, Parquet, quoted, selected

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


class AsOfJoin:
    """The join of one view with a numbered spine; ``number`` tells its tables apart from those of other joins.

    Its queries make, one after the other, the tables ``entities``, ``times``, ``matched`` and ``places``. ``late`` says
    whether a row was created after its own event time: then a row with an older event time can be known before it.
    """

    def __init__(self, view: View, source: Parquet, spine: Numbered, number: int) -> None:
        self.view, self.source, self.spine = view, source, spine
        self.entities, self.times, self.places = (f"{name}_{number}" for name in ("entities", "times", "places"))
        self.event = source.instant(view.time)
        self.created = source.instant(view.created) if view.created else None
        units = {spine.unit, self.event.unit, self.created.unit if self.created else "us"}
        self.unit = "ns" if "ns" in units else "us"
        self.what = f"The as-of join of view {view.name!r}"

    def entities_sql(self) -> str:
        """The entities of the spine, numbered: whole numbers are quicker to join by than what they stand for."""
        keys = self._spine_keys()
        if not keys:
            return f"CREATE TABLE {self.entities} AS SELECT CAST(0 AS INTEGER) AS id"
        columns = ", ".join(f"{column} AS {name}" for name, column in keys.items())
        kind = "INTEGER" if self.spine.rows < 2**31 else "BIGINT"  # the join sorts less of the one
        return (
            f"CREATE TABLE {self.entities} AS SELECT CAST(row_number() OVER () AS {kind}) AS id, * "  # noqa: S608
            f"FROM (SELECT DISTINCT {columns} FROM {self.spine.relation} s)"
        )

    def times_sql(self) -> str:
        """The entity, event time ``e``, created time ``c`` and place of each stored row that can be an answer."""
        keys = {f"k{number}": self.source.column(key) for number, key in enumerate(self.view.keys)}
        on = " AND ".join(f"{column} = q.{name}" for name, column in keys.items()) or "true"
        created = f", {self.created.to(self.unit)} AS c" if self.created else ""
        return (
            f"CREATE TABLE {self.times} AS "  # noqa: S608
            f"SELECT q.id, {self.event.to(self.unit)} AS e{created}, {PLACE} AS place "
            f"FROM {self.source.scan} f JOIN {self.entities} q ON {on} WHERE {self._possible()}"
        )

    def late_rows_sql(self) -> str | None:
        """The rows that were known only after their event time, for FROM; None where created times do not count."""
        return f"FROM {self.times} WHERE c > e" if self.created and self.view.known else None

    def matched_sql(self, late: bool) -> str:
        """For each row of the spine that has an answer, the entity and times of the answer.

        DuckDB's ASOF JOIN finds the last row that entered at or before t. Where none is late, rows enter at their event
        time. Otherwise each enters at the later of its times, when it was known; and only those enter that beat all
        that were known before them, so that the last one to enter by t is the one with the newest event time by t.
        """
        rows, enters = (self._entering(), "known") if late else (f"FROM {self.times}", "e")
        answers = ", ".join(f"f.{name}" for name in _same(late))
        return (
            f"CREATE OR REPLACE TABLE matched AS SELECT s.row, {answers} "  # noqa: S608
            f"FROM ({self._asking()}) s ASOF JOIN ({rows}) f ON s.id = f.id AND s.t >= f.{enters} {self._young()}"
        )

    def places_sql(self, late: bool) -> str:
        """Where the answers stand: several places for one row of the spine where stored rows share all its times."""
        same = ", ".join(_same(late))
        created = ", f.c" if self.created and not late else ""
        return (
            f"CREATE OR REPLACE TABLE {self.places} AS SELECT m.row, f.place, {same}{created} "  # noqa: S608
            f"FROM matched m JOIN {self.times} f USING ({same})"
        )

    def ties_sql(self) -> str:
        """How many places there are, and how many answers."""
        return f"SELECT (SELECT count(*) FROM {self.places}), (SELECT count(*) FROM matched)"  # noqa: S608

    def tied_sql(self, late: bool) -> str:
        """The places among which to choose: of one event time, those of the newest created time."""
        same = ", ".join(_same(late))
        newest = f"QUALIFY rank() OVER (PARTITION BY {same} ORDER BY c DESC NULLS LAST) = 1" if self.created else ""
        return (
            f"CREATE OR REPLACE TABLE tied AS SELECT place, {same} "  # noqa: S608
            f"FROM (SELECT DISTINCT * EXCLUDE (row) FROM {self.places}) {newest}"
        )

    def alike_rows_sql(self, late: bool) -> str:
        """Answers with several places even so, for FROM."""
        return f"FROM tied GROUP BY {', '.join(_same(late))} HAVING count(*) > 1"

    def best_sql(self, late: bool) -> str:
        """One of the places that are tied, by all that the rows there hold."""
        same = ", ".join(_same(late))
        order = tie_order_sql(self.source, self.view.created, [*self.view.keys, self.view.time])
        return (
            f"CREATE OR REPLACE TABLE tied AS SELECT m.place, {same} {self._stored_at('tied')} "
            f"QUALIFY row_number() OVER (PARTITION BY {same} ORDER BY {order}) = 1"
        )

    def chosen_sql(self, late: bool) -> str:
        """The one place of each answer."""
        return (
            f"CREATE OR REPLACE TABLE {self.places} AS SELECT m.row, b.place "  # noqa: S608
            f"FROM matched m JOIN tied b USING ({', '.join(_same(late))}); DROP TABLE tied"
        )

    def tidy_sql(self) -> str:
        """Let go of all but the places."""
        return f"DROP TABLE matched; DROP TABLE {self.times}; DROP TABLE {self.entities}"

    def features_sql(self) -> str:
        """``row`` and the features of each row of the spine that has an answer, by row."""
        found = {name: self.source.column(feature) for name, feature in self.view.features.items()}
        columns = f", {selected(found)}" if found else ""
        return f"SELECT m.row{columns} {self._stored_at(self.places)} ORDER BY m.row"

    def _asking(self) -> str:
        """The number, time and entity of each row of the spine."""
        t = "saturated_ns(s.t)" if self.unit != self.spine.unit else "s.t"
        on = " AND ".join(f"{column} = q.{name}" for name, column in self._spine_keys().items()) or "true"
        return f"SELECT s.row, {t} AS t, q.id FROM {self.spine.relation} s JOIN {self.entities} q ON {on}"  # noqa: S608

    def _entering(self) -> str:
        """Those rows that beat all that were known before them, and when they were known.

        In the order of knowing, a row enters if no event time before it is newer; of rows known at one time the last
        one by event and created time stands for all.
        """
        return (
            "SELECT * FROM (SELECT *, max(e) OVER w AS best, lead(known) OVER w AS following "  # noqa: S608
            f"FROM (SELECT *, greatest(e, c) AS known FROM {self.times}) "
            "WINDOW w AS (PARTITION BY id ORDER BY known, e, c ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)) "
            "WHERE e = best AND known IS DISTINCT FROM following"
        )

    def _young(self) -> str:
        """The condition that an answer is not older than the view's time to live."""
        if not self.view.ttl or self.spine.first is None:
            return ""
        longest = _ticks(self.view.ttl, self.unit)
        safe = self.spine.first * (1 if self.unit == self.spine.unit else NANOSECOND) - longest > -(2**63)
        return f"WHERE f.e >= {'s.t' if safe else 'CAST(s.t AS HUGEINT)'} - {longest}"

    def _stored_at(self, places: str) -> str:
        """The stored rows ``f`` at the places of a table ``m``."""
        return f"FROM {self.source.scan} f JOIN {places} m ON {PLACE} = m.place WHERE {self._possible()}"

    def _possible(self) -> str:
        """The rows that can be an answer to any row of the spine, told by times alone: most files are not read."""
        first, last, unit = self.spine.first, self.spine.last, self.spine.unit
        if first is None or last is None:
            return "false"
        source, view = self.source, self.view
        found = [source.bound(view.time, "<=", last, unit), *self._days("<=", last)]
        if view.ttl:
            oldest = first - _ticks(view.ttl, unit)
            found += [source.bound(view.time, ">=", oldest, unit), *self._days(">=", oldest)]
        if view.created and view.known:
            found.append(source.bound(view.created, "<=", last, unit))
        return " AND ".join(found)

    def _days(self, comparison: str, time: int) -> list[str]:
        if not self.view.day:
            return []
        seconds = time // _ticks(timedelta(seconds=1), self.spine.unit)
        return [f"CAST({self.source.column(self.view.day)} AS DATE) {comparison} CAST(to_timestamp({seconds}) AS DATE)"]

    def _spine_keys(self) -> dict[str, str]:
        keys, name = self.spine.keys, self.view.name
        return {
            f"k{number}": spine_key_sql(f"s.{keys[of][0]}", keys[of][1], self.source.type(key), of, name)
            for number, (key, of) in enumerate(self.view.keys.items())
        }


def _same(late: bool) -> list[str]:
    """The columns of an answer: of rows that are never late, the event time says all; their created times may tie."""
    return ["id", "e", "c"] if late else ["id", "e"]


def spine_key_sql(column: str, kind: str, wanted: str, name: str, view: str) -> str:
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


def _ticks(age: timedelta, unit: str) -> int:
    return age // timedelta(microseconds=1) * (NANOSECOND if unit == "ns" else 1)


def columns_of(views: Sequence[View]) -> list[str]:
    """The columns of a spine that views need, each once."""
    return list(dict.fromkeys(column for view in views for column in view.keys.values()))


@dataclass(frozen=True)
class Newest:
    """The newest row of each entity of a source in a range of time.

    Attributes
    ----------
    source : Parquet
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

    source: Parquet
    keys: Sequence[str]
    columns: Mapping[str, str]
    time: str
    created: str | None
    start: datetime | None
    end: datetime | None
    known: bool = True

    def where_sql(self) -> str:
        """The condition for a row of the source to count."""
        found = [f"{self.source.column(key)} IS NOT NULL" for key in self.keys]
        if self.start is not None:
            found.append(self.source.bound(self.time, ">=", microseconds(self.start), "us"))
        if self.end is not None:
            found.append(self.source.bound(self.time, "<=", microseconds(self.end), "us"))
            if self.created and self.known:
                found.append(self.source.bound(self.created, "<=", microseconds(self.end), "us"))
        return " AND ".join(found) or "true"

    def all_sql(self) -> str:
        """Every row that counts."""
        return f"SELECT {selected(self.columns)} FROM {self.source.scan} f WHERE {self.where_sql()}"  # noqa: S608

    def times_sql(self) -> str:
        """Makes the table ``newest``: the last time ``e`` of each entity, from the key and time columns alone."""
        keys = self._keys()
        columns = "".join(f"{column} AS {name}, " for name, column in keys.items())
        grouped = f"GROUP BY {', '.join(keys)}" if keys else "HAVING count(*) > 0"
        return (
            f"CREATE OR REPLACE TABLE newest AS SELECT {columns}max({self._instant()}) AS e "  # noqa: S608
            f"FROM {self.source.scan} f WHERE {self.where_sql()} {grouped}"
        )

    def ties_sql(self) -> str:
        """How many rows have an entity's last time, and how many entities there are."""
        return f"SELECT (SELECT count(*) {self._last_rows()}), (SELECT count(*) FROM newest)"  # noqa: S608

    def rows_sql(self, tied: bool) -> str:
        """The rows in the order of the keys; whole rows are compared with each other only if some are tied."""
        keys = ", ".join(f"n.{name}" for name in self._keys())
        first = ""
        if tied:
            order = tie_order_sql(self.source, self.created, [*self.keys, self.time])
            partition = f"PARTITION BY {keys} " if keys else ""
            first = f"QUALIFY row_number() OVER ({partition}ORDER BY {order}) = 1"
        return f"SELECT {selected(self.columns)} {self._last_rows()} {first} {f'ORDER BY {keys}' if keys else ''}"

    def _keys(self) -> dict[str, str]:
        return {f"k{number}": self.source.column(key) for number, key in enumerate(self.keys)}

    def _instant(self) -> str:
        return self.source.instant(self.time).sql

    def _last_rows(self) -> str:
        on = [f"{self._instant()} = n.e", *(f"{column} = n.{name}" for name, column in self._keys().items())]
        return f"FROM {self.source.scan} f JOIN newest n ON {' AND '.join(on)} WHERE {self.where_sql()}"


def tie_order_sql(source: Parquet, created: str | None, same: Sequence[str]) -> str:
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
