"""Shares of rows now against shares that were accepted: whether the difference is real, large, and how small one shows.

Counts go in; bounds come out, between which a share counts as unchanged.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from weakfish.checks import rates

STEPS = 40
"""Halvings in the search for a bound: more than a double resolves of a share."""

FLOOR = 1e-6
"""Shares nearer to 0 or 1 count as this in the PSI, which is infinite there."""


@dataclass(frozen=True)
class Rate:
    """How many of some rows; ``hits`` may be a sum of probabilities."""

    hits: float
    rows: int

    @property
    def share(self) -> float:
        """0 without rows."""
        return self.hits / self.rows if self.rows else 0.0


@dataclass(frozen=True)
class Bounds:
    """A share at or below ``low``, or at or above ``high``, is told of; None where no share on that side is."""

    low: float | None
    high: float | None

    def side(self, share: float, accepted: float) -> float | None:
        """The bound on the side of ``accepted`` to which ``share`` lies."""
        return self.low if share < accepted else self.high

    def text(self) -> str:
        """``below 4.1 % or above 13.2 %``, or why nothing shows."""
        sides = [f"below {percent(self.low)}"] if self.low is not None else []
        sides += [f"above {percent(self.high)}"] if self.high is not None else []
        return " or ".join(sides)


@dataclass(frozen=True)
class Limit:
    """What makes a difference worth telling: no chance, and large, by PSI or by the plain difference of shares.

    Attributes
    ----------
    chance
        The chance, two-sided, that rows of one and the same share differ so much.
    psi
        Population stability index of the rows with and without, from where on it is told of.
    difference
        Of the shares, from where on it is told of.
    """

    chance: float
    psi: float = 0.0
    difference: float = 0.0

    def tells(self, now: Rate, accepted: Rate) -> bool:
        """Whether the difference is told of."""
        if not now.rows or not accepted.rows:
            return False
        far = psi(now.share, accepted.share) >= self.psi and abs(now.share - accepted.share) >= self.difference
        return far and abs(distance(now, accepted)) >= deviations(self.chance)

    def bounds(self, rows: int, accepted: Rate) -> Bounds:
        """Between which shares of so many rows nothing is told of."""
        low, high = self._bound(rows, accepted, 0.0), self._bound(rows, accepted, 1.0)
        return Bounds(low, high)

    def _bound(self, rows: int, accepted: Rate, end: float) -> float | None:
        if not self.tells(Rate(end * rows, rows), accepted):
            return None
        quiet, told = accepted.share, end
        for _ in range(STEPS):
            middle = (quiet + told) / 2
            quiet, told = (quiet, middle) if self.tells(Rate(middle * rows, rows), accepted) else (middle, told)
        return round(told, 6)


def psi(now: float, accepted: float) -> float:
    """The population stability index of a share and its complement: Jeffreys' divergence of the two."""
    pairs = ((now, accepted), (1 - now, 1 - accepted))
    floored = [(max(one, FLOOR), max(other, FLOOR)) for one, other in pairs]
    return sum((one - other) * math.log(one / other) for one, other in floored)


def distance(now: Rate, accepted: Rate) -> float:
    """The difference of two shares in standard errors, two rows added to each side of both (Agresti and Caffo 2000),
    which keeps its promise with few rows and shares near 0."""
    pairs = [((rate.hits + 1) / (rate.rows + 2), rate.rows + 2) for rate in (now, accepted)]
    error = math.sqrt(sum(share * (1 - share) / rows for share, rows in pairs))
    return (pairs[0][0] - pairs[1][0]) / error


def deviations(chance: float) -> float:
    """The standard errors beyond which a normal variable lies, on either side, with this chance."""
    return NormalDist().inv_cdf(1 - chance / 2)


def percent(share: float | None) -> str:
    """A share as people read it."""
    return "nothing" if share is None else f"{share:.1%}".replace("%", " %")


NOISE = 0.999
"""The quantile of chance that a statistic has to pass."""

POWER = 0.95
"""How surely a shift is seen that a check says it detects."""

CERTAIN = NormalDist().inv_cdf(POWER)
"""The standard errors under its mean that a normal stays above in `POWER` of all cases."""

FEWEST = 10
"""How many rows a side needs for a comparison."""

SMOOTHING = 0.5
"""Rows that are added to every bin, so that an empty one has a share."""

Floats = npt.NDArray[np.float64]
Counts = Sequence[int] | npt.NDArray[np.int64]


