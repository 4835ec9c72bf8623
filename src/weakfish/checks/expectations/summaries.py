"""Facts that sum up a column: moments, extremes, distinct values, all numbers in order."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from weakfish.checks.expectations.facts import Fact, Nulls, joined
from weakfish.checks.expectations.kinds import Unsure
from weakfish.checks.expectations.source import Batch

MOST_VALUES = 10_000
"""Distinct values that are kept of a column."""


@dataclass(frozen=True)
class Moments(Nulls):
    """Count, sum, mean and squared differences from the mean, of numbers.

    Doubles are added in the rows' order within a batch, and exactly beyond, so that the bytes repeat.
    """

    @property
    def identity(self) -> str:
        """See `Spec.identity`."""
        return f"moments {self.column!r}"

    def find(self, batch: Batch) -> Fact:
        """See `Spec.find`."""
        values = _numbers(batch, self.column)
        count = len(values)
        numbers = {"nulls": batch.rows - count, "count": count, "sum": 0, "mean": 0.0, "squares": 0.0}
        if not count:
            return Fact(numbers)
        total = _exact_sum(values) if values.dtype.kind == "i" else float(values.sum())
        if not math.isfinite(total):
            raise Unsure("numbers without an end")
        mean = total / count
        squares = float(((values - mean) ** 2).sum())
        return Fact({**numbers, "sum": total, "mean": mean, "squares": squares})

    def add(self, facts: Sequence[Fact]) -> Fact:
        """See `Spec.add`; Chan, Golub and LeVeque (1983) say how the squares add up."""
        sums = [fact.numbers["sum"] for fact in facts]
        count, mean, squares = 0, 0.0, 0.0
        for fact in facts:
            more = fact.numbers["count"]
            if more:
                apart = fact.numbers["mean"] - mean
                squares += fact.numbers["squares"] + apart**2 * count * more / (count + more)
                mean += apart * more / (count + more)
                count += more
        total = sum(sums) if all(isinstance(one, int) for one in sums) else math.fsum(sums)
        nulls = sum(fact.numbers["nulls"] for fact in facts)
        return Fact({"nulls": nulls, "count": count, "sum": total, "mean": mean, "squares": squares})


@dataclass(frozen=True)
class Sorted(Nulls):
    """All numbers, sorted: 8 bytes per row."""

    @property
    def identity(self) -> str:
        """See `Spec.identity`."""
        return f"sorted {self.column!r}"

    def find(self, batch: Batch) -> Fact:
        """See `Spec.find`."""
        values = _numbers(batch, self.column)
        return Fact({"nulls": batch.rows - len(values)}, values)

    def add(self, facts: Sequence[Fact]) -> Fact:
        """See `Spec.add`."""
        values = joined(facts, np.float64)
        values.sort()
        return Fact({"nulls": sum(fact.numbers["nulls"] for fact in facts)}, values)


@dataclass(frozen=True)
class Extremes(Nulls):
    """The least and the greatest value."""

    @property
    def identity(self) -> str:
        """See `Spec.identity`."""
        return f"extremes {self.column!r}"

    def find(self, batch: Batch) -> Fact:
        """See `Spec.find`."""
        return Fact({"nulls": batch.nulls(self.column)}, table=_ends(batch.column(self.column)))

    def add(self, facts: Sequence[Fact]) -> Fact:
        """See `Spec.add`."""
        tables = [fact.table for fact in facts if fact.table is not None]
        ends = _ends(pa.concat_tables(tables)["value"]) if tables else None
        return Fact({"nulls": sum(fact.numbers["nulls"] for fact in facts)}, table=ends)


@dataclass(frozen=True)
class Values(Nulls):
    """The distinct values and how often each stands there; unsure where they are many."""

    @property
    def identity(self) -> str:
        """See `Spec.identity`."""
        return f"values {self.column!r} {MOST_VALUES}"

    def find(self, batch: Batch) -> Fact:
        """See `Spec.find`."""
        found = pc.value_counts(batch.column(self.column).drop_null())
        values = pa.table({"value": found.field("values"), "count": found.field("counts")})
        return self.add([Fact({"nulls": batch.nulls(self.column)}, table=values)]).sure()

    def add(self, facts: Sequence[Fact]) -> Fact:
        """See `Spec.add`."""
        tables = [fact.table for fact in facts if fact.table is not None]
        values = None
        if tables:
            values = pa.concat_tables(tables).group_by("value", use_threads=False).aggregate([("count", "sum")])
            values = values.select(["value", "count_sum"]).rename_columns(["value", "count"])
            if values.num_rows > MOST_VALUES:
                return Fact({"unsure": f"more than {MOST_VALUES} distinct values"})
        return Fact({"nulls": sum(fact.numbers["nulls"] for fact in facts)}, table=values)


def _numbers(batch: Batch, column: str) -> npt.NDArray[Any]:
    values = batch.column(column).drop_null()
    if pa.types.is_boolean(values.type):
        values = values.cast(pa.int8())
    found = values.to_numpy(zero_copy_only=False)
    return np.asarray(found, np.int64 if found.dtype.kind in "iu" else np.float64)


def _exact_sum(values: npt.NDArray[np.int64]) -> int:
    largest = max(abs(int(values.min())), abs(int(values.max())))
    return int(values.sum()) if largest * len(values) < 2**62 else sum(values.tolist())


def _ends(values: pa.Array | pa.ChunkedArray) -> pa.Table | None:
    found = pc.min_max(values)
    if not found["min"].is_valid:
        return None
    return pa.table({"value": pa.array([found["min"], found["max"]], values.type)})
