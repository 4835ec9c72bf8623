"""Checks of labels: the label model, the classes, and each labeling function, against what was accepted."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from weakfish.checks.label_questions import ComparedLabels, Question, RowWindow, answer, check_of, of_classes
from weakfish.checks.label_totals import DIGITS, LabelTotals, rules_of
from weakfish.checks.rates import Limit, Rate, deviations, distance
from weakfish.checks.slice_checks import slice_label_checks
from weakfish.contracts.figures import percent
from weakfish.contracts.verdicts import Check, Status
from weakfish.project.paths import Project


def label_checks(project: Project, task: str, accepted: Mapping[str, Any] | None) -> list[Check]:
    """The checks of a task's labels.

    ``accepted`` is what `through` gave when the labels were last accepted; without it only the label model and slices
    are checked, by fixed limits.

    Raises
    ------
    TableError
        When the reports of the label stage are missing.
    UnknownName
        When ``validation.slices`` names a slice that is not there.
    """
    now, limits = rules_of(project, task), project.params.validation.labels
    compared = ComparedLabels(now, accepted, limits)
    sliced = list(slice_label_checks(now, accepted, limits, project.params.validation.slices.get(task, {})))
    if not accepted or not compared.total.rows:
        return [*_of_model(ComparedLabels(now, None, limits)), *sliced]
    classes, before = now["classes"], accepted["classes"]
    if before != classes:
        other = check_of(
            "classes",
            "warning",
            "Labels of different classes cannot be compared with the accepted ones; look at them, then accept them.",
            False,
            arguments={"classes": classes, "accepted": before},
            found=f"The classes are {', '.join(classes)}; in the accepted baseline they are {', '.join(before)}.",
        )
        return [*_of_model(ComparedLabels(now, None, limits)), other, *sliced]
    found = [*_of_model(compared), *of_classes(compared), *_of_functions(compared), *sliced]
    return sorted(found, key=lambda check: check.check)


# Whether the label model still weighs many votes: by fixed limits, and by what was accepted where that is known.


def _of_model(labels: ComparedLabels) -> list[Check]:
    total, accepted, limits = labels.total, labels.accepted, labels.limits
    rule = max(total.functions, key=lambda name: total.settled(name).share)
    before = max(map(accepted.settled, accepted.functions), key=lambda rate: rate.share, default=None)

    def differing(totals: LabelTotals) -> Rate:
        return Rate(totals.differing, totals.weighed)

    one_rule = _risen(
        labels,
        "one_rule",
        "Where one labeling function alone decides the class of most rows, its mistakes become the labels' mistakes.",
        lambda totals: totals.settled(rule),
        before,
        limits.one_rule,
        f"{rule} settles the class of {{share}} of {{rows}} covered rows, whatever the others vote",
    )
    disagreement = _risen(
        labels,
        "disagreement",
        "Where the label model and the majority vote drift apart, the learned weights decide, and nobody has "
        "reviewed them.",
        differing,
        differing(accepted) if labels.before else None,
        limits.disagreement,
        "Label model and majority vote differ on {share} of {rows} covered rows",
    )
    return [one_rule, _at_clamp(labels), disagreement]


def _risen(
    labels: ComparedLabels,
    what: str,
    why: str,
    of: Callable[[LabelTotals], Rate],
    accepted: Rate | None,
    most: float,
    says: str,
) -> Check:
    rate, rise = of(labels.total), Limit(labels.limits.significance, difference=labels.limits.rise)
    risen = accepted is not None and rate.share > accepted.share and rise.tells(rate, accepted)
    high = rise.bounds(rate.rows, accepted).high if accepted is not None and accepted.rows else None
    threshold = most if high is None else min(most, high)
    known = f"; it was {percent(accepted.share)} in the accepted baseline" if accepted is not None else ""
    return _degenerate(
        what,
        why,
        rate,
        rate.share > most,
        risen,
        accepted,
        arguments={"rows": rate.rows, "most": most} | ({"accepted": round(accepted.share, DIGITS)} if accepted else {}),
        threshold=threshold,
        found=f"{says.format(share=percent(rate.share), rows=f'{rate.rows:,}')}{known}.",
        detects=f"A share above {percent(threshold)}.",
        by_partition=labels.by_partition(of),
    )


def _at_clamp(labels: ComparedLabels) -> Check:
    rate, *accepted = (
        Rate(of["signals"]["at_clamp"], of["signals"]["voting"]) for of in (labels.now, labels.before) if of
    )
    before, limits = accepted[0] if accepted else None, labels.limits
    more = before is not None and rate.share - before.share >= limits.rise and rate.hits >= before.hits + 2
    known = f"; it was {before.hits:.0f} of {before.rows} in the accepted baseline" if before is not None else ""
    return _degenerate(
        "at_clamp",
        "An estimate at its bound was cut off, not found: the label model is surer of the function than its votes "
        "justify. A larger l2, or another class balance, prevents this.",
        rate,
        rate.share > limits.at_clamp,
        more,
        before,
        arguments={"functions": rate.rows, "most": limits.at_clamp},
        threshold=limits.at_clamp,
        found=f"{rate.hits:.0f} of {rate.rows} functions that vote have an estimate at its bound{known}.",
        detects=f"A share above {percent(limits.at_clamp)}, or a rise by {percent(limits.rise)} and two functions.",
    )


def _degenerate(
    what: str, why: str, rate: Rate, too_high: bool, risen: bool, accepted: Rate | None, **more: Any
) -> Check:
    """A warning on the label model; accepting the labels is an answer only where no fixed limit is passed."""
    return check_of(
        f"label_model_degenerate({what})",
        "warning",
        why,
        not too_high and not risen,
        against_baseline=accepted is not None and not too_high,
        observed=round(rate.share, DIGITS),
        **more,
    )


# Labeling functions that were accepted and are still there; and those that came or went.


def _of_functions(compared: ComparedLabels) -> list[Check]:
    now, before, limits = compared.now["hashes"], compared.before["hashes"], compared.limits
    rules = [name for name in compared.accepted.functions if name in now]
    chance = limits.significance / max(1, len(rules) * len(compared.windows))
    checks = [check for rule in rules for check in _of_function(compared, rule, chance)]
    why = (
        "The labels of a task come from all its labeling functions; accept the new set once you have "
        "looked at its labels."
    )
    came = [(f"rule_came({rule})", rule, "It did not exist") for rule in now if rule not in before]
    went = [(f"rule_went({rule})", rule, "It existed") for rule in before if rule not in now]
    told = [
        check_of(name, "info", why, False, arguments={"rule": rule}, found=f"{said} when the labels were accepted.")
        for name, rule, said in came + went
    ]
    return [*_blamed(checks), *told]


def _of_function(compared: ComparedLabels, rule: str, chance: float) -> Iterator[Check]:
    about = {"rule": rule, "edited": compared.now["hashes"][rule] != compared.before["hashes"][rule]}
    limit = Limit(chance, psi=compared.limits.psi)
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
    yield from (check for question in questions if (check := answer(compared, question)))
    if compared.accepted.voted(rule):
        yield _died(compared, rule, about)
        yield _fires_everywhere(compared, rule, limit, about)
        yield _flipped(compared, rule, chance, about)


def _died(compared: ComparedLabels, rule: str, about: dict[str, Any]) -> Check:
    """Critical where the same code falls silent on all rows."""
    accepted, total = compared.accepted.coverage(rule), compared.total.coverage(rule)
    expected_votes = compared.limits.expected_votes
    silent = [(w.text, w.totals.coverage(rule)) for w in compared.windows if total.hits and not w.totals.voted(rule)]
    where, now = max(silent, key=lambda found: found[1].rows, default=("rows", total))
    expected = accepted.share * now.rows
    holds = bool(now.hits) or expected < expected_votes
    enough = math.ceil(expected_votes / accepted.share)
    return check_of(
        f"rule_died({rule})",
        "critical" if holds or (not total.hits and not about["edited"]) else "warning",
        "A labeling function that no longer votes leaves its rows to the others; a column that it reads may "
        "have become empty.",
        holds,
        arguments={**about, "rows": now.rows, "where": where, "expected": round(expected, 1)},
        observed=int(now.hits),
        threshold=0.0,
        found=f"It votes on {now.hits:,.0f} of {now.rows:,} {where}; at its accepted rate it would vote on "
        f"{expected:,.0f}.",
        detects=f"Silence on {enough:,} rows or more, on {expected_votes} of which it would vote.",
    )


def _fires_everywhere(compared: ComparedLabels, rule: str, limit: Limit, about: dict[str, Any]) -> Check:
    """Critical where the same code votes on nearly all rows, and not only on new ones."""
    accepted, everywhere = compared.accepted.coverage(rule), compared.limits.everywhere
    asked = [RowWindow("rows", compared.total, False), *compared.windows]
    rates = [(window, window.totals.coverage(rule)) for window in asked]
    told = [pair for pair in rates if pair[1].share >= everywhere > accepted.share and limit.tells(pair[1], accepted)]
    window, rate = (told or rates)[0]
    return check_of(
        f"rule_fires_everywhere({rule})",
        "warning" if told and (window.is_new or about["edited"]) else "critical",
        "A labeling function that votes on everything says nothing; what it looks for may now be in every row.",
        not told,
        arguments={**about, "rows": rate.rows, "where": window.text, "accepted": round(accepted.share, DIGITS)},
        observed=round(rate.share, DIGITS),
        threshold=everywhere,
        found=f"It votes on {percent(rate.share)} of {rate.rows:,} {window.text}; it was "
        f"{percent(accepted.share)} in the accepted baseline.",
        detects=f"A share of {percent(everywhere)} or more.",
    )


def _flipped(compared: ComparedLabels, rule: str, chance: float, about: dict[str, Any]) -> Check:
    """Critical where its votes say the opposite of what they said.

    Votes for a class that became rare meet a majority for another, though they still point the right way: that is a
    warning. Votes for a class that is frequent meet a majority for it, though they point away from it: that is a flip.
    """
    accepted, names = compared.accepted.agreement(rule), compared.before["classes"]

    def is_below_half(rate: Rate) -> bool:
        return rate.hits < _fewest(rate.rows, chance)

    rates = [(window, window.totals.agreement(rule)) for window in compared.windows]
    window, rate = min(rates, key=lambda pair: (not is_below_half(pair[1]), not pair[1].rows, pair[1].share))
    contradicts = accepted.share > 0.5 and is_below_half(rate)
    turned = next((w for w in compared.windows if _has_turned(compared.accepted, w.totals, rule, chance)), None)
    away = next((w for w in compared.windows if _points_away(compared.accepted, w.totals, rule, chance)), None)
    classes: dict[str, list[str]] = {}
    found = (
        f"It votes with the majority of the others on {percent(rate.share)} of {rate.rows:,} {window.text} on which "
        f"they have one; it was {percent(accepted.share)} of {accepted.rows:,} in the accepted baseline."
    )
    if turned:
        now, before = ([names[label] for label in of.polarity(rule)] for of in (turned.totals, compared.accepted))
        classes = {"votes_for": now, "voted_for": before}
        found = f"It votes for {', '.join(now)} alone; in the accepted baseline it voted for {', '.join(before)}."
    if away:
        found += _directions(compared.accepted, away.totals, rule, names)
    figures = {"rows": rate.rows, "where": window.text, "accepted": round(accepted.share, DIGITS)}
    most = math.ceil(_fewest(rate.rows, chance)) - 1
    smallest = f"Agreement of {percent(most / rate.rows)} or less" if rate.rows and most >= 0 else "No agreement"
    return check_of(
        f"rule_flipped({rule})",
        "warning" if contradicts and not turned and not away else "critical",
        "A labeling function that now votes against the others, with which it used to agree, silently makes "
        "the labels worse.",
        not (contradicts or turned or away),
        arguments={**about, **figures, **classes},
        observed=round(rate.share, DIGITS) if rate.rows else None,
        threshold=None if away and not contradicts else 0.5,
        found=found,
        detects=f"{smallest} on {rate.rows:,} {window.text}, or votes for other classes.",
        by_partition=compared.by_partition(lambda totals: totals.agreement(rule)),
    )


def _blamed(checks: Sequence[Check]) -> list[Check]:
    """The checks, with one flip made critical where one may be the cause of others: edited functions, else the worst.

    A function that flips is among "the others" of all the rest, so innocent ones may seem to flip with it.
    """
    flips = [c for c in checks if c.expectation == "rule_flipped" and c.status is Status.FAILED]
    edited = [check.check for check in flips if check.arguments["edited"]]
    worst = sorted(flips, key=lambda check: 0.0 if check.observed is None else check.observed)[:1]
    guilty = edited or [check.check for check in worst]
    others = {check.check for check in flips} - set(guilty)
    said = f" Look at {', '.join(guilty)} first: this may be a consequence of it."
    return [
        replace(check, severity="warning", status=Status.WARNED, found=f"{check.found}{said}")
        if check.check in others
        else check
        for check in checks
    ]


def _has_turned(accepted: LabelTotals, now: LabelTotals, rule: str, chance: float) -> bool:
    """Whether it votes, and for none of the classes that it was accepted with, by more than chance."""
    voted, before = now.voted(rule), accepted.voted(rule)
    if not voted or set(now.polarity(rule)) & set(accepted.polarity(rule)):
        return False
    return Limit(chance).tells(Rate(0, voted), Rate(before, before))


def _points_away(accepted: LabelTotals, now: LabelTotals, rule: str, chance: float) -> bool:
    """Whether it votes for a class less often where the others do than where they do not, and did so more often."""

    def surely_more(one: Rate, other: Rate) -> bool:
        return bool(one.rows and other.rows) and distance(one, other) > deviations(chance)

    labels = accepted.polarity(rule)
    turned = (now.hits(rule, label)[::-1] for label in labels)
    return any(
        surely_more(*accepted.hits(rule, label)) and surely_more(*of) for label, of in zip(labels, turned, strict=True)
    )


def _directions(accepted: LabelTotals, now: LabelTotals, rule: str, names: Sequence[str]) -> str:
    """The rates behind `_points_away`, of the class where they differ most."""

    def apart(label: int) -> float:
        there, elsewhere = now.hits(rule, label)
        return there.share - elsewhere.share

    label = min(accepted.polarity(rule), key=apart)
    today, before = (" and ".join(percent(rate.share) for rate in of.hits(rule, label)) for of in (now, accepted))
    rows = f" It votes for {names[label]} on {today} of the rows on which the others do and do not, respectively"
    return f"{rows}; it was {before} in the accepted baseline."


def _fewest(rows: int, chance: float) -> float:
    """How many of some rows are surely not below their half, two hits and two misses added (Agresti and Coull 1998)."""
    return (rows + 4) / 2 - deviations(chance) * math.sqrt(rows + 4) / 2 - 2
