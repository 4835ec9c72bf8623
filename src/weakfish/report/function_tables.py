"""Labeling functions on the page: figures, how they fit together, pictures, and what stands out among them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from weakfish.contracts.gold import ROWS_OF_CLASS as OF_CLASS
from weakfish.contracts.reports import Empirical, FaultsReport, FunctionReport, PartitionReport, TaskLabels
from weakfish.report.charts import (
    COLOURS,
    PART,
    axis_names,
    colour,
    dot,
    el,
    line,
    linear,
    picture,
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

FEW = 20
"""Votes on dev gold from which on a function that is wrong more often than right is worth a sentence."""

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


def cell(votes: Sequence[int], part: PartitionReport, classes: Sequence[str]) -> tuple[int, float, str]:
    """A function's votes in a partition: the class that got most, their share of the rows, and all in words."""
    total = sum(votes)
    share = total / part.rows if part.rows else 0.0
    most = max(range(len(votes)), key=lambda place: votes[place], default=0)
    told = ", ".join(f"{number:,} {name}" for name, number in zip(classes, votes, strict=False) if number)
    says = f"{part.partition}: {percent(share)} of {part.rows:,} rows{', ' if told else ''}{told}"
    return colour(most) if len(classes) <= COLOURS else 0, share, says


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
    """A function in the overview: where it lies, the votes behind that, and whether its name stands beside it."""

    name: str
    x: float
    y: float
    votes: int
    place: int | None
    named: bool
    says: str


def overview(page: FunctionsPage) -> Markup | None:
    """How many rows each function votes on, and how often it is right: on dev gold, else as the label model has it."""
    gold = "dev" in page.parts or any(row.function.dev and row.function.dev.votes for row in page.rows)
    one_colour, found = len(page.labels.classes) > COLOURS, []
    for row in page.voters:
        seen, share = row.function.dev or row.seen.get("dev", Empirical()), row.function.coverage or 0.0
        votes = (seen.votes or 0) if gold else round(share * (page.labels.rows or 0))
        right = seen.accuracy if gold else row.function.weight
        if right is not None and votes >= OF_CLASS:
            found.append((row, share, right, votes))
    if len(found) < 3:
        return None
    # Who reads this wants to know those that decide most, and those that are wrong most.
    named = {row.name for row, *_ in sorted(found, key=lambda one: (-one[1], one[0].name))[:2]}
    named |= {row.name for row, *_ in sorted(found, key=lambda one: (one[2], one[0].name))[:3]}
    dots = []
    for row, x, y, votes in found:
        says = f"{row.name}: votes on {percent(x)} of rows, right on {percent(y)} of {count(votes, 'vote')}"
        dots.append(Dot(row.name, x, y, votes, 0 if one_colour else row.place, row.name in named, says))
    names = "share of rows that a function votes on", "right, on dev gold" if gold else "right, as learned"
    most, least = max(one.x for one in dots), min(one.y for one in dots)
    title = f"How often each function of {page.name} votes, and how often it is right"
    return _scatter(
        title, names, dots, min(math.ceil(most * 10 + 0.3) / 10, 1.0), max(math.floor(least * 10 - 0.3) / 10, 0.0)
    )


def _scatter(title: str, names: tuple[str, str], dots: Sequence[Dot], most: float, least: float) -> Markup:
    """Dots from 0 to ``most`` and from ``least`` to 1; a dashed line at a half."""
    left, right, top, bottom = box = 62.0, PART[0] - 20.0, 14.0, PART[1] - 54.0
    x, y = linear(0.0, most, left, right), linear(least, 1.0, bottom, top)
    drawn = [*y_axis(y, left, right, ticks(least, 1.0, 5)), *x_axis(x, top, bottom, ticks(0.0, most, 6))]
    drawn += axis_names(*names, *box)
    if least < 0.5:
        drawn.append(line(left, y(0.5), right, y(0.5), "diagonal"))
    # Larger with more votes: 3 to 8 units.
    drawn += [
        mark(one.place, x(one.x), y(one.y), min(3 + math.log10(max(one.votes, 1)), 8.0), one.says) for one in dots
    ]
    taken = [(x(one.x) - 5, y(one.y) - 5, x(one.x) + 5, y(one.y) + 5) for one in dots]
    for one in sorted((one for one in dots if one.named), key=lambda one: (one.y - one.x, one.name)):
        at_x, at_y = x(one.x), y(one.y)
        if free := _free_place(at_x, at_y, LETTER * min(len(one.name), LETTERS), taken, box):
            taken.append(free)
            start, above, end, below = free
            if not above < at_y < below:  # the name is not beside its dot
                drawn.append(line(at_x, at_y, min(max(at_x, start), end), (above + below) / 2, "leader minor"))
            drawn.append(text(start, below - 3, shorten(one.name, LETTERS), "name minor"))
    return picture(title, *PART, *drawn)


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
                f"{name} is wrong more often than right on dev gold: {percent(dev.accuracy)} of {dev.votes:,} votes."
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
        f"`{name}` last voted in {voted[-1].partition}: on {percent(share)} of rows until then, "
        f"on none of {after:,} since."
    ]
