"""What became of a table, and of each of its columns, since it was accepted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import cached_property, partial
from math import log, sqrt
from pathlib import Path
from statistics import median
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
    short_percent,
)
from weakfish.contracts.gate import EVENTS
from weakfish.contracts.tables import UNDATED, read_partition
from weakfish.contracts.verdicts import Check, Rows, Severity, Status, measured
from weakfish.engine.profile import CATEGORIES, ColumnProfile, Profile
from weakfish.project.params import ChangeParams

HISTORY = 3
"""How many accepted partitions it takes to say what is usual."""

JOINED = "training/"
"""Tables that are joined from others: where a column comes from, its own checks warn, so that here one warning does."""

COLUMNS_NAMED = 5
"""How many of the columns that drifted most the warning on all of them names."""

NAMES_SAID = 3
"""How many names of what was edited a sentence has."""

NAMES_SHOWN = 20
"""How many new or vanished categories a check names."""

CHANCE = 2 * (1 - NOISE)
"""Two-sided, of which a rise of nulls is one side."""


_change = partial(measured, "change")


class _Window(NamedTuple):
    """Some partitions of a table as they are now."""

    name: str
    columns: Mapping[str, ColumnProfile]
    partitions: Sequence[str]


class _Comparison:
    """A table's profile and what was accepted."""

    def __init__(self, accepted: Entry, profile: Profile, limits: ChangeParams) -> None:
        self.accepted, self.profile, self.limits = accepted, profile, limits
        # Rows without a time belong to no new partition.
        new = [name for name in profile.partitions if name not in accepted.rows and name != UNDATED]
        kept = [name for name in profile.partitions if name in accepted.rows]
        self.new = _Window("new partitions", profile.of(new), new)
        self.kept = _Window("accepted partitions as they are now", profile.of(kept), kept)
        self.history = {name: count for name, count in accepted.rows.items() if name != UNDATED}

    def sides(self, column: str) -> list[tuple[_Window, ColumnProfile, ColumnProfile]]:
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


def change_checks(
    table: str,
    profile: Profile,
    accepted: Entry | None,
    limits: ChangeParams,
    files: Mapping[str, Path],
    edited: Sequence[str] = (),
) -> list[Check]:
    """Compare a table with what was accepted of it.

    Parameters
    ----------
    table
        Its name.
    profile
        Its columns in numbers, of the rows in ``files``.
    accepted
        What was accepted, or None: then one check says how to accept.
    limits
        Thresholds above which a change is reported.
    files
        Its partitions; read only to find rows outside of accepted extremes.
    edited
        What the team edited since of the code that makes the table; a check that does not hold says so.
    """
    if accepted is None:
        return [nothing_accepted(table)]
    against = _Comparison(accepted, profile, limits)
    if table.startswith(JOINED):
        found = [*_volume(against), *_schema(table, against), *_of_joined_columns(against)]
    else:
        found = [*_volume(against), *_schema(table, against), *_of_columns(table, against, files)]
    return [_by_whom(check, edited) for check in found if check is not None]


def _by_whom(check: Check, edited: Sequence[str]) -> Check:
    """A check that does not hold, with what the team itself edited, which may be why."""
    if check.status is Status.PASSED or not edited:
        return check
    more = f" and {len(edited) - NAMES_SAID} more" if len(edited) > NAMES_SAID else ""
    said = f"{', '.join(edited[:NAMES_SAID])}{more} {'was' if len(edited) == 1 else 'were'} edited since the baseline"
    found = f"{check.found} The team's own edit may be why: {said}."
    return replace(check, found=found, arguments={**check.arguments, "edited": list(edited)})


def nothing_accepted(table: str) -> Check:
    """What a table says of which nothing was accepted yet."""
    return _change(
        "baseline",
        "info",
        "Drift is measured from data that someone found good: look at the data, then run `weakfish accept-baseline`.",
        False,
        found=f"No baseline of {table} has been accepted yet, so there is nothing to compare with.",
    )


def _of_columns(table: str, against: _Comparison, files: Mapping[str, Path]) -> Iterator[Check | None]:
    outside_is: Severity = "warning" if table.startswith("features/") else "info"
    for column in sorted(against.accepted.columns):
        grows = _grows(against, column)
        yield _drift(against, column, "info" if grows else "warning")
        yield _nulls(against, column, "warning")
        yield _categories(against, column)
        yield _cardinality(against, column)
        yield _outside(against, column, files, "info" if grows else outside_is)


