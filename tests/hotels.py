"""A Feast repository about guests and hotels for the offline store, and what its features are by brute force."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig, RequestSource, ValueType
from feast.data_format import ParquetFormat
from feast.on_demand_feature_view import on_demand_feature_view
from feast.types import Float64, Int64, String

from weakfish.contracts.tables import TIME

OURS = "weakfish.feast.offline.AsOfOfflineStore"
BEGIN = datetime(2024, 1, 31, 20, tzinfo=UTC)
LARGE = 2**53 + 1
"""A whole number that a float cannot hold."""

TIMES = [("event_timestamp", TIME), ("created", TIME)]
SCHEMAS = {
    "guest_stats": pa.schema([("guest", pa.string()), *TIMES, ("stays", pa.int64()), ("spent", pa.float64())]),
    "visit_stats": pa.schema([("guest", pa.string()), ("hotel", pa.int64()), *TIMES, ("visits", pa.int64())]),
    "hotel_stats": pa.schema([("hotel", pa.int64()), *TIMES, ("rating", pa.float64()), ("city", pa.string())]),
    "weather": pa.schema([*TIMES, ("rain", pa.float64())]),
}
KEYS = {"guest_stats": ["guest"], "visit_stats": ["guest", "hotel"], "hotel_stats": ["hotel"], "weather": []}
TTL = {"visit_stats": timedelta(hours=1)}
FEATURES = {
    name: [column for column in schema.names if column not in (*KEYS[name], "event_timestamp", "created")]
    for name, schema in SCHEMAS.items()
}
KINDS = {pa.string(): String, pa.int64(): Int64, pa.float64(): Float64}

Rows = Sequence[dict[str, Any]]


def at(hours: float) -> datetime:
    return BEGIN + timedelta(hours=hours)


def row(hours: float, created: float | None = None, **values: Any) -> dict[str, Any]:
    """A feature row, created at its event time unless said otherwise."""
    return {"event_timestamp": at(hours), "created": at(hours if created is None else created), **values}


def source(name: str, path: str, **more: Any) -> FileSource:
    times = {"timestamp_field": "event_timestamp", "created_timestamp_column": "created", **more}
    return FileSource(name=name, path=path, file_format=ParquetFormat(), **times)


def hotels(root: Path, kind: str = OURS, online_store: Any = None, **settings: Any) -> FeatureStore:
    """A store over the Parquet in ``root/data``, by paths relative to the repository; nothing is written yet."""
    (root / "data").mkdir(parents=True, exist_ok=True)
    store = FeatureStore(
        config=RepoConfig(
            project="hotels",
            provider="local",
            registry=str(root / f"{kind.rpartition('.')[2]}.db"),
            offline_store={"type": kind, **settings},
            online_store=online_store,
            materialization={"pull_latest_features": True},
            entity_key_serialization_version=3,
            repo_path=root,
        )
    )
    base = "data" if kind == OURS else str(root / "data")
    guest = Entity(name="guest", value_type=ValueType.STRING)
    hotel = Entity(name="hotel", value_type=ValueType.INT64)
    entities = {"guest": guest, "hotel": hotel}
    views = {
        name: FeatureView(
            name=name,
            entities=[entities[key] for key in KEYS[name]] or None,
            ttl=TTL.get(name),
            schema=[Field(name=field.name, dtype=KINDS[field.type]) for field in schema if field.type in KINDS],
            source=source(name, f"{base}/{name}"),
        )
        for name, schema in SCHEMAS.items()
    }
    booking = RequestSource(name="booking", schema=[Field(name="nights", dtype=Int64)])

    @on_demand_feature_view(
        sources=[booking, views["guest_stats"]],
        schema=[Field(name="nights_after", dtype=Int64), Field(name="per_stay", dtype=Float64)],
    )
    def booking_features(inputs: pd.DataFrame) -> pd.DataFrame:
        import pandas as pd

        found = pd.DataFrame(index=inputs.index)
        found["nights_after"] = inputs["nights"] + 1
        found["per_stay"] = inputs["spent"] / inputs["stays"]
        return found

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        store.apply([guest, hotel, *views.values(), booking, booking_features])
    return store


def fill(root: Path, name: str, rows: Sequence[dict[str, Any]], files: int = 1) -> None:
    """Write a view's rows, dealt out to files."""
    folder = root / "data" / name
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(files):
        table = pa.Table.from_pylist(list(rows[number::files]), SCHEMAS[name])
        pq.write_table(table, folder / f"{number}.parquet")


def references(*names: str) -> list[str]:
    """All features of views."""
    return [f"{name}:{feature}" for name in names for feature in FEATURES[name]]


def known(rows: Rows, keys: dict[str, Any], time: Any, ttl: Any, *, created: bool) -> dict[str, Any]:
    """Brute force: the row that counts at a time, or an empty one."""
    there = [
        one
        for one in rows
        if all(value is not None and one[key] == value for key, value in keys.items())
        and time is not None
        and one["event_timestamp"] is not None
        and one["event_timestamp"] <= time
        and (not ttl or one["event_timestamp"] >= time - ttl)
        and (not created or (one["created"] is not None and one["created"] <= time))
    ]
    names = sorted({name for one in rows for name in one} - {*keys, "event_timestamp", "created"})

    def rank(one: dict[str, Any]) -> tuple[Any, ...]:
        values = [one["created"], *(one[name] for name in names)]
        return one["event_timestamp"], *((value is not None, 0 if value is None else value) for value in values)

    return max(there, key=rank, default={})
