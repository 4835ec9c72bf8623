"""Questions about labels, of all rows or a slice: whether a share is still what it was when it was accepted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from weakfish.checks.label_totals import DIGITS, LabelTotals
from weakfish.checks.rates import Bounds, Limit, Rate, distance
from weakfish.contracts.figures import percent
from weakfish.contracts.verdicts import Check, Severity, measured
from weakfish.project.params import LabelChecksParams


class RowWindow(NamedTuple):
    """Some rows of today; ``text`` says which, to go after their number."""

    text: str
    totals: LabelTotals
    is_new: bool


class ComparedLabels:
    """The labels of today (`rules_of`), and what was accepted of them (`through`), if anything was."""

    def __init__(self, now: Mapping[str, Any], before: Mapping[str, Any] | None, limits: LabelChecksParams) -> None:
        parts = now["by_partition"]
        self.now, self.before, self.limits = now, before or {}, limits
        self.partitions = {name: LabelTotals([part]) for name, part in parts.items()}
        self.total = LabelTotals(parts.values())
        self.accepted = LabelTotals([before] if before else [])
        known = self.before.get("partitions", {})
        new = [name for name in parts if name not in known]
        after = f"rows after {max(known)}" if known and new and min(new) > max(known) else "rows of new partitions"
        old = LabelTotals(part for name, part in parts.items() if name in known)
        windows = [
            RowWindow("accepted rows", old, False),
            RowWindow(after, LabelTotals(parts[name] for name in new), True),
        ]
        self.windows = [window for window in windows if window.totals.rows]

    def by_partition(self, of: Callable[[LabelTotals], Rate]) -> dict[str, float]:
        """The share in each partition that has rows for it."""
        rates = {name: of(totals) for name, totals in self.partitions.items()}
        return {name: round(rate.share, DIGITS) for name, rate in rates.items() if rate.rows}


def check_of(name: str, severity: Severity, why: str, holds: bool, **more: Any) -> Check:
    if more["arguments"].get("edited"):
        more["found"] += " Its code was edited since."
    return measured("labels", name, severity, why, holds, **more)


# Shares that should stay what they were when they were accepted: of classes, of coverage, of conflicts.


@dataclass(frozen=True)
class Question:
    """Whether a share is still what it was.

    Attributes
    ----------
    rows
        What it is a share of, to go after "of 2,366 rows after 2002-08".
    says
        What was found: ``{share}``, that of all other rows as ``{rest}``, and ``{where}``, how many rows of which.
    upward
        Whether only a rise is reported.
    """

    check: str
    why: str
    of: Callable[[LabelTotals], Rate]
    limit: Limit
    says: str
    rows: str = ""
    upward: bool = False
    arguments: Mapping[str, Any] = field(default_factory=dict)


def answer(compared: ComparedLabels, asked: Question) -> Check | None:
    """A warning where the share moved in any window; None where there are no rows to ask."""
    accepted, limit = asked.of(compared.accepted), asked.limit
    rates = [(window, rate) for window in compared.windows if (rate := asked.of(window.totals)).rows]
    if not rates or not accepted.rows:
        return None

    def moved(rate: Rate) -> bool:
        return limit.tells(rate, accepted) and not (asked.upward and rate.share < accepted.share)

    window, rate = max(rates, key=lambda pair: (moved(pair[1]), abs(distance(pair[1], accepted))))
    bounds = limit.bounds(rate.rows, accepted)
    bounds = Bounds(None, bounds.high) if asked.upward else bounds
    where = f"{rate.rows:,} {window.text}{asked.rows}"
    said = asked.says.format(share=percent(rate.share), rest=percent(1 - rate.share), where=where)
    shows = f"a share {bounds.text()} is noticed" if bounds.text() else "no change is noticed, they are too few"
    figures = {"rows": rate.rows, "where": window.text, "accepted": round(accepted.share, DIGITS)}
    return check_of(
        asked.check,
        "warning",
        asked.why,
        not moved(rate),
        arguments={**asked.arguments, **figures, "accepted_rows": accepted.rows},
        observed=round(rate.share, DIGITS),
        threshold=bounds.high if asked.upward or rate.share >= accepted.share else bounds.low,
        found=f"{said}; it was {percent(accepted.share)} of {accepted.rows:,} in the accepted baseline.",
        detects=f"Of {where}, {shows}.",
        by_partition=compared.by_partition(asked.of),
    )


def of_classes(compared: ComparedLabels) -> list[Check]:
    """The mean probability of each class (of two classes the last) and the share of rows without votes."""
    classes, limits, windows = compared.now["classes"], compared.limits, max(1, len(compared.windows))
    asked = classes[-1:] if len(classes) == 2 else classes

    def mean(name: str) -> Callable[[LabelTotals], Rate]:
        return lambda totals: Rate(totals.mean[name] * totals.covered, totals.covered)

    questions = [
        Question(
            f"class_balance({name})",
            "Where the classes' shares changed, thresholds, class weights and the label model's own class balance no "
            "longer fit, and models trained before rank rows by what used to be true.",
            mean(name),
            Limit(limits.significance / (len(asked) * windows), difference=limits.class_balance),
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
        Limit(limits.significance / windows, difference=limits.uncovered),
        "No function votes on {share} of {where}",
        upward=True,
    )
    return [check for question in (*questions, uncovered) if (check := answer(compared, question))]