@dataclass(frozen=True)
class Shift:
    """How far counts lie from accepted ones.

    Attributes
    ----------
    psi
        The population stability index.
    distance
        The Jensen-Shannon distance, in bits: 0 for the same shares, 1 for nothing in common.
    noise
        What PSI stays under in `NOISE` of all cases when nothing changed.
    rows, accepted
        How many there are on both sides.
    shares
        The accepted share of each bin.
    """

    psi: float
    distance: float
    noise: float
    rows: int
    accepted: int
    shares: Floats

    @property
    def may_exceed(self) -> bool:
        """Whether there are enough rows on both sides to say anything."""
        return min(self.rows, self.accepted) >= FEWEST

    def exceeds(self, threshold: float) -> bool:
        """Whether this is more than ``threshold`` and more than chance."""
        return self.may_exceed and self.psi > threshold and self.psi > self.noise

    def detectable(self, threshold: float) -> float:
        """The smallest true PSI that `exceeds` sees in `POWER` of all cases."""
        return detectable(self.rows, self.accepted, len(self.shares), threshold)


def shift(now: Counts, accepted: Counts) -> Shift:
    """Compare counts of the same bins; bins that are empty on both sides do not count.

    Either side may be empty: then nothing can be said, and PSI is 0.
    """
    from scipy.spatial.distance import jensenshannon  # type: ignore[import-untyped]

    both = np.array([now, accepted], np.float64)
    both = both[:, both.sum(axis=0) > 0]
    n, m = (int(side.sum()) for side in both)
    if both.shape[1] < 2 or not n or not m:
        return Shift(0.0, 0.0, 0.0, n, m, both[1] / max(1, m))
    q, p = (both + SMOOTHING) / (both + SMOOTHING).sum(axis=1, keepdims=True)
    index = float(((q - p) * np.log(q / p)).sum())
    with np.errstate(invalid="ignore"):  # of equal shares, rounding may leave the root of less than nothing
        distance = float(np.nan_to_num(jensenshannon(both[0], both[1], base=2)))
    return Shift(index, distance, noise(n, m, both.shape[1]), n, m, p)


def noise(rows: int, accepted: int, bins: int) -> float:
    """The `NOISE` quantile of PSI between two samples of one distribution."""
    from scipy.special import chdtri  # type: ignore[import-untyped]

    return float(chdtri(bins - 1, 1 - NOISE)) * (1 / rows + 1 / accepted)


def detectable(rows: int, accepted: int, bins: int, threshold: float) -> float:
    """The smallest true PSI that passes ``threshold`` and `noise` in `POWER` of all cases."""
    from scipy.special import chndtr, chndtrinc

    scale = 1 / rows + 1 / accepted
    limit = max(threshold, noise(rows, accepted, bins)) / scale
    if chndtr(limit, bins - 1, 0.0) < 1 - POWER:  # chance alone passes
        return 0.0
    if limit > 1e4:  # the noncentral chi2 is normal there, and the inverse no longer converges
        return _normal(limit, bins - 1) * scale
    return float(chndtrinc(limit, bins - 1, 1 - POWER)) * scale


def _normal(limit: float, freedom: int) -> float:
    """The noncentrality at which a normal of the chi2's mean and variance passes ``limit`` in `POWER` of all cases."""
    low, high = limit, 2 * limit
    while high - low > 1e-6 * limit:
        middle = (low + high) / 2
        passes = freedom + middle - CERTAIN * sqrt(2 * (freedom + 2 * middle)) >= limit
        low, high = (low, middle) if passes else (middle, high)
    return high


def deviations_statistics(shares: Floats, psi: float) -> float:
    """By how many standard deviations the mean of a normal moves when bins of these shares come to this PSI.

    For many bins that is the root of the PSI.
    """
    from scipy.special import ndtr, ndtri

    used = shares[shares > 0] / shares.sum()
    if len(used) < 2:
        return sqrt(psi)
    cuts = ndtri(np.cumsum(used)[:-1])

    def moved(by: float) -> float:
        there = np.diff(ndtr(cuts - by), prepend=0.0, append=1.0).clip(1e-300)
        return float(((there - used) * np.log(there / used)).sum())

    return _smallest(moved, psi, 40.0)


def share_below(share: float, psi: float) -> float:
    """The share that lies this PSI under ``share``; 0 where none does."""
    return max(0.0, share - _smallest(lambda by: _two(share, share - by), psi, share))


def share_above(share: float, psi: float) -> float:
    """The share that lies this PSI above ``share``; 1 where none does."""
    return min(1.0, share + _smallest(lambda by: _two(share, share + by), psi, 1 - share))


def _two(p: float, q: float) -> float:
    """The PSI between a share p and a share q, the rest being the other bin; infinite where a bin is empty."""
    if not 0 < p < 1 or not 0 < q < 1:
        return float("inf") if p != q else 0.0
    return rates.psi(q, p)


def _smallest(measure: Callable[[float], float], wanted: float, most: float) -> float:
    """Where a growing measure first reaches what is wanted, from 0 to ``most``."""
    low, high = 0.0, most
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if measure(middle) >= wanted else (middle, high)
    return high
