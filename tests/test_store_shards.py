"""Publishing and auditing shard by shard: the same rows, marker, counts and reports, whoever works and how often."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import redis
from feast import FeatureStore
from servers import cluster
from stores import AS_OF, dump, named, port, report, shop, table

from weakfish.contracts.publications import receipt_file
from weakfish.engine import fleet, local
from weakfish.errors import StoreError, WeakfishError
from weakfish.feast import executors, latest_rows
from weakfish.feast import layout as keys
from weakfish.feast.clients import Address
from weakfish.feast.commit import Claim
from weakfish.feast.publish import audit, publish
from weakfish.project.paths import Project

BUYERS = [f"b{number}" for number in range(30)]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    found = shop(tmp_path / "shop")
    table(found.root, "buyer_orders", "buyer", BUYERS)
    return found


@pytest.fixture
def spread(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Let publications be done shard by shard from then on, in this process."""

    def begin() -> None:
        monkeypatch.setattr(fleet, "is_elsewhere", lambda project: True)
        monkeypatch.setattr(latest_rows, "ALONE", 0)
        monkeypatch.setattr(latest_rows, "SHARD_ROWS", 12)
        monkeypatch.setattr(local.os, "cpu_count", lambda: 1)
        monkeypatch.setattr("weakfish.feast.searching.BYTES", 200)

    return begin


