"""Gates: whatever consumes a judged table calls `require_open` first, on the verdict of the data that is there now.

A verdict names the data that it is about by a hash of the table's files. The events are judged as staged, after
patches, and used as the copy that `accept` makes of their good rows. The ledger of `accept` holds both hashes: of the
staged data, which the verdict must be about, and of the copy, which must lie in ``data/events``.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from weakfish.contracts.figures import counted, percent
from weakfish.contracts.hashes import hashes_of
from weakfish.contracts.ledgers import ledger_file, overriding, read_ledger
from weakfish.contracts.record import Rooted, Stored
from weakfish.contracts.tables import partitions
from weakfish.contracts.verdicts import Check, Status, Verdict, read_verdict, verdict_file
from weakfish.errors import CheckFailed
from weakfish.files import write_json

EVENTS = "events"


@dataclass(frozen=True)
class Gate:
    """``reports/gates/<table>.json``: exists while the table's gate is open, for the data of this version."""

    table: str
    data_version: str | None = None


GATES = Stored(Gate, "reports/gates")
gate_file = GATES.file


def write_gate(project: Rooted, gate: Gate) -> None:
    """Open a gate."""
    write_json(gate_file(project, gate.table), asdict(gate))


def require_open(project: Rooted, tables: Iterable[str]) -> None:
    """Refuse to go on with tables whose gates are shut.

    A gate is open while the table's verdict has no failed check and is about the data that is there now. A table that
    has neither a verdict nor a suite in ``validation/`` has no gate.

    Under `weakfish.contracts.ledgers.despite`, a shut gate is a sentence on stderr and in the ledger.

    Raises
    ------
    CheckFailed
        When a gate is shut; names the failed check, or what is to be run.
    TableError
        When a table is missing, or its verdict is cut off.
    """
    for table in tables:
        reason = shut_by(project, table)
        if reason is None:
            continue
        override = overriding()
        if override is None:
            raise CheckFailed(reason)
        override.gates.append(reason)
        print(f"Going on although a gate is shut ({override.reason}): {reason}", file=sys.stderr)


def shut_by(project: Rooted, table: str) -> str | None:
    """Why the gate of a table is shut, as a sentence; None when it is open. Raises `TableError` as `require_open`."""
    if not verdict_file(project, table).is_file():
        if not (project.root / "validation" / f"{table}.py").is_file():
            return None
        return f"{table} has not been validated; run `weakfish validate {table}`."
    verdict = read_verdict(project, table)
    if table == EVENTS:
        return failure(verdict) or _not_accepted(project, verdict)
    if verdict.data_version != table_version(project, table):
        return other_data(table)
    return failure(verdict)


def failure(verdict: Verdict) -> str | None:
    """The failed checks of a verdict, as a sentence; None when there are none."""
    failed = [_sentence(check) for check in verdict.checks if check.status is Status.FAILED]
    if not failed and verdict.verdict != "failed":
        return None
    limit = verdict.max_quarantined_share
    share = (
        f" ({verdict.bad:,} of {counted(verdict.rows_read, 'row')} are bad, at most {percent(limit)} may be)"
        if limit is not None and verdict.bad
        else ""
    )
    what = "; ".join(failed) or "its verdict is failed"
    return f"The gate of {verdict.table} is shut: {what}{share}; see reports/index.html."


def other_data(table: str) -> str:
    """The sentence on a verdict that is about different data than the table holds."""
    return f"The verdict on {table} is about different data than the table holds now; run `weakfish validate {table}`."


def _sentence(check: Check) -> str:
    if check.error:
        return f"{check.check} could not be run: {check.error}"
    if check.found:
        return f"{check.check} failed: {check.found.rstrip('.')}"
    if check.unexpected is not None:
        return f"{check.check} failed on {counted(check.unexpected, 'row')}"
    return f"{check.check} failed, observed {check.observed}"


def _not_accepted(project: Rooted, verdict: Verdict) -> str | None:
    accepted = read_ledger(project, "accept").accepted if ledger_file(project, "accept").is_file() else None
    if accepted is None or accepted["staged"] != verdict.data_version:
        return "The verdict on events is about different data than was accepted; run `weakfish accept`."
    if accepted["events"] != table_version(project, EVENTS):
        return "data/events is not what `weakfish accept` made of the judged events; run it again."
    return None


def version_of(files: Mapping[str, Path]) -> str:
    """A hash of a table's partitions, names and bytes."""
    return _version(hashes_of(files))


def data_version(folder: Path) -> str:
    """A hash of the partitions in a folder, names and bytes; raises `TableError` when there are none."""
    return version_of(partitions(folder))


def table_version(project: Rooted, table: str) -> str:
    """The hash of a table below ``data/``, as `data_version`."""
    return _version(partition_hashes(project, table))


def partition_hashes(project: Rooted, table: str) -> dict[str, str]:
    """The SHA-256 of each partition of a table below ``data/``."""
    return hashes_of(partitions(project.root / "data" / table))


def _version(hashes: Mapping[str, str]) -> str:
    digest = hashlib.sha256()
    for name, found in hashes.items():
        digest.update(f"{name} {found}\n".encode())
    return digest.hexdigest()
