"""Rows that stand more than once in a table, across its partitions, and how many are distinct.

Partitions come as sorted hashes, 8 bytes per row, merged in slices of bounded size. Equal rows have equal hashes; what
shares a hash is read again and compared, and only that.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from weakfish.checks.expectations.facts import Fact, Hashes, comparable
from weakfish.checks.expectations.scan import Scan
from weakfish.checks.gx import EXAMPLES
from weakfish.engine.duckdb import repeated

MERGED = 2_000_000
"""Hashes that are merged at a time, and rows that are compared at a time, about."""

Hashed = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class Repeats:
    """Rows that stand more than once: their positions by partition, and the first ones' values."""

    rows: Mapping[str, npt.NDArray[np.int64]]
    examples: pa.Table


def distinct(parts: Mapping[str, Fact]) -> int:
    """How many distinct hashes there are: of whole numbers and times exactly as many as values, of n texts as many but
    for a chance of n² / 2^65 that two share one, 3 in a million for ten million."""
    return sum(int(_first_of_equals(merged).sum()) for merged in _slices(parts))


def repeats(scan: Scan, spec: Hashes, parts: Mapping[str, Fact]) -> Repeats:
    """All rows that equal another one in the columns of ``spec``."""
    shared = [_shared(merged) for merged in _slices(parts)]
    suspects = np.concatenate(shared) if shared else np.array([], np.uint64)
    places: dict[str, list[npt.NDArray[np.int64]]] = {part: [] for part in parts}
    examples = [pa.table({})]
    touched = {part: _array(fact) for part, fact in parts.items() if _count(_array(fact), suspects)}
    rows = sum(_count(array, suspects) for array in touched.values())
    for some in np.array_split(suspects, -(-rows // MERGED)) if rows else ():
        found = _compared(scan, spec, list(touched), some)
        for part, of in found.rows.items():
            places[part].append(of)
        examples.append(found.examples)
    whole = {part: np.sort(np.concatenate(of)) for part, of in places.items() if of}
    return Repeats({part: of for part, of in whole.items() if len(of)}, _first(examples, list(parts)))


def _compared(scan: Scan, spec: Hashes, touched: list[str], suspects: Hashed) -> Repeats:
    """Of the rows with these hashes, those that are equal; kept, for partitions that stay as they are."""
    about = hashlib.sha256(repr([scan.hashes[part] for part in touched]).encode() + suspects.tobytes()).hexdigest()
    asked = f"{spec.identity} repeated {touched}"
    known = scan.kept.get(about, asked)
    if known is None:
        known = _read_and_compared(scan, spec, touched, suspects)
        scan.kept.put(about, asked, known)
    places = np.array([], np.int64) if known.array is None else known.array
    found = {part: places[places // 2**40 == number] % 2**40 for number, part in enumerate(touched)}
    owners = pa.array([touched[number] for number in known.numbers["owners"]], pa.string())
    examples = pa.table({}) if known.table is None else known.table.append_column("part", owners)
    return Repeats({part: of for part, of in found.items() if len(of)}, examples)


def _read_and_compared(scan: Scan, spec: Hashes, touched: list[str], suspects: Hashed) -> Fact:
    work = [(number, part, group) for number, part in enumerate(touched) for group in scan.source.groups(part)]
    tables = list(scan.pool.map(lambda item: _suspicious(scan, spec, suspects, *item), work))
    rows = pa.concat_tables(tables)
    names = [f"c{number}" for number in range(len(spec.columns))]
    again = rows.take(pa.array(repeated([rows[name] for name in names])))
    first = again.slice(0, EXAMPLES)
    places = again["place"].to_numpy()
    return Fact({"owners": (first["place"].to_numpy() // 2**40).tolist()}, places, first)


def _suspicious(scan: Scan, spec: Hashes, suspects: Hashed, number: int, part: str, group: int) -> pa.Table:
    """The rows of a row group that have one of these hashes; ``place`` is partition and position in one number."""
    kinds = [scan.source.schema.field(name).type for name in spec.columns]
    names = [f"c{place}" for place in range(len(kinds))]
    schema = pa.schema([*zip(names, kinds, strict=True), ("place", pa.int64())])
    found = [schema.empty_table()]
    for batch in scan.source.batches(part, group, spec.columns):
        hashed, rows = spec.of(batch)
        rows = rows[_among(hashed, suspects)]
        columns = [comparable(batch.column(name).take(pa.array(rows))) for name in spec.columns]
        place = pa.array(rows + batch.start + number * 2**40)
        found.append(pa.Table.from_arrays([*columns, place], schema=schema))
    return pa.concat_tables(found)


def _slices(parts: Mapping[str, Fact]) -> Iterator[Hashed]:
    """All hashes, merged and sorted, in slices; equal hashes come in the same slice."""
    arrays = [_array(fact) for fact in parts.values()]
    number = max(1, -(-sum(map(len, arrays)) // MERGED))
    edges = [-(-(2**64) * place // number) for place in range(1, number)]
    cuts = [np.searchsorted(array, np.array(edges, np.uint64), side="left").tolist() for array in arrays]
    for place in range(number):
        some = [
            array[([0, *cut])[place] : ([*cut, len(array)])[place]] for array, cut in zip(arrays, cuts, strict=True)
        ]
        merged = np.concatenate(some) if some else np.array([], np.uint64)
        merged.sort()
        yield merged


def _shared(merged: Hashed) -> Hashed:
    again = merged[1:][merged[1:] == merged[:-1]]
    return np.asarray(again[_first_of_equals(again)], np.uint64)


def _first_of_equals(ordered: Hashed) -> npt.NDArray[np.bool_]:
    """Where a value stands first; NumPy's own `unique` hashes what is sorted already, ten times as slow."""
    return np.append(np.ones(min(len(ordered), 1), np.bool_), ordered[1:] != ordered[:-1])


def _count(array: Hashed, suspects: Hashed) -> int:
    found = np.searchsorted(array, suspects, side="right") - np.searchsorted(array, suspects, side="left")
    return int(found.sum())


def _among(hashed: Hashed, suspects: Hashed) -> npt.NDArray[np.bool_]:
    if not len(suspects):
        return np.zeros(len(hashed), np.bool_)
    place = np.minimum(np.searchsorted(suspects, hashed), len(suspects) - 1)
    return np.asarray(suspects[place] == hashed)


def _array(fact: Fact) -> Hashed:
    return np.array([], np.uint64) if fact.array is None else fact.array


def _first(examples: list[pa.Table], parts: list[str]) -> pa.Table:
    """The first rows, in the order of the table."""
    filled = [table for table in examples if table.num_rows]
    if not filled:
        return pa.table({})
    rows = pa.concat_tables(filled)
    order = pa.array([parts.index(part) for part in rows["part"].to_pylist()])
    place = pa.array(rows["place"].to_numpy() % 2**40)
    rows = rows.append_column("order", order).append_column("row", place)
    rows = rows.sort_by([("order", "ascending"), ("row", "ascending")]).slice(0, EXAMPLES)
    return rows.select([name for name in rows.column_names if name.startswith("c")])
