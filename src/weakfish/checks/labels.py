"""All that is checked of labels beside their suite: the label stage's reports and the accepted ones in, checks out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from weakfish.checks.functions import of_functions
from weakfish.checks.label_counts import (
    DIGITS,
    Comparison,
    Of,
    Question,
    Rules,
    Totals,
    by_partition,
    rules_of,
    shifted,
)
from weakfish.checks.rates import Limit, Rate, percent
from weakfish.contracts.verdicts import Check, judged
from weakfish.project.params import LabelChecksParams
from weakfish.project.paths import Project


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
    return Check(
        check="classes",
        expectation="classes",
        severity="warning",
        why="Labels of other classes cannot be compared with the accepted ones; look at them, and accept them.",
        status=judged("warning", False),
        kind="labels",
        against_baseline=True,
        arguments={"classes": now, "accepted": accepted},
        found=f"The classes are {', '.join(now)}; accepted are {', '.join(accepted)}.",
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
        "Rows on which no labeling function votes have no label and train nothing.",
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
        "Where one labeling function settles the class of most rows alone, its mistakes are the labels' mistakes.",
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
        "Where label model and majority vote drift apart, the weights decide, and nobody has looked at them.",
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
    known = f"; accepted is {percent(accepted.share)}" if accepted is not None else ""
    found = says.format(share=percent(rate.share), rows=f"{rate.rows:,}")
    return Check(
        check=f"label_model_degenerate({what})",
        expectation="label_model_degenerate",
        severity="warning",
        why=why,
        status=judged("warning", not too_high and not risen),
        kind="labels",
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
    known = f", accepted are {accepted.hits:.0f} of {accepted.rows}" if accepted is not None else ""
    return Check(
        check="label_model_degenerate(at_clamp)",
        expectation="label_model_degenerate",
        severity="warning",
        why="An estimate at its bound was not found but cut off: the label model is surer of the function than votes "
        "can make it. More l2, or another class balance, holds it back.",
        status=judged("warning", not too_high and not more),
        kind="labels",
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
