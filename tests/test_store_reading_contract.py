"""What reads rely on inside of Feast and redis-py, pinned: a version that changes it fails here, and not in service."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

import feast.metrics
import hiredis
import pytest
import reading
import redis
from feast import FeatureStore, utils
from feast.feature_view import DUMMY_ENTITY, DUMMY_ENTITY_ID, DUMMY_ENTITY_VAL
from feast.infra.key_encoding_utils import serialize_entity_key
from feast.infra.online_stores.online_store import OnlineStore
from feast.infra.online_stores.redis import RedisOnlineStore, _mmh3
from feast.online_response import OnlineResponse
from feast.protos.feast.serving.ServingService_pb2 import FieldStatus, GetOnlineFeaturesResponse
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.type_map import python_values_to_proto_values
from feast.value_type import ValueType
from google.protobuf.timestamp_pb2 import Timestamp
from reading import feast_store
from stores import port, redis_server

from weakfish.feast import layout as keys
from weakfish.feast import response as build
from weakfish.feast.online import ProjectRedisOnlineStore
from weakfish.feast.read_plan import PlanCache, ReadPlan
from weakfish.feast.reader import by_feast, by_hand, key_column

SIGNATURES = {
    "feast.utils._get_online_request_context": "registry, project, features, full_feature_names",
    "feast.utils._get_table_entity_values": "table, entity_name_to_join_key_map, join_key_proto_values",
    "feast.utils._get_unique_entities": "table, join_key_values, entity_name_to_join_key_map",
    "feast.utils._get_entity_key_protos": "entity_rows",
    "feast.utils._prepare_entities_to_read_from_online_store": "registry, project, features, entity_values, "
    "full_feature_names, native_entity_values",
    "feast.utils._augment_response_with_on_demand_transforms": "online_features_response, feature_refs, "
    "requested_on_demand_feature_views, full_feature_names, feature_types",
    "feast.utils._drop_unneeded_columns": "online_features_response, requested_result_row_names",
    "feast.infra.online_stores.redis._versioned_fv_name": "table, config",
    "feast.infra.key_encoding_utils.serialize_entity_key": "entity_key, entity_key_serialization_version",
    "feast.infra.key_encoding_utils.serialize_entity_key_prefix": "entity_keys, entity_key_serialization_version",
    "feast.type_map.python_values_to_proto_values": "values, feature_type",
    "feast.feature_server_utils._value_to_native": "v",
    "feast.metrics.track_online_store_read": "duration_seconds",
    "feast.metrics.track_feature_statuses": "feature_view_name, present_count, not_found_count",
}
READS = ("get_online_features", "get_online_features_async", "online_read", "online_read_async")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FeatureStore]:
    folder: Path = tmp_path_factory.mktemp("repository")
    with redis_server(folder / "redis") as client:
        reading.made(folder, port(client))
        with feast_store(folder, port(client)) as store:
            yield store


def planned(store: FeatureStore, features: Any, full: bool = False) -> ReadPlan:
    features = store.get_feature_service(features) if isinstance(features, str) else features
    return ReadPlan(store.config, store.registry, store.project, features, full)


@pytest.mark.parametrize("name", sorted(SIGNATURES))
def test_feasts_own_functions_take_what_they_took(name: str) -> None:
    module, _, function = name.rpartition(".")
    parameters = inspect.signature(getattr(import_module(module), function)).parameters
    assert ", ".join(parameters) == SIGNATURES[name]


@pytest.mark.parametrize("name", READS)
def test_feast_calls_an_online_store_as_it_did(name: str) -> None:
    theirs, mine = (
        inspect.signature(getattr(OnlineStore, name)),
        inspect.signature(getattr(ProjectRedisOnlineStore, name)),
    )
    assert [(each.name, each.default) for each in mine.parameters.values()] == [
        (each.name, each.default) for each in theirs.parameters.values()
    ]
    assert inspect.iscoroutinefunction(getattr(OnlineStore, name)) == name.endswith("_async")


def test_the_class_replaces_nothing_of_feasts_by_accident() -> None:
    own = {name for name in vars(ProjectRedisOnlineStore) if not name.startswith("__")} - {"_abc_impl"}
    writes = {"online_write_batch", "online_write_batch_async"}
    removal = {"update", "teardown", "delete_table", "delete_entity_values", "close"}
    theirs = {name for base in RedisOnlineStore.__mro__ for name in vars(base)}
    assert own & theirs == {*READS, *writes, *removal}


def test_feast_resolves_a_request_to_what_a_plan_takes_apart(store: FeatureStore) -> None:
    service = store.get_feature_service("python_too")
    found = utils._get_online_request_context(store.registry, store.project, service, False)
    refs, on_demand, join_key_of, kinds, join_keys, grouped, requested, needed, entityless = found
    assert refs == ["by_python:text", "visits:rate"]
    assert [view.name for view in on_demand] == ["by_python"]
    assert join_key_of == {"driver": "driver_id", "place": "place", "__dummy": "__dummy_id"} or join_key_of == {
        "driver": "driver_id",
        "place": "place",
    }
    assert kinds["driver_id"] == ValueType.INT64
    assert kinds["place"] == ValueType.STRING
    assert set(join_keys) >= {"driver_id", "place"}
    assert {view.name: sorted(names) for view, names in grouped} == {
        "trips": ["count", "name"],
        "places": ["score"],
        "visits": ["rate"],
    }
    assert (requested, needed, entityless) == ({"text", "rate"}, set(), False)
    assert {view.name: view.ttl for view, _ in grouped}["visits"] == timedelta(hours=1)


def test_feast_finds_a_views_keys_under_their_aliases(store: FeatureStore) -> None:
    plan = planned(store, "mapped", full=True)
    columns: dict[str, list[Any]] = {"start_id": ["start_id"], "end_id": ["end_id"]}
    found = {
        view.columns[0].split("__")[0]: utils._get_table_entity_values(view.table, plan.join_key_of, columns)
        for view in plan.views
    }
    assert found == {"start": {"place": ["start_id"]}, "end": {"place": ["end_id"]}}


def test_feast_has_one_entity_for_views_without_any() -> None:
    assert (DUMMY_ENTITY_ID, DUMMY_ENTITY_VAL, DUMMY_ENTITY.value_type) == ("__dummy_id", "", ValueType.UNKNOWN)


def test_keys_and_fields_are_those_of_feasts_store(store: FeatureStore) -> None:
    asked = {"driver_id": [1, -5, 2**40, 1], "place": ["a", "", "ähop/ß*[?" * 40, "a"]}
    for name in ("everything", "some", "python_too"):
        plan = planned(store, name, full=True)
        hand = by_hand(plan, asked)
        assert hand is not None
        feast = by_feast(plan, asked)
        assert dict(hand.columns) == dict(feast.columns)
        assert hand.head == feast.head
        assert _read(hand) == _read(feast)


def _read(asked: Any) -> list[list[tuple[bytes, list[bytes]]]]:
    """The key and the fields that every view reads for every row."""
    found = []
    for want, start, time in asked.places:
        fields, hashes = asked.wants[want]
        order = asked.orders[want] or range(len(hashes))
        found.append([(hashes[number], list(fields.fields[start : time + 1])) for number in order])
    return found


def test_fields_are_named_as_feast_names_them() -> None:
    assert keys.feature_field("view", "feature") == _mmh3("view:feature")
    assert keys.time_field("view") == b"_ts:view"


@pytest.mark.parametrize("kind", [ValueType.INT32, ValueType.INT64, ValueType.STRING, ValueType.UNKNOWN])
def test_a_key_by_hand_is_feasts(kind: ValueType) -> None:
    numbers = [0, 1, -1, 127, 128, 2**31 - 1, *range(-(2**31), 2**31, 86_028_121)]
    texts = ["", "a", "ß" * 200, "\0", "x" * 127, "x" * 128]
    for values in ([] if kind == ValueType.STRING else [numbers]) + ([texts] if "INT" not in kind.name else []):
        column = key_column(values, kind)
        assert column is not None
        want = python_values_to_proto_values(values, kind)
        assert column.values == [value.SerializeToString() for value in want]
        keyed = [serialize_entity_key(EntityKey(join_keys=["k"], entity_values=[value])) for value in want]
        assert [part[13:] for part in keyed] == column.parts  # after count, type, length and name


def test_the_message_put_together_is_the_one_that_feast_builds(store: FeatureStore) -> None:
    values = [Value(string_val="é"), Value(), Value(string_val="x" * 3000)]
    stamps = [Timestamp(seconds=1_700_000_000, nanos=250_000_000), Timestamp(), Timestamp(seconds=5)]
    message = GetOnlineFeaturesResponse()
    message.metadata.feature_names.val.extend(["key", "feature"])
    message.results.append(
        GetOnlineFeaturesResponse.FeatureVector(
            values=values, statuses=[FieldStatus.PRESENT] * 3, event_timestamps=[Timestamp()] * 3
        )
    )
    message.results.append(
        GetOnlineFeaturesResponse.FeatureVector(
            values=[values[0], Value(), values[2]],
            statuses=[FieldStatus.PRESENT, FieldStatus.NOT_FOUND, FieldStatus.PRESENT],
            event_timestamps=stamps,
        )
    )
    rows: list[list[bytes | None]] = [
        [value.SerializeToString(), stamp.SerializeToString()] for value, stamp in zip(values, stamps, strict=True)
    ]
    rows[1] = [b"left behind", None]
    head = GetOnlineFeaturesResponse()
    head.metadata.feature_names.val.extend(["key", "feature"])
    parts = [head.SerializeToString(), build.request_result([value.SerializeToString() for value in values])]
    parts += build.view_results(build.judged(rows, 0, 1, None), planned(store, ["trips:name"]).views[0])
    assert GetOnlineFeaturesResponse.FromString(b"".join(parts)) == message
    assert [FieldStatus.Name(number) for number in range(5)] == [  # type: ignore[arg-type]
        "INVALID",
        "PRESENT",
        "NULL_VALUE",
        "NOT_FOUND",
        "OUTSIDE_MAX_AGE",
    ]


def test_a_response_tells_types_as_feast_does(store: FeatureStore) -> None:
    response = store.get_online_features(["trips:count", "places:name"], {"driver_id": [0], "place": ["a"]})
    assert isinstance(response, OnlineResponse)
    assert response._feature_types == {
        "count": ValueType.INT64,
        "trips__count": ValueType.INT64,
        "name": ValueType.STRING,
        "places__name": ValueType.STRING,
    }


def test_a_registry_in_a_file_tells_when_it_changed(store: FeatureStore) -> None:
    registry = store.registry
    plans = PlanCache(store.config, registry)
    first = plans.plan(store.project, ["trips:count"], False, False)
    assert plans.plan(store.project, ["trips:count"], False, False) is first
    before = registry.cached_registry_proto, registry.cached_registry_proto.version_id
    registry.refresh()
    assert registry.cached_registry_proto is not before[0]
    second = plans.plan(store.project, ["trips:count"], False, False)
    assert second is not first
    registry.commit()  # the same message, changed in place
    assert registry.cached_registry_proto.version_id != before[1]
    assert plans.plan(store.project, ["trips:count"], False, False) is not second
    assert registry._file_path.is_file()


def test_a_registry_that_tells_nothing_is_asked_every_time(store: FeatureStore) -> None:
    class Closed:
        def __getattr__(self, name: str) -> Any:
            if name in ("_get_registry_proto", "_refresh_cached_registry_if_necessary"):
                raise AttributeError(name)
            return getattr(store.registry, name)

    plans = PlanCache(store.config, Closed())
    assert plans.plan(store.project, ["trips:count"], False, False) is not plans.plan(
        store.project, ["trips:count"], False, False
    )


def test_the_other_registries_refresh_as_they_did() -> None:
    caching = import_module("feast.infra.registry.caching_registry").CachingRegistry
    assert list(inspect.signature(caching._refresh_cached_registry_if_necessary).parameters) == ["self"]
    assert "self.cached_registry_proto_created = _utc_now()" in inspect.getsource(caching.refresh)


def test_feasts_metrics_count_honestly(store: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[tuple[str, int, int]] = []
    timed: list[float] = []
    monkeypatch.setattr(feast.metrics._config, "online_features", True)
    monkeypatch.setattr(feast.metrics, "track_feature_statuses", lambda *counts: counted.append(counts))
    monkeypatch.setattr(feast.metrics, "track_online_store_read", timed.append)
    store.get_online_features(["trips:rate", "ratings:name", "ratings:count"], {"driver_id": [0, 3, 77]})
    assert sorted(counted) == [("ratings", 2, 4), ("trips", 2, 1)]
    assert len(timed) == 1


def test_redis_py_gives_its_connections_sockets_to_us(store: FeatureStore) -> None:
    store.get_online_features(["trips:rate"], {"driver_id": [0]})
    online = store._get_provider().online_store
    assert type(online._client) is redis.Redis
    assert type(online._client.connection_pool) is redis.ConnectionPool
    line = online.reader(store.config).exchange.idle[-1]
    assert line.connection._sock is line.socket


def test_hiredis_hands_out_answers_as_lists_of_bytes() -> None:
    more = object()
    reader = hiredis.Reader(notEnoughData=more)
    reader.feed(b"*3\r\n$1\r\na\r\n$-1\r\n$0\r\n\r\n*1\r\n_\r\n-ERR no\r\n>1\r\n+push\r\n*1\r\n$3\r\nab")
    assert reader.gets() == [b"a", None, b""]
    assert reader.gets() == [None]
    for _ in range(2):  # an error, a push: no plain list
        assert type(reader.gets()) is not list
    assert reader.gets() is more
