"""A cluster of three primaries: keys all over it, slots that move, and a cluster of which a part is down."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from feast import FeatureStore
from feast.protos.feast.serving.ServingService_pb2 import FieldStatus
from redis.crc import key_slot
from servers import (
    Server,
    assert_written_read_and_torn_down,
    cluster,
    cluster_is,
    held,
    move_slot,
    opened,
    read_shop,
    wait_until,
    write_shop,
)
from stores import shop

from weakfish.errors import StoreError
from weakfish.feast import layout as keys
from weakfish.feast.clients import explained, external
from weakfish.feast.commit import publishing_lock
from weakfish.feast.publish import publish
from weakfish.feast.server import resolve
from weakfish.project.paths import Project

REDIS = "WEAKFISH_REDIS"


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Server]]:
    with cluster(tmp_path_factory.mktemp("cluster")) as found:
        yield found


@pytest.fixture(autouse=True)
def setting(nodes: list[Server], monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The environment names two of the three nodes."""
    monkeypatch.setenv(REDIS, "cluster:" + ",".join(f"127.0.0.1:{node.port}" for node in nodes[:2]))
    for name in ("_USER", "_PASSWORD", "_TLS", "_TLS_CERT"):
        monkeypatch.delenv(f"{REDIS}{name}", raising=False)
    return monkeypatch


@pytest.fixture
def two(tmp_path: Path) -> tuple[Project, Project]:
    return shop(tmp_path / "one"), shop(tmp_path / "other", "workshop")


@pytest.fixture
def client(two: tuple[Project, Project]) -> Iterator[redis.Redis]:
    with contextlib.closing(resolve(two[0]).client()) as found:
        yield found
        found.flushall()


def test_a_cluster_is_written_read_and_torn_down(two: tuple[Project, Project]) -> None:
    assert_written_read_and_torn_down(*two)


def test_feasts_own_settings_name_a_cluster(
    two: tuple[Project, Project], nodes: list[Server], setting: pytest.MonkeyPatch
) -> None:
    setting.delenv(REDIS)
    for project in two:
        file = project.root / "feature_repo/feature_store.yaml"
        ports = ",".join(f"127.0.0.1:{node.port}" for node in nodes)
        settings = f"online_store: {{redis_type: redis_cluster, connection_string: '{ports}', type:"
        file.write_text(file.read_text().replace("online_store: {type:", settings))
    assert_written_read_and_torn_down(*two)


def test_a_user_with_the_documented_rights_alone_uses_a_cluster(
    two: tuple[Project, Project], nodes: list[Server], setting: pytest.MonkeyPatch
) -> None:
    text = (Path(__file__).parent.parent / "docs/store.md").read_text(encoding="utf-8")
    rights = next(line for line in text.splitlines() if line.startswith("ACL SETUSER")).split(" >PASSWORD ")[1].split()
    more = next(line for line in text.splitlines() if "+cluster|slots" in line).split("`")[1].split()
    for node in nodes:
        with contextlib.closing(node.client()) as admin:
            admin.execute_command("ACL", "SETUSER", "weakfish", "reset", "on", ">s3cret", *rights, *more)
    setting.setenv(f"{REDIS}_USER", "weakfish")
    setting.setenv(f"{REDIS}_PASSWORD", "s3cret")
    assert_written_read_and_torn_down(*two)
    for project in two:
        assert publish(project)
        assert not publish(project)
        opened(project).teardown()


def test_keys_of_all_nodes_are_found_and_torn_down(
    two: tuple[Project, Project], client: redis.Redis, nodes: list[Server]
) -> None:
    ours, theirs = (opened(project) for project in two)
    for number in range(30):
        write_shop(ours, f"s{number}", number)
    write_shop(theirs, "s0", 100)
    spread = [plain.dbsize() for node in nodes for plain in [node.client()]]
    assert all(spread), "the keys are on all nodes"
    assert (held(client, "shop"), held(client, "workshop")) == (30, 1)
    asked = [{"shop": f"s{number}"} for number in range(30)]
    answer = ours.get_online_features(["shop_orders:orders_7d"], asked).to_dict()
    assert answer["orders_7d"] == list(range(30))
    view = ours.get_feature_view("shop_orders")
    ours._get_provider().online_store.update(ours.config, [view], [], [], [], False)
    assert (held(client, "shop"), held(client, "workshop")) == (0, 1)
    theirs.teardown()
    assert keys.size(client) == 0


