"""What Feast's own universal tests ask of every store, asked of ours and of Feast's on the same rows.

Feast's distribution holds no tests, so these are the behaviours, not the text: each returns what a caller sees, an
error's type included, and must return the same from both. What differs on purpose is in docs/store.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import redis
from feast import Entity, FeatureService, FeatureStore, FeatureView, Field, FileSource, PushSource, RequestSource
from feast.data_source import PushMode
from feast.on_demand_feature_view import on_demand_feature_view
from feast.types import Float32, Float64, Int64, String
from feast.value_type import ValueType
from projects import write
from stores import port, redis_server

pytestmark = pytest.mark.filterwarnings("ignore")

NOW = datetime.now(UTC).replace(microsecond=0)
OURS = """
offline_store: {type: weakfish.feast.offline.AsOfOfflineStore}
online_store: {type: weakfish.feast.online.ProjectRedisOnlineStore}
batch_engine: {type: weakfish.feast.materialize.ColumnarComputeEngine}
"""
THEIRS = "offline_store: {{type: dask}}\nonline_store: {{type: redis, connection_string: '127.0.0.1:{port}'}}\n"


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[redis.Redis]:
    with redis_server(tmp_path_factory.mktemp("redis")) as found:
        yield found


@pytest.fixture(scope="module")
def make(client: redis.Redis) -> Iterator[Callable[[Path], list[FeatureStore]]]:
    """What makes the same repository twice, on our stores and on Feast's, applied and materialized."""

    def made(root: Path) -> list[FeatureStore]:
        stores = []
        for name, settings in (("ours", OURS), ("theirs", THEIRS.format(port=port(client)))):
            project = f"{root.name}_{name}"
            head = f"project: {project}\nprovider: local\nregistry: registry.db\nentity_key_serialization_version: 3\n"
            write(root / name / "feature_store.yaml", head + settings)
            store = FeatureStore(repo_path=str(root / name))
            store.apply(objects(root / name))
            store.materialize(NOW - timedelta(days=30), NOW)
            stores.append(store)
        return stores

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WEAKFISH_REDIS", f"127.0.0.1:{port(client)}")
        yield made


@pytest.fixture(scope="module")
def both(make: Callable[[Path], list[FeatureStore]], tmp_path_factory: pytest.TempPathFactory) -> list[FeatureStore]:
    """Stores that are only read."""
    return make(tmp_path_factory.mktemp("both"))


def history(**columns: list[Any]) -> pd.DataFrame:
    """Rows of two entities, four hours apart, created a minute later."""
    (first, *_) = columns.values()
    times = [NOW - timedelta(hours=4 * (len(first) - place)) for place in range(len(first))]
    created = [time + timedelta(minutes=1) for time in times]
    return pd.DataFrame({**columns, "event_timestamp": times, "created": created})


def objects(root: Path) -> list[Any]:
    driver = Entity(name="driver", join_keys=["driver_id"], value_type=ValueType.INT64)
    customer = Entity(name="customer", join_keys=["customer_id"], value_type=ValueType.STRING)
    location = Entity(name="location", join_keys=["location_id"], value_type=ValueType.INT64)
    frames = {
        "driver": history(driver_id=[1, 2, 1], conv_rate=[0.1, 0.2, 0.3], trips=[4, 5, 6]),
        "customer": history(customer_id=["ann", "bob", "ann"], balance=[1.5, None, 2.5]),
        "location": history(location_id=[1, 2, 3], temperature=[10, 20, 30]),
        "global": history(rides=[100, 200]),
        "mapped": history(column_name=[0.5, 1.5]),
    }
    times = {"timestamp_field": "event_timestamp", "created_timestamp_column": "created"}
    sources = {}
    for name, frame in frames.items():
        frame.to_parquet(root / f"{name}.parquet", index=False)
        sources[name] = FileSource(name=name, path=str(root / f"{name}.parquet"), **times)
    mapping = {"column_name": "feature_name"}
    sources["mapped"] = FileSource(name="mapped", path=str(root / "mapped.parquet"), field_mapping=mapping, **times)

    def view(name: str, entities: list[Entity], source: Any, ttl: timedelta, **schema: Any) -> FeatureView:
        fields = [Field(name=field, dtype=kind) for field, kind in schema.items()]
        return FeatureView(name=name, entities=entities, schema=fields, source=source, ttl=ttl)

    week = timedelta(days=7)
    pushed = PushSource(name="pushed", batch_source=sources["driver"])
    drivers = view("driver_stats", [driver], sources["driver"], week, conv_rate=Float32, trips=Int64)
    fresh = view("driver_fresh", [driver], pushed, week, trips=Int64, conv_rate=Float32)
    fewer = view("driver_trips", [driver], sources["driver"], week, trips=Int64)
    customers = view("customer_profile", [customer], sources["customer"], week, customer_id=String, balance=Float64)
    locations = view("location_stats", [location], sources["location"], week, temperature=Int64)
    whole = view("global_stats", [], sources["global"], week, rides=Int64)
    mapped = view("mapped_stats", [], sources["mapped"], week, feature_name=Float64)
    added = RequestSource(name="added", schema=[Field(name="to_add", dtype=Int64)])

    @on_demand_feature_view(sources=[drivers, added], schema=[Field(name="conv_rate_plus", dtype=Float64)])
    def computed(inputs: pd.DataFrame) -> pd.DataFrame:
        import pandas as pd

        return pd.DataFrame({"conv_rate_plus": inputs["conv_rate"].astype("float64") + inputs["to_add"]})

    services = [
        FeatureService(name="drivers", features=[drivers[["conv_rate"]], computed]),
        FeatureService(
            name="trips",
            features=[
                locations.with_name("origin").with_join_key_map({"location_id": "origin_id"}),
                locations.with_name("destination").with_join_key_map({"location_id": "destination_id"}),
            ],
        ),
    ]
    views = [drivers, fresh, fewer, customers, locations, whole, mapped, computed]
    return [driver, customer, location, pushed, *views, *services]


