"""What became of the table itself: `volume(lost)`, `volume(gained)`, `volume(new)`, `schema` and `schema(new)`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from math import log
from pathlib import Path
from statistics import median

from weakfish.checks.baseline import Comparison, Entry, percent, rounded
from weakfish.checks.columns import cardinality, categories, drift, nulls, outside
from weakfish.contracts.tables import UNDATED
from weakfish.contracts.verdicts import Check, Severity, Status, measured
from weakfish.engine.profile import Profile
from weakfish.project.params import ChangeParams

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