def _grows(against: _Comparison, column: str) -> bool:
    """Whether a column is one of those that naturally grow."""
    return any(fnmatchcase(column, pattern) for pattern in against.limits.growing)


def _of_joined_columns(against: _Comparison) -> Iterator[Check | None]:
    """Drift and nulls of each column for the record, and one warning on all of them."""
    columns, limit = sorted(against.accepted.columns), against.limits.drifted_columns
    drifts = [check for column in columns if (check := _drift(against, column, "info"))]
    yield from drifts
    yield from (_nulls(against, column, "info") for column in columns)
    if not drifts:
        return
    drifts = [check for check in drifts if not _grows(against, check.arguments["column"])]
    if not drifts:
        return
    moved = [check for check in drifts if check.status is not Status.PASSED]
    most = sorted(moved, key=lambda check: -(check.value or 0.0))[:COLUMNS_NAMED]
    named = ", ".join(f"{check.arguments['column']} (PSI {check.value:.2g})" for check in most)
    yield _change(
        "drift",
        "warning",
        "A model trained on the earlier columns now reads different ones; the check of each column says how "
        "far it moved.",
        len(moved) / len(drifts) <= limit,
        found=f"{len(moved)} of {len(drifts)} columns drifted{', most of all ' + named if named else ''}.",
        arguments={"drifted": [check.arguments["column"] for check in moved]},
        observed=rounded(len(moved) / len(drifts)),
        threshold=limit,
        detects=f"More than {short_percent(limit)} of the columns, each by as much as its own check says.",
    )


def _volume(against: _Comparison) -> Iterator[Check]:
    """Rows that accepted partitions lost or gained, and the rows of new ones."""
    rows, history, limits = against.profile.rows, against.history, against.limits

    def moved(
        what: str, severity: Severity, why: str, shares: Mapping[str, float], limit: float, found: str, more: str
    ) -> Check:
        changed = {name: rounded(max(0.0, share)) for name, share in shares.items()}
        return _change(
            f"volume({what})",
            severity,
            why,
            max(shares.values(), default=0.0) <= limit,
            found=found,
            observed=max(changed.values(), default=0.0),
            threshold=limit,
            detects=f"Any accepted partition {more} more than {short_percent(limit)} of its rows.",
            by_partition=changed if any(changed.values()) else {},
        )

    lost = {name: 1 - rows.get(name, 0) / count for name, count in history.items() if count}
    gone = sum(max(0, count - rows.get(name, 0)) for name, count in history.items())
    name, worst = max(lost.items(), key=lambda item: item[1], default=("", 0.0))
    told = f"{gone:,} rows of the accepted baseline are gone; {name} lost the most, {short_percent(worst)} of its "
    yield moved(
        "lost",
        "critical",
        "Rows that existed are gone: a file was truncated, or a filter removes too much.",
        lost,
        limits.lost_rows,
        f"{told}{history[name]:,}." if gone else "No accepted partition lost rows.",
        "that loses",
    )
    # The last accepted partition may grow, since it was accepted before it was over.
    finished = sorted(history)[:-1] if against.accepted.through is None else sorted(history)
    gained = {name: rows.get(name, 0) / history[name] - 1 for name in finished if history[name]}
    name, most = max(gained.items(), key=lambda item: item[1], default=("", 0.0))
    yield moved(
        "gained",
        "warning",
        "Accepted partitions do not grow by themselves: rows arrived late, or twice.",
        gained,
        limits.gained_rows,
        f"{name} has {short_percent(most)} more rows than accepted."
        if most > 0
        else "No accepted partition gained rows.",
        "but the last that gains",
    )
    counts = [count for count in history.values() if count]
    if len(counts) >= HISTORY and against.new.partitions:
        yield _new_volume(against, counts)


def _new_volume(against: _Comparison, history: Sequence[int]) -> Check:
    """The rows of new partitions against the accepted ones, and against a factor around their median.

    The newest may have few, since its time is not over.
    """
    rows = {name: against.profile.rows[name] for name in against.new.partitions}
    usual, factor = median(history), against.limits.volume_factor
    low, high = min(usual / factor, *history), max(usual * factor, *history)
    few = [name for name, count in rows.items() if count < low and name != max(rows)]
    many = [name for name, count in rows.items() if count > high]
    worst = max(rows, key=lambda name: (name in few or name in many, abs(log(max(rows[name], 0.5) / usual))))
    return _change(
        "volume(new)",
        "warning",
        "A partition with far more or far fewer rows than usual points to a source that broke or that sends "
        "rows twice.",
        not few and not many,
        found=f"{worst} has {rows[worst]:,} rows; {low:,.0f} to {high:,.0f} are usual in {len(history)} "
        "accepted partitions.",
        arguments={"at_least": rounded(low), "at_most": rounded(high), "few": few, "many": many},
        observed=rows[worst],
        threshold=rounded(high if rows[worst] > usual else low),
        detects=f"Fewer than {low:,.0f} or more than {high:,.0f} rows in a partition; too few not in the newest.",
        by_partition={name: float(count) for name, count in against.profile.rows.items() if name != UNDATED},
    )


