"""What a Feast repository says of our tables: a feature is declared in one place, and labels are not features.

A feature that its transform returns stands in ``data/features/<view>.manifest.json`` and from there in the registry.
Where no table was made yet, as in a fresh clone, the transform itself says the same.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import weakfish.feast.adapter  # noqa: F401 - first: it makes the import of Feast cheap

from feast import Entity, FeatureService, FeatureStore, FeatureView, Field, FileSource, OnDemandFeatureView, ValueType
from feast.data_format import ParquetFormat
from feast.feature_view import DUMMY_ENTITY_NAME
from feast.labeling.label_view import LabelView
from feast.types import Bool, FeastType, Float32, Float64, Int32, Int64, String, UnixTimestamp

from weakfish.contracts.manifests import FeaturesManifest, manifest_file, read_manifest
from weakfish.contracts.record import CREATED, EVENT_TIMESTAMP
from weakfish.errors import StoreError, TableError, UserError
from weakfish.feast.probe import digest
from weakfish.files import read_json
from weakfish.project.paths import Project

TYPES: dict[str, FeastType] = {
    "bool": Bool,
    "double": Float64,
    "float": Float32,
    "int32": Int32,
    "int64": Int64,
    "string": String,
    "timestamp[us, tz=UTC]": UnixTimestamp,
}

FOLDERS = ("labels", "gold")
"""Folders below ``data/`` that no feature view may read."""

PAST = "features of past labels come from known_labels() in transforms.py"


def view_schema(project: Project, view: str) -> list[Field]:
    """The fields of a Feast ``FeatureView`` over a table: its entity and all its features, in their order.

    They are those of the table that was made, and of its transform while there is none.

    Raises
    ------
    FeatureError, TableError
        When there is no table, and ``feature_repo/transforms.py`` declares no such view or a wrong one.
    StoreError
        When a column has a type that the store cannot hold.
    """
    table = f"features/{view}"
    if manifest_file(project, table).exists() or not (project.root / "feature_repo" / "transforms.py").exists():
        found = read_manifest(project, FeaturesManifest, table)
        columns = {name: found.columns[name] for name in (found.entity, *found.features)}
    else:
        from weakfish.features.views import declared_views

        declared = declared_views(project)
        if view not in declared:
            raise TableError(
                f"{manifest_file(project, table)} does not exist, and feature_repo/transforms.py declares no view "
                f"{view!r} (there are: {', '.join(declared)}); correct the name, or add the view there."
            )
        found_view = declared[view]
        names = (found_view.entity, *found_view.features)
        columns = {name: str(found_view.schema.field(name).type) for name in names}
    for name, kind in columns.items():
        if kind not in TYPES:
            raise StoreError(
                f"Column {name} of view {view} is {kind}, which the store cannot hold; let its transform return one of "
                f"{', '.join(TYPES)}."
            )
    return [Field(name=name, dtype=TYPES[kind]) for name, kind in columns.items()]


def view_source(project: Project, view: str) -> FileSource:
    """The Feast source of a view: its folder of partitions, by absolute path, whatever the working directory."""
    return FileSource(
        name=view,
        path=str(project.table("features").resolve() / view),
        file_format=ParquetFormat(),
        timestamp_field=EVENT_TIMESTAMP,
        created_timestamp_column=CREATED,
    )


def further_views(project: Project, *known: Entity | FeatureView) -> tuple[dict[str, FeatureView], dict[str, Entity]]:
    """Feast views of what ``params.yaml`` lists and a repository does not define, and their new entities, by name.

    Parameters
    ----------
    known : the entities and views that the repository defines

    Raises
    ------
    FeatureError, StoreError, TableError
        As `view_schema`.
    """
    defined = {each.name for each in known if isinstance(each, FeatureView)}
    entities = {each.join_key: each for each in known if isinstance(each, Entity)}
    views, new = {}, {}
    for name in project.params.views or ():
        if name not in defined:
            schema = view_schema(project, name)
            key = schema[0]
            if key.name not in entities:
                kind = ValueType.INT64 if key.dtype == Int64 else ValueType.STRING
                entities[key.name] = new[f"{key.name}_entity"] = Entity(name=key.name, value_type=kind)
            source, of = view_source(project, name), [entities[key.name]]
            views[name] = FeatureView(name=name, entities=of, ttl=timedelta(0), schema=schema, source=source)
    return views, new


def label_view(project: Project, task: str, entity: Entity) -> LabelView:
    """The registry entry of a task's labels: offline only, its provenance in its tags, never a feature.

    It is keyed by the event itself, through an entity that no feature view has, and its time is the event's: so it says
    what an event is, and nothing of what was known before. Training takes labels from ``data/labels`` as ever. Before
    there are labels it has no provenance.

    Parameters
    ----------
    entity : the labelled event; its join key is ``events.key`` of params.yaml

    Raises
    ------
    TableError
        When the manifest of the labels, which is all that is read of them, is malformed.
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
    tags = {**(_provenance(file) if file.exists() else {}), "task": task, "classes": ", ".join(classes)}
    name = f"{task}_labels"
    kinds: dict[str, FeastType] = {f"{by}_{one}": Float64 for by in ("p", "majority") for one in classes}
    kinds |= {"covered": Bool, "n_votes": Int32, "label": String}
    kinds |= dict.fromkeys(project.task(task).label_model.origins, String)
    return LabelView(
        name=name,
        description=f"Weak labels of task {task}: what each event is, found out afterwards; no feature",
        entities=[entity],
        schema=[Field(name=column, dtype=kind) for column, kind in kinds.items()],
        source=FileSource(name=name, path=str(folder.resolve()), file_format=ParquetFormat(), timestamp_field=time),
        online=False,
        tags={f"weakfish.{tag}": value for tag, value in tags.items()},
    )


