"""Labeling functions on the page: figures, how they fit together, pictures, and what stands out among them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from markupsafe import Markup

from weakfish.contracts.reports import Empirical, FaultsReport, FunctionReport, PartitionReport, TaskLabels
from weakfish.evaluation.measures import ROWS_OF_CLASS as OF_CLASS
from weakfish.report.charts import (
    COLOURS,
    SQUARE,
    WIDE,
    Scale,
    colour,
    column_names,
    el,
    line,
    linear,
    path,
    picture,
    rect,
    text,
    ticks,
)
from weakfish.report.inputs import Inputs, Stop, outdated
from weakfish.report.wording import percent, shorten

PARTS = ("dev", "test")
"""Parts of gold, in the order in which they are shown."""

MONTHS = 60
"""Partitions that the votes over time go back, at most."""


@dataclass(frozen=True)
class Row:
    """One labeling function; ``place`` is that of its class in the task's, None if it votes for several or none."""

    function: FunctionReport
    seen: dict[str, Empirical]
    faults: FaultsReport
    place: int | None


@dataclass(frozen=True)
class Pair:
    """Two functions that may be copies of each other."""

    first: Row
    second: Row
    residual: float | None


@dataclass(frozen=True)
class Page:
    """What there is to say of one task's functions.

    Attributes
    ----------
    rows
        By class, then by coverage, most first.
    parts
        Of gold, on which any function is measured.
    partitions
        Those with votes per function, the last of them if there are many.
    stale, metrics_stale
        Whether labels, and accuracies, are from an earlier run.
    """

    name: str
    labels: TaskLabels
    rows: list[Row]
    parts: list[str]
    partitions: list[PartitionReport]
    stale: bool
    metrics_stale: bool

    @property
    def voters(self) -> list[Row]:
        """The functions that the labels know of; others failed before there were labels."""
        return [row for row in self.rows if row.function.coverage is not None]

    @property
    def failed(self) -> list[Row]:
        """The functions that failed on rows, most first."""
        return sorted((row for row in self.rows if row.faults.count), key=lambda row: -row.faults.count)

    @property
    def pairs(self) -> list[Pair]:
        """Near-duplicates, closest first."""
        rows = {row.function.name: row for row in self.rows}
        copies = self.labels.signals.copies if self.labels.signals else []
        found = [
            Pair(rows[first], rows[second], copy.residual)
            for copy in copies
            for first, second in (copy.functions,)
            if first in rows and second in rows
        ]
        return sorted(found, key=lambda pair: -abs(pair.residual or 0.0))


def pages(inputs: Inputs, stop: Stop | None) -> list[Page]:
    """One per task that has labeling functions, or votes of which some failed."""
    names = dict.fromkeys([*inputs.labels.tasks, *inputs.votes.tasks])
    found = [_page(inputs, stop, name) for name in names]
    return [page for page in found if page.rows]


def _page(inputs: Inputs, stop: Stop | None, task: str) -> Page:
    labels = inputs.labels.tasks.get(task) or TaskLabels()
    metrics, votes = inputs.metrics.tasks.get(task), inputs.votes.tasks.get(task)
    known = {function.name for function in labels.functions}
    failed = votes.faults if votes else {}
    functions = [*labels.functions, *(FunctionReport(name=name) for name in failed if name not in known)]
    seen = metrics.functions if metrics else {}
    rows = [
        Row(one, seen.get(one.name, {}), failed.get(one.name, one.faults), _place(labels.classes, one))
        for one in functions
    ]
    voted = [part for part in labels.by_partition if part.votes]
    return Page(
        name=task,
        labels=labels,
        rows=sorted(rows, key=lambda row: _order(labels.classes, row)),
        parts=[part for part in PARTS if any(part in row.seen for row in rows)],
        partitions=voted[-MONTHS:],
        stale=outdated(inputs, stop, "label"),
        metrics_stale=outdated(inputs, stop, "evaluate"),
    )


def _place(classes: Sequence[str], function: FunctionReport) -> int | None:
    only = function.polarity[0] if len(function.polarity) == 1 else None
    return classes.index(only) if only in classes else None


def _order(classes: Sequence[str], row: Row) -> tuple[int, float, str]:
    """By class; then those of several classes, then those that never vote."""
    several = len(classes) + (not row.function.polarity)
    return (several if row.place is None else row.place, -(row.function.coverage or 0.0), row.function.name)


CELL, GAP = 16.0, 36.0
SHADES = (0.01, 0.05, 0.2, 0.5, 1.0)
LETTERS = 32
"""Longer names are cut in pictures; titles have them whole."""

