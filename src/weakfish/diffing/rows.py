"""The rows of a table in two versions, compared by key: which came, which went, and which values moved.

Partitions whose bytes are the same on both sides are not read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from weakfish.contracts.hashes import hashes_of
from weakfish.contracts.pointers import all_local, listed
from weakfish.contracts.tables import open_partition, period_of, row_count
from weakfish.diffing.in_place import NOISE, is_number, moved_in_place
from weakfish.engine.duckdb import connect

EXAMPLES = 10
"""How many keys of a kind are named."""


@dataclass(frozen=True)
class TableChange:
    """How a table differs between two versions.

    Attributes
    ----------
    rows
        Rows before and now.
    columns
        The type of each column that came, went or has another type, before and now; None where there was, or is, none.
    partitions
        Periods ``added``, ``removed`` and ``changed``.
    added, removed, moved
        Rows that came, went, or have another value in a column that both have.
    values
        By column, rows in which it moved.
    examples
        Keys of some ``added``, ``removed`` and ``moved`` rows.
    """

    rows: tuple[int, int]
    columns: Mapping[str, tuple[str | None, str | None]] = field(default_factory=dict)
    partitions: Mapping[str, Sequence[str]] = field(default_factory=dict)
    added: int = 0
    removed: int = 0
    moved: int = 0
    values: Mapping[str, int] = field(default_factory=dict)
    examples: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.columns or self.added or self.removed or self.moved or self.rows[0] != self.rows[1])


@dataclass(frozen=True)
class Differing:
    """The files of a table that differ, on either side, and how many rows there are in all."""

    old: Mapping[str, Path]
    new: Mapping[str, Path]
    rows: tuple[int, int]
    schemas: tuple[pa.Schema, pa.Schema]

    def __bool__(self) -> bool:
        return bool(self.old or self.new)

    @property
    def shared(self) -> list[str]:
        """The columns that both sides have."""
        return [name for name in self.schemas[1].names if name in self.schemas[0].names]


def differing(old: Path, new: Path) -> Differing | None:
    """What differs between two folders of partitions; None where neither has one."""
    sides = [{file.stem: file for file in listed(folder)} for folder in (old, new)]
    if not any(sides):
        return None
    rows = [sum(row_count(file) for file in side.values()) for side in sides]
    before, now = (hashes_of(side) for side in sides)
    parts = [{name: file for name, file in side.items() if before.get(name) != now.get(name)} for side in sides]
    schemas = [_schema(side) for side in sides]
    return Differing(parts[0], parts[1], (rows[0], rows[1]), (schemas[0], schemas[1]))


def _schema(files: Mapping[str, Path]) -> pa.Schema:
    first = next(iter(files.values()), None)
    return open_partition(first).schema_arrow.remove_metadata() if first else pa.schema([])


def compare(found: Differing, keys: Sequence[str], *, fitted: bool = False, unique: bool = False) -> TableChange:
    """The rows of the files that differ, compared by their ``keys``, which both sides have.

    Of tables that follow from ``fitted`` parameters, numbers that differ by less than `NOISE` count as equal; keys that
    are known to be ``unique`` need no look at each other.
    """
    types = [{column.name: str(column.type) for column in schema} for schema in found.schemas]
    columns = {
        name: (types[0].get(name), types[1].get(name))
        for name in dict.fromkeys([*types[1], *types[0]])
        if types[0].get(name) != types[1].get(name)
    }
    changed = TableChange(found.rows, columns if all(types) else {}, _periods(found))
    if not found or not set(keys) <= set(found.shared):
        return changed
    values = [name for name in found.shared if name not in keys]
    both = {
        name: moved
        for name in sorted({*found.old} & {*found.new})
        if (moved := moved_in_place(found.old[name], found.new[name], keys, values, fitted, EXAMPLES)) is not None
    }
    old, new = ({name: file for name, file in side.items() if name not in both} for side in (found.old, found.new))
    counts, by_column, examples = (
        _joined(found, old, new, keys, values, fitted, unique) if old or new else ({}, Counter(), {})
    )
    for moved in both.values():
        counts["moved"] = counts.get("moved", 0) + moved.rows
        by_column.update(moved.columns)
        examples["moved"] = [*examples.get("moved", []), *map(_named, moved.examples)][:EXAMPLES]
    return TableChange(
        changed.rows,
        changed.columns,
        changed.partitions,
        **{kind: counts.get(kind, 0) for kind in ("added", "removed", "moved")},
        values=dict(sorted(((name, of) for name, of in by_column.items() if of), key=lambda item: -item[1])),
        examples={kind: keys for kind, keys in examples.items() if keys},
    )


def _joined(
    found: Differing,
    old: Mapping[str, Path],
    new: Mapping[str, Path],
    keys: Sequence[str],
    values: Sequence[str],
    fitted: bool,
    unique: bool,
) -> tuple[dict[str, int], Counter[str], dict[str, list[str]]]:
    """Rows that came, went or moved between files, moved values by column, and keys of some rows of each kind."""
    with session() as con:
        forms = [form(name, *(schema.field(name).type for schema in found.schemas)) for name in values]
        _side(con, "o", old or new, keys, forms, nothing=not old)
        _side(con, "n", new or old, keys, forms, nothing=not new)
        for side in () if unique else ("o", "n"):
            _number_repeats(con, side, keys, forms)
        match = " AND ".join(f"o.{quoted(key)} = n.{quoted(key)}" for key in keys) + " AND o.nth = n.nth"
        differs = [differ(f"o.h{place}", f"n.h{place}", one, fitted) for place, one in enumerate(forms)]
        kind = (
            f"CASE WHEN o.nth IS NULL THEN 'added' WHEN n.nth IS NULL THEN 'removed' "
            f"WHEN {' OR '.join(differs) or 'false'} THEN 'moved' END"
        )
        named = ", ".join(f"coalesce(n.{quoted(key)}, o.{quoted(key)}) AS {quoted(key)}" for key in keys)
        each = "".join(f", {one} AS d{place}" for place, one in enumerate(differs))
        con.execute(
            f"CREATE TEMP TABLE joined AS SELECT * FROM (SELECT {named}, {kind} AS kind{each} "
            f"FROM o FULL JOIN n ON {match}) WHERE kind IS NOT NULL"
        )
        counts = dict(con.execute("SELECT kind, count(*) FROM joined GROUP BY kind ORDER BY kind").fetchall())
        sums = "".join(f", count(*) FILTER (d{place})" for place in range(len(values)))
        moved = con.execute(f"SELECT 0{sums} FROM joined WHERE kind = 'moved'").fetchone() or ()
        examples = {kind: _examples(con, kind, keys) for kind in counts}
    return counts, Counter(dict(zip(values, moved[1:], strict=True))), examples


def _periods(found: Differing) -> dict[str, list[str]]:
    before, now = ({period_of(name) for name in side} for side in (found.old, found.new))
    sides = {"added": now - before, "removed": before - now, "changed": before & now}
    return {kind: sorted(names) for kind, names in sides.items() if names}


def _side(
    con: Any, name: str, files: Mapping[str, Path], keys: Sequence[str], forms: Sequence[str], *, nothing: bool
) -> None:
    """A side of a comparison: the keys, and the `form` of each value."""
    hashed = "".join(f", {one} AS h{place}" for place, one in enumerate(forms))
    by, scan = ", ".join(map(quoted, keys)), f"{scanned(files.values())}{' LIMIT 0' if nothing else ''}"
    con.execute(f"CREATE TEMP TABLE {name} AS SELECT {by}, 1::BIGINT AS nth{hashed} FROM {scan}")


def _number_repeats(con: Any, name: str, keys: Sequence[str], forms: Sequence[str]) -> None:
    """Where a key stands on several rows, the first is compared with the first, and so on."""
    by, known = ", ".join(map(quoted, keys)), " AND ".join(f"{quoted(key)} IS NOT NULL" for key in keys)
    every, distinct = con.execute(f"SELECT count(*), count(DISTINCT ({by})) FROM {name} WHERE {known}").fetchone() or (
        0,
        0,
    )
    if every != distinct:
        order = ", ".join([by, *(f"h{place}" for place in range(len(forms)))])
        again = f"SELECT * REPLACE (row_number() OVER (PARTITION BY {by} ORDER BY {order}) AS nth) FROM {name}"
        con.execute(f"CREATE OR REPLACE TEMP TABLE {name} AS {again}")


def form(name: str, old: pa.DataType, new: pa.DataType) -> str:
    """What is compared of a value, in SQL: a number itself, of all else a hash, so that no text is held in memory."""
    column = quoted(name)
    if all(map(is_number, (old, new))) and any(map(pa.types.is_floating, (old, new))):
        return f"CAST({column} AS DOUBLE)"
    return f"hash({column})" if old == new else f"hash(CAST({column} AS VARCHAR))"


def differ(one: str, other: str, formed: str, fitted: bool) -> str:
    """Whether two values that have that `form` differ, in SQL."""
    if not fitted or not formed.startswith("CAST"):
        return f"({one} IS DISTINCT FROM {other})"
    near = f"abs({one} - {other}) <= {NOISE} * greatest(1, abs({one}), abs({other}))"
    return f"({one} IS DISTINCT FROM {other} AND NOT coalesce({near}, false))"


def _examples(con: Any, kind: str, keys: Sequence[str]) -> list[str]:
    by = ", ".join(map(quoted, keys))
    found = con.execute(f"SELECT {by} FROM joined WHERE kind = ? ORDER BY {by} LIMIT {EXAMPLES}", [kind])
    return list(map(_named, found.fetchall()))


def _named(row: Sequence[Any]) -> str:
    """A row by its keys, such as an entity and a time."""
    return " at ".join(str(value).removesuffix(":00+00:00") for value in row)


def scanned(files: Iterable[Path]) -> str:
    """Parquet files as a table in SQL; those of an earlier schema lack columns."""
    names = ", ".join("'" + str(file).replace("'", "''") + "'" for file in all_local(files))
    return f"read_parquet([{names}], union_by_name = true)"


def quoted(name: str) -> str:
    """A column's name in SQL."""
    return '"' + name.replace('"', '""') + '"'


@contextmanager
def session() -> Iterator[Any]:
    """DuckDB in UTC, in memory; what does not fit there goes to its own temporary files."""
    con = connect().connection.con
    try:
        yield con
    finally:
        con.close()