@pytest.fixture
def worked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let each item be tried twice, and tell which work was done; the second try must say what the first one said."""
    done, answer = list[str](), local.answer

    def twice(job: Any, text: str) -> str:
        first, second = answer(job, text), answer(job, text)
        assert first == second
        done.append(job.work.partition(":")[2])
        return second

    monkeypatch.setattr(local, "answer", twice)
    return done


def push(project: Project, buyer: str, hours: int = 1) -> None:
    """What a service does that knows an event of its own."""
    time = AS_OF + timedelta(hours=hours)
    row = {"buyer": buyer, "event_timestamp": time, "created": time, "orders_7d": 77, "mean_30d": 7.5}
    feast = FeatureStore(repo_path=str(project.root / "feature_repo"))
    feast.write_to_online_store("buyer_orders", pd.DataFrame([{**row, "first_seen_at": time, "is_new": False}]))


def key_of(store: Any, entity: str, name: str) -> bytes:
    found = (key for key in store.scan_iter() if keys.join_keys(key, "shop") == (entity,))
    return next(key for key in found if key.endswith(f"{name}shop".encode()))


def edited(project: Project, store: Any) -> None:
    """Other tables than were published, and a store in which rows are strange, damaged, pushed and of no hash."""
    push(project, "b1")
    push(project, "new")
    stranger = key_of(store, "buyer", "b4").replace(b"b4shop", b"b?shop")
    store.hset(stranger, mapping=store.hgetall(key_of(store, "buyer", "b4")))
    store.hset(key_of(store, "buyer", "b7"), "nobody's", "x")
    store.expire(key_of(store, "buyer", "b8"), 10_000)
    held = key_of(store, "shop", "s0")
    store.delete(held)
    store.set(held, "no hash")
    table(project.root, "buyer_orders", "buyer", BUYERS[3:], ["orders_7d", "is_new", "last_seen_at"], shift=5)
    table(project.root, "shop_orders", "shop", ["s0", "s1", "s5"], shift=2)


def story(project: Project, store: Any, capsys: pytest.CaptureFixture[str]) -> list[Any]:
    """Publish for the first time, after edits, and nothing anew, with audits of what is right and what is wrong."""
    told: list[Any] = []

    def tell(outcome: Any) -> None:
        held = {key: value for key, value in dump(store).items() if key != keys.lock("shop").encode()}
        audited = json.loads(receipt_file(project, "shop").read_text())
        told.append((outcome and outcome.as_json(), held, report(project), audited, capsys.readouterr().err))

    tell(publish(project))
    edited(project, store)
    tell(publish(project))
    tell(publish(project))
    store.hset(key_of(store, "buyer", "b5"), keys.feature_field("buyer_orders", "is_new"), b"\x00")
    store.delete(key_of(store, "shop", "s5"))
    assert not audit(project).passed
    tell(None)
    tell(publish(project))
    assert audit(project).passed
    tell(None)
    return told


@pytest.mark.parametrize("limit", [4, 10_000])
def test_shards_leave_what_one_process_leaves_though_each_is_tried_twice(
    project: Project,
    store: redis.Redis,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    spread: Callable[[], None],
    worked: list[str],
    capsys: pytest.CaptureFixture[str],
    limit: int,
) -> None:
    monkeypatch.setattr("weakfish.feast.commit.LIMIT", limit)
    alone = story(project, store, capsys)
    assert not worked
    store.flushall()
    again = shop(tmp_path / "again")
    table(again.root, "buyer_orders", "buyer", BUYERS)
    spread()
    assert story(again, store, capsys) == alone
    works = {"regrouped", "compared", "looked", "searched"} | ({"written"} if limit == 4 else set())
    assert set(worked) == works, "few changes are one transaction of the driver's"
    assert worked.count("compared") > 20
    assert not list(again.temporary.glob("*"))


def test_few_rows_stay_with_the_driver_whatever_the_engine(
    project: Project, store: redis.Redis, monkeypatch: pytest.MonkeyPatch, worked: list[str]
) -> None:
    monkeypatch.setattr(fleet, "is_elsewhere", lambda project: True)
    assert publish(project)
    assert audit(project).passed
    assert not worked


def test_shards_are_published_to_a_cluster(
    project: Project,
    store: redis.Redis,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    spread: Callable[[], None],
    worked: list[str],
) -> None:
    publish(project)
    held = dump(store)
    spread()
    with (
        cluster(tmp_path / "cluster") as (first, *_),
        closing(redis.RedisCluster(host="127.0.0.1", port=first.port)) as nodes,
    ):
        monkeypatch.setenv("WEAKFISH_REDIS", f"cluster:127.0.0.1:{first.port}")
        assert publish(project)
        assert "written" in worked
        assert audit(project).passed
        assert dump(nodes) == held


def cut(monkeypatch: pytest.MonkeyPatch, at: int, work: Callable[[], object]) -> None:
    """Let something happen before the n-th change that workers make."""
    make, calls = Claim.make, []

    def counted(self: Claim, *arguments: Any) -> int:
        calls.append(arguments)
        if len(calls) == at:
            work()
        return make(self, *arguments)

    monkeypatch.setattr(Claim, "make", counted)


@pytest.mark.parametrize(
    ("lost", "said"),
    [
        (lambda store: store.set(keys.lock("shop"), "another's"), "Another publisher took over"),
        (lambda store: store.set(keys.marker("shop"), "another's"), "not as this publisher left it"),
        (lambda store: store.flushall(), "Another publisher took over"),
    ],
)
def test_workers_stop_where_the_lock_is_lost_or_the_store_is_another(
    project: Project,
    store: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
    spread: Callable[[], None],
    lost: Callable[[redis.Redis], object],
    said: str,
) -> None:
    publish(project)
    table(project.root, "buyer_orders", "buyer", BUYERS, shift=3)
    monkeypatch.setattr("weakfish.feast.commit.LIMIT", 4)
    spread()
    written = []
    with monkeypatch.context() as patch:
        cut(patch, 2, lambda: [lost(store), written.append(dump(store))])
        with pytest.raises(StoreError, match=said):
            publish(project)
    rows = {key: row for key, row in dump(store).items() if isinstance(row, dict)}
    assert rows == {key: row for key, row in written[0].items() if isinstance(row, dict)}
    store.delete(keys.lock("shop"))
    assert publish(project)
    assert audit(project).passed


def test_what_was_written_before_an_error_is_found_unchanged(
    project: Project, store: redis.Redis, monkeypatch: pytest.MonkeyPatch, spread: Callable[[], None]
) -> None:
    publish(project)
    table(project.root, "buyer_orders", "buyer", BUYERS, shift=3)
    monkeypatch.setattr("weakfish.feast.commit.LIMIT", 4)
    spread()

    def fail() -> None:
        raise WeakfishError("A worker process ended before its work.")

    with monkeypatch.context() as patch:
        cut(patch, 3, fail)
        with pytest.raises(WeakfishError, match="ended before its work"):
            publish(project)
    assert json.loads(store.get(keys.marker("shop")) or b"{}")["under_way"]
    outcome = publish(project)
    assert outcome
    counts = outcome.counts["buyer_orders"]
    assert (counts.written > 0, counts.unchanged > 0, counts.written + counts.unchanged) == (True, True, len(BUYERS))
    assert audit(project).passed


def test_an_address_of_the_drivers_own_machine_is_refused_elsewhere(
    project: Project, store: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    item = {"store": executors.reach(Address("127.0.0.1", port(store)))}
    with executors.reached(project, item) as client:
        assert client.ping()
    monkeypatch.setattr(socket, "gethostname", lambda: "executor-7")
    for host in ("127.0.0.1", "localhost", "::1"):
        item["store"]["address"] = str(Address(host, port(store)))
        with (
            pytest.raises(StoreError, match="own machine, which executors on executor-7 do not reach; let WEAKFISH"),
            executors.reached(project, item),
        ):
            pass


def test_no_item_holds_a_secret_and_workers_take_it_from_their_environment(
    project: Project,
    store: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
    spread: Callable[[], None],
) -> None:
    store.acl_setuser("worker", enabled=True, passwords=["+s3cret"], keys=["*"], commands=["+@all"], reset=True)
    named(monkeypatch, port(store))
    monkeypatch.setenv("WEAKFISH_REDIS_USER", "worker")
    monkeypatch.setenv("WEAKFISH_REDIS_PASSWORD", "s3cret")
    answer, texts, of_workers = local.answer, list[str](), ["wrong"]

    def heard(job: Any, text: str) -> str:
        texts.append(text)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("WEAKFISH_REDIS_PASSWORD", of_workers[0])
            return answer(job, text)

    monkeypatch.setattr(local, "answer", heard)
    monkeypatch.setattr("weakfish.feast.commit.LIMIT", 4)
    spread()
    try:
        with pytest.raises(StoreError, match="refuses the login"):
            publish(project)
        of_workers[0] = "s3cret"
        assert publish(project)
    finally:
        store.acl_deluser("worker")
    assert len(texts) > 20
    assert not any("s3cret" in text for text in texts)


def test_the_embedded_server_is_reached_by_its_password_or_named(project: Project) -> None:
    found = {"address": "127.0.0.1:21000", "embedded": True, "driver": socket.gethostname()}
    with (
        pytest.raises(StoreError, match=r"has no .*password, which executors do not see; let WEAKFISH_REDIS name"),
        executors.reached(project, {"store": found}),
    ):
        pass
    assert os.environ.get("WEAKFISH_REDIS") is None
