"""The pictures of the page, as SVG in escaped markup; colours and sizes of text are left to the style sheet."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from weakfish.contracts.reports import Metric, PartitionReport

Scale = Callable[[float], float]
Point = tuple[float, float]

WIDE, SQUARE, PART = 720, 360, (520.0, 270.0)
"""Widths of a picture of its own and of one of a pair; the size of one of those that show a run at a glance."""

COLOURS = 9
"""Colours of the style sheet; further series begin again at the first."""


def el(tag: str, *children: object, says: str | None = None, **attributes: object) -> Markup:
    """One element; ``says`` is its tooltip.

    A trailing underscore of an attribute's name is dropped, others become hyphens; all is escaped.
    """
    written = Markup("").join(
        Markup(' {}="{}"').format(
            name.rstrip("_").replace("_", "-"),
            f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else str(value),
        )
        for name, value in attributes.items()
        if value is not None
    )
    inside = Markup("").join([*([el("title", says)] if says else []), *map(escape, children)])
    return Markup("<{0}{1}>{2}</{0}>").format(Markup(tag), written, inside)  # noqa: S704  tags are literals of this package


def picture(title: str, width: float, height: float, *children: object, class_: str = "chart") -> Markup:
    """A whole picture that scales with its box; ``title`` is what a screen reader says."""
    size = {"width": width, "height": height}
    box = f"0 0 {width:g} {height:g}"
    return el("svg", *children, says=title, viewBox=box, role="img", aria_label=title, class_=class_, **size)


def text(x: float, y: float, content: object, class_: str = "", anchor: str = "start") -> Markup:
    """A line of text; ``y`` is its baseline."""
    return el("text", content, x=x, y=y, class_=class_ or None, text_anchor=anchor)


def line(x1: float, y1: float, x2: float, y2: float, class_: str, says: str | None = None) -> Markup:
    """A straight line."""
    return el("line", says=says, x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def rect(x: float, y: float, width: float, height: float, class_: str | None, says: str = "", **more: object) -> Markup:
    """A rectangle; never of negative size."""
    return el("rect", says=says, x=x, y=y, width=max(width, 0.0), height=max(height, 0.0), class_=class_, **more)


def dot(x: float, y: float, size: float, class_: str, says: str | None = None) -> Markup:
    """A filled circle."""
    return el("circle", says=says, cx=x, cy=y, r=size, class_=class_)


def path(points: Sequence[Point], class_: str) -> Markup:
    """An open line through points."""
    drawn = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points) if points else ""
    return el("path", d=drawn, class_=class_)


def linear(low: float, high: float, start: float, end: float) -> Scale:
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


def x_axis(x: Scale, top: float, bottom: float, at: Iterable[float], minor: Sequence[float] = ()) -> list[Markup]:
    """Upright lines of a grid with their numbers; ``minor`` ones are left out on a phone."""
    drawn = []
    for tick in at:
        class_ = "axis minor" if tick in minor else "axis"
        drawn += [
            line(x(tick), top, x(tick), bottom, "grid"),
            text(x(tick), bottom + 20, f"{tick:g}", class_, "middle"),
        ]
    return drawn


def y_axis(
    y: Scale, left: float, right: float, at: Iterable[float], form: str = "g", minor: Sequence[float] = ()
) -> list[Markup]:
    """Level lines of a grid with their numbers."""
    drawn = []
    for tick in at:
        class_ = "axis minor" if tick in minor else "axis"
        drawn += [
            line(left, y(tick), right, y(tick), "grid"),
            text(left - 8, y(tick) + 4, f"{tick:{form}}", class_, "end"),
        ]
    return drawn


def axis_names(x_name: str, y_name: str, left: float, right: float, top: float, bottom: float) -> list[Markup]:
    """The names of both axes of a box."""
    turned = f"translate(15 {(top + bottom) / 2:g}) rotate(-90)"
    return [
        text((left + right) / 2, bottom + 44, x_name, "axis name", "middle"),
        el("text", y_name, transform=turned, text_anchor="middle", class_="axis name"),
    ]


def column_names(names: Sequence[str], left: float, step: float, y: float) -> list[Markup]:
    """Names of partitions below their columns: as many as fit, and of those as many again as fit on a phone."""
    widest = max(map(len, names), default=1)
    stride = max(1, -(-int(widest * 7.5 + 8) // max(int(step), 1)))
    phone = stride * max(1, -(-int(widest * 14 + 8) // max(int(step * stride), 1)))
    return [
        text(left + step * (i + 0.5), y, names[i], "axis" if i % phone == 0 else "axis minor", "middle")
        for i in range(0, len(names), stride)
    ]


def colour(place: int) -> int:
    """The number of a colour in the style sheet."""
    return place % COLOURS


@dataclass(frozen=True)
class Series:
    """A named line; ``colour`` is its number in the style sheet, the same for the same model in every chart."""

    name: str
    colour: int
    points: Sequence[Point]


def square(
    title: str,
    x_name: str,
    y_name: str,
    series: Mapping[str, Series],
    dots: bool = False,
    level: float | None = None,
    size: tuple[float, float] = (SQUARE, 350.0),
) -> Markup:
    """Lines over the unit square, with its diagonal, or a dashed ``level`` in its place; ``dots`` marks each point."""
    left, right, top, bottom = box = 52.0, size[0] - 14.0, 14.0, size[1] - 50.0
    x, y = linear(0, 1, left, right), linear(0, 1, bottom, top)
    at, minor = (0.0, 0.25, 0.5, 0.75, 1.0), (0.25, 0.75)
    ends = (bottom, top) if level is None else (y(level), y(level))
    drawn = [line(left, ends[0], right, ends[1], "diagonal"), *x_axis(x, top, bottom, at, minor)]
    drawn += [*y_axis(y, left, right, at, minor=minor), *axis_names(x_name, y_name, *box)]
    return picture(title, *size, *drawn, *_lines(series, x, y, dots))


def over_time(
    title: str, partitions: Sequence[str], series: Mapping[str, Series], width: float = WIDE, most: float = 1.0
) -> Markup:
    """Lines over partitions; the x of a point is the position of its partition, y a share of at most ``most``."""
    left, right, top, bottom = 62.0, width - 20.0, 18.0, 240.0 * width / WIDE + (WIDE - width) / 12
    step = (right - left) / max(len(partitions), 1)
    y = linear(0, most, bottom, top)
    drawn = [*y_axis(y, left, right, (0, most / 2, most), ".0%"), *column_names(partitions, left, step, bottom + 20)]
    drawn += _lines(series, lambda value: left + step * (value + 0.5), y, dots=True)
    return picture(title, width, bottom + 30, *drawn)


def _lines(series: Mapping[str, Series], x: Scale, y: Scale, dots: bool) -> list[Markup]:
    drawn = []
    for one in series.values():
        drawn.append(path([(x(a), y(b)) for a, b in one.points], f"line s{one.colour}"))
        marked = one.points if dots else ()
        drawn += [dot(x(a), y(b), 3.5, f"dot s{one.colour}", f"{one.name}: {b:.3f}") for a, b in marked]
    return drawn


def lowest(models: Sequence[tuple[str, int, Metric]]) -> float:
    """Where the axis of models' intervals begins: a little below all that is drawn."""
    values = [value for _, _, one in models for value in (one.value, one.minimum, *(one.interval or ()))]
    low: float = min([*(value for value in values if value is not None), 0.98])
    return max(0.0, low - 0.01)


