"""Exponentials, logarithms and sums that round the same on every processor.

``np.exp`` and ``np.log`` choose their code by the processor and differ in the last bit between AVX2 and AVX-512; BLAS
chooses the order in which it adds. Here is only what IEEE 754 rounds correctly everywhere: sums, products, quotients,
roots, and scaling by powers of two, one NumPy call each, so that no compiler fuses a product with a sum. The formulas
are those of fdlibm (Sun Microsystems, 1993), whose errors are below one unit in the last place.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

BLOCK = 1 << 13
"""Values that are computed together."""

_PER_LN2 = float.fromhex("0x1.71547652b82fep+0")
_LN2_HIGH, _LN2_LOW = float.fromhex("0x1.62e42feep-1"), float.fromhex("0x1.a39ef35793c76p-33")
"""The logarithm of 2: its first 33 bits, whose product with an exponent is exact, and the rest."""

_EXP = tuple(
    map(
        float.fromhex,
        (
            "0x1.555555555553ep-3",
            "-0x1.6c16c16bebd93p-9",
            "0x1.1566aaf25de2cp-14",
            "-0x1.bbd41c5d26bf1p-20",
            "0x1.6376972bea4d0p-25",
        ),
    )
)
_LOG = tuple(
    map(
        float.fromhex,
        (
            "0x1.5555555555593p-1",
            "0x1.999999997fa04p-2",
            "0x1.2492494229359p-2",
            "0x1.c71c51d8e78afp-3",
            "0x1.7466496cb03dep-3",
            "0x1.39a09d078c69fp-3",
            "0x1.2f112df3e5244p-3",
        ),
    )
)
_LEAST, _MOST = -746.0, 710.0
"""Beyond these an exponential is 0, or infinite."""

_HALF_ROOT = float.fromhex("0x1.6a09e667f3bcdp-1")
"""The root of 1/2."""


def _polynomial(values: Floats, *coefficients: float) -> Floats:
    """``c[0] + values * (c[1] + values * (c[2] + ...))``."""
    *others, last = coefficients
    return reduce(lambda found, each: each + values * found, reversed(others), np.full_like(values, last))


def exp(values: npt.ArrayLike) -> Floats:
    """``e`` to the power of each value, within one unit in the last place."""
    return _in_blocks(_exp, values)


def log(values: npt.ArrayLike) -> Floats:
    """The natural logarithm of each value, within one unit in the last place: minus infinity of 0, NaN below."""
    return _in_blocks(_log, values)


def product(left: npt.ArrayLike, right: npt.ArrayLike) -> Floats:
    """``left @ right``, (rows, numbers) by (numbers, columns), added in the order of the numbers."""
    rows, factors = np.asarray(left, np.float64), np.asarray(right, np.float64)
    found = np.zeros((len(rows), factors.shape[1]))
    step = max(1, 4 * BLOCK // max(1, *factors.shape))
    for start in range(0, len(rows), step):
        columns = np.ascontiguousarray(rows[start : start + step].T)
        total = np.zeros((factors.shape[1], columns.shape[1]))
        for column, factor in zip(columns, factors, strict=True):
            total += factor[:, None] * column
        found[start : start + step] = total.T
    return found


def rounded(values: Floats, bits: int) -> Floats:
    """Values to so many bits each, as T. J. Dekker splits them.

    The product of values of 24 and 29 bits is exact, so a sum of such products is the same whether a processor rounds
    each product or fuses it with the sum.
    """
    scaled = values * (2.0 ** (53 - bits) + 1)
    return scaled - (scaled - values)


def power_of_two(values: Floats, doublings: int) -> Floats:
    """Values to the power of 2 to the ``doublings``."""
    return reduce(lambda found, _: found * found, range(doublings), values)


def sums_by_row(values: Floats, ends: npt.NDArray[np.integer]) -> Floats:
    """Sums of consecutive values (values, ...), row by row, which lie from ``ends[row]`` to ``ends[row + 1]``."""
    from scipy.sparse import csr_array  # type: ignore[import-untyped]

    # SciPy adds in order; where it fuses a factor of 1 with a sum, that rounds as the sum alone
    ones = csr_array((np.ones(len(values)), np.arange(len(values)), ends), shape=(len(ends) - 1, len(values)))
    return np.asarray(ones @ values)


def _in_blocks(function: Callable[[Floats], Floats], values: npt.ArrayLike) -> Floats:
    """What a function makes of each value; few at once, so that what it computes on the way stays in the cache."""
    given = np.asarray(values, np.float64)
    if given.size <= BLOCK:
        return function(given)
    flat, found = given.reshape(-1), np.empty(given.size)
    for start in range(0, given.size, BLOCK):
        found[start : start + BLOCK] = function(flat[start : start + BLOCK])
    return found.reshape(given.shape)


def _exp(values: Floats) -> Floats:
    given = np.clip(values, _LEAST, _MOST)
    steps = np.rint(given * _PER_LN2)
    high, low = given - steps * _LN2_HIGH, steps * _LN2_LOW
    rest = high - low
    square = rest * rest
    bent = rest - square * _polynomial(square, *_EXP)
    found = 1.0 - ((low - (rest * bent) / (2.0 - bent)) - high)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        return np.asarray(np.ldexp(found, steps.astype(np.int32)))


def _log(given: Floats) -> Floats:
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        part, power = np.frexp(given)
        small = part < _HALF_ROOT
        rest = np.where(small, part + part, part) - 1.0
        steps = (power - small).astype(np.float64)
        ratio = rest / (2.0 + rest)
        square = ratio * ratio
        half, series = 0.5 * rest * rest, square * _polynomial(square, *_LOG)
        found = steps * _LN2_HIGH - ((half - (ratio * (half + series) + steps * _LN2_LOW)) - rest)
    if not (inside := (given > 0) & (given < np.inf)).all():
        found = np.where(inside, found, np.where(given == 0, -np.inf, np.where(given < 0, np.nan, given)))
    return found
