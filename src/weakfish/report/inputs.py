"""What there is to report: the records of the last runs, which data they are about, and how far the pipeline got."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import yaml
from pydantic import TypeAdapter, ValidationError

from weakfish.contracts.gate import GATES, Gate
from weakfish.contracts.ledgers import LEDGERS, RUNS, Ledger, Run
from weakfish.contracts.manifests import FEATURES, TRAINING, FeaturesManifest, TrainingManifest
from weakfish.contracts.publications import PUBLICATIONS, Publication
from weakfish.contracts.record import Stored
from weakfish.contracts.reports import LabelsReport, Metrics, ReviewsReport, VotesReport, report_file
from weakfish.contracts.tables import UNDATED
from weakfish.contracts.verdicts import VERDICTS, Verdict
from weakfish.errors import WeakfishError
from weakfish.files import existed
from weakfish.project.freshness import REPORT, Lock, LockedFile, stale_stages
from weakfish.project.git import git_output
from weakfish.project.paths import Project
from weakfish.project.runs import lock_file
from weakfish.project.stages import stage_of, stages_of

if TYPE_CHECKING:
    from weakfish.checks.baseline import AcceptedRevision

T = TypeVar("T")

PLOTS = Stored(list[dict[str, Any]], "reports/plots")

REVISIONS = 20
"""The most accepted revisions that a trend covers."""


@dataclass(frozen=True)
class BaselineTable:
    """One table of the accepted baseline.

    ``through`` is the last accepted partition, None: all that there were; ``profile`` has their rows, and the columns
    as `weakfish.engine.profile.ColumnProfile` writes them; ``rules`` what labels and labeling functions were.
    """

    data_version: str | None = None
    through: str | None = None
    profile: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    rules: Mapping[str, Any] | None = None

    @property
    def columns(self) -> Mapping[str, Any]:
        """The accepted columns, as JSON."""
        return self.profile.get("columns", {})

    def is_new(self, partition: str) -> bool:
        """Whether a partition came after the accepted ones; rows without a time never did."""
        return partition != UNDATED and partition not in self.profile.get("rows", {})


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


@dataclass(frozen=True)
class StageRow:
    """What a stage did last.

    Attributes
    ----------
    state
        ``run``, ``running``, ``cached``, ``stale`` (its outs are about other data or settings than lie there now),
        ``failed``, or ``not run``: the pipeline stopped before it, or it never ran.
    passed, warned, failed
        Checks, for a stage that validates a table: noted ones count as passed, those that quarantined rows as warned.
    started_at
        UTC; None when the stage has no record of a run.
    """

    stage: str
    state: str
    rows_in: int | None = None
    rows_out: int | None = None
    quarantined: int | None = None
    rejected: int | None = None
    passed: int | None = None
    warned: int | None = None
    failed: int | None = None
    seconds: float | None = None
    started_at: datetime | None = None


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
    run: Run | None = None


@dataclass(frozen=True)
class RunRecords:
    """All records below the root of a project; mappings are empty where there are none.

    ``stages`` is in the pipeline's order; ``verdicts``, ``gates`` and ``accepted`` go by table, ``ledgers`` and
    ``runs`` by stage, ``plots`` by file name without suffix, ``features`` by view, ``training`` by task; ``problems``
    says by file why it cannot be read; ``changed`` are stages that DVC knows to be stale.
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
    reviews: ReviewsReport
    metrics: Metrics
    plots: dict[str, list[dict[str, Any]]]
    features: dict[str, FeaturesManifest]
    published: Publication | None
    training: dict[str, TrainingManifest]
    accepted: Mapping[str, BaselineTable]
    problems: dict[str, str]
    changed: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def stop(self) -> Stop | None:
        """The first stage that failed, was killed or is running; a failed verdict stops at the stage of its gate."""
        stops = [stop for stage in self.stages if (stop := self._bad_run(stage))]
        for table, verdict in self.verdicts.items():
            if verdict.verdict == "failed":
                later = list(self.stages)[self.position(validating(table)) + 1 :]
                gate = stage_of("gate", table)
                stage = gate if gate in later else [*later, validating(table)][0]
                stops.append(Stop(stage, self.position(stage), "failed"))
        return min(stops, key=lambda stop: (stop.position, stop.state != "failed", stop.run is None), default=None)

    def position(self, stage: str) -> int:
        """The place of a stage in the pipeline; the end for a stage that is not in it."""
        names = list(self.stages)
        return names.index(stage) if stage in names else len(names)

    @cached_property
    def stale(self) -> dict[str, str]:
        """The stages whose outs are about other data or settings than lie there now, each with why."""
        found = stale_stages(self.root, self.lock, self.runs, self.changed)
        return {stage: found[stage] for stage in self.stages if stage in found}

    def outdated(self, stage: str) -> bool:
        """Whether the outs of a stage are from an earlier run: stale, or the pipeline stopped there or before it."""
        stopped = self.stop is not None and stage in self.stages and self.position(stage) >= self.stop.position
        return stopped or stage in self.stale

    @cached_property
    def name(self) -> str:
        """What the project is called: in Feast, or as its folder."""
        try:
            settings = yaml.safe_load((self.root / "feature_repo/feature_store.yaml").read_text(encoding="utf-8"))
            return str(settings["project"])
        except (OSError, ValueError, TypeError, KeyError, yaml.YAMLError):
            return self.root.resolve().name

    @property
    def ran(self) -> list[str]:
        """The stages of the pipeline that ran to the end; to render this page does not count."""
        return [
            name for name, run in self.runs.items() if name in self.stages and run.exit_code == 0 and name != REPORT
        ]

    @property
    def ended_at(self) -> datetime | None:
        """When the last stage ended, or began if it did not end; UTC."""
        return max((run.finished_at or run.started_at for run in self.runs.values()), default=None)

    @cached_property
    def tally(self) -> tuple[int, int, int]:
        """Tables with a verdict of this run, their checks that passed, and all of them.

        Checks that only note a difference count as passed, those that quarantined rows do not.
        """
        counts = [count_checks(of) for table, of in self.verdicts.items() if not self.outdated(validating(table))]
        return len(counts), sum(passed for passed, _, _ in counts), sum(map(sum, counts))

    def rows(self, since: datetime | None = None) -> list[StageRow]:
        """One row per stage, in the pipeline's order; a stage that ran before ``since`` (UTC) counts as cached."""
        validated = {validating(table): verdict for table, verdict in self.verdicts.items()}
        return [self._row(stage, self._state(stage, since), validated.get(stage)) for stage in self.stages]

    def pending(self) -> list[str]:
        """The stages that have not run although the pipeline did not stop before them; the report does not count."""
        return [row.stage for row in self.rows() if row.state == "not run" and row.stage != REPORT]

    def versions(self) -> list[Version]:
        """One line per out, in the pipeline's order."""
        committed = self._committed()
        return [
            Version(stage, out.path, (out.md5 or "").removesuffix(".dir")[:8], out.size, out.nfiles, change)
            for stage in self.stages
            for out in self._outs(stage)
            for change in [None if committed is None else _change(out, committed)]
        ]

    def revision(self) -> str | None:
        """The short git revision, with ``+`` when tracked files differ from it; None outside of git."""
        commit = git_output(self.root, "rev-parse", "--short", "HEAD")
        if commit is None:
            return None
        return commit.strip() + ("+" if git_output(self.root, "status", "--porcelain", "--untracked-files=no") else "")

    def history(self) -> Sequence[AcceptedRevision]:
        """The last revisions that accepted a baseline, oldest first; none outside of git."""
        from weakfish.checks.baseline import revisions

        try:
            return revisions(Project(self.root), limit=REVISIONS)
        except WeakfishError:  # the page shows what there is
            return []

    def _committed(self) -> dict[str, str | None] | None:
        """The MD5 of each out in the last commit; None where there is none."""
        text = git_output(self.root, "show", "HEAD:./dvc.lock")
        try:
            lock = TypeAdapter(Lock).validate_python(yaml.safe_load(text)) if text else None
        except (yaml.YAMLError, ValidationError):
            return None
        return {out.path: out.md5 for stage in lock.stages.values() for out in stage.outs} if lock else None

    def _outs(self, stage: str) -> Sequence[LockedFile]:
        return self.lock.stages[stage].outs if stage in self.lock.stages else ()

    def _bad_run(self, stage: str) -> Stop | None:
        run = self.runs.get(stage)
        if run is None or run.exit_code == 0 or stage == REPORT:
            return None
        # DVC may have restored the stage's outs from its cache since, which leaves no record of a run.
        ended = (run.finished_at or run.started_at).timestamp()
        files = [self.root / out.path for out in self._outs(stage)]
        if files and all(os.path.lexists(file) and file.lstat().st_ctime > ended for file in files):
            return None
        state = "running" if run.exit_code is None and self._is_running(stage) else "failed"
        return Stop(stage, self.position(stage), state, run)

    def _is_running(self, stage: str) -> bool:
        file = lock_file(Project(self.root), stage)
        try:
            return existed(int(file.read_text()), file.stat().st_mtime)
        except (OSError, ValueError):
            return False

    def _state(self, stage: str, since: datetime | None) -> str:
        run = self.runs.get(stage)
        if self.stop and self.stop.position <= self.position(stage) < len(self.stages):
            return self.stop.state if stage == self.stop.stage else "not run"
        if stage == REPORT:
            return "run"  # whoever reads this reads it on the page, or beside it
        if stage in self.stale:
            return "stale"
        if run is None:
            outs = self._outs(stage)
            return "cached" if outs and all((self.root / out.path).exists() for out in outs) else "not run"
        restored = run.exit_code != 0
        return "cached" if restored or (since and run.started_at < since) else "run"

    def _row(self, stage: str, state: str, verdict: Verdict | None) -> StageRow:
        if state == "not run":
            return StageRow(stage, state)
        run = self.runs.get(stage)
        ledger = self.ledgers.get(stage) or Ledger(stage, rows_in=verdict.rows if verdict else None)
        passed, warned, failed = count_checks(verdict) if verdict else (None, None, None)
        ended = run is not None and run.finished_at is not None and (state != "cached" or run.exit_code == 0)
        return StageRow(
            stage,
            state,
            ledger.rows_in,
            ledger.rows_out,
            ledger.quarantined,
            ledger.rejected,
            passed,
            warned,
            failed,
            seconds=run.seconds if run and ended else None,
            started_at=run.started_at if run and (ended or state != "cached") else None,
        )


