"""The least value of a smooth convex function, found on the same way on every processor.

SciPy's L-BFGS-B leaves its scalar products to BLAS, which adds in an order that it chooses by the processor. Where a
fit ends before it has settled, the last bit of a product becomes a thousandth of a probability. Here each step is
NumPy's own sums and products, which IEEE 754 rounds alike everywhere, so the same function takes the same steps. The
method is L-BFGS, as Nocedal and Wright describe it (Numerical Optimization, 2006, algorithm 7.4), with Wolfe's
conditions for the length of a step, found by bisection.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

PAIRS = 10
"""Steps whose change of the gradient is remembered."""

LESS, FLATTER = 1e-4, 0.9
"""A step is taken when the value falls by that much of what the slope promised, and the slope by that much."""

TRIES = 30
"""Lengths of a step that are tried."""

Function = Callable[[Floats], tuple[float, Floats]]

Pairs = deque[tuple[Floats, Floats, float]]
"""Steps, how the gradient changed on each, and the scalar product of the two."""


def least(function: Function, start: Floats, gradient: float, steps: int) -> Floats:
    """Where a function of numbers (n,) is least, which returns its value and its gradient there, (n,).

    Ends when no number of the gradient is larger than ``gradient``, after so many ``steps``, or when no step lessens
    the value.
    """
    at, (value, slopes) = start, function(start)
    pairs: Pairs = deque(maxlen=PAIRS)
    for _ in range(steps):
        if np.abs(slopes).max() <= gradient:
            break
        way = _way(slopes, pairs)
        found = _stepped(function, at, value, slopes, way, 1.0 if pairs else min(1.0, dot(slopes, slopes) ** -0.5))
        if found is None:
            break
        moved, value, new = found
        step, change = moved - at, new - slopes
        at, slopes = moved, new
        if (bend := dot(step, change)) > 0:
            pairs.append((step, change, bend))
    return at


def dot(one: Floats, other: Floats) -> float:
    """The scalar product."""
    return float((one * other).sum())


def _way(slopes: Floats, pairs: Pairs) -> Floats:
    """The direction of a step: against the gradient, as far as earlier steps tell how that changes."""
    way, shares = -slopes, list[float]()
    for step, change, bend in reversed(pairs):
        shares.append(dot(step, way) / bend)
        way = way - shares[-1] * change
    if pairs:
        _, change, bend = pairs[-1]
        way = way * (bend / dot(change, change))
    for (step, change, bend), share in zip(pairs, reversed(shares), strict=True):
        way = way + (share - dot(change, way) / bend) * step
    return way


def _stepped(
    function: Function, at: Floats, value: float, slopes: Floats, way: Floats, length: float
) -> tuple[Floats, float, Floats] | None:
    """Where a step leads that lessens the value enough and is long enough, with value and gradient there."""
    promised, shortest, longest, best = dot(slopes, way), 0.0, np.inf, None
    for _ in range(TRIES):
        moved = at + length * way
        found, new = function(moved)
        if not found <= value + LESS * length * promised:
            longest = length
        elif dot(new, way) < FLATTER * promised:
            shortest, best = length, (moved, found, new)
        else:
            return moved, found, new
        length = 2 * shortest if longest == np.inf else (shortest + longest) / 2
    return best
