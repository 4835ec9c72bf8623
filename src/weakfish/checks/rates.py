"""Shares and distributions now against accepted ones: whether a difference is real, large, and how small one shows."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from weakfish.contracts.figures import percent
from weakfish.engine.profile import ColumnProfile
from weakfish.engine.sketch import Ints, Sketch

FLOOR = 1e-6
"""Shares nearer to 0 or 1 count as this in the PSI, which is infinite there."""


class Rate(NamedTuple):
    """How many of some rows; ``hits`` may be a sum of probabilities."""

    hits: float
    rows: int

    @property
    def share(self) -> float:
        """0 without rows."""
        return self.hits / self.rows if self.rows else 0.0


class Bounds(NamedTuple):
    """A share at or below ``low``, or at or above ``high``, is reported; None where no share on that side is."""

    low: float | None
    high: float | None

    def text(self) -> str:
        """``below 4.1 % or above 13.2 %``; empty where nothing shows."""
        ends = (("below", self.low), ("above", self.high))
        return " or ".join(f"{side} {percent(end)}" for side, end in ends if end is not None)


@dataclass(frozen=True)
class Limit:
    """What makes a difference worth reporting: no chance, and large, by PSI or by the plain difference of shares.

    Attributes
    ----------
    chance
        The chance, two-sided, that rows of one and the same share differ so much.
    psi
        The least population stability index, of the rows with and without, that is reported.
    difference
        The least difference of the shares that is reported.
    """

    chance: float
    psi: float = 0.0
    difference: float = 0.0

    def tells(self, now: Rate, accepted: Rate) -> bool:
        """Whether the difference is reported."""
        if not now.rows or not accepted.rows:
            return False
        far = psi(now.share, accepted.share) >= self.psi and abs(now.share - accepted.share) >= self.difference
        return far and abs(distance(now, accepted)) >= deviations(self.chance)

    def bounds(self, rows: int, accepted: Rate) -> Bounds:
        """Between which shares of so many rows nothing is reported."""

        def told(share: float) -> bool:
            return self.tells(Rate(share * rows, rows), accepted)

        # 40 halvings are more than a double resolves of a share
        ends = [round(_boundary(told, accepted.share, end, 40), 6) if told(end) else None for end in (0.0, 1.0)]
        return Bounds(*ends)


def _boundary(passes: Callable[[float], bool], fails: float, at: float, steps: int) -> float:
    """Where a condition begins to hold between a number at which it fails and one at which it holds, by bisection."""
    for _ in range(steps):
        middle = (fails + at) / 2
        fails, at = (fails, middle) if passes(middle) else (middle, at)
    return at


def psi(now: float, accepted: float) -> float:
    """The population stability index of a share and its complement: Jeffreys' divergence of the two."""
    pairs = ((now, accepted), (1 - now, 1 - accepted))
    floored = [(max(one, FLOOR), max(other, FLOOR)) for one, other in pairs]
    return sum((one - other) * math.log(one / other) for one, other in floored)


def distance(now: Rate, accepted: Rate) -> float:
    """The difference of two shares in standard errors, two rows added to each side of both (Agresti and Caffo 2000),
    which keeps its promise with few rows and shares near 0."""
    pairs = [((rate.hits + 1) / (rate.rows + 2), rate.rows + 2) for rate in (now, accepted)]
    error = math.sqrt(sum(max(share * (1 - share), 0.0) / rows for share, rows in pairs))
    return (pairs[0][0] - pairs[1][0]) / error


def deviations(chance: float) -> float:
    """The standard errors beyond which a normal variable lies, on either side, with this chance."""
    return NormalDist().inv_cdf(1 - chance / 2)


