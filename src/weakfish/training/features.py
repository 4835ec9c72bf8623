"""Features as of the times of a spine, through Feast: every row once, in order, in the types that were stored.

The project's offline store sees to that (`weakfish.store.offline`); another store of Feast's is refused, since those
lose rows, reorder them or turn whole numbers into floats. Arrow goes in and comes out.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from weakfish.errors import TrainingError
from weakfish.tables import TIME, open_partition, partitions, read_table
from weakfish.training.definitions import implied, reason, views
from weakfish.training.spine import TIMESTAMP

if TYPE_CHECKING:
    from feast import FeatureService, FeatureStore

CREATED = "created"


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
        return [name for name in dict.fromkeys([*self.entities, *self.requests]) if name != TIMESTAMP]


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
    from weakfish.store.offline import AsOfOfflineStoreConfig

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
    keys = [*view.join_keys, TIMESTAMP, CREATED]
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
            f"{field.name} came back as {column.type} and is declared {field.type} ({reason(error)}); correct its "
            "type in feature_repo/definitions.py or what its function returns."
        ) from error
