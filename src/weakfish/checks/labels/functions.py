"""Checks of each labeling function: what it votes on, against whom, and whether it still means what it meant."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from weakfish.checks.check import Check, Severity
from weakfish.checks.labels.flipped import blamed, flipped, of_rule
from weakfish.checks.labels.rules import DIGITS
from weakfish.checks.labels.shifted import Question, shifted
from weakfish.checks.labels.windows import Comparison, Window
from weakfish.checks.rates import Limit, Rate, percent
from weakfish.params import LabelChecksParams


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