def labels_over_time(
    task: str, classes: Sequence[str], partitions: Sequence[PartitionReport], accepted: int = 0
) -> Markup:
    """Rows per partition, and below them the share that is covered, by mean probability of each class.

    ``accepted`` is how many partitions, the first, were accepted; a line after them says so.
    """
    left, right, top, middle, bottom = 70.0, WIDE - 12.0, 60.0, 98.0, 226.0
    most = max((part.rows for part in partitions), default=0) or 1
    step = (right - left) / max(len(partitions), 1)
    shown = stacked(classes, partitions)
    rows, share = linear(0, most, top, 28), linear(0, 1, bottom, middle)
    # The hatch is white on what lies below: grey, from the style sheet.
    hatch = "hatch-" + "".join(c if c.isascii() and c.isalnum() else f"-{ord(c):x}" for c in task)
    turned = {"patternUnits": "userSpaceOnUse", "patternTransform": "rotate(45)"}
    pattern = el("pattern", line(0, 0, 0, 6, "hatch"), id=hatch, width=6, height=6, **turned)
    drawn = [el("defs", pattern), *y_axis(share, left, right, (0.0, 0.5, 1.0), ".0%")]
    drawn += [line(left, top, right, top, "base"), text(left, 18, f"rows, at most {most:,}", "axis")]
    drawn.append(text(left, middle - 9, "share of rows", "axis"))
    for place, part in enumerate(partitions):
        x, width = left + step * (place + 0.1), step * 0.8
        height = top - rows(part.rows)
        drawn.append(rect(x, rows(part.rows), width, height, "rows", f"{part.partition}: {part.rows:,} rows"))
        covered = min(part.covered / part.rows, 1.0) if part.rows else 0.0
        others = sum(part.mean.get(name) or 0.0 for name in classes if name not in shown)
        below = 0.0
        for number, name in enumerate(shown):
            mean = (part.mean.get(name) or 0.0) if name in classes else others
            above = below + covered * mean
            says = f"{part.partition}: {name} {mean:.3f} of the covered rows"
            drawn.append(rect(x, share(above), width, share(below) - share(above), f"c{colour(number)}", says))
            below = above
        if part.rows:
            says = f"{part.partition}: {1 - covered:.1%} of {part.rows:,} rows are uncovered"
            where = x, share(1.0), width, share(covered) - share(1.0)
            drawn += [rect(*where, "uncovered"), rect(*where, None, says, fill=f"url(#{hatch})")]
    if 0 < accepted < len(partitions):
        at = left + step * accepted
        drawn += [line(at, 6, at, bottom, "until"), text(at - 6, 16, "accepted", "axis minor", "end")]
        drawn.append(text(at + 6, 16, "new", "axis minor"))
    names = column_names([part.partition for part in partitions], left, step, bottom + 25)
    title = f"Labels of {task} over time: rows, mean probability per class, and uncovered share, by partition"
    return picture(title, WIDE, 260, *drawn, *names)


def stacked(classes: Sequence[str], partitions: Sequence[PartitionReport]) -> list[str]:
    """What a stack of classes is made of: all of them, or the largest and what the others are together."""
    if len(classes) <= COLOURS:
        return list(classes)
    totals = {name: sum(part.covered * (part.mean.get(name) or 0.0) for part in partitions) for name in classes}
    most = sorted(classes, key=lambda name: -totals[name])[: COLOURS - 1]
    return [*(name for name in classes if name in most), f"{len(classes) - len(most)} others"]