def test_a_slot_that_moved_is_followed(two: tuple[Project, Project], client: redis.Redis, nodes: list[Server]) -> None:
    store = opened(two[0])
    write_shop(store, "s", 5)
    assert read_shop(store, "s") == 5

    async def across_the_move() -> tuple[object, object]:
        features, entity = ["shop_orders:orders_7d"], [{"shop": "s"}]
        before = await store.get_online_features_async(features, entity)
        move_slot(next(keys.of_project(client, "shop")), nodes)
        after = await store.get_online_features_async(features, entity)
        await store._get_provider().online_store.close()
        return before.to_dict(), after.to_dict()

    before, after = asyncio.run(across_the_move())
    assert before == after
    assert read_shop(store, "s") == 5
    write_shop(store, "s2", 6)
    assert read_shop(store, "s2") == 6


def test_one_publisher_at_a_time_holds_the_lock_on_a_cluster(client: redis.Redis) -> None:
    with publishing_lock(client, "shop") as lock:
        with pytest.raises(StoreError, match="is publishing to this online store"), publishing_lock(client, "shop"):
            pass
        with client.pipeline(transaction=True) as pipe:
            lock.check(pipe)
            pipe.multi()
            pipe.set(keys.marker("shop"), "new")
            pipe.execute()
        assert client.get(keys.marker("shop")) == b"new", "marker and lock are in one slot"
        client.set(keys.lock("shop"), b"another")
        with client.pipeline(transaction=True) as pipe, pytest.raises(StoreError, match="took over"):
            lock.check(pipe)
    assert client.get(keys.lock("shop")) == b"another", "not ours to delete"


def test_a_project_is_published_to_a_cluster_and_then_is_current(
    two: tuple[Project, Project], client: redis.Redis
) -> None:
    one, other = two
    assert publish(one)
    assert publish(other)
    assert not publish(one)
    store = opened(one)
    assert read_shop(store, "s0") is not None
    assert held(client, "shop") == held(client, "workshop") == 15
    store.teardown()
    assert (held(client, "shop"), held(client, "workshop")) == (0, 15)


def test_a_cluster_of_which_a_part_is_down_is_told_and_recovers(
    two: tuple[Project, Project], nodes: list[Server]
) -> None:
    address = external()
    assert address is not None
    with contextlib.closing(nodes[0].client()) as first, contextlib.closing(address.client()) as client:
        name = next(name for name in map(str, range(100)) if 1 < key_slot(name.encode()) < 5000)  # on the first node
        client.set(name, "1")
        first.execute_command("CLUSTER", "DELSLOTS", 1)
        try:
            wait_until(cluster_is, first, "fail")
            with (
                pytest.raises(StoreError, match="is a cluster of which a part is down; see `redis-cli cluster info`"),
                explained(address),
                contextlib.closing(address.client()) as late,
            ):
                late.get(name)
        finally:
            first.execute_command("CLUSTER", "ADDSLOTS", 1)
            wait_until(cluster_is, first, "ok")
        assert client.get(name) == b"1"
        client.delete(name)


def test_a_key_that_holds_no_hash_cannot_be_read_and_is_replaced(
    two: tuple[Project, Project], client: redis.Redis
) -> None:
    project = two[0]
    assert publish(project)
    shops = [{"shop": "s0"}, {"shop": "s1"}]
    feast = FeatureStore(repo_path=str(project.root / "feature_repo"))
    want = feast.get_online_features(["shop_orders:first_seen_at"], shops).proto
    key = next(key for key in keys.of_project(client, "shop") if key.endswith(b"s0shop"))
    client.delete(key)
    client.set(key, "hello")
    client.delete(keys.marker("shop"))
    client.rpush(keys.marker("shop"), "hello")
    found = feast.get_online_features(["shop_orders:first_seen_at"], shops).proto.results[1]
    assert list(found.statuses) == [FieldStatus.INVALID, FieldStatus.PRESENT]
    assert publish(project)
    assert feast.get_online_features(["shop_orders:first_seen_at"], shops).proto == want
    assert not publish(project)
