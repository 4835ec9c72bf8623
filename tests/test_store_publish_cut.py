"""Publishing cut off anywhere: killed, its server stopped, two at once; the next one goes on and leaves it whole."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import listening
import pytest
import redis
from forks import ended, forked
from servers import cluster
from stores import debian, named, report, shop, table
from stores import dump as everything

from weakfish.errors import StoreError
from weakfish.feast import layout as keys
from weakfish.feast.commit import Changes
from weakfish.feast.publish import audit, publish
from weakfish.project.paths import Project

BUYERS = [f"b{number}" for number in range(30)]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return shop(tmp_path / "shop")


def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every publication be one of many parts."""
    monkeypatch.setattr("weakfish.feast.commit.LIMIT", 4)
    monkeypatch.setattr("weakfish.feast.latest_rows.ROWS", 4)


def counted(project: Project, die_at: int | None) -> int:
    """Publish, and count what is sent to the server; the process kills itself at the number ``die_at``."""
    sent = 0
    send = socket.socket.sendall

    def sendall(self: socket.socket, *arguments: Any) -> None:
        nonlocal sent
        sent += 1
        if sent == die_at:
            os.kill(os.getpid(), signal.SIGKILL)
        send(self, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "sendall", sendall)
        publish(project)
    return sent


def dump(client: Any) -> dict[bytes, Any]:
    """Everything a server holds, but for what a view lost since the version before: that depends on which it was."""
    held, name = everything(client), keys.marker("shop").encode()
    marker = json.loads(held[name])
    for view in marker["views"].values():
        view.pop("emptied", None)
    return {**held, name: marker}


def edit(project: Project, number: int) -> None:
    """Another version: other values, other buyers, and every second time another column."""
    columns = ["orders_7d", "is_new", *(["last_seen_at"] if number % 2 else ["mean_30d"])]
    table(project.root, "buyer_orders", "buyer", BUYERS[number % 3 * 4 :], columns, shift=number)
    table(project.root, "shop_orders", "shop", [f"s{other}" for other in range(number % 5 + 1, 9)], shift=number)