def further_tasks(
    project: Project, entity: Entity, features: Sequence[FeatureView | OnDemandFeatureView], *known: FeatureService
) -> dict[str, LabelView | FeatureService]:
    """Label views and feature services of tasks that ``params.yaml`` lists and a repository does not define, by name.

    Parameters
    ----------
    entity : as `label_view`
    features : what such a service holds
    known : the services that the repository defines

    Raises
    ------
    TableError, UserError
        As `label_view`.
    """
    defined, found = {each.name for each in known}, dict[str, LabelView | FeatureService]()
    for task in project.params.tasks:
        name = project.task(task).feature_service or f"{task}_v1"
        if name not in defined:
            found[f"{task}_labels"] = label_view(project, task, entity)
            found[name] = FeatureService(name=name, features=list(features))
    return found


def refuse_registry(store: FeatureStore, root: Path) -> None:
    """Refuse a registry in which a service, a view or an on-demand view would hand labels out as features.

    Raises
    ------
    UserError
        Names the first of them, what it reads, and what to do.
    """
    labels = {str(view.name) for view in store.list_label_views()}
    for view in (*store.list_all_feature_views(), *store.list_label_views()):
        refuse_view(view, root, every_file=True)
        for source in getattr(view, "source_feature_view_projections", {}).values():
            if source.name in labels:
                raise UserError(
                    f"On-demand feature view {view.name!r} is computed from the label view {source.name!r}, and labels "
                    f"are not features; {PAST}."
                )
    for service in store.list_feature_services():
        for projection in service.feature_view_projections:
            if projection.name in labels:
                raise UserError(
                    f"Feature service {service.name!r} holds the label view {projection.name!r}, and labels are not "
                    "features; take it out of the service, training reads data/labels itself."
                )


