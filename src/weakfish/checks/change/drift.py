"""`drift(column)`: whether a column is distributed as it was accepted, by the population stability index."""

from __future__ import annotations

from dataclasses import dataclass

from weakfish.checks.change.bins import Bins, bins_of
from weakfish.checks.change.column import Column
from weakfish.checks.change.compare import Comparison, Window, percent, rounded
from weakfish.checks.change.statistics import NOISE, POWER, Shift, deviations, share_above, share_below, shift
from weakfish.checks.check import Check, Severity, judged

WHY = "Rules, label model and classifier were made on values distributed as accepted; where these move, they guess."


@dataclass(frozen=True)
class _Found:
    window: Window
    bins: Bins
    shift: Shift
    column: Column

    def weight(self, threshold: float) -> float:
        """How far beyond what is allowed: above 1, the check does not hold."""
        return self.shift.psi / max(threshold, self.shift.noise)


def drift(against: Comparison, column: str, severity: Severity = "warning") -> Check | None:
    """Compare a column with what was accepted; None where rows are too few on every side to say anything."""
    threshold = against.limits.psi
    found = [
        _Found(window, bins, shift(bins.now, bins.accepted), before)
        for window, now, before in against.sides(column)
        if (bins := bins_of(now, before)) is not None
    ]
    found = [one for one in found if one.shift.may_exceed]
    if not found:
        return None
    worst = max(found, key=lambda one: one.weight(threshold))
    return Check(
        check=f"drift({column})",
        expectation="drift",
        severity=severity,
        why=WHY,
        status=judged(severity, not worst.shift.exceeds(threshold)),
        kind="change",
        against_baseline=True,
        found=_sentence(worst, column),
        arguments={"column": column, "compared": {one.window.name: _numbers(one) for one in found}},
        observed=rounded(worst.shift.psi),
        threshold=rounded(max(threshold, worst.shift.noise)),
        detects=_detects(worst, threshold),
        by_partition=_trend(against, column, threshold),
    )


def _numbers(found: _Found) -> dict[str, object]:
    return {
        "psi": rounded(found.shift.psi),
        "jensen_shannon_distance": rounded(found.shift.distance),
        "noise": rounded(found.shift.noise),
        "rows": found.shift.rows,
        "accepted_rows": found.shift.accepted,
        "bins": len(found.shift.shares),
        "bins_of": found.bins.of,
    }


def _sentence(found: _Found, column: str) -> str:
    return (
        f"The {found.bins.of} of {column} in the {found.window.name} ({found.shift.rows:,} rows) lie PSI "
        f"{found.shift.psi:.3g} from the accepted ones ({found.shift.accepted:,} rows), Jensen-Shannon distance "
        f"{found.shift.distance:.2g}; chance alone stays under {found.shift.noise:.2g} in {percent(NOISE)} of cases."
    )


def _detects(found: _Found, threshold: float) -> str:
    smallest = found.shift.detectable(threshold)
    rows = f"{found.shift.rows:,} rows against {found.shift.accepted:,}"
    seen = f"With {rows}, PSI {smallest:.2g} is seen in {percent(POWER)} of cases: "
    if found.bins.of != "categories":
        moved = deviations(found.shift.shares, smallest)
        return f"{seen}a mean of {found.bins.of} that moved by {moved:.2g} standard deviations."
    categories = found.column.categories or {}
    if not categories:
        return f"{seen}values where there were nulls alone."
    name, count = max(categories.items(), key=lambda item: (item[1], item[0]))
    share = count / found.column.rows
    low, high = share_below(share, smallest), share_above(share, smallest)
    bounds = [f"below {percent(low)}"] * (low > 0) + [f"above {percent(high)}"] * (high < 1)
    moved_to = " or ".join(bounds) or "to nothing or to all"
    return f"{seen}a share of {name!r} of {percent(share)} that moved {moved_to}."


def _trend(against: Comparison, column: str, threshold: float) -> dict[str, float]:
    """PSI of each partition against all that was accepted; without those so small that chance decides."""
    before = against.accepted.columns[column]
    trend = {}
    for name, now in against.by_partition(column).items():
        bins = bins_of(now, before)
        found = shift(bins.now, bins.accepted) if bins else None
        if found and found.may_exceed and found.noise <= max(1.0, threshold):
            trend[name] = rounded(found.psi)
    return trend
