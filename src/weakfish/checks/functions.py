"""Checks of each labeling function: what it votes on, against whom, and whether it still means what it meant."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from weakfish.checks.label_counts import DIGITS, EDITED, Comparison, Question, Window, shifted
from weakfish.checks.rates import Limit, Rate, deviations, distance, percent
from weakfish.contracts.verdicts import Check, Severity, Status, judged
from weakfish.project.params import LabelChecksParams


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
            "A labeling function that votes more or less often sees other data, or is other code, than was accepted.",
            lambda totals: totals.coverage(rule),
            limit,
            "It votes on {share} of {where} and abstains on {rest}",
            arguments=about,
        ),
        Question(
            f"conflicts({rule})",
            "A labeling function whom others contradict more or less often than before means something else now.",
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
        "A labeling function that no longer votes leaves its rows to the others; a column that it reads may be empty.",
        arguments={**about, "rows": now.rows, "where": where, "expected": round(expected, 1)},
        observed=int(now.hits),
        threshold=0.0,
        found=f"It votes on {now.hits:,.0f} of {now.rows:,} {where}; as accepted, it would on {expected:,.0f}.",
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
        "A labeling function that votes on everything says nothing; what it looks for may stand in every row now.",
        arguments={**about, "rows": rate.rows, "where": window.text, "accepted": round(accepted.share, DIGITS)},
        observed=round(rate.share, DIGITS),
        threshold=limits.everywhere,
        found=f"It votes on {percent(rate.share)} of {rate.rows:,} {window.text}; accepted: {percent(accepted.share)}.",
        detects=f"A share of {percent(limits.everywhere)} or more shows.",
    )


def _come_and_gone(compared: Comparison) -> list[Check]:
    now, before = compared.now.content["hashes"], compared.before["hashes"]
    why = "Labels of a task are the sum of its labeling functions; accept the new set once its labels are looked at."
    came = [("rule_came", rule, "It was not there when labels were accepted.") for rule in now if rule not in before]
    went = [("rule_went", rule, "It was there when labels were accepted.") for rule in before if rule not in now]
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
        "A labeling function that votes against all others where it voted with them makes labels worse in silence.",
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
    said = f" Look at {', '.join(guilty)} first: this may follow from it."
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
    return f" It votes for {name} on {now} of rows on which the others do and do not; accepted are {before}."


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
        return f"It votes for {', '.join(classes['votes_for'])} alone; accepted is {', '.join(classes['voted_for'])}."
    with_others = f"It votes with the majority of the others on {percent(rate.share)} of {rate.rows:,} {window.text}"
    return f"{with_others} on which they have one; accepted is {percent(accepted.share)} of {accepted.rows:,}."


def _smallest(rows: int, chance: float) -> str:
    most = math.ceil(_fewest(rows, chance)) - 1
    return f"Agreement of {percent(most / rows)} or less" if rows and most >= 0 else "No agreement"


def of_rule(name: str, severity: Severity, holds: bool, why: str, **more: Any) -> Check:
    """A check of a labeling function; ``arguments`` and ``found`` are among ``more``."""
    if more["arguments"].get("edited"):
        more["found"] += EDITED
    status = judged(severity, holds)
    return Check(name, name.partition("(")[0], severity, why, status, kind="labels", against_baseline=True, **more)