def _schema(table: str, against: _Comparison) -> list[Check]:
    before = {name: column.type for name, column in against.accepted.columns.items()}
    if not before:
        return []
    parts = [partition.columns for partition in against.profile.partitions.values()]
    now: dict[str, set[str]] = {}
    for columns in parts:
        for name, column in columns.items():
            now.setdefault(name, set()).add(column.type)
    gone = sorted(name for name in before if not all(name in columns for columns in parts))
    retyped = {name: sorted(now[name]) for name in sorted(before) if now.get(name, {before[name]}) != {before[name]}}
    new = sorted(set(now) - set(before))
    told = [f"{name} is gone" for name in gone]
    told += [f"{name} was {before[name]}, is {' and '.join(of)}" for name, of in retyped.items()]
    types = {name: {"accepted": before[name], "now": of} for name, of in retyped.items()}
    return [
        _change(
            "schema",
            "critical",
            "Labeling functions, features and models read these columns by name and type.",
            not told,
            found=f"{'; '.join(told)}." if told else f"All {len(before)} accepted columns exist, with the same types.",
            arguments={"gone": gone, "retyped": types},
            observed=len(told),
            threshold=0,
            detects="A single column.",
        ),
        _change(
            "schema(new)",
            # What the events bring is news; columns of other tables come from the team's own code.
            "warning" if table == EVENTS else "info",
            "No labeling function, feature or review uses the new column yet."
            if table == EVENTS
            else "The team's own code adds columns to this table: once accepted, they are compared too.",
            not new,
            found=f"New: {', '.join(new)}." if new else "No column is new.",
            arguments={"new": new},
            observed=len(new),
            threshold=0,
            detects="A single column.",
        ),
    ]


def _trend(
    against: _Comparison, column: str, of: Callable[[ColumnProfile], float | None], fewest: int = 0
) -> dict[str, float]:
    """A number of each partition that has more values than ``fewest``; without those where it is None."""
    found = {name: of(now) for name, now in against.by_partition(column).items() if now.valued >= fewest}
    return {name: rounded(number) for name, number in found.items() if number is not None}


def _drift(against: _Comparison, column: str, severity: Severity) -> Check | None:
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
    return _change(
        f"drift({column})",
        severity,
        "Labeling functions, label model and classifier were made for values distributed as in the "
        "baseline; where these move, they guess.",
        not worst.exceeds(threshold),
        found=f"The {bins.of} of {column} in the {window.name} ({worst.rows:,} rows) lie PSI {worst.psi:.3g} from the "
        f"accepted ones ({worst.accepted:,} rows), Jensen-Shannon distance {worst.distance:.2g}; chance alone stays "
        f"under {worst.noise:.2g} in {short_percent(NOISE)} of cases.",
        arguments={"column": column, "compared": compared},
        observed=rounded(worst.psi),
        threshold=rounded(max(threshold, worst.noise)),
        detects=_detects(bins, worst, before, threshold),
        by_partition=_trend(against, column, moved),
    )


def _detects(bins: Bins, found: Shift, before: ColumnProfile, threshold: float) -> str:
    smallest = found.detectable(threshold)
    rows = f"{found.rows:,} rows against {found.accepted:,}"
    seen = f"With {rows}, PSI {smallest:.2g} is seen in {short_percent(POWER)} of cases: "
    if bins.of != "categories":
        moved = moved_mean(found.shares, smallest)
        return f"{seen}a mean of {bins.of} that moved by {moved:.2g} standard deviations."
    if not before.categories:
        return f"{seen}values where there were nulls alone."
    name, count = max(before.categories.items(), key=lambda item: (item[1], item[0]))
    share = count / before.rows
    low, high = shares_apart(share, smallest)
    ends = [f"below {short_percent(low)}"] * (low > 0) + [f"above {short_percent(high)}"] * (high < 1)
    return (
        f"{seen}a share of {name!r} of {short_percent(share)} that moved {' or '.join(ends) or 'to nothing or to all'}."
    )


