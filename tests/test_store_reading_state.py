"""Reads while things change around them: the registry, the connection, threads and processes, the clock, a Cluster."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import reading
import redis
import servers
from click.testing import CliRunner
from feast import FeatureService, FeatureStore
from feast.protos.feast.serving.ServingService_pb2 import FieldStatus
from feast.protos.feast.types.Value_pb2 import Value
from listening import free_port
from projects import write
from reading import PROJECT, STALE, feast_store
from stores import port, redis_server, shop

from weakfish.cli.store import online
from weakfish.feast import layout as keys
from weakfish.feast import reader as clock
from weakfish.feast.publish import publish

ASKED = {"driver_id": [0, 3, 77]}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, server: redis.Redis) -> Path:
    return reading.made(tmp_path_factory.mktemp("repository"), port(server))


@pytest.fixture
def store(root: Path, server: redis.Redis) -> Iterator[FeatureStore]:
    with feast_store(root, port(server)) as store:
        yield store


def rates(store: FeatureStore, driver: int) -> Any:
    return store.get_online_features(["trips:rate"], {"driver_id": [driver]}).to_dict()["rate"][0]


def names(store: FeatureStore, service: str) -> set[str]:
    return set(store.get_online_features(store.get_feature_service(service), ASKED).to_dict())


def service(*features: str) -> FeatureService:
    return FeatureService(name="changing", features=[reading.trips[list(features)]])


def test_a_registry_that_another_process_changed_is_read_at_once(tmp_path: Path, server: redis.Redis) -> None:
    reading.apply(tmp_path, port(server), [*reading.OBJECTS, service("rate")])
    with feast_store(tmp_path, port(server)) as store:
        assert names(store, "changing") == {"driver_id", "rate"}
        reading.apply(tmp_path, port(server), [service("rate", "name")])
        store.refresh_registry()  # for get_feature_service; the read itself needs none
        assert names(store, "changing") == {"driver_id", "rate", "name"}


@pytest.mark.usefixtures("root")
def test_references_follow_the_registry_without_a_refresh(tmp_path: Path, server: redis.Redis) -> None:
    short = reading.ratings
    reading.apply(tmp_path, port(server))
    with feast_store(tmp_path, port(server)) as store:
        asked = ["ratings:rate"]
        assert _statuses(store, asked) == [FieldStatus.PRESENT, FieldStatus.OUTSIDE_MAX_AGE, FieldStatus.NOT_FOUND]
        longer = reading._view("ratings", [reading.driver], reading.SCHEMA[:4])
        longer.ttl = timedelta(days=30)
        reading.apply(tmp_path, port(server), [longer])
        assert _statuses(store, asked) == [FieldStatus.PRESENT, FieldStatus.PRESENT, FieldStatus.NOT_FOUND]
        store.apply([short])  # in this very process
        assert _statuses(store, asked) == [FieldStatus.PRESENT, FieldStatus.OUTSIDE_MAX_AGE, FieldStatus.NOT_FOUND]


def _statuses(store: FeatureStore, references: list[str]) -> list[int]:
    return list(store.get_online_features(references, ASKED).proto.results[1].statuses)


def test_a_value_that_changed_is_read_by_the_next_request(store: FeatureStore, server: redis.Redis) -> None:
    before = rates(store, 0)
    key = next(key for key in server.scan_iter() if key.endswith(b"\0" * 8 + PROJECT.encode()))
    field = keys.feature_field("trips", "rate")
    kept = server.hget(key, field)
    server.hset(key, field, Value(double_val=before + 1).SerializeToString())
    assert rates(store, 0) == before + 1
    server.hset(key, field, kept)
    assert rates(store, 0) == before


def test_a_connection_that_broke_is_made_anew(store: FeatureStore, server: redis.Redis) -> None:
    before = rates(store, 0)
    server.client_kill_filter(_type="normal", skipme=True)
    assert rates(store, 0) == before


def test_a_kept_connection_that_was_closed_on_this_side_is_replaced(store: FeatureStore) -> None:
    before = rates(store, 0)
    exchange = store._get_provider().online_store.reader(store.config).exchange
    kept = exchange.idle[-1]
    exchange.client.connection_pool.disconnect()
    assert [rates(store, 0), rates(store, 0)] == [before, before]
    assert kept not in exchange.idle
    assert exchange.idle[-1].connection.is_connected


def test_a_connection_that_broke_is_made_anew_in_an_event_loop(store: FeatureStore, server: redis.Redis) -> None:
    async def ask() -> list[Any]:
        try:
            found = []
            for _ in range(3):
                response = await store.get_online_features_async(["trips:rate"], ASKED)
                found.append(response.to_dict())
                server.client_kill_filter(_type="normal", skipme=True)
                await asyncio.sleep(0)
            return found
        finally:
            await store._get_provider().online_store.close()

    first, second, third = asyncio.run(ask())
    assert first == second == third


def test_a_server_that_is_gone_is_an_error_and_one_that_returns_is_read(tmp_path: Path, root: Path) -> None:
    number = free_port()
    with feast_store(root, number) as store:
        with pytest.raises(redis.ConnectionError):
            rates(store, 0)
        for folder in ("one", "two"):
            with redis_server(tmp_path / folder, at=number):
                reading.write(root, number)
                assert rates(store, 0) == 1 / 7
            with pytest.raises(redis.ConnectionError):
                rates(store, 0)


def test_a_server_that_does_not_answer_is_a_timeout(tmp_path: Path, root: Path) -> None:
    with redis_server(tmp_path / "slow") as client, feast_store(root, port(client)) as store:
        rates(store, 0)
        online = store._get_provider().online_store
        for line in online.reader(store.config).exchange.idle:
            line.socket.settimeout(0.1)
        client.execute_command("CLIENT", "PAUSE", 600, "ALL")
        with pytest.raises(redis.TimeoutError):
            rates(store, 0)
        client.execute_command("CLIENT", "UNPAUSE")
        assert rates(store, 0) is None  # and no answer to the request before


def test_an_event_loop_is_told_of_a_timeout_too(tmp_path: Path, root: Path) -> None:
    async def ask(store: FeatureStore, client: redis.Redis) -> Any:
        client.execute_command("CLIENT", "PAUSE", 600, "ALL")
        with pytest.raises(redis.TimeoutError):
            await store.get_online_features_async(["trips:rate"], ASKED)
        client.execute_command("CLIENT", "UNPAUSE")
        return (await store.get_online_features_async(["trips:rate"], ASKED)).to_dict()

    with redis_server(tmp_path / "slow") as client, feast_store(root, port(client)) as store:
        before = store.get_online_features(["trips:rate"], ASKED).to_dict()
        for line in store._get_provider().online_store.reader(store.config).exchange.idle:
            line.socket.settimeout(0.1)
        assert asyncio.run(ask(store, client)) == before


def test_a_request_in_an_event_loop_takes_no_thread(store: FeatureStore) -> None:
    async def ask() -> Any:
        loop, over = asyncio.get_running_loop(), threading.Event()
        loop.set_default_executor(ThreadPoolExecutor(1))
        only_thread = loop.run_in_executor(None, over.wait)
        try:
            async with asyncio.timeout(30):
                return (await store.get_online_features_async(["trips:rate"], ASKED)).to_dict()
        finally:
            over.set()
            await only_thread

    before = store.get_online_features(["trips:rate"], ASKED).to_dict()  # which opens the connection
    assert asyncio.run(ask()) == before


def test_an_error_of_the_server_is_its_own(root: Path, server: redis.Redis) -> None:
    server.acl_setuser("stranger", enabled=True, passwords=["+secret"], keys=["*"], commands=["+ping"])
    with feast_store(root, f"{port(server)},username=stranger,password=secret") as store:
        with pytest.raises(redis.exceptions.NoPermissionError, match="hmget"):
            rates(store, 0)
        with pytest.raises(redis.exceptions.NoPermissionError, match="hmget"):
            asyncio.run(_once(store, 0))
    server.acl_deluser("stranger")


async def _once(store: FeatureStore, driver: int) -> Any:
    try:
        return (await store.get_online_features_async(["trips:rate"], {"driver_id": [driver]})).to_dict()["rate"][0]
    finally:
        await store._get_provider().online_store.close()


def test_a_user_who_may_only_read_fields_is_enough(root: Path, server: redis.Redis) -> None:
    server.acl_setuser("reader", enabled=True, passwords=["+secret"], keys=["*"], commands=["+ping", "+hmget"])
    login = f"{port(server)},username=reader,password=secret"
    with feast_store(root, login) as store:
        assert _statuses(store, ["ratings:rate"])[1] == FieldStatus.OUTSIDE_MAX_AGE
        assert asyncio.run(_once(store, 0)) == rates(store, 0) == 1 / 7
    server.acl_deluser("reader")


def test_threads_share_a_store_and_get_their_own_answers(store: FeatureStore) -> None:
    want = {driver: rates(store, driver) for driver in (0, 2, 3, 5, 6, 77)}
    wrong: list[Any] = []

    def read(driver: int) -> None:
        for _ in range(60):
            if (got := rates(store, driver)) != want[driver]:
                wrong.append((driver, got))

    threads = [threading.Thread(target=read, args=(driver,)) for driver in want]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_requests_of_one_event_loop_get_their_own_answers(store: FeatureStore) -> None:
    want = {driver: rates(store, driver) for driver in (0, 2, 3, 5, 6, 77)}

    async def read() -> list[Any]:
        async def one(driver: int) -> Any:
            response = await store.get_online_features_async(["trips:rate"], {"driver_id": [driver]})
            return response.to_dict()["rate"][0]

        cancelled = [asyncio.ensure_future(one(driver)) for driver in want]
        await asyncio.sleep(0.001)
        for task in cancelled[::2]:
            task.cancel()
        await asyncio.gather(*cancelled, return_exceptions=True)
        try:
            return await asyncio.gather(*(one(driver) for driver in list(want) * 20))
        finally:
            await store._get_provider().online_store.close()

    assert asyncio.run(read()) == list(want.values()) * 20


def test_a_forked_process_speaks_on_lines_of_its_own(store: FeatureStore) -> None:
    want = [rates(store, driver) for driver in (0, 3)]
    lines = set(store._get_provider().online_store.reader(store.config).exchange.idle)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:  # pragma: no cover
        try:
            got = [rates(store, driver) for driver in (0, 3)]
            mine = set(store._get_provider().online_store.reader(store.config).exchange.idle)
            os.write(writer, json.dumps([got, len(mine & lines)]).encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    os.close(writer)
    with os.fdopen(reader) as answer:
        assert json.loads(answer.read()) == [want, 0]
    assert [rates(store, driver) for driver in (0, 3)] == want


def _project(root: Path, as_of: str) -> Path:
    write(root / "dvc.yaml", "stages: {}")
    orders = (Path(__file__).parent / "orders/params.yaml").read_text(encoding="utf-8").split("\npublish:")[0]
    write(root / "params.yaml", f"{orders}\npublish: {{as_of: {as_of}}}\n")
    (root / "feature_repo").mkdir(exist_ok=True)
    return root / "feature_repo"


def _publish(server: redis.Redis, as_of: datetime | None) -> None:
    server.set(keys.marker(PROJECT), json.dumps({"version": "1", "as_of": as_of.isoformat() if as_of else ""}))


def test_a_cluster_is_read_as_one_server_is(tmp_path: Path, root: Path, store: FeatureStore) -> None:
    with servers.cluster(tmp_path / "nodes") as nodes:
        reading.write(root, nodes[0].port, redis_type="redis_cluster")
        asked = {"driver_id": [*reading.DRIVERS, 0, 77], "place": (reading.PLACES * 3)[: len(reading.DRIVERS) + 2]}
        with feast_store(root, nodes[0].port, redis_type="redis_cluster") as clustered:
            for name in ("everything", "some", "python_too"):
                want = store.get_online_features(store.get_feature_service(name), asked, True)
                service = clustered.get_feature_service(name)
                assert clustered.get_online_features(service, asked, True).proto == want.proto
                assert asyncio.run(_whole(clustered, service, asked)).proto == want.proto


async def _whole(store: FeatureStore, features: FeatureService, asked: dict[str, Any]) -> Any:
    try:
        return await store.get_online_features_async(features, asked, True)
    finally:
        await store._get_provider().online_store.close()


def now(time: clock.Clock, server: redis.Redis) -> int:
    return time.reading(server)


@pytest.mark.parametrize("setting", ["last", "2024-05-06T07:08:09Z"])
def test_the_clock_says_what_the_last_publication_answers_for(
    tmp_path: Path, server: redis.Redis, setting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    time = clock.Clock(_project(tmp_path, setting), PROJECT)
    published = datetime(2024, 5, 6, 7, 8, 9, 250_000, UTC)
    _publish(server, published)
    assert now(time, server) == round(published.timestamp() * 1e6) * 1_000
    _publish(server, published + timedelta(days=1))
    monkeypatch.setattr(clock, "RECHECK_SECONDS", -1)
    assert now(time, server) == round((published + timedelta(days=1)).timestamp() * 1e6) * 1_000
    server.delete(keys.marker(PROJECT))


def test_the_clock_says_now_when_it_is_told_so_or_nothing_was_published(
    tmp_path: Path, server: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clock, "RECHECK_SECONDS", -1)
    repository = _project(tmp_path, "now")
    time = clock.Clock(repository, PROJECT)
    _publish(server, STALE)
    before = datetime.now(UTC).timestamp() * 1e9
    assert now(time, server) >= before
    _project(tmp_path, "last")  # the setting counts as it is now
    assert now(time, server) == round(STALE.timestamp() * 1e6) * 1_000
    _publish(server, None)
    assert now(time, server) >= before
    assert now(clock.Clock(tmp_path.parent, PROJECT), server) >= before  # in no project
    server.delete(keys.marker(PROJECT))


def test_rows_are_as_old_as_the_clock_says(tmp_path: Path, server: redis.Redis) -> None:
    repository = _project(tmp_path, "last")
    reading.apply(repository, port(server))
    _publish(server, STALE + timedelta(hours=23))
    with feast_store(repository, port(server)) as store:
        response = store.get_online_features(["ratings:rate"], ASKED)
        want = [FieldStatus.PRESENT, FieldStatus.PRESENT, FieldStatus.NOT_FOUND]
        assert list(response.proto.results[1].statuses) == want
        assert list(asyncio.run(_statuses_async(store))) == want
    server.delete(keys.marker(PROJECT))


async def _statuses_async(store: FeatureStore) -> Any:
    try:
        return (await store.get_online_features_async(["ratings:rate"], ASKED)).proto.results[1].statuses
    finally:
        await store._get_provider().online_store.close()


def test_the_command_shows_what_is_too_old_and_what_is_not_there(
    tmp_path: Path, server: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = shop(tmp_path / "project")
    file = project.root / "feature_repo/definitions.py"
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace("[buyer], ttl=timedelta(0)", "[buyer], ttl=timedelta(days=2)", 1), encoding="utf-8")
    monkeypatch.setenv("WEAKFISH_REDIS", f"127.0.0.1:{port(server)}")
    monkeypatch.chdir(project.root)
    publish(project)

    def views(buyer: str) -> Any:
        said = CliRunner().invoke(online, ["get", f"buyer={buyer}", "--json"], catch_exceptions=False).output
        return json.loads(said)["views"]

    fresh, old, unknown = views("b0")["buyer_orders"], views("b4")["buyer_orders"], views("nobody")["buyer_orders"]
    assert (fresh["status"], fresh["age_seconds"]) == ("PRESENT", 0)
    assert (old["status"], set(old["values"].values())) == ("OUTSIDE_MAX_AGE", {None})
    assert old["age_seconds"] > 2 * 86_400
    assert (unknown["status"], unknown["event_timestamp"], unknown["values"]) == ("NOT_FOUND", None, {})
    assert views("b4")["buyer_refunds"]["status"] == "PRESENT"  # as old, but its view has no time to live
    said = CliRunner().invoke(online, ["get", "buyer=b4"], catch_exceptions=False).output
    assert "older than the view allows: OUTSIDE_MAX_AGE" in said
