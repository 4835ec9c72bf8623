"""SVG as escaped markup: elements, scales, ticks. Pure; colours and sizes of text are left to CSS classes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from weakfish.contracts.reports import Metric, PartitionReport

Scale = Callable[[float], float]


def el(tag: str, *children: object, **attributes: object) -> Markup:
    """One element; a trailing underscore of an attribute's name is dropped, others become hyphens; all is escaped."""
    written = Markup("").join(
        Markup(' {}="{}"').format(_name(name), _text(value)) for name, value in attributes.items() if value is not None
    )
    inside = Markup("").join(escape(child) for child in children)
    return Markup("<{0}{1}>{2}</{0}>").format(Markup(tag), written, inside)  # noqa: S704  tags are literals of this package


def picture(title: str, width: float, height: float, *children: object, class_: str = "chart") -> Markup:
    """A whole picture that scales with its box; ``title`` is what a screen reader says."""
    box = f"0 0 {width:g} {height:g}"
    return el(
        "svg",
        el("title", title),
        *children,
        viewBox=box,
        role="img",
        aria_label=title,
        class_=class_,
        width=width,
        height=height,
    )


def text(x: float, y: float, content: object, class_: str = "", anchor: str = "start") -> Markup:
    """A line of text; ``y`` is its baseline."""
    return el("text", content, x=x, y=y, class_=class_ or None, text_anchor=anchor)


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Markup:
    """A straight line."""
    return el("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def rect(x: float, y: float, width: float, height: float, class_: str, *children: object) -> Markup:
    """A rectangle; never of negative size."""
    return el("rect", *children, x=x, y=y, width=max(width, 0.0), height=max(height, 0.0), class_=class_)


def path(points: list[tuple[float, float]], class_: str) -> Markup:
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


def _name(name: str) -> str:
    return name.rstrip("_").replace("_", "-")


def _text(value: object) -> str:
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else str(value)


WIDE, SQUARE = 720, 360
COLOURS = 9
"""Colours that the style sheet has; further series begin again at the first."""


@dataclass(frozen=True)
class Series:
    """A named line; ``colour`` is its number in the style sheet, the same for the same model in every chart."""

    name: str
    colour: int
    points: Sequence[tuple[float, float]]


def bar(share: float | None, class_: str = "") -> Markup:
    """A small bar for a share between 0 and 1; beside the number, so hidden from screen readers."""
    full = min(max(share or 0.0, 0.0), 1.0) * 100
    parts = rect(0, 0, 100, 6, "track"), rect(0, 0, full, 6, f"fill {class_}".strip())
    return el("svg", *parts, viewBox="0 0 100 6", preserveAspectRatio="none", class_="bar", aria_hidden="true")


def labels_over_time(task: str, classes: Sequence[str], partitions: Sequence[PartitionReport]) -> Markup:
    """Rows per partition, and below them the share that is covered, by mean probability of each class."""
    left, right, top, middle, bottom = 62.0, WIDE - 20.0, 96.0, 140.0, 316.0
    most = max((part.rows for part in partitions), default=0) or 1
    step = (right - left) / max(len(partitions), 1)
    shown = stacked(classes, partitions)
    rows, share = linear(0, most, top, 32), linear(0, 1, bottom, middle)
    # The hatch is white on what lies below: grey, from the style sheet.
    hatch = el(
        "pattern",
        line(0, 0, 0, 6, "hatch"),
        id=f"hatch-{_slug(task)}",
        width=6,
        height=6,
        patternUnits="userSpaceOnUse",
        patternTransform="rotate(45)",
    )
    drawn = [el("defs", hatch), *_share_axis(share, left, right), line(left, top, right, top, "base")]
    drawn.append(text(left, 20, f"rows, at most {most:,}", "axis"))
    drawn.append(text(left, middle - 12, "share of rows", "axis"))
    for place, part in enumerate(partitions):
        x, width = left + step * (place + 0.1), step * 0.8
        drawn.append(
            rect(
                x,
                rows(part.rows),
                width,
                top - rows(part.rows),
                "rows",
                el("title", f"{part.partition}: {part.rows:,} rows"),
            )
        )
        drawn += _stack(part, classes, shown, share, x, width, f"url(#hatch-{_slug(task)})")
    names = [part.partition for part in partitions]
    title = f"Labels of {task} over time: rows, mean probability per class, and uncovered share, by partition"
    return picture(title, WIDE, 346, *drawn, *column_names(names, left, step, bottom + 20))


def stacked(classes: Sequence[str], partitions: Sequence[PartitionReport]) -> list[str]:
    """What a stack of classes is made of: all of them, or the largest and what the others are together."""
    if len(classes) <= COLOURS:
        return list(classes)
    totals = {name: sum(part.covered * (part.mean.get(name) or 0.0) for part in partitions) for name in classes}
    most = sorted(classes, key=lambda name: -totals[name])[: COLOURS - 1]
    return [*(name for name in classes if name in most), f"{len(classes) - len(most)} others"]


def intervals(title: str, models: Sequence[tuple[str, int, Metric]]) -> Markup:
    """One dot per model with its interval, and a tick at the minimum over seeds; larger is better, 1 is best."""
    shown = [(name, colour, metric) for name, colour, metric in models if metric.value is not None]
    values = [
        value
        for _, _, metric in shown
        for value in (metric.value, metric.minimum, *(metric.interval or ()))
        if value is not None
    ]
    low = max(0.0, min([*values, 0.98]) - 0.01)
    height = 52.0 * len(shown)
    x = linear(low, 1.0, 8, WIDE - 90)
    drawn: list[Markup] = []
    for tick in ticks(low, 1.0, 6):
        drawn += [line(x(tick), 8, x(tick), height, "grid"), text(x(tick), height + 20, f"{tick:g}", "axis", "middle")]
    for place, (name, colour, metric) in enumerate(shown):
        drawn += _dot(name, colour, metric, x, 52.0 * place + 36)
    return picture(title, WIDE, height + 30, *drawn)


def square(title: str, x_name: str, y_name: str, series: Sequence[Series], dots: bool = False) -> Markup:
    """Lines over the unit square, with its diagonal; ``dots`` marks each point."""
    left, right, top, bottom = 52.0, SQUARE - 14.0, 14.0, 300.0
    x, y = linear(0, 1, left, right), linear(0, 1, bottom, top)
    drawn = [line(left, bottom, right, top, "diagonal")]
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        minor = "" if tick in (0.0, 0.5, 1.0) else " minor"
        drawn += [
            line(left, y(tick), right, y(tick), "grid"),
            text(left - 8, y(tick) + 4, f"{tick:g}", f"axis{minor}", "end"),
        ]
        drawn += [
            line(x(tick), top, x(tick), bottom, "grid"),
            text(x(tick), bottom + 18, f"{tick:g}", f"axis{minor}", "middle"),
        ]
    drawn += [text((left + right) / 2, bottom + 40, x_name, "axis name", "middle")]
    drawn += [
        el(
            "text",
            y_name,
            transform=f"translate(14 {(top + bottom) / 2:g}) rotate(-90)",
            text_anchor="middle",
            class_="axis name",
        )
    ]
    return picture(title, SQUARE, 350, *drawn, *_lines(series, x, y, dots))


def over_time(
    title: str, partitions: Sequence[str], series: Sequence[Series], width: float = WIDE, most: float = 1.0
) -> Markup:
    """Lines over partitions; the x of a point is the position of its partition, y a share of at most ``most``."""
    left, right, top, bottom = 62.0, width - 20.0, 18.0, 240.0 * width / WIDE + (WIDE - width) / 12
    step = (right - left) / max(len(partitions), 1)
    y = linear(0, most, bottom, top)
    drawn = [*_share_axis(y, left, right, most), *column_names(partitions, left, step, bottom + 20)]
    lines = _lines(series, lambda value: left + step * (value + 0.5), y, dots=True)
    return picture(title, width, bottom + 30, *drawn, *lines)


def colour(place: int) -> int:
    """The number of a colour in the style sheet."""
    return place % COLOURS


def column_names(names: Sequence[str], left: float, step: float, y: float) -> list[Markup]:
    """Names of partitions below their columns: as many as fit, and of those as many again as fit on a phone."""
    widest = max(map(len, names), default=1)
    stride = max(1, -(-int(widest * 7.5 + 8) // max(int(step), 1)))
    phone = stride * max(1, -(-int(widest * 14 + 8) // max(int(step * stride), 1)))
    shown = range(0, len(names), stride)
    return [
        text(left + step * (i + 0.5), y, names[i], "axis" if i % phone == 0 else "axis minor", "middle") for i in shown
    ]


def _lines(series: Sequence[Series], x: Scale, y: Scale, dots: bool) -> list[Markup]:
    drawn = []
    for one in series:
        points = [(x(a), y(b)) for a, b in one.points]
        drawn.append(path(points, f"line s{one.colour}"))
        if dots:
            drawn += [
                el("circle", el("title", f"{one.name}: {b:.3f}"), cx=x(a), cy=y(b), r=3.5, class_=f"dot s{one.colour}")
                for a, b in one.points
            ]
    return drawn


def _dot(name: str, colour: int, metric: Metric, x: Scale, y: float) -> list[Markup]:
    value = metric.value or 0.0
    drawn = [text(8, y - 12, name, "label"), line(8, y, WIDE - 90, y, "base")]
    if metric.interval and None not in metric.interval:
        low, high = (bound or 0.0 for bound in metric.interval)
        drawn.append(
            el(
                "line",
                el("title", f"{name}: {low:.3f} to {high:.3f}"),
                x1=x(low),
                y1=y,
                x2=x(high),
                y2=y,
                class_=f"interval s{colour}",
            )
        )
    if metric.minimum is not None:
        drawn.append(line(x(metric.minimum), y - 7, x(metric.minimum), y + 7, f"minimum s{colour}"))
    drawn.append(el("circle", el("title", f"{name}: {value:.3f}"), cx=x(value), cy=y, r=6, class_=f"dot s{colour}"))
    return [*drawn, text(WIDE, y + 5, f"{value:.3f}", "value", "end")]


def _stack(
    part: PartitionReport,
    classes: Sequence[str],
    shown: Sequence[str],
    share: Scale,
    x: float,
    width: float,
    hatch: str,
) -> list[Markup]:
    covered = min(part.covered / part.rows, 1.0) if part.rows else 0.0
    rest = sum(part.mean.get(name) or 0.0 for name in classes if name not in shown)
    drawn, below = [], 0.0
    for place, name in enumerate(shown):
        mean = (part.mean.get(name) or 0.0) if name in classes else rest
        part_share = covered * mean
        what = el("title", f"{part.partition}: {name} {mean:.3f} of the covered rows")
        drawn.append(
            rect(
                x, share(below + part_share), width, share(below) - share(below + part_share), f"c{colour(place)}", what
            )
        )
        below += part_share
    what = el("title", f"{part.partition}: {1 - covered:.1%} of {part.rows:,} rows are uncovered")
    uncovered = [rect(x, share(1.0), width, share(covered) - share(1.0), "uncovered")] if part.rows else []
    over = (
        [el("rect", what, x=x, y=share(1.0), width=width, height=max(share(covered) - share(1.0), 0.0), fill=hatch)]
        if part.rows
        else []
    )
    return drawn + uncovered + over


def _share_axis(share: Scale, left: float, right: float, most: float = 1.0) -> list[Markup]:
    drawn = []
    for tick in (0.0, most / 2, most):
        drawn += [
            line(left, share(tick), right, share(tick), "grid"),
            text(left - 8, share(tick) + 4, f"{tick:.0%}", "axis", "end"),
        ]
    return drawn


def _slug(name: str) -> str:
    return "".join(
        character if character.isascii() and character.isalnum() else f"-{ord(character):x}" for character in name
    )
