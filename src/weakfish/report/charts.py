"""The pictures of the page, as SVG in escaped markup; colours and sizes of text are left to the style sheet."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING

from markupsafe import Markup, escape

from weakfish.contracts.reports import Metric, PartitionReport
from weakfish.contracts.tables import UNDATED
from weakfish.contracts.verdicts import Check
from weakfish.report.wording import bad_above, count, figure, percent, tolerated

if TYPE_CHECKING:
    from weakfish.checks.baseline import Accepted, AcceptedCheck


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


NAMED = 4
"""Partitions in which a check did not hold that are named; of more, the first and the last."""

NOW = "now"
"""The name of the last point of a trend over revisions."""


@dataclass(frozen=True)
class Point:
    """The check's value in one partition or revision; ``bad``: it did not hold there."""

    name: str
    value: float
    bad: bool


@dataclass(frozen=True)
class Trend:
    """A check's values, oldest first.

    ``limit`` is from where on it does not hold, None where it has none; ``as_shares`` says that values are shares.
    """

    points: Sequence[Point]
    limit: float | None
    as_shares: bool

    def say(self, value: float) -> str:
        """A value of it in words."""
        return percent(value) if self.as_shares else figure(value)

    @property
    def sentence(self) -> str:
        """What the picture of it shows, for those who do not see it."""
        first, last = self.points[0], self.points[-1]
        low, high = (pick(self.points, key=lambda point: point.value) for pick in (min, max))
        if first is last:
            return f"{first.name}: {self.say(first.value)}"
        extent = f"{first.name} to {last.name}: {self.say(first.value)} to {self.say(last.value)}"
        return f"{extent}, lowest {self.say(low.value)} in {low.name}, highest {self.say(high.value)} in {high.name}"


def over_partitions(check: Check) -> Trend | None:
    """The trend over partitions; None where the verdict has none."""
    values = [(name, value) for name, value in sorted(check.by_partition.items()) if value is not None]
    if check.against_baseline and len(values) > 1:  # rows without a time are no point in time, whatever came of them
        values = [(name, value) for name, value in values if name != UNDATED]
    return _trend(check, [Point(name, value, _bad(check, value)) for name, value in values])


def over_revisions(table: str, check: Check, history: Sequence[Accepted]) -> Trend | None:
    """The trend over accepted revisions until now; None where none knew the check."""
    known = [(revision.commit, of) for revision, of in _known(table, check, history)]
    points = [Point(name, of.value, of.status != "passed") for name, of in known if of.value is not None]
    if not points:
        return None
    now = [] if check.value is None else [Point(NOW, check.value, check.status != "passed")]
    return _trend(check, points + now)


def since(table: str, check: Check, history: Sequence[Accepted]) -> list[str]:
    """Since when a check does not hold, by partition and by accepted revision, in sentences without full stops."""
    partitions = over_partitions(check)
    said = _in_partitions(partitions) if partitions else None
    return [sentence for sentence in (said, _in_revisions(table, check, history)) if sentence]


def _in_partitions(trend: Trend) -> str | None:
    bad = [point.name for point in trend.points if point.bad]
    if not bad:
        return None
    held = [place for place, point in enumerate(trend.points) if not point.bad]
    what = "Bad rows" if trend.as_shares else "Beyond the limit"
    if not held:
        return f"{what} in every partition" if len(bad) > 1 else f"{what} in {bad[0]}, the only partition"
    if held[-1] + len(bad) + 1 == len(trend.points) and len(bad) > 1:
        return f"{what} in every partition since {bad[0]}"
    named = ", ".join(bad) if len(bad) <= NAMED else f"first {bad[0]}, last {bad[-1]}"
    return f"{what} in {len(bad):,} of {count(len(trend.points), 'partition')}: {named}"


def _in_revisions(table: str, check: Check, history: Sequence[Accepted]) -> str | None:
    known = _known(table, check, history)
    if not known:
        return None
    bad = list(takewhile(lambda pair: pair[1].status != "passed", reversed(known)))
    if not bad:
        last = known[-1][0]
        return f"Held at the last accepted revision, {last.commit} of {last.date[:10]}"
    first = bad[-1][0]
    return f"Does not hold since the accepted revision {first.commit} of {first.date[:10]}"


def _known(table: str, check: Check, history: Sequence[Accepted]) -> list[tuple[Accepted, AcceptedCheck]]:
    """The revisions that knew a check, and what it found then."""
    checks = [(revision, revision.tables[table].checks) for revision in history if table in revision.tables]
    return [(revision, of[check.check]) for revision, of in checks if check.check in of]


def _bad(check: Check, value: float) -> bool:
    if check.unexpected is not None:
        return value > tolerated(check)
    if check.threshold is None:
        return False
    return value > check.threshold if bad_above(check) else value < check.threshold


def _trend(check: Check, points: list[Point]) -> Trend | None:
    limit = (tolerated(check) or None) if check.unexpected is not None else check.threshold
    return Trend(points, limit, check.unexpected is not None) if points else None