def refuse_view(view: Any, folder: Path | None, *, every_file: bool = False) -> None:
    """Refuse a feature view that reads labels; ``folder`` is the Feast repository or the project's root.

    A label view is no feature view, whatever its ``online`` says, which Feast sets by default: `keeps_out` keeps its
    rows out. ``every_file`` looks for links out of a source's folder too.

    Raises
    ------
    UserError
        Names the view, what it reads, and what to do.
    """
    if isinstance(view, LabelView):
        return
    for path in _paths(view) if folder is not None else ():
        lies = _lies_under(path, Path(folder or ""), every_file)
        if lies:
            raise UserError(
                f"Feature view {view.name!r} reads {path}, which holds what lies under data/{lies}, and labels are "
                f"not features; {PAST}."
            )


def keeps_out(view: Any, folder: Path | None) -> bool:
    """Whether a view's rows stay out of the online store, as those of label views do, with a warning.

    Raises
    ------
    UserError
        When they are no rows that can be kept apart: as `refuse_view` and `refuse_keyless`.
    """
    if isinstance(view, LabelView):
        warnings.warn(f"Labels of {view.name!r} are not written to the online store; read them offline.", stacklevel=2)
        return True
    refuse_view(view, folder)
    refuse_keyless(view)
    return False


def refuse_keyless(view: Any) -> None:
    """Refuse a view that lacks the join key of one of its entities: its rows would all be the row of no entity.

    Raises
    ------
    UserError
        Names the view and its entities.
    """
    entities = [name for name in getattr(view, "entities", None) or () if name != DUMMY_ENTITY_NAME]
    if len(entities) > len(view.join_keys):
        raise UserError(
            f"View {view.name!r} has the entities {', '.join(entities)}, but its source lacks a join key of theirs "
            f"(found: {', '.join(view.join_keys) or 'none'}); add the column, or map another to it with the source's "
            "field_mapping."
        )


def refuse_mixture(views: Iterable[Any]) -> None:
    """Refuse to join labels and features in one request: a label would stand there as if known at its own event.

    Raises
    ------
    UserError
        When some of the views are label views and some are not.
    """
    asked = list(views)
    labels = [view for view in asked if isinstance(view, LabelView)]
    if labels and len(labels) < len(asked):
        raise UserError(
            f"Labels ({labels[0].name}) and features are asked for in one request, and labels are not features; ask "
            "for them one after the other, or use data/training."
        )


def _provenance(file: Path) -> dict[str, str]:
    """Who labelled, by which functions and model; raises `TableError` when the manifest does not say."""
    found = read_json(file)
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
        raise TableError(f"{file} is not a manifest of labels; delete it and run `dvc repro label`.") from error


def _paths(view: Any) -> Iterator[str]:
    """Where a view's sources are, those of views that it is derived from included."""
    for name in ("batch_source", "stream_source", "data_source", "source"):
        source = getattr(view, name, None)
        for one in (source, getattr(source, "batch_source", None)):
            path = getattr(one, "path", None)
            if isinstance(path, str) and path:
                yield path
    for derived in getattr(view, "source_views", None) or ():
        yield from _paths(derived)


def _lies_under(path: str, folder: Path, every_file: bool) -> str | None:
    """Which of the folders a path reads from; links, ``..``, wildcards and folders above them are seen through."""
    parsed = urlparse(path)
    if parsed.scheme not in ("", "file"):
        return None
    try:
        root = Project.find(folder).root
    except UserError:
        root = folder
    plain = unquote(parsed.path) if parsed.scheme else path
    fixed = re.split(r"[*?\[]", plain)[0]
    for name in FOLDERS:
        forbidden = (root / "data" / name).resolve()
        for base in {folder, root, Path.cwd()}:  # Feast's engines differ in what a relative path starts from
            place = (base / fixed).resolve()
            if place.is_relative_to(forbidden) or forbidden.is_relative_to(place):
                return name
            if every_file and place.is_dir():
                links = (file for file in place.rglob("*") if file.is_symlink())
                if any(link.resolve().is_relative_to(forbidden) for link in links):
                    return name
    return None
