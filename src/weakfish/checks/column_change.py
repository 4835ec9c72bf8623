"""A column of a table compared with what was accepted of it: distribution, nulls, categories, names, extremes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from math import log, sqrt
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from weakfish.checks.baseline import Entry
from weakfish.checks.rates import (
    CERTAIN,
    FEWEST,
    NOISE,
    POWER,
    Bins,
    Limit,
    Rate,
    Shift,
    bins_of,
    moved_mean,
    rounded,
    shares_apart,
    shift,
)
from weakfish.contracts.figures import counted, short_percent
from weakfish.contracts.tables import UNDATED, by_period, period_of, read_partition
from weakfish.contracts.verdicts import Check, Rows, Severity, measured
from weakfish.engine.profile import CATEGORIES, ColumnProfile, Profile
from weakfish.project.params import ChangeParams

NAMES_SHOWN = 20
"""How many new or vanished categories a check names."""

CHANCE = 2 * (1 - NOISE)
"""Two-sided, of which a rise of nulls is one side."""

of_change = partial(measured, "change")


class ChangeWindow(NamedTuple):
    """Some partitions of a table as they are now."""

    name: str
    columns: Mapping[str, ColumnProfile]
    partitions: Sequence[str]


class Comparison:
    """A table's profile and what was accepted."""

    def __init__(self, accepted: Entry, profile: Profile, limits: ChangeParams) -> None:
        self.accepted, self.profile, self.limits = accepted, profile, limits
        # Rows without a time belong to no new partition.
        new = [name for name in profile.partitions if name not in accepted.rows and name != UNDATED]
        kept = [name for name in profile.partitions if name in accepted.rows]
        self.new = ChangeWindow("new partitions", profile.of(new), new)
        self.kept = ChangeWindow("accepted partitions as they are now", profile.of(kept), kept)
        self.history = {name: count for name, count in accepted.rows.items() if name != UNDATED}

    def sides(self, column: str) -> list[tuple[ChangeWindow, ColumnProfile, ColumnProfile]]:
        """A column as it is in each window, beside the accepted one; where it has rows and the accepted type."""
        before = self.accepted.columns[column]
        windows = {window.name: window for window in (self.new, self.kept)}
        found = _comparable({name: window.columns for name, window in windows.items()}, column, before)
        return [(windows[name], now, before) for name, now in found.items()] if before.rows else []

    def by_partition(self, column: str) -> dict[str, ColumnProfile]:
        """A column in every partition that has rows of it, of the accepted type."""
        parts = {name: partition.columns for name, partition in self.profile.partitions.items()}
        return _comparable(parts, column, self.accepted.columns[column])


def _comparable(
    of: Mapping[str, Mapping[str, ColumnProfile]], column: str, before: ColumnProfile
) -> dict[str, ColumnProfile]:
    found = {name: columns.get(column) for name, columns in of.items()}
    return {name: now for name, now in found.items() if now is not None and now.rows and now.type == before.type}


def _trend(
    against: Comparison, column: str, of: Callable[[ColumnProfile], float | None], fewest: int = 0
) -> dict[str, float]:
    """A number of each partition that has more values than ``fewest``; without those where it is None."""
    found = {name: of(now) for name, now in against.by_partition(column).items() if now.valued >= fewest}
    return {name: rounded(number) for name, number in found.items() if number is not None}


