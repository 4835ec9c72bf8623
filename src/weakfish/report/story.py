"""What happened to the labels, in one sentence: the largest change of a class's share, or that none changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from weakfish.checks.rates import Limit, Rate
from weakfish.contracts.reports import PartitionReport, TaskLabels
from weakfish.contracts.tables import UNDATED
from weakfish.report.inputs import RunRecords
from weakfish.report.wording import month, short_percent

LEAST, CHANCE = 0.05, 0.001
"""A change of less is none; nor is one that chance alone brings about so often, in any of a task's comparisons."""

UNCOVERED = "rows without a label"


@dataclass(frozen=True)
class Move:
    """A share of a task's rows before a partition and since; no partition: as accepted, and as it is now."""

    task: str
    what: str
    since: str
    before: float
    now: float

    @property
    def sentence(self) -> str:
        """The change in words."""
        way = "rose" if self.now > self.before else "fell"
        shares = f"from {short_percent(self.before)} to {short_percent(self.now)}"
        time = f"in {month(self.since)}" if self.since else "since they were accepted"
        return f"Labels of {self.task} changed {time}: {self.what} {way} {shares}."


def move(records: RunRecords, task: str) -> Move | None:
    """The largest change of a task's labels: from what was accepted, or where its time falls apart most."""
    labels = records.labels.tasks[task]
    parts, accepted = _dated(labels), records.accepted.get(f"labels/{task}")
    if accepted and accepted.rules:
        kept, new = ([part for part in parts if accepted.is_new(part.partition) is is_new] for is_new in (False, True))
        known = _accepted(labels, accepted.rules)
        pairs = [
            (side[0].partition if side is new else "", known, _rates(labels, side)) for side in (kept, new) if side
        ]
    else:
        cuts = range(1, len(parts))
        pairs = [(parts[cut].partition, _rates(labels, parts[:cut]), _rates(labels, parts[cut:])) for cut in cuts]
    limit = Limit(chance=CHANCE / max(len(pairs), 1), difference=LEAST)
    found: list[tuple[float, Move]] = []
    for since, then, now in pairs:
        for what, rate in now.items():
            before = then.get(what, Rate(0, 0))
            if limit.tells(rate, before):
                # What the cut explains of the spread: of all cuts the best is where the change lies.
                weight = rate.rows * before.rows / (rate.rows + before.rows)
                apart = weight * (rate.share - before.share) ** 2
                found.append((apart, Move(task, what, since, before.share, rate.share)))
    return max(found, key=lambda item: item[0], default=(0.0, None))[1]


def story(records: RunRecords) -> str | None:
    """What happened to the labels of this run; None where it made none."""
    if records.outdated("label") or not records.labels.tasks:
        return None
    moves = [found for task in records.labels.tasks if (found := move(records, task))]
    if moves:
        return max(moves, key=lambda found: abs(found.now - found.before)).sentence
    task, labels = next(iter(records.labels.tasks.items()))
    total = _rates(labels, labels.by_partition)
    parts = _dated(labels)
    named = [f"{what} {short_percent(rate.share)}" for what, rate in total.items() if rate.rows and what != UNCOVERED]
    shares = f"{', '.join(named[:3])}{' and other classes' if len(named) > 3 else ''}" if named else "no row has one"
    if f"labels/{task}" in records.accepted:
        return f"The labels of {task} are as they were accepted: {shares}."
    if len(parts) < 2:
        return f"The labels of {task}: {shares}."
    first, last = month(parts[0].partition), month(parts[-1].partition)
    return f"The labels of {task} have not changed from {first} to {last}: {shares}."


def _dated(labels: TaskLabels) -> list[PartitionReport]:
    """The partitions that have rows, in the order of time."""
    return sorted(
        (part for part in labels.by_partition if part.rows and part.partition != UNDATED),
        key=lambda part: part.partition,
    )


def _rates(labels: TaskLabels, parts: Sequence[PartitionReport]) -> dict[str, Rate]:
    """The share of each class among covered rows (of two classes the last), and that of rows without a label."""
    shown = labels.classes[-1:] if len(labels.classes) == 2 else labels.classes
    rows = sum(part.rows for part in parts)
    covered = min(max(sum(part.covered for part in parts), 0), rows)
    sums = {name: sum(part.covered * (part.mean.get(name) or 0.0) for part in parts) for name in shown}
    # Whatever a file says, a share lies between 0 and 1.
    rates = {name: Rate(min(max(of, 0.0), covered), covered) for name, of in sums.items()}
    return {**rates, UNCOVERED: Rate(rows - covered, rows)}


def _accepted(labels: TaskLabels, rules: Mapping[str, Any]) -> dict[str, Rate]:
    """The same, as `weakfish.checks.label_checks.through` wrote it into the baseline."""
    return _rates(labels, [PartitionReport("", rules.get("rows", 0), rules.get("covered", 0), rules.get("mean", {}))])
