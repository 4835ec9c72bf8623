"""Is what the online store holds what the project would publish now? Answered in well under a second, without Feast.

The marker is JSON in the store itself: the version of all that was published, the time that it answers for, and each
view's counts. Whoever loses the data, or asks another server, loses or misses the marker with it.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import redis
import yaml

from weakfish.errors import StoreError, TableError
from weakfish.files import read_json, sha256
from weakfish.project import Project
from weakfish.store import keys

FORMAT = 1
"""Part of every version: raise it when the same tables are to be published in another way."""

COUNTED = 20_000
"""Rows up to which every view's rows are counted in the store; above, only its keys are."""

UNDER_WAY = "under way"


@dataclass(frozen=True)
class Marker:
    """What was published. ``due`` is the time of the first row that was left for later (ISO, UTC)."""

    version: str
    as_of: str
    due: str | None = None
    views: dict[str, dict[str, Any]] = field(default_factory=dict)

    def text(self) -> str:
        """The marker as it stands in the store."""
        return json.dumps(asdict(self), sort_keys=True)


def read_marker(client: redis.Redis, name: str) -> Marker | None:
    """What the store says was published last for a Feast project; None when it says nothing that can be read."""
    found = client.get(keys.marker(name))
    try:
        return Marker(**json.loads(found)) if found else None
    except (ValueError, TypeError):
        return None


def repository(project: Project) -> Path:
    """The folder of the Feast repository."""
    return project.root / "feature_repo"


def settings(project: Project) -> dict[str, Any]:
    """The content of ``feature_store.yaml``; raises `StoreError` when it is missing, malformed or names no project."""
    file = repository(project) / "feature_store.yaml"
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
        name, registry = content["project"], content["registry"]
    except (OSError, yaml.YAMLError, KeyError, TypeError, UnicodeDecodeError) as error:
        reason = (str(error).splitlines() or [""])[0]
        raise StoreError(f"{file} cannot be used: {type(error).__name__} {reason}; correct it there.") from error
    path = registry if isinstance(registry, str) else registry.get("path")
    if not isinstance(name, str) or not isinstance(path, str):
        raise StoreError(f"{file} cannot be used: project and registry.path must be texts; correct it there.")
    return {**content, "registry_file": (repository(project) / path).resolve()}


def manifests(project: Project) -> dict[str, dict[str, Any]]:
    """What each feature table holds, by its name; raises `TableError` when there is none or one lost its files."""
    folder = project.table("features")
    found = {file.name.removesuffix(".manifest.json"): read_json(file) for file in folder.glob("*.manifest.json")}
    if not found:
        raise TableError(f"There is no feature table in {folder}; run `dvc repro`, which makes them.")
    for name, content in sorted(found.items()):
        for partition in content.get("partitions", {}):
            file = folder / name / f"{partition}.parquet"
            if not file.is_file():
                raise TableError(f"{file} is gone, nothing was published; run `dvc repro`, which makes it.")
    return dict(sorted(found.items()))


def as_of(project: Project) -> datetime:
    """The time that the store answers for: as the setting says, ``last`` being the last event that features know."""
    setting = project.params.publish.as_of
    if isinstance(setting, datetime):
        return setting.replace(tzinfo=setting.tzinfo or UTC).astimezone(UTC)
    if setting == "now":
        return datetime.now(UTC)
    times = [datetime.fromisoformat(content["as_of"]) for content in manifests(project).values()]
    return max(time.replace(tzinfo=time.tzinfo or UTC).astimezone(UTC) for time in times)


def expected_version(project: Project) -> str:
    """A hash of all that decides what is published: tables, definitions and settings, but not the clock."""
    parts: dict[str, Any] = {"format": FORMAT, "tables": manifests(project)}
    setting = project.params.publish.as_of
    parts["as_of"] = setting if setting == "now" else as_of(project).isoformat()
    files = [*repository(project).glob("*.py"), *repository(project).glob("*.yaml")]
    parts["files"] = {file.name: sha256(file) for file in sorted(files)}
    return digest(parts)


def digest(content: Any) -> str:
    """The SHA-256 of JSON-like content."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def is_current(project: Project, client: redis.Redis, name: str, marker: Marker | None) -> bool:
    """True when store and registry are what publishing again would make of them."""
    return (
        marker is not None
        and marker.version == expected_version(project)
        and not _is_due(project, marker)
        and registry_is(project, marker.version)
        and holds(client, name, marker)
    )


def holds(client: redis.Redis, name: str, marker: Marker) -> bool:
    """True when the store still has every row that it was given; False while a publication is under way."""
    if not marker.views:
        return False
    found: list[bytes] = list(keys.of_project(client, name))
    by_kind = Counter(keys.join_keys(key, name) for key in found)
    views = marker.views
    expected = {view: content["entities"] for view, content in views.items()}
    if len(found) > COUNTED:
        return all(by_kind[tuple(content["join_keys"])] >= content["entities"] for content in views.values())
    counts: Counter[str] = Counter()
    for batch in keys.batches(found):
        with client.pipeline(transaction=False) as pipe:
            for key in batch:
                pipe.hmget(key, [keys.time_field(view) for view in views])
            for row in pipe.execute():
                counts.update(view for view, time in zip(views, row, strict=True) if time is not None)
    return all(counts[view] == number for view, number in expected.items())


def stamp_file(project: Project) -> Path:
    """The file that says which version the registry was made for."""
    file: Path = settings(project)["registry_file"]
    return file.with_suffix(".json")


def registry_is(project: Project, version: str) -> bool:
    """True when the registry file is the one that was made for this version, byte for byte."""
    try:
        stamp = read_json(stamp_file(project))
        return bool(stamp == {"version": version, "sha256": sha256(settings(project)["registry_file"])})
    except (TableError, OSError):
        return False


def _is_due(project: Project, marker: Marker) -> bool:
    """True when time has come for a row that was left for later; it stands still unless ``as_of`` is now."""
    if project.params.publish.as_of != "now" or marker.due is None:
        return False
    return datetime.fromisoformat(marker.due) <= datetime.now(UTC)
