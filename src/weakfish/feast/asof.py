"""Point-in-time joins in DuckDB: which row of a view was the last one known at a time.

A row counts at time t when its event time, and on request its created time, is at or before t. Of those the one with
the newest event time counts, then the newest created time, then a fixed order of the other columns, so that neither the
order of files nor the number of threads decides; if it is older than the view's time to live, nothing does.

Keys and times alone find the rows that count; then the features of just those are read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa

from weakfish.contracts.record import microseconds
from weakfish.errors import UserError
from weakfish.feast.source_files import NANOSECOND, Session, StoredRows, quoted, selected

WHOLE = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "HUGEINT")
TEXT = ("VARCHAR", "ENUM")

PLACE = "(CAST(f.file_index AS BIGINT) << 40) + f.file_row_number"
"""Where a stored row stands among the files of its source."""


@dataclass(frozen=True)
class Numbered:
    """What joins need of entity rows: the relation ``spine`` with the columns ``row`` (from 0), ``t`` and one per key.

    Attributes
    ----------
    rows : int
    unit : str
        Of ``t``, a whole number since 1970: ``us`` or ``ns``.
    first, last : int or None
        The least and greatest ``t``; None where no row has a time.
    keys : dict of str to tuple
        The relation's column and DuckDB's type of it, by the column of the entity rows.
    """

    rows: int
    unit: str
    first: int | None
    last: int | None
    keys: Mapping[str, tuple[str, str]]


@dataclass(frozen=True)
class ViewColumns:
    """What is asked of a feature view.

    Attributes
    ----------
    name : str
    keys : dict of str to str
        The column of the entity rows by the view's join key; empty for a view without entities.
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
    """The join of one view with numbered entity rows; ``number`` tells it apart from others in the same session."""

    def __init__(self, opened: Session, view: ViewColumns, source: StoredRows, spine: Numbered, number: int) -> None:
        self.opened, self.view, self.source, self.spine = opened, view, source, spine
        self.places = f"places_{number}"
        self.event = source.instant(view.time)
        self.created = source.instant(view.created) if view.created else None
        units = {spine.unit, self.event.unit, self.created.unit if self.created else "us"}
        self.unit = "ns" if "ns" in units else "us"

    def features(self, rows: int) -> pa.RecordBatchReader:
        """``row`` and the features of each entity row that has an answer, by row; raises `StoreError`."""
        self._match()
        found = {name: self.source.column(feature) for name, feature in self.view.features.items()}
        columns = f", {selected(found)}" if found else ""
        query = f"SELECT m.row{columns} {self._stored_at(self.places)} ORDER BY m.row"
        return self.opened.stream(query, rows, self._what)

    def _match(self) -> None:
        """Make the table of places: for each entity row that has an answer, where the answer stands."""
        kinds = {key: self.source.type(key) for key in self.view.keys}
        keys, names = spine_keys(self.view, self.spine, kinds), [self.source.column(key) for key in self.view.keys]
        # Entities are numbered: whole numbers are quicker to join by than what they stand for, and INTEGER than BIGINT.
        kind = "INTEGER" if self.spine.rows < 2**31 else "BIGINT"
        distinct = ", ".join(f"{key} AS k{number}" for number, key in enumerate(keys)) or "true AS nobody"
        self._run(
            f"CREATE OR REPLACE TABLE entities AS SELECT CAST(row_number() OVER () AS {kind}) AS id, * "  # noqa: S608
            f"FROM (SELECT DISTINCT {distinct} FROM spine s)"
        )
        on = " AND ".join(f"{name} = q.k{number}" for number, name in enumerate(names)) or "true"
        created = f", {self.created.to(self.unit)} AS c" if self.created else ""
        self._run(
            "CREATE OR REPLACE TABLE times AS "  # noqa: S608
            f"SELECT q.id, {self.event.to(self.unit)} AS e{created}, {PLACE} AS place "
            f"FROM {self.source.scan} f JOIN entities q ON {on} WHERE {self._possible()}"
        )
        # DuckDB's ASOF JOIN finds the last row that entered at or before t. Rows enter at their event time, unless one
        # was created after it: then a row with an older event time can be known before it. So each enters at the later
        # of its times, and only those enter that beat all that were known before them: in the order of knowing, a row
        # enters if no event time before it is newer, and of rows known at one time the last by event and created time
        # stands for all. So the last one to enter by t is the one with the newest event time by t.
        entering, enters, same, newest = "FROM times", "e", "id, e", ", f.c" if self.created else ""
        if self.created and self.view.known and self.opened.holds("FROM times WHERE c > e", self._what):
            enters, same, newest = "known", "id, e, c", ""
            entering = (
                "SELECT * FROM (SELECT *, max(e) OVER w AS best, lead(known) OVER w AS following "
                "FROM (SELECT *, greatest(e, c) AS known FROM times) WINDOW w AS "
                "(PARTITION BY id ORDER BY known, e, c ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)) "
                "WHERE e = best AND known IS DISTINCT FROM following"
            )
        t = "saturated_ns(s.t)" if self.unit != self.spine.unit else "s.t"
        on = " AND ".join(f"{key} = q.k{number}" for number, key in enumerate(keys)) or "true"
        self._run(
            f"CREATE OR REPLACE TABLE matched AS SELECT s.row, f.{same.replace(', ', ', f.')} "  # noqa: S608
            f"FROM (SELECT s.row, {t} AS t, q.id FROM spine s JOIN entities q ON {on}) s "
            f"ASOF JOIN ({entering}) f ON s.id = f.id AND s.t >= f.{enters} {self._young()}"
        )
        self._run(
            f"CREATE OR REPLACE TABLE {self.places} AS SELECT m.row, f.place, {same}{newest} "  # noqa: S608
            f"FROM matched m JOIN times f USING ({same})"
        )
        counts = f"SELECT (SELECT count(*) FROM {self.places}), (SELECT count(*) FROM matched)"  # noqa: S608
        places, answers = self._run(counts)[0]
        if places != answers:  # several rows have the entity and times of one answer
            self._choose(same)
        self._run("DROP TABLE matched; DROP TABLE times; DROP TABLE entities")

    def _choose(self, same: str) -> None:
        """Leave one place of each answer: of the newest created time, then by all that the rows there hold."""
        newest = f"QUALIFY rank() OVER (PARTITION BY {same} ORDER BY c DESC NULLS LAST) = 1" if self.created else ""
        self._run(
            f"CREATE OR REPLACE TABLE tied AS SELECT place, {same} "  # noqa: S608
            f"FROM (SELECT DISTINCT * EXCLUDE (row) FROM {self.places}) {newest}"
        )
        if self.opened.holds(f"FROM tied GROUP BY {same} HAVING count(*) > 1", self._what):
            order = tie_order(self.source, self.view.created, [*self.view.keys, self.view.time])
            answer = f"m.{same.replace(', ', ', m.')}"  # the source may have columns of these names
            self._run(
                f"CREATE OR REPLACE TABLE tied AS SELECT m.place, {answer} {self._stored_at('tied')} "
                f"QUALIFY row_number() OVER (PARTITION BY {answer} ORDER BY {order}) = 1"
            )
        self._run(
            f"CREATE OR REPLACE TABLE {self.places} AS SELECT m.row, b.place "  # noqa: S608
            f"FROM matched m JOIN tied b USING ({same}); DROP TABLE tied"
        )

    @property
    def _what(self) -> str:
        return f"The as-of join of view {self.view.name!r}"

    def _run(self, sql: str) -> list[tuple[Any, ...]]:
        return self.opened.run(sql, self._what)

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
        first, last, unit, view = self.spine.first, self.spine.last, self.spine.unit, self.view
        if first is None or last is None:
            return "false"
        bounds = [("<=", last), *([(">=", first - _ticks(view.ttl, unit))] if view.ttl else [])]
        found = [self.source.bound(view.time, comparison, time, unit) for comparison, time in bounds]
        if view.created and view.known:
            found.append(self.source.bound(view.created, "<=", last, unit))
        if view.day:
            day, second = f"CAST({self.source.column(view.day)} AS DATE)", _ticks(timedelta(seconds=1), unit)
            found += [f"{day} {comparison} CAST(to_timestamp({time // second}) AS DATE)" for comparison, time in bounds]
        return " AND ".join(found)


