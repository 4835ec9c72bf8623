"""What each stage did: its ledger (row counts, no clock, an out of the stage) and the record of its last run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from weakfish.contracts.record import Number, Rooted, Time, parse, read
from weakfish.files import read_json, write_json


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
class Ledger:
    """The row counts of a stage.

    Attributes
    ----------
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
    released: int | None = None
    repaired: int | None = None
    reasons: Mapping[str, int] = field(default_factory=dict)
    patches: Sequence[AppliedPatch] = ()
    accepted: Mapping[str, str] | None = None
    despite_gate: Override | None = None


def ledger_file(project: Rooted, stage: str) -> Path:
    """The file of a stage's row counts."""
    return project.root / "reports" / "ledger" / f"{stage}.json"


def write_ledger(
    project: Rooted,
    stage: str,
    *,
    rows_in: int | None,
    rows_out: int | None,
    quarantined: int | None = None,
    released: int | None = None,
    repaired: int | None = None,
    reasons: Mapping[str, int] | None = None,
    patches: Sequence[Mapping[str, Any]] = (),
    accepted: Mapping[str, str] | None = None,
) -> None:
    """Write a stage's row counts, see `Ledger`; under `despite` the override with them."""
    counts = {"rows_in": rows_in, "rows_out": rows_out, "quarantined": quarantined}
    counts |= {"released": released, "repaired": repaired}
    by: dict[str, Any] = {"reasons": dict(reasons or {}), "patches": [dict(patch) for patch in patches]}
    if accepted is not None:
        by["accepted"] = dict(accepted)
    override = overriding()
    if override is not None and override.gates:
        by["despite_gate"] = asdict(override)
    write_json(ledger_file(project, stage), {"stage": stage, **counts, **by})


def read_ledger(project: Rooted, stage: str) -> Ledger:
    """The ledger of a stage; raises `TableError` when there is none or it is cut off."""
    file = ledger_file(project, stage)
    content = read_json(file)
    return parse(Ledger, {"stage": stage, **content} if isinstance(content, dict) else content, file)


def ledger_files(project: Rooted) -> dict[str, Path]:
    """The files of all ledgers, by stage."""
    return {file.stem: file for file in sorted((project.root / "reports" / "ledger").glob("*.json"))}


@dataclass(frozen=True)
class Run:
    """The last run of a stage, ``.weakfish/runs/<stage>.json``; no ``exit_code``: it is at work, or was killed."""

    stage: str
    started_at: Time
    finished_at: Time | None = None
    exit_code: int | None = None
    message: str | None = None
    seconds: Number = None


def run_file(project: Rooted, stage: str) -> Path:
    """The file of a stage's last run."""
    name = quote(stage, safe="@ ")  # as one part of a path; names of stages may hold slashes
    return project.root / ".weakfish" / "runs" / f"{name}.json"


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
    return {unquote(file.stem): read(Run, file) for file in sorted(run_file(project, "").parent.glob("*.json"))}
