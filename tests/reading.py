"""A registry with all kinds of views, rows of them in Redis as Feast writes them, and what honest reads of them say."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
from feast import Entity, FeatureService, FeatureStore, FeatureView, Field, FileSource, RepoConfig, RequestSource
from feast.infra.online_stores.redis import RedisOnlineStore
from feast.on_demand_feature_view import on_demand_feature_view
from feast.online_response import OnlineResponse
from feast.protos.feast.serving.ServingService_pb2 import FieldStatus, GetOnlineFeaturesResponse
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import FloatList, StringList, Value
from feast.types import Array, Bool, Bytes, Float32, Float64, Int64, String, UnixTimestamp
from feast.value_type import ValueType

OURS = "weakfish.feast.online.ProjectRedisOnlineStore"
PROJECT = "reading"
NOW = datetime.now(UTC)
FRESH, STALE = NOW - timedelta(minutes=3, microseconds=NOW.microsecond - 250_000), NOW - timedelta(days=3)
DAY, HOUR = timedelta(days=1), timedelta(hours=1)
LIFETIMES = {"trips": None, "ratings": DAY, "places": None, "visits": HOUR, "weather": None, "kept": None}

DRIVERS, PLACES = range(-1, 8), ["", "a", "ähop/ß*[?", "b" * 200]
VALUES: dict[str, Any] = {
    "count": lambda number: Value(int64_val=number - 3 + (2**53 + 1) * (number % 2)),
    "rate": lambda number: Value(double_val=number / 7),
    "score": lambda number: Value(float_val=number / 3),
    "name": lambda number: Value(string_val="ß" * number),
    "active": lambda number: Value(bool_val=number % 2 == 0),
    "seen": lambda number: Value(unix_timestamp_val=1_700_000_000 + number),
    "blob": lambda number: Value(bytes_val=bytes(range(number))),
    "vector": lambda number: Value(float_list_val=FloatList(val=[number / 3, 0.5])),
    "tags": lambda number: Value(string_list_val=StringList(val=["x"] * number)),
    "third": lambda number: Value(double_val=number / 21),
}
TYPES = [Int64, Float64, Float32, String, Bool, UnixTimestamp, Bytes, Array(Float32), Array(String)]
SCHEMA = [Field(name=name, dtype=kind) for name, kind in zip(VALUES, TYPES, strict=False)]

driver = Entity(name="driver", join_keys=["driver_id"], value_type=ValueType.INT64)
place = Entity(name="place", value_type=ValueType.STRING)
MESSAGE = RequestSource(name="message", schema=[Field(name="extra", dtype=Int64)])


def _view(name: str, entities: Sequence[Entity], schema: Sequence[Field]) -> FeatureView:
    keys = [Field(name=key.join_key, dtype=Int64 if key is driver else String) for key in entities]
    source = FileSource(name=f"{name}_source", path=f"{name}.parquet", timestamp_field="event_timestamp")
    lifetime = LIFETIMES[name]
    return FeatureView(name=name, entities=list(entities), ttl=lifetime, schema=[*keys, *schema], source=source)


trips, ratings = _view("trips", [driver], SCHEMA), _view("ratings", [driver], SCHEMA[:4])
places, visits = _view("places", [place], SCHEMA[2:6]), _view("visits", [place, driver], SCHEMA[:3])
weather = _view("weather", [], SCHEMA[1:3])


@on_demand_feature_view(
    sources=[MESSAGE, trips[["rate"]]], schema=[Field(name="more", dtype=Int64), Field(name="half", dtype=Float64)]
)
def by_pandas(inputs: pd.DataFrame) -> pd.DataFrame:
    frame = pd.DataFrame(index=inputs.index)
    frame["more"] = inputs["extra"].astype("int64") + 1
    frame["half"] = inputs["rate"].astype("float64") / 2
    return frame


@on_demand_feature_view(
    sources=[trips[["count", "name"]], places[["score"]]], schema=[Field(name="text", dtype=String)], mode="python"
)
def by_python(inputs: dict[str, Any]) -> dict[str, Any]:
    rows = zip(inputs["count"], inputs["name"], inputs["score"], strict=True)
    return {"text": [f"{count}/{name}/{score is None}" for count, name, score in rows]}


@on_demand_feature_view(sources=[MESSAGE], schema=[Field(name="twice", dtype=Int64)], mode="python")
def by_request(inputs: dict[str, Any]) -> dict[str, Any]:
    return {"twice": [2 * extra for extra in inputs["extra"]]}


@on_demand_feature_view(
    entities=[driver],
    sources=[trips[["rate"]]],
    schema=[Field(name="third", dtype=Float64)],
    mode="python",
    write_to_online_store=True,
)
def kept(inputs: dict[str, Any]) -> dict[str, Any]:
    return {"third": [rate and rate / 3 for rate in inputs["rate"]]}


def _mapped(alias: str, key: str) -> FeatureView:
    return places.with_name(alias).with_join_key_map({"place": key})


SERVICES = [
    FeatureService(name="everything", features=[trips, ratings, places, visits, weather]),
    FeatureService(name="some", features=[ratings[["rate", "count"]], visits[["score"]], trips[["tags", "vector"]]]),
    FeatureService(name="renamed", features=[trips[["count", "rate"]].with_name("journeys"), ratings[["name"]]]),
    FeatureService(
        name="mapped", features=[_mapped("start", "start_id")[["name"]], _mapped("end", "end_id")[["score", "name"]]]
    ),
    FeatureService(name="pandas_too", features=[by_pandas, ratings[["score"]]]),
    FeatureService(name="python_too", features=[by_python, visits[["rate"]]]),
    FeatureService(name="on_demand", features=[by_pandas[["more"]], by_python]),
    FeatureService(name="of_request", features=[by_request]),
    FeatureService(name="kept_too", features=[kept, trips[["count"]], by_request]),
    FeatureService(name="no_entities", features=[weather]),
]
KEYS = {
    "everything": ["driver_id", "place"],
    "some": ["driver_id", "place"],
    "renamed": ["driver_id"],
    "mapped": ["start_id", "end_id"],
    "pandas_too": ["driver_id", "extra"],
    "python_too": ["driver_id", "place"],
    "on_demand": ["driver_id", "place", "extra"],
    "of_request": ["extra"],
    "kept_too": ["driver_id", "extra"],
}
REFERENCES = [f"{view.name}:{field.name}" for view in (trips, ratings, places, visits) for field in view.features]
OBJECTS = [driver, place, trips, ratings, places, visits, weather, by_pandas, by_python, by_request, kept, *SERVICES]


def config(root: Path, port: int | str, online: str, **more: Any) -> RepoConfig:
    """A configuration without a project around it, as Feast's users have it."""
    settings = {
        "project": PROJECT,
        "provider": "local",
        "registry": {"path": str(root / "registry.db"), "cache_ttl_seconds": 600},
        "offline_store": {"type": "duckdb"},
        "online_store": {"type": online, "connection_string": f"127.0.0.1:{port}", **more},
        "entity_key_serialization_version": 3,
    }
    return RepoConfig(**settings, repo_path=root)


