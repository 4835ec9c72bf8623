"""What the pictures of the page are drawn with: scales, ticks, names of columns, colours. Templates have the markup."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from weakfish.contracts.reports import Metric, PartitionReport

COLOURS = 9
"""Colours of the style sheet; further series begin again at the first."""


def linear(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    """Maps ``low..high`` to ``start..end``; values outside are drawn at the edge."""
    span = (high - low) or 1.0
    return lambda value: start + (min(max(value, low), high) - low) / span * (end - start)


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers within ``low..high``."""
    span = high - low
    if span <= 0:
        return [low]
    raw = span / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(i * step, 10) for i in range(first, last + 1)]


def place(value: float) -> str:
    """A coordinate."""
    return f"{value:.1f}".removesuffix(".0")


def columns(names: Sequence[str], left: float, step: float) -> list[tuple[float, str, bool]]:
    """Where names of partitions stand below their columns: as many as fit, and which of them fit on a phone."""
    widest = max(map(len, names), default=1)
    stride = max(1, -(-int(widest * 7.5 + 8) // max(int(step), 1)))
    phone = stride * max(1, -(-int(widest * 14 + 8) // max(int(step * stride), 1)))
    return [(left + step * (i + 0.5), names[i], i % phone == 0) for i in range(0, len(names), stride)]


def colour(place: int) -> int:
    """The number of a colour in the style sheet."""
    return place % COLOURS


@dataclass(frozen=True)
class Series:
    """A named line; ``colour`` is its number in the style sheet, the same for the same model in every chart."""

    name: str
    colour: int
    points: Sequence[tuple[float, float]]


def lowest(models: Sequence[tuple[str, int, Metric]]) -> float:
    """Where the axis of models' intervals begins: a little below all that is drawn."""
    values = [value for _, _, one in models for value in (one.value, one.minimum, *(one.interval or ()))]
    low: float = min([*(value for value in values if value is not None), 0.98])
    return max(0.0, low - 0.01)


def stacked(classes: Sequence[str], partitions: Sequence[PartitionReport]) -> list[str]:
    """What a stack of classes is made of: all of them, or the largest and what the others are together."""
    if len(classes) <= COLOURS:
        return list(classes)
    totals = {name: sum(part.covered * (part.mean.get(name) or 0.0) for part in partitions) for name in classes}
    most = sorted(classes, key=lambda name: -totals[name])[: COLOURS - 1]
    return [*(name for name in classes if name in most), f"{len(classes) - len(most)} others"]


def others(part: PartitionReport, classes: Sequence[str], shown: Sequence[str]) -> float:
    """The mean probability in a partition of all classes that a stack does not show."""
    return sum(part.mean.get(name) or 0.0 for name in classes if name not in shown)
