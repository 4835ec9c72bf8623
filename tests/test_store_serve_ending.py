"""`weakfish serve` when its store hangs and when it is told to end: it says how it is, and answers who is connected."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis
from serving import TEN, Site, Store, own_redis, served_from, serving, until
from test_store_serve_limits import HEALTH, POST, answers, connected, rest
from test_store_serve_running import later, trying

from weakfish.feast.clients import ERRORS, Address
from weakfish.feast.exchange import Exchange, Want
from weakfish.feast.serving.connections import queued
from weakfish.project.paths import Project

THREADS, CLIENTS = 8, 16


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with own_redis(tmp_path_factory.mktemp("redis")) as found:
        yield found


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, store: Store) -> Iterator[Project]:
    with served_from(store, tmp_path_factory.mktemp("serve") / "project") as found:
        yield found


def test_health_and_metrics_are_answered_while_all_threads_wait_for_the_store(store: Store, project: Project) -> None:
    with serving(project, "--store-timeout", "60", "--threads", str(THREADS)) as site:
        process, answered = psutil.Process(site.process.pid), []

        def ask() -> None:
            answered.append(site.features(**TEN).status)

        def waiting() -> int:
            return sum(one.raddr.port == store.port for one in process.net_connections() if one.raddr)

        asking = [threading.Thread(target=ask) for _ in range(CLIENTS)]
        with store.stuck():
            for client in asking:
                client.start()
            until(lambda: waiting() > THREADS, site)  # one more looks whether the store answers
            for _ in range(20):
                assert site.ask("/health").status == 200
                assert site.ask("/metrics").status == 200
                assert site.ask("/openapi.json").status == 200
            assert answered == []
        for client in asking:
            client.join()
        assert answered == [200] * CLIENTS


def test_what_took_too_long_is_not_asked_again() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = Address("127.0.0.1", silent.getsockname()[1]).within(0.2)
        with contextlib.closing(address.client()) as client, pytest.raises(Exception, match="Timeout"):
            client.ping()
        silent.setblocking(False)
        silent.accept()[0].close()
        with pytest.raises(BlockingIOError):
            silent.accept()


@contextlib.contextmanager
def broken_redis(answer: bytes) -> Iterator[int]:
    """A server that answers, from its first connection on, the first byte and then a piece each 0.05 seconds."""
    over = threading.Event()
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(100)

        def talk(connection: socket.socket) -> None:
            with connection, contextlib.suppress(OSError):
                while connection.recv(65536):
                    for byte in answer:
                        connection.sendall(bytes([byte]))
                        if answer.startswith(b"+") and over.wait(0.05):
                            return

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    threading.Thread(target=talk, args=(listening.accept()[0],), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        try:
            yield int(listening.getsockname()[1])
        finally:
            over.set()
            listening.shutdown(socket.SHUT_RDWR)


BROKEN = {"a trickle": b"+" + b"PONG" * 10_000, "an array without an end": b"*2000000000\r\n"}


@pytest.mark.parametrize("answer", BROKEN.values(), ids=BROKEN)
def test_an_answer_that_does_not_end_is_given_up_at_the_start_and_later(project: Project, answer: bytes) -> None:
    with broken_redis(answer) as port:
        address = Address("127.0.0.1", port).within(0.5)
        with contextlib.closing(address.client()) as client, pytest.raises(ERRORS):
            client.ping()
        with pytest.raises(ERRORS):
            replace(address, kind="cluster").client()
        environment = {"WEAKFISH_REDIS": f"127.0.0.1:{port}"}
        with serving(project, "--store-timeout", "0.5", wait=503, **environment) as site:
            assert site.features(**TEN).status == 503
            site.process.terminate()
            assert site.process.wait(30) == 0


@pytest.mark.parametrize("answer", BROKEN.values(), ids=BROKEN)
def test_rows_that_do_not_end_are_given_up(store: Store, answer: bytes) -> None:
    ours, theirs = socket.socketpair()
    address = Address("127.0.0.1", store.port).within(0.5)
    over = threading.Event()

    def talk() -> None:
        with contextlib.suppress(OSError):
            for byte in answer:
                theirs.sendall(bytes([byte]))
                if answer.startswith(b"+") and over.wait(0.05):
                    return

    with ours, theirs, contextlib.closing(address.client()) as client:
        exchange = Exchange(client)
        exchange.fetch([(Want((b"a",)), [b"k"])])
        line = exchange.idle[0]
        ours.settimeout(0.5)
        line.socket = ours
        thread = threading.Thread(target=talk)
        thread.start()
        with pytest.raises((TimeoutError, redis.RedisError)):
            line.ask([b"*1\r\n$4\r\nPING\r\n"], 1, list)
        over.set()
        thread.join()


@pytest.mark.parametrize("workers", [1, 2])
def test_all_who_are_connected_when_it_is_told_to_end_are_answered(project: Project, workers: int) -> None:
    with serving(project, "--workers", str(workers)) as site, contextlib.ExitStack() as stack:

        def connections() -> list[socket.socket]:
            return [stack.enter_context(connected(site)) for _ in range(CLIENTS)]

        used, unused, half = connections(), connections(), connections()
        for connection in used:
            connection.sendall(HEALTH)
            assert connection.recv(65536).startswith(b"HTTP/1.1 200")
        for connection in half:
            connection.sendall(HEALTH[:20])
        slow = later(lambda: site.ask("/get-online-features", trying(1.0)))
        assert site.ask("/health").status == 200
        with stopped(site):
            waiting = connections()
            site.process.send_signal(signal.SIGTERM)
            for connection in (*used, *unused, *waiting):
                connection.sendall(HEALTH)
            for connection in half:
                connection.sendall(HEALTH[20:])
        for connection in (*used, *unused, *half, *waiting):
            assert rest(connection).startswith(b"HTTP/1.1 200")
        assert slow().status == 200
        assert site.process.wait(timeout=60) == 0
        assert "Traceback" not in site.said()


@contextlib.contextmanager
def stopped(site: Site) -> Iterator[None]:
    """Stop a server's processes for longer than its loops wait, so that all finds them at once."""
    for process in processes(site):
        process.suspend()
    yield
    time.sleep(0.3)
    for process in processes(site):
        process.resume()


