"""What a task's feature service takes and gives, and the features of a frame as of its times."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pyarrow as pa
import pyarrow.compute as pc

from weakfish.contracts.record import CREATED, EVENT_TIMESTAMP
from weakfish.contracts.tables import open_partition, partitions
from weakfish.errors import TrainingError, UnknownName, reason
from weakfish.project.paths import Project

if TYPE_CHECKING:
    from feast import FeatureStore, RepoConfig

    from weakfish.feast.offline import ArrowJob
    from weakfish.feast.source_files import Session, StoredRows

BATCH = 65_536
"""Rows of which features are held at once."""

MEMORY = "1GB"
"""What the joins may hold unless offline_store.memory_limit says otherwise; more is spilled to disk."""

WHERE = "feature_repo/definitions.py"


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

    service: str
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
        When it lacks a feature.
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
    schemas = {id(view): _stored_schema(view) for view in views}
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
    return Asked(name, needed, schema, views, on_demand)


def _stored_schema(view: Any) -> pa.Schema:
    """The columns of the Parquet behind a view."""
    folder, keys = Path(view.batch_source.path), [*view.join_keys, EVENT_TIMESTAMP, CREATED]
    schema: pa.Schema = open_partition(next(iter(partitions(folder).values()))).schema_arrow
    for name in [*keys, *(field.name for field in view.projection.features)]:
        if name not in schema.names:
            raise TrainingError(
                f"View {view.name!r} has {name!r} in {WHERE}, but data/{table_of(view)} has not; run "
                "`dvc repro features`, or correct the view."
            )
    return schema


def refuse_ties(opened: Session, stored: StoredRows, view: str, table: str, keys: Sequence[str]) -> None:
    """Raise `TrainingError` when several rows of a view have the same keys and times.

    Rows are held on disk as far as they do not fit into memory.
    """
    from weakfish.feast.source_files import quoted

    keys = list(dict.fromkeys([*keys, EVENT_TIMESTAMP, CREATED]))
    ties = f"FROM {stored.scan} GROUP BY {', '.join(map(quoted, keys))} HAVING count(*) > 1"
    if opened.holds(ties, f"The look at the rows of view {view!r}"):
        raise TrainingError(
            f"data/{table} holds several rows of one {', '.join(keys)}, among which nothing can choose; "
            "run `dvc repro features`."
        )


def bounded(config: RepoConfig) -> RepoConfig:
    """Feast's settings, which bound the memory of what is read from our offline store."""
    configured = config.offline_store
    if getattr(configured, "memory_limit", MEMORY) is None:
        configured.memory_limit = MEMORY
    return config


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
        When Feast fails, a feature is not of its type, the project's offline store is another than ours, or a view
        holds two rows of one entity, event time and created time.
    """
    from weakfish.feast.source_files import open_source, session

    with session(bounded(store.config)) as opened:
        for view in asked.views:
            stored = open_source(opened, view.batch_source, mapped=False)
            refuse_ties(opened, stored, view.name, table_of(view), view.join_keys)
    with explained(asked.service):
        found = list(job(store, asked.service, frame).to_arrow_batches(BATCH))
    tables = (pa.Table.from_batches([batch]) for batch in found)
    return pa.concat_tables([asked.schema.empty_table(), *(typed(table, asked.schema) for table in tables)])


def job(store: FeatureStore, service: str, rows: pa.Table | Path) -> ArrowJob:
    """What our offline store reads and computes for rows, in memory or of Parquet; nothing is read yet."""
    from weakfish.feast.offline import AsOfOfflineStoreConfig

    configured = bounded(store.config).offline_store
    if not isinstance(configured, AsOfOfflineStoreConfig):
        raise TrainingError(
            f"offline_store.type in feature_repo/feature_store.yaml is {configured.type!r}, which may lose or reorder "
            f"rows; set it to {AsOfOfflineStoreConfig().type!r}."
        )
    frame: Any = str(rows) if isinstance(rows, Path) else rows
    found: Any = store.get_historical_features(
        frame, store.get_feature_service(service), full_feature_names=True, filter_by_created_timestamp=True
    )
    return cast("ArrowJob", found)


@contextmanager
def explained(service: str) -> Iterator[None]:
    """What Feast raises becomes a `TrainingError`; of its warnings one is heard."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Feast's own deprecations
        warnings.filterwarnings("always", message="The times of the entity rows are numbers")
        try:
            yield
        except TrainingError:
            raise
        except Exception as error:
            raise TrainingError(
                f"Feast could not retrieve feature service {service!r}: {reason(error)}; correct what it names in "
                "feature_repo/ or run `dvc repro`."
            ) from error


def typed(found: pa.Table, schema: pa.Schema) -> pa.Table:
    """Features as they were asked for, of what came back; raises `TrainingError`."""
    return pa.table([_typed(found, field) for field in schema], schema=schema)


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


def table_of(view: Any) -> str:
    """The name of the table that a view reads."""
    return table_of_source(view.batch_source)


def table_of_source(source: Any) -> str:
    """The name of the table of a source: the last part of its path below ``data/features``."""
    return f"features/{Path(source.path).name}"
