"""The training-set verb: labels joined to events by key, and the features known at each event's time."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version as package_version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

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
from weakfish.contracts.record import CREATED, EVENT_TIMESTAMP
from weakfish.contracts.tables import TIME, open_partition, partitions, read_partition, read_table, write_partition
from weakfish.errors import TableError, TrainingError, UnknownName
from weakfish.files import sha256, whole_folder
from weakfish.project.paths import Project
from weakfish.project.runs import Progress

if TYPE_CHECKING:
    from feast import FeatureService, FeatureStore


BATCH = 20_000
"""Rows for which features are asked at once; a partition that has more is asked for alone."""


@dataclass(frozen=True)
class Spine:
    """One partition of the spine; both tables have the same rows in the order of ``data/events``.

    Attributes
    ----------
    labels : pyarrow.Table
        The events' key and time, ``p_<class>`` per class, ``covered`` and ``n_votes``.
    asked : pyarrow.Table
        ``event_timestamp`` (UTC, microseconds), entity keys and request-time columns: what features are asked for.
    """

    partition: str
    labels: pa.Table
    asked: pa.Table


def read_spine(project: Project, task: str, partition: str, columns: Sequence[str]) -> Spine:
    """Labels of one partition, and ``columns`` of the same events.

    Raises
    ------
    TableError
        When labels and events are not of the same keys.
    TrainingError
        When a column is none of the events'.
    """
    key, time = project.params.events.key, project.params.events.time
    wanted = [key, time, *(f"p_{name}" for name in project.task(task).classes), "covered", "n_votes"]
    labels = read_partition(project.table(f"labels/{task}") / f"{partition}.parquet", wanted)
    file = project.table("events") / f"{partition}.parquet"
    there = open_partition(file).schema_arrow.names
    missing = [name for name in columns if name not in there]
    if missing:
        raise TrainingError(
            f"Features of task {task} need {missing[0]!r}, which is no column of the events; correct the entity or the "
            f"request source in feature_repo/definitions.py, there are: {', '.join(there)}."
        )
    events = read_partition(file, list(dict.fromkeys([key, time, *columns])))
    if not labels[key].equals(events[key]):
        raise TableError(
            f"data/labels/{task}/{partition}.parquet holds labels of other events than "
            f"data/events/{partition}.parquet; run `dvc repro label`."
        )
    times = events[time].cast(TIME)
    return Spine(partition, labels, events.select(columns).append_column(EVENT_TIMESTAMP, times))


def batches(spines: Iterable[Spine]) -> Iterator[list[Spine]]:
    """Partitions that follow each other, together as long as they have no more than `BATCH` rows."""
    batch: list[Spine] = []
    for spine in spines:
        if batch and sum(one.labels.num_rows for one in [*batch, spine]) > BATCH:
            yield batch
            batch = []
        batch.append(spine)
    if batch:
        yield batch


def spine_partitions(project: Project, task: str) -> list[str]:
    """The partitions of a task's spine, in order; raises `TableError` unless labels and events have the same."""
    labels, events = (list(partitions(project.table(table))) for table in (f"labels/{task}", "events"))
    if labels != events:
        odd = sorted(set(labels) ^ set(events))
        raise TableError(
            f"data/labels/{task} and data/events differ in their partitions ({', '.join(odd)}); run `dvc repro label`."
        )
    return events


WHERE = "feature_repo/definitions.py"


def feature_service(store: FeatureStore, name: str, task: str) -> FeatureService:
    """The feature service of a task; raises `UnknownName` with those that there are."""
    known = {service.name: service for service in store.list_feature_services()}
    if name not in known:
        raise UnknownName(f"feature service (tasks.{task}.feature_service, by default {task}_v1)", name, known, WHERE)
    return known[name]


def views(store: FeatureStore, service: FeatureService) -> tuple[list[Any], list[Any]]:
    """The feature views of a service, and its on-demand views, in the service's order."""
    import weakfish.feast.adapter  # noqa: F401 - first: it makes the import of Feast cheap

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


