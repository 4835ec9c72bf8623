"""What each stage did: its ledger (row counts, no clock, an out of the stage) and the record of its last run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from weakfish.contracts.record import Number, Rooted, Stored, Time, read
from weakfish.files import write_json


@dataclass(frozen=True)
class AppliedPatch:
    """A decision that lets rows in: its file, who decided, why, and how many rows it touches now."""

    patch: str
    who: str | None = None
    why: str | None = None
    rows: int | None = None


@dataclass(frozen=True)
class Override:
    """Work that went on although gates were shut: the reason that a person gave, and what shut each gate."""

    reason: str
    gates: list[str] = field(default_factory=list)


# Set for the whole of a command, so that each engine function asks its gates and writes its ledger in the same way.
_OVERRIDE: ContextVar[Override | None] = ContextVar("override", default=None)


@contextmanager
def despite(reason: str | None) -> Iterator[None]:
    """Let gates that are shut pass for the time of the block, for a reason; without one, gates hold."""
    token = _OVERRIDE.set(Override(reason) if reason else None)
    try:
        yield
    finally:
        _OVERRIDE.reset(token)


def overriding() -> Override | None:
    """The override that is in force; None as a rule."""
    return _OVERRIDE.get()


@dataclass(frozen=True)
class RejectedLines:
    """Lines of a raw file that became no row, for one reason: how many, and the first of them, from 1."""

    file: str
    reason: str
    rows: int
    line: int | None = None


@dataclass(frozen=True)
class MissingColumn:
    """A column that a whole file lacks; ``likely`` is the file's own column that seems to be it under a new name."""

    file: str
    column: str
    likely: str | None = None


@dataclass(frozen=True)
class Reading:
    """What a source has to say of the files that it read, beyond their rows.

    Attributes
    ----------
    rejected
        Lines that became no row, by file and reason, those of the most lines first.
    missing
        Columns that whole files lack.
    values
        Values that could not be read and became null, by column.
    """

    rejected: Sequence[RejectedLines] = ()
    missing: Sequence[MissingColumn] = ()
    values: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Ledger:
    """The row counts of a stage: rows in = rows out + quarantined + rejected.

    Attributes
    ----------
    rejected
        Raw lines that became no row; None where a source says nothing of them.
    copies
        Of these, exact copies of rows that were kept; None where copies are not looked for.
    fetched
        Of `fetch` alone: the table that was read and its version, where others keep one.
    reading
        Of `ingest` alone: what the source has to say of its files.
    reasons
        Quarantined rows by the check that they failed.
    released, repaired
        Rows that came in although a check found them bad, and rows that came in with other values than they were read
        with; ``patches`` says which decisions those were, whose, and how many rows each touched.
    accepted
        Of `accept` alone: ``staged`` is the version of the data that was judged, ``events`` of the accepted copy.
    despite_gate
        The reason that was given for going on although a gate was shut, and what shut it; None as a rule.
    """

    stage: str = ""
    rows_in: int | None = None
    rows_out: int | None = None
    quarantined: int | None = None
    rejected: int | None = None
    copies: int | None = None
    released: int | None = None
    repaired: int | None = None
    reasons: Mapping[str, int] = field(default_factory=dict)
    patches: Sequence[AppliedPatch] = ()
    accepted: Mapping[str, str] | None = None
    fetched: Mapping[str, str | int] | None = None
    reading: Reading | None = None
    despite_gate: Override | None = None


LEDGERS = Stored(Ledger, "reports/ledger")
ledger_file, read_ledger = LEDGERS.file, LEDGERS.read


def ingested(project: Rooted) -> Ledger:
    """What `ingest` counted of the events that are staged; nothing where it left no ledger."""
    return read_ledger(project, "ingest") if ledger_file(project, "ingest").is_file() else Ledger("ingest")


def write_ledger(project: Rooted, stage: str, *, rows_in: int | None, rows_out: int | None, **counts: Any) -> None:
    """Write a stage's row counts, by the fields of `Ledger`; under `despite` the override with them."""
    override = overriding()
    despite_gate = override if override and override.gates else None
    content = asdict(Ledger(stage, rows_in, rows_out, **counts, despite_gate=despite_gate))
    optional = ("rejected", "copies", "accepted", "fetched", "reading", "despite_gate")
    absent = [name for name in optional if content[name] is None]
    write_json(ledger_file(project, stage), {name: value for name, value in content.items() if name not in absent})


@dataclass(frozen=True)
class Run:
    """The last run of a stage, ``.weakfish/runs/<stage>.json``; no ``exit_code``: it is running, or was killed."""

    stage: str
    started_at: Time
    finished_at: Time | None = None
    exit_code: int | None = None
    message: str | None = None
    seconds: Number = None


RUNS = Stored(Run, ".weakfish/runs")


def run_file(project: Rooted, stage: str) -> Path:
    """The file of a stage's last run."""
    return RUNS.file(project, quote(stage, safe="@ "))  # as one part of a path; names of stages may hold slashes


def write_run(project: Rooted, run: Run) -> None:
    """Write a stage's record, times in milliseconds."""
    content = asdict(run)
    for name in ("started_at", "finished_at"):
        content[name] = content[name] and content[name].isoformat(timespec="milliseconds")
    write_json(run_file(project, run.stage), content)


def read_run(project: Rooted, stage: str) -> Run | None:
    """The last run of a stage; None where it never ran."""
    file = run_file(project, stage)
    return read(Run, file) if file.exists() else None


def read_runs(project: Rooted) -> dict[str, Run]:
    """The last run of every stage, by name."""
    return {unquote(name): read(Run, file) for name, file in RUNS.files(project).items()}
