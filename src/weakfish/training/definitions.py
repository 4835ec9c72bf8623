"""The Feast definitions of a project as a store to read history from, with a registry of its own.

What ``feature_repo/definitions.py`` says goes into a registry in a temporary folder: training needs neither the online
store nor anything that was applied before, and never sees definitions of another version.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from weakfish.errors import TrainingError, UnknownName
from weakfish.project import Project

if TYPE_CHECKING:
    from feast import FeatureService, FeatureStore

WHERE = "feature_repo/definitions.py"

LONGEST = 300
"""Characters of a library's message that are repeated in ours."""


@contextmanager
def historical_store(project: Project) -> Iterator[FeatureStore]:
    """A Feast store that knows the project's definitions and has no online store.

    Raises
    ------
    TrainingError
        When Feast refuses the definitions or ``feature_store.yaml``.
    UserError
        When the definitions cannot be imported, or hand labels out as features.
    """
    from feast import FeatureStore, RepoConfig
    from feast.repo_config import load_repo_config

    from weakfish.store.refusals import refuse_registry
    from weakfish.store.registry import definitions, quiet

    objects = definitions(project)
    repo = project.root / "feature_repo"
    with tempfile.TemporaryDirectory(prefix="weakfish-registry-") as folder, quiet():
        try:
            configured = load_repo_config(repo, repo / "feature_store.yaml")
            store = FeatureStore(
                config=RepoConfig(
                    project=configured.project,
                    provider=configured.provider,
                    registry=str(Path(folder) / "registry.db"),
                    offline_store=configured.offline_config,
                    online_store=None,
                    entity_key_serialization_version=configured.entity_key_serialization_version,
                    repo_path=repo,
                )
            )
            store.apply(objects)
        except Exception as error:
            raise TrainingError(f"Feast does not accept feature_repo ({reason(error)}); correct it there.") from error
        refuse_registry(store, project.root)
        yield store


def feature_service(store: FeatureStore, name: str, task: str) -> FeatureService:
    """The feature service of a task; raises `UnknownName` with those that there are."""
    known = {service.name: service for service in store.list_feature_services()}
    if name not in known:
        raise UnknownName(f"feature service (tasks.{task}.feature_service, by default {task}_v1)", name, known, WHERE)
    return known[name]


def views(store: FeatureStore, service: FeatureService) -> tuple[list[Any], list[Any]]:
    """The feature views of a service, and its on-demand views, in the service's order."""
    from feast.on_demand_feature_view import OnDemandFeatureView

    stored: list[Any] = []
    on_demand: list[Any] = []
    for projection in service.feature_view_projections:
        view = store.registry.get_any_feature_view(projection.name, store.project).with_projection(projection)
        (on_demand if isinstance(view, OnDemandFeatureView) else stored).append(view)
    return stored, on_demand


def implied(store: FeatureStore, on_demand: list[Any]) -> list[Any]:
    """The feature views from which on-demand views are computed."""
    names = {projection.name for view in on_demand for projection in view.source_feature_view_projections.values()}
    return [store.registry.get_any_feature_view(name, store.project) for name in sorted(names)]


def version(view: Any) -> str:
    """A hash of what a view is: entities, features and their types, time to live, and its function's source."""
    transformation = getattr(view, "feature_transformation", None)
    said = {
        "name": view.name,
        "entities": sorted(getattr(view, "join_keys", [])),
        "features": [[field.name, str(field.dtype)] for field in view.features],
        "ttl": str(getattr(view, "ttl", None)),
        "source": getattr(transformation, "udf_string", None),
    }
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def reason(error: Exception) -> str:
    """What a library says went wrong, on one line, without what it goes on to say after that."""
    said = " ".join(str(error).split()).rstrip(".")
    cut = said if len(said) <= LONGEST else f"{said[:LONGEST]}..."
    return f"{type(error).__name__}: {cut}" if cut else type(error).__name__
