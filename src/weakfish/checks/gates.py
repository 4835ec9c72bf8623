"""From checks to a verdict, and from verdicts to gates: `accept` lets good events in, `gate` opens or stops."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from itertools import islice
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from weakfish.checks.bad_rows import together
from weakfish.checks.patches import digest
from weakfish.checks.repairs import staged_files
from weakfish.contracts.gate import Gate, data_version, failure, other_data, write_gate
from weakfish.contracts.ledgers import Ledger, write_ledger
from weakfish.contracts.pointers import copy_partition, listed, whole_tables
from weakfish.contracts.tables import (
    open_partition,
    partition_writer,
    pieces_of,
    read_partition,
    row_count,
    write_partition,
)
from weakfish.contracts.verdicts import Check, Mask, Outcome, Status, Verdict, read_verdict, verdict_files
from weakfish.engine import fleet
from weakfish.errors import CheckFailed, TableError, UnknownName, WeakfishError
from weakfish.project.paths import Project
from weakfish.project.runs import Progress, temporary_folder

SPLIT_ROWS = 1e6
"""Rows that a process splits in a second, about."""

KEYS_SHOWN = 20
"""How many keys of bad rows a verdict names per check; the mask names all."""

REJECTED = "rejected"
"""The check of raw lines that became no row."""

REASONS = pa.field("reasons", pa.list_(pa.string()))
"""The column that quarantine adds to a table: every critical check that the row failed, and why it matters."""


def verdict_of(
    table: str,
    data_version: str,
    rows: int,
    checks: Sequence[Check],
    max_share: float | None,
    raw: Ledger | None = None,
) -> Verdict:
    """The verdict on a table: critical row checks quarantine while few of the rows read are bad, else they fail.

    Parameters
    ----------
    max_share
        The share of the rows read that may be quarantined or rejected; None for a table whose rows cannot be set aside.
    raw
        Of events, what became of the raw lines.
    """
    aside = [check for check in checks if check.status is Status.QUARANTINED]
    parts = {partition for check in aside for partition in check.rows}
    bad = sum(len(together(check.rows[part] for check in aside if part in check.rows)) for part in parts)
    rejected, copies = (raw.rejected or 0, raw.copies or 0) if raw else (0, 0)
    if max_share is None or bad + rejected - copies > max_share * (rows + rejected):
        checks = [replace(c, status=Status.FAILED) if _is_too_many(c) else c for c in checks]
    found = {check.status for check in checks}
    warned = found & {Status.WARNED, Status.QUARANTINED}
    outcome: Outcome = "failed" if Status.FAILED in found else "warned" if warned else "passed"
    return Verdict(table, outcome, data_version, rows, bad, rejected, copies, max_share, checks)


def _is_too_many(check: Check) -> bool:
    """Whether a check speaks of bad rows, of which there are more than may be."""
    return check.status is Status.QUARANTINED or (check.check == REJECTED and bool(check.observed))


def named(verdict: Verdict, names: Mapping[tuple[str, int], str]) -> Verdict:
    """The verdict with the first bad rows of each check by name; ``names`` has them by partition and position."""
    checks = [replace(check, keys=[names[place] for place in first_rows(check)]) for check in verdict.checks]
    return replace(verdict, checks=checks)


def first_rows(check: Check) -> list[tuple[str, int]]:
    """The first bad rows of a check, by partition and position: those that a verdict names."""
    found = ((partition, row) for partition in sorted(check.rows) for row in check.rows[partition].tolist())
    return list(islice(found, KEYS_SHOWN))


FailOn = Literal["critical", "warning", "info"]

STATUSES: Mapping[FailOn, frozenset[Status]] = {
    "critical": frozenset({Status.FAILED}),
    "warning": frozenset({Status.FAILED, Status.WARNED, Status.QUARANTINED}),
    "info": frozenset(Status) - {Status.PASSED},
}
"""The statuses that make a gate fail; rows that were set aside count as a warning, as in the verdict."""


@dataclass(frozen=True)
class Finding:
    """A check that did not hold, in numbers: all that leaves the machine of it."""

    table: str
    check: str
    severity: str
    status: str
    unexpected: int | None
    value: float | None
    threshold: float | None

    @property
    def line(self) -> str:
        """The finding in a line."""
        rows = "" if self.unexpected is None else f"{self.unexpected:,} row{'' if self.unexpected == 1 else 's'}"
        numbers = {"value": self.value, "threshold": self.threshold}
        told = [rows, *(f"{name} {number:.4g}" for name, number in numbers.items() if number is not None)]
        said = ", ".join(filter(None, told))
        return f"{self.status:<11} {self.severity:<8} {self.table}: {self.check}{': ' if said else ''}{said}"


@dataclass(frozen=True)
class Look:
    """What a gate saw: the verdicts by table, tables that have other data than their verdict, what did not hold."""

    fail_on: FailOn
    verdicts: Mapping[str, str]
    outdated: Sequence[str]
    findings: Sequence[Finding]

    @property
    def verdict(self) -> str:
        """The worst of the verdicts."""
        found = {*self.verdicts.values(), *(["failed"] if self.outdated else [])}
        return next(verdict for verdict in ("failed", "warned", "passed") if verdict in found)

    @property
    def lines(self) -> str:
        """A line per finding, for people."""
        if not self.findings:
            return f"{', '.join(self.verdicts)}: nothing fails the gate (--fail-on {self.fail_on})."
        return "\n".join(finding.line for finding in self.findings)

    def as_json(self) -> dict[str, Any]:
        """All of it, for programs."""
        content = {"fail_on": self.fail_on, "verdict": self.verdict, "tables": dict(self.verdicts)}
        return {**content, "outdated": list(self.outdated), "checks": [asdict(finding) for finding in self.findings]}

    def require(self) -> None:
        """Raise `CheckFailed` if anything makes the gate fail."""
        if self.outdated:
            raise CheckFailed(
                f"The verdict on {', '.join(self.outdated)} is about different data than the table holds now; "
                f"run `weakfish run`."
            )
        _require_none(self.findings, self.fail_on)


def _require_none(found: Sequence[Finding], fail_on: FailOn) -> None:
    if found:
        tables = ", ".join(dict.fromkeys(finding.table for finding in found))
        checks = f"{len(found)} check{'s' if len(found) > 1 else ''}"
        raise CheckFailed(f"{checks} of {tables} did not hold (--fail-on {fail_on}); see reports/index.html.")


def look(project: Project, table: str | None, fail_on: FailOn, compare: bool = True) -> Look:
    """What a gate sees of a table, or of all that have a verdict; it changes nothing.

    Parameters
    ----------
    compare
        Whether to see if the data are still those that the verdicts are about.

    Raises
    ------
    UnknownName
        When the table has no verdict.
    TableError
        When nothing has a verdict yet, or one is cut off.
    """
    there = verdict_files(project)
    if not there:
        raise TableError("Nothing has been validated in this project yet, so there is no gate; run `weakfish run`.")
    if table is not None and table not in there:
        raise UnknownName("verdict", table, there, "reports/validation/")
    verdicts = {name: read_verdict(project, name) for name in ([table] if table else there)}
    outdated = []
    for name, verdict in verdicts.items():
        # Where no data lie, as of metrics or where nothing was pulled, a verdict stands.
        if compare and project.staged(name).is_dir():
            with staged_files(project, name) as files:
                outdated += [name] if files.version != verdict.data_version else []
    found = [finding for name, verdict in verdicts.items() for finding in findings(name, verdict, fail_on)]
    return Look(fail_on, {name: verdict.verdict for name, verdict in verdicts.items()}, outdated, found)


def findings(table: str, verdict: Verdict, fail_on: FailOn) -> list[Finding]:
    """The checks of a verdict that make a gate fail, in the verdict's order."""
    return [
        Finding(table, check.check, check.severity, check.status, check.unexpected, check.value, check.threshold)
        for check in verdict.checks
        if check.status in STATUSES[fail_on]
    ]