def drift_check(against: Comparison, column: str, severity: Severity) -> Check | None:
    """Compare the distribution of a column; None where rows are too few on every side to say anything."""
    threshold, before = against.limits.psi, against.accepted.columns[column]
    cut = [(window, bins_of(now, then)) for window, now, then in against.sides(column)]
    shifts = [(window, bins, shift(bins.now, bins.accepted)) for window, bins in cut if bins is not None]
    shifts = [one for one in shifts if one[2].may_exceed]
    if not shifts:
        return None
    window, bins, worst = max(shifts, key=lambda one: one[2].psi / max(threshold, one[2].noise))

    def moved(now: ColumnProfile) -> float | None:
        """The PSI of a partition against all that was accepted; None where chance decides."""
        cut = bins_of(now, before)
        found = shift(cut.now, cut.accepted) if cut else None
        return found.psi if found and found.may_exceed and found.noise <= max(1.0, threshold) else None

    compared = {
        window.name: {
            "psi": rounded(found.psi),
            "jensen_shannon_distance": rounded(found.distance),
            "noise": rounded(found.noise),
            "rows": found.rows,
            "accepted_rows": found.accepted,
            "bins": len(found.shares),
            "bins_of": bins.of,
        }
        for window, bins, found in shifts
    }
    return of_change(
        f"drift({column})",
        severity,
        "Labeling functions, label model and classifier were made for values distributed as in the "
        "baseline; on others they guess.",
        not worst.exceeds(threshold),
        found=f"{_values(bins.of, column)} in the {window.name} ({worst.rows:,} rows) differ from the accepted ones "
        f"({worst.accepted:,} rows) by a PSI of {worst.psi:.3g} (Jensen-Shannon distance {worst.distance:.2g}); by "
        f"chance it stays below {worst.noise:.2g} in {short_percent(NOISE)} of cases.",
        arguments={"column": column, "compared": compared},
        observed=rounded(worst.psi),
        threshold=rounded(max(threshold, worst.noise)),
        detects=_detects(bins, worst, before, threshold),
        by_partition=_trend(against, column, moved),
    )


def _values(of: str, column: str) -> str:
    """What of a column is compared, as the subject of a sentence."""
    return f"The times {column}, in {of}," if of.startswith("hours") else f"The {of} of {column}"


def _detects(bins: Bins, found: Shift, before: ColumnProfile, threshold: float) -> str:
    smallest = found.detectable(threshold)
    rows = f"{found.rows:,} rows against {found.accepted:,}"
    seen = f"With {rows}, a PSI of {smallest:.2g} is noticed in {short_percent(POWER)} of cases: "
    if bins.of != "categories":
        moved = moved_mean(found.shares, smallest)
        return f"{seen}a mean of {bins.of} that moved by {moved:.2g} standard deviations."
    if not before.categories:
        return f"{seen}values where there were only nulls."
    name, count = max(before.categories.items(), key=lambda item: (item[1], item[0]))
    share = count / before.rows
    low, high = shares_apart(share, smallest)
    ends = [f"below {short_percent(low)}"] * (low > 0) + [f"above {short_percent(high)}"] * (high < 1)
    return (
        f"{seen}a share of {name!r} of {short_percent(share)} that moved {' or '.join(ends) or 'to nothing or to all'}."
    )


def nulls_check(against: Comparison, column: str, severity: Severity) -> Check | None:
    """Compare the share of nulls; None where no row lacks a value on any side."""
    limit = Limit(chance=CHANCE, difference=against.limits.null_share)
    sides = [(w, Rate(now.nulls, now.rows), Rate(then.nulls, then.rows)) for w, now, then in against.sides(column)]
    if not any(now.hits or then.hits for _, now, then in sides):
        return None

    def rises(now: Rate, then: Rate) -> bool:
        return now.share > then.share and limit.tells(now, then)

    window, now, then = max(sides, key=lambda side: (rises(*side[1:]), side[1].share - side[2].share))
    bound, detects = limit.bounds(now.rows, then).high, None
    if bound is not None and (surely := _surely(bound, now.rows)) < 1:
        detects = (
            f"With {now.rows:,} rows, nulls in {short_percent(surely)} of them are noticed in "
            f"{short_percent(POWER)} of cases."
        )
    return of_change(
        f"nulls({column})",
        severity,
        "Missing values point to a broken reader or source, and everything computed from them is missing too.",
        not rises(now, then),
        found=f"{short_percent(now.share)} of {now.rows:,} rows in the {window.name} have no {column}; it was "
        f"{short_percent(then.share)} of {then.rows:,} rows in the accepted baseline.",
        arguments={"column": column, "compared": window.name, "accepted_share": rounded(then.share)},
        observed=rounded(now.share),
        threshold=None if bound is None else rounded(bound),
        detects=detects,
        by_partition=_trend(against, column, lambda part: part.nulls / part.rows),
    )


def _surely(bound: float, rows: int) -> float:
    """The smallest true share that passes a bound in `POWER` of all cases: its own chance comes on top."""
    return bound + CERTAIN * sqrt(max(bound * (1 - bound), 1 / rows) / rows)


