"""The `validate` verb: a table through its checks into a verdict, a row mask and Data Docs. It judges; gates act."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from weakfish.checks.change.baseline import Baseline
from weakfish.checks.change.checks import change_checks
from weakfish.checks.change.profile import profile_of, write_profile
from weakfish.checks.check import Check
from weakfish.checks.docs.write import write_docs
from weakfish.checks.evaluation import validate_evaluation
from weakfish.checks.measured import measured_checks, remembered
from weakfish.checks.quarantine.repairs import staged_files, version_of
from weakfish.checks.quarantine.waivers import waive
from weakfish.checks.rows import names_of, write_mask
from weakfish.checks.verdict import Verdict, first_rows
from weakfish.errors import UnknownName, UserError
from weakfish.project import Project
from weakfish.tables import open_partition, partitions


def validate(project: Project, table: str) -> Verdict:
    """Check ``table`` and write its verdict, mask and Data Docs; succeeds whatever the checks find.

    Raises
    ------
    UnknownName
        When no module in ``validation/`` is named after the table, or no task after ``evaluation/<task>``.
    UserError
        When that module holds no ``EXPECTATIONS``; when a patch is malformed, or fits neither table nor checks.
    TableError
        When the table is missing or cut off.
    """
    if table.startswith("evaluation/"):
        return validate_evaluation(project, table.removeprefix("evaluation/"))
    expectations = suite(project, table)
    from weakfish.checks import expectations as gx  # imports the library, seconds

    cache = project.root / ".weakfish" / "checks" / "expectations" / table
    with staged_files(project, table) as files:
        outcome = gx.run(table.replace("/", "_"), expectations, files, cache)
        write_docs(project, table, outcome.result)
        waived = waive(project, table, outcome.checks, files)
        rows = sum(open_partition(file).metadata.num_rows for file in files.values())
        profile = profile_of(project, table, files)
        write_profile(project, table, files.version, profile, **remembered(project, table))
        accepted, limits = Baseline.read(project).table(table), project.params.validation
        checks = [*waived.checks, *change_checks(table, profile, accepted, limits.change, files)]
        checks += measured_checks(project, table, files, accepted)
        verdict = Verdict.of(table, files.version, rows, checks, _max_share(project, table))
        write_mask(project, table, verdict.checks, files, waived.notes)
        verdict.write(project, _first_names(project, files, verdict.checks))
    for patch in waived.idle:
        print(f"{patch} touches no row any more; delete it, git keeps the record.", file=sys.stderr)
    return verdict


def suite(project: Project, table: str) -> list[Any]:
    """The expectations of a table, from its module in ``validation/``."""
    suites = project.suites()
    if table not in suites:
        raise UnknownName("table with a suite", table, suites, "validation/")
    module = project.import_module(suites[table])
    found = getattr(module, "EXPECTATIONS", None)
    if not isinstance(found, list):
        raise UserError(f"Module {suites[table]} has no list EXPECTATIONS; add one, see docs/validation.md.")
    return found


def data_version(folder: Path) -> str:
    """A hash of a table's partitions, names and bytes."""
    return version_of(partitions(folder))


def _first_names(project: Project, files: Mapping[str, Path], checks: Sequence[Check]) -> dict[tuple[str, int], str]:
    """The names of the rows that the verdict shows, by partition and position."""
    wanted: dict[str, set[int]] = {}
    for check in checks:
        for partition, row in first_rows(check):
            wanted.setdefault(partition, set()).add(row)
    names: dict[tuple[str, int], str] = {}
    for partition, of in wanted.items():
        rows = np.array(sorted(of), np.int64)
        found = names_of(project, files[partition], rows).to_pylist()
        names |= {(partition, row): name for row, name in zip(rows.tolist(), found, strict=True)}
    return names


def _max_share(project: Project, table: str) -> float | None:
    if table != "events":  # only events have an `accept` step, which sets bad rows aside
        return None
    return project.params.validation.max_quarantined_share
