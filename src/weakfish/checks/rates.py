"""Shares of rows now against shares that were accepted: whether the difference is real, large, and how small one shows.

Counts go in; bounds come out, between which a share counts as unchanged.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

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
