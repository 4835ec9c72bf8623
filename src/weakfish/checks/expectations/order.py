"""Values by their rank in a table whose partitions are sorted one by one: no partition is read, nothing is merged."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from weakfish.checks.expectations.kinds import Unsure

Numbers = npt.NDArray[Any]


def ranked(parts: Sequence[Numbers], rank: int) -> float | int:
    """The value that has ``rank`` values before it, of int64 or float64 arrays that are sorted, without NaN."""
    filled = [part for part in parts if len(part)]
    low = min(_key(part[0]) for part in filled)
    high = max(_key(part[-1]) for part in filled)
    while low < high:
        middle = (low + high) // 2
        value = _value(middle, filled[0].dtype)
        if sum(int(np.searchsorted(part, value, side="right")) for part in filled) > rank:
            high = middle
        else:
            low = middle + 1
    found: float | int = _value(low, filled[0].dtype).item()
    return found


def quantile(parts: Sequence[Numbers], share: float, method: str) -> float | int:
    """The quantile as NumPy has it, for its methods linear, lower, higher, midpoint and nearest."""
    place = (sum(map(len, parts)) - 1) * (share * 100.0 / 100)  # as pandas asks NumPy, by percents
    low, high = math.floor(place), math.ceil(place)
    if method == "nearest":
        return ranked(parts, int(np.around(place)))
    if method in ("lower", "higher"):
        return ranked(parts, low if method == "lower" else high)
    ends = float(ranked(parts, low)), float(ranked(parts, high))
    if method not in ("midpoint", "linear"):
        raise Unsure(f"quantiles by {method!r}")
    between = place - low if method == "linear" else (high - low) / 2
    apart = ends[1] - ends[0]
    return ends[0] + apart * between if between < 0.5 else ends[1] - apart * (1 - between)


def _key(value: Any) -> int:
    """A whole number in the order of the values."""
    if value.dtype.kind == "i":
        return int(value)
    bits = int(np.float64(value).view(np.int64))
    return bits if bits >= 0 else -(2**63) - bits


def _value(key: int, kind: np.dtype[Any]) -> Any:
    if kind.kind == "i":
        return np.int64(key)
    bits = key if key >= 0 else -(2**63) - key
    return np.int64(bits).view(np.float64)
