"""What the online store answers, through Feast's SDK: values, statuses, event times and ages of an entity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import weakfish.feast.adapter  # noqa: F401 - first: it makes the import of Feast cheap

from feast import FeatureStore, FeatureView
from feast.protos.feast.serving.ServingService_pb2 import FieldStatus

from weakfish.contracts.publications import Marker
from weakfish.errors import UnknownName, UserError
from weakfish.feast.clients import explained
from weakfish.feast.registry import open_store, quiet, views
from weakfish.feast.server import resolve
from weakfish.project.paths import Project

NOT_FOUND = "NOT_FOUND"


def read_entities(project: Project, entities: Mapping[str, str], marker: Marker | None) -> dict[str, dict[str, Any]]:
    """The rows of all views that the given join keys reach, by view.

    Each is ``{"entity", "status", "event_timestamp", "age_seconds", "values"}``; the age counts from the row's event
    time to the time that the store answers for. ``status`` is NOT_FOUND, with no values, for an entity that is not
    there, and OUTSIDE_MAX_AGE, with nulls, for a row beyond its view's time to live.

    Raises
    ------
    UnknownName
        When a join key is in no view.
    StoreError
        When the store cannot be reached, or nothing was published yet.
    """
    with quiet(), explained(resolve(project)):
        store = open_store(project)
        served = views(store)
        known = {key for view in served for key in view.join_keys}
        for key in entities:
            if key not in known:
                raise UnknownName("entity", key, known, "the feature views")
        reached = [view for view in served if set(view.join_keys) <= set(entities)]
        if not reached:
            raise UserError(f"No view is keyed by {', '.join(entities)} alone; name its other keys too.")
        return _rows(store, reached, entities, _clock(project, marker))


def _rows(
    store: FeatureStore, reached: Sequence[FeatureView], entities: Mapping[str, str], now: datetime
) -> dict[str, dict[str, Any]]:
    """The rows of views, all read in one request."""
    asked = {key: [entities[key]] for view in reached for key in view.join_keys}
    references = [f"{view.name}:{feature.name}" for view in reached for feature in view.features]
    response = store.get_online_features(references, asked, full_feature_names=True)
    results = dict(zip(response.proto.metadata.feature_names.val, response.proto.results, strict=True))
    values = response.to_dict()
    rows = {}
    for view in reached:
        named = {feature.name: f"{view.name}__{feature.name}" for feature in view.features}
        one = results[next(iter(named.values()))]
        keys = {key: entities[key] for key in view.join_keys}
        shown = {name: _plain(values[column][0]) for name, column in named.items()}
        rows[str(view.name)] = _row(keys, one.statuses[0], one.event_timestamps[0].ToDatetime(UTC), shown, now)
    return rows


def _row(keys: dict[str, str], status: int, time: datetime, values: dict[str, Any], now: datetime) -> dict[str, Any]:
    if status == FieldStatus.NOT_FOUND:
        return {"entity": keys, "status": NOT_FOUND, "event_timestamp": None, "age_seconds": None, "values": {}}
    return {
        "entity": keys,
        "status": FieldStatus.Name(status),
        "event_timestamp": time.isoformat(),
        "age_seconds": (now - time).total_seconds(),
        "values": values,
    }


def _clock(project: Project, marker: Marker | None) -> datetime:
    if marker is None or not marker.as_of or project.params.publish.as_of == "now":
        return datetime.now(UTC)
    return datetime.fromisoformat(marker.as_of)


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).astimezone(UTC).isoformat()
    return value
