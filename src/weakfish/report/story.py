"""What happened to the labels, in one sentence: the largest change of a class's share, or that none changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from weakfish.checks.rates import Limit, Rate
from weakfish.contracts.reports import PartitionReport, TaskLabels
from weakfish.contracts.tables import UNDATED
from weakfish.report.inputs import RunRecords
from weakfish.report.wording import month, short_percent

LEAST, CHANCE = 0.05, 0.001
"""A change of less is none; nor is one that chance alone brings about so often, in any of a task's comparisons."""

UNCOVERED = "rows without a vote"

Rates = Mapping[str, Rate]
"""Of each class its share of labels, and of all rows those without one."""


def story(records: RunRecords) -> str | None:
    """What happened to the labels of this run; None where it made none."""
    if records.outdated("label") or not records.labels.tasks:
        return None
    changes = [found for task, labels in records.labels.tasks.items() if (found := _change(records, task, labels))]
    if changes:
        return max(changes)[1]
    task, labels = next(iter(records.labels.tasks.items()))
    parts, total = _dated(labels), _rates(labels, labels.by_partition)
    named = [
        f"{short_percent(rate.share)} are {what}" for what, rate in total.items() if rate.rows and what != UNCOVERED
    ]
    if not named:
        return f"No row has a label of {task}."
    shares = f"Of the labels of {task}, {', '.join(named[:3])}{' and other classes' if named[3:] else ''}"
    if f"labels/{task}" in records.accepted:
        return f"{shares}, as when they were accepted."
    if len(parts) < 2:
        return f"{shares}."
    first, last = month(parts[0].partition), month(parts[-1].partition)
    return f"{shares}, about the same from {first} to {last}."


def _change(records: RunRecords, task: str, labels: TaskLabels) -> tuple[float, str] | None:
    """The largest change of a task's labels, from what was accepted, or where its time falls apart most; in words."""
    parts, accepted = _dated(labels), records.accepted.get(f"labels/{task}")
    pairs: list[tuple[str, Rates, Rates]] = []
    if accepted and accepted.rules:
        for is_new in (False, True):
            side = [part for part in parts if accepted.is_new(part.partition) is is_new]
            since = f"in {month(side[0].partition)}" if side and is_new else "since they were accepted"
            pairs += [(since, _accepted(labels, accepted.rules), _rates(labels, side))] if side else []
    else:
        now, then = _rates(labels, parts), _rates(labels, [])
        for part, after in pairwise(parts):
            moved = _rates(labels, [part])
            then = {
                what: Rate(rate.hits + moved[what].hits, rate.rows + moved[what].rows) for what, rate in then.items()
            }
            now = {what: Rate(rate.hits - moved[what].hits, rate.rows - moved[what].rows) for what, rate in now.items()}
            pairs.append((f"in {month(after.partition)}", then, now))
    limit, found = Limit(chance=CHANCE / max(len(pairs), 1), difference=LEAST), []
    for since, then, now in pairs:
        for what, rate in now.items():
            before = then.get(what, Rate(0, 0))
            if limit.tells(rate, before):
                # What the cut explains of the spread: of all cuts the best is where the change lies.
                weight, by = rate.rows * before.rows / (rate.rows + before.rows), rate.share - before.share
                shares = f"from {short_percent(before.share)} to {short_percent(rate.share)}"
                said = f"Labels of {task} changed {since}: {what} {'rose' if by > 0 else 'fell'} {shares}."
                found.append((weight * by**2, abs(by), said))
    return max(found)[1:] if found else None


def _dated(labels: TaskLabels) -> list[PartitionReport]:
    """The partitions that have rows, in the order of time."""
    return sorted(
        (part for part in labels.by_partition if part.rows and part.partition != UNDATED),
        key=lambda part: part.partition,
    )


def _rates(labels: TaskLabels, parts: Sequence[PartitionReport]) -> Rates:
    """The share of each class among covered rows (of two classes the last), and that of rows without a vote."""
    shown = labels.classes[-1:] if len(labels.classes) == 2 else labels.classes
    rows = sum(part.rows for part in parts)
    covered = min(max(sum(part.covered for part in parts), 0), rows)
    sums = {name: sum(part.covered * (part.mean.get(name) or 0.0) for part in parts) for name in shown}
    # Whatever a file says, a share lies between 0 and 1.
    rates = {name: Rate(min(max(of, 0.0), covered), covered) for name, of in sums.items()}
    return {**rates, UNCOVERED: Rate(rows - covered, rows)}


def _accepted(labels: TaskLabels, rules: Mapping[str, Any]) -> Rates:
    """The same, as `weakfish.checks.label_totals.through` wrote it into the baseline."""
    return _rates(labels, [PartitionReport("", rules.get("rows", 0), rules.get("covered", 0), rules.get("mean", {}))])