def rounded(value: float) -> float:
    """Six significant digits: what differs beyond them is how sums were formed."""
    return float(f"{value:.6g}")


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
    shares: npt.NDArray[np.float64]

    @property
    def may_exceed(self) -> bool:
        """Whether there are enough rows on both sides to say anything."""
        return min(self.rows, self.accepted) >= FEWEST

    def exceeds(self, threshold: float) -> bool:
        """Whether this is more than ``threshold`` and more than chance."""
        return self.may_exceed and self.psi > threshold and self.psi > self.noise

    def detectable(self, threshold: float) -> float:
        """The smallest true PSI that `exceeds` sees in `POWER` of all cases."""
        from scipy.special import chndtr, chndtrinc  # type: ignore[import-untyped]

        freedom, scale = len(self.shares) - 1, 1 / self.rows + 1 / self.accepted
        limit = max(threshold, noise(self.rows, self.accepted, freedom + 1)) / scale
        if chndtr(limit, freedom, 0.0) < 1 - POWER:  # chance alone passes
            return 0.0
        if limit <= 1e4:
            return float(chndtrinc(limit, freedom, 1 - POWER)) * scale

        # The noncentral chi2 is normal there, and the inverse no longer converges.
        def passes(noncentrality: float) -> bool:
            return freedom + noncentrality - CERTAIN * math.sqrt(2 * (freedom + 2 * noncentrality)) >= limit

        return _boundary(passes, limit, 2 * limit, 20) * scale


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
    from scipy.special import chdtri

    return float(chdtri(bins - 1, 1 - NOISE)) * (1 / rows + 1 / accepted)


def moved_mean(shares: npt.NDArray[np.float64], psi: float) -> float:
    """By how many standard deviations the mean of a normal moves when bins of these shares come to this PSI.

    For many bins that is the root of the PSI.
    """
    from scipy.special import ndtr, ndtri

    used = shares[shares > 0] / shares.sum()
    if len(used) < 2:
        return math.sqrt(psi)
    cuts = ndtri(np.cumsum(used)[:-1])

    def passes(by: float) -> bool:
        there = np.diff(ndtr(cuts - by), prepend=0.0, append=1.0).clip(1e-300)
        return float(((there - used) * np.log(there / used)).sum()) >= psi

    return _boundary(passes, 0.0, 40.0, 60)


def shares_apart(share: float, wanted: float) -> tuple[float, float]:
    """The shares that lie this PSI below and above a share; 0 and 1 where none does."""

    def passes(other: float) -> bool:
        inside = 0 < share < 1 and 0 < other < 1
        return psi(other, share) >= wanted if inside else other != share or wanted <= 0

    below = _boundary(lambda by: passes(share - by), 0.0, share, 60)
    above = _boundary(lambda by: passes(share + by), 0.0, 1 - share, 60)
    return max(0.0, share - below), min(1.0, share + above)


BINS = 10
"""Into how many bins of about equal accepted shares numbers are cut, where rows suffice."""

ROWS_IN_A_BIN = 10
"""How many rows a bin of numbers should have on the side that has fewer: with less, PSI is not what theory says."""

ROWS_OF_A_CATEGORY = 5
"""Categories of which fewer rows are expected count together."""

_MEASURED = {"number": "values", "distance": "hours from the row's time", "text": "lengths", "list": "lengths"}


class Bins(NamedTuple):
    """The rows of two columns by common bins; ``of`` says what the bins are, and nulls are the last of them."""

    now: Ints
    accepted: Ints
    of: str


NEAR = 0.001
"""By this part of its range a share may move and be where it was."""


def bins_of(now: ColumnProfile, accepted: ColumnProfile) -> Bins | None:
    """Cut two columns by what both have: categories, else numbers, hours or lengths; None where that is nothing.

    Shares, which all lie between 0 and 1, count as near the accepted ones as a move by `NEAR` of their range allows:
    a label model that is fitted again moves probabilities by little, and those near 0 by many powers of ten.
    """
    if now.categories is not None and accepted.categories is not None:
        sides, of = _by_category(now, accepted), "categories"
    elif now.sketch is not None and accepted.sketch is not None:
        sides = _by_quantile(now.sketch, accepted.sketch, _extent_of_shares(now, accepted))
        of = _MEASURED[accepted.kind]
    else:
        return None
    return Bins(np.append(sides[0], now.nulls), np.append(sides[1], accepted.nulls), of)


