"""Projects to measure the store on: one feature table, one registry, and a Feast repository for each side.

``feature_repo/`` names our engines by class path, ``plain/`` Feast's own; all else is the same in both.
"""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import yaml

from benchmarks.process import REPOSITORY
from benchmarks.store_data import FEATURES, KEY
from weakfish.files import sha256, write_json

PROJECT = "bench"
VIEW = "account_stats"
SERVICE = "bench_v1"
TTL = timedelta(days=30)
"""Of every view: longer than any row online is old; offline it ends what is known of accounts that ended."""

DEFINITIONS = f"""
    from datetime import timedelta
    from pathlib import Path

    from feast import Entity, FeatureService, FeatureView, ValueType

    from weakfish.project.paths import Project
    from weakfish.feast.definitions import view_schema, view_source

    here = Project.find(Path(__file__).parent)
    account = Entity(name="{KEY}", value_type=ValueType.STRING)
    view = FeatureView(
        name="{VIEW}", entities=[account], ttl=timedelta(days={TTL.days}),
        schema=view_schema(here, "{VIEW}"), source=view_source(here, "{VIEW}"),
    )
    service = FeatureService(name="{SERVICE}", features=[view])
"""

VIEWS, WIDE = 25, "wide_v1"
WIDE_DEFINITIONS = f"""
    views = [
        FeatureView(
            name=f"{VIEW}_{{number}}", entities=[account], ttl=timedelta(days={TTL.days}),
            schema=view_schema(here, "{VIEW}"), source=view_source(here, "{VIEW}"),
        )
        for number in range({VIEWS})
    ]
    globals().update({{one.name: one for one in views}})
    wide = FeatureService(name="{WIDE}", features=views)
"""
"""Further views of the same table, and a service of all of them."""

OURS = {
    "offline_store": {"type": "weakfish.feast.offline.AsOfOfflineStore"},
    "online_store": {"type": "weakfish.feast.online.ProjectRedisOnlineStore"},
    "batch_engine": {"type": "weakfish.feast.materialize.ColumnarComputeEngine"},
}


@dataclass(frozen=True)
class StoreProject:
    """A project on disk; ``offline`` are settings of our offline store."""

    root: Path
    offline: dict[str, str]

    @property
    def table(self) -> Path:
        """The folder of the feature table."""
        return self.root / "data/features" / VIEW

    @property
    def ours(self) -> str:
        """The Feast repository with our engines."""
        return str(self.root / "feature_repo")

    @property
    def plain(self) -> str:
        """The Feast repository with Feast's own."""
        return str(self.root / "plain")


def make(
    root: Path, features: Sequence[str] = FEATURES, offline: Mapping[str, str] | None = None, *, wide: bool = False
) -> StoreProject:
    """A project around the feature table that stands in ``root``, with both repositories, not yet applied.

    ``offline`` are settings of our offline store; ``wide`` adds `VIEWS` views and their service.
    """
    project = StoreProject(root, dict(offline or {}))
    params = yaml.safe_load((REPOSITORY / "params.yaml").read_text(encoding="utf-8")) | {"publish": {"as_of": "now"}}
    (root / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    (root / "dvc.yaml").write_text("stages: {}\n", encoding="utf-8")
    (root / "feature_repo").mkdir()
    definitions = textwrap.dedent(DEFINITIONS + (WIDE_DEFINITIONS if wide else ""))
    (root / "feature_repo/definitions.py").write_text(definitions, encoding="utf-8")
    _manifest(project, features)
    settings(project, 0)
    return project


def settings(project: StoreProject, port: int) -> None:
    """Write ``feature_store.yaml`` of both repositories; Feast's own names the server's port."""
    plain = {
        "offline_store": {"type": "duckdb"},
        "online_store": {"type": "redis", "connection_string": f"127.0.0.1:{port}"},
        "batch_engine": {"type": "local"},
    }
    ours = {**OURS, "offline_store": OURS["offline_store"] | project.offline}
    for folder, engines in (("feature_repo", ours), ("plain", plain)):
        content: dict[str, Any] = {
            "project": PROJECT,
            "provider": "local",
            "registry": {"path": f"../data/registry/{folder}.db", "cache_ttl_seconds": 60},
            **engines,
            "entity_key_serialization_version": 3,
        }
        (project.root / folder).mkdir(exist_ok=True)
        (project.root / folder / "feature_store.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")


def apply(project: str) -> None:
    """Let plain Feast make the registry of the project in this folder, and give our repository the same one."""
    import runpy
    import sys

    from feast import Entity, FeatureService, FeatureStore, FeatureView

    root = Path(project)
    sys.path.insert(0, project)
    found = runpy.run_path(str(root / "feature_repo/definitions.py")).values()
    objects = [value for value in found if isinstance(value, (Entity, FeatureView, FeatureService))]
    FeatureStore(repo_path=str(root / "plain")).apply(objects)
    registry = root / "data/registry"
    shutil.copy(registry / "plain.db", registry / "feature_repo.db")


def _manifest(project: StoreProject, features: Sequence[str]) -> None:
    files = sorted(project.table.glob("*.parquet"))
    schema = pq.read_schema(files[0])
    partitions = {file.stem: {"sha256": sha256(file)} for file in files}
    content = {
        "view": VIEW,
        "entity": KEY,
        "columns": {field.name: str(field.type) for field in schema},
        "features": list(features),
        "partitions": partitions,
        "data_version": "-".join(part["sha256"] for part in partitions.values()),
    }
    write_json(project.root / f"data/features/{VIEW}.manifest.json", content)
