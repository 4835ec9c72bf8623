"""Counts by two classes as JSON: a table of few classes as it is, of many, most of them zero, as those that are not."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

from weakfish.checks.rates import Bounds, Limit, Rate, distance, percent
from weakfish.contracts.verdicts import Check, judged
from weakfish.errors import TableError
from weakfish.files import read_json
from weakfish.project.paths import Project

FEW = 12
"""Classes up to which the whole table is written: of fifty it would be 2,550 numbers per function and partition."""

Table = Sequence[Sequence[int]]


def written(table: Table) -> Any:
    """The table (rows, classes) for a file; see `read`."""
    if not table or len(table[0]) <= FEW:
        return [list(row) for row in table]
    counts = [[one, other, count] for one, row in enumerate(table) for other, count in enumerate(row) if count]
    return {"shape": [len(table), len(table[0])], "counts": counts}


def read(content: Any) -> tuple[tuple[int, ...], ...]:
    """The table that `written` wrote."""
    if not isinstance(content, Mapping):
        return tuple(map(tuple, content))
    rows, classes = content["shape"]
    table = [[0] * classes for _ in range(rows)]
    for one, other, count in content["counts"]:
        table[one][other] = count
    return tuple(map(tuple, table))


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
            name: Rule(tuple(of["votes"]), read(of["others"]), **{count: of[count] for count in COUNTS})
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
                "others": written(rule.others),
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


EDITED = " Its code was edited since."
"""What is said more of a function that is not the accepted one of its name."""

Of = Callable[[Totals], Rate]
"""What is compared, of any rows."""


class Window(NamedTuple):
    """Rows of today; ``text`` says which, to go after their number."""

    text: str
    totals: Totals
    is_new: bool


@dataclass(frozen=True)
class Comparison:
    """Labels of today and what was accepted of them, `rules.through` of another day."""

    now: Rules
    before: Mapping[str, Any]

    @cached_property
    def accepted(self) -> Totals:
        """All accepted rows, as they were."""
        return Totals.parse(self.before)

    @cached_property
    def total(self) -> Totals:
        """All rows of today."""
        return self.now.over()

    @cached_property
    def windows(self) -> list[Window]:
        """Those that have rows."""
        known = self.before["partitions"]
        old = [name for name in self.now.partitions if name in known]
        new = [name for name in self.now.partitions if name not in known]
        later = bool(known and new) and min(new) > max(known)
        after = f"rows after {max(known)}" if later else "rows of new partitions"
        found = [Window("accepted rows", self.now.over(old), False), Window(after, self.now.over(new), True)]
        return [window for window in found if window.totals.rows]

    @property
    def rules(self) -> list[str]:
        """Functions that were accepted and are still there."""
        return [name for name in self.accepted.functions if name in self.now.content["hashes"]]

    def is_edited(self, rule: str) -> bool:
        """Whether the function is another than the accepted one of this name."""
        return bool(self.now.content["hashes"][rule] != self.before["hashes"][rule])

    def by_partition(self, of: Of) -> dict[str, float]:
        """The share in each partition that has rows for it."""
        return by_partition(self.now, of)


def by_partition(now: Rules, of: Of) -> dict[str, float]:
    """The share in each partition that has rows for it."""
    rates = {name: of(totals) for name, totals in now.partitions.items()}
    return {name: round(rate.share, DIGITS) for name, rate in rates.items() if rate.rows}


@dataclass(frozen=True)
class Question:
    """Whether a rate is still what it was.

    Attributes
    ----------
    check
        The name of the check.
    rows
        What the rate is a share of, to go after "of 2,366 rows after 2002-08".
    says
        What was found: ``{share}``, that of all other rows as ``{rest}``, and ``{where}``, how many rows of which.
    upward
        Whether only a rise is told of.
    """

    check: str
    why: str
    of: Of
    limit: Limit
    says: str
    rows: str = ""
    upward: bool = False
    arguments: Mapping[str, Any] = field(default_factory=dict)


def shifted(compared: Comparison, question: Question) -> Check | None:
    """The check, with severity ``warning``; None where there are no rows to ask."""
    accepted = question.of(compared.accepted)
    asked = [(window, question.of(window.totals)) for window in compared.windows]
    asked = [(window, rate) for window, rate in asked if rate.rows]
    if not asked or not accepted.rows:
        return None
    window, rate = max(
        asked, key=lambda pair: (_is_told(question, pair[1], accepted), abs(distance(pair[1], accepted)))
    )
    bounds = question.limit.bounds(rate.rows, accepted)
    bounds = Bounds(None, bounds.high) if question.upward else bounds
    figures = {"rows": rate.rows, "where": window.text, "accepted": round(accepted.share, DIGITS)}
    return Check(
        check=question.check,
        expectation=question.check.partition("(")[0],
        severity="warning",
        why=question.why,
        status=judged("warning", not _is_told(question, rate, accepted)),
        kind="labels",
        against_baseline=True,
        arguments={**question.arguments, **figures, "accepted_rows": accepted.rows},
        observed=round(rate.share, DIGITS),
        threshold=bounds.high if question.upward else bounds.side(rate.share, accepted.share),
        found=_found(question, window, rate, accepted),
        detects=_detects(question, window, rate, bounds),
        by_partition=compared.by_partition(question.of),
    )


def _is_told(question: Question, now: Rate, accepted: Rate) -> bool:
    return question.limit.tells(now, accepted) and not (question.upward and now.share < accepted.share)


def _found(question: Question, window: Window, rate: Rate, accepted: Rate) -> str:
    where = _where(question, window, rate)
    said = question.says.format(share=percent(rate.share), rest=percent(1 - rate.share), where=where)
    edited = EDITED if question.arguments.get("edited") else ""
    return f"{said}; accepted is {percent(accepted.share)} of {accepted.rows:,}.{edited}"


def _detects(question: Question, window: Window, rate: Rate, bounds: Bounds) -> str:
    shows = f"a share {bounds.text()} shows" if bounds.text() else "no change shows, they are too few"
    return f"Of {_where(question, window, rate)}, {shows}."


def _where(question: Question, window: Window, rate: Rate) -> str:
    return f"{rate.rows:,} {window.text}{question.rows}"