def gate(project: Project, table: str, fail_on: FailOn = "critical") -> None:
    """Open the gate of ``table``, or raise `CheckFailed` with the checks that failed, from this severity on."""
    verdict = _require_open(project, table, data_version(project.staged(table)))
    _require_none(findings(table, verdict, fail_on), fail_on)
    # Not whether it warned: a warning that comes or goes is no reason to run again what comes after the gate.
    write_gate(project, Gate(table, verdict.data_version))


def _require_open(project: Project, table: str, version: str) -> Verdict:
    """The verdict on the data of this version; raises `CheckFailed` when it failed or is about different data."""
    verdict = read_verdict(project, table)
    shut = failure(verdict) if verdict.data_version == version else other_data(table)
    if shut:
        raise CheckFailed(shut)
    return verdict


def accept(project: Project, table: str = "events") -> None:
    """Split the staged rows, with repaired values, by the mask into ``data/<table>`` and ``data/quarantine/<table>``.

    A partition without bad rows is copied as it is; workers split the others, each one at a time.

    Raises
    ------
    CheckFailed
        When the verdict on the staged rows is ``failed``, or is about other rows or patches; nothing is written.
    """
    progress = Progress(f"accept {table}: rows")
    staged = aside = 0

    def seconds(_: Project) -> float:
        return sum(row_count(project.root / item["file"]) for item in items) / SPLIT_ROWS

    with (
        staged_files(project, table) as files,
        whole_tables(project.table(table)) as good,
        whole_tables(project.data / "quarantine" / table) as bad,
        temporary_folder(project.temporary, "accept") as scratch,
    ):
        version = files.version
        verdict = _require_open(project, table, version)
        mask = Mask.read(project, table)
        if mask.notes.get("digest", "") != (digest(project) if files.plan.patches else ""):
            raise CheckFailed(
                f"The patches in validation/patches are others than when {table} was validated; "
                f"run `weakfish validate {table}`."
            )
        shared = {"good": fleet.relative(project, good), "bad": fleet.relative(project, bad)}
        items: list[fleet.Item] = []
        for name, file in files.items():
            rows, lines = row_count(file), mask.of(name)
            staged += rows
            if lines.num_rows:
                write_partition(scratch, name, lines)
                places = {"file": file, "lines": scratch / f"{name}.parquet"}
                items.append({**shared, **{what: fleet.relative(project, place) for what, place in places.items()}})
            else:
                copy_partition(file, good)
                progress.add(rows)
        for _, receipt in fleet.run(project, f"{__name__}:split", items, f"accept {table}: partitions", seconds):
            aside += receipt["aside"]
            progress.add(receipt["rows"])
        kept, quarantined = (sum(map(row_count, listed(folder))) for folder in (good, bad))
        if (staged, staged - aside, aside) != (verdict.rows, kept, quarantined) or quarantined != verdict.quarantined:
            raise WeakfishError(
                f"Rows were lost in accepting {table}: {staged} staged, {kept} accepted, {quarantined} quarantined; "
                f"{verdict.rows} staged and {verdict.quarantined} to quarantine by the verdict; "
                f"run `weakfish validate {table}` again."
            )
    set_aside = [check for check in verdict.checks if check.status is Status.QUARANTINED]
    write_ledger(
        project,
        "accept",
        rows_in=staged,
        rows_out=staged - aside,
        quarantined=aside,
        released=mask.notes.get("released", 0),
        repaired=mask.notes.get("repaired", 0),
        reasons={check.check: (check.unexpected or 0) - check.released for check in set_aside},
        patches=mask.notes.get("patches", []),
        accepted={"staged": version, "events": data_version(project.table(table))},
    )


