"""`categories(column)`: values that were never accepted, and accepted ones that vanished.

Rare values have no names here, only their number: what stands in a few rows may be anybody's text.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import log, sqrt

from weakfish.checks.change.column import CATEGORIES, Column
from weakfish.checks.change.compare import Comparison, Window, percent, rounded
from weakfish.checks.change.statistics import CERTAIN, NOISE, POWER
from weakfish.checks.check import Check, judged

WHY = "A value that no rule or model has seen says nothing to them; one that vanished takes its rules along."

NAMES_SHOWN = 20
"""How many new or vanished categories a check names."""


@dataclass(frozen=True)
class _Side:
    window: Window
    now: Column
    then: Column
    limit: float

    @cached_property
    def new(self) -> dict[str, int]:
        """Rows of the values that repeat and were not accepted, the most frequent first."""
        found = {name: count for name, count in self.now.frequent.items() if name not in self.then.frequent}
        return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))

    @property
    def share(self) -> float:
        """The share of values that were not accepted: those that repeat, and rare ones as far as they are more."""
        return new_share(self.now, self.then)

    @property
    def fewest(self) -> float:
        """The accepted share from where on a value that is absent now has not been so by chance."""
        return max(self.limit, float(1 - (1 - NOISE) ** (1 / self.now.valued)))

    @cached_property
    def vanished(self) -> list[str]:
        """Accepted values that no row has now, although so many had them that chance is no explanation."""
        found = self.now.categories
        fewest = self.fewest * self.then.valued
        then = self.then.frequent.items() if found is not None else ()
        return [name for name, count in then if name not in (found or ()) and count > fewest]

    @property
    def broken(self) -> bool:
        return self.share > self.limit or bool(self.vanished)


def new_share(now: Column, then: Column) -> float:
    """The share of values that were not accepted; 1 where there are too many kinds to count them."""
    if now.categories is None:
        return 1.0
    unknown = rare_rows(now, then)
    repeating = sum(count for name, count in now.frequent.items() if name not in then.frequent)
    return repeating / now.valued + max(0.0, unknown / now.valued - then.rare / max(1, then.valued))


def rare_rows(now: Column, then: Column) -> int:
    """Rows of values that do not repeat and were not accepted."""
    known = {**now.frequent, **{name: (now.categories or {}).get(name, 0) for name in then.frequent}}
    return now.valued - sum(known.values())


def categories(against: Comparison, column: str) -> Check | None:
    """Compare the values of a column that had few; None for other columns, and for booleans."""
    before, limit = against.accepted.columns[column], against.limits.new_categories
    known = before.categories is not None and before.kind != "boolean"
    sides = [_Side(window, now, then, limit) for window, now, then in against.sides(column) if known and now.valued]
    if not sides:
        return None
    worst = max(sides, key=lambda side: (side.broken, side.share))
    return Check(
        check=f"categories({column})",
        expectation="categories",
        severity="warning",
        why=WHY,
        status=judged("warning", not worst.broken),
        kind="change",
        against_baseline=True,
        found=_found(column, worst),
        arguments={
            "column": column,
            "compared": worst.window.name,
            "new": dict(list(worst.new.items())[:NAMES_SHOWN]),
            "rare": rare_rows(worst.now, worst.then),
            "vanished": worst.vanished[:NAMES_SHOWN],
        },
        observed=rounded(worst.share),
        threshold=limit,
        detects=_detects(worst),
        by_partition=_trend(against, column),
    )


def _found(column: str, side: _Side) -> str:
    where = f"{column} in the {side.window.name}"
    if side.now.categories is None:
        return f"The values of {where} are no few repeated ones any more: over {CATEGORIES}, or names of things."
    told = f"{percent(side.share)} of {side.now.valued:,} values of {where} were not accepted"
    kinds = f"new kinds that repeat: {len(side.new)}, accepted ones that vanished: {len(side.vanished)}"
    return f"{told}; {kinds} of {len(side.then.frequent)}."


def _detects(side: _Side) -> str:
    rows = side.now.valued
    new = min(1.0, max(side.limit + CERTAIN * sqrt(side.limit / rows), -log(1 - POWER) / rows))
    return (
        f"With {rows:,} rows, new values are seen in {percent(POWER)} of cases from {percent(new)} of the rows on, "
        f"and a vanished one that {percent(side.fewest)} of the accepted rows had."
    )


def _trend(against: Comparison, column: str) -> dict[str, float]:
    """The share of new values in each partition; nothing where no partition has any."""
    before = against.accepted.columns[column]
    parts = {name: now for name, now in against.by_partition(column).items() if now.valued}
    trend = {name: rounded(new_share(now, before)) for name, now in parts.items()}
    return trend if any(trend.values()) else {}
