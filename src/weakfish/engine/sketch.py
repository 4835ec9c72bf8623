"""Counts of numbers by bucket, which add over partitions: what quantiles and shares of a column are read from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

BITS = 12
"""Bits of mantissa at the finest: buckets are 1/4096 of their octave wide, integers up to 8192 have one each."""

BUCKETS = 128
"""How many buckets a sketch may fill."""

_MANTISSA = 52
_MAGNITUDE = np.int64(0x7FFF_FFFF_FFFF_FFFF)

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Sketch:
    """Counts by bucket.

    Attributes
    ----------
    bits
        Bits of mantissa that tell buckets apart.
    codes
        The buckets that hold something, ascending as the numbers do.
    counts
        How many numbers each holds.
    """

    bits: int = BITS
    codes: Ints = field(default_factory=lambda: np.empty(0, np.int64))
    counts: Ints = field(default_factory=lambda: np.empty(0, np.int64))

    @classmethod
    def of(cls, numbers: npt.NDArray[np.float64], bits: int = BITS) -> Sketch:
        """The sketch of some numbers, none of them NaN, no finer than ``bits``."""
        raw = (numbers + 0.0).view(np.int64)  # + 0.0: there is one zero
        magnitude = (raw & _MAGNITUDE) >> (_MANTISSA - bits)
        found = pc.value_counts(pa.array(np.where(raw < 0, ~magnitude, magnitude)))
        return _added(bits, *(part.to_numpy() for part in found.flatten()))._within_bounds()

    @classmethod
    def merged(cls, sketches: Iterable[Sketch]) -> Sketch:
        """The sketch of the numbers of all."""
        found = list(sketches) or [cls()]
        bits = min(sketch.bits for sketch in found)
        same = [sketch.at(bits) for sketch in found]
        codes, counts = (np.concatenate([getattr(sketch, of) for sketch in same]) for of in ("codes", "counts"))
        return _added(bits, codes, counts)._within_bounds()

    @property
    def total(self) -> int:
        """How many numbers there are."""
        return int(self.counts.sum())

    def edges(self, codes: Ints) -> npt.NDArray[np.float64]:
        """Where buckets begin: no number in a bucket is less."""
        magnitude = np.where(codes < 0, -codes, codes) << (_MANTISSA - self.bits)
        numbers = magnitude.view(np.float64)
        return np.where(codes < 0, -numbers, numbers)

    def below(self, numbers: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """About how many lie below each of ``numbers``, as if those in a bucket were spread evenly over it."""
        ends = np.stack([self.edges(self.codes), self.edges(self.codes + 1)], axis=1)
        counts = np.cumsum(self.counts)
        return np.interp(numbers, ends.ravel(), np.stack([counts - self.counts, counts], axis=1).ravel())

    def at(self, bits: int) -> Sketch:
        """The sketch at a resolution that is no finer than its own."""
        return self if bits == self.bits else _added(bits, self.codes >> (self.bits - bits), self.counts)

    def text(self) -> str:
        """The sketch in one line: its bits, then buckets as ``code:count``, each code as a step from the one before."""
        steps = np.diff(self.codes, prepend=0)
        pairs = zip(steps.tolist(), self.counts.tolist(), strict=True)
        return " ".join([str(self.bits), *(f"{step}:{count}" for step, count in pairs)])

    @classmethod
    def parse(cls, text: str) -> Sketch:
        """The sketch that `text` wrote."""
        bits, *pairs = text.split(" ")
        steps, counts = np.array([pair.split(":") for pair in pairs], np.int64).reshape(-1, 2).T
        return cls(int(bits), np.cumsum(steps), counts)

    def _within_bounds(self) -> Sketch:
        sketch = self
        while len(sketch.codes) > BUCKETS and sketch.bits:
            sketch = sketch.at(sketch.bits - 1)
        return sketch


def _added(bits: int, codes: Ints, counts: Ints) -> Sketch:
    """The sketch with counts of equal codes added."""
    places, where = np.unique(codes, return_inverse=True)
    return Sketch(bits, places, np.bincount(where, counts, len(places)).astype(np.int64))
