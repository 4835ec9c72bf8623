"""Manifests: what made a table, beside it as ``data/<table>.manifest.json``; no clock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from weakfish.contracts.record import Rooted, Stored, Time, parse, read
from weakfish.files import write_json

M = TypeVar("M")


@dataclass(frozen=True)
class Made:
    """A labeling function that voted: its module, and the identity of its code and of what it reads."""

    module: str
    identity: str


@dataclass(frozen=True)
class VotesManifest:
    """``data/votes/<task>.manifest.json``: what voted."""

    task: str
    functions: Mapping[str, Made]


@dataclass(frozen=True)
class LabelsManifest:
    """``data/labels/<task>.manifest.json``.

    Attributes
    ----------
    functions
        What voted.
    events
        The SHA-256 of each partition of the events.
    settings, versions
        The task's settings, and the packages behind the labels.
    method, why
        The method of the last model, and why it was chosen.
    models
        Fitted models, as labeling writes them, in the order of their partitions.
    known
        How many labels of each class are known and were evidence; empty in a task without.
    """

    functions: Mapping[str, Made]
    events: Mapping[str, str]
    settings: Mapping[str, Any]
    versions: Mapping[str, str]
    method: str = ""
    task: str = ""
    why: Sequence[str] = ()
    models: Sequence[dict[str, Any]] = ()
    known: Mapping[str, int] = field(default_factory=dict)

    @property
    def classes(self) -> list[str]:
        """The task's classes."""
        return list(self.settings["classes"])


@dataclass(frozen=True)
class FeaturesManifest:
    """``data/features/<view>.manifest.json``.

    Attributes
    ----------
    columns
        The Arrow type of every column, by name.
    partitions
        ``rows`` and ``sha256`` of each.
    as_of
        The last plausible event that the features know (ISO, UTC).
    """

    entity: str
    columns: Mapping[str, str]
    features: Sequence[str]
    data_version: str
    view: str = ""
    rows: int | None = None
    partitions: Mapping[str, Any] = field(default_factory=dict)
    as_of: Time | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    sources: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class TrainingManifest:
    """``data/training/<task>.manifest.json``.

    Attributes
    ----------
    nulls
        Nulls of each feature.
    data, manifests
        The versions of the tables that it was made of, and the hashes of their manifests.
    functions
        The identity of each labeling function.
    known
        How many labels of each class are known, which stand there in place of what votes and reader say.
    """

    task: str = ""
    rows: int | None = None
    nulls: Mapping[str, int] = field(default_factory=dict)
    columns: Mapping[str, str] = field(default_factory=dict)
    data: Mapping[str, str] = field(default_factory=dict)
    manifests: Mapping[str, str] = field(default_factory=dict)
    functions: Mapping[str, str] = field(default_factory=dict)
    label_model: Mapping[str, Any] = field(default_factory=dict)
    feature_service: str | None = None
    views: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    known: Mapping[str, int] = field(default_factory=dict)


def manifest_file(project: Rooted, table: str) -> Path:
    """The manifest of a table: ``labels/<task>``, ``features/<view>``, ``votes/<task>``, ``training/<task>``."""
    return project.root / "data" / f"{table}.manifest.json"


FEATURES = Stored(FeaturesManifest, "data/features", ".manifest.json")
TRAINING = Stored(TrainingManifest, "data/training", ".manifest.json")


def feature_tables(project: Rooted) -> list[str]:
    """The tables of all views that were made: ``features/<view>``."""
    return [f"features/{view}" for view in FEATURES.files(project)]


def read_manifest(project: Rooted, kind: type[M], table: str) -> M:
    """The manifest of a table; raises `TableError` when it is missing, cut off or of another kind."""
    return read(kind, manifest_file(project, table))


def parse_manifest(kind: type[M], content: Any, source: Path | str) -> M:
    """A manifest from JSON content; raises `TableError`."""
    return parse(kind, content, source)


def write_manifest(folder: Path, name: str, manifest: Any) -> None:
    """Write the manifest of table ``name`` beside it in ``folder``, which may be one that is not whole yet."""
    content = asdict(manifest)
    if not content.get("known", True):  # of a task without known labels: as before there were any
        del content["known"]
    if content.get("as_of") is not None:
        content["as_of"] = content["as_of"].isoformat()
    write_json(folder / f"{name}.manifest.json", content)