def spine_keys(view: ViewColumns, spine: Numbered, kinds: Mapping[str, str]) -> list[str]:
    """The key columns of the spine ``s`` as ones to compare with the view's, whose types, ``kinds``, may differ.

    Raises
    ------
    UserError
        When one is text and the other is not.
    """
    found = []
    for key, of in view.keys.items():
        (name, kind), wanted = spine.keys[of], kinds[key]
        column = f"s.{name}"
        if kind == '"NULL"':
            column = f"CAST({column} AS {wanted})"
        elif wanted in WHOLE and (kind in ("DOUBLE", "FLOAT") or kind.startswith("DECIMAL")):
            # Whole numbers that came as floats, as pandas has them beside nulls, are whole numbers again.
            column = f"CASE WHEN {column} = trunc({column}) THEN TRY_CAST({column} AS {wanted}) END"
        elif kind.startswith(TEXT) != wanted.startswith(TEXT) and "UUID" not in (kind, wanted):
            raise UserError(
                f"Column {of!r} of the entity rows is {kind}, which view {view.name!r} keeps as {wanted}; "
                "convert one of them."
            )
        found.append(column)
    return found


def _ticks(age: timedelta, unit: str) -> int:
    return age // timedelta(microseconds=1) * (NANOSECOND if unit == "ns" else 1)