DRIVERS = {"driver_id": [1, 2, 1]}
ALL = ["driver_stats:conv_rate", "driver_stats:trips", "customer_profile:balance", "global_stats:rides"]
ALL += ["mapped_stats:feature_name"]


def online(store: FeatureStore, features: Any, entities: Any, **more: Any) -> Any:
    times = more.pop("include_event_timestamps", False)
    return store.get_online_features(features, entities, **more).to_dict(include_event_timestamps=times)


def offline(store: FeatureStore, features: Any, rows: dict[str, list[Any]] | None = None, **more: Any) -> Any:
    frame = None
    if rows is not None:
        count = len(next(iter(rows.values())))
        frame = pd.DataFrame({**rows, "event_timestamp": [NOW - timedelta(hours=5 * place) for place in range(count)]})
    found = store.get_historical_features(frame, features, **more).to_df()
    columns = sorted(found.columns)
    answers = [name for name in columns if name not in {"event_timestamp", *(rows or ())}]
    found = found.dropna(how="all", subset=answers)  # Feast's store drops rows of which it knows nothing
    found["event_timestamp"] = pd.to_datetime(found["event_timestamp"], utc=True)
    ordered = found[columns].sort_values([name for name in columns if name in (*(rows or ()), "event_timestamp")])
    return columns, [[None if pd.isna(cell) else cell for cell in row] for row in ordered.to_numpy().tolist()]


def written(store: FeatureStore) -> Any:
    """Older rows do not take the place of newer ones, a newer one does, and materializing brings what is newer yet."""
    seen = []
    for hours, trips in ((-1, 40), (-9, 41), (1, 42)):
        time = NOW + timedelta(hours=hours)
        row = {"driver_id": [1], "trips": [trips], "conv_rate": [0.5], "event_timestamp": [time], "created": [time]}
        store.write_to_online_store("driver_stats", pd.DataFrame(row))
        seen.append(online(store, ["driver_stats:trips"], DRIVERS)["trips"])
    store.materialize(NOW - timedelta(days=30), NOW)
    return [*seen, online(store, ["driver_stats:trips"], DRIVERS)["trips"]]


def pushes(store: FeatureStore) -> Any:
    """A push reaches the online store, the offline one, or both."""
    seen = []
    for number, to in enumerate((PushMode.ONLINE, PushMode.OFFLINE, PushMode.ONLINE_AND_OFFLINE)):
        time = pd.Timestamp(NOW - timedelta(minutes=30 - number))
        row = {"driver_id": [9], "trips": [number], "conv_rate": [0.5], "event_timestamp": [time], "created": [time]}
        store.push("pushed", pd.DataFrame(row), to=to)
        asked = {"driver_id": [9]}
        seen.append((online(store, ["driver_fresh:trips"], asked), offline(store, ["driver_fresh:trips"], asked)))
    return seen


def asynchronous(store: FeatureStore) -> Any:
    async def ask() -> Any:
        found = await store.get_online_features_async(
            store.get_feature_service("drivers"), {**DRIVERS, "to_add": [1] * 3}
        )
        used = getattr(store._get_provider().online_store, "_client_async", None)  # which Feast never closes
        await (used.aclose() if used else store._get_provider().close())
        return found.to_dict()

    return asyncio.run(ask())


def incremental(store: FeatureStore) -> Any:
    store.materialize_incremental(NOW + timedelta(hours=1))
    intervals = store.get_feature_view("driver_stats").materialization_intervals
    return intervals[-1][1], online(store, ["driver_stats:trips"], DRIVERS)