@dataclass(frozen=True)
class _Categories:
    """The values of a column that had few, now and then."""

    window: ChangeWindow
    now: ColumnProfile
    then: ColumnProfile
    limit: float

    @cached_property
    def new(self) -> dict[str, int]:
        """Rows of the values that repeat and were not accepted, the most frequent first."""
        found = {name: count for name, count in self.now.frequent.items() if name not in self.then.frequent}
        return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))

    @property
    def rare(self) -> int:
        """Rows of values that do not repeat and were not accepted."""
        names = {*self.now.frequent, *self.then.frequent}
        return self.now.valued - sum((self.now.categories or {}).get(name, 0) for name in names)

    @property
    def share(self) -> float:
        """The share of values that were not accepted: those that repeat, and rare ones as far as they are more.

        1 where there are too many kinds to count them.
        """
        if self.now.categories is None:
            return 1.0
        more = self.rare / self.now.valued - self.then.rare / max(1, self.then.valued)
        return sum(self.new.values()) / self.now.valued + max(0.0, more)

    @property
    def fewest(self) -> float:
        """The accepted share from which on a value that is absent now has not been so by chance."""
        return max(self.limit, float(1 - (1 - NOISE) ** (1 / self.now.valued)))

    @cached_property
    def vanished(self) -> list[str]:
        """Accepted values that no row has now, although so many had them that chance is no explanation."""
        now, fewest = self.now.categories, self.fewest * self.then.valued
        then = self.then.frequent.items() if now is not None else ()
        return [name for name, count in then if name not in (now or ()) and count > fewest]

    @property
    def chance(self) -> Limit:
        """What makes new values more than chance, and more than the limit."""
        return Limit(chance=CHANCE, difference=self.limit)

    @property
    def usual(self) -> Rate:
        """The values that did not repeat in the baseline."""
        return Rate(self.then.rare, self.then.valued)

    @property
    def broken(self) -> bool:
        new = Rate(self.share * self.now.valued + self.usual.share * self.now.valued, self.now.valued)
        return (self.share > self.limit and self.chance.tells(new, self.usual)) or bool(self.vanished)


def categories_check(against: Comparison, column: str) -> Check | None:
    """Compare the values of a column that had few; None for other columns, and for booleans."""
    before, limit = against.accepted.columns[column], against.limits.new_categories
    known = before.categories is not None and before.kind != "boolean"
    sides = [_Categories(*side, limit) for side in against.sides(column) if known and side[1].valued >= FEWEST]
    if not sides:
        return None
    worst = max(sides, key=lambda side: (side.broken, side.share))
    rows, where = worst.now.valued, f"{column} in the {worst.window.name}"
    found = (
        f"{short_percent(worst.share)} of {rows:,} values of {where} are not in the accepted baseline; "
        f"{counted(len(worst.new), 'new value')} occur{'s' if len(worst.new) == 1 else ''} often, and "
        f"{len(worst.vanished)} of {counted(len(worst.then.frequent), 'accepted value')} vanished."
    )
    if worst.now.categories is None:
        found = f"The values of {where} are no longer categories: there are more than {CATEGORIES}, or they are names."
    bound = worst.chance.bounds(rows, worst.usual).high
    new = 1.0 if bound is None else _surely(bound, rows)
    seen = "new values are not noticed, since these are too few"
    if new < 1:
        seen = (
            f"new values are noticed in {short_percent(POWER)} of cases once {short_percent(new)} of the rows have them"
        )
    window = against.kept
    trend = _trend(against, column, lambda now: _Categories(window, now, before, limit).share, fewest=1)
    return of_change(
        f"categories({column})",
        "warning",
        "Labeling functions and models know nothing about a value that they have never seen; where a value "
        "vanishes, what relies on it stops working.",
        not worst.broken,
        found=found,
        arguments={
            "column": column,
            "compared": worst.window.name,
            "new": dict(list(worst.new.items())[:NAMES_SHOWN]),
            "rare": worst.rare,
            "vanished": worst.vanished[:NAMES_SHOWN],
        },
        observed=rounded(worst.share),
        threshold=limit,
        detects=f"With {rows:,} rows, {seen}; a vanished value is noticed if {short_percent(worst.fewest)} of the "
        "accepted rows had it.",
        by_partition=trend if any(trend.values()) else {},
    )


