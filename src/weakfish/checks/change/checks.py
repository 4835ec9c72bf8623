"""All comparisons of a table with what was accepted of it, as checks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from weakfish.checks.change.baseline import Entry
from weakfish.checks.change.cardinality import cardinality
from weakfish.checks.change.categories import categories
from weakfish.checks.change.compare import Comparison, percent, rounded
from weakfish.checks.change.drift import drift
from weakfish.checks.change.extremes import outside
from weakfish.checks.change.nulls import nulls
from weakfish.checks.change.profile import Profile
from weakfish.checks.change.tables import table_checks
from weakfish.checks.check import Check, Severity, Status, judged
from weakfish.params import ChangeParams

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
    return Check(
        check="drift",
        expectation="drift",
        severity="warning",
        why="A model trained on columns as they were meets others now; the check of each says how far it moved.",
        status=judged("warning", share <= limit),
        kind="change",
        against_baseline=True,
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
        why="Drift is a distance from data that someone found good: look, then run `weakfish accept-baseline`.",
        status=Status.NOTED,
        kind="change",
        against_baseline=True,
        found=f"Nothing was accepted of {table} yet, so that it is compared with nothing.",
    )
