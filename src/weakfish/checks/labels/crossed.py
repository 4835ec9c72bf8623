"""Counts by two classes as JSON: a table of few classes as it is, of many, most of them zero, as those that are not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

FEW = 12
"""Classes up to which the whole table is written: of fifty it would be 2,550 numbers per function and partition."""

Table = Sequence[Sequence[int]]


def written(table: Table) -> Any:
    """The table (rows, classes) for a file; see `read`."""
    if not table or len(table[0]) <= FEW:
        return [list(row) for row in table]
    counts = [[one, other, count] for one, row in enumerate(table) for other, count in enumerate(row) if count]
    return {"shape": [len(table), len(table[0])], "counts": counts}


def read(content: Any) -> tuple[tuple[int, ...], ...]:
    """The table that `written` wrote."""
    if not isinstance(content, Mapping):
        return tuple(map(tuple, content))
    rows, classes = content["shape"]
    table = [[0] * classes for _ in range(rows)]
    for one, other, count in content["counts"]:
        table[one][other] = count
    return tuple(map(tuple, table))
