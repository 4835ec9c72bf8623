"""What is checked of some tables alone: labels, features, training sets. A table's name in, checks out."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from weakfish.checks.bad_rows import names_of, write_mask
from weakfish.checks.baseline import Baseline, Entry
from weakfish.checks.change import change_checks
from weakfish.checks.gates import first_rows, named, verdict_of
from weakfish.checks.gx import import_gx
from weakfish.checks.label_checks import label_checks, rules_of
from weakfish.checks.releases import waive
from weakfish.checks.repairs import staged_files
from weakfish.checks.reported import feature_checks, serving_checks, validate_evaluation
from weakfish.contracts.tables import open_partition
from weakfish.contracts.verdicts import Check, Verdict, write_verdict
from weakfish.engine.profile import profile_of, write_profile
from weakfish.errors import UnknownName, UserError
from weakfish.project.cache import Cache
from weakfish.project.paths import Project


def measured_checks(project: Project, table: str, files: Mapping[str, Path], accepted: Entry | None) -> list[Check]:
    """The checks of labels, features or a training set; of other tables none.

    Raises
    ------
    TableError
        When a report or a manifest that belongs to the table is missing.
    """
    kind, _, name = table.partition("/")
    if kind == "labels":
        return label_checks(project, name, accepted.rules if accepted else None)
    if kind == "features":
        return feature_checks(project, name, files)
    if kind == "training":
        return serving_checks(project, name)
    return []


def remembered(project: Project, table: str) -> dict[str, Any]:
    """What goes beside the columns into a table's profile, for `weakfish accept-baseline`: of labels, the ``rules``."""
    kind, _, name = table.partition("/")
    return {"rules": rules_of(project, name)} if kind == "labels" else {}


def validate(project: Project, table: str) -> Verdict:
    """Check ``table`` and write its verdict and mask; succeeds whatever the checks find.

    Raises
    ------
    UnknownName
        When no module in ``validation/`` is named after the table, or no task after ``evaluation/<task>``.
    UserError
        When that module's list ``EXPECTATIONS`` is missing or empty; when a patch is malformed, or fits neither table
        nor checks.
    TableError
        When the table is missing or cut off.
    """
    if table.startswith("evaluation/"):
        return validate_evaluation(project, table.removeprefix("evaluation/"))
    expectations = suite(project, table)
    from weakfish.checks import expectations as gx  # imports the library, seconds

    with staged_files(project, table) as files:
        outcome = gx.run(table.replace("/", "_"), expectations, files, Cache(project, f"facts/{table}"))
        waived = waive(project, table, outcome.checks, files)
        rows = sum(open_partition(file).metadata.num_rows for file in files.values())
        profile = profile_of(project, table, files)
        write_profile(project, table, files.version, profile, **remembered(project, table))
        accepted, limits = Baseline.read(project).table(table), project.params.validation
        checks = [*waived.checks, *change_checks(table, profile, accepted, limits.change, files)]
        checks += measured_checks(project, table, files, accepted)
        verdict = verdict_of(table, files.version, rows, checks, _max_share(project, table))
        write_mask(project, table, verdict.checks, files, waived.notes)
        write_verdict(project, named(verdict, _first_names(project, files, verdict.checks)))
    for patch in waived.idle:
        print(f"{patch} touches no row any more; delete it, git keeps the record.", file=sys.stderr)
    return verdict


def suite(project: Project, table: str) -> list[Any]:
    """The expectations of a table, from its module in ``validation/``."""
    suites = project.suites()
    if table not in suites:
        if table in project.params.tables:
            return []  # a table that nobody wrote expectations for is still compared with the baseline
        raise UnknownName("table with a suite", table, suites, "validation/")
    import_gx()  # before the team's module does: for half of the time
    module = project.import_module(suites[table])
    found = getattr(module, "EXPECTATIONS", None)
    if not isinstance(found, list) or not found:
        what = "an empty list" if found == [] else "no list"
        raise UserError(f"Module {suites[table]} has {what} EXPECTATIONS; add one to it, see docs/validation.md.")
    return found


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
