"""The stages of the pipeline, in its order: what each did last, where it stopped, and what is out of date since."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from weakfish.contracts.ledgers import Ledger, Run
from weakfish.contracts.verdicts import Verdict
from weakfish.project.paths import Project
from weakfish.project.runs import lock_file
from weakfish.project.stages import stage_of
from weakfish.report.inputs import Inputs, read

REPORT = "report"
"""The stage that makes the page: it never counts as a reason for a bad verdict."""


@dataclass(frozen=True)
class StageRow:
    """What a stage did last.

    Attributes
    ----------
    passed, warned, failed
        Checks, for a stage that validates a table: those that were only noted count as passed, those whose bad rows
        were set aside as warned.
    state
        ``run``, ``running``, ``cached``, ``failed``, or ``not run``: it comes after the stage that stopped the
        pipeline, or it never ran.
    started_at
        UTC; None when the stage has no record of a run.
    """

    stage: str
    rows_in: int | None
    rows_out: int | None
    quarantined: int | None
    passed: int | None
    warned: int | None
    failed: int | None
    seconds: float | None
    state: str
    started_at: datetime | None


@dataclass(frozen=True)
class Stop:
    """Where the pipeline stopped.

    Attributes
    ----------
    position
        Of the stage, in the pipeline's order.
    state
        ``failed``, or ``running``.
    run
        The record of the run that ended badly; None when only a verdict says so.
    """

    stage: str
    position: int
    state: str
    run: Run | None


def stage_rows(root: Path, since: datetime | None = None) -> list[StageRow]:
    """One row per stage, in the pipeline's order; a stage that ran before ``since`` (UTC) counts as cached."""
    return rows(read(root), since)


def rows(inputs: Inputs, since: datetime | None = None) -> list[StageRow]:
    """`stage_rows`, of inputs that are already read."""
    stop = find_stop(inputs)
    return [_row(inputs, stage, _state(inputs, stop, stage, since)) for stage in inputs.stages]


def find_stop(inputs: Inputs) -> Stop | None:
    """The first stage that failed, was killed or is at work; the stage after a failed verdict is its gate."""
    stops = [stop for stage in inputs.stages if (stop := _bad_run(inputs, stage))]
    stops += [_gate(inputs, table) for table, verdict in inputs.verdicts.items() if verdict.verdict == "failed"]
    return min(stops, key=lambda stop: (stop.position, stop.state != "failed", stop.run is None), default=None)


def pending(inputs: Inputs) -> list[str]:
    """The stages that have not run, and not because the pipeline stopped; the report does not count."""
    return [row.stage for row in rows(inputs) if row.state == "not run" and row.stage != REPORT]


def outdated(inputs: Inputs, stop: Stop | None, stage: str) -> bool:
    """Whether what ``stage`` made is from an earlier run, because the pipeline stopped there or before it."""
    return stop is not None and stage in inputs.stages and position(inputs, stage) >= stop.position


def position(inputs: Inputs, stage: str) -> int:
    """The place of a stage in the pipeline; after all others when it is in no place."""
    names = list(inputs.stages)
    return names.index(stage) if stage in names else len(names)


def validating(table: str) -> str:
    """The stage that validates a table."""
    return stage_of("validate", table)


def count_checks(verdict: Verdict) -> tuple[int, int, int]:
    """Checks of a verdict that passed, warned and failed."""
    counts = verdict.counts
    return counts["passed"] + counts["noted"], counts["warned"], counts["failed"]


def _bad_run(inputs: Inputs, stage: str) -> Stop | None:
    run = inputs.runs.get(stage)
    if run is None or run.exit_code == 0 or stage == REPORT or _restored(inputs, stage, run):
        return None
    state = "running" if run.exit_code is None and _at_work(inputs, stage) else "failed"
    return Stop(stage, position(inputs, stage), state, run)


def _restored(inputs: Inputs, stage: str, run: Run) -> bool:
    """Whether DVC has brought back the stage's outs from its cache since the bad run, which leaves no record."""
    ended = (run.finished_at or run.started_at).timestamp()
    files = _outs(inputs, stage)
    return bool(files) and all(os.path.lexists(file) and file.lstat().st_ctime > ended for file in files)


def _at_work(inputs: Inputs, stage: str) -> bool:
    try:
        os.kill(int(lock_file(Project(inputs.root), stage).read_text()), 0)
    except PermissionError:
        return True
    except (OSError, ValueError, OverflowError):
        return False
    return True


def _gate(inputs: Inputs, table: str) -> Stop:
    names = list(inputs.stages)
    place = position(inputs, validating(table))
    named = [name for name in names[place + 1 :] if name == stage_of("gate", table)]
    gate = (named or names[place + 1 :] or [validating(table)])[0]
    return Stop(gate, position(inputs, gate), "failed", None)


def _outs(inputs: Inputs, stage: str) -> list[Path]:
    locked = inputs.lock.stages.get(stage)
    return [inputs.root / out.path for out in locked.outs] if locked else []


def _made(inputs: Inputs, stage: str) -> bool:
    files = _outs(inputs, stage)
    return bool(files) and all(file.exists() for file in files)


def _state(inputs: Inputs, stop: Stop | None, stage: str, since: datetime | None) -> str:
    place, run = position(inputs, stage), inputs.runs.get(stage)
    if stop and place >= stop.position:
        return stop.state if place == stop.position else "not run"
    if run is None:
        return "cached" if _made(inputs, stage) else "not run"
    restored = run.exit_code != 0 and stage != REPORT
    return "cached" if restored or (since and run.started_at < since) else "run"


def _row(inputs: Inputs, stage: str, state: str) -> StageRow:
    if state == "not run":
        return StageRow(stage, None, None, None, None, None, None, None, state, None)
    ledger, run = inputs.ledgers.get(stage), inputs.runs.get(stage)
    verdict = next((verdict for table, verdict in inputs.verdicts.items() if validating(table) == stage), None)
    if ledger is None:
        ledger = Ledger(stage, rows_in=verdict.rows if verdict else None)
    passed, warned, failed = count_checks(verdict) if verdict else (None, None, None)
    ended = run is not None and run.finished_at is not None and (state != "cached" or run.exit_code == 0)
    return StageRow(
        stage=stage,
        rows_in=ledger.rows_in,
        rows_out=ledger.rows_out,
        quarantined=ledger.quarantined,
        passed=passed,
        warned=warned,
        failed=failed,
        seconds=run.seconds if run and ended else None,
        state=state,
        started_at=run.started_at if run and (ended or state in ("run", "running", "failed")) else None,
    )