def cardinality_check(against: Comparison, column: str) -> Check | None:
    """Compare the distinct values of a column of names; None where it is none, or has too few rows.

    New partitions compare each with the mean accepted one, accepted ones together with themselves as accepted.
    """
    before, limit = against.accepted.columns[column], against.limits.cardinality_factor
    if before.kind != "text" or before.categories is not None or not before.distinct:
        return None

    def factor(now: ColumnProfile, partitions: int = len(against.accepted.rows)) -> float:
        """How many times more or fewer distinct values there are than fit the rows; 1 while they do.

        With more rows come more distinct values: at least none, and at most in proportion. Between these, all is well.
        """
        distinct, usual, usual_rows = now.distinct or 0, (before.distinct or 0) / partitions, before.valued / partitions
        low, high = sorted((usual, usual * now.valued / usual_rows))
        return max(distinct, 0.5) / max(min(max(distinct, low), high), 0.5)

    def far(factor: float) -> float:
        return abs(log(factor))

    by_partition = against.by_partition(column)
    parts = {name: factor(now) for name, now in by_partition.items() if now.valued >= FEWEST}
    found = {}
    if of_new := [parts[name] for name in against.new.partitions if name in parts]:
        found[against.new.name] = max(of_new, key=far)
    for window, now, _ in against.sides(column):
        if window is against.kept and now.valued >= FEWEST:
            found[window.name] = factor(now, 1)
    if not found:
        return None
    where = max(found, key=lambda name: far(found[name]))
    return of_change(
        f"cardinality({column})",
        "warning",
        "Names of things that collapse into a few, or all become unique, neither join nor group as they did.",
        far(found[where]) <= log(limit),
        found=f"{column} has {found[where]:.3g} times as many distinct values in the {where} as so many rows should "
        "have.",
        arguments={"column": column, "compared": {name: rounded(of) for name, of in found.items()}},
        observed=rounded(found[where]),
        threshold=limit,
        detects=f"{limit:g} times more or fewer distinct values than that, whatever the number of rows.",
        by_partition={name: rounded(of) for name, of in parts.items()},
    )


def outside_check(against: Comparison, column: str, files: Mapping[str, Path], severity: Severity) -> Check | None:
    """Count the rows outside of the accepted extremes of a column of numbers; None where it is none.

    Only partitions whose own extremes lie outside are read.
    """
    before, limit = against.accepted.columns[column], against.limits.out_of_range
    sides = [side for side in against.sides(column) if side[1].rows >= FEWEST or not limit]
    low, high = before.low, before.high
    if before.kind != "number" or low is None or high is None or not sides:
        return None
    parts = against.by_partition(column)
    beyond = {
        name: _rows_outside(file, column, low, high)
        for name, file in files.items()
        if (part := parts.get(period_of(name)))
        and part.low is not None
        and part.high is not None
        and (part.low < low or part.high > high)
    }
    by_part = {period: sum(map(len, of)) for period, of in by_period(beyond).items()}
    counts = [(sum(by_part.get(name, 0) for name in w.partitions), now.rows, w) for w, now, _ in sides]
    bad, total, window = max(counts, key=lambda side: side[0] / side[1])
    chance, none = Limit(chance=CHANCE), Rate(0, before.rows)
    bound = chance.bounds(total, none).high
    return of_change(
        f"range({column})",
        severity,
        "Nothing was fitted or reviewed on such values, so what labeling functions and models do with them is a guess.",
        bad <= limit * total or (limit > 0 and not chance.tells(Rate(bad, total), none)),
        found=f"{bad:,} of {total:,} rows in the {window.name} {'has' if bad == 1 else 'have'} a {column} outside of "
        f"{low:g} to {high:g}.",
        arguments={"column": column, "compared": window.name, "min_value": low, "max_value": high},
        unexpected=bad,
        unexpected_share=rounded(bad / total),
        threshold=limit,
        detects=f"A share of rows above {short_percent(max(limit, bound) if limit and bound else limit)}.",
        by_partition={name: rounded(count / parts[name].rows) for name, count in by_part.items()},
        rows={name: of for name, of in beyond.items() if len(of) and period_of(name) in window.partitions},
    )


def _rows_outside(file: Path, column: str, low: float, high: float) -> Rows:
    values = read_partition(file, [column])[column].combine_chunks()
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    numbers = pc.cast(values, pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    return np.flatnonzero(np.isfinite(numbers) & ((numbers < low) | (numbers > high))).astype(np.int64)
