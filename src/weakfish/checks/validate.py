"""The `validate` verb: a table through its checks into a verdict, a row mask and Data Docs. It judges; gates act."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from weakfish.checks.check import Check, Status
from weakfish.checks.rows import names_of, write_mask
from weakfish.checks.verdict import Verdict, first_rows
from weakfish.errors import UnknownName, UserError
from weakfish.files import sha256
from weakfish.project import Project
from weakfish.tables import open_partition, partitions


def validate(project: Project, table: str) -> Verdict:
    """Check ``table`` and write its verdict, mask and Data Docs; succeeds whatever the checks find.

    Raises
    ------
    UnknownName
        When no module in ``validation/`` is named after the table.
    UserError
        When that module holds no ``EXPECTATIONS``.
    TableError
        When the table is missing or cut off.
    """
    expectations = suite(project, table)
    files = partitions(project.staged(table))
    from weakfish.checks import expectations as gx  # imports the library, seconds

    checks = gx.run(table.replace("/", "_"), expectations, files, project.reports / "gx" / table)
    rows = sum(open_partition(file).metadata.num_rows for file in files.values())
    limit = _max_share(project, table)
    verdict = Verdict.of(table, data_version(project.staged(table)), rows, checks, limit)
    names = _names(project, files, verdict.checks)
    write_mask(project.mask(table), verdict.checks, names)
    verdict.write(project, names)
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
    digest = hashlib.sha256()
    for name, file in partitions(folder).items():
        digest.update(f"{name} {sha256(file)}\n".encode())
    return digest.hexdigest()


def _names(project: Project, files: Mapping[str, Path], checks: Sequence[Check]) -> dict[tuple[str, int], str]:
    """The names of the rows that the mask lists or the verdict shows, by partition and position."""
    wanted: dict[str, set[int]] = {}
    for check in checks:
        masked = check.severity == "critical" and check.status in (Status.QUARANTINED, Status.FAILED)
        for partition, rows in check.rows.items() if masked else ():
            wanted.setdefault(partition, set()).update(rows.tolist())
        for partition, row in first_rows(check):
            wanted.setdefault(partition, set()).add(row)
    names: dict[tuple[str, int], str] = {}
    for partition, of in wanted.items():
        rows = np.array(sorted(of), np.int64)
        found = names_of(project, files[partition], rows)
        names |= {(partition, row): name for row, name in zip(rows.tolist(), found, strict=True)}
    return names


def _max_share(project: Project, table: str) -> float | None:
    if table != "events":  # only events have an `accept` step, which sets bad rows aside
        return None
    return project.params.validation.max_quarantined_share
