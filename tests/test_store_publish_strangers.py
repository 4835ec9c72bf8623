"""Keys of ours in the online store that somebody else filled with something else: none of them stops a publication."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import redis
from feast import FeatureStore
from stores import dump, shop

from weakfish.feast import layout as keys
from weakfish.feast.probe import share_of
from weakfish.feast.publish import audit, publish
from weakfish.project.paths import Project

PUT: dict[str, Callable[[redis.Redis, Any], Any]] = {
    "string": lambda store, key: store.set(key, "hello"),
    "list": lambda store, key: store.rpush(key, "hello"),
    "set": lambda store, key: store.sadd(key, "hello"),
    "sorted set": lambda store, key: store.zadd(key, {"hello": 1}),
    "stream": lambda store, key: store.xadd(key, {"hello": "there"}),
}


@pytest.fixture
def project(tmp_path: Path, store: redis.Redis) -> Project:
    """A small project, published."""
    found = shop(tmp_path / "shop")
    assert publish(found)
    return found


def key_of(store: redis.Redis, name: str) -> bytes:
    return next(key for key in keys.of_project(store, "shop") if key.endswith(f"{name}shop".encode()))


def put(store: redis.Redis, kind: str, key: bytes | str) -> None:
    """Fill a key with something that is none of ours."""
    store.delete(key)
    PUT[kind](store, key)


@pytest.mark.parametrize("kind", PUT)
def test_a_key_that_holds_no_hash_is_replaced_and_told_of(
    project: Project, store: redis.Redis, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    held = dump(store)
    put(store, kind, key_of(store, "b3"))
    found = audit(project)
    assert not found.passed
    assert found.audit["views"]["buyer_orders"]["first"] == {"different": [{"buyer": "b3"}]}
    put(store, kind, key_of(store, "s1"))
    capsys.readouterr()
    outcome = publish(project)
    assert outcome
    assert [line for line in capsys.readouterr().err.splitlines() if "hash" in line] == [
        "weakfish: Of the entities' keys in the online store, 2 held no hash (first: shop=s1); they are deleted and "
        "written as the feature tables have them."
    ]
    assert outcome.counts["buyer_orders"].written == outcome.counts["shop_orders"].written == 1
    assert dump(store) == held
    assert audit(project).passed
    assert not publish(project)


def test_the_probe_sees_a_key_that_holds_no_hash(project: Project, store: redis.Redis) -> None:
    held = dump(store)
    put(store, "string", key_of(store, "b4"))  # which buyer_refunds has too
    assert publish(project)
    assert dump(store) == held


def test_the_probe_sees_one_of_an_entity_that_no_table_has(project: Project, store: redis.Redis) -> None:
    held = dump(store)
    stranger = key_of(store, "b4").replace(b"b4shop", b"b!shop")
    assert share_of(stranger) != 0  # whose turn it is
    put(store, "string", stranger)
    assert publish(project)
    assert dump(store) == held


@pytest.mark.parametrize("kind", PUT)
def test_what_a_key_of_an_unknown_entity_holds_is_unexpected_and_removed(
    project: Project, store: redis.Redis, kind: str
) -> None:
    held = dump(store)
    stranger = key_of(store, "b4").replace(b"b4shop", b"b?shop")
    of_nothing = b"\x01\0\0\0\x02\0\0\0\x05\0\0\0thing\x02\0\0\0\x02\0\0\0b1shop"
    put(store, kind, stranger)
    put(store, kind, of_nothing)
    found = audit(project)
    assert found.audit["views"]["buyer_orders"]["first"] == {"unexpected": [{"buyer": "b?"}]}
    assert publish(project)
    assert dump(store) == held


def test_keys_of_others_keep_what_they_hold(project: Project, store: redis.Redis) -> None:
    others = [key_of(store, "b4") + b"2", b"shop", b"plainshop"]
    for key in others:
        put(store, "list", key)
    put(store, "string", key_of(store, "b4"))
    assert publish(project)
    assert [store.lrange(key, 0, -1) for key in others] == [[b"hello"]] * 3  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["list", "set", "sorted set", "stream"])
def test_a_marker_or_lock_of_another_type_counts_as_none(
    project: Project, store: redis.Redis, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    held = dump(store)
    put(store, kind, keys.marker("shop"))
    put(store, kind, keys.lock("shop"))
    feast = FeatureStore(repo_path=str(project.root / "feature_repo"))
    assert feast.get_online_features(["buyer_orders:is_new"], {"buyer": ["b1"]}).to_dict()["is_new"] != [None]
    capsys.readouterr()
    assert publish(project)
    assert "it counts as if nothing had been published" in capsys.readouterr().err
    assert dump(store) == held


def at(marker: dict[str, Any], *path: str, value: object) -> str:
    """A marker with another value at a place."""
    part = marker
    for name in path[:-1]:
        part = part[name]
    part[path[-1]] = value
    return json.dumps(marker)


MARKERS: dict[str, Callable[[dict[str, Any]], str]] = {
    "no time": lambda marker: at(marker, "as_of", value="yesterday"),
    "a year that Python lacks": lambda marker: at(marker, "as_of", value="99999-12-04T11:57:32+00:00"),
    "a number as a time": lambda marker: at(marker, "as_of", value="5"),
    "a number as a view's time": lambda marker: at(marker, "views", "buyer_orders", "until", value="5"),
    "no due time": lambda marker: at(marker, "due", value="x"),
    "brackets": lambda marker: "[" * 100_000,
}


@pytest.mark.parametrize("kind", MARKERS)
def test_a_marker_of_another_shape_counts_as_none(
    project: Project, store: redis.Redis, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    held, marker = dump(store), keys.marker("shop")
    store.set(marker, MARKERS[kind](json.loads(store.get(marker) or b"")))
    feast = FeatureStore(repo_path=str(project.root / "feature_repo"))
    assert feast.get_online_features(["buyer_orders:is_new"], {"buyer": ["b1"]}).to_dict()["is_new"] != [None]
    capsys.readouterr()
    assert publish(project)
    assert "it counts as if nothing had been published" in capsys.readouterr().err
    assert dump(store) == held


def test_pushes_and_deletions_meet_keys_that_hold_no_hash(project: Project, store: redis.Redis) -> None:
    feast = FeatureStore(repo_path=str(project.root / "feature_repo"))
    online = feast._get_provider().online_store
    key = key_of(store, "b3")
    row = store.hgetall(key)
    put(store, "string", key)
    online.delete_table(feast.config, feast.get_feature_view("buyer_refunds"))
    assert store.get(key) == b"hello"
    time = datetime(2024, 3, 1, tzinfo=UTC)
    pushed = {"buyer": "b3", "event_timestamp": time, "created": time, "orders_7d": 7, "mean_30d": 7.5}
    feast.write_to_online_store("buyer_orders", pd.DataFrame([{**pushed, "first_seen_at": time, "is_new": False}]))
    assert store.type(key) == b"hash"
    assert set(store.hgetall(key)) <= set(row)
