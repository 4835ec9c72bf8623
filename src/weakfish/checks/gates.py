"""What follows from a verdict: `accept` lets events in and sets bad rows aside, `gate` opens or stops."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from weakfish.checks.patches import digest
from weakfish.checks.repairs import StagedFiles, staged_files
from weakfish.checks.verdict import FailOn, findings, require_none
from weakfish.contracts.gate import Gate, data_version, failure, other_data, write_gate
from weakfish.contracts.ledgers import write_ledger
from weakfish.contracts.tables import open_partition, read_partition, write_partition
from weakfish.contracts.verdicts import Mask, Status, Verdict, read_verdict
from weakfish.errors import CheckFailed, WeakfishError
from weakfish.files import whole_folder
from weakfish.project.paths import Project
from weakfish.project.runs import Progress

REASONS = pa.field("reasons", pa.list_(pa.string()))
"""The column that quarantine adds to a table: every critical check that the row failed, and why it matters."""


def accept(project: Project, table: str = "events") -> None:
    """Split the staged rows, with repaired values, by the mask into ``data/<table>`` and ``data/quarantine/<table>``.

    A partition without bad rows is copied as it is; of the others, one at a time is held in memory.

    Raises
    ------
    CheckFailed
        When the verdict on the staged rows is ``failed``, or is about other rows or patches; nothing is written.
    """
    progress = Progress(f"accept {table}: rows")
    with (
        staged_files(project, table) as files,
        whole_folder(project.table(table)) as good,
        whole_folder(project.data / "quarantine" / table) as bad,
    ):
        version = files.version
        verdict = _require_open(project, table, version)
        mask = _mask(project, table, files)
        rows: Counter[str] = Counter()
        for name, file in files.items():
            staged, aside = _split(name, file, mask.of(name), good, bad)
            rows.update(staged=staged, accepted=staged - aside, quarantined=aside)
            progress.add(staged)
        _require_all(table, verdict, rows, _written(good), _written(bad))
    reasons = {
        check.check: (check.unexpected or 0) - check.released
        for check in verdict.checks
        if check.status is Status.QUARANTINED
    }
    write_ledger(
        project,
        "accept",
        rows_in=rows["staged"],
        rows_out=rows["accepted"],
        quarantined=rows["quarantined"],
        released=mask.notes.get("released", 0),
        repaired=mask.notes.get("repaired", 0),
        reasons=reasons,
        patches=mask.notes.get("patches", []),
        accepted={"staged": version, "events": data_version(project.table(table))},
    )


def gate(project: Project, table: str, fail_on: FailOn = "critical") -> None:
    """Open the gate of ``table``, or raise `CheckFailed` with the checks that failed, from this severity on."""
    verdict = _require_open(project, table, data_version(project.staged(table)))
    require_none(findings(table, verdict, fail_on), fail_on)
    # Not whether it warned: a warning that comes or goes is no reason to run again what comes after the gate.
    write_gate(project, Gate(table, verdict.data_version))


def _require_open(project: Project, table: str, version: str) -> Verdict:
    """The verdict on the data of this version; raises `CheckFailed` when it failed or is about other data."""
    verdict = read_verdict(project, table)
    shut = failure(verdict) if verdict.data_version == version else other_data(table)
    if shut:
        raise CheckFailed(shut)
    return verdict


def _mask(project: Project, table: str, files: StagedFiles) -> Mask:
    """The mask, made with the patches that are there now; raises `CheckFailed` where it was not."""
    mask = Mask.read(project, table)
    if mask.notes.get("digest", "") != (digest(project) if files.plan.patches else ""):
        raise CheckFailed(
            f"The patches in validation/patches are others than when {table} was validated; "
            f"run `weakfish validate {table}`."
        )
    return mask


def _split(name: str, file: Path, lines: pa.Table, good: Path, bad: Path) -> tuple[int, int]:
    """Write the rows of a partition to where they belong; how many there are, and how many are set aside."""
    total = _rows(file)
    if not lines.num_rows:
        shutil.copyfile(file, good / f"{name}.parquet")
        return total, 0
    marked, reasons = _reasons(lines)
    keep = np.ones(total, np.bool_)
    keep[marked] = False
    rows = read_partition(file)
    if keep.any():
        write_partition(good, name, rows.filter(pa.array(keep)))
    write_partition(bad, name, rows.take(pa.array(marked)).append_column(REASONS, reasons))
    return total, len(marked)


def _reasons(lines: pa.Table) -> tuple[np.ndarray[tuple[int], np.dtype[np.int64]], pa.ListArray]:
    """The rows that a partition's lines mark, and for each the checks that it failed, in their order."""
    marked, starts = np.unique(lines["row"].to_numpy(), return_index=True)
    texts = pc.binary_join_element_wise(lines["check"].cast(pa.string()), lines["why"].cast(pa.string()), ": ")
    ends = np.append(starts, lines.num_rows).astype(np.int32)
    return marked, pa.ListArray.from_arrays(pa.array(ends), texts.combine_chunks())


def _require_all(table: str, verdict: Verdict, rows: Counter[str], good: int, bad: int) -> None:
    """Raise `WeakfishError` unless each staged row was written once, and as many set aside as the verdict says."""
    found = (rows["staged"], rows["accepted"], rows["quarantined"])
    if found == (verdict.rows, good, bad) and good + bad == verdict.rows and bad == verdict.quarantined:
        return
    raise WeakfishError(
        f"Rows were lost in accepting {table}: {rows['staged']} staged, {good} accepted, {bad} quarantined; "
        f"{verdict.rows} staged and {verdict.quarantined} to quarantine by the verdict; "
        f"run `weakfish validate {table}` again."
    )


def _written(folder: Path) -> int:
    return sum(_rows(file) for file in folder.glob("*.parquet"))


def _rows(file: Path) -> int:
    return int(open_partition(file).metadata.num_rows)
