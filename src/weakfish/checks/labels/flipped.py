"""Does a labeling function still mean what it meant? Its votes against those of the others, now and as accepted.

Two signs, for each alone can be had by a change of the classes' shares: whether it votes with the majority of the
others, and whether it votes for a class more often where the others do than where they do not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from weakfish.checks.check import Check, Severity, Status, judged
from weakfish.checks.labels.rules import DIGITS
from weakfish.checks.labels.windows import EDITED, Comparison, Window
from weakfish.checks.rates import Limit, Rate, deviations, distance, percent


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