@dataclass(frozen=True)
class Asked:
    """What a feature service takes and gives.

    Attributes
    ----------
    entities, requests : list of str
        Columns that a frame needs: entity keys, and what on-demand views ask of the moment itself.
    schema : pyarrow.Schema
        The features, named ``<view>__<feature>``, in the service's order, in the types that were stored.
    views, on_demand : list
        Feast's views; ``views`` are those with Parquet behind them, also those that only on-demand views read.
    """

    service: FeatureService
    entities: list[str]
    requests: list[str]
    schema: pa.Schema
    views: list[Any]
    on_demand: list[Any]

    @property
    def columns(self) -> list[str]:
        """What a frame needs besides ``event_timestamp``, each once."""
        return [name for name in dict.fromkeys([*self.entities, *self.requests]) if name != EVENT_TIMESTAMP]


def describe(store: FeatureStore, service: FeatureService) -> Asked:
    """What a service takes and gives, after a look at the Parquet behind it.

    Raises
    ------
    TableError
        When the Parquet of a view is missing or cut off.
    TrainingError
        When it lacks a feature, or holds two rows of one entity, event time and created time.
    """
    stored, on_demand = views(store, service)
    known = {view.name for view in stored}
    behind = [view for view in implied(store, on_demand) if view.name not in known]
    fields = [field for view in stored for field in _stored_fields(view)]
    for view in behind:
        _stored_fields(view)
    for view in on_demand:
        fields += [
            pa.field(f"{view.projection.name_to_use()}__{field.name}", _arrow(view.name, field))
            for field in view.projection.features
        ]
    return Asked(
        service,
        entities=list(dict.fromkeys(key for view in [*stored, *behind] for key in _join_keys(view))),
        requests=list(dict.fromkeys(name for view in on_demand for name in view.get_request_data_schema())),
        schema=pa.schema(fields),
        views=[*stored, *behind],
        on_demand=on_demand,
    )


def retrieve(store: FeatureStore, asked: Asked, frame: pa.Table) -> pa.Table:
    """The features of every row of ``frame`` as of its ``event_timestamp``, in the order of the rows.

    A value is that of the last feature row with event time and created time at or before it; null where there is none.

    Parameters
    ----------
    frame
        ``event_timestamp`` and ``asked.columns``; entities may be null.

    Returns
    -------
    pyarrow.Table
        Columns as in ``asked.schema``.

    Raises
    ------
    TrainingError
        When Feast fails, a feature is not of its type, or the project's offline store is another than ours.
    """
    from weakfish.feast.registry import reason

    _check_store(store)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Feast's own deprecations
        try:
            found = store.get_historical_features(
                frame, asked.service, full_feature_names=True, filter_by_created_timestamp=True
            ).to_arrow()
        except Exception as error:
            raise TrainingError(
                f"Feast could not retrieve feature service {asked.service.name!r}: {reason(error)}; correct what "
                "it names in feature_repo/ or run `dvc repro`."
            ) from error
    return pa.table([_typed(found, field) for field in asked.schema], schema=asked.schema)


def table_of(view: Any) -> str:
    """The name of the table that a view reads: the last part of its path below ``data/features``."""
    return f"features/{Path(view.batch_source.path).name}"


def _check_store(store: FeatureStore) -> None:
    from weakfish.feast.offline import AsOfOfflineStoreConfig

    configured = store.config.offline_store
    if not isinstance(configured, AsOfOfflineStoreConfig):
        ours = AsOfOfflineStoreConfig().type
        raise TrainingError(
            f"offline_store.type in feature_repo/feature_store.yaml is {configured.type!r}, which may lose or reorder "
            f"rows; set it to {ours!r}."
        )


def _stored_fields(view: Any) -> list[pa.Field]:
    folder = Path(view.batch_source.path)
    files = list(partitions(folder).values())
    schema = open_partition(files[0]).schema_arrow
    keys = [*view.join_keys, EVENT_TIMESTAMP, CREATED]
    wanted = [*keys, *(field.name for field in view.projection.features)]
    missing = [name for name in wanted if name not in schema.names]
    if missing:
        raise TrainingError(
            f"View {view.name!r} has {missing[0]!r} in feature_repo/definitions.py, but data/{table_of(view)} "
            "has not; run `dvc repro features`, or correct the view."
        )
    rows = read_table(folder, keys)
    if rows.group_by(keys).aggregate([]).num_rows != rows.num_rows:
        raise TrainingError(
            f"data/{table_of(view)} holds several rows of one {', '.join(keys)}, among which nothing can choose; "
            "run `dvc repro features`."
        )
    name = view.projection.name_to_use()
    return [pa.field(f"{name}__{field.name}", schema.field(field.name).type) for field in view.projection.features]


def _join_keys(view: Any) -> list[str]:
    renamed = view.projection.join_key_map
    return [renamed.get(key, key) for key in view.join_keys]


