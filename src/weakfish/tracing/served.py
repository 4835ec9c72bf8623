"""What is served of an entity, or was at a time: by the online store where it runs, else by the newest row."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

import pyarrow as pa

from weakfish.contracts.manifests import FeaturesManifest, read_manifest
from weakfish.contracts.publications import PUBLICATIONS
from weakfish.contracts.record import EVENT_TIMESTAMP, utc
from weakfish.contracts.tables import partitions
from weakfish.engine.duckdb import Engine, connect
from weakfish.errors import UserError
from weakfish.features.views import View
from weakfish.project.paths import Project

_engine = cache(connect)


@dataclass(frozen=True)
class FeatureRow:
    """A row of a feature table, and the partition that it lies in."""

    partition: str
    values: Mapping[str, Any]

    @property
    def at(self) -> datetime:
        """The boundary at which it stands, UTC."""
        return utc(self.values[EVENT_TIMESTAMP])


@dataclass(frozen=True)
class ServedRow:
    """What the online store answers for an entity; ``values`` is empty where it does not have it.

    Attributes
    ----------
    version, as_of, revision
        Of the publication; ``revision`` is what it was rolled back to, None as a rule.
    data_version
        Of the view's table, as it was published.
    at
        The event time of the row, UTC; None where there is none.
    status : str
        As `weakfish online get` prints it.
    """

    version: str
    as_of: str
    revision: Mapping[str, str] | None
    data_version: str | None
    at: datetime | None
    status: str
    values: Mapping[str, Any]


def entity_value(view: View, text: str) -> Any:
    """An entity as the table has it; raises `UserError` for a text that is none."""
    kind = view.schema.field(view.entity).type
    try:
        return pa.scalar(text).cast(kind).as_py()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise UserError(f"{text!r} is no {view.entity}, which are of type {kind}; write one of them.") from error


def row_at(project: Project, view: View, entity: Any, at: datetime) -> FeatureRow:
    """The newest row of an entity at or before a time.

    Raises
    ------
    UserError
        When there is none; says whether the entity is unknown, or from when on it has rows.
    TableError
        When the table is missing or unreadable.
    """
    table = f"features/{view.name}"
    files, engine = partitions(project.table(table)), _engine()
    for partition, file in reversed(files.items()):
        if partition <= f"{at:%Y-%m}" and (found := _row(engine, file, view, entity, at)):
            return FeatureRow(partition, found)
    first = next((row for file in files.values() if (row := _row(engine, file, view, entity))), None)
    if first is None:
        raise UserError(
            f"There is no {view.entity} {str(entity)!r} in data/{table}; no event before "
            f"{_manifest(project, view).as_of:%Y-%m-%d %H:%M} UTC has it."
        )
    raise UserError(
        f"{view.entity} {str(entity)!r} has no row in data/{table} at or before {at:%Y-%m-%d %H:%M:%S} UTC; its first "
        f"is of {utc(first[EVENT_TIMESTAMP]):%Y-%m-%d %H:%M} UTC."
    )


def _row(engine: Engine, file: Any, view: View, entity: Any, until: datetime | None = None) -> dict[str, Any] | None:
    """The last row of an entity at or before a time, or without one the first."""
    rows = engine.read([file])
    mine = rows.filter(rows[view.entity] == entity)
    time = mine[EVENT_TIMESTAMP]
    chosen = mine.order_by(time) if until is None else mine.filter(time <= until).order_by(time.desc())
    found: list[dict[str, Any]] = engine.run(chosen.limit(1)).to_pylist()
    return found[0] if found else None


def _manifest(project: Project, view: View) -> FeaturesManifest:
    return read_manifest(project, FeaturesManifest, f"features/{view.name}")


def online(project: Project, view: View, text: str) -> ServedRow | None:
    """What the online store answers for an entity; None where no server runs, or nothing was published there."""
    from weakfish.feast import server
    from weakfish.feast.clients import explained
    from weakfish.feast.probe import read_marker, settings

    running = server.named(project) or (found.address if (found := server.running(project)) else None)
    if running is None:
        return None
    with explained(running), closing(running.client()) as client:
        marker = read_marker(client, settings(project)["project"])
    if marker is None or not marker.version or view.name not in marker.views:
        return None
    from weakfish.feast.online import read_entities

    row = read_entities(project, {view.entity: text}, marker)[view.name]
    at = row["event_timestamp"] and datetime.fromisoformat(row["event_timestamp"])
    published = marker.views[view.name].get("data_version")
    return ServedRow(marker.version, marker.as_of, marker.revision, published, at, row["status"], row["values"])


def published_as_of(project: Project, view: View) -> datetime:
    """The time that the last publication answers for; while there is none, up to which the features are known."""
    if PUBLICATIONS.file(project, "publish").is_file():
        as_of = PUBLICATIONS.read(project, "publish").as_of
        if as_of is not None:
            return as_of
    as_of = _manifest(project, view).as_of
    if as_of is None:
        raise UserError(f"The manifest of {view.name} does not say up to when it knows; give a time with --at.")
    return as_of