@contextmanager
def feast_store(root: Path, port: int | str, online: str = OURS, **more: Any) -> Iterator[FeatureStore]:
    """A store whose connections are closed at the end."""
    store = FeatureStore(config=config(root, port, online, **more))
    try:
        yield store
    finally:
        client = store._get_provider().online_store._client
        if client is not None:
            client.close()


def made(folder: Path, port: int) -> Path:
    """The repository in ``folder``, applied, with its rows written by plain Feast."""
    apply(folder, port)
    write(folder, port)
    return folder


def apply(root: Path, port: int, objects: Sequence[Any] = OBJECTS) -> None:
    """Make the registry, or change it, as another process would."""
    root.mkdir(parents=True, exist_ok=True)
    with feast_store(root, port, "redis") as store, warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # on-demand views are called experimental
        store.apply(list(objects))


Key = tuple[tuple[str, Any], ...]


def rows_of(view: str) -> dict[Key, tuple[datetime, int]]:
    """The rows of a view: by join keys and their values, the event time and the number that values are made of."""
    numbers = [number for number in DRIVERS if number % 3 != {"trips": 1, "ratings": 2}.get(view, 5)]
    rows: dict[Key, tuple[datetime, int]] = {}
    for number in numbers:
        moment = STALE if number % 2 else FRESH
        if view in ("trips", "ratings", "kept"):
            rows[_key(driver_id=number)] = (moment, number + 1)
        elif view == "visits":
            rows[_key(driver_id=number, place=PLACES[number % len(PLACES)])] = (moment, number + 1)
        elif view == "places" and 0 <= number < 3:
            rows[_key(place=PLACES[number])] = (moment, number)
        elif view == "weather":
            rows[_key(__dummy_id="")] = (STALE, 4)
    return rows