def _arrow(view: str, field: Any) -> pa.DataType:
    import weakfish.feast.adapter  # noqa: F401 - first: it makes the import of Feast cheap

    from feast.types import UnixTimestamp, from_feast_to_pyarrow_type

    if field.dtype == UnixTimestamp:
        return TIME
    kind: pa.DataType = from_feast_to_pyarrow_type(field.dtype)
    return kind


def _typed(found: pa.Table, field: pa.Field) -> pa.ChunkedArray:
    if field.name not in found.column_names:
        raise TrainingError(f"Feast did not return {field.name!r}; correct its view in feature_repo/definitions.py.")
    column = found[field.name]
    if pa.types.is_floating(column.type):
        column = pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
    try:
        return column.cast(field.type)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise TrainingError(
            f"{field.name} came back as {column.type} and is declared {field.type} ({error}); correct its "
            "type in feature_repo/definitions.py or what its function returns."
        ) from error


PACKAGES = ("duckdb", "feast", "ibis-framework", "pandas", "pyarrow")
"""Packages on whose version the training sets depend."""


def build_training_sets(project: Project) -> None:
    """Write the training set of every task.

    ``data/training/<task>``: the events' key and time, ``p_<class>`` (label model) per class, ``covered``, ``n_votes``,
    then the features as ``<view>__<feature>``, null where nothing was known of the entity at that time. One row per
    label, by time and key. ``data/training/<task>.manifest.json`` says what made it; see `manifest`.

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

    rows = {}
    order = [(project.params.events.time, "ascending"), (project.params.events.key, "ascending")]
    with whole_folder(project.data / "training") as folder, historical_store(project) as store:
        for task in project.params.tasks:
            service = project.task(task).feature_service or f"{task}_v1"
            asked = describe(store, feature_service(store, service, task))
            progress, rows[task] = Progress(f"training set of {task}"), 0
            nulls = dict.fromkeys(asked.schema.names, 0)
            spines = (read_spine(project, task, name, asked.columns) for name in spine_partitions(project, task))
            for batch in batches(spines):
                features = retrieve(store, asked, pa.concat_tables([spine.asked for spine in batch]))
                for spine, known in zip(batch, _apart(features, batch), strict=True):
                    table = _beside(spine.labels, known)
                    write_partition(folder / task, spine.partition, table.sort_by(order))
                progress.add(features.num_rows)
                rows[task] += features.num_rows
                nulls = {name: count + features[name].null_count for name, count in nulls.items()}
            write_manifest(folder, task, manifest(project, task, asked, rows[task], nulls))
    write_ledger(project, "training_set", rows_in=sum(rows.values()), rows_out=sum(rows.values()))


def manifest(project: Project, task: str, asked: Asked, rows: int, nulls: dict[str, int]) -> TrainingManifest:
    """What a training set holds and what made it: tables, labeling functions, settings, views, packages, by version."""
    labels = f"labels/{task}"
    tables = ["events", labels, *(table_of(view) for view in asked.views)]
    manifests = {name: manifest_file(project, name) for name in tables[1:]}
    voted = read_manifest(project, LabelsManifest, labels).functions
    return TrainingManifest(
        task=task,
        rows=rows,
        nulls=nulls,
        columns={field.name: str(field.type) for field in asked.schema},
        data={name: data_version(project.table(name)) for name in tables},
        manifests={name: sha256(file) for name, file in manifests.items() if file.is_file()},
        functions={name: made.identity for name, made in voted.items()},
        label_model=project.task(task).label_model.model_dump(mode="json"),
        feature_service=asked.service.name,
        views={view.name: version(view) for view in [*asked.views, *asked.on_demand]},
        versions={name: package_version(name) for name in PACKAGES},
    )


def _apart(features: pa.Table, batch: list[Spine]) -> Iterator[pa.Table]:
    """The features of each partition of a batch."""
    start = 0
    for spine in batch:
        yield features.slice(start, spine.labels.num_rows)
        start += spine.labels.num_rows


def _beside(labels: pa.Table, features: pa.Table) -> pa.Table:
    shared = sorted(set(labels.column_names) & set(features.column_names))
    if shared:
        raise TrainingError(f"Feature {shared[0]!r} has the name of a column of the labels; rename it in its view.")
    for field in features.schema:
        labels = labels.append_column(field, features[field.name])
    return labels
