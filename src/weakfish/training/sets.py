"""The training-set verb: labels joined to events by key, and the features known at each event's time."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.metadata import version as package_version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
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
from weakfish.contracts.record import CREATED, EVENT_TIMESTAMP
from weakfish.contracts.tables import (
    ROWS_IN_A_GROUP,
    TIME,
    open_partition,
    partitions,
    read_partition,
    write_partition,
)
from weakfish.errors import TableError, TrainingError, UnknownName, reason
from weakfish.files import sha256
from weakfish.project.paths import Project
from weakfish.project.runs import Progress, temporary_folder

if TYPE_CHECKING:
    from feast import FeatureService, FeatureStore

BATCH = 65_536
"""Rows of which features are held at once, beside those of one partition."""

MEMORY = "1GB"
"""What the joins may hold unless offline_store.memory_limit says otherwise; more is spilled to disk."""

PACKAGES = ("duckdb", "feast", "ibis-framework", "pandas", "pyarrow")
"""Packages on whose version the training sets depend."""

WHERE = "feature_repo/definitions.py"


def build_training_sets(project: Project) -> None:
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
        for task in project.params.tasks:
            asked, progress = describe(store, project, task), Progress(f"training set of {task}")
            nulls = dict.fromkeys(asked.schema.names, 0)
            sizes = write_spine(project, task, asked.columns, scratch / f"{task}.parquet")
            known = cut(retrieved(store, asked, scratch / f"{task}.parquet"), sizes, asked.schema)
            for part, features in zip(spine(project, task, []), known, strict=True):
                nulls = {name: count + features[name].null_count for name, count in nulls.items()}
                progress.add(features.num_rows)
                _write(project, folder / task, part, features)
            write_manifest(folder, task, manifest(project, task, asked, progress.done, nulls))
            rows += progress.done
    write_ledger(project, "training_set", rows_in=rows, rows_out=rows)


def _write(project: Project, folder: Path, part: LabelledPart, features: pa.Table) -> None:
    table, order = part.labels, [(project.params.events.time, "ascending"), (project.params.events.key, "ascending")]
    if shared := sorted({*table.column_names} & {*features.column_names}):
        raise TrainingError(f"Feature {shared[0]!r} has the name of a column of the labels; rename it in its view.")
    for field in features.schema:
        table = table.append_column(field, features[field.name])
    write_partition(folder, part.name, table.sort_by(order))


def write_spine(project: Project, task: str, columns: list[str], file: Path) -> list[int]:
    """Write what features are asked for, partition after partition; returns how many rows each has."""
    sizes: list[int] = []
    with ExitStack() as stack:
        writer: pq.ParquetWriter | None = None
        for part in spine(project, task, columns):
            writer = writer or stack.enter_context(pq.ParquetWriter(file, part.asked.schema, compression="lz4"))
            writer.write_table(part.asked, row_group_size=ROWS_IN_A_GROUP)
            sizes.append(part.asked.num_rows)
    return sizes


def cut(tables: Iterator[pa.Table], sizes: Sequence[int], schema: pa.Schema) -> Iterator[pa.Table]:
    """Rows that come in tables, as tables of these sizes."""
    rest = schema.empty_table()
    for size in sizes:
        held = [rest]
        while sum(table.num_rows for table in held) < size:
            held.append(next(tables))
        table = pa.concat_tables(held)
        yield table.slice(0, size)
        rest = table.slice(size)


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


def spine(project: Project, task: str, columns: list[str]) -> Iterator[LabelledPart]:
    """Labels and ``columns`` of the same events, partition by partition.

    Raises
    ------
    TableError
        When labels and events differ in their partitions or keys.
    TrainingError
        When a column is none of the events'.
    """
    key, time = project.params.events.key, project.params.events.time
    of_label = [key, time, *(f"p_{name}" for name in project.task(task).classes), "covered", "n_votes"]
    of_label += project.task(task).label_model.origins
    labelled, known = partitions(project.table(f"labels/{task}")), partitions(project.table("events"))
    if odd := sorted(labelled.keys() ^ known.keys()):
        raise TableError(
            f"data/labels/{task} and data/events differ in their partitions ({', '.join(odd)}); run `dvc repro label`."
        )
    for name, file in known.items():
        labels, there = read_partition(labelled[name], of_label), open_partition(file).schema_arrow.names
        labels = _certain(labels, project.task(task).classes)
        if missing := [column for column in columns if column not in there]:
            raise TrainingError(
                f"Features of task {task} need {missing[0]!r}, which is not a column of the events; correct the entity "
                f"or the request source in {WHERE}, there are: {', '.join(there)}."
            )
        events = read_partition(file, list(dict.fromkeys([key, time, *columns])))
        if not labels[key].equals(events[key]):
            raise TableError(
                f"data/labels/{task}/{name}.parquet holds labels of other events than data/events/{name}.parquet; run "
                "`dvc repro label`."
            )
        asked = events.select(columns).append_column(EVENT_TIMESTAMP, events[time].cast(TIME))
        yield LabelledPart(name, labels, asked)


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


@dataclass(frozen=True)
class Asked:
    """What a feature service takes and gives.

    Attributes
    ----------
    columns : list of str
        What a frame needs besides ``event_timestamp``: entity keys, and what on-demand views ask of the moment itself.
    schema : pyarrow.Schema
        The features, named ``<view>__<feature>``, in the types that were stored: those of views, then on-demand ones.
    views, on_demand : list
        Feast's views; ``views`` are those with Parquet behind them, also those that only on-demand views read.
    """

    service: FeatureService
    columns: list[str]
    schema: pa.Schema
    views: list[Any]
    on_demand: list[Any]


def describe(store: FeatureStore, project: Project, task: str) -> Asked:
    """What the feature service of a task takes and gives, after a look at the Parquet behind it.

    Raises
    ------
    TableError
        When the Parquet of a view is missing or cut off.
    TrainingError
        When it lacks a feature, or holds two rows of one entity, event time and created time.
    UnknownName
        When there is no such service; names those that there are.
    """
    from weakfish.feast.offline import declared_type, is_on_demand

    name = project.task(task).feature_service or f"{task}_v1"
    services = {service.name: service for service in store.list_feature_services()}
    if name not in services:
        raise UnknownName(f"feature service (feature_services.{task}, by default {task}_v1)", name, services, WHERE)

    def view_of(name: str) -> Any:
        return store.registry.get_any_feature_view(name, store.project)

    projections = services[name].feature_view_projections
    every = [view_of(projection.name).with_projection(projection) for projection in projections]
    on_demand = [view for view in every if is_on_demand(view)]
    stored = [view for view in every if not is_on_demand(view)]
    read = {source.name for view in on_demand for source in view.source_feature_view_projections.values()}
    views = [*stored, *map(view_of, sorted(read - {view.name for view in stored}))]
    schemas = {id(view): _stored_schema(store, view) for view in views}
    schema = pa.schema(
        pa.field(
            f"{view.projection.name_to_use()}__{field.name}",
            schemas[id(view)].field(field.name).type if id(view) in schemas else declared_type(field),
        )
        for view in [*stored, *on_demand]
        for field in view.projection.features
    )
    columns = [view.projection.join_key_map.get(key, key) for view in views for key in view.join_keys]
    columns += [column for view in on_demand for column in view.get_request_data_schema()]
    needed = [column for column in dict.fromkeys(columns) if column != EVENT_TIMESTAMP]
    return Asked(services[name], needed, schema, views, on_demand)


def _stored_schema(store: FeatureStore, view: Any) -> pa.Schema:
    """The columns of the Parquet behind a view, in which no rows may tie."""
    folder, keys = Path(view.batch_source.path), [*view.join_keys, EVENT_TIMESTAMP, CREATED]
    schema: pa.Schema = open_partition(next(iter(partitions(folder).values()))).schema_arrow
    for name in [*keys, *(field.name for field in view.projection.features)]:
        if name not in schema.names:
            raise TrainingError(
                f"View {view.name!r} has {name!r} in {WHERE}, but data/{table_of(view)} has not; run "
                "`dvc repro features`, or correct the view."
            )
    if _tie(store, view, keys):
        raise TrainingError(
            f"data/{table_of(view)} holds several rows of one {', '.join(keys)}, among which nothing can choose; "
            "run `dvc repro features`."
        )
    return schema


def _tie(store: FeatureStore, view: Any, keys: list[str]) -> bool:
    """Whether several rows behind a view have the same keys; held on disk as far as they do not fit into memory."""
    from weakfish.feast.source_files import open_source, quoted, session

    _bounded(store)
    with session(store.config) as opened:
        stored = open_source(opened, view.batch_source, mapped=False)
        names = ", ".join(map(quoted, dict.fromkeys(keys)))
        ties = f"FROM {stored.scan} GROUP BY {names} HAVING count(*) > 1"
        return opened.holds(ties, f"The look at the rows of view {view.name!r}")


def _bounded(store: FeatureStore) -> None:
    """Bound the memory of what is read from our offline store, unless its settings do."""
    configured = store.config.offline_store
    if getattr(configured, "memory_limit", MEMORY) is None:
        configured.memory_limit = MEMORY


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
    return pa.concat_tables([asked.schema.empty_table(), *retrieved(store, asked, frame)])


def retrieved(store: FeatureStore, asked: Asked, rows: pa.Table | Path) -> Iterator[pa.Table]:
    """As `retrieve`, of a table or a file of Parquet, some rows at a time; each stored row is read once."""
    from weakfish.feast.offline import AsOfOfflineStoreConfig

    configured = store.config.offline_store
    if not isinstance(configured, AsOfOfflineStoreConfig):
        raise TrainingError(
            f"offline_store.type in feature_repo/feature_store.yaml is {configured.type!r}, which may lose or reorder "
            f"rows; set it to {AsOfOfflineStoreConfig().type!r}."
        )
    _bounded(store)
    frame: Any = str(rows) if isinstance(rows, Path) else rows
    with _explained(asked):
        job: Any = store.get_historical_features(
            frame, asked.service, full_feature_names=True, filter_by_created_timestamp=True
        )
        reader = job.to_arrow_batches(BATCH)
    while True:
        with _explained(asked):
            batch = next(reader, None)
        if batch is None:
            return
        found = pa.Table.from_batches([batch])
        yield pa.table([_typed(found, field) for field in asked.schema], schema=asked.schema)


@contextmanager
def _explained(asked: Asked) -> Iterator[None]:
    """What Feast raises becomes a `TrainingError`; of its warnings one is heard."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Feast's own deprecations
        warnings.filterwarnings("always", message="The times of the entity rows are numbers")
        try:
            yield
        except Exception as error:
            raise TrainingError(
                f"Feast could not retrieve feature service {asked.service.name!r}: {reason(error)}; correct what "
                "it names in feature_repo/ or run `dvc repro`."
            ) from error


def _typed(found: pa.Table, field: pa.Field) -> pa.ChunkedArray:
    if field.name not in found.column_names:
        raise TrainingError(f"Feast did not return {field.name!r}; correct its view in {WHERE}.")
    column = found[field.name]
    if pa.types.is_floating(column.type):
        column = pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
    try:
        return column.cast(field.type)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise TrainingError(
            f"{field.name} came back as {column.type} and is declared {field.type} ({error}); correct its type in "
            f"{WHERE} or what its function returns."
        ) from error


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
        feature_service=asked.service.name,
        views={view.name: version(view) for view in [*asked.views, *asked.on_demand]},
        versions={name: package_version(name) for name in PACKAGES},
    )


def table_of(view: Any) -> str:
    """The name of the table that a view reads: the last part of its path below ``data/features``."""
    return f"features/{Path(view.batch_source.path).name}"


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
