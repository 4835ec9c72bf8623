"""Labeling functions on the page: figures, how they fit together, pictures, and what stands out among them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from weakfish.contracts.gold import ROWS_OF_CLASS as OF_CLASS
from weakfish.contracts.reports import Empirical, FaultsReport, FunctionReport, PartitionReport, TaskLabels
from weakfish.report.charts import COLOURS, colour
from weakfish.report.inputs import RunRecords
from weakfish.report.wording import percent

PARTS = ("dev", "test")
"""Parts of gold, in the order in which they are shown."""

MONTHS = 60
"""Partitions that the votes over time go back, at most."""


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


@dataclass(frozen=True)
class Dot:
    """A function in the overview; ``place`` is the place of its class, None if it votes for several."""

    name: str
    share: float
    right: float
    votes: int
    place: int | None


def overview(page: FunctionsPage) -> tuple[bool, list[Dot]] | None:
    """How many rows each function votes on, and how often it is right, those that are wrong most first.

    Right is what dev gold says, where there is some (then the first is true), else what the label model learned.
    """
    gold = "dev" in page.parts or any(row.function.dev and row.function.dev.votes for row in page.rows)
    found = []
    for row in page.voters:
        seen, share = row.function.dev or row.seen.get("dev", Empirical()), row.function.coverage or 0.0
        votes = (seen.votes or 0) if gold else round(share * (page.labels.rows or 0))
        right = seen.accuracy if gold else row.function.weight
        if right is not None and votes >= OF_CLASS:
            place = 0 if len(page.labels.classes) > COLOURS else row.place
            found.append(Dot(row.name, share, right, votes, place))
    return (gold, sorted(found, key=lambda dot: (dot.right, dot.name))) if len(found) > 2 else None
