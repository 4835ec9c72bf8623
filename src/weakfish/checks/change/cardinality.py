"""`cardinality(column)`: whether a text column has about as many distinct values as accepted, for as many rows."""

from __future__ import annotations

from math import log

from weakfish.checks.change.column import Column
from weakfish.checks.change.compare import Comparison, rounded
from weakfish.checks.change.statistics import FEWEST
from weakfish.checks.check import Check, judged

WHY = "Names of things that collapse into a few, or all become unique, neither join nor group as they did."


def cardinality(against: Comparison, column: str) -> Check | None:
    """Compare the distinct values of a column of names; None where it is none, or has too few rows.

    New partitions compare each with the mean accepted one, accepted ones together with themselves as accepted.
    """
    before = against.accepted.columns[column]
    if before.kind != "text" or before.categories is not None or not before.distinct:
        return None
    trend = _trend(against, column, before)
    found = {}
    of_new = [trend[name] for name in against.new.partitions if name in trend]
    if of_new:
        found[against.new.name] = max(of_new, key=_far)
    for window, now, _ in against.sides(column):
        if window is against.kept and now.valued >= FEWEST:
            found[window.name] = _factor(now.distinct or 0, now.valued, before.distinct, before.valued)
    if not found:
        return None
    where = max(found, key=lambda name: _far(found[name]))
    limit = against.limits.cardinality_factor
    return Check(
        check=f"cardinality({column})",
        expectation="cardinality",
        severity="warning",
        why=WHY,
        status=judged("warning", _far(found[where]) <= log(limit)),
        kind="change",
        against_baseline=True,
        found=f"Distinct values of {column} in the {where}: {found[where]:.3g} times what so many rows let expect.",
        arguments={"column": column, "compared": {name: rounded(factor) for name, factor in found.items()}},
        observed=rounded(found[where]),
        threshold=limit,
        detects=f"With any number of rows, {limit:g} times more or fewer distinct values than that.",
        by_partition={name: rounded(factor) for name, factor in trend.items()},
    )


def _trend(against: Comparison, column: str, before: Column) -> dict[str, float]:
    """The factor of each partition against the mean accepted one."""
    partitions = len(against.accepted.rows)
    usual, valued = (before.distinct or 0) / partitions, before.valued / partitions
    found = {name: now for name, now in against.by_partition(column).items() if now.valued >= FEWEST}
    return {name: _factor(now.distinct or 0, now.valued, usual, valued) for name, now in found.items()}


def _factor(distinct: int, rows: int, usual: float, usual_rows: float) -> float:
    """How many times more or fewer distinct values there are than fit the rows; 1 while they do.

    With more rows come more distinct values: at least none, and at most in proportion. Between these, all is well.
    """
    low, high = sorted((usual, usual * rows / usual_rows))
    return max(distinct, 0.5) / max(min(max(distinct, low), high), 0.5)


def _far(factor: float) -> float:
    return abs(log(factor))
