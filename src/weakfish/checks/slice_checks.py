"""Checks of slices: labels, and what evaluation measured, against limits of their own and what was accepted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from weakfish.checks.label_questions import ComparedLabels, Question, answer, of_classes
from weakfish.checks.label_totals import LabelTotals
from weakfish.checks.rates import Limit, Rate
from weakfish.contracts.figures import counted, percent
from weakfish.contracts.reports import Metric, SliceMetrics
from weakfish.contracts.verdicts import Check, measured
from weakfish.errors import UnknownName
from weakfish.project.params import LabelChecksParams, SliceParams


def within(check: Check, name: str) -> Check:
    """The check of the rows of a slice: its name says so, its arguments and what it found do too."""
    kind, _, about = check.check.removesuffix(")").partition("(")
    found = f"Within {name}: {check.found}" if check.found else None
    arguments = {"slice": name, **check.arguments}
    return replace(check, check=f"{kind}({', '.join(filter(None, (about, name)))})", found=found, arguments=arguments)


def slice_label_checks(
    now: Mapping[str, Any],
    accepted: Mapping[str, Any] | None,
    limits: LabelChecksParams,
    own: Mapping[str, SliceParams],
) -> Iterator[Check]:
    """The checks of a task's labels within each slice.

    Parameters
    ----------
    now, accepted
        What `rules_of` gives of today, and `through` of what was accepted, if anything was.
    own
        Limits by slice.

    Raises
    ------
    UnknownName
        When limits are set of a slice that is not there.
    """
    slices = now.get("slices", {})
    for name in own:
        if name not in slices:
            raise UnknownName("slice", name, slices, "labeling_functions/ (params.yaml: validation.slices)")
    for name, of in slices.items():
        mine = own.get(name, SliceParams())
        yield from _limits(name, LabelTotals(of["by_partition"].values()), mine)
        before = (accepted or {}).get("slices", {}).get(name)
        if not before or before["classes"] != of["classes"]:
            continue
        drift = {key: value for key in ("class_balance", "uncovered") if (value := getattr(mine, key)) is not None}
        compared = ComparedLabels(of, before, limits.model_copy(update=drift))
        if compared.total.rows:
            yield from (within(check, name) for check in (*of_classes(compared), *_of_votes(compared)))


def _limits(name: str, totals: LabelTotals, limits: SliceParams) -> Iterator[Check]:
    """Coverage and conflicts against fixed limits, where there are any."""
    asked = (
        ("coverage", limits.coverage, totals.covered, "have a vote", "below", "Rows without a vote have no label."),
        (
            "conflicts",
            limits.conflicts,
            totals.conflicting,
            "have votes for different classes",
            "above",
            "Where labeling functions contradict each other, labels are less sure.",
        ),
    )
    for kind, limit, hits, says, side, why in asked:
        if limit is None:
            continue
        share = hits / totals.rows if totals.rows else 0.0
        holds = not totals.rows or (share >= limit if side == "below" else share <= limit)
        yield measured(
            "labels",
            f"slice_{kind}({name})",
            limits.severity,
            why,
            holds,
            against_baseline=False,
            arguments={"slice": name, "rows": totals.rows},
            observed=round(share, 6),
            threshold=limit,
            found=f"Of {totals.rows:,} rows of {name}, {percent(share)} {says}.",
            detects=f"A share {side} {percent(limit)}.",
        )


def _of_votes(compared: ComparedLabels) -> Iterator[Check]:
    """Whether functions contradict each other, vote, and are contradicted as often as they were."""
    limits, windows = compared.limits, max(1, len(compared.windows))
    conflicts = Question(
        "conflicts",
        "Where labeling functions contradict each other more or less often than before, one of them means something "
        "else now.",
        lambda totals: Rate(totals.conflicting, totals.rows),
        Limit(limits.significance / windows, psi=limits.psi),
        "Functions contradict each other on {share} of {where}",
    )
    if check := answer(compared, conflicts):
        yield check
    rules = [name for name in compared.accepted.functions if name in compared.total.functions]
    limit = Limit(limits.significance / max(1, len(rules) * windows), psi=limits.psi)

    def share_of(kind: str, rule: str) -> Callable[[LabelTotals], Rate]:
        return lambda totals: totals.coverage(rule) if kind == "functions" else totals.conflicts(rule)

    for kind, why, says, rows in (
        (
            "functions",
            "A labeling function that votes more or less often than in the baseline sees different data, or its code "
            "is different.",
            "votes on {share} of {where}",
            "",
        ),
        (
            "contradicted",
            "A labeling function that others contradict more or less often than before now means something else.",
            "is contradicted on {share} of {where}",
            " on which it votes",
        ),
    ):
        asked = [Question(kind, why, share_of(kind, rule), limit, f"{rule} {says}", rows) for rule in rules]
        if found := _together([check for question in asked if (check := answer(compared, question))]):
            yield found


def _together(checks: Iterable[Check]) -> Check | None:
    """One check of all functions: it holds where all do, and names the one that moved farthest."""
    found = list(checks)
    if not found:
        return None
    moved = [check for check in found if check.status != "passed"]
    moved.sort(key=lambda check: -abs(check.observed - check.arguments["accepted"]))
    more = f" {len(moved) - 1} more functions have moved." if len(moved) > 1 else ""
    said = f"{moved[0].found}{more}" if moved else ""
    first = moved[0] if moved else found[0]
    return replace(
        first,
        arguments={"functions": len(found), "moved": [check.found for check in moved]},
        observed=len(moved),
        threshold=0.0,
        found=said or f"Each of {len(found):,} functions does so as often as in the accepted baseline.",
        detects="A function whose share moved by more than chance.",
        by_partition={},
    )


def slice_floors(name: str, metrics: SliceMetrics, limits: SliceParams) -> Iterator[Check]:
    """Whether models reach the least figures that are set of a slice."""
    asked = [(model, key, least) for model, of in limits.least.items() for key, least in of.items()]
    for model, measure, floor in asked:
        metric = metrics.models.get(model, {}).get(measure, Metric(reason="It was not measured."))
        value = metric.value
        said = f"it is {value:.3f}" if value is not None else (metric.reason or "It was not measured").rstrip(".")
        yield measured(
            "evaluation",
            f"floor({model}, {measure}, {name})",
            limits.severity if value is not None else "info",
            "What matters must not drown in the mean over all rows.",
            value is not None and value >= floor,
            against_baseline=False,
            arguments={"slice": name, "model": model, "measure": measure, "rows": metrics.test_rows},
            observed=value,
            threshold=floor,
            found=f"Within {name}: {said}; {counted(metrics.test_rows, 'test row')} of it have a gold label.",
            detects=f"A value below {floor:g}.",
        )
