"""What happened to the data between two versions, in words: a file twice, a clock that is off, a column renamed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any

from weakfish.contracts.ledgers import ingested
from weakfish.contracts.tables import TIME
from weakfish.diffing.edits import Edit, code
from weakfish.diffing.rows import Differing, TableChange, quoted, scanned, session
from weakfish.project.laid_out import ProjectVersion

RAW = "the raw data"

FEW = 50
"""Distinct values up to which a column of texts is one of categories."""

LONGEST = 40
"""Characters of a value that names a category; longer ones are text, which stays in the data."""

SHOWN = 3
"""How many columns, files or values a sentence names."""


def data_edits(
    old: ProjectVersion, new: ProjectVersion, found: Differing, change: TableChange, key: str, time: str
) -> list[Edit]:
    """What was done to the data, the most telling first; what follows from that is left out."""
    ways, told = list[Way](), set[str]()
    for what, names in (*_read(old, new), *_columns(change), *_of_rows(found, change, key, time)):
        if not told & {*names}:
            ways.append((what, names))
            told.update(names)
    return [Edit("data", what, RAW, names) for what, names in ways]


Way = tuple[str, tuple[str, ...]]
"""What happened, in words, and what it happened to: a column, a partition, or rows that came or went."""

CAME, WENT = "(rows that came)", "(rows that went)"


def _columns(change: TableChange) -> Iterator[Way]:
    for column, (before, now) in change.columns.items():
        if before is None or now is None:
            yield f"column `{column}` {'came' if before is None else 'went'}", (column,)
        else:
            yield f"column `{column}` became {now} (it was {before})", (column,)


def _read(old: ProjectVersion, new: ProjectVersion) -> Iterator[Way]:
    """What reading the raw files found that it did not find before."""
    before, now = (ingested(side.project) for side in (old, new))
    was = {(each.file, each.column) for each in before.reading.missing} if before.reading else set()
    lacking = [each for each in (now.reading.missing if now.reading else ()) if (each.file, each.column) not in was]
    for each in lacking[:1]:
        others = f" and {len(lacking) - 1} more" if lacking[1:] else ""
        named = f"; its column `{each.likely}` seems to be it under a new name" if each.likely else ""
        yield f"{each.file} has no column `{each.column}`{others}{named}", (each.column, each.file)
    copies = (now.copies or 0) - (before.copies or 0)
    if copies > 0:
        yield f"{copies:,} raw rows came that are copies of others", (CAME,)
    rejected = (now.rejected or 0) - (before.rejected or 0)
    if rejected > 0 and not lacking:
        yield f"{rejected:,} more raw lines are rejected", ("(rejected lines)",)


def _of_rows(found: Differing, change: TableChange, key: str, time: str) -> Iterator[Way]:
    if not (change.added or change.removed or change.moved):
        return
    with session() as con:
        for name, files in (("before", found.old or found.new), ("now", found.new or found.old)):
            con.execute(f"CREATE TEMP VIEW {name} AS SELECT * FROM {scanned(files.values())}")
        if change.added and found.old and found.new and (copies := _copies(con, found, change, key)):
            yield copies, (CAME,)
        for column in sorted(change.values, key=lambda name: name != time):
            yield _moved(con, found, change, key, column), (column,)
    for number, did, place in ((change.removed, "went", WENT), (change.added, "came", CAME)):
        periods = change.partitions.get({"went": "removed", "came": "added"}[did], ())
        if number and periods:
            yield f"the rows of {_listed(periods)} {did} ({number:,})", (place,)
        elif number:
            yield f"{number:,} rows {did}", (place,)


def _copies(con: Any, found: Differing, change: TableChange, key: str) -> str:
    """What is said where at least half of the rows that came repeat others; nothing where they do not."""
    others = ", ".join(quoted(name) for name in found.shared if name != key)
    for what, of in (("the key of another", quoted(key)), ("all of another but its key", f"({others})")):
        counts = [
            con.execute(f"SELECT count(*) - count(DISTINCT hash({of})) FROM {side}").fetchone()[0]
            for side in ("before", "now")
        ]
        if (more := counts[1] - counts[0]) >= max(change.added / 2, 1):
            return f"{more:,} rows came that repeat {what}"
    return ""


def _moved(con: Any, found: Differing, change: TableChange, key: str, column: str) -> str:
    """What happened to the values of a column of rows that both sides have."""
    number, kind = change.values[column], found.schemas[1].field(column).type
    name, join = quoted(column), f"FROM before b JOIN now n ON b.{quoted(key)} = n.{quoted(key)}"
    old, new = f"b.{name}", f"n.{name}"
    pairs = f"{join} WHERE {old} IS DISTINCT FROM {new}"
    rows = f"{number:,} row{'' if number == 1 else 's'}"
    (emptied,) = con.execute(f"SELECT count(*) FILTER ({new} IS NULL) {pairs}").fetchone()
    if emptied == number:
        return f"`{column}` is missing in {rows} that had it"
    if kind == TIME:
        least, most = con.execute(
            f"SELECT min(epoch_us({new}) - epoch_us({old})), max(epoch_us({new}) - epoch_us({old})) {pairs}"
        ).fetchone()
        if least == most and least:
            return f"the clock of `{column}` is {_span(least)} in {rows}"
        return f"`{column}` has other times in {rows}"
    if _is_number(kind):
        least, most = con.execute(
            f"SELECT min({new} / nullif({old}, 0)), max({new} / nullif({old}, 0)) {pairs}"
        ).fetchone()
        if number > 1 and least is not None and abs(most - least) <= 1e-6 * abs(most):
            return f"`{column}` is {most:.4g} times what it was in {rows}"
        return f"`{column}` has other values in {rows}"
    came = _categories(con, column)
    if came:
        return f"`{column}` has the new value{'s' if came[1:] else ''} {_listed(came)} in {rows}"
    return f"`{column}` has other values in {rows}"


def _categories(con: Any, column: str) -> list[str]:
    """The values of a column of categories that it did not have before."""
    name = quoted(column)
    (distinct,) = con.execute(f"SELECT count(DISTINCT {name}) FROM before").fetchone()
    if distinct > FEW:
        return []
    before = f"SELECT {name} FROM before WHERE {name} IS NOT NULL"
    came = f"SELECT DISTINCT CAST({name} AS VARCHAR) v FROM now WHERE {name} NOT IN ({before}) ORDER BY v"
    return [code(value) for (value,) in con.execute(came).fetchall() if len(value) <= LONGEST]


def _is_number(kind: Any) -> bool:
    import pyarrow.types as types

    return bool(types.is_integer(kind) or types.is_floating(kind))


def _span(microseconds: int) -> str:
    hours = abs(timedelta(microseconds=microseconds)) / timedelta(hours=1)
    return f"{hours:g} hours {'ahead of' if microseconds > 0 else 'behind'} what it was"


def _listed(names: Sequence[str]) -> str:
    shown = [*names[:SHOWN], *([f"{len(names) - SHOWN} more"] if names[SHOWN:] else [])]
    return " and ".join(filter(None, (", ".join(shown[:-1]), *shown[-1:])))