LETTER = 6.3
"""Width of a letter of a name, of 10.5 units of monospace."""


def votes_over_time(
    title: str, classes: Sequence[str], rows: Sequence[Row], parts: Sequence[PartitionReport]
) -> Markup:
    """A line per function, a cell per partition: shade is coverage, colour the class, split where there are several.

    The first line is the share that no function covers.
    """
    left, right, y = 216.0, WIDE - 26.0, 26.0
    step = (right - left) / max(len(parts), 1)
    names = [part.partition for part in parts]
    drawn = [*column_names(names, left, step, 14), *_uncovered(parts, left, step, y)]
    group: object = object()
    for row in rows:
        y += CELL if row.place == group else GAP
        if row.place != group:
            drawn.append(text(left, y - 5, _group(classes, row), "axis"))
            group = row.place
        drawn += _cells(classes, row, parts, left, step, y)
    return picture(title, WIDE, y + CELL + 4, *drawn, class_="chart heat")


def shades(classes: Sequence[str]) -> Markup:
    """What shades and colours of `votes_over_time` stand for."""
    classes = classes if len(classes) <= COLOURS else [f"any of {len(classes)} classes"]
    drawn: list[Markup] = [text(0, 13, "coverage", "axis")]
    for place, share in enumerate(SHADES):
        drawn.append(text(90 + 48.0 * place, 13, f"{share:.0%}", "axis", "middle"))
    for row, name in enumerate([*classes, "uncovered"]):
        y, fill = 20 + 18.0 * row, f"h{colour(row)}" if row < len(classes) else "void"
        drawn += [_cell(66 + 48.0 * place, y, 48, fill, share) for place, share in enumerate(SHADES)]
        drawn.append(text(314, y + 12, name, "axis"))
    width = 320 + 7.5 * max(map(len, [*classes, "uncovered"]))
    return picture("Shades of coverage, by class", width, 24 + 18 * (len(classes) + 1), *drawn, class_="key-of-shades")


def losses(title: str, points: Sequence[tuple[int, float]]) -> Markup:
    """The label model's loss over epochs."""
    left, right, top, bottom = 52.0, SQUARE - 14.0, 14.0, 150.0
    most = max(loss for _, loss in points)
    x, y = (
        linear(points[0][0], points[-1][0], left, right),
        linear(min(0.0, *(b for _, b in points)), most, bottom, top),
    )
    drawn = [line(left, bottom, right, bottom, "base"), path([(x(a), y(b)) for a, b in points], "line s7")]
    for tick in ticks(min(0.0, *(b for _, b in points)), most, 3):
        drawn += [line(left, y(tick), right, y(tick), "grid"), text(left - 8, y(tick) + 4, f"{tick:g}", "axis", "end")]
    for epoch, anchor in ((points[0][0], "start"), (points[-1][0], "end")):
        drawn.append(text(x(epoch), bottom + 18, f"{epoch:,}", "axis", anchor))
    drawn.append(text((left + right) / 2, bottom + 18, "epochs", "axis name", "middle"))
    return picture(title, SQUARE, 176, *drawn)


def mark(place: int | None, x: float, y: float, size: float, *children: object) -> Markup:
    """A class's form and colour: circle, square, diamond, triangle; a ring where a function votes for several."""
    if place is None:
        return el("circle", *children, cx=x, cy=y, r=size, class_="mark ring")
    class_, form = f"mark h{colour(place)}", place % 4
    if form == 0:
        return el("circle", *children, cx=x, cy=y, r=size, class_=class_)
    if form == 1:
        return el(
            "rect", *children, x=x - size * 0.9, y=y - size * 0.9, width=size * 1.8, height=size * 1.8, class_=class_
        )
    corners = (
        [(0.0, -1.3), (1.3, 0.0), (0.0, 1.3), (-1.3, 0.0)] if form == 2 else [(0.0, -1.2), (1.2, 0.9), (-1.2, 0.9)]
    )
    points = " ".join(f"{x + a * size:.1f},{y + b * size:.1f}" for a, b in corners)
    return el("polygon", *children, points=points, class_=class_)


def swatch(place: int) -> Markup:
    """A class's `mark`, for a legend."""
    return el("svg", mark(place, 7, 7, 5), viewBox="0 0 14 14", class_="form", aria_hidden="true")


def _group(classes: Sequence[str], row: Row) -> str:
    if row.place is None:
        return "votes for several classes" if row.function.polarity else "never votes"
    return f"votes {classes[row.place]}"


