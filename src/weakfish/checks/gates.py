"""What follows from a verdict: `accept` lets events in and sets bad rows aside, `gate` opens or stops."""

from __future__ import annotations

import pyarrow as pa

from weakfish.checks.rows import MASK
from weakfish.checks.validate import data_version
from weakfish.checks.verdict import require_open
from weakfish.errors import WeakfishError
from weakfish.files import whole_folder, write_json
from weakfish.project import Project
from weakfish.runs import write_ledger
from weakfish.tables import partitions, read_partition, write_partition

REASONS = pa.field("reasons", pa.list_(pa.string()))
"""The column that quarantine adds to a table: every critical check that the row failed, and why it matters."""


def accept(project: Project, table: str = "events") -> None:
    """Split the staged rows by the row mask into ``data/<table>`` and ``data/quarantine/<table>``.

    Raises
    ------
    CheckFailed
        When the verdict on the staged rows is ``failed``; nothing is written.
    """
    staged = project.staged(table)
    verdict = require_open(project, table, data_version(staged))
    reasons = _reasons(project, table)
    total, accepted, quarantined = 0, 0, 0
    with whole_folder(project.table(table)) as good, whole_folder(project.data / "quarantine" / table) as bad:
        for name, file in partitions(staged).items():
            rows = read_partition(file)
            marked = reasons.get(name, {})
            keep = rows.filter(pa.array([row not in marked for row in range(rows.num_rows)], pa.bool_()))
            aside = rows.take(pa.array(sorted(marked), pa.int64()))
            if keep.num_rows:
                write_partition(good, name, keep)
            if aside.num_rows:
                why = pa.array([sorted(marked[row]) for row in sorted(marked)], REASONS.type)
                write_partition(bad, name, aside.append_column(REASONS, why))
            total, accepted, quarantined = total + rows.num_rows, accepted + keep.num_rows, quarantined + aside.num_rows
        if not (total == verdict["rows"] == accepted + quarantined and quarantined == verdict["quarantined"]):
            raise WeakfishError(
                f"Rows were lost in accepting {table}: {total} staged, {accepted} accepted, {quarantined} quarantined, "
                f"{verdict['quarantined']} to quarantine by the verdict; run `weakfish validate {table}` again."
            )
    counts = {check["check"]: check["unexpected"] for check in verdict["checks"] if check["status"] == "quarantined"}
    write_ledger(project, "accept", rows_in=total, rows_out=accepted, quarantined=quarantined, reasons=counts)


def gate(project: Project, table: str) -> None:
    """Open the gate of ``table``, or raise `CheckFailed` with the checks that failed."""
    verdict = require_open(project, table, data_version(project.staged(table)))
    write_json(
        project.gate(table), {"table": table, "verdict": verdict["verdict"], "data_version": verdict["data_version"]}
    )


def _reasons(project: Project, table: str) -> dict[str, dict[int, list[str]]]:
    """Per partition and row, the checks that the row failed."""
    mask = read_partition(project.mask(table), MASK.names)
    reasons: dict[str, dict[int, list[str]]] = {}
    for line in mask.to_pylist():
        reasons.setdefault(line["partition"], {}).setdefault(line["row"], []).append(f"{line['check']}: {line['why']}")
    return reasons