def removed(store: FeatureStore) -> Any:
    """A view that is deleted leaves the values of others alone; `teardown` leaves none."""
    view = store.get_feature_view("driver_trips")
    store.apply([], objects_to_delete=[view], partial=False)
    seen = [online(store, ["driver_stats:trips"], DRIVERS)]
    store.teardown()
    again = FeatureStore(repo_path=str(store.repo_path))
    again.apply(objects(Path(store.repo_path)))
    return [*seen, online(again, ["driver_stats:trips"], DRIVERS)]


def consistent(store: FeatureStore) -> Any:
    """What is online is what history says of now."""
    asked = {"driver_id": [2]}
    found = online(store, ["driver_stats:conv_rate", "driver_stats:trips"], asked)
    (columns, (row,)) = offline(store, ["driver_stats:conv_rate", "driver_stats:trips"], asked)
    said = dict(zip(columns, row, strict=True))
    assert all(found[name] == [said[name]] for name in ("conv_rate", "trips"))
    return found


CHANGES: dict[str, Callable[[FeatureStore], Any]] = {
    "writes": written,
    "pushes": pushes,
    "increments": incremental,
    "removals": removed,
    "asynchronous_reads": asynchronous,
}

BEHAVIOURS: dict[str, Callable[[FeatureStore], Any]] = {
    "features by name": lambda store: online(store, ALL, {**DRIVERS, "customer_id": ["ann", "bob", "eve"]}),
    "full names": lambda store: online(
        store, ["driver_stats:trips", "driver_trips:trips"], DRIVERS, full_feature_names=True
    ),
    "names that collide": lambda store: online(store, ["driver_stats:trips", "driver_trips:trips"], DRIVERS),
    "rows as dictionaries": lambda store: online(store, ALL[:2], [{"driver_id": 1}, {"driver_id": 2}]),
    "an entity that is not there": lambda store: online(store, ALL[:2], {"driver_id": [7]}),
    "event timestamps": lambda store: online(store, ALL[:2], DRIVERS, include_event_timestamps=True),
    "a view without entities": lambda store: online(store, ["global_stats:rides"], DRIVERS),
    "a service that computes": lambda store: online(
        store, store.get_feature_service("drivers"), {**DRIVERS, "to_add": [1, 2, 3]}
    ),
    "a service of aliases": lambda store: online(
        store,
        store.get_feature_service("trips"),
        {"origin_id": [1, 9], "destination_id": [2, 3]},
        full_feature_names=True,
    ),
    "request data that is missing": lambda store: online(store, store.get_feature_service("drivers"), DRIVERS),
    "a join key that is missing": lambda store: online(store, ALL[:1], {"customer_id": ["ann"]}),
    "a feature that a view of the same source has": lambda store: online(store, ["driver_trips:conv_rate"], DRIVERS),
    "a view that there is not": lambda store: online(store, ["nothing:at_all"], DRIVERS),
    "a push to a source that there is not": lambda store: store.push("nobody", pd.DataFrame({"a": [1]})),
    "one truth": consistent,
    "history": lambda store: offline(store, ALL, {"driver_id": [1, 2, 7], "customer_id": ["ann", "bob", "eve"]}),
    "history with full names": lambda store: offline(
        store, ALL, {"driver_id": [1, 2], "customer_id": ["ann", "eve"]}, full_feature_names=True
    ),
    "history of a service that computes": lambda store: offline(
        store, store.get_feature_service("drivers"), {"driver_id": [1, 2], "to_add": [1, 2]}
    ),
    "history of aliases": lambda store: offline(
        store,
        store.get_feature_service("trips"),
        {"origin_id": [1, 2], "destination_id": [2, 1]},
        full_feature_names=True,
    ),
    "history beyond the time to live": lambda store: offline(store, ALL[:2], {"driver_id": [1] * 40}),
    "history without request data": lambda store: offline(
        store, store.get_feature_service("drivers"), {"driver_id": [1]}
    ),
    "history of a feature that a view of the same source has": lambda store: offline(
        store, ["driver_trips:conv_rate"], {"driver_id": [1]}
    ),
}


@pytest.mark.parametrize("behaviour", BEHAVIOURS)
def test_what_feasts_own_tests_read_from_every_store_is_read_from_ours(
    both: list[FeatureStore], behaviour: str
) -> None:
    found, wanted = (seen(BEHAVIOURS[behaviour], store) for store in both)
    assert found == wanted


@pytest.mark.parametrize("change", CHANGES)
def test_what_feasts_own_tests_do_to_every_store_does_the_same_to_ours(
    make: Callable[[Path], list[FeatureStore]], tmp_path: Path, change: str
) -> None:
    found, wanted = (seen(CHANGES[change], store) for store in make(tmp_path / change))
    assert found == wanted


def seen(behaviour: Callable[[FeatureStore], Any], store: FeatureStore) -> Any:
    try:
        return behaviour(store)
    except Exception as error:
        return type(error).__name__
