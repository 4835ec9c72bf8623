"""Small pictures of a check: its trend as a line, and its value beside its limit as a bar. Data in, markup out."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from weakfish.report.svg import Scale, el, line, linear, path, picture, rect, text
from weakfish.report.trends import Point, Trend

LAST, LAST_SMALL = 60, 36
"""Points that a trend goes back, at most: large, and in a row of a table."""

TALL, LONG = 84, 340
LOW, THIN = 20, 96


def trend(title: str, shown: Trend) -> Markup:
    """A trend with its extremes, its first and last name, and its limit as a dashed line; bad points stand out."""
    points = shown.points[-LAST:]
    left, right, top, bottom = 4.0, LONG - 76.0, 8.0, TALL - 24.0
    x, y = linear(0, max(len(points) - 1, 1), left, right), _height(points, shown.limit, bottom, top)
    drawn = [line(left, bottom, right, bottom, "base")]
    if shown.limit is not None:
        drawn.append(line(left, y(shown.limit), right, y(shown.limit), "limit"))
    drawn.append(path([(x(place), y(point.value)) for place, point in enumerate(points)], "line s1 solid"))
    for place, point in enumerate(points):
        says = f"{point.name}: {shown.say(point.value)}{', does not hold' if point.bad else ''}"
        class_ = "point bad" if point.bad else "point"
        drawn.append(el("circle", el("title", says), cx=x(place), cy=y(point.value), r=3, class_=class_))
    last = points[-1]
    drawn.append(text(right + 10, _beside(y(last.value)), shown.say(last.value), "value"))
    if shown.limit is not None and abs(y(shown.limit) - y(last.value)) > 14:
        drawn.append(text(right + 10, _beside(y(shown.limit)), f"limit {shown.say(shown.limit)}", "axis"))
    drawn.append(text(left, TALL - 6, points[0].name, "axis"))
    if len(points) > 1:
        drawn.append(text(right, TALL - 6, last.name, "axis", "end"))
    return picture(f"{title}, {shown.sentence}", LONG, TALL, *drawn, class_="spark large")


def small(title: str, shown: Trend) -> Markup:
    """A trend for a row of a table: a line, bad points on it, and the limit."""
    points = shown.points[-LAST_SMALL:]
    x, y = linear(0, max(len(points) - 1, 1), 3, THIN - 3), _height(points, shown.limit, LOW - 3, 3)
    drawn = [] if shown.limit is None else [line(0, y(shown.limit), THIN, y(shown.limit), "limit")]
    drawn.append(path([(x(place), y(point.value)) for place, point in enumerate(points)], "line"))
    alone = len(points) == 1
    bad = [(x(place), y(point.value)) for place, point in enumerate(points) if point.bad]
    drawn += [_marks(bad, "marks bad")] if bad else [_marks([(x(0), y(points[0].value))], "marks")] if alone else []
    label = f"{title}, {shown.sentence}"
    # The name alone says it: a title as well would double the bytes of a page with hundreds of these.
    return el("svg", *drawn, viewBox=f"0 0 {THIN} {LOW}", role="img", aria_label=label, class_="spark")


def against(value: float, limit: float, most: float, bad: bool) -> Markup:
    """A value as a bar up to ``most``, and a tick at its limit; beside the number, so hidden from screen readers."""
    x = linear(0, max(most, 2 * limit), 0, 120)
    parts = rect(0, 2, 120, 6, "track"), rect(0, 2, x(value), 6, f"fill {'warned' if bad else ''}".strip())
    tick = line(x(limit), 0, x(limit), 10, "tick")
    return el("svg", *parts, tick, viewBox="0 0 120 10", preserveAspectRatio="none", class_="bar", aria_hidden="true")


def _marks(points: Sequence[tuple[float, float]], class_: str) -> Markup:
    """Dots as one path of lines without length, whose round ends show: a tenth of the bytes of as many circles."""
    return el("path", d="".join(f"M{x:.1f} {y:.1f}h0" for x, y in points), class_=class_)


def _height(points: Sequence[Point], limit: float | None, bottom: float, top: float) -> Scale:
    """From zero, or from the lowest value where zero is far off, to the highest; the limit is within."""
    values = [point.value for point in points] + ([] if limit is None else [limit])
    low, high = min(values), max(values)
    if low >= 0 and (low < high / 2 or low == high):
        low = 0.0
    return linear(low, high if high > low else low + 1, bottom, top)


def _beside(y: float) -> float:
    """The baseline of a text beside a point, within the picture."""
    return min(max(y + 4, 12), TALL - 24)
