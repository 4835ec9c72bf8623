"""Small tables that stand for the whole one: what some expectations find in them, they would find in all rows."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa

from weakfish.checks.expectations.facts import Fact
from weakfish.checks.expectations.kinds import family


def typical(schema: pa.Schema, with_nulls: Iterable[str]) -> pa.Table:
    """Two rows with the types that pandas has for all: those of whole numbers and truth values hang on nulls."""
    missing = set(with_nulls)
    return pa.Table.from_arrays([_some(of.type, of.name in missing) for of in schema], schema=schema)


def extremes(column: str, kind: pa.DataType, fact: Fact) -> pa.Table:
    """The least and the greatest value, and a null if there is any."""
    return _column(column, kind, fact, fact.table["value"] if fact.table is not None else None)


def distinct(column: str, kind: pa.DataType, fact: Fact) -> pa.Table:
    """Each value once, and a null if there is any."""
    return extremes(column, kind, fact)


def most_common(column: str, kind: pa.DataType, fact: Fact) -> pa.Table:
    """Each of the most common values once, and a null if there is any."""
    if fact.table is None or not fact.table.num_rows:
        return _column(column, kind, fact, None)
    counts = fact.table["count"].to_numpy()
    return _column(column, kind, fact, fact.table["value"].filter(pa.array(counts == counts.max())))


def nothing(column: str, kind: pa.DataType, rows: int) -> pa.Table:
    """A column without a value: some nulls, or no row where the table has none."""
    return pa.table({column: pa.nulls(min(rows, 2), kind)})


def _column(column: str, kind: pa.DataType, fact: Fact, values: pa.ChunkedArray | None) -> pa.Table:
    chunks = [] if values is None else [chunk.cast(kind) for chunk in values.chunks]
    nulls = [pa.nulls(1, kind)] if fact.numbers["nulls"] else []
    return pa.table({column: pa.chunked_array([*chunks, *nulls], kind)})


def _some(kind: pa.DataType, with_null: bool) -> pa.Array:
    values: dict[str, object] = {"int": 0, "float": 0.0, "text": "", "bool": False}
    of = family(kind)
    if of in ("time", "day"):
        return pa.array([0, None if with_null else 0], pa.int64() if of == "time" else pa.int32()).cast(kind)
    if of not in values:
        return pa.nulls(2, kind)
    return pa.array([values[of], None if with_null else values[of]], kind)
