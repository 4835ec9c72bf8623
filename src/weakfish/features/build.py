"""The `features` verb: events and known labels into ``data/features/<view>``, a partition per month of boundaries."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import ibis
import ibis.expr.types as ir
import pyarrow as pa

from weakfish import compute
from weakfish.checks.validate import data_version
from weakfish.errors import FeatureError, TableError, WeakfishError
from weakfish.features.known_labels import write_known_labels
from weakfish.features.past import Past
from weakfish.features.rows import NUMBER, Relations, feature_rows, with_times
from weakfish.features.views import Transform, View, check_view, load_transforms
from weakfish.files import sha256, whole_folder, write_json
from weakfish.project import Project
from weakfish.runs import Progress, write_ledger
from weakfish.tables import UNDATED, partitions, schema_of, write_partition

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def build_features(project: Project) -> None:
    """Write ``data/known_labels``, and the rows and manifest of every view under ``data/features``.

    Both appear whole or not at all. Rows end at ``as_of``, the time of the last event: what a later boundary would
    state is not known yet.

    Raises
    ------
    FeatureError
        When a transform is wrong; names view and column.
    TableError
        When events or votes are missing or do not fit each other.
    """
    transforms = load_transforms(project)
    with whole_folder(project.data / "known_labels") as known, whole_folder(project.data / "features") as folder:
        schema = _events_schema(project)
        views = [check_view(item, _past(project, item, schema)) for item in transforms]
        for task in project.params.tasks:
            write_known_labels(project, task, known / task)
        engine = compute.connect()
        relations = _relations(project, engine, known)
        total, as_of = _extent(engine, relations)
        rows = 0
        for view in views:
            counts = write_view(engine, view, relations, as_of, folder / view.name)
            write_json(folder / f"{view.name}.manifest.json", _manifest(project, view, folder, known, as_of, counts))
            rows += sum(counts.values())
    write_ledger(project, "features", rows_in=total, rows_out=rows)


def load_views(project: Project) -> dict[str, View]:
    """The project's views by name, checked against the columns of the accepted events; nothing is computed."""
    schema = _events_schema(project)
    return {item.name: check_view(item, _past(project, item, schema)) for item in load_transforms(project)}


def _event_files(project: Project) -> list[Path]:
    dated = [file for name, file in partitions(project.table("events")).items() if name != UNDATED]
    if not dated:
        raise TableError("No event in data/events has a time, so there is no past to make features of.")
    return dated


def _events_schema(project: Project) -> ibis.Schema:
    return ibis.Schema.from_pyarrow(schema_of(project.table("events")))


def _past(project: Project, made: Transform, schema: ibis.Schema) -> Past:
    """The past before there is data: columns and their types."""
    labels = {
        task: (ibis.table({f"p_{name}": "float64" for name in settings.classes}, name=task), settings.classes)
        for task, settings in project.params.tasks.items()
    }
    params = project.params
    return Past(
        made.name, ibis.table(schema, name="events"), params.events.time, params.features.boundary_hours, labels
    )


def _relations(project: Project, engine: compute.Engine, known: Path) -> Relations:
    params = project.params
    return Relations(
        engine.read(_event_files(project)),
        {task: engine.read(list(partitions(known / task).values())) for task in params.tasks},
        params.events.key,
        params.events.time,
        params.features.boundary_hours,
    )


def _extent(engine: compute.Engine, relations: Relations) -> tuple[int, datetime]:
    """How many events there are, and the time of the last one."""
    events = relations.events
    found = engine.run(events.aggregate(rows=events.count(), last=events[relations.time].max())).to_pylist()[0]
    return found["rows"], found["last"].astimezone(UTC)


def write_view(
    engine: compute.Engine, view: View, relations: Relations, as_of: datetime, folder: Path
) -> dict[str, int]:
    """Write the partitions of a view, rows in the order of time and entity; returns how many each has."""
    hours, counts, progress = relations.boundary_hours, {}, Progress(f"rows of {view.name}")
    last = (as_of - EPOCH) // timedelta(hours=hours)
    try:
        rows = feature_rows(view, relations, last, engine)
        for month, start, end in _months(engine, rows, hours):
            mine = rows.filter((rows[NUMBER] >= start) & (rows[NUMBER] < end))
            table = engine.run(with_times(view, mine, hours))
            if table.num_rows:
                write_partition(folder, month, table.cast(view.schema))
                counts[month] = table.num_rows
                progress.add(table.num_rows)
    except (WeakfishError, pa.ArrowInvalid) as error:
        raise FeatureError(f"View {view.name!r} could not be computed: {error}") from error
    if not counts:
        raise FeatureError(
            f"View {view.name!r} has no rows: no event before {as_of.isoformat()} has a {view.entity}; "
            "correct its entity."
        )
    return counts


def _months(engine: compute.Engine, rows: ir.Table, hours: int) -> Iterator[tuple[str, int, int]]:
    """Months that may hold rows, with the numbers of their first boundary and of the next month's."""
    at = rows[NUMBER]
    found = engine.run(rows.aggregate(first=at.min(), last=at.max())).to_pylist()[0]
    if found["first"] is None:
        return
    step = timedelta(hours=hours)
    start = (EPOCH + found["first"] * step).replace(day=1, hour=0)
    while start <= EPOCH + found["last"] * step:
        end = (start + timedelta(days=32)).replace(day=1)
        yield start.strftime("%Y-%m"), -((EPOCH - start) // step), -((EPOCH - end) // step)
        start = end


def _manifest(
    project: Project, view: View, folder: Path, known: Path, as_of: datetime, counts: dict[str, int]
) -> dict[str, Any]:
    """What the rows of a view are and what made them; no clock."""
    files = partitions(folder / view.name)
    return {
        "view": view.name,
        "entity": view.entity,
        "columns": {field.name: str(field.type) for field in view.schema},
        "features": list(view.features),
        "rows": sum(counts.values()),
        "partitions": {name: {"rows": counts[name], "sha256": sha256(file)} for name, file in files.items()},
        "data_version": data_version(folder / view.name),
        "as_of": as_of.isoformat(),
        "settings": project.params.features.model_dump(mode="json"),
        "sources": {
            "events": data_version(project.table("events")),
            "known_labels": {task: data_version(known / task) for task in project.params.tasks},
            "transforms_sha256": sha256(project.root / "feature_repo/transforms.py"),
        },
    }