def _key(**values: Any) -> Key:
    return tuple(sorted(values.items()))


def write(root: Path, port: int, **more: Any) -> None:
    """Write all rows as Feast does: some values null, and some fields missing."""
    with feast_store(root, port, "redis", **more) as store:
        online = RedisOnlineStore()
        for name in LIFETIMES:
            view = store.registry.get_any_feature_view(name, PROJECT)
            data = []
            for key, (moment, number) in rows_of(name).items():
                entity = EntityKey(
                    join_keys=[name for name, _ in key], entity_values=[entity_value(value) for _, value in key]
                )
                values = {field.name: VALUES[field.name](number) for field in view.features}
                for position, field in enumerate(list(values)):
                    if (number + position) % 5 == 4:
                        values[field] = Value()
                    elif (number + position) % 7 == 6:
                        del values[field]
                data.append((entity, values, moment, None))
            online.online_write_batch(store.config, view, data, None)
        online._client.close()


def honest(plain: OnlineResponse, names: Sequence[str], asked: Mapping[str, Sequence[Any]]) -> OnlineResponse:
    """Feast's response, with what an honest one says of rows that are not there or too old; ``names`` are full."""
    message = GetOnlineFeaturesResponse()
    message.CopyFrom(plain.proto)
    for name, result in zip(names, message.results, strict=False):  # on-demand features, some unnamed, come last
        view, _, _ = name.partition("__")
        found = {"journeys": "trips", "start": "places", "end": "places"}.get(view, view)
        if found not in LIFETIMES:
            continue
        rows = {key: moment for key, (moment, _) in rows_of(found).items()}
        for number in range(len(result.values)):
            moment = rows.get(_asked_key(view, {key: values[number] for key, values in asked.items()}))
            if moment is None:
                result.statuses[number] = FieldStatus.NOT_FOUND
            elif (lifetime := LIFETIMES[found]) and moment < NOW - lifetime:
                result.values[number].Clear()
                result.statuses[number] = FieldStatus.OUTSIDE_MAX_AGE
    return OnlineResponse(message, plain._feature_types)


def _asked_key(view: str, row: Mapping[str, Any]) -> Key:
    if view in ("trips", "ratings", "journeys", "kept"):
        return _key(driver_id=row.get("driver_id"))
    if view == "visits":
        return _key(driver_id=row.get("driver_id"), place=row.get("place"))
    if view == "weather":
        return _key(__dummy_id="")
    return _key(place=row.get({"start": "start_id", "end": "end_id"}.get(view, "place")))


def entity_value(value: Any) -> Value:
    """A join key's value as Feast has it."""
    return Value(int64_val=value) if isinstance(value, int) else Value(string_val=value)
