"""Labeling functions on the page: figures, how they fit together, pictures, and what stands out among them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from markupsafe import Markup

from weakfish.contracts.gold import ROWS_OF_CLASS as OF_CLASS
from weakfish.contracts.reports import Empirical, FaultsReport, FunctionReport, PartitionReport, TaskLabels
from weakfish.report.charts import (
    COLOURS,
    WIDE,
    axis_names,
    colour,
    column_names,
    dot,
    el,
    line,
    linear,
    picture,
    rect,
    text,
    ticks,
    x_axis,
    y_axis,
)
from weakfish.report.inputs import RunRecords
from weakfish.report.wording import count, percent, shorten

PARTS = ("dev", "test")
"""Parts of gold, in the order in which they are shown."""

MONTHS = 60
"""Partitions that the votes over time go back, at most."""

FAR, FEW, NAMED = 0.1, 20, 6
"""A function with ``FEW`` votes or more stands apart at this distance from the others; at most so many are named."""

CELL, GAP = 16.0, 36.0
LETTERS = 32
"""Longer names are cut in pictures; titles have them whole."""

LETTER = 6.3
"""Width of a letter of a name, of 10.5 units of monospace."""

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class FunctionRow:
    """One labeling function; ``place`` is that of its class in the task's, None if it votes for several or none."""

    function: FunctionReport
    seen: dict[str, Empirical]
    faults: FaultsReport
    place: int | None

    @property
    def name(self) -> str:
        """The function's name."""
        return self.function.name


@dataclass(frozen=True)
class FunctionsPage:
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
    rows: list[FunctionRow]
    parts: list[str]
    partitions: list[PartitionReport]
    stale: bool
    metrics_stale: bool

    @property
    def voters(self) -> list[FunctionRow]:
        """The functions that the labels know of; others failed before there were labels."""
        return [row for row in self.rows if row.function.coverage is not None]

    @property
    def failed(self) -> list[FunctionRow]:
        """The functions that failed on rows, most first."""
        return sorted((row for row in self.rows if row.faults.count), key=lambda row: -row.faults.count)

    @property
    def pairs(self) -> list[tuple[FunctionRow, FunctionRow, float | None]]:
        """Near-duplicates, closest first, and the residual of each pair."""
        rows = {row.name: row for row in self.rows}
        copies = self.labels.signals.copies if self.labels.signals else []
        known = [
            (rows[one], rows[other], copy.residual)
            for copy in copies
            for one, other in (copy.functions,)
            if one in rows and other in rows
        ]
        return sorted(known, key=lambda pair: -abs(pair[2] or 0.0))


def pages(records: RunRecords) -> list[FunctionsPage]:
    """One per task that has labeling functions, or votes of which some failed."""
    found = []
    for task in dict.fromkeys([*records.labels.tasks, *records.votes.tasks]):
        labels = records.labels.tasks.get(task) or TaskLabels()
        metrics, votes = records.metrics.tasks.get(task), records.votes.tasks.get(task)
        failed = votes.faults if votes else {}
        known = {function.name: function for function in labels.functions}
        functions = {name: FunctionReport(name=name) for name in failed} | known
        seen = metrics.functions if metrics else {}
        rows = []
        for name in dict.fromkeys([*known, *failed]):
            function = functions[name]
            only = function.polarity[0] if len(function.polarity) == 1 else None
            place = labels.classes.index(only) if only in labels.classes else None
            rows.append(FunctionRow(function, seen.get(name, {}), failed.get(name, function.faults), place))
        if rows:
            # Functions of several classes come after those of one, and before those that never vote.
            several = len(labels.classes)
            rows.sort(
                key=lambda row: (
                    several + (not row.function.polarity) if row.place is None else row.place,
                    -(row.function.coverage or 0.0),
                    row.name,
                )
            )
            parts = [part for part in PARTS if any(part in row.seen for row in rows)]
            partitions = [part for part in labels.by_partition if part.votes][-MONTHS:]
            stale = records.outdated("label"), records.outdated("evaluate")
            found.append(FunctionsPage(task, labels, rows, parts, partitions, *stale))
    return found


