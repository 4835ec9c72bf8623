"""What a Feast repository says of feature tables, from their manifests, so that a feature is declared in one place.

A feature that its transform returns stands in ``data/features/<view>.manifest.json`` and from there in the registry.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from feast import Entity, Field, FileSource
from feast.data_format import ParquetFormat
from feast.labeling.label_view import LabelView
from feast.types import Bool, FeastType, Float32, Float64, Int32, Int64, String, UnixTimestamp

from weakfish.errors import StoreError, TableError, UserError
from weakfish.files import read_json
from weakfish.project import Project
from weakfish.store.publishing.probe import digest

EVENT_TIME = "event_timestamp"
CREATED = "created"
TYPES: dict[str, FeastType] = {
    "bool": Bool,
    "double": Float64,
    "float": Float32,
    "int32": Int32,
    "int64": Int64,
    "string": String,
    "timestamp[us, tz=UTC]": UnixTimestamp,
}


def manifest_file(project: Project, view: str) -> Path:
    """The file that says what a view's table holds."""
    return project.table("features") / f"{view}.manifest.json"


def manifest(project: Project, view: str) -> dict[str, Any]:
    """What a view's table holds; raises `TableError` when no stage made it."""
    found: dict[str, Any] = read_json(manifest_file(project, view))
    if not isinstance(found, dict) or not {"columns", "features", "entity", "data_version"} <= set(found):
        raise TableError(f"{manifest_file(project, view)} is no manifest of a view; delete it and run `dvc repro`.")
    return found


def view_schema(project: Project, view: str) -> list[Field]:
    """The fields of a Feast ``FeatureView`` over a table: its entity and all its features, in their order.

    Raises
    ------
    TableError
        When the view's table has not been made.
    StoreError
        When a column's type is none that the store can hold.
    """
    found = manifest(project, view)
    return [_field(view, name, found["columns"][name]) for name in (found["entity"], *found["features"])]


def view_source(project: Project, view: str) -> FileSource:
    """The Feast source of a view: its folder of partitions, by absolute path, whatever the working directory."""
    return FileSource(
        name=view,
        path=str(project.table("features").resolve() / view),
        file_format=ParquetFormat(),
        timestamp_field=EVENT_TIME,
        created_timestamp_column=CREATED,
    )


def label_view(project: Project, task: str, entity: Entity) -> LabelView:
    """The registry entry of a task's labels: offline only, its provenance in its tags, never a feature.

    It is keyed by the event itself, through an entity that no feature view has, and its time is the event's: so it says
    what an event is, and nothing of what was known before. Training takes labels from ``data/labels`` as ever.

    Parameters
    ----------
    entity : the labelled event; its join key is ``events.key`` of params.yaml

    Raises
    ------
    TableError
        When the labels have not been made; their manifest is all that is read.
    UserError
        When there is no such task, or the entity has another join key.
    """
    key, time = project.params.events.key, project.params.events.time
    classes = project.task(task).classes
    if entity.join_key != key:
        raise UserError(
            f"Labels of {task} are keyed by {key!r}, and entity {entity.name!r} by {entity.join_key!r}; let its "
            f"join_keys be [{key!r}]."
        )
    folder = project.table(f"labels/{task}")
    file = folder.with_name(f"{task}.manifest.json")
    tags = _provenance(read_json(file), file) | {"task": task, "classes": ", ".join(classes)}
    name = f"{task}_labels"
    kinds: dict[str, FeastType] = {f"{by}_{one}": Float64 for by in ("p", "majority") for one in classes}
    kinds |= {"covered": Bool, "n_votes": Int32, "label": String}
    return LabelView(
        name=name,
        description=f"Weak labels of task {task}: what each event is, found out afterwards; no feature",
        entities=[entity],
        schema=[Field(name=column, dtype=kind) for column, kind in kinds.items()],
        source=FileSource(name=name, path=str(folder.resolve()), file_format=ParquetFormat(), timestamp_field=time),
        online=False,
        tags={f"weakfish.{tag}": value for tag, value in tags.items()},
    )


def _provenance(found: Any, file: Path) -> dict[str, str]:
    """Who labelled, by which functions and model; raises `TableError` when the manifest does not say."""
    try:
        last = found["models"][-1] if found["models"] else {}
        return {
            "labeler": f"weakfish label, method {found['method']}",
            "method": str(found["method"]),
            "functions": str(len(found["functions"])),
            "functions_version": digest(found["functions"]),
            "model_version": digest(found["models"]),
            "fitted_through": str(last.get("fitted_through") or ""),
            "labels_version": digest(found),
        }
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise TableError(f"{file} is no manifest of labels; delete it and run `dvc repro label`.") from error


def _field(view: str, name: str, kind: str) -> Field:
    if kind not in TYPES:
        raise StoreError(
            f"Column {name} of view {view} is {kind}, which the store cannot hold; let its transform return one of "
            f"{', '.join(TYPES)}."
        )
    return Field(name=name, dtype=TYPES[kind])
