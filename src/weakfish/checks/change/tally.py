"""Measures a column: its batches in one partition go in, a `Column` comes out; memory stays that of a batch."""

from __future__ import annotations

from math import floor, log10
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from weakfish.checks.change.column import CATEGORIES, CATEGORY_LENGTH, Column, kind_of
from weakfish.checks.change.sketch import Sketch

KEPT_HASHES = 1024
"""Of a column's values the smallest hashes are kept; up to so many, distinct values are counted exactly."""

MICROSECONDS_IN_AN_HOUR = 3.6e9


class Tally:
    """Adds up batches of one column of one partition."""

    def __init__(self, name: str, kind: pa.DataType, time: str | None, *, may_have_categories: bool) -> None:
        self.type, self.kind = str(kind), kind_of(name, kind, time)
        self.rows = self.nulls = 0
        self.low: float | None = None
        self.high: float | None = None
        self.sketch = Sketch.empty()
        self.hashes: npt.NDArray[np.uint64] | None = np.empty(0, np.uint64)
        has = self.kind == "boolean" or (self.kind == "text" and may_have_categories)
        self.categories: dict[str, int] | None = {} if has else None

    def add(self, values: pa.Array, times: pa.Array | None) -> None:
        """Count a batch; ``times`` is the table's own time in the same rows."""
        self.rows += len(values)
        if pt.is_dictionary(values.type):
            values = values.dictionary_decode()
        if self.kind == "number":
            self._add_numbers(_floats(values), values)
        elif self.kind == "distance" and times is not None:
            self._add_numbers(_hours(values, times), values)
        else:
            self.nulls += values.null_count
            if self.kind == "text":
                self._add_texts(values.drop_null())
            elif self.kind == "boolean":
                self._add_categories(pc.cast(values.drop_null(), pa.string()).dictionary_encode())
            elif self.kind == "list":
                self._add_to_sketch(_floats(pc.list_value_length(values).drop_null()))

    def column(self) -> Column:
        """What was found."""
        sketched = self.kind in ("number", "distance", "text", "list")
        counted = self.kind in ("number", "distance", "text")
        return Column(
            type=self.type,
            kind=self.kind,
            rows=self.rows,
            nulls=self.nulls,
            distinct=_distinct(self.hashes) if counted and self.hashes is not None else None,
            low=_outwards(self.low, -1),
            high=_outwards(self.high, 1),
            sketch=self.sketch if sketched else None,
            categories=None if self.categories is None else dict(sorted(self.categories.items())),
        )

    def _add_numbers(self, numbers: npt.NDArray[np.float64], values: pa.Array) -> None:
        known = numbers[~np.isnan(numbers)]
        self.nulls += len(values) - len(known)
        self._add_to_sketch(known)
        self._add_hashes(known)
        finite = known[np.isfinite(known)]
        if len(finite):
            self.low = min(float(finite.min()), self.low if self.low is not None else np.inf)
            self.high = max(float(finite.max()), self.high if self.high is not None else -np.inf)

    def _add_texts(self, values: pa.Array) -> None:
        self._add_to_sketch(_floats(pc.utf8_length(values)))
        if self.categories is not None:
            encoded = values.dictionary_encode()
            self._add_categories(encoded)
            values = encoded.dictionary
        self._add_hashes(values.to_numpy(zero_copy_only=False).astype(object))

    def _add_categories(self, encoded: pa.DictionaryArray) -> None:
        names = encoded.dictionary.to_pylist() if len(encoded.dictionary) <= CATEGORIES else None
        if names is None or self.categories is None or any(len(name) > CATEGORY_LENGTH for name in names):
            self.categories = None
            return
        counts = np.bincount(encoded.indices.to_numpy(zero_copy_only=False), minlength=len(names))
        for name, count in zip(names, counts.tolist(), strict=True):
            self.categories[name] = self.categories.get(name, 0) + count
        if len(self.categories) > CATEGORIES:
            self.categories = None

    def _add_to_sketch(self, numbers: npt.NDArray[np.float64]) -> None:
        if len(numbers):
            self.sketch = Sketch.merged([self.sketch, Sketch.of(numbers, self.sketch.bits)])

    def _add_hashes(self, values: npt.NDArray[Any]) -> None:
        from pandas.util import hash_array

        if self.hashes is None or not len(values):
            return
        new = hash_array(values, categorize=False)
        if len(self.hashes) == KEPT_HASHES:
            new = new[new < self.hashes[-1]]
        self.hashes = np.unique(np.concatenate([self.hashes, new]))[:KEPT_HASHES]


def _outwards(number: float | None, direction: int) -> float | None:
    """An extreme as it is if whole, else at six digits, away from the numbers: what differs beyond is how they came."""
    if number is None or not number or number.is_integer():
        return number
    rounded = float(f"{number:.6g}")
    step = 10.0 ** (floor(log10(abs(number))) - 5)
    return rounded if (rounded - number) * direction >= 0 else float(f"{rounded + direction * step:.6g}")


def _floats(values: pa.Array) -> npt.NDArray[np.float64]:
    if pt.is_duration(values.type):
        values = pc.cast(values, pa.duration("us")).cast(pa.int64())
    found: npt.NDArray[np.float64] = pc.cast(values, pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    return found


def _hours(values: pa.Array, times: pa.Array) -> npt.NDArray[np.float64]:
    """How long after the table's own time each time is, in hours."""
    return (_microseconds(values) - _microseconds(times)) / MICROSECONDS_IN_AN_HOUR


def _microseconds(values: pa.Array) -> npt.NDArray[np.float64]:
    zone = values.type.tz if pt.is_timestamp(values.type) else None
    return _floats(pc.cast(values, pa.timestamp("us", tz=zone), safe=False).cast(pa.int64()))


def _distinct(hashes: npt.NDArray[np.uint64]) -> int:
    """Distinct values by the smallest hashes (Bar-Yossef et al. 2002): exact while all of them are kept."""
    if len(hashes) < KEPT_HASHES:
        return len(hashes)
    return round((KEPT_HASHES - 1) / (float(hashes[-1]) / 2.0**64))
