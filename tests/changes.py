"""Small made tables, measured and compared as `weakfish validate` does it, without its expectations."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa

from weakfish.checks.bad_rows import write_mask
from weakfish.checks.baseline import Baseline, Entry
from weakfish.checks.change import change_checks
from weakfish.checks.gates import named, verdict_of
from weakfish.checks.repairs import staged_files
from weakfish.contracts.tables import TIME, partitions, write_partition
from weakfish.contracts.verdicts import Check, Verdict, write_verdict
from weakfish.engine.profile import Profile, profile_of, write_profile
from weakfish.project.params import ChangeParams
from weakfish.project.paths import Project

MONTHS = ("2024-01", "2024-02", "2024-03")

KINDS = np.array(["book", "card", "pen"])


def orders(month: str, rows: int = 800, seed: int = 1) -> pa.Table:
    """Orders of a month, drawn from one distribution: keys, times, numbers, categories, names of buyers, nulls."""
    year, number = map(int, month.split("-"))
    draw = np.random.default_rng([seed, year, number])
    start = datetime(year, number, 1, tzinfo=UTC)
    times = [start + timedelta(seconds=int(second)) for second in np.sort(draw.integers(0, 27 * 86400, rows))]
    amounts = draw.lognormal(3, 1, rows)
    return pa.table(
        {
            "order_id": [f"{month}-{row:05}" for row in range(rows)],
            "placed_at": pa.array(times, TIME),
            "paid_at": pa.array(
                [t + timedelta(hours=float(h)) for t, h in zip(times, draw.exponential(5, rows), strict=True)], TIME
            ),
            "amount": pa.array(amounts, mask=draw.random(rows) < 0.1),
            "pieces": draw.poisson(3, rows),
            "kind": KINDS[draw.choice(3, rows, p=[0.6, 0.3, 0.1])],
            "buyer": [f"{value:032x}" for value in draw.integers(0, 300, rows)],
            "is_gift": draw.random(rows) < 0.3,
        }
    )


def put(project: Project, table: str, parts: Mapping[str, pa.Table]) -> Mapping[str, Path]:
    """Write a table's partitions where its checks read them."""
    folder = project.staged(table)
    for file in folder.glob("*.parquet"):
        file.unlink()
    for name, rows in parts.items():
        write_partition(folder, name, rows)
    return partitions(folder)


def measure(project: Project, parts: Mapping[str, pa.Table], table: str = "events") -> Profile:
    """The profile of made partitions."""
    return profile_of(project, table, put(project, table, parts))


def compare(
    project: Project,
    accepted: Mapping[str, pa.Table],
    now: Mapping[str, pa.Table],
    table: str = "events",
    **limits: object,
) -> dict[str, Check]:
    """The checks of a table as it is now against some accepted partitions, by name."""
    entry = Entry.of(measure(project, accepted, table), None, data_version="", verdict="passed")
    files = put(project, table, now)
    settings = ChangeParams.model_validate(limits)
    checks = change_checks(table, profile_of(project, table, files), entry, settings, files)
    found = {check.check: check for check in checks}
    assert len(found) == len(checks)
    return found


def judge(project: Project, table: str = "events", *more: Check) -> Verdict:
    """Profile, mask and verdict of what lies there against the baseline, with more checks, as `validate` does it."""
    with staged_files(project, table) as files:
        profile = profile_of(project, table, files)
        write_profile(project, table, files.version, profile)
        accepted = Baseline.read(project).table(table)
        checks = [*more, *change_checks(table, profile, accepted, project.params.validation.change, files)]
        rows = sum(profile.rows.values())
        verdict = verdict_of(table, files.version, rows, checks, None)
        write_mask(project, table, verdict.checks, files)
    names = {(name, row): "a key" for check in checks for name, of in check.rows.items() for row in of.tolist()}
    write_verdict(project, named(verdict, names))
    return verdict


def not_passed(checks: Mapping[str, Check]) -> dict[str, str]:
    """The checks that did not pass, and their status."""
    return {name: str(check.status) for name, check in checks.items() if check.status != "passed"}
