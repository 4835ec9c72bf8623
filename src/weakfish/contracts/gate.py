"""Gates: whatever consumes a judged table calls `require_open` first, on the verdict of the data that is there now.

A verdict names the data that it is about by a hash of the table's files. The events are judged as staged, after
patches, and used as the copy that `accept` makes of their good rows. The ledger of `accept` holds both hashes: of the
staged data, which the verdict must be about, and of the copy, which must lie in ``data/events``.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from weakfish.contracts.figures import counted, percent
from weakfish.contracts.ledgers import ledger_file, overriding, read_ledger
from weakfish.contracts.record import Rooted, Stored
from weakfish.contracts.tables import partitions
from weakfish.contracts.verdicts import Check, Status, Verdict, read_verdict, verdict_file
from weakfish.errors import CheckFailed
from weakfish.files import sha256_of, whole_file, write_json

EVENTS = "events"

SETTLED = 2 * 10**9
"""Nanoseconds after which a file's times tell a later change of it, whatever the clock of its file system ticks in."""


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
    return _version(sha256_of(files))


def data_version(folder: Path) -> str:
    """A hash of the partitions in a folder, names and bytes; raises `TableError` when there are none."""
    return version_of(partitions(folder))


def table_version(project: Rooted, table: str) -> str:
    """The hash of a table below ``data/``, as `data_version`; files that did not change since are not read again."""
    return _version(partition_hashes(project, table))


def partition_hashes(project: Rooted, table: str) -> dict[str, str]:
    """The SHA-256 of each partition of a table below ``data/``; files that did not change since are not read again.

    Hashes are remembered below ``.weakfish/hashes`` by size, times and inode. The folder may be deleted at any time.
    """
    files = partitions(project.root / "data" / table)
    memory = project.root / ".weakfish" / "hashes" / f"{table}.json"
    known, now = _remembered(memory), time.time_ns()
    stats = {name: file.stat() for name, file in files.items()}
    marks = {name: [of.st_size, of.st_mtime_ns, of.st_ctime_ns, of.st_ino] for name, of in stats.items()}
    same = {name: str(known[name][-1]) for name in files if known.get(name, [])[:-1] == marks[name]}
    new = sha256_of({name: file for name, file in files.items() if name not in same})
    hashes = {name: same.get(name) or new[name] for name in files}
    # A file may change again within the same tick of its file system's clock, and its marks stay the same.
    settled = {
        name: [*marks[name], hashes[name]]
        for name, of in stats.items()
        if now - max(of.st_mtime_ns, of.st_ctime_ns) > SETTLED
    }
    if settled != known:
        with contextlib.suppress(OSError), whole_file(memory) as part:
            part.write_text(json.dumps(settled), encoding="utf-8")
    return hashes


def _remembered(memory: Path) -> dict[str, list[int | str]]:
    try:
        found = json.loads(memory.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _version(hashes: Mapping[str, str]) -> str:
    digest = hashlib.sha256()
    for name, found in hashes.items():
        digest.update(f"{name} {found}\n".encode())
    return digest.hexdigest()