def test_a_publisher_killed_at_any_moment_is_carried_on_by_the_next(
    project: Project, store: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_parts(monkeypatch)
    publish(project)
    edit(project, 0)
    moments = counted(project, None)
    assert moments > 20
    under_way = 0
    for seed in range(7):
        edit(project, seed + 1)
        die_at = random.Random(seed).randrange(1, moments * 3 // 4)  # noqa: S311  some of these send fewer commands
        assert ended(forked(lambda at=die_at: counted(project, at))) == -signal.SIGKILL  # type: ignore[misc]
        marker = json.loads(store.get(keys.marker("shop")) or b"{}")
        cut = marker["under_way"]
        outcome = publish(project)
        if cut:
            under_way += 1
            assert outcome
            assert sum(counts.unchanged for counts in outcome.counts.values()) >= cut["rows"]
        assert report(project)["audit"]["passed"]
        assert audit(project).passed
        assert not publish(project)
    assert under_way >= 3
    held = dump(store)
    store.flushall()
    publish(project)
    assert dump(store) == held


@contextmanager
def restartable(folder: Path) -> Iterator[tuple[int, Callable[[], None], Callable[[], None]]]:
    """A server that keeps every write on disk: its port, and what stops it hard and starts it again."""
    arguments = debian(folder, "--appendonly", "yes", "--appendfsync", "always")
    first, number = listening.start(arguments, folder)
    running = [first]

    def start() -> None:
        running[-1].wait(timeout=20)  # stopped, by this process or by a fork of it
        running.append(listening.start(arguments, folder, number)[0])

    def stop() -> None:
        os.kill(running[-1].pid, signal.SIGKILL)
        with suppress(ChildProcessError):  # of a fork, whose server is its parent's child
            running[-1].wait(timeout=20)

    try:
        yield number, stop, start
    finally:
        stop()


def cut_at(monkeypatch: pytest.MonkeyPatch, number: int, work: Callable[[], None]) -> None:
    """Let something happen before a publication's n-th transaction."""
    transaction, calls = Changes._transaction, []

    def cut(self: Changes, *arguments: Any) -> None:
        calls.append(arguments)
        if len(calls) == number:
            work()
        transaction(self, *arguments)

    monkeypatch.setattr(Changes, "_transaction", cut)


def test_a_server_that_stops_and_comes_back_is_waited_for(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_parts(monkeypatch)
    with restartable(tmp_path / "redis") as (number, stop, start):
        named(monkeypatch, number)
        publish(project)
        edit(project, 1)

        def stop_for_a_while() -> None:
            stop()
            threading.Timer(0.3, start).start()

        cut_at(monkeypatch, 3, stop_for_a_while)
        assert publish(project)
        assert audit(project).passed


def test_a_server_that_stays_away_is_an_error_and_the_next_publication_goes_on(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_parts(monkeypatch)
    monkeypatch.setattr("weakfish.feast.clients.RETRY_SECONDS", 0.15)
    with restartable(tmp_path / "redis") as (number, stop, start):
        named(monkeypatch, number)
        publish(project)
        edit(project, 1)

        def publish_until_it_stops() -> None:
            with monkeypatch.context() as patch:
                cut_at(patch, 3, stop)
                try:
                    publish(project)
                except StoreError as error:
                    (tmp_path / "error").write_text(str(error))
                    raise

        assert ended(forked(publish_until_it_stops)) == StoreError.exit_code
        assert f"The online store at 127.0.0.1:{number} does not answer" in (tmp_path / "error").read_text()
        start()
        marker = json.loads(redis.Redis(port=number).get(keys.marker("shop")) or b"{}")
        done = marker["under_way"]["rows"]
        assert marker["version"] == report(project)["version"]
        outcome = publish(project)
        assert outcome
        assert sum(counts.unchanged for counts in outcome.counts.values()) >= done + 4
        assert audit(project).passed


def test_a_server_that_lost_its_data_meanwhile_is_not_taken_for_whole(
    project: Project, store: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_parts(monkeypatch)
    publish(project)
    edit(project, 1)
    with monkeypatch.context() as patch:
        cut_at(patch, 3, store.flushall)
        with pytest.raises(StoreError, match=r"not as this publisher left it: it lost its data.* publish` again"):
            publish(project)
    assert publish(project)
    assert audit(project).passed


def test_of_two_checkouts_that_publish_at_once_one_wins_and_the_store_is_whole(
    project: Project, store: redis.Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_parts(monkeypatch)
    other = Project(Path(shutil.copytree(project.root, tmp_path / "other")))
    edit(other, 1)
    children = {forked(lambda each=each: publish(each)): each for each in (project, other)}  # type: ignore[misc]
    codes = {each.root: ended(child) for child, each in children.items()}
    assert set(codes.values()) <= {0, StoreError.exit_code}
    assert 0 in codes.values()
    version = json.loads(store.get(keys.marker("shop")) or b"{}")["version"]
    winner = next(each for each in (project, other) if report_of(each) == version)
    assert audit(winner).passed


def test_on_a_cluster_a_killed_publication_is_carried_on_to_the_same_rows(
    project: Project, store: redis.Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_parts(monkeypatch)
    publish(project)
    edit(project, 1)
    publish(project)
    held = dump(store)
    table(project.root, "buyer_orders", "buyer", BUYERS[:3])
    with (
        cluster(tmp_path / "cluster") as (first, *_),
        closing(redis.RedisCluster(host="127.0.0.1", port=first.port)) as nodes,
    ):
        monkeypatch.setenv("WEAKFISH_REDIS", f"cluster:127.0.0.1:{first.port}")
        publish(project)
        edit(project, 1)
        moments = counted(project, None)
        edit(project, 2)
        publish(project)
        edit(project, 1)
        assert ended(forked(lambda: counted(project, moments // 2))) == -signal.SIGKILL
        assert json.loads(nodes.get(keys.marker("shop")) or b"{}")["under_way"]
        assert publish(project)
        assert audit(project).passed
        assert dump(nodes) == held
        assert not publish(project)


def report_of(project: Project) -> str | None:
    file = project.reports / "publish.json"
    return str(json.loads(file.read_text())["version"]) if file.exists() else None