@dataclass(frozen=True)
class RowsInTime:
    """Rows of a source in a range of time.

    Attributes
    ----------
    source : StoredRows
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
    ordered : bool
        Give the newest rows in the order of their keys.
    """

    source: StoredRows
    keys: Sequence[str]
    columns: Mapping[str, str]
    time: str
    created: str | None
    start: datetime | None
    end: datetime | None
    known: bool
    ordered: bool = True

    def sql(self) -> str:
        """Every row that counts."""
        return f"SELECT {selected(self.columns)} FROM {self.source.scan} f WHERE {self._where()}"  # noqa: S608

    def newest(self, opened: Session, rows: int, what: str) -> pa.RecordBatchReader:
        """The newest row of each entity; raises `StoreError`, which says ``what`` failed."""
        keys = {f"k{number}": self.source.column(key) for number, key in enumerate(self.keys)}
        instant, where, names = self.source.instant(self.time).sql, self._where(), ", ".join(keys)
        grouped = f"GROUP BY {names}" if keys else "HAVING count(*) > 0"
        opened.run(
            f"CREATE OR REPLACE TABLE newest AS "  # noqa: S608
            f"SELECT {''.join(f'{column} AS {name}, ' for name, column in keys.items())}max({instant}) AS e, "
            f"count(*) AS stored FROM {self.source.scan} f WHERE {where} {grouped}",
            what,
        )
        entities, stored = opened.run("SELECT count(*), coalesce(sum(stored), 0) FROM newest", what)[0]
        last, first = f"FROM {self.source.scan} f WHERE {where}", ""
        if stored != entities:  # else there is nothing to choose from, and nothing to join
            on = " AND ".join([f"{instant} = n.e", *(f"{column} = n.{name}" for name, column in keys.items())])
            last = f"FROM {self.source.scan} f JOIN newest n ON {on} WHERE {where}"
            if opened.run(f"SELECT count(*) {last}", what) != [(entities,)]:  # whole rows are compared only if tied
                order = tie_order(self.source, self.created, [*self.keys, self.time])
                partition = f"PARTITION BY {names} " if keys else ""
                first = f"QUALIFY row_number() OVER ({partition}ORDER BY {order}) = 1"
        by = f"ORDER BY {', '.join(keys.values())}" if keys and self.ordered else ""
        return opened.stream(f"SELECT {selected(self.columns)} {last} {first} {by}", rows, what)

    def _where(self) -> str:
        found = [f"{self.source.column(key)} IS NOT NULL" for key in self.keys]
        if self.start is not None:
            found.append(self.source.bound(self.time, ">=", microseconds(self.start), "us"))
        if self.end is not None:
            found.append(self.source.bound(self.time, "<=", microseconds(self.end), "us"))
            if self.created and self.known:
                found.append(self.source.bound(self.created, "<=", microseconds(self.end), "us"))
        return " AND ".join(found) or "true"


def tie_order(source: StoredRows, created: str | None, same: Sequence[str]) -> str:
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
