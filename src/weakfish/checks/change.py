"""What became of a table and of each of its columns since they were accepted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from math import log, sqrt
from pathlib import Path
from statistics import median

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from weakfish.checks.baseline import Comparison, Entry, Window, percent, rounded
from weakfish.checks.rates import CERTAIN, FEWEST, NOISE, POWER, Limit, Rate, Shift, share_above, share_below, shift
from weakfish.checks.rates import deviations_statistics as deviations
from weakfish.contracts.tables import UNDATED, read_partition
from weakfish.contracts.verdicts import Check, Rows, Severity, Status, measured
from weakfish.engine.profile import CATEGORIES, Column, Ints, Profile, Sketch
from weakfish.project.params import ChangeParams

WHY = (
    "Labeling functions and models know nothing about a value that they have never seen; where a value "
    "vanishes, what relies on it stops working."
)

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
    return measured(
        "change",
        f"categories({column})",
        "warning",
        WHY,
        not worst.broken,
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
        return f"The values of {where} no longer repeat: there are more than {CATEGORIES}, or names of things."
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


WHY_cardinality = "Names of things that collapse into a few, or all become unique, neither join nor group as they did."


def cardinality(against: Comparison, column: str) -> Check | None:
    """Compare the distinct values of a column of names; None where it is none, or has too few rows.

    New partitions compare each with the mean accepted one, accepted ones together with themselves as accepted.
    """
    before = against.accepted.columns[column]
    if before.kind != "text" or before.categories is not None or not before.distinct:
        return None
    trend = _trend_cardinality(against, column, before)
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
    return measured(
        "change",
        f"cardinality({column})",
        "warning",
        WHY_cardinality,
        _far(found[where]) <= log(limit),
        found=f"Distinct values of {column} in the {where}: {found[where]:.3g} times what so many rows let expect.",
        arguments={"column": column, "compared": {name: rounded(factor) for name, factor in found.items()}},
        observed=rounded(found[where]),
        threshold=limit,
        detects=f"With any number of rows, {limit:g} times more or fewer distinct values than that.",
        by_partition={name: rounded(factor) for name, factor in trend.items()},
    )


def _trend_cardinality(against: Comparison, column: str, before: Column) -> dict[str, float]:
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


WHY_extremes = (
    "Nothing was fitted or reviewed on such values, so what labeling functions and models do with them is a guess."
)


def outside(against: Comparison, column: str, files: Mapping[str, Path], severity: Severity) -> Check | None:
    """Count the rows outside of the accepted extremes of a column of numbers; None where it is none.

    Only partitions whose own extremes lie outside are read.
    """
    before, limit = against.accepted.columns[column], against.limits.out_of_range
    sides = against.sides(column)
    if before.kind != "number" or before.low is None or before.high is None or not sides:
        return None
    low, high = before.low, before.high
    parts = against.by_partition(column)
    beyond = [name for name, part in parts.items() if _is_beyond(part, low, high)]
    rows = {name: _rows(files[name], column, low, high) for name in beyond}
    counts = [(sum(len(rows[name]) for name in w.partitions if name in rows), now.rows, w) for w, now, _ in sides]
    bad, total, window = max(counts, key=lambda side: side[0] / side[1])
    return measured(
        "change",
        f"range({column})",
        severity,
        WHY_extremes,
        bad <= limit * total,
        found=f"{bad:,} of {total:,} rows in the {window.name} have {column} outside of {low:g} to {high:g}.",
        arguments={"column": column, "compared": window.name, "min_value": low, "max_value": high},
        unexpected=bad,
        unexpected_share=rounded(bad / total),
        threshold=limit,
        detects=f"Any share of rows above {percent(limit)}.",
        by_partition={name: rounded(len(of) / parts[name].rows) for name, of in rows.items()},
        rows={name: of for name, of in rows.items() if len(of) and name in window.partitions},
    )


def _is_beyond(part: Column, low: float, high: float) -> bool:
    return (part.low is not None and part.low < low) or (part.high is not None and part.high > high)


def _rows(file: Path, column: str, low: float, high: float) -> Rows:
    values = read_partition(file, [column])[column].combine_chunks()
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    numbers = pc.cast(values, pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    return np.flatnonzero(np.isfinite(numbers) & ((numbers < low) | (numbers > high))).astype(np.int64)


WHY_nulls = "Missing values point to a broken reader or source, and everything computed from them is missing too."

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
    return measured(
        "change",
        f"nulls({column})",
        severity,
        WHY_nulls,
        not _rises(limit, now, then),
        found=f"{rows} have no {column}; it was {percent(then.share)} of {then.rows:,} rows in the accepted baseline.",
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


WHY_drift = (
    "Labeling functions, label model and classifier were made for values distributed as in the "
    "baseline; where these move, they guess."
)


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
    return measured(
        "change",
        f"drift({column})",
        severity,
        WHY_drift,
        not worst.shift.exceeds(threshold),
        found=_sentence(worst, column),
        arguments={"column": column, "compared": {one.window.name: _numbers(one) for one in found}},
        observed=rounded(worst.shift.psi),
        threshold=rounded(max(threshold, worst.shift.noise)),
        detects=_detects_drift(worst, threshold),
        by_partition=_trend_drift(against, column, threshold),
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


def _detects_drift(found: _Found, threshold: float) -> str:
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


def _trend_drift(against: Comparison, column: str, threshold: float) -> dict[str, float]:
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


HISTORY = 3
"""How many accepted partitions it takes to say what is usual."""


def table_checks(against: Comparison) -> list[Check]:
    """All checks of the table as a whole."""
    found = [_lost(against), _gained(against), _new(against), *_schema(against)]
    return [check for check in found if check is not None]


def _lost(against: Comparison) -> Check:
    rows = against.profile.rows
    lost = {name: 1 - rows.get(name, 0) / count for name, count in _dated(against.accepted.rows).items() if count}
    limit = against.limits.lost_rows
    name, worst = max(lost.items(), key=lambda item: item[1], default=("", 0.0))
    gone = sum(max(0, count - rows.get(name, 0)) for name, count in _dated(against.accepted.rows).items())
    told = (
        f"{gone:,} rows of the accepted baseline are gone; {name} lost the most, {percent(worst)} of its "
        f"{against.accepted.rows[name]:,}."
    )
    return measured(
        "change",
        "volume(lost)",
        "critical",
        "Rows that existed are gone: a file was truncated, or a filter removes too much.",
        worst <= limit,
        found=told if gone else "No accepted partition lost rows.",
        observed=rounded(max(0.0, worst)),
        threshold=limit,
        detects=f"Any accepted partition that loses more than {percent(limit)} of its rows.",
        by_partition=_changed(lost),
    )


def _gained(against: Comparison) -> Check:
    """Accepted partitions that grew; the last one may, since it was accepted before it was over."""
    accepted = _dated(against.accepted.rows)
    finished = sorted(accepted)[:-1] if against.accepted.through is None else sorted(accepted)
    rows = against.profile.rows
    gained = {name: rows.get(name, 0) / accepted[name] - 1 for name in finished if accepted[name]}
    limit = against.limits.gained_rows
    name, most = max(gained.items(), key=lambda item: item[1], default=("", 0.0))
    return measured(
        "change",
        "volume(gained)",
        "warning",
        "Accepted partitions do not grow by themselves: rows arrived late, or twice.",
        most <= limit,
        found=f"{name} has {percent(most)} more rows than accepted."
        if most > 0
        else "No accepted partition gained rows.",
        observed=rounded(max(0.0, most)),
        threshold=limit,
        detects=f"Any accepted partition but the last that gains more than {percent(limit)} of its rows.",
        by_partition=_changed(gained),
    )


def _changed(shares: Mapping[str, float]) -> dict[str, float]:
    return (
        {name: rounded(max(0.0, share)) for name, share in shares.items()}
        if any(s > 0 for s in shares.values())
        else {}
    )


def _new(against: Comparison) -> Check | None:
    """The rows of new partitions against the accepted ones, and against a factor around their median.

    The newest may have few, since its time is not over.
    """
    history = [count for count in _dated(against.accepted.rows).values() if count]
    if len(history) < HISTORY or not against.new.partitions:
        return None
    rows = {name: against.profile.rows[name] for name in against.new.partitions}
    usual, factor = median(history), against.limits.volume_factor
    low, high = min(usual / factor, *history), max(usual * factor, *history)
    newest = max(rows)
    few = [name for name, count in rows.items() if count < low and name != newest]
    many = [name for name, count in rows.items() if count > high]
    worst = max(rows, key=lambda name: (name in few or name in many, abs(log(max(rows[name], 0.5) / usual))))
    return measured(
        "change",
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
        by_partition={name: float(count) for name, count in _dated(against.profile.rows).items()},
    )


def _dated(rows: Mapping[str, int]) -> dict[str, int]:
    return {name: count for name, count in rows.items() if name != UNDATED}


def _schema(against: Comparison) -> list[Check]:
    before = {name: column.type for name, column in against.accepted.columns.items()}
    if not before:
        return []
    now: dict[str, set[str]] = {}
    for partition in against.profile.partitions.values():
        for name, column in partition.columns.items():
            now.setdefault(name, set()).add(column.type)
    everywhere = set.intersection(*(set(partition.columns) for partition in against.profile.partitions.values()))
    gone = sorted(set(before) - everywhere)
    retyped = {
        name: [before[name], *sorted(now[name])]
        for name in sorted(before)
        if name in now and now[name] != {before[name]}
    }
    new = sorted(set(now) - set(before))
    told = [
        *(f"{name} is gone" for name in gone),
        *(f"{name} was {a}, is {_all(of)}" for name, (a, *of) in retyped.items()),
    ]
    return [
        measured(
            "change",
            "schema",
            "critical",
            "Labeling functions, features and models read these columns by name and type.",
            not told,
            found=f"{'; '.join(told)}." if told else f"All {len(before)} accepted columns exist, with the same types.",
            arguments={
                "gone": gone,
                "retyped": {name: {"accepted": a, "now": of} for name, (a, *of) in retyped.items()},
            },
            observed=len(gone) + len(retyped),
            threshold=0,
            detects="A single column.",
        ),
        measured(
            "change",
            "schema(new)",
            "warning",
            "No labeling function, feature or review uses the new column yet.",
            not new,
            found=f"New: {', '.join(new)}." if new else "No column is new.",
            arguments={"new": new},
            observed=len(new),
            threshold=0,
            detects="A single column.",
        ),
    ]


def _all(types: Iterable[str]) -> str:
    return " and ".join(types)


JOINED = "training/"
"""Tables that are joined from others: where a column comes from, its own checks warn, so that here one warning does."""

COLUMNS_NAMED = 5
"""How many of the columns that drifted most the warning on all of them names."""


def change_checks(
    table: str, profile: Profile, accepted: Entry | None, limits: ChangeParams, files: Mapping[str, Path]
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
        From where on a change is told of.
    files
        Its partitions; read only to find rows outside of accepted extremes.
    """
    if accepted is None:
        return [nothing_accepted(table)]
    against = Comparison(accepted, profile, limits)
    of_columns = _of_joined_columns(against) if table.startswith(JOINED) else _of_columns(table, against, files)
    return [*table_checks(against), *of_columns]