def _uncovered(parts: Sequence[PartitionReport], left: float, step: float, y: float) -> list[Markup]:
    drawn = [text(left - 8, y + 12, "covered by none", "axis", "end"), _track(left, step * len(parts), y)]
    for place, part in enumerate(parts):
        share = 1 - part.covered / part.rows if part.rows else 0.0
        what = el("title", f"{part.partition}: {percent(share)} of {part.rows:,} rows are uncovered")
        drawn.append(_cell(left + step * place, y, step, "void", share, what))
    return drawn


def _cells(
    classes: Sequence[str], row: Row, parts: Sequence[PartitionReport], left: float, step: float, y: float
) -> list[Markup]:
    name = row.function.name
    drawn = [text(left - 8, y + 12, shorten(name, LETTERS), "name", "end"), _track(left, step * len(parts), y, name)]
    for place, part in enumerate(parts):
        drawn += _split(classes, name, part, left + step * place, y, step)
    return drawn


def _split(classes: Sequence[str], name: str, part: PartitionReport, x: float, y: float, step: float) -> list[Markup]:
    """The cell of a function in a partition: as wide for each class as it has votes."""
    votes = part.votes.get(name, [])
    if not part.rows or not (total := sum(votes)):
        return []
    says = ", ".join(f"{count:,} {called}" for called, count in zip(classes, votes, strict=False) if count)
    what = f"{name}, {part.partition}: {percent(total / part.rows)} of {part.rows:,} rows, {says}"
    drawn = []
    for number, count in enumerate(votes):
        width = step * count / total
        if count:
            hue = colour(number) if len(classes) <= COLOURS else 0
            drawn.append(_cell(x, y, width, f"h{hue}", total / part.rows, el("title", what)))
        x += width
    return drawn


def _cell(x: float, y: float, width: float, class_: str, share: float, *children: object) -> Markup:
    """Its shade goes with the root of the share, so that small shares are told apart."""
    opacity = f"{math.sqrt(min(max(share, 0.0), 1.0)):.2f}"
    attributes = {"x": x, "y": y, "width": max(width - 0.6, 0.2), "height": CELL - 1.5}
    return el("rect", *children, **attributes, class_=class_, fill_opacity=opacity)


def _track(left: float, width: float, y: float, name: str = "") -> Markup:
    return rect(left, y, width, CELL - 1.5, "ground", *([el("title", name)] if name else []))


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


def notes(page: Page) -> list[str]:
    """What stands out, in sentences; words between backticks are names."""
    silent = [row.function.name for row in page.rows if not row.function.polarity and row.function.coverage is not None]
    said = [f"{_list(silent)} never {'votes' if len(silent) == 1 else 'vote'}."] if silent else []
    return said + [sentence for row in page.rows for sentence in _about(page, row)]


def _about(page: Page, row: Row) -> list[str]:
    function, name = row.function, f"`{row.function.name}`"
    said = []
    if row.faults.count:
        kind = f" ({row.faults.kind})" if row.faults.kind else ""
        said.append(f"{name} failed on {row.faults.count:,} row{'s' if row.faults.count > 1 else ''}{kind}.")
    dev = row.seen.get("dev")
    if dev and dev.accuracy is not None and dev.accuracy < 0.5 and (dev.votes or 0) >= FEW:
        said.append(f"{name} is wrong more often than right on dev gold: {dev.accuracy:.1%} of {dev.votes:,} votes.")
    prior = page.labels.class_balance.get(function.polarity[0]) if row.place is not None else None
    if function.weight is not None and prior is not None and function.weight < prior:
        said.append(
            f"The label model trusts {name} less than chance: learned {function.weight:.3f}, prior {prior:.3f}."
        )
    return said + _silence(page, row)


def _silence(page: Page, row: Row) -> list[str]:
    """A function that would have voted ten times or more in the last partitions, had it gone on, and did not vote."""
    voted = [part for part in page.partitions if sum(part.votes.get(row.function.name, []))]
    if not voted:
        return []
    last = page.partitions.index(voted[-1]) + 1
    before, after = (sum(part.rows for part in parts) for parts in (page.partitions[:last], page.partitions[last:]))
    share = sum(sum(part.votes[row.function.name]) for part in voted) / max(before, 1)
    if share * after < 10:
        return []
    return [
        f"`{row.function.name}` voted last in {voted[-1].partition}: on {share:.1%} of rows until then, on none of "
        f"{after:,} since."
    ]


def _list(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
