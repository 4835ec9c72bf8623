"""What became of a table since it was accepted: its rows, its columns, and what changed in each of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from math import log
from pathlib import Path
from statistics import median

from weakfish.checks.baseline import Entry
from weakfish.checks.column_change import (
    Comparison,
    cardinality_check,
    categories_check,
    drift_check,
    nulls_check,
    of_change,
    outside_check,
)
from weakfish.checks.rates import rounded
from weakfish.contracts.figures import counted, short_percent
from weakfish.contracts.gate import EVENTS
from weakfish.contracts.tables import UNDATED
from weakfish.contracts.verdicts import Check, Severity, Status
from weakfish.engine.profile import Profile
from weakfish.project.params import ChangeParams

HISTORY = 3
"""How many accepted partitions it takes to say what is usual."""

JOINED = "training/"
"""Tables that are joined from others: where a column comes from, its own checks warn, so that here one warning does."""

COLUMNS_NAMED = 5
"""How many of the columns that drifted most the warning on all of them names."""

NAMES_SAID = 3
"""How many names of what was edited a sentence has."""


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
    against = Comparison(accepted, profile, limits)
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
    return of_change(
        "baseline",
        "info",
        "Drift is measured from data that someone found good: look at the data, then run `weakfish accept-baseline`.",
        False,
        found=f"No baseline of {table} has been accepted yet, so there is nothing to compare with.",
    )


def _of_columns(table: str, against: Comparison, files: Mapping[str, Path]) -> Iterator[Check | None]:
    outside_is: Severity = "warning" if table.startswith("features/") else "info"
    for column in sorted(against.accepted.columns):
        grows = _grows(against, column)
        yield drift_check(against, column, "info" if grows else "warning")
        yield nulls_check(against, column, "warning")
        yield categories_check(against, column)
        yield cardinality_check(against, column)
        yield outside_check(against, column, files, "info" if grows else outside_is)


def _grows(against: Comparison, column: str) -> bool:
    """Whether a column is one of those that naturally grow."""
    return any(fnmatchcase(column, pattern) for pattern in against.limits.growing)


def _of_joined_columns(against: Comparison) -> Iterator[Check | None]:
    """Drift and nulls of each column for the record, and one warning on all of them."""
    columns, limit = sorted(against.accepted.columns), against.limits.drifted_columns
    drifts = [check for column in columns if (check := drift_check(against, column, "info"))]
    yield from drifts
    yield from (nulls_check(against, column, "info") for column in columns)
    if not drifts:
        return
    drifts = [check for check in drifts if not _grows(against, check.arguments["column"])]
    if not drifts:
        return
    moved = [check for check in drifts if check.status is not Status.PASSED]
    most = sorted(moved, key=lambda check: -(check.value or 0.0))[:COLUMNS_NAMED]
    named = ", ".join(f"{check.arguments['column']} (PSI {check.value:.2g})" for check in most)
    yield of_change(
        "drift",
        "warning",
        "A model trained on the earlier columns now reads different ones; the check of each column says how "
        "far it moved.",
        len(moved) / len(drifts) <= limit,
        found=f"{len(moved)} of {counted(len(drifts), 'column')} drifted{', most of all ' + named if named else ''}.",
        arguments={"drifted": [check.arguments["column"] for check in moved]},
        observed=rounded(len(moved) / len(drifts)),
        threshold=limit,
        detects=f"More than {short_percent(limit)} of the columns, each by as much as its own check says.",
    )


def _volume(against: Comparison) -> Iterator[Check]:
    """Rows that accepted partitions lost or gained, and the rows of new ones."""
    rows, history, limits = against.profile.rows, against.history, against.limits

    def moved(
        what: str, severity: Severity, why: str, shares: Mapping[str, float], limit: float, found: str, more: str
    ) -> Check:
        changed = {name: rounded(max(0.0, share)) for name, share in shares.items()}
        return of_change(
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
    are = "is" if gone == 1 else "are"
    told = f"{counted(gone, 'accepted row')} {are} gone; {name} lost the most, {short_percent(worst)} of its "
    yield moved(
        "lost",
        "critical",
        "Rows that existed are gone: a file was cut off, or a filter removes too much.",
        lost,
        limits.lost_rows,
        f"{told}{counted(history[name], 'row')}." if gone else "No accepted partition lost rows.",
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


def _new_volume(against: Comparison, history: Sequence[int]) -> Check:
    """The rows of new partitions against the accepted ones, and against a factor around their median.

    The newest may have few, since its time is not over.
    """
    rows = {name: against.profile.rows[name] for name in against.new.partitions}
    usual, factor = median(history), against.limits.volume_factor
    low, high = min(usual / factor, *history), max(usual * factor, *history)
    few = [name for name, count in rows.items() if count < low and name != max(rows)]
    many = [name for name, count in rows.items() if count > high]
    worst = max(rows, key=lambda name: (name in few or name in many, abs(log(max(rows[name], 0.5) / usual))))
    return of_change(
        "volume(new)",
        "warning",
        "A partition with far more or far fewer rows than usual points to a source that broke or that sends "
        "rows twice.",
        not few and not many,
        found=f"{worst} has {counted(rows[worst], 'row')}; {low:,.0f} to {high:,.0f} are usual in {len(history)} "
        "accepted partitions.",
        arguments={"at_least": rounded(low), "at_most": rounded(high), "few": few, "many": many},
        observed=rows[worst],
        threshold=rounded(high if rows[worst] > usual else low),
        detects=f"Fewer than {low:,.0f} or more than {high:,.0f} rows in a partition; the newest may have fewer.",
        by_partition={name: float(count) for name, count in against.profile.rows.items() if name != UNDATED},
    )


def _schema(table: str, against: Comparison) -> list[Check]:
    before = {name: column.type for name, column in against.accepted.columns.items()}
    if not before:
        return []
    parts = [partition.columns for partition in against.profile.partitions.values()]
    now: dict[str, set[str]] = {}
    for columns in parts:
        for name, column in columns.items():
            now.setdefault(name, set()).add(column.type)
    without = {
        name: [part for part, of in against.profile.partitions.items() if name not in of.columns] for name in before
    }
    gone = sorted(name for name, where in without.items() if where)
    retyped = {name: sorted(now[name]) for name in sorted(before) if now.get(name, {before[name]}) != {before[name]}}
    new = sorted(set(now) - set(before))
    told = [f"{name} is gone{_from(without[name], len(parts))}" for name in gone]
    told += [f"{name} was {before[name]} and is {' and '.join(of)}" for name, of in retyped.items()]
    types = {name: {"accepted": before[name], "now": of} for name, of in retyped.items()}
    return [
        of_change(
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
        of_change(
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


def _from(parts: Sequence[str], of: int) -> str:
    """From which partitions a column is gone; nothing where it is gone from all."""
    if len(parts) == of:
        return ""
    more = f" and {len(parts) - 1:,} more" if len(parts) > 1 else ""
    return f" from {parts[0]}{more} of {of:,} partitions"
