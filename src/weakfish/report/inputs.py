"""Reads all that a report is made of, below a project's root; what cannot be read becomes a `Problem`, no error."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import TypeAdapter, ValidationError

from weakfish.report.feature_records import FeatureTable, Published, TrainingSet
from weakfish.report.label_records import Labels, VotesReport
from weakfish.report.records import Accepted, Gate, Ledger, Lock, Metrics, Pipeline, Run, Stage, Verdict

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
    stages: dict[str, Stage]
    lock: Lock
    verdicts: dict[str, Verdict]
    ledgers: dict[str, Ledger]
    runs: dict[str, Run]
    gates: dict[str, Gate]
    labels: Labels
    votes: VotesReport
    metrics: Metrics
    plots: dict[str, Points]
    features: dict[str, FeatureTable]
    published: Published | None
    training: dict[str, TrainingSet]
    accepted: Accepted
    problems: tuple[Problem, ...]


def read(root: Path) -> Inputs:
    """Read everything there is below ``root``; never raises for a file that is missing, cut off or misshapen."""
    reader = _Reader(root)
    runs = reader.folder(".weakfish/runs", Run)
    pipeline = reader.file("dvc.yaml", Pipeline) or Pipeline()
    by_start = sorted(runs, key=lambda stage: runs[stage].started_at)
    return Inputs(
        root=root,
        stages=pipeline.stages or {stage: Stage() for stage in by_start},
        lock=reader.file("dvc.lock", Lock) or Lock(),
        verdicts=reader.folder("reports/validation", Verdict),
        ledgers=reader.folder("reports/ledger", Ledger),
        runs=runs,
        gates=reader.folder("reports/gates", Gate),
        labels=reader.file("reports/labeling_functions.json", Labels) or Labels(tasks={}),
        votes=reader.file("reports/votes.json", VotesReport) or VotesReport(),
        metrics=reader.file("reports/metrics.json", Metrics) or Metrics(tasks={}),
        plots=reader.folder("reports/plots", Points),
        features=reader.manifests("data/features", FeatureTable),
        published=reader.file("reports/publish.json", Published),
        training=reader.manifests("data/training", TrainingSet),
        accepted=reader.file("validation/baseline.json", Accepted) or Accepted(),
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