def votes_over_time(
    title: str, classes: Sequence[str], rows: Sequence[FunctionRow], parts: Sequence[PartitionReport]
) -> Markup:
    """A line per function, a cell per partition: shade is coverage, colour the class, split where there are several.

    The first line is the share that no function covers.
    """
    left, right, y = 216.0, WIDE - 26.0, 26.0
    step = (right - left) / max(len(parts), 1)

    def begin(name: str, class_: str, says: str = "") -> list[Markup]:
        ground = rect(left, y, step * len(parts), CELL - 1.5, "ground", says)
        return [text(left - 8, y + 12, shorten(name, LETTERS), class_, "end"), ground]

    drawn = [*column_names([part.partition for part in parts], left, step, 14), *begin("covered by none", "axis")]
    for place, part in enumerate(parts):
        share = 1 - part.covered / part.rows if part.rows else 0.0
        says = f"{part.partition}: {percent(share)} of {part.rows:,} rows are uncovered"
        drawn.append(_cell(left + step * place, y, step, "void", share, says))
    group: object = object()
    for row in rows:
        y += CELL if row.place == group else GAP
        if row.place != group:
            voted = "votes for several classes" if row.function.polarity else "never votes"
            drawn.append(text(left, y - 5, voted if row.place is None else f"votes {classes[row.place]}", "axis"))
            group = row.place
        drawn += begin(row.name, "name", row.name)
        for place, part in enumerate(parts):
            votes = part.votes.get(row.name, [])
            total, x = sum(votes), left + step * place
            if not part.rows or not total:
                continue
            told = ", ".join(f"{number:,} {name}" for name, number in zip(classes, votes, strict=False) if number)
            says = f"{row.name}, {part.partition}: {percent(total / part.rows)} of {part.rows:,} rows, {told}"
            for number, voted_for in enumerate(votes):
                width = step * voted_for / total
                if voted_for:
                    hue = colour(number) if len(classes) <= COLOURS else 0
                    drawn.append(_cell(x, y, width, f"h{hue}", total / part.rows, says))
                x += width
    return picture(title, WIDE, y + CELL + 4, *drawn, class_="chart heat")


def _cell(x: float, y: float, width: float, class_: str, share: float, says: str = "") -> Markup:
    """Its shade goes with the root of the share, so that small shares are told apart."""
    opacity = f"{math.sqrt(min(max(share, 0.0), 1.0)):.2f}"
    return rect(x, y, max(width - 0.6, 0.2), CELL - 1.5, class_, says, fill_opacity=opacity)


def mark(place: int | None, x: float, y: float, size: float, says: str = "") -> Markup:
    """A class's form and colour: circle, square, diamond, triangle; a ring where a function votes for several."""
    if place is None:
        return dot(x, y, size, "mark ring", says)
    class_, form = f"mark h{colour(place)}", place % 4
    if form == 0:
        return dot(x, y, size, class_, says)
    corners = [
        [(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)],
        [(0.0, -1.3), (1.3, 0.0), (0.0, 1.3), (-1.3, 0.0)],
        [(0.0, -1.2), (1.2, 0.9), (-1.2, 0.9)],
    ]
    points = " ".join(f"{x + a * size:.1f},{y + b * size:.1f}" for a, b in corners[form - 1])
    return el("polygon", says=says, points=points, class_=class_)


def swatch(place: int) -> Markup:
    """A class's `mark`, for a legend."""
    return el("svg", mark(place, 7, 7, 5), viewBox="0 0 14 14", class_="form", aria_hidden="true")


@dataclass(frozen=True)
class Dot:
    """A function's learned accuracy (``x``) against its accuracy on gold (``y``); ``far`` from what others have."""

    name: str
    x: float
    y: float
    votes: int
    place: int | None
    far: bool

    @property
    def says(self) -> str:
        """The dot in words."""
        return f"{self.name}: learned {self.x:.3f}, on gold {self.y:.3f} of {count(self.votes, 'vote')}"


def by_part(page: FunctionsPage) -> dict[str, list[Dot]]:
    """By part of gold, the functions with both accuracies and enough votes; parts with fewer than three are out."""
    found = {}
    one_colour = len(page.labels.classes) > COLOURS
    for part in page.parts:
        both = [
            (row, row.function.weight, seen.accuracy, seen.votes)
            for row in page.rows
            if (seen := row.seen.get(part)) and row.function.weight is not None and seen.accuracy is not None
            if seen.votes is not None and seen.votes >= OF_CLASS
        ]
        usual = median(y - x for _, x, y, _ in both) if both else 0.0
        by_distance = sorted((abs(y - x - usual), row.name) for row, x, y, votes in both if votes >= FEW)
        far = {name for distance, name in by_distance[-NAMED:] if distance >= FAR}
        if len(both) >= 3:
            found[part] = [
                Dot(row.name, x, y, votes, 0 if one_colour else row.place, row.name in far) for row, x, y, votes in both
            ]
    return found


