"""What the page says of labeling functions: each one's figures, and how they fit together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from weakfish.contracts.reports import Empirical, FaultsReport, FunctionReport, PartitionReport, TaskLabels
from weakfish.report.inputs import Inputs
from weakfish.report.stage_table import Stop, outdated

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
