"""Partitions whose rows have the same keys in the same order on both sides: values are compared without a join."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from weakfish.contracts.tables import read_partition, row_count

NOISE = 1e-6
"""By how much a number, or a share of it above one, may differ where fits of the same votes round otherwise."""


@dataclass
class MovedValues:
    """Rows in which a value moved, how often by column, and the keys of the first of them."""

    rows: int = 0
    columns: Counter[str] = field(default_factory=Counter)
    examples: list[tuple[Any, ...]] = field(default_factory=list)


def moved_in_place(
    old: Path, new: Path, keys: Sequence[str], values: Sequence[str], fitted: bool, most: int
) -> MovedValues | None:
    """What moved between two files; None where their keys differ, or a type can only be compared by a join.

    One column is in memory at a time; the first ``most`` rows are named.
    """
    if row_count(old) != row_count(new):
        return None
    named = {key: _column(new, key) for key in keys}
    if not all(_column(old, key).equals(named[key]) for key in keys):
        return None
    found, any_moved = MovedValues(), np.zeros(row_count(new), np.bool_)
    for name in values:
        one, other = _column(old, name), _column(new, name)
        if one.equals(other):
            continue
        try:
            moved = _differ(one, other, fitted)
        except pa.ArrowNotImplementedError:
            return None
        found.columns[name] += int(moved.sum())
        any_moved |= moved
    found.rows = int(any_moved.sum())
    places = pa.array(np.flatnonzero(any_moved)[:most])
    found.examples = list(zip(*(named[key].take(places).to_pylist() for key in keys), strict=True))
    return found


def _column(file: Path, name: str) -> pa.ChunkedArray:
    return read_partition(file, [name])[name]


def _differ(one: pa.ChunkedArray, other: pa.ChunkedArray, fitted: bool) -> npt.NDArray[np.bool_]:
    """Where values differ; two nulls do not, nor do two that are no number."""
    nulls = one.is_null().to_numpy() != other.is_null().to_numpy()
    if all(map(is_number, (one.type, other.type))) and any(map(pa.types.is_floating, (one.type, other.type))):
        x, y = (pc.fill_null(side.cast(pa.float64()), 0.0).to_numpy() for side in (one, other))
        differs = (x != y) & ~(np.isnan(x) & np.isnan(y))
        if fitted:
            with np.errstate(invalid="ignore"):
                differs &= ~(np.abs(x - y) <= NOISE * np.maximum(1, np.maximum(np.abs(x), np.abs(y))))
        return np.asarray(differs | nulls)
    if one.type != other.type:
        one, other = one.cast(pa.string()), other.cast(pa.string())
    return np.asarray(pc.fill_null(pc.not_equal(one, other), False).to_numpy() | nulls)


def is_number(kind: pa.DataType) -> bool:
    """Whether a type is that of whole numbers or fractions."""
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))