def _extent_of_shares(now: ColumnProfile, accepted: ColumnProfile) -> tuple[float, float] | None:
    """The accepted extremes of a column of shares; None of other columns."""
    low, high = accepted.low, accepted.high
    if accepted.type not in ("double", "float") or low is None or high is None or low < 0 or high > 1:
        return None
    return (low, high) if (now.low or 0) >= 0 and (now.high or 0) <= 1 else None


def _by_category(now: ColumnProfile, accepted: ColumnProfile) -> list[Ints]:
    """Categories that are frequent enough each for itself, those that are new together, the rest together."""
    theirs = accepted.frequent
    fewest = ROWS_OF_A_CATEGORY * accepted.valued / max(1, min(now.valued, accepted.valued))
    own = [name for name, count in theirs.items() if count >= fewest]
    found = []
    for column in (now, accepted):
        alone = [(column.categories or {}).get(name, 0) for name in own]
        new = sum(count for name, count in column.frequent.items() if name in now.frequent and name not in theirs)
        found.append(np.array([*alone, column.valued - sum(alone) - new, new], np.int64))
    return found


def _by_quantile(now: Sketch, accepted: Sketch, extent: tuple[float, float] | None = None) -> list[Ints]:
    """Bins of about equal accepted shares; a bucket that holds as much alone is a bin of its own.

    Within ``extent``, numbers may lie on the other side of an edge that is near: as many do as brings both sides
    closest to each other.
    """
    bits = min(now.bits, accepted.bits)
    ours, theirs = now.at(bits), accepted.at(bits)
    if not theirs.total or not ours.total:
        return [np.array([ours.total]), np.array([theirs.total])]
    count = max(2, min(BINS, min(ours.total, theirs.total) // ROWS_IN_A_BIN))
    starts = _starts(theirs, theirs.total / count)
    near = NEAR * (extent[1] - extent[0]) if extent else 0.0
    if extent and near:
        # What is near the upper end is in a bucket with it, however wide that is: there buckets are widest.
        top = Sketch.of(np.array([extent[1] - near]), bits).codes[0]
        starts = np.unique(np.minimum(starts, top))
        edges = theirs.edges(starts)
        fewest, most = ours.below(edges - near), ours.below(edges + near)
        before = np.append(0, np.cumsum(theirs.counts))[np.searchsorted(theirs.codes, starts)]
        cut = np.rint(np.clip(before * (ours.total / theirs.total), fewest, most)).astype(np.int64)
        return [np.diff(cut, prepend=0, append=ours.total), np.diff(before, prepend=0, append=theirs.total)]
    return [
        np.bincount(np.searchsorted(starts, of.codes, side="right"), of.counts, len(starts) + 1).astype(np.int64)
        for of in (ours, theirs)
    ]


def _starts(sketch: Sketch, target: float) -> Ints:
    """The first code of each bin but the first, which begins before all.

    What lies beside a bucket that is a bin of its own belongs to the neighbour on that side; where there is none, on
    the outside or between two such buckets, to a bin that is empty so far.
    """
    starts: list[int] = []
    runs: list[int] = []
    """Rows of the bins of several buckets since the last bucket of its own."""

    def join_last() -> None:
        """What is left over goes to the bin before it when it is less than half a bin."""
        if len(runs) > 1 and runs[-1] < target / 2:
            starts.pop()

    for code, count in zip(sketch.codes.tolist(), sketch.counts.tolist(), strict=True):
        if count >= target:
            join_last()
            starts += [code, code + 1]
            runs.clear()
        elif runs and runs[-1] < target:
            runs[-1] += count
        else:
            starts += [code] if runs else []
            runs.append(count)
    join_last()
    return np.unique(np.array(starts, np.int64))
