"""What is found out of a partition, once: facts that add up over batches and partitions, and can be kept.

A spec says what is wanted of which columns; given a batch it returns a fact, given facts in order it returns their sum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from weakfish.checks.expectations.conditions import Condition, considered
from weakfish.checks.expectations.kinds import Unsure
from weakfish.checks.expectations.source import Batch
from weakfish.checks.gx import EXAMPLES
from weakfish.engine.duckdb import hashes


@dataclass(frozen=True)
class Fact:
    """Numbers (JSON), a sorted or ascending array, and a small table; which of them there are, its spec knows.

    ``unsure`` in the numbers says why the engine does not know.
    """

    numbers: dict[str, Any]
    array: npt.NDArray[Any] | None = None
    table: pa.Table | None = None

    def sure(self) -> Fact:
        """This fact; raises `Unsure` when the engine does not know it."""
        if "unsure" in self.numbers:
            raise Unsure(self.numbers["unsure"])
        return self


class Spec(Protocol):
    """What is wanted of some columns."""

    @property
    def identity(self) -> str:
        """What the fact follows from, besides the rows."""
        ...

    @property
    def columns(self) -> Sequence[str]:
        """The columns that are read."""
        ...

    def find(self, batch: Batch) -> Fact:
        """The fact of a batch; raises `Unsure`."""
        ...

    def add(self, facts: Sequence[Fact]) -> Fact:
        """The fact of all rows together, in order."""
        ...


@dataclass(frozen=True)
class Rows:
    """Which rows are bad: their number, positions within the partition, and the first ones' values."""

    identity: str
    columns: Sequence[str]
    condition: Condition = field(repr=False, compare=False)

    def find(self, batch: Batch) -> Fact:
        """See `Spec.find`."""
        found = self.condition(batch)
        bad = np.flatnonzero(found.bad)
        first = pa.array(bad[:EXAMPLES])
        values = pa.table({f"c{n}": batch.column(name).take(first) for n, name in enumerate(self.columns)})
        numbers = {
            "considered": int(found.considered.sum()),
            "nulls": [batch.nulls(name) for name in self.columns],
        }
        return Fact(numbers, bad + batch.start, values)

    def add(self, facts: Sequence[Fact]) -> Fact:
        """See `Spec.add`."""
        numbers = {
            "considered": sum(fact.numbers["considered"] for fact in facts),
            "nulls": _added_up(facts, len(self.columns)),
        }
        tables = [fact.table for fact in facts if fact.table is not None]
        values = pa.concat_tables(tables).slice(0, EXAMPLES) if tables else None
        return Fact(numbers, joined(facts, np.int64), values)


@dataclass(frozen=True)
class Nulls:
    """How many values are missing."""

    column: str

    @property
    def identity(self) -> str:
        """See `Spec.identity`."""
        return f"nulls {self.column!r}"

    @property
    def columns(self) -> Sequence[str]:
        """See `Spec.columns`."""
        return [self.column]

    def find(self, batch: Batch) -> Fact:
        """See `Spec.find`."""
        return Fact({"nulls": batch.nulls(self.column)})

    def add(self, facts: Sequence[Fact]) -> Fact:
        """See `Spec.add`."""
        return Fact({"nulls": sum(fact.numbers["nulls"] for fact in facts)})


@dataclass(frozen=True)
class Hashes:
    """A hash of each row that ``ignore`` leaves, sorted: 8 bytes per row. Equal rows have the same."""

    columns: Sequence[str]
    ignore: str

    @property
    def identity(self) -> str:
        """See `Spec.identity`."""
        return f"hashes {list(self.columns)!r} {self.ignore!r}"

    def find(self, batch: Batch) -> Fact:
        """See `Spec.find`."""
        found, rows = self.of(batch)
        nulls = [batch.nulls(name) for name in self.columns]
        return Fact({"nulls": nulls, "considered": len(rows)}, found)

    def of(self, batch: Batch) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]:
        """The hashes of the rows that count, and the rows' positions within the batch."""
        rows = np.flatnonzero(considered(batch, self.columns, self.ignore))
        places = pa.array(rows)
        return hashes([comparable(batch.column(name).take(places)) for name in self.columns]), rows

    def add(self, facts: Sequence[Fact]) -> Fact:
        """See `Spec.add`."""
        found = joined(facts, np.uint64)
        found.sort()
        nulls = _added_up(facts, len(self.columns))
        return Fact({"nulls": nulls, "considered": sum(fact.numbers["considered"] for fact in facts)}, found)


def comparable(values: pa.Array) -> pa.Array:
    """``values`` so that those which pandas takes for equal are equal bit by bit."""
    return pc.add(values, 0.0).cast(values.type) if pa.types.is_floating(values.type) else values


def _added_up(facts: Sequence[Fact], columns: int) -> list[int]:
    return [sum(fact.numbers["nulls"][place] for fact in facts) for place in range(columns)]


def joined(facts: Sequence[Fact], kind: Any) -> npt.NDArray[Any]:
    """The arrays of facts, one after the other."""
    arrays = [fact.array for fact in facts if fact.array is not None and len(fact.array)]
    return np.concatenate(arrays) if arrays else np.array([], kind)