def processes(site: Site) -> list[psutil.Process]:
    """Those of a server: its parent first."""
    parent = psutil.Process(site.process.pid)
    return [parent, *parent.children()]


@pytest.mark.parametrize("workers", [1, 2])
def test_what_is_asked_on_an_open_connection_after_the_signal_is_answered_as_its_last(
    project: Project, workers: int
) -> None:
    with serving(project, "--workers", str(workers)) as site, connected(site) as used, connected(site) as unused:
        used.sendall(HEALTH)
        assert used.recv(65536).startswith(b"HTTP/1.1 200")
        slow = later(lambda: site.ask("/get-online-features", trying(1.0)))
        until(lambda: clients(site) == 3, site)
        site.process.send_signal(signal.SIGTERM)
        until(lambda: is_refused(site), site)
        body = json.dumps(TEN).encode()
        used.sendall(POST + b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
        unused.sendall(HEALTH)
        assert answers(rest(used)) == [200]
        assert answers(rest(unused)) == [200]
        assert slow().status == 200
        assert site.process.wait(timeout=60) == 0


def clients(site: Site) -> int:
    """How many connections a server has accepted."""
    found = [one for process in processes(site) for one in process.net_connections()]
    return sum(one.laddr.port == site.port and one.status == psutil.CONN_ESTABLISHED for one in found)


def is_refused(site: Site) -> bool:
    try:
        connected(site).close()
    except ConnectionRefusedError:
        return True
    return False


def test_a_request_that_does_not_finish_is_answered_and_keeps_nobody(project: Project) -> None:
    with serving(project, "--finish-timeout", "1") as site:
        slow = later(lambda: site.ask("/get-online-features", trying(90.0)))
        until(lambda: clients(site) == 1, site)
        site.process.send_signal(signal.SIGTERM)
        answer = slow()
        assert (answer.status, answer.detail) == (503, "The server is ending; try again in a moment.")
        assert answer.headers["connection"] == "close"
        assert site.process.wait(timeout=60) == 0
        assert "A request was not finished within 1 seconds of the end" in site.said()
        assert "Traceback" not in site.said()


def test_a_store_that_hangs_does_not_keep_a_server_from_ending(store: Store, project: Project) -> None:
    with serving(project, "--store-timeout", "600", "--finish-timeout", "1") as site:
        assert site.features(**TEN).status == 200
        with store.stuck():
            hanging = later(lambda: site.features(**TEN))
            until(lambda: clients(site) == 1, site)
            site.process.send_signal(signal.SIGTERM)
            assert hanging().status == 503
            assert site.process.wait(timeout=60) == 0


def test_connections_that_lie_in_the_queue_are_found(tmp_path: Path) -> None:
    with socket.socket() as listening, contextlib.ExitStack() as stack:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        clients: list[Any] = [stack.enter_context(socket.create_connection(listening.getsockname())) for _ in range(3)]
        found = [stack.enter_context(one) for one in queued(listening)]
        assert [one.getpeername() for one in found] == [one.getsockname() for one in clients]
        assert listening.fileno() == -1
