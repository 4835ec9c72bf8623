"""One publication from begin to end: a new registry, rows of the views that changed, one commit."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import redis
from feast import FeatureStore, FeatureView

from weakfish.errors import UserError
from weakfish.project import Project
from weakfish.runs import Progress
from weakfish.store import probe
from weakfish.store.claim import Claim
from weakfish.store.online import ProjectRedisOnlineStore
from weakfish.store.probe import Marker
from weakfish.store.registry import materialized, new_registry, quiet, replaced, views
from weakfish.store.transaction import Transaction
from weakfish.store.views import EVENT_TIME, manifest
from weakfish.tables import partitions, read_partition

BEGINNING = datetime(1900, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Extent:
    """How far a view's table has got at a time: its rows until then, the last of them, and the first to come."""

    rows: int
    last: datetime | None
    due: datetime | None


def publication(project: Project, client: redis.Redis, name: str, claim: Claim) -> Marker:
    """Publish what changed since the marker in the store was written; returns the new marker."""
    until, version = probe.as_of(project), probe.expected_version(project)
    marker = probe.read_marker(client, name)
    intact = marker is not None and probe.holds(client, name, marker)
    before = marker.views if marker is not None and intact else {}
    with new_registry(project) as store:
        transaction = Transaction(client, name, claim)
        _online_store(store).sink = transaction.add
        found, dues, kept = {}, [], []
        served = views(store)
        for view in served:
            extent = _extent(project, view, until)
            found[view.name] = _description(project, view, extent)
            dues += [extent.due] if extent.due else []
            if found[view.name]["version"] == before.get(view.name, {}).get("version"):
                kept.append(view.name)
                with quiet():
                    store.registry.apply_materialization(view, name, BEGINNING, until)
            else:
                progress = Progress(f"publish {view.name}, feature rows", extent.rows)
                materialized(store, view, BEGINNING, until)
                progress.add(extent.rows)
            entities = len(transaction.written[view.name])
            found[view.name]["entities"] = before[view.name]["entities"] if view.name in kept else entities
        transaction.remove_all_but(served, kept)
        due = min(dues).isoformat() if dues else None
        marker = Marker(version, until.isoformat(), due, found)
        with replaced(project, store, version):
            transaction.commit(marker)
    return marker


def _online_store(store: FeatureStore) -> ProjectRedisOnlineStore:
    online = store._get_provider().online_store
    if not isinstance(online, ProjectRedisOnlineStore):
        raise UserError(
            "feature_store.yaml names another online store; let online_store.type be "
            f"{ProjectRedisOnlineStore.__module__}.{ProjectRedisOnlineStore.__name__}."
        )
    return online


def _description(project: Project, view: FeatureView, extent: Extent) -> dict[str, Any]:
    """What the marker and the report say of a view; its version changes when its rows or its fields do."""
    table = str(view.batch_source.name)
    content = {
        "table": table,
        "join_keys": sorted(view.join_keys),
        "features": [feature.name for feature in view.features],
        "data_version": manifest(project, table)["data_version"],
        "last_row_at": extent.last.isoformat() if extent.last else None,
        "rows": extent.rows,
    }
    types = [str(field.dtype) for field in (*view.entity_columns, *view.features)]
    return {**content, "version": probe.digest([probe.FORMAT, view.name, types, content])}


def _extent(project: Project, view: FeatureView, until: datetime) -> Extent:
    rows, last, due = 0, None, None
    for file in partitions(Path(view.batch_source.path)).values():
        times = read_partition(file, [EVENT_TIME])[EVENT_TIME]
        past = times.filter(pc.less_equal(times, until))
        to_come = times.filter(pc.greater(times, until))
        rows += len(past)
        last = _pick(max, last, pc.max(past).as_py())
        due = _pick(min, due, pc.min(to_come).as_py())
    return Extent(rows, last, due)


def _pick(choose: Any, one: datetime | None, other: datetime | None) -> datetime | None:
    times = [time.astimezone(UTC) for time in (one, other) if time is not None]
    return choose(times) if times else None
