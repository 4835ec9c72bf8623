"""What is remembered of labeling functions: ``reports/labeling_functions.json`` in, counts that add up out.

`rules_of` gives all of it by partition, for the profile of a labels table; `through` the totals of the partitions that
are accepted, for the baseline. Both are JSON; `Totals` is what checks work on.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from weakfish.checks.labels import crossed
from weakfish.checks.rates import Rate
from weakfish.errors import TableError
from weakfish.files import read_json
from weakfish.project import Project

COUNTS = ("conflicts", "settled")
"""What is counted of a function beside votes; `labeling.modeling.summary` says what each is."""

SIGNALS = ("at_clamp", "voting", "unexplained", "unstable")
DIGITS = 6
"""Decimals of shares and means."""


@dataclass(frozen=True)
class Rule:
    """A labeling function over some rows: ``votes`` by class, else counts of rows.

    ``others`` counts the rows on which the other votes have one majority, by the function's own vote, abstaining last,
    and that majority.
    """

    votes: tuple[int, ...]
    others: tuple[tuple[int, ...], ...]
    conflicts: int
    settled: int

    @property
    def voted(self) -> int:
        """Rows on which it votes."""
        return sum(self.votes)

    @property
    def polarity(self) -> frozenset[int]:
        """The classes that it votes for."""
        return frozenset(label for label, count in enumerate(self.votes) if count)


@dataclass(frozen=True)
class Totals:
    """Labels and labeling functions over some rows.

    ``mean`` is the mean probability of each class over covered rows; ``weighed`` are the covered rows behind
    ``differing`` and `Rule.settled`.
    """

    rows: int
    covered: int
    weighed: int
    differing: int
    mean: Mapping[str, float]
    functions: Mapping[str, Rule]

    @classmethod
    def parse(cls, content: Mapping[str, Any]) -> Totals:
        """From the JSON of a partition or of what was accepted."""
        counts = {name: content[name] for name in ("rows", "covered", "weighed", "differing", "mean")}
        functions = {
            name: Rule(tuple(of["votes"]), crossed.read(of["others"]), **{count: of[count] for count in COUNTS})
            for name, of in content["functions"].items()
        }
        return cls(**counts, functions=functions)

    @classmethod
    def added(cls, parts: Iterable[Totals]) -> Totals:
        """Over the rows of all parts."""
        found = list(parts)
        covered = sum(part.covered for part in found)
        sums = {name: sum(p.covered * p.mean[name] for p in found) for name in (found[0].mean if found else ())}
        names = found[0].functions if found else ()
        return cls(
            rows=sum(part.rows for part in found),
            covered=covered,
            weighed=sum(part.weighed for part in found),
            differing=sum(part.differing for part in found),
            mean={name: round(total / covered, DIGITS) if covered else 0.0 for name, total in sums.items()},
            functions={name: _added([part.functions[name] for part in found]) for name in names},
        )

    def as_json(self) -> dict[str, Any]:
        """What `parse` reads."""
        functions = {
            name: {
                "votes": list(rule.votes),
                "others": crossed.written(rule.others),
                **{count: getattr(rule, count) for count in COUNTS},
            }
            for name, rule in self.functions.items()
        }
        return {**vars(self), "mean": dict(self.mean), "functions": functions}

    def coverage(self, rule: str) -> Rate:
        """Rows on which a function votes."""
        return Rate(self.functions[rule].voted, self.rows)

    def conflicts(self, rule: str) -> Rate:
        """Of the rows on which a function votes, those on which another votes for another class."""
        return Rate(self.functions[rule].conflicts, self.functions[rule].voted)

    def agreement(self, rule: str) -> Rate:
        """Of the rows on which a function and others vote, and these have one majority, those on which it is that."""
        voted = self.functions[rule].others[:-1]
        return Rate(sum(counts[label] for label, counts in enumerate(voted)), sum(map(sum, voted)))

    def hits(self, rule: str, label: int) -> tuple[Rate, Rate]:
        """How often a function votes for a class: where that is the majority of the others, and where another is."""
        others = self.functions[rule].others
        given = [sum(counts) for counts in zip(*others, strict=True)]
        voted = others[label]
        return Rate(voted[label], given[label]), Rate(sum(voted) - voted[label], sum(given) - given[label])

    def settled(self, rule: str) -> Rate:
        """Of covered rows, those whose class the function's vote settles alone."""
        return Rate(self.functions[rule].settled, self.weighed)


def _added(rules: list[Rule]) -> Rule:
    votes = tuple(map(sum, zip(*(rule.votes for rule in rules), strict=True)))
    others = tuple(
        tuple(map(sum, zip(*counts, strict=True))) for counts in zip(*(rule.others for rule in rules), strict=True)
    )
    return Rule(votes, others, **{count: sum(getattr(rule, count) for rule in rules) for count in COUNTS})


@dataclass(frozen=True)
class Rules:
    """What `rules_of` gives, to compare: partitions by name, and what is known of functions whatever the partition."""

    content: Mapping[str, Any]

    @cached_property
    def partitions(self) -> dict[str, Totals]:
        """By name."""
        return {name: Totals.parse(part) for name, part in self.content["by_partition"].items()}

    def over(self, names: Collection[str] | None = None) -> Totals:
        """Over some partitions, or all."""
        return Totals.added(part for name, part in self.partitions.items() if names is None or name in names)


def rules_of(project: Project, task: str) -> dict[str, Any]:
    """What the label stage left of a task, by partition.

    Raises
    ------
    TableError
        When the reports or the manifest of the labels are missing, or are those of an older version.
    """
    file = project.reports / "labeling_functions.json"
    summary = read_json(file)["tasks"].get(task)
    if summary is None or any("settled" not in part for part in summary["by_partition"]):
        what = "is of an older version" if summary else f"has no task {task}"
        raise TableError(f"{file} {what}; run `weakfish label`, which writes it.")
    made = read_json(project.table("labels") / f"{task}.manifest.json")["functions"]
    names = [function["name"] for function in summary["functions"]]
    return {
        "classes": summary["classes"],
        "method": summary["method"],
        "signals": {name: summary["signals"][name] for name in SIGNALS},
        "hashes": {name: made[name]["identity"] for name in names},
        "weights": {function["name"]: round(function["weight"], DIGITS) for function in summary["functions"]},
        "by_partition": {part["partition"]: _part(part, names) for part in summary["by_partition"]},
    }


def through(rules: Mapping[str, Any], partition: str | None) -> dict[str, Any]:
    """Of what `rules_of` gives, the totals up to and with a partition; of all for None."""
    found = Rules(rules)
    names = [name for name in found.partitions if partition is None or name <= partition]
    known = {name: of for name, of in rules.items() if name != "by_partition"}
    rows = {name: found.partitions[name].rows for name in names}
    return {**known, "partitions": rows, **found.over(names).as_json()}


def _part(part: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    counted = ("votes", "others", *COUNTS)
    functions = {name: {count: part[count][name] for count in counted} for name in names}
    counts = {name: part[name] for name in ("rows", "covered", "weighed", "differing")}
    mean = {name: round(value or 0.0, DIGITS) for name, value in part["mean"].items()}
    return {**counts, "mean": mean, "functions": functions}
