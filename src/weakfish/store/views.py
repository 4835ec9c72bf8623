"""What a Feast repository says of feature tables, from their manifests, so that a feature is declared in one place.

A feature that its transform returns stands in ``data/features/<view>.manifest.json`` and from there in the registry.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from feast import Field, FileSource
from feast.data_format import ParquetFormat
from feast.types import Bool, FeastType, Float32, Float64, Int32, Int64, String, UnixTimestamp

from weakfish.errors import StoreError, TableError
from weakfish.files import read_json
from weakfish.project import Project

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


def _field(view: str, name: str, kind: str) -> Field:
    if kind not in TYPES:
        raise StoreError(
            f"Column {name} of view {view} is {kind}, which the store cannot hold; let its transform return one of "
            f"{', '.join(TYPES)}."
        )
    return Field(name=name, dtype=TYPES[kind])
