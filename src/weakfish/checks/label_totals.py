"""What labeling counted of a task, by partition and added up: what checks compare, and a baseline keeps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from weakfish.checks.rates import Rate
from weakfish.contracts.manifests import LabelsManifest, read_manifest
from weakfish.contracts.reports import LabelsReport, PartitionReport, SlicePart, read_report, report_file
from weakfish.contracts.votes_file import parse_table, table_json
from weakfish.errors import TableError
from weakfish.project.paths import Project

OF_ROWS = ("rows", "covered", "conflicting", "weighed", "differing")
"""Counts of rows; ``weighed`` are the covered rows behind ``differing`` and ``settled``. Only slices count
``conflicting`` ones, and they count less of functions."""

OF_FUNCTIONS = ("votes", "others", "conflicts", "settled")
"""What is counted of a labeling function: its votes by class; the rows on which the other votes have one majority, by
its own vote (abstaining last) and that majority; and what `labeling.label_summary.summary` says of the other two."""

SIGNALS = ("at_clamp", "voting", "unexplained", "unstable")
DIGITS = 6
"""Decimals of shares and means."""


class LabelTotals:
    """Labels and labeling functions over the rows of partitions; ``mean`` is that of covered rows, by class."""

    def __init__(self, parts: Iterable[Mapping[str, Any]]) -> None:
        """Add up partitions as `rules_of` has them, or what `through` gave."""
        found = list(parts)
        first: Mapping[str, Any] = found[0] if found else {"mean": {}, "functions": {}}
        self.rows, self.covered, self.conflicting, self.weighed, self.differing = (
            sum(part.get(name, 0) for part in found) for name in OF_ROWS
        )
        sums = {name: sum(part["covered"] * part["mean"][name] for part in found) for name in first["mean"]}
        self.mean = {name: round(total / self.covered, DIGITS) if self.covered else 0.0 for name, total in sums.items()}
        self.functions = {
            name: {count: sum(_array(part["functions"][name], count) for part in found) for count in counts}
            for name, counts in first["functions"].items()
        }

    def as_json(self) -> dict[str, Any]:
        """What can be added up again."""
        functions = {
            name: {
                count: table_json(number.tolist()) if count == "others" else number.tolist()
                for count, number in of.items()
            }
            for name, of in self.functions.items()
        }
        own = {name: value for name, value in vars(self).items() if value or name not in OF_ROWS[2:]}
        return {**own, "functions": functions}

    def voted(self, rule: str) -> int:
        """Rows on which a function votes."""
        return int(self.functions[rule]["votes"].sum())

    def polarity(self, rule: str) -> list[int]:
        """The classes that a function votes for."""
        return np.flatnonzero(self.functions[rule]["votes"]).tolist()

    def coverage(self, rule: str) -> Rate:
        """Rows on which a function votes."""
        return Rate(self.voted(rule), self.rows)

    def conflicts(self, rule: str) -> Rate:
        """Of the rows on which a function votes, those on which another votes for another class."""
        return Rate(int(self.functions[rule]["conflicts"]), self.voted(rule))

    def settled(self, rule: str) -> Rate:
        """Of covered rows, those whose class the function's vote settles alone."""
        return Rate(int(self.functions[rule]["settled"]), self.weighed)

    def agreement(self, rule: str) -> Rate:
        """Of the rows on which a function and others vote, and these have one majority, those on which it is that."""
        voted = self.functions[rule]["others"][:-1]
        return Rate(int(voted.trace()), int(voted.sum()))

    def hits(self, rule: str, label: int) -> tuple[Rate, Rate]:
        """How often a function votes for a class: where that is the majority of the others, and where another is."""
        others = self.functions[rule]["others"]
        hits, rows = int(others[label, label]), int(others[:, label].sum())
        return Rate(hits, rows), Rate(int(others[label].sum()) - hits, int(others.sum()) - rows)


def _array(function: Mapping[str, Any], count: str) -> Any:
    return np.array(parse_table(function[count]) if count == "others" else function[count])


def rules_of(project: Project, task: str) -> dict[str, Any]:
    """What the label stage left of a task, by partition.

    Raises
    ------
    TableError
        When the reports or the manifest of the labels are missing, or are those of an older version.
    """
    summary = read_report(project, LabelsReport).tasks.get(task)
    if summary is None or summary.signals is None or any(part.settled is None for part in summary.by_partition):
        what = "is of an older version" if summary else f"has no task {task}"
        raise TableError(f"{report_file(project, LabelsReport)} {what}; run `weakfish label`, which writes it.")
    made = read_manifest(project, LabelsManifest, f"labels/{task}").functions
    names = [function.name for function in summary.functions]

    def counted(parts: Sequence[PartitionReport | SlicePart]) -> dict[str, dict[str, Any]]:
        return {
            part.partition: {
                **{name: getattr(part, name) for name in OF_ROWS if hasattr(part, name)},
                "mean": {name: round(value or 0.0, DIGITS) for name, value in part.mean.items()},
                "functions": {
                    name: {count: getattr(part, count)[name] for count in OF_FUNCTIONS if hasattr(part, count)}
                    for name in names
                },
            }
            for part in parts
        }

    slices = {
        name: {"classes": list(summary.classes), "by_partition": counted(of.by_partition)}
        for name, of in summary.slices.items()
    }
    return {
        "classes": list(summary.classes),
        "method": summary.method,
        "signals": {name: getattr(summary.signals, name) for name in SIGNALS},
        "hashes": {name: made[name].identity for name in names},
        "weights": {function.name: round(function.weight or 0.0, DIGITS) for function in summary.functions},
        "by_partition": counted(summary.by_partition),
        **({"slices": slices} if slices else {}),
    }


def through(rules: Mapping[str, Any], partition: str | None) -> dict[str, Any]:
    """Of what `rules_of` gives, the totals up to and with a partition; of all for None."""
    parts = {name: of for name, of in rules["by_partition"].items() if partition is None or name <= partition}
    known = {name: of for name, of in rules.items() if name not in ("by_partition", "slices")}
    if slices := {name: through(of, partition) for name, of in rules.get("slices", {}).items()}:
        known["slices"] = slices
    rows = {name: of["rows"] for name, of in parts.items()}
    return {**known, "partitions": rows, **LabelTotals(parts.values()).as_json()}
