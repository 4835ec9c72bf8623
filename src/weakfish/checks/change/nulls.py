"""`nulls(column)`: whether more rows have no value than was accepted."""

from __future__ import annotations

from math import sqrt

from weakfish.checks.change.compare import Comparison, percent, rounded
from weakfish.checks.change.statistics import CERTAIN, NOISE, POWER
from weakfish.checks.check import Check, Severity, judged
from weakfish.checks.rates import Limit, Rate

WHY = "A value that goes missing is a broken reader or source, and what is computed from it goes missing too."

CHANCE = 2 * (1 - NOISE)
"""Two-sided, of which a rise is one side."""


def nulls(against: Comparison, column: str, severity: Severity = "warning") -> Check | None:
    """Compare the share of nulls; None where no row lacks a value on any side."""
    limit = Limit(chance=CHANCE, difference=against.limits.null_share)
    sides = [(w, Rate(now.nulls, now.rows), Rate(then.nulls, then.rows)) for w, now, then in against.sides(column)]
    if not any(now.hits or then.hits for _, now, then in sides):
        return None
    window, now, then = max(sides, key=lambda side: (_rises(limit, *side[1:]), side[1].share - side[2].share))
    bound = limit.bounds(now.rows, then).high
    surely = _surely(bound, now.rows)
    rows = f"{percent(now.share)} of {now.rows:,} rows in the {window.name}"
    return Check(
        check=f"nulls({column})",
        expectation="nulls",
        severity=severity,
        why=WHY,
        status=judged(severity, not _rises(limit, now, then)),
        kind="change",
        against_baseline=True,
        found=f"{rows} have no {column}; of {then.rows:,} accepted ones {percent(then.share)}.",
        arguments={"column": column, "compared": window.name, "accepted_share": rounded(then.share)},
        observed=rounded(now.share),
        threshold=None if bound is None else rounded(bound),
        detects=surely and f"With {now.rows:,} rows, nulls in {surely} of them are seen in {percent(POWER)} of cases.",
        by_partition={name: rounded(part.nulls / part.rows) for name, part in against.by_partition(column).items()},
    )


def _rises(limit: Limit, now: Rate, then: Rate) -> bool:
    return now.share > then.share and limit.tells(now, then)


def _surely(bound: float | None, rows: int) -> str | None:
    """The smallest true share that passes a bound in `POWER` of all cases: its own chance comes on top."""
    if bound is None:
        return None
    share = bound + CERTAIN * sqrt(max(bound * (1 - bound), 1 / rows) / rows)
    return percent(share) if share < 1 else None
