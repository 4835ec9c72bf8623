"""`drift(column)`: whether a column is distributed as it was accepted, by the population stability index."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from weakfish.checks.baseline import Comparison, Window, percent, rounded
from weakfish.checks.rates import NOISE, POWER, Shift, share_above, share_below, shift
from weakfish.checks.rates import deviations_statistics as deviations
from weakfish.contracts.verdicts import Check, Severity, judged
from weakfish.engine.profile import Column, Ints, Sketch

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


BINS = 10
"""Into how many bins of about equal accepted shares numbers are cut, where rows suffice."""

ROWS_IN_A_BIN = 10
"""How many rows a bin of numbers should have on the side that has fewer: with less, PSI is not what theory says."""

ROWS_OF_A_CATEGORY = 5
"""Categories of which fewer rows are expected count together."""


@dataclass(frozen=True)
class Bins:
    """The rows of two columns by common bins; ``of`` says what the bins are, and nulls are the last of them."""

    now: Ints
    accepted: Ints
    of: str


def bins_of(now: Column, accepted: Column) -> Bins | None:
    """Cut two columns by what both have: categories, else numbers, hours or lengths; None where that is nothing."""
    if now.categories is not None and accepted.categories is not None:
        sides, of = _by_category(now, accepted), "categories"
    elif now.sketch is not None and accepted.sketch is not None:
        sides, of = _by_quantile(now.sketch, accepted.sketch), _MEASURED[accepted.kind]
    else:
        return None
    with_nulls = [np.append(side, column.nulls) for side, column in zip(sides, (now, accepted), strict=True)]
    return Bins(with_nulls[0], with_nulls[1], of)


_MEASURED = {
    "number": "values",
    "distance": "hours from the row's time",
    "text": "lengths",
    "list": "lengths",
}


def _by_category(now: Column, accepted: Column) -> tuple[Ints, Ints]:
    """Categories that are frequent enough each for itself, those that are new together, the rest together."""
    ours, theirs = now.frequent, accepted.frequent
    fewest = ROWS_OF_A_CATEGORY * accepted.valued / max(1, min(now.valued, accepted.valued))
    own = [name for name, count in theirs.items() if count >= fewest]
    new = [name for name in ours if name not in theirs]

    def counted(column: Column, names: dict[str, int]) -> Ints:
        alone = [(column.categories or {}).get(name, 0) for name in own]
        new_rows = sum(names.get(name, 0) for name in new)
        rest = column.valued - sum(alone) - new_rows
        return np.array([*alone, rest, new_rows], np.int64)

    return counted(now, ours), counted(accepted, theirs)


def _by_quantile(now: Sketch, accepted: Sketch) -> tuple[Ints, Ints]:
    """Bins of about equal accepted shares; a bucket that holds as much alone is a bin of its own."""
    bits = min(now.bits, accepted.bits)
    ours, theirs = now.at(bits), accepted.at(bits)
    if not theirs.total or not ours.total:
        return np.array([ours.total]), np.array([theirs.total])
    count = max(2, min(BINS, min(ours.total, theirs.total) // ROWS_IN_A_BIN))
    starts = _starts(theirs, theirs.total / count)
    return _counted(ours, starts), _counted(theirs, starts)


def _starts(sketch: Sketch, target: float) -> Ints:
    """The first code of each bin but the first, which begins before all.

    What lies beside a bucket that is a bin of its own belongs to the neighbour on that side; where there is none, on
    the outside or between two such buckets, to a bin that is empty so far.
    """
    starts: list[int] = []
    runs: list[int] = []
    """Rows of the bins of several buckets since the last bucket of its own."""
    for code, count in zip(sketch.codes.tolist(), sketch.counts.tolist(), strict=True):
        if count >= target:
            _join_last(starts, runs, target)
            starts += [code, code + 1]
            runs = []
        elif runs and runs[-1] < target:
            runs[-1] += count
        else:
            starts += [code] if runs else []
            runs.append(count)
    _join_last(starts, runs, target)
    return np.unique(np.array(starts, np.int64))


def _join_last(starts: list[int], runs: list[int], target: float) -> None:
    """What is left over goes to the bin before it when it is less than half a bin."""
    if len(runs) > 1 and runs[-1] < target / 2:
        starts.pop()


def _counted(sketch: Sketch, starts: Ints) -> Ints:
    counts = np.zeros(len(starts) + 1, np.int64)
    np.add.at(counts, np.searchsorted(starts, sketch.codes, side="right"), sketch.counts)
    return counts