def _nulls(against: _Comparison, column: str, severity: Severity) -> Check | None:
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
            f"With {now.rows:,} rows, nulls in {short_percent(surely)} of them are seen in "
            f"{short_percent(POWER)} of cases."
        )
    return _change(
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

    window: _Window
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


def _categories(against: _Comparison, column: str) -> Check | None:
    """Compare the values of a column that had few; None for other columns, and for booleans."""
    before, limit = against.accepted.columns[column], against.limits.new_categories
    known = before.categories is not None and before.kind != "boolean"
    sides = [_Categories(*side, limit) for side in against.sides(column) if known and side[1].valued >= FEWEST]
    if not sides:
        return None
    worst = max(sides, key=lambda side: (side.broken, side.share))
    rows, where = worst.now.valued, f"{column} in the {worst.window.name}"
    found = (
        f"{short_percent(worst.share)} of {rows:,} values of {where} were not accepted; new kinds that repeat: "
        f"{len(worst.new)}, accepted ones that vanished: {len(worst.vanished)} of {len(worst.then.frequent)}."
    )
    if worst.now.categories is None:
        found = f"The values of {where} no longer repeat: there are more than {CATEGORIES}, or names of things."
    bound = worst.chance.bounds(rows, worst.usual).high
    new = 1.0 if bound is None else _surely(bound, rows)
    seen = "new values are not seen, for rows are too few"
    if new < 1:
        seen = f"new values are seen in {short_percent(POWER)} of cases from {short_percent(new)} of the rows on"
    window = against.kept
    trend = _trend(against, column, lambda now: _Categories(window, now, before, limit).share, fewest=1)
    return _change(
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
        detects=f"With {rows:,} rows, {seen}; so is a vanished one that {short_percent(worst.fewest)} of the accepted "
        "rows had.",
        by_partition=trend if any(trend.values()) else {},
    )


def _cardinality(against: _Comparison, column: str) -> Check | None:
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
    return _change(
        f"cardinality({column})",
        "warning",
        "Names of things that collapse into a few, or all become unique, neither join nor group as they did.",
        far(found[where]) <= log(limit),
        found=f"Distinct values of {column} in the {where}: {found[where]:.3g} times what so many rows let expect.",
        arguments={"column": column, "compared": {name: rounded(of) for name, of in found.items()}},
        observed=rounded(found[where]),
        threshold=limit,
        detects=f"With any number of rows, {limit:g} times more or fewer distinct values than that.",
        by_partition={name: rounded(of) for name, of in parts.items()},
    )


def _outside(against: _Comparison, column: str, files: Mapping[str, Path], severity: Severity) -> Check | None:
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
        name: _rows_outside(files[name], column, low, high)
        for name, part in parts.items()
        if part.low is not None and part.high is not None and (part.low < low or part.high > high)
    }
    counts = [(sum(len(beyond.get(name, ())) for name in w.partitions), now.rows, w) for w, now, _ in sides]
    bad, total, window = max(counts, key=lambda side: side[0] / side[1])
    chance, none = Limit(chance=CHANCE), Rate(0, before.rows)
    bound = chance.bounds(total, none).high
    return _change(
        f"range({column})",
        severity,
        "Nothing was fitted or reviewed on such values, so what labeling functions and models do with them is a guess.",
        bad <= limit * total or (limit > 0 and not chance.tells(Rate(bad, total), none)),
        found=f"{bad:,} of {total:,} rows in the {window.name} have {column} outside of {low:g} to {high:g}.",
        arguments={"column": column, "compared": window.name, "min_value": low, "max_value": high},
        unexpected=bad,
        unexpected_share=rounded(bad / total),
        threshold=limit,
        detects=f"A share of rows above {short_percent(max(limit, bound) if limit and bound else limit)}.",
        by_partition={name: rounded(len(of) / parts[name].rows) for name, of in beyond.items()},
        rows={name: of for name, of in beyond.items() if len(of) and name in window.partitions},
    )


def _rows_outside(file: Path, column: str, low: float, high: float) -> Rows:
    values = read_partition(file, [column])[column].combine_chunks()
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    numbers = pc.cast(values, pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    return np.flatnonzero(np.isfinite(numbers) & ((numbers < low) | (numbers > high))).astype(np.int64)
