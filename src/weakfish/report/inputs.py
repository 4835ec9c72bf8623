"""What there is to report: the records of the last runs, which data they are about, and how far the pipeline got."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import yaml
from pydantic import TypeAdapter, ValidationError

from weakfish.contracts.gate import Gate
from weakfish.contracts.ledgers import Ledger, Run
from weakfish.contracts.manifests import FeaturesManifest, TrainingManifest
from weakfish.contracts.publications import Publication
from weakfish.contracts.reports import LabelsReport, Metrics, VotesReport
from weakfish.contracts.verdicts import Verdict
from weakfish.errors import WeakfishError
from weakfish.project.git import git_output
from weakfish.project.paths import Project
from weakfish.project.runs import lock_file
from weakfish.project.stages import stage_of, stages_of

if TYPE_CHECKING:
    from weakfish.checks.baseline import Accepted


@dataclass(frozen=True)
class LockedOut:
    """One out of a stage in ``dvc.lock``."""

    path: str
    md5: str | None = None
    size: int | None = None
    nfiles: int | None = None


@dataclass(frozen=True)
class LockedStage:
    """One stage of ``dvc.lock``."""

    outs: Sequence[LockedOut] = ()


@dataclass(frozen=True)
class Lock:
    """``dvc.lock``."""

    stages: Mapping[str, LockedStage] = field(default_factory=dict)


@dataclass(frozen=True)
class AcceptedTable:
    """One table of the accepted baseline; ``through`` is the last accepted partition, None: all that there were."""

    data_version: str | None = None
    through: str | None = None


@dataclass(frozen=True)
class AcceptedTables:
    """``validation/baseline.json``, of which the page tells what was accepted, by table."""

    tables: Mapping[str, AcceptedTable] = field(default_factory=dict)


@dataclass(frozen=True)
class Version:
    """The version of one out; ``change`` since git's last commit: ``same``, ``changed``, ``new``, None if unknown."""

    stage: str
    path: str
    md5: str
    size: int | None
    files: int | None
    change: str | None

    @property
    def is_data(self) -> bool:
        """Whether it is data, not a report on data."""
        return not self.path.startswith("reports/")


def versions(inputs: Inputs) -> list[Version]:
    """One line per out, in the pipeline's order."""
    committed = _committed(inputs.root)
    order = [stage for stage in inputs.stages if stage in inputs.lock.stages]
    return [_version(stage, out, committed) for stage in order for out in inputs.lock.stages[stage].outs]


def revision(root: Path) -> str | None:
    """The short git revision, with ``+`` when tracked files differ from it; None outside of git."""
    commit = git_output(root, "rev-parse", "--short", "HEAD")
    if commit is None:
        return None
    return commit.strip() + ("+" if git_output(root, "status", "--porcelain", "--untracked-files=no") else "")


def _version(stage: str, out: LockedOut, committed: dict[str, str | None] | None) -> Version:
    change = None
    if committed is not None:
        change = "new" if out.path not in committed else "same" if committed[out.path] == out.md5 else "changed"
    return Version(stage, out.path, (out.md5 or "").removesuffix(".dir")[:8], out.size, out.nfiles, change)


def _committed(root: Path) -> dict[str, str | None] | None:
    text = git_output(root, "show", "HEAD:./dvc.lock")
    try:
        lock = TypeAdapter(Lock).validate_python(yaml.safe_load(text)) if text else None
    except (yaml.YAMLError, ValidationError):
        return None
    return {out.path: out.md5 for stage in lock.stages.values() for out in stage.outs} if lock else None


LIMIT = 20
"""Accepted revisions that trends go back, at most."""


def accepted_revisions(root: Path) -> Sequence[Accepted]:
    """The last revisions that accepted a baseline, oldest first; none outside of git."""
    from weakfish.checks.baseline import revisions

    try:
        return revisions(Project(root), limit=LIMIT)
    except WeakfishError:  # a page is made of whatever there is
        return []


def accepting(table: str, history: Sequence[Accepted]) -> Accepted | None:
    """The revision that last accepted this data of a table, not a later one that only kept it."""
    found: Accepted | None = None
    for revision in reversed(history):
        entry = revision.tables.get(table)
        if entry is None or (found and entry.data_version != found.tables[table].data_version):
            break
        found = revision
    return found


