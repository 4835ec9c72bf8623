"""Learned against empirical accuracy of labeling functions: the dots, and the picture of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from markupsafe import Markup

from weakfish.evaluation.support import OF_CLASS
from weakfish.report.charts import COLOURS, WIDE
from weakfish.report.function_charts import LETTER, LETTERS, mark
from weakfish.report.functions import Page
from weakfish.report.svg import Scale, el, line, linear, picture, text, ticks
from weakfish.report.words import shorten

FAR, FEW, NAMED = 0.1, 20, 6
"""A function is far from the others from this distance on and with so many votes; so many are named."""


Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Dot:
    """A function's learned accuracy (``x``) against its accuracy on gold (``y``); ``far`` from what others have."""

    name: str
    x: float
    y: float
    votes: int
    place: int | None
    far: bool


def by_part(page: Page) -> dict[str, list[Dot]]:
    """By part of gold, the functions with both accuracies and votes enough; parts with less than three are left out."""
    found = {part: _dots(page, part) for part in page.parts}
    return {part: dots for part, dots in found.items() if len(dots) >= 3}


def lowest(parts: Iterable[list[Dot]]) -> tuple[float, float]:
    """From where axes begin on which all dots lie: a tenth below or at the lowest of each, at most 0.5."""
    dots = [dot for part in parts for dot in part]
    return _floor(min(dot.x for dot in dots)), _floor(min(dot.y for dot in dots))


def _floor(value: float) -> float:
    return min(math.floor((value - 0.01) * 10) / 10, 0.5) if value > 0.01 else 0.0


def _dots(page: Page, part: str) -> list[Dot]:
    known = [
        (row, row.function.weight, row.seen[part].accuracy, row.seen[part].votes or 0)
        for row in page.rows
        if part in row.seen
    ]
    both = [(row, x, y, votes) for row, x, y, votes in known if x is not None and y is not None and votes >= OF_CLASS]
    usual = median(y - x for _, x, y, _ in both) if both else 0.0
    by_distance = sorted((abs(y - x - usual), row.function.name) for row, x, y, votes in both if votes >= FEW)
    far = {name for distance, name in by_distance[-NAMED:] if distance >= FAR}
    many = len(page.labels.classes) > COLOURS
    return [
        Dot(row.function.name, x, y, votes, 0 if many else row.place, row.function.name in far)
        for row, x, y, votes in both
    ]


def scatter(title: str, dots: Sequence[Dot], low: tuple[float, float]) -> Markup:
    """Learned accuracy (x) against accuracy on gold (y), from ``low`` to 1; the diagonal is where they are equal."""
    left, right, top, bottom = 62.0, WIDE - 20.0, 14.0, 330.0
    x, y = linear(low[0], 1, left, right), linear(low[1], 1, bottom, top)
    start = max(low)
    drawn = [*_axes(x, y, low, (left, right, top, bottom)), line(x(start), y(start), right, top, "diagonal")]
    drawn += [mark(dot.place, x(dot.x), y(dot.y), _radius(dot), el("title", _says(dot))) for dot in dots]
    taken = [(x(dot.x) - 5, y(dot.y) - 5, x(dot.x) + 5, y(dot.y) + 5) for dot in dots]
    for dot in sorted((dot for dot in dots if dot.far), key=lambda dot: (dot.y - dot.x, dot.name)):
        if box := _free(dot, x(dot.x), y(dot.y), taken, (left, right, top, bottom)):
            taken.append(box)
            drawn += _label(dot.name, box, x(dot.x), y(dot.y))
    return picture(title, WIDE, 384, *drawn)


def _axes(x: Scale, y: Scale, low: tuple[float, float], box: Box) -> list[Markup]:
    left, right, top, bottom = box
    drawn: list[Markup] = []
    for tick in ticks(low[1], 1.0, 5):
        drawn += [line(left, y(tick), right, y(tick), "grid"), text(left - 8, y(tick) + 4, f"{tick:g}", "axis", "end")]
    for tick in ticks(low[0], 1.0, 6):
        drawn += [
            line(x(tick), top, x(tick), bottom, "grid"),
            text(x(tick), bottom + 20, f"{tick:g}", "axis", "middle"),
        ]
    drawn.append(text((left + right) / 2, bottom + 46, "learned accuracy", "axis name", "middle"))
    turned = f"translate(16 {(top + bottom) / 2:g}) rotate(-90)"
    return [*drawn, el("text", "accuracy on gold", transform=turned, text_anchor="middle", class_="axis name")]


def _radius(dot: Dot) -> float:
    """Larger with more votes: 3 to 8 units."""
    return min(3 + math.log10(max(dot.votes, 1)), 8.0)


def _says(dot: Dot) -> str:
    return f"{dot.name}: learned {dot.x:.3f}, on gold {dot.y:.3f} of {dot.votes:,} vote{'s' if dot.votes != 1 else ''}"


def _free(dot: Dot, x: float, y: float, taken: Sequence[Box], within: Box) -> Box | None:
    """A place for a dot's name beside, above or below it that nothing else takes."""
    left, right, top, bottom = within
    width = LETTER * min(len(dot.name), LETTERS)
    places = [(x + a, y + b) for b in (-6, -18, 6, -30, 18, 30) for a in (9, -9 - width)]
    boxes = [(a, b, a + width, b + 12) for a, b in places]
    inside = [box for box in boxes if left < box[0] and box[2] < right and top < box[1] and box[3] < bottom]
    return next((box for box in inside if not any(_overlap(box, other) for other in taken)), None)


def _label(name: str, box: Box, x: float, y: float) -> list[Markup]:
    """A name in its box, and a line to the dot at (x, y) where the two are not beside each other."""
    left, top, right, bottom = box
    leader = [line(x, y, min(max(x, left), right), (top + bottom) / 2, "leader minor")] if not top < y < bottom else []
    return [*leader, text(left, bottom - 3, shorten(name, LETTERS), "name minor")]


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
