"""Checks of labels: the label model, the classes, and each labeling function, against what was accepted."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

from weakfish.checks.rates import Bounds, Limit, Rate, deviations, distance, percent
from weakfish.contracts.verdicts import Check, Severity, Status, measured
from weakfish.contracts.votes_file import parse_table, table_json
from weakfish.errors import TableError
from weakfish.files import read_json
from weakfish.project.params import LabelChecksParams
from weakfish.project.paths import Project

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
            name: Rule(tuple(of["votes"]), parse_table(of["others"]), **{count: of[count] for count in COUNTS})
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
                "others": table_json(rule.others),
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


EDITED = " Its code has been edited since."
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
    return measured(
        "labels",
        question.check,
        "warning",
        question.why,
        not _is_told(question, rate, accepted),
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
    return f"{said}; it was {percent(accepted.share)} of {accepted.rows:,} in the accepted baseline.{edited}"


def _detects(question: Question, window: Window, rate: Rate, bounds: Bounds) -> str:
    shows = f"a share {bounds.text()} shows" if bounds.text() else "no change shows, they are too few"
    return f"Of {_where(question, window, rate)}, {shows}."


def _where(question: Question, window: Window, rate: Rate) -> str:
    return f"{rate.rows:,} {window.text}{question.rows}"


def of_functions(compared: Comparison, limits: LabelChecksParams) -> list[Check]:
    """All checks of all functions, and one for each that came or went."""
    chance = limits.significance / max(1, len(compared.rules) * len(compared.windows))
    checks = [check for rule in compared.rules for check in _of(compared, rule, limits, chance)]
    return [*blamed(checks), *_come_and_gone(compared)]


def _of(compared: Comparison, rule: str, limits: LabelChecksParams, chance: float) -> Iterator[Check]:
    about = {"rule": rule, "edited": compared.is_edited(rule)}
    limit = Limit(chance, psi=limits.psi)
    questions = (
        Question(
            f"coverage({rule})",
            "A labeling function that votes more or less often than in the baseline sees different data, or "
            "its code is different.",
            lambda totals: totals.coverage(rule),
            limit,
            "It votes on {share} of {where} and abstains on {rest}",
            arguments=about,
        ),
        Question(
            f"conflicts({rule})",
            "A labeling function that others contradict more or less often than before now means something else.",
            lambda totals: totals.conflicts(rule),
            limit,
            "Another function contradicts it on {share} of {where}",
            rows=" on which it votes",
            arguments=about,
        ),
    )
    yield from filter(None, (shifted(compared, question) for question in questions))
    if compared.accepted.functions[rule].voted:
        yield _died(compared, rule, limits, about)
        yield _fires_everywhere(compared, rule, limits, limit, about)
        yield flipped(compared, rule, chance, about)


def _died(compared: Comparison, rule: str, limits: LabelChecksParams, about: dict[str, Any]) -> Check:
    """Critical where the same code falls silent on all rows."""
    accepted, total = compared.accepted.coverage(rule), compared.total.coverage(rule)
    where, now = "rows", total
    if total.hits:
        silent = [(w.text, w.totals.coverage(rule)) for w in compared.windows if not w.totals.functions[rule].voted]
        where, now = max(silent, key=lambda found: found[1].rows, default=(where, now))
    expected = accepted.share * now.rows
    severity: Severity = "critical" if not total.hits and not about["edited"] else "warning"
    holds = bool(now.hits) or expected < limits.expected_votes
    enough = math.ceil(limits.expected_votes / accepted.share)
    return of_rule(
        f"rule_died({rule})",
        severity if not holds else "critical",
        holds,
        "A labeling function that no longer votes leaves its rows to the others; a column that it reads may "
        "have become empty.",
        arguments={**about, "rows": now.rows, "where": where, "expected": round(expected, 1)},
        observed=int(now.hits),
        threshold=0.0,
        found=f"It votes on {now.hits:,.0f} of {now.rows:,} {where}; at its accepted rate it would on {expected:,.0f}.",
        detects=f"Silence shows on {enough:,} rows or more, on {limits.expected_votes} of which it would vote.",
    )


def _fires_everywhere(
    compared: Comparison, rule: str, limits: LabelChecksParams, limit: Limit, about: dict[str, Any]
) -> Check:
    """Critical where the same code votes on nearly all rows, and not only on new ones."""
    accepted = compared.accepted.coverage(rule)

    def is_everywhere(rate: Rate) -> bool:
        return rate.share >= limits.everywhere > accepted.share and limit.tells(rate, accepted)

    found = [Window("rows", compared.total, False), *compared.windows]
    told = [window for window in found if is_everywhere(window.totals.coverage(rule))]
    window = told[0] if told else found[0]
    severity: Severity = "warning" if told and (window.is_new or about["edited"]) else "critical"
    rate = window.totals.coverage(rule)
    return of_rule(
        f"rule_fires_everywhere({rule})",
        severity,
        not told,
        "A labeling function that votes on everything says nothing; what it looks for may now be in every row.",
        arguments={**about, "rows": rate.rows, "where": window.text, "accepted": round(accepted.share, DIGITS)},
        observed=round(rate.share, DIGITS),
        threshold=limits.everywhere,
        found=f"It votes on {percent(rate.share)} of {rate.rows:,} {window.text}; it was "
        f"{percent(accepted.share)} in the accepted baseline.",
        detects=f"A share of {percent(limits.everywhere)} or more shows.",
    )


def _come_and_gone(compared: Comparison) -> list[Check]:
    now, before = compared.now.content["hashes"], compared.before["hashes"]
    why = (
        "The labels of a task come from all its labeling functions; accept the new set once you have "
        "looked at its labels."
    )
    came = [
        ("rule_came", rule, "It did not exist when the labels were accepted.") for rule in now if rule not in before
    ]
    went = [("rule_went", rule, "It existed when the labels were accepted.") for rule in before if rule not in now]
    return [
        of_rule(f"{what}({rule})", "info", False, why, arguments={"rule": rule}, found=found)
        for what, rule, found in came + went
    ]


def flipped(compared: Comparison, rule: str, chance: float, about: dict[str, Any]) -> Check:
    """Critical where its votes say the opposite of what they said.

    Votes for a class that became rare meet a majority for another, though they still point the right way: that is a
    warning. Votes for a class that is frequent meet a majority for it, though they point away from it: that is a flip.
    """
    accepted = compared.accepted.agreement(rule)
    found = [(window, window.totals.agreement(rule)) for window in compared.windows]
    window, rate = min(found, key=lambda pair: (not _is_below_half(pair[1], chance), not pair[1].rows, pair[1].share))
    contradicts = accepted.share > 0.5 and _is_below_half(rate, chance)
    turned = next((w for w in compared.windows if _has_turned(compared, rule, w, chance)), None)
    away = next((w for w in compared.windows if _points_away(compared, rule, w, chance)), None)
    severity: Severity = "warning" if contradicts and not turned and not away else "critical"
    classes = _classes(compared, rule, turned)
    figures = {"rows": rate.rows, "where": window.text, "accepted": round(accepted.share, DIGITS)}
    return of_rule(
        f"rule_flipped({rule})",
        severity,
        not (contradicts or turned or away),
        "A labeling function that now votes against the others, with which it used to agree, silently makes "
        "the labels worse.",
        arguments={**about, **figures, **classes},
        observed=round(rate.share, DIGITS) if rate.rows else None,
        threshold=None if away and not contradicts else 0.5,
        found=_said(window, rate, accepted, classes) + (_directions(compared, rule, away) if away else ""),
        detects=f"{_smallest(rate.rows, chance)} on {rate.rows:,} {window.text} shows; so do votes for other classes.",
        by_partition=compared.by_partition(lambda totals: totals.agreement(rule)),
    )


def blamed(checks: Sequence[Check]) -> list[Check]:
    """The checks, with one flip made critical where one may be the cause of others: edited functions, else the worst.

    A function that flips is among "the others" of all the rest, so innocent ones may seem to flip with it.
    """
    flips = [c for c in checks if c.expectation == "rule_flipped" and c.status is Status.FAILED]
    edited = [check.check for check in flips if check.arguments["edited"]]
    worst = min(flips, key=lambda check: 0.0 if check.observed is None else check.observed, default=None)
    guilty = edited or [check.check for check in (worst,) if check]
    others = {check.check for check in flips if check.check not in guilty}
    said = f" Look at {', '.join(guilty)} first: this may be a consequence of it."
    return [
        replace(check, severity="warning", status=Status.WARNED, found=f"{check.found}{said}")
        if check.check in others
        else check
        for check in checks
    ]


def _points_away(compared: Comparison, rule: str, window: Window, chance: float) -> bool:
    """Whether it votes for a class less often where the others do than where they do not, and did so more often."""
    for label in compared.accepted.functions[rule].polarity:
        (there, elsewhere), before = window.totals.hits(rule, label), compared.accepted.hits(rule, label)
        if _is_surely_more(*before, chance) and _is_surely_more(elsewhere, there, chance):
            return True
    return False


def _is_surely_more(one: Rate, other: Rate, chance: float) -> bool:
    return bool(one.rows and other.rows) and distance(one, other) > deviations(chance)


def _directions(compared: Comparison, rule: str, window: Window) -> str:
    """The rates behind `_points_away`, of the class where they differ most."""
    found = {label: window.totals.hits(rule, label) for label in compared.accepted.functions[rule].polarity}
    label = min(found, key=lambda label: found[label][0].share - found[label][1].share)
    now, before = (
        " and ".join(percent(rate.share) for rate in rates)
        for rates in (found[label], compared.accepted.hits(rule, label))
    )
    name = compared.before["classes"][label]
    rows = f" It votes for {name} on {now} of the rows on which the others do and do not"
    return f"{rows}; it was {before} in the accepted baseline."


def _classes(compared: Comparison, rule: str, turned: Window | None) -> dict[str, Any]:
    if turned is None:
        return {}
    names = compared.before["classes"]
    before, now = compared.accepted.functions[rule].polarity, turned.totals.functions[rule].polarity
    return {
        "votes_for": [names[label] for label in sorted(now)],
        "voted_for": [names[label] for label in sorted(before)],
    }


def _has_turned(compared: Comparison, rule: str, window: Window, chance: float) -> bool:
    """Whether it votes, and for none of the classes that it was accepted with, by more than chance."""
    before, now = compared.accepted.functions[rule], window.totals.functions[rule]
    if not now.voted or now.polarity & before.polarity:
        return False
    return Limit(chance).tells(Rate(0, now.voted), Rate(before.voted, before.voted))


def _is_below_half(rate: Rate, chance: float) -> bool:
    return rate.hits < _fewest(rate.rows, chance)


def _fewest(rows: int, chance: float) -> float:
    """How many of some rows are surely not below their half, two hits and two misses added (Agresti and Coull 1998)."""
    return (rows + 4) / 2 - deviations(chance) * math.sqrt(rows + 4) / 2 - 2


def _said(window: Window, rate: Rate, accepted: Rate, classes: dict[str, Any]) -> str:
    if classes:
        now, before = (", ".join(classes[name]) for name in ("votes_for", "voted_for"))
        return f"It votes for {now} alone; in the accepted baseline it voted for {before}."
    with_others = f"It votes with the majority of the others on {percent(rate.share)} of {rate.rows:,} {window.text}"
    before = f"it was {percent(accepted.share)} of {accepted.rows:,} in the accepted baseline"
    return f"{with_others} on which they have one; {before}."


def _smallest(rows: int, chance: float) -> str:
    most = math.ceil(_fewest(rows, chance)) - 1
    return f"Agreement of {percent(most / rows)} or less" if rows and most >= 0 else "No agreement"


def of_rule(name: str, severity: Severity, holds: bool, why: str, **more: Any) -> Check:
    """A check of a labeling function; ``arguments`` and ``found`` are among ``more``."""
    if more["arguments"].get("edited"):
        more["found"] += EDITED
    return measured("labels", name, severity, why, holds, **more)


def label_checks(project: Project, task: str, accepted: Mapping[str, Any] | None) -> list[Check]:
    """The checks of a task's labels.

    ``accepted`` is what `rules.through` gave when the labels were last accepted; without it only the label model is
    checked, by fixed limits.

    Raises
    ------
    TableError
        When the reports of the label stage are missing.
    """
    now, limits = Rules(rules_of(project, task)), project.params.validation.labels
    if not accepted or not now.over().rows:
        return of_model(now, None, limits)
    if accepted["classes"] != now.content["classes"]:
        return [*of_model(now, None, limits), _other_classes(now.content["classes"], accepted["classes"])]
    compared = Comparison(now, accepted)
    found = of_model(now, compared, limits) + of_classes(compared, limits) + of_functions(compared, limits)
    return sorted(found, key=lambda check: check.check)


def _other_classes(now: list[str], accepted: list[str]) -> Check:
    return measured(
        "labels",
        "classes",
        "warning",
        "Labels of different classes cannot be compared with the accepted ones; look at them, then accept them.",
        False,
        arguments={"classes": now, "accepted": accepted},
        found=f"The classes are {', '.join(now)}; in the accepted baseline they are {', '.join(accepted)}.",
    )


def of_classes(compared: Comparison, limits: LabelChecksParams) -> list[Check]:
    """The mean probability of each class (of two classes the last) and the share of rows without votes."""
    classes = compared.now.content["classes"]
    asked = classes[-1:] if len(classes) == 2 else classes
    chance = limits.significance / (len(asked) * max(1, len(compared.windows)))
    questions = [
        Question(
            f"class_balance({name})",
            "Where classes have other shares than before, thresholds, class weights and the label model's own class "
            "balance fit no longer, and what was learned before ranks rows by what is no longer so.",
            _mean(name),
            Limit(chance, difference=limits.class_balance),
            f"The mean probability of {name} is {{share}} over {{where}}",
            rows=" with a label",
            arguments={"class": name},
        )
        for name in asked
        if name in compared.accepted.mean
    ]
    uncovered = Question(
        "uncovered",
        "Rows on which no labeling function votes get no label, so no model can learn from them.",
        lambda totals: Rate(totals.rows - totals.covered, totals.rows),
        Limit(limits.significance / max(1, len(compared.windows)), difference=limits.uncovered),
        "No function votes on {share} of {where}",
        upward=True,
    )
    return [check for question in (*questions, uncovered) if (check := shifted(compared, question))]


def of_model(now: Rules, compared: Comparison | None, limits: LabelChecksParams) -> list[Check]:
    """Whether the label model still weighs many votes; by fixed limits, and by what was accepted where it is known."""
    return [_one_rule(now, compared, limits), _at_clamp(now, compared, limits), _disagreement(now, compared, limits)]


def _one_rule(now: Rules, compared: Comparison | None, limits: LabelChecksParams) -> Check:
    total = now.over()
    rule = max(total.functions, key=lambda name: total.functions[name].settled)
    accepted = None
    if compared is not None:
        before = compared.accepted
        accepted = max((before.settled(name) for name in before.functions), key=lambda rate: rate.share, default=None)
    return _risen(
        "one_rule",
        "Where one labeling function alone decides the class of most rows, its mistakes become the labels' mistakes.",
        now,
        lambda totals: totals.settled(rule),
        accepted,
        limits.one_rule,
        limits,
        f"{rule} settles the class of {{share}} of {{rows}} covered rows, whatever the others vote",
    )


def _disagreement(now: Rules, compared: Comparison | None, limits: LabelChecksParams) -> Check:
    def differing(totals: Totals) -> Rate:
        return Rate(totals.differing, totals.weighed)

    return _risen(
        "disagreement",
        "Where the label model and the majority vote drift apart, the learned weights decide, and nobody has "
        "reviewed them.",
        now,
        differing,
        differing(compared.accepted) if compared else None,
        limits.disagreement,
        limits,
        "Label model and majority vote differ on {share} of {rows} covered rows",
    )


def _risen(
    what: str,
    why: str,
    now: Rules,
    of: Of,
    accepted: Rate | None,
    most: float,
    limits: LabelChecksParams,
    says: str,
) -> Check:
    rate = of(now.over())
    rise = Limit(limits.significance, difference=limits.rise)
    too_high = rate.share > most
    risen = accepted is not None and rate.share > accepted.share and rise.tells(rate, accepted)
    high = rise.bounds(rate.rows, accepted).high if accepted is not None and accepted.rows else None
    threshold = min(most, high) if high is not None else most
    known = f"; it was {percent(accepted.share)} in the accepted baseline" if accepted is not None else ""
    found = says.format(share=percent(rate.share), rows=f"{rate.rows:,}")
    return measured(
        "labels",
        f"label_model_degenerate({what})",
        "warning",
        why,
        not too_high and not risen,
        against_baseline=accepted is not None and not too_high,
        arguments={"rows": rate.rows, "most": most} | ({"accepted": round(accepted.share, DIGITS)} if accepted else {}),
        observed=round(rate.share, DIGITS),
        threshold=threshold,
        found=f"{found}{known}.",
        detects=f"A share above {percent(threshold)} shows.",
        by_partition=by_partition(now, of),
    )


def _at_clamp(now: Rules, compared: Comparison | None, limits: LabelChecksParams) -> Check:
    rate = _clamped(now.content["signals"])
    accepted = _clamped(compared.before["signals"]) if compared else None
    too_high = rate.share > limits.at_clamp
    more = accepted is not None and rate.share - accepted.share >= limits.rise and rate.hits >= accepted.hits + 2
    known = f"; it was {accepted.hits:.0f} of {accepted.rows} in the accepted baseline" if accepted is not None else ""
    return measured(
        "labels",
        "label_model_degenerate(at_clamp)",
        "warning",
        "An estimate at its bound was cut off, not found: the label model is surer of the function than its votes "
        "justify. A larger l2, or another class balance, prevents this.",
        not too_high and not more,
        against_baseline=accepted is not None and not too_high,
        arguments={"functions": rate.rows, "most": limits.at_clamp},
        observed=round(rate.share, DIGITS),
        threshold=limits.at_clamp,
        found=f"{rate.hits:.0f} of {rate.rows} functions that vote have an estimate at its bound{known}.",
        detects=f"A share above {percent(limits.at_clamp)} shows; so do {percent(limits.rise)} and two functions more.",
    )


def _clamped(signals: dict[str, int]) -> Rate:
    return Rate(signals["at_clamp"], signals["voting"])


def _mean(name: str) -> Of:
    return lambda totals: Rate(totals.mean[name] * totals.covered, totals.covered)