def split(project: Project, item: fleet.Item) -> fleet.Receipt:
    """Write the rows of a partition to where they belong, those that are set aside with the checks that each failed.

    The receipt says how many ``rows`` there are, and how many are set ``aside``.
    """
    file, good, bad = (project.root / item[name] for name in ("file", "good", "bad"))
    lines, name = read_partition(project.root / item["lines"]), file.stem
    marked, starts = np.unique(lines["row"].to_numpy(), return_index=True)
    texts = pc.binary_join_element_wise(lines["check"].cast(pa.string()), lines["why"].cast(pa.string()), ": ")
    ends = np.append(starts, lines.num_rows).astype(np.int32)
    reasons = pa.ListArray.from_arrays(pa.array(ends), texts.combine_chunks())
    schema, start = open_partition(file).schema_arrow, 0
    with ExitStack() as stack:
        write_bad = stack.enter_context(partition_writer(bad, name, schema.append(REASONS)))
        some_good = len(marked) < row_count(file)
        write_good = stack.enter_context(partition_writer(good, name, schema)) if some_good else None
        for rows in pieces_of(file):
            first, last = np.searchsorted(marked, [start, start + rows.num_rows])
            here, keep = pa.array(marked[first:last] - start), np.ones(rows.num_rows, np.bool_)
            keep[here.to_numpy()] = False
            if write_good and keep.any():
                write_good(rows.filter(pa.array(keep)))
            if first < last:
                write_bad(rows.take(here).append_column(REASONS, reasons[first:last]))
            start += rows.num_rows
    return {"rows": start, "aside": len(marked)}
