"""Which data the report is about: every out in ``dvc.lock``, and the git revision that it belongs to."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
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
from weakfish.project.stages import stages_of

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
