"""Rows that stand more than once in a table, across its partitions, and how many are distinct.

Partitions are remembered as sorted arrays of hashes, 8 bytes per row, which are merged in slices of bounded size. What
shares a hash is read again and compared, and only that.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import ibis
import ibis.expr.types as ir
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from weakfish.checks.expectations.conditions import considered
from weakfish.checks.expectations.table import ROW, CheckedTable, PartitionFact
from weakfish.project.cache import key_of

MERGED = 2_000_000
"""Hashes that are merged at a time, and rows that are compared at a time, about."""

Sorted = npt.NDArray[Any]


def hashes(columns: Sequence[str], ignore: str) -> PartitionFact:
    """A hash of each row that ``ignore`` leaves, sorted. Equal rows have the same."""

    def of(rows: ir.Table) -> ir.Value:
        return _hash(rows, columns).collect(where=considered(rows, columns, ignore))

    return PartitionFact(f"hashes {ignore!r}", columns, of, ordered)


def ordered(value: pa.Scalar) -> Sorted:
    """The values of a list that DuckDB collected in no order, sorted."""
    values = np.array([], value.type.value_type.to_pandas_dtype())
    return values if value.values is None else np.sort(value.values.to_numpy(zero_copy_only=False))


def distinct(parts: Mapping[str, Sorted]) -> int:
    """How many distinct hashes there are: of whole numbers and times exactly as many as values, of n texts as many but
    for a chance of n² / 2^65 that two share one, 3 in a million for ten million."""
    return sum(int(_first_of_equals(merged).sum()) for merged in _slices(parts))


def repeats(table: CheckedTable, columns: Sequence[str], ignore: str, parts: Mapping[str, Sorted]) -> pa.Table:
    """All rows that equal another one in ``columns``: their partition (its number), position, and values."""
    suspects = np.concatenate([np.array([], np.uint64), *map(_shared, _slices(parts))])
    counts = {part: _count(array, suspects) for part, array in parts.items()}
    touched = [part for part, count in counts.items() if count]
    if not touched:
        return pa.schema([("part", pa.int64()), (ROW, pa.int64())]).empty_table()
    about = hashlib.sha256(suspects.tobytes()).hexdigest()
    key = key_of("repeats 1", [table.hashes[part] for part in touched], about, list(columns), ignore)
    kept = table.cache.get(key)
    if kept is None:
        slices = np.array_split(suspects, -(-sum(counts.values()) // MERGED))
        found = pa.concat_tables(_compared(table, columns, ignore, touched, some) for some in slices)
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, found.schema) as writer:
            writer.write_table(found)
        kept = sink.getvalue()
        table.cache.put(key, kept)
    found = pa.ipc.open_stream(kept).read_all()
    numbers = np.array([list(parts).index(part) for part in touched])
    return found.set_column(0, "part", [numbers[found["part"].to_numpy()]]).sort_by(
        [("part", "ascending"), (ROW, "ascending")]
    )


def _compared(
    table: CheckedTable, columns: Sequence[str], ignore: str, touched: Sequence[str], suspects: Sorted
) -> pa.Table:
    """Of the rows with these hashes those that are equal; ``part`` is the place in ``touched``."""
    names = {f"c{place}": name for place, name in enumerate(columns)}
    some = ibis.memtable(pa.table({"suspect": pa.array(suspects, pa.uint64())}))
    found = []
    for place, part in enumerate(touched):
        rows = table.part(part, columns)
        rows = rows.filter(considered(rows, columns, ignore), _hash(rows, columns).isin(some.suspect))
        own = {to: _comparable(rows[name]) for to, name in names.items()}
        found.append(rows.select(part=ibis.literal(place, "int64"), **{ROW: rows[ROW]}, **own))
    rows = ibis.union(*found) if len(found) > 1 else found[0]
    again = rows.group_by(list(names)).mutate(times=rows.count()).filter(lambda of: of.times > 1).drop("times")
    return table.run(again)


def _hash(rows: ir.Table, columns: Sequence[str]) -> ir.Value:
    row = ibis.struct({f"c{place}": _comparable(rows[name]) for place, name in enumerate(columns)})

    def hash(_: Any) -> None: ...

    return ibis.udf.scalar.builtin(hash, signature=((row.type(),), "uint64"))(row)


def _comparable(value: Any) -> Any:
    """A column so that values which pandas takes for equal are equal bit by bit: there is one zero."""
    return (value + 0.0).cast(value.type()) if value.type().is_floating() else value


def _slices(parts: Mapping[str, Sorted]) -> Iterator[Sorted]:
    """All hashes, merged and sorted, in slices; equal hashes come in the same slice."""
    arrays = list(parts.values())
    number = max(1, -(-sum(map(len, arrays)) // MERGED))
    edges = np.array([-(-(2**64) * place // number) for place in range(1, number)], np.uint64)
    cut = [np.split(array, np.searchsorted(array, edges)) for array in arrays]
    for place in range(number):
        yield np.sort(np.concatenate([of[place] for of in cut]))


def _shared(merged: Sorted) -> Sorted:
    again = merged[1:][merged[1:] == merged[:-1]]
    return np.asarray(again[_first_of_equals(again)], np.uint64)


def _first_of_equals(merged: Sorted) -> npt.NDArray[np.bool_]:
    """Where a value stands first; NumPy's own `unique` hashes what is sorted already, ten times as slow."""
    return np.append(np.ones(min(len(merged), 1), np.bool_), merged[1:] != merged[:-1])


def _count(array: Sorted, suspects: Sorted) -> int:
    found = np.searchsorted(array, suspects, side="right") - np.searchsorted(array, suspects, side="left")
    return int(found.sum())