def lowest(parts: Iterable[list[Dot]]) -> tuple[float, float]:
    """Where axes begin that hold all dots: a tenth below or at the lowest of each, at most 0.5."""
    dots = [each for part in parts for each in part]
    low_x, low_y = (
        min(math.floor((low - 0.01) * 10) / 10, 0.5) if low > 0.01 else 0.0
        for low in (min(each.x for each in dots), min(each.y for each in dots))
    )
    return low_x, low_y


def scatter(title: str, dots: Sequence[Dot], low: tuple[float, float]) -> Markup:
    """Learned accuracy (x) against accuracy on gold (y), from ``low`` to 1; the diagonal is where they are equal."""
    left, right, top, bottom = box = 62.0, WIDE - 20.0, 14.0, 330.0
    x, y = linear(low[0], 1, left, right), linear(low[1], 1, bottom, top)
    drawn = [*y_axis(y, left, right, ticks(low[1], 1.0, 5)), *x_axis(x, top, bottom, ticks(low[0], 1.0, 6))]
    drawn += axis_names("learned accuracy", "accuracy on gold", *box)
    drawn.append(line(x(max(low)), y(max(low)), right, top, "diagonal"))
    # Larger with more votes: 3 to 8 units.
    drawn += [
        mark(one.place, x(one.x), y(one.y), min(3 + math.log10(max(one.votes, 1)), 8.0), one.says) for one in dots
    ]
    taken = [(x(one.x) - 5, y(one.y) - 5, x(one.x) + 5, y(one.y) + 5) for one in dots]
    for one in sorted((one for one in dots if one.far), key=lambda one: (one.y - one.x, one.name)):
        at_x, at_y = x(one.x), y(one.y)
        if free := _free_place(at_x, at_y, LETTER * min(len(one.name), LETTERS), taken, box):
            taken.append(free)
            start, above, end, below = free
            if not above < at_y < below:  # the name is not beside its dot
                drawn.append(line(at_x, at_y, min(max(at_x, start), end), (above + below) / 2, "leader minor"))
            drawn.append(text(start, below - 3, shorten(one.name, LETTERS), "name minor"))
    return picture(title, WIDE, 384, *drawn)


def _free_place(x: float, y: float, width: float, taken: Sequence[Box], within: Box) -> Box | None:
    """A place for a dot's name beside, above or below it that nothing else takes."""
    left, right, top, bottom = within
    for b in (-6, -18, 6, -30, 18, 30):
        for a in (9, -9 - width):
            box = x + a, y + b, x + a + width, y + b + 12
            inside = left < box[0] and box[2] < right and top < box[1] and box[3] < bottom
            if inside and not any(
                box[0] < other[2] and other[0] < box[2] and box[1] < other[3] and other[1] < box[3] for other in taken
            ):
                return box
    return None


def notes(page: FunctionsPage) -> list[str]:
    """What stands out, in sentences; words between backticks are names."""
    silent = [f"`{row.name}`" for row in page.voters if not row.function.polarity]
    said = [f"{', '.join(silent)} never {'votes' if len(silent) == 1 else 'vote'}."] if silent else []
    for row in page.rows:
        function, name, dev = row.function, f"`{row.name}`", row.seen.get("dev")
        if row.faults.count:
            kind = f" ({row.faults.kind})" if row.faults.kind else ""
            said.append(f"{name} failed on {count(row.faults.count, 'row')}{kind}.")
        if dev and dev.accuracy is not None and dev.accuracy < 0.5 and (dev.votes or 0) >= FEW:
            said.append(
                f"{name} is wrong more often than right on dev gold: {dev.accuracy:.1%} of {dev.votes:,} votes."
            )
        prior = page.labels.class_balance.get(function.polarity[0]) if row.place is not None else None
        if function.weight is not None and prior is not None and function.weight < prior:
            said.append(
                f"The label model trusts {name} less than chance: learned {function.weight:.3f}, prior {prior:.3f}."
            )
        said += _silence(page, row.name)
    return said


def _silence(page: FunctionsPage, name: str) -> list[str]:
    """A function without votes in the last partitions, where ten or more would have been expected of it."""
    voted = [part for part in page.partitions if sum(part.votes.get(name, []))]
    if not voted:
        return []
    last = page.partitions.index(voted[-1]) + 1
    before, after = (sum(part.rows for part in parts) for parts in (page.partitions[:last], page.partitions[last:]))
    share = sum(sum(part.votes[name]) for part in voted) / max(before, 1)
    if share * after < 10:
        return []
    return [
        f"`{name}` last voted in {voted[-1].partition}: on {share:.1%} of rows until then, on none of {after:,} since."
    ]