T = TypeVar("T")

MANIFEST = ".manifest.json"

Points = list[dict[str, Any]]
"""The content of a plot file: flat records."""


@dataclass(frozen=True)
class Problem:
    """A file that is there and cannot be read."""

    file: str
    reason: str


@dataclass(frozen=True)
class Inputs:
    """What there is to report; mappings are empty where nothing is.

    ``stages`` is in the pipeline's order; ``verdicts`` and ``gates`` go by table, ``ledgers`` and ``runs`` by stage,
    ``plots`` by file name without suffix, ``features`` by view, ``training`` by task.
    """

    root: Path
    stages: Mapping[str, str | None]
    lock: Lock
    verdicts: dict[str, Verdict]
    ledgers: dict[str, Ledger]
    runs: dict[str, Run]
    gates: dict[str, Gate]
    labels: LabelsReport
    votes: VotesReport
    metrics: Metrics
    plots: dict[str, Points]
    features: dict[str, FeaturesManifest]
    published: Publication | None
    training: dict[str, TrainingManifest]
    accepted: AcceptedTables
    problems: tuple[Problem, ...]


def read(root: Path) -> Inputs:
    """Read everything there is below ``root``; never raises for a file that is missing, cut off or misshapen."""
    reader = _Reader(root)
    runs = reader.folder(".weakfish/runs", Run)
    stages = stages_of(root) if reader.file("dvc.yaml", dict[str, Any]) else {}
    by_start = sorted(runs, key=lambda stage: runs[stage].started_at)
    return Inputs(
        root=root,
        stages=stages or dict.fromkeys(by_start),
        lock=reader.file("dvc.lock", Lock) or Lock(),
        verdicts=reader.folder("reports/validation", Verdict),
        ledgers=reader.folder("reports/ledger", Ledger),
        runs=runs,
        gates=reader.folder("reports/gates", Gate),
        labels=reader.file("reports/labeling_functions.json", LabelsReport) or LabelsReport(tasks={}),
        votes=reader.file("reports/votes.json", VotesReport) or VotesReport(),
        metrics=reader.file("reports/metrics.json", Metrics) or Metrics(tasks={}),
        plots=reader.folder("reports/plots", Points),
        features=reader.manifests("data/features", FeaturesManifest),
        published=reader.file("reports/publish.json", Publication),
        training=reader.manifests("data/training", TrainingManifest),
        accepted=reader.file("validation/baseline.json", AcceptedTables) or AcceptedTables(),
        problems=tuple(reader.problems),
    )


class _Reader:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.problems: list[Problem] = []

    def folder(self, folder: str, shape: type[T]) -> dict[str, T]:
        """All JSON files below a folder, by path without suffix, in order."""
        base = self.root / folder
        files = sorted(file for file in base.rglob("*.json") if not file.name.startswith("."))
        read = {file.relative_to(base).with_suffix("").as_posix(): self._read(file, shape) for file in files}
        return {name: content for name, content in read.items() if content is not None}

    def manifests(self, folder: str, shape: type[T]) -> dict[str, T]:
        """The manifests in a folder, by the table that each is about."""
        files = sorted((self.root / folder).glob(f"*{MANIFEST}"))
        read = {file.name.removesuffix(MANIFEST): self._read(file, shape) for file in files}
        return {name: content for name, content in read.items() if content is not None}

    def file(self, file: str, shape: type[T]) -> T | None:
        return self._read(self.root / file, shape)

    def _read(self, file: Path, shape: type[T]) -> T | None:
        try:
            text = file.read_text(encoding="utf-8")
            content = json.loads(text) if file.suffix == ".json" else yaml.safe_load(text)
            return TypeAdapter(shape).validate_python(content)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
            self.problems.append(Problem(file.relative_to(self.root).as_posix(), _reason(error)))
            return None


def _reason(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the whole of it"
        return f"it has not the shape that it should: {place}: {first['msg']}"
    if isinstance(error, OSError):
        return error.strerror or "it cannot be opened"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    return f"it is cut off or malformed: {' '.join(str(error).split())}"


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
