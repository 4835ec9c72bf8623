"""The training-set verb: labels joined to events by key, and the features known at each event's time."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version as package_version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from weakfish.contracts.gate import EVENTS, data_version, require_open
from weakfish.contracts.ledgers import write_ledger
from weakfish.contracts.manifests import (
    LabelsManifest,
    TrainingManifest,
    feature_tables,
    manifest_file,
    read_manifest,
    write_manifest,
)
from weakfish.contracts.pointers import whole_tables
from weakfish.contracts.record import EVENT_TIMESTAMP
from weakfish.contracts.tables import TIME, partitions, read_partition, schema_of, write_partition
from weakfish.engine import fleet
from weakfish.errors import TableError, TrainingError
from weakfish.files import sha256
from weakfish.project.paths import Project
from weakfish.project.runs import Progress, temporary_folder
from weakfish.training.asked import WHERE, Asked, describe, explained, job, table_of, table_of_source, typed
from weakfish.training.joins import JoinLimits, Joins

if TYPE_CHECKING:
    from feast import FeatureStore

    from weakfish.feast.offline import ArrowJob

PACKAGES = ("duckdb", "feast", "ibis-framework", "pandas", "pyarrow")
"""Packages on whose version the training sets depend."""


def build_training_sets(project: Project, limits: JoinLimits | None = None) -> None:
    """Write the training set of every task.

    ``data/training/<task>``: the events' key and time, ``p_<class>`` (label model) per class, ``covered``, ``n_votes``,
    with a reader ``rests_on`` (null where there is no label), then the features as ``<view>__<feature>``, null where
    nothing was known of the entity at that time. One row per event, by time and key. A known label has the probability
    1, ``rests_on`` is ``known`` there, and ``known`` its class.
    ``data/training/<task>.manifest.json`` says what made it; see `manifest`.

    Raises
    ------
    CheckFailed
        When the gate of the events, of labels or of features is shut.
    TableError, TrainingError, UnknownName
        When labels, features and definitions do not fit together; nothing is written then.
    """
    labels = [f"labels/{task}" for task in project.params.tasks]
    require_open(project, [EVENTS, *labels, *feature_tables(project)])
    from weakfish.feast.registry import historical_store  # imports Feast, once the gates are open

    rows = 0
    with (
        whole_tables(project.data / "training") as folder,
        historical_store(project) as store,
        temporary_folder(project.temporary, "training") as scratch,
    ):
        joins = Joins(project, scratch, limits or JoinLimits.of(project))
        for task in project.params.tasks:
            asked = describe(store, project, task)
            done, nulls = _build(store, joins, task, asked, scratch / f"task_{task}", folder / task)
            write_manifest(folder, task, manifest(project, task, asked, done, nulls))
            rows += done
    write_ledger(project, "training_set", rows_in=rows, rows_out=rows)


def _build(
    store: FeatureStore, joins: Joins, task: str, asked: Asked, scratch: Path, folder: Path
) -> tuple[int, dict[str, int]]:
    """Write the training set of a task; how many rows it has, and how many are null of each feature."""
    project, progress = joins.project, Progress(f"training set of {task}")
    labelled = labelled_events(project, task, asked.columns)
    empty, features = _empty_spine(project, asked, scratch / "asked.parquet"), scratch / "features.parquet"
    pq.write_table(asked.schema.empty_table(), features)
    with explained(asked.service):
        retrieval = job(store, asked.service, empty).retrieval
    joined = {
        view.name: joins.features(view, source, table_of_source(source), asked.service)
        for view, source in retrieval.views
    }
    shared = {
        "task": task,
        "service": asked.service,
        "columns": asked.columns,
        "schema": joins.name(features),
        "on_demand": asked.on_demand and [joins.name(Path(store.config.registry.path)), joins.name(empty)],
        "to": joins.name(folder),
        "batch": joins.limits.batch,
    }
    items = [
        {
            **shared,
            "labels": {name: joins.name(labelled[name]) for name in stretch.files},
            "events": {name: joins.name(file) for name, file in stretch.files.items()},
            "start": stretch.starts[0],
            "joined": {view: files[number] for view, files in joined.items()},
        }
        for number, stretch in enumerate(joins.stretches)
    ]
    nulls = dict.fromkeys(asked.schema.names, 0)
    for _, receipt in fleet.run(project, f"{__name__}:gathered", items, f"training-set: rows of {task}", _alone):
        progress.add(receipt["rows"])
        nulls = {name: count + receipt["nulls"][name] for name, count in nulls.items()}
    return progress.done, nulls


def _alone(_: Project) -> float:
    """Seconds that are not worth a process, which would have a partition in memory too."""
    return 0.0


def _empty_spine(project: Project, asked: Asked, file: Path) -> Path:
    """A file of Parquet with the columns for which features are asked, and no rows."""
    of_events = schema_of(project.table("events"))
    schema = pa.schema([*(of_events.field(name) for name in asked.columns), pa.field(EVENT_TIMESTAMP, TIME)])
    file.parent.mkdir(parents=True)
    pq.write_table(schema.empty_table(), file)
    return file


# --- What workers do -------------------------------------------------------------------------------------------------


def gathered(project: Project, item: fleet.Item) -> fleet.Receipt:
    """Write partitions of a training set: labels, and beside them the features that were joined."""
    from weakfish.feast.retrieval import InOrder

    schema, task = pq.read_schema(project.root / item["schema"]), item["task"]
    found = {view: InOrder(_in_order(project, files), view) for view, files in item["joined"].items()}
    start, rows, nulls = item["start"], 0, dict.fromkeys(schema.names, 0)
    for name, file in item["events"].items():
        files = project.root / item["labels"][name], project.root / file
        part = labelled_part(project, task, name, files, item["columns"])
        pieces = [schema.empty_table()]
        for first in range(0, part.asked.num_rows, item["batch"]):
            piece = part.asked.slice(first, item["batch"])
            for features in found.values():
                for column in (known := features.rows(start + rows + first, piece.num_rows)).column_names:
                    piece = piece.append_column(column, known[column])
            pieces.append(_computed(project, item, piece, schema))
        table = pa.concat_tables(pieces)
        nulls = {column: count + table[column].null_count for column, count in nulls.items()}
        rows += table.num_rows
        _write(project, project.root / item["to"], part, table)
    return {"rows": rows, "nulls": nulls}


def _in_order(project: Project, files: Sequence[str]) -> pa.RecordBatchReader:
    """Rows of some buckets in the order of the events."""
    found = ds.dataset([project.root / file for file in files]).to_table()
    return (found.sort_by(found.column_names[0]) if len(files) > 1 else found).to_reader()


def _computed(project: Project, item: fleet.Item, piece: pa.Table, schema: pa.Schema) -> pa.Table:
    """Features as they were asked for, with those of on-demand views."""
    with explained(item["service"]):
        if item["on_demand"]:
            piece = fleet.prepared(_OnDemand(item["service"], *item["on_demand"]), project).computed(piece)
    return typed(piece, schema)


@dataclass(frozen=True)
class _OnDemand:
    """Makes what computes on-demand views, of the registry that the driver made and the columns that are asked for."""

    service: str
    registry: str
    asked: str

    def __call__(self, project: Project) -> ArrowJob:
        from weakfish.feast.registry import store_on

        return job(store_on(project, project.root / self.registry), self.service, project.root / self.asked)


def _write(project: Project, folder: Path, part: LabelledPart, features: pa.Table) -> None:
    table, order = part.labels, [(project.params.events.time, "ascending"), (project.params.events.key, "ascending")]
    if shared := sorted({*table.column_names} & {*features.column_names}):
        raise TrainingError(f"Feature {shared[0]!r} has the name of a column of the labels; rename it in its view.")
    for field in features.schema:
        table = table.append_column(field, features[field.name])
    write_partition(folder, part.name, table.sort_by(order))


# --- Labels and events -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LabelledPart:
    """One partition of a task's spine; both tables have the same rows in the order of ``data/events``.

    Attributes
    ----------
    labels : pyarrow.Table
        The events' key and time, ``p_<class>`` per class, ``covered``, ``n_votes``, and where each label is from.
    asked : pyarrow.Table
        ``event_timestamp`` (UTC, microseconds), entity keys and request-time columns: what features are asked for.
    """

    name: str
    labels: pa.Table
    asked: pa.Table


def labelled_events(project: Project, task: str, columns: Sequence[str]) -> Mapping[str, Path]:
    """The files of the labels of a task, by the partitions of the events.

    Raises
    ------
    TableError
        When labels and events differ in their partitions.
    TrainingError
        When a column is none of the events'.
    """
    labelled, known = partitions(project.table(f"labels/{task}")), partitions(project.table("events"))
    if odd := sorted(labelled.keys() ^ known.keys()):
        raise TableError(
            f"data/labels/{task} and data/events differ in their partitions ({', '.join(odd)}); run `dvc repro label`."
        )
    there = schema_of(project.table("events")).names
    if missing := [column for column in columns if column not in there]:
        raise TrainingError(
            f"Features of task {task} need {missing[0]!r}, which is not a column of the events; correct the entity "
            f"or the request source in {WHERE}, there are: {', '.join(there)}."
        )
    return labelled


def spine(project: Project, task: str, columns: Sequence[str]) -> Iterator[LabelledPart]:
    """Labels and ``columns`` of the same events, partition by partition; raises as those that follow."""
    events = partitions(project.table("events"))
    for name, file in labelled_events(project, task, columns).items():
        yield labelled_part(project, task, name, (file, events[name]), columns)


def labelled_part(
    project: Project, task: str, name: str, files: tuple[Path, Path], columns: Sequence[str]
) -> LabelledPart:
    """Labels and ``columns`` of the events of a partition, given the files of both.

    Raises
    ------
    TableError
        When their keys differ.
    """
    key, time = project.params.events.key, project.params.events.time
    of_label = [key, time, *(f"p_{name}" for name in project.task(task).classes), "covered", "n_votes"]
    of_label += project.task(task).label_model.origins
    labels = _certain(read_partition(files[0], of_label), project.task(task).classes)
    events = read_partition(files[1], list(dict.fromkeys([key, time, *columns])))
    if not labels[key].equals(events[key]):
        raise TableError(
            f"data/labels/{task}/{name}.parquet holds labels of other events than data/events/{name}.parquet; run "
            "`dvc repro label`."
        )
    asked = events.select(columns).append_column(EVENT_TIMESTAMP, events[time].cast(TIME))
    return LabelledPart(name, labels, asked)


def _certain(labels: pa.Table, classes: Sequence[str]) -> pa.Table:
    """The labels, in which a known one is certain."""
    if "known" not in labels.column_names:
        return labels
    known = labels["known"]
    for name in classes:
        place = labels.column_names.index(f"p_{name}")
        is_it = pc.equal(known, name).cast(pa.float64())
        labels = labels.set_column(place, f"p_{name}", pc.if_else(pc.is_valid(known), is_it, labels[f"p_{name}"]))
    return labels


def manifest(project: Project, task: str, asked: Asked, rows: int, nulls: dict[str, int]) -> TrainingManifest:
    """What a training set holds and what made it: tables, labeling functions, settings, views, packages, by version."""
    labels = f"labels/{task}"
    tables = ["events", labels, *(table_of(view) for view in asked.views)]
    manifests = {name: manifest_file(project, name) for name in tables[1:]}
    made = read_manifest(project, LabelsManifest, labels)
    return TrainingManifest(
        task=task,
        rows=rows,
        nulls=nulls,
        columns={field.name: str(field.type) for field in asked.schema},
        data={name: data_version(project.table(name)) for name in tables},
        manifests={name: sha256(file) for name, file in manifests.items() if file.is_file()},
        functions={name: function.identity for name, function in made.functions.items()},
        known=made.known,
        label_model=project.task(task).label_model.model_dump(mode="json"),
        feature_service=asked.service,
        views={view.name: version(view) for view in [*asked.views, *asked.on_demand]},
        versions={name: package_version(name) for name in PACKAGES},
    )


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
