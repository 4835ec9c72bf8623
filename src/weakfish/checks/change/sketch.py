"""Numbers as a sketch: how many fall into each bucket of a fixed log-linear grid; counts are exact, and they add.

A bucket is the sign, the exponent and the first bits of the mantissa of a float64, so that its width is a share of its
values and no two sides have to agree on bins. A sketch begins with `BITS` bits of mantissa and halves its resolution
as often as it takes to stay within `BUCKETS` buckets, as UDDSketch (Epicoco et al. 2020) and the exponential
histograms of OpenTelemetry do. The resolution that results depends on the numbers alone, not on their order or on how
they were split: merged sketches equal the sketch of all.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

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

    bits: int
    codes: Ints
    counts: Ints

    @classmethod
    def empty(cls) -> Sketch:
        """The sketch of no numbers."""
        return cls(BITS, np.empty(0, np.int64), np.empty(0, np.int64))

    @classmethod
    def of(cls, numbers: npt.NDArray[np.float64], bits: int = BITS) -> Sketch:
        """The sketch of some numbers, none of them NaN, no finer than ``bits``."""
        raw = (numbers + 0.0).view(np.int64)  # + 0.0: there is one zero
        magnitude = (raw & _MAGNITUDE) >> (_MANTISSA - bits)
        found = pc.value_counts(pa.array(np.where(raw < 0, ~magnitude, magnitude)))
        codes, counts = (part.to_numpy() for part in found.flatten())
        order = np.argsort(codes)
        return cls(bits, codes[order], counts[order])._within_bounds()

    @classmethod
    def merged(cls, sketches: Iterable[Sketch]) -> Sketch:
        """The sketch of the numbers of all."""
        found = list(sketches)
        if not found:
            return cls.empty()
        bits = min(sketch.bits for sketch in found)
        same = [sketch.at(bits) for sketch in found]
        codes = np.concatenate([sketch.codes for sketch in same])
        counts = np.concatenate([sketch.counts for sketch in same])
        return _added(bits, codes, counts)._within_bounds()

    @property
    def total(self) -> int:
        """How many numbers there are."""
        return int(self.counts.sum())

    def at(self, bits: int) -> Sketch:
        """The sketch at a resolution that is no finer than its own."""
        return self if bits == self.bits else _added(bits, self.codes >> (self.bits - bits), self.counts)

    def edges(self, codes: Ints) -> npt.NDArray[np.float64]:
        """The end of each bucket that lies nearer to zero."""
        shift = _MANTISSA - self.bits
        negative = codes < 0
        magnitude = (np.where(negative, ~codes, codes) << shift).view(np.float64)
        return np.where(negative, -magnitude, magnitude)

    def text(self) -> str:
        """The sketch in one line: its bits, then buckets as ``code:count``, each code as a step from the one before."""
        steps = np.diff(self.codes, prepend=0)
        pairs = zip(steps.tolist(), self.counts.tolist(), strict=True)
        return " ".join([str(self.bits), *(f"{step}:{count}" for step, count in pairs)])

    @classmethod
    def parse(cls, text: str) -> Sketch:
        """The sketch that `text` wrote."""
        bits, *pairs = text.split(" ")
        numbers = [pair.split(":") for pair in pairs]
        steps = np.array([int(step) for step, _ in numbers], np.int64)
        return cls(
            int(bits), np.cumsum(steps, dtype=np.int64), np.array([int(count) for _, count in numbers], np.int64)
        )

    def _within_bounds(self) -> Sketch:
        sketch = self
        while len(sketch.codes) > BUCKETS and sketch.bits:
            sketch = sketch.at(sketch.bits - 1)
        return sketch


def _added(bits: int, codes: Ints, counts: Ints) -> Sketch:
    """The sketch with counts of equal codes added."""
    places, where = np.unique(codes, return_inverse=True)
    sums = np.zeros(len(places), np.int64)
    np.add.at(sums, where, counts)
    return Sketch(bits, places, sums)