def _of_columns(table: str, against: Comparison, files: Mapping[str, Path]) -> Iterator[Check]:
    outside_is: Severity = "warning" if table.startswith("features/") else "info"
    for column in sorted(against.accepted.columns):
        grows = any(fnmatchcase(column, pattern) for pattern in against.limits.growing)
        found = [
            drift(against, column, "info" if grows else "warning"),
            nulls(against, column),
            categories(against, column),
            cardinality(against, column),
            outside(against, column, files, "info" if grows else outside_is),
        ]
        yield from (check for check in found if check is not None)


def _of_joined_columns(against: Comparison) -> Iterator[Check]:
    """Drift and nulls of each column for the record, and one warning on all of them."""
    found = [drift(against, column, "info") for column in sorted(against.accepted.columns)]
    drifts = [check for check in found if check is not None]
    yield from drifts
    lacking = [nulls(against, column, "info") for column in sorted(against.accepted.columns)]
    yield from (check for check in lacking if check is not None)
    if drifts:
        yield _of_all(against, drifts)


def _of_all(against: Comparison, drifts: Sequence[Check]) -> Check:
    moved = [check for check in drifts if check.status is not Status.PASSED]
    share, limit = len(moved) / len(drifts), against.limits.drifted_columns
    most = sorted(moved, key=lambda check: -(check.value or 0.0))[:COLUMNS_NAMED]
    named = ", ".join(f"{check.arguments['column']} (PSI {check.value:.2g})" for check in most)
    return measured(
        "change",
        "drift",
        "warning",
        "A model trained on the earlier columns now reads different ones; the check of each column says how "
        "far it moved.",
        share <= limit,
        found=f"{len(moved)} of {len(drifts)} columns drifted{', most of all ' + named if named else ''}.",
        arguments={"drifted": [check.arguments["column"] for check in moved]},
        observed=rounded(share),
        threshold=limit,
        detects=f"More than {percent(limit)} of the columns, each by as much as its own check says.",
    )


def nothing_accepted(table: str) -> Check:
    """What a table says of which nothing was accepted yet."""
    return Check(
        check="baseline",
        expectation="baseline",
        severity="info",
        why="Drift is measured from data that someone found good: look at the data, then run `weakfish "
        "accept-baseline`.",
        status=Status.NOTED,
        kind="change",
        against_baseline=True,
        found=f"No baseline of {table} has been accepted yet, so there is nothing to compare with.",
    )