def _change(out: LockedFile, committed: Mapping[str, str | None]) -> str:
    if out.path not in committed:
        return "new"
    return "same" if committed[out.path] == out.md5 else "changed"


def validating(table: str) -> str:
    """The stage that validates a table."""
    return stage_of("validate", table)


def count_checks(verdict: Verdict) -> tuple[int, int, int]:
    """Checks of a verdict that passed, warned and failed."""
    counts = verdict.counts
    return counts["passed"] + counts["noted"], counts["warned"], counts["failed"]


def read(root: Path, changed: Mapping[str, str] | None = None) -> RunRecords:
    """Read everything there is below ``root``; never raises for a file that is missing, cut off or malformed.

    ``changed`` are stages that DVC knows to be stale, with why: code is compared by nobody else.
    """
    project, problems = Project(root), dict[str, str]()

    def one(file: Path, shape: type[T]) -> T | None:
        try:
            text = file.read_text(encoding="utf-8")
            content = json.loads(text) if file.suffix == ".json" else yaml.safe_load(text)
            return TypeAdapter(shape).validate_python(content)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
            problems[file.relative_to(root).as_posix()] = _reason(error)
            return None

    def every(records: Stored[T]) -> dict[str, T]:
        found = {name: one(file, records.kind) for name, file in records.files(project).items()}
        return {name: content for name, content in found.items() if content is not None}

    runs = {run.stage: run for run in every(RUNS).values()}
    stages = stages_of(root) if one(root / "dvc.yaml", dict[str, Any]) else {}
    accepted = one(project.baseline, dict[str, dict[str, BaselineTable]]) or {}
    return RunRecords(
        root=root,
        stages=stages or dict.fromkeys(sorted(runs, key=lambda stage: runs[stage].started_at)),
        lock=one(root / "dvc.lock", Lock) or Lock(),
        verdicts=every(VERDICTS),
        ledgers=every(LEDGERS),
        runs=runs,
        gates=every(GATES),
        labels=one(report_file(project, LabelsReport), LabelsReport) or LabelsReport(tasks={}),
        votes=one(report_file(project, VotesReport), VotesReport) or VotesReport(),
        reviews=one(report_file(project, ReviewsReport), ReviewsReport) or ReviewsReport(),
        metrics=one(report_file(project, Metrics), Metrics) or Metrics(tasks={}),
        plots=every(PLOTS),
        features=every(FEATURES),
        published=one(PUBLICATIONS.file(project, "publish"), Publication),
        training=every(TRAINING),
        accepted=accepted.get("tables", {}),
        problems=problems,
        changed=changed or {},
    )


def _reason(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the file"
        return f"it does not have the expected shape: {place}: {first['msg']}"
    if isinstance(error, OSError):
        return error.strerror or "it cannot be opened"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    return f"it is cut off or malformed: {' '.join(str(error).split())}"
