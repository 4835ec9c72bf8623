"""What the online store answers, through Feast's SDK: values, statuses, event times and ages of an entity."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import redis
from feast import FeatureStore, FeatureView
from feast.protos.feast.serving.ServingService_pb2 import FieldStatus

from weakfish.errors import StoreError, UnknownName, UserError, WeakfishError
from weakfish.project import Project
from weakfish.store.address import explained
from weakfish.store.probe import Marker, repository, settings
from weakfish.store.registry import quiet, views
from weakfish.store.server import resolve

FOUND, NOT_FOUND = "PRESENT", "NOT_FOUND"


def read_entities(project: Project, entities: Mapping[str, str], marker: Marker | None) -> dict[str, dict[str, Any]]:
    """The rows of all views that the given join keys reach, by view.

    Each is ``{"entity", "status", "event_timestamp", "age_seconds", "values"}``; the age counts from the row's event
    time to the time that the store answers for. ``status`` is NOT_FOUND, with no values, for an entity that is not
    there.

    Raises
    ------
    UnknownName
        When a join key is in no view.
    StoreError
        When the store cannot be reached, or nothing was published yet.
    """
    with quiet(), explained(resolve(project)):
        store = _open(project)
        served = views(store)
        known = {key for view in served for key in view.join_keys}
        for key in entities:
            if key not in known:
                raise UnknownName("entity", key, known, "the feature views")
        reached = [view for view in served if set(view.join_keys) <= set(entities)]
        if not reached:
            raise UserError(f"No view is keyed by {', '.join(entities)} alone; name its other keys too.")
        return {str(view.name): _row(project, store, view, entities, marker) for view in reached}


def _open(project: Project) -> FeatureStore:
    file: Path = settings(project)["registry_file"]
    if not file.exists():
        raise StoreError(f"{file} does not exist, so nothing was published yet; run `weakfish publish`.")
    try:
        store = FeatureStore(repo_path=str(repository(project)))
        store.list_feature_views()
    except (WeakfishError, redis.RedisError):
        raise
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise StoreError(f"{file} is no registry that Feast can read ({reason}); run `weakfish publish`.") from error
    return store


def _row(
    project: Project, store: FeatureStore, view: FeatureView, entities: Mapping[str, str], marker: Marker | None
) -> dict[str, Any]:
    keys = {key: entities[key] for key in view.join_keys}
    names = [feature.name for feature in view.features]
    response = store.get_online_features([f"{view.name}:{name}" for name in names], [keys])
    proto = response.proto
    results = dict(zip(proto.metadata.feature_names.val, proto.results, strict=True))
    one = results[names[0]]
    if one.statuses[0] == FieldStatus.NOT_FOUND:
        return {"entity": keys, "status": NOT_FOUND, "event_timestamp": None, "age_seconds": None, "values": {}}
    time = one.event_timestamps[0].ToDatetime(UTC)
    values = {name: values[0] for name, values in response.to_dict().items() if name in names}
    return {
        "entity": keys,
        "status": FieldStatus.Name(one.statuses[0]),
        "event_timestamp": time.isoformat(),
        "age_seconds": (_clock(project, marker) - time).total_seconds(),
        "values": {name: _plain(values[name]) for name in names},
    }


def _clock(project: Project, marker: Marker | None) -> datetime:
    if marker is None or not marker.as_of or project.params.publish.as_of == "now":
        return datetime.now(UTC)
    return datetime.fromisoformat(marker.as_of)


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).astimezone(UTC).isoformat()
    return value
