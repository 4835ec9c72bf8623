"""What `weakfish serve` bounds before it knows who is there: heads, bodies, time and connections, over raw sockets."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from typing import Any

import psutil
import pytest
from serving import BUYERS, SHOPS, Site, on_embedded_server, serving, until

from weakfish.project.paths import Project

MAX_HEAD, MAX_CONNECTIONS = 2000, 8
LIMITS = ("--request-timeout", "1", "--idle-timeout", "1", "--max-head", str(MAX_HEAD))
HEALTH = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST /get-online-features HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
MEBIBYTE = 1 << 20


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    with on_embedded_server(tmp_path_factory.mktemp("serve") / "project") as found:
        yield found


@pytest.fixture(scope="module")
def site(project: Project) -> Iterator[Site]:
    with serving(project, *LIMITS) as found:
        yield found
        assert "Traceback" not in found.said()


@pytest.fixture(scope="module")
def small(project: Project) -> Iterator[Site]:
    """A server that has few connections, and the usual patience."""
    with serving(project, "--max-connections", str(MAX_CONNECTIONS)) as found:
        yield found
        assert "Traceback" not in found.said()


def connected(site: Site) -> socket.socket:
    return socket.create_connection(("127.0.0.1", site.port), timeout=60)


def rest(connection: socket.socket) -> bytes:
    """All that comes until the server closes the connection, which it must not reset."""
    return b"".join(iter(lambda: connection.recv(65536), b""))


def answers(said: bytes) -> list[int]:
    """The statuses of the answers in what a connection said; the last must say that it is closed."""
    statuses, last = [], b""
    while said:
        last, _, said = said.partition(b"\r\n\r\n")
        lines = last.lower().split(b"\r\n")
        statuses.append(int(lines[0].split()[1]))
        length = next(int(line.split()[1]) for line in lines if line.startswith(b"content-length"))
        body, said = said[:length], said[length:]
        assert len(body) == length
        if statuses[-1] != 200:
            assert set(json.loads(body)) == {"detail"}
    assert not last or b"connection: close" in last.lower()
    return statuses


WAITING = {
    "nothing": (b"", []),
    "half a head": (b"GET /health HTTP/1.1\r\nHo", [408]),
    "empty lines alone": (b"\r\n\r\n", []),
    "a head and no body": (POST + b"Content-Length: 10\r\n\r\n", [408]),
    "half a body": (POST + b"Content-Length: 10\r\n\r\n{", [408]),
    "a body in pieces without an end": (CHUNKED + b"1\r\n{\r\n", [408]),
    "a body in pieces without its trailer": (CHUNKED + b"1\r\n{\r\n0\r\n", [408]),
    "a body that nobody wants": (b"GET /health HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n", [200]),
    "half a head after an answer": (b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\nGET", [404, 408]),
    "an empty line after a whole request": (HEALTH + b"\r\n", [200]),
}


@pytest.mark.parametrize("name", WAITING)
def test_a_connection_on_which_nothing_more_comes_is_ended(site: Site, name: str) -> None:
    sent, expected = WAITING[name]
    with connected(site) as connection:
        connection.sendall(sent)
        said = rest(connection)
    if name.startswith("an empty line after"):
        assert said.startswith(b"HTTP/1.1 200")
    else:
        assert answers(said) == expected
    if expected[-1:] == [408]:
        assert b"did not arrive within 1 seconds." in said


@pytest.mark.parametrize("piece", [b"A: b\r\n", b"\r\n", b"x"], ids=["headers", "empty lines", "one header"])
def test_a_client_that_never_stops_sending_a_head_slowly_is_ended(site: Site, piece: bytes) -> None:
    begin = b"" if piece == b"\r\n" else b"GET /health HTTP/1.1\r\nA: "
    over = threading.Event()
    with connected(site) as connection:

        def drip() -> None:
            with contextlib.suppress(OSError):
                connection.sendall(begin)
                while not over.wait(0.05):
                    connection.sendall(piece)

        thread = threading.Thread(target=drip)
        thread.start()
        said = rest(connection)
        over.set()
        thread.join()
    assert answers(said) == ([] if piece == b"\r\n" else [408])


@pytest.mark.parametrize("step", [7, 1000, 65536])
@pytest.mark.parametrize(
    "head",
    [
        b"GET /%b HTTP/1.1\r\n\r\n" % (b"x" * MAX_HEAD),
        b"GET /health HTTP/1.1\r\nA: %b\r\n\r\n" % (b"x" * MAX_HEAD),
        b"GET /health HTTP/1.1\r\n%b: b\r\n\r\n" % (b"x" * MAX_HEAD),
        b"GET /health HTTP/1.1\r\n%b\r\n" % (b"A: b\r\n" * (MAX_HEAD // 6)),
        CHUNKED + b"0\r\n%b\r\n" % (b"A: b\r\n" * (MAX_HEAD // 5)),
    ],
    ids=["address", "value", "name", "number", "trailers"],
)
def test_a_head_that_is_too_large_is_refused_in_whatever_pieces_it_comes(site: Site, head: bytes, step: int) -> None:
    with connected(site) as connection:
        for place in range(0, len(head), step):
            connection.sendall(head[place : place + step])
        said = rest(connection)
    assert answers(said) == [431]
    assert b"larger than 2,000 bytes" in said


@pytest.mark.parametrize("begin", [b"GET /health HTTP/1.1\r\nA: ", b"GET /health HTTP/1.1\r\n", CHUNKED + b"1;"])
def test_a_part_of_a_head_that_has_no_end_is_refused_before_its_time_is_over(small: Site, begin: bytes) -> None:
    with connected(small) as connection:
        connection.sendall(begin)
        for _ in range(1000):
            connection.sendall(b"x" * 1000)
        assert answers(rest(connection)) == [431]


@pytest.mark.parametrize("step", [1, 1000])
def test_a_head_within_the_limit_is_answered_in_whatever_pieces_it_comes(site: Site, step: int) -> None:
    head = b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\nA: %b\r\n\r\n" % (b"x" * (MAX_HEAD - 100))
    with connected(site) as connection:
        for place in range(0, len(head), step):
            connection.sendall(head[place : place + step])
        assert answers(rest(connection)) == [200]


FLOODS = {
    "one header": (b"GET /health HTTP/1.1\r\nA: ", b"x" * MEBIBYTE),
    "headers": (b"GET /health HTTP/1.1\r\n", b"A: b\r\n" * (MEBIBYTE // 6)),
    "trailers": (
        b"POST /nothing HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n",
        b"A: b\r\n" * (MEBIBYTE // 6),
    ),
    "a body that is not read": (
        b"POST /nothing HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n",
        b"x" * MEBIBYTE,
    ),
    "requests ahead of their answers": (b"", HEALTH * (MEBIBYTE // len(HEALTH))),
}


@pytest.mark.parametrize("name", FLOODS)
def test_a_connection_that_sends_for_ever_takes_no_memory(site: Site, name: str) -> None:
    begin, piece = FLOODS[name]
    process = psutil.Process(site.process.pid)
    before = process.memory_info().rss
    with connected(site) as connection, contextlib.suppress(OSError):
        connection.sendall(begin)
        for _ in range(64):
            connection.sendall(piece)
    assert site.ask("/health").status == 200
    assert process.memory_info().rss - before < 32 * MEBIBYTE


def test_what_is_refused_by_its_head_gets_its_answer_though_the_client_goes_on_sending(site: Site) -> None:
    with connected(site) as connection:
        connection.sendall(b"POST /nothing HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (20 * MEBIBYTE))
        for _ in range(20):
            connection.sendall(b"x" * MEBIBYTE)
        assert answers(rest(connection)) == [404]


def test_what_is_no_http_is_refused_and_the_requests_before_it_are_answered(site: Site) -> None:
    for sent, expected in (
        (b"hello\r\n\r\n", [400]),
        (CHUNKED + b"no number\r\n", [400]),
        (HEALTH * 3 + b"hello\r\n\r\n", [200] * 3),
        (HEALTH * 100, [200] * 17),
    ):
        with connected(site) as connection:
            connection.sendall(sent)
            assert answers(rest(connection)) == expected, sent[:80]


def test_the_connection_that_waited_longest_makes_room_for_a_new_one(small: Site) -> None:
    with contextlib.ExitStack() as stack:
        idle = [stack.enter_context(connected(small)) for _ in range(MAX_CONNECTIONS)]
        assert small.ask("/health").status == 200
        assert rest(idle[0]) == b""
        idle[-1].sendall(HEALTH.replace(b"Host", b"Connection: close\r\nHost"))
        assert answers(rest(idle[-1])) == [200]


def test_a_client_is_refused_while_all_connections_are_at_work(small: Site) -> None:
    body = json.dumps({"feature_service": "trying", "entities": {"buyer": ["b1"], "price": [3.0], "items": [1]}})
    with contextlib.ExitStack() as stack:
        busy = [stack.enter_context(connected(small)) for _ in range(MAX_CONNECTIONS)]
        for connection in busy:
            connection.sendall(POST + b"Connection: close\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body.encode()))
        until(lambda: _refused(small), small)
        assert [answers(rest(connection)) for connection in busy] == [[200]] * MAX_CONNECTIONS
    assert b'path="other",status="503"' in small.ask("/metrics").body


def _refused(site: Site) -> bool:
    with connected(site) as connection:
        connection.sendall(HEALTH.replace(b"Host", b"Connection: close\r\nHost"))
        return answers(rest(connection)) == [503]


def test_a_client_that_does_not_read_its_answer_is_not_waited_for(small: Site) -> None:
    question: dict[str, Any] = {"feature_service": "wide", "full_feature_names": True}
    question["entities"] = {"buyer": BUYERS[:5] * 2000, "shop_id": SHOPS * 2000}
    body = json.dumps(question).encode()
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(60)
        connection.connect(("127.0.0.1", small.port))
        connection.sendall(POST + b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
        assert connection.recv(12) == b"HTTP/1.1 200"
        here = connection.getsockname()[1]
        process = psutil.Process(small.process.pid)
        until(lambda: here not in {one.raddr.port for one in process.net_connections() if one.raddr}, small)


def test_each_of_several_processes_has_the_limits(project: Project) -> None:
    with serving(project, "--workers", "2", *LIMITS) as found:
        for _ in range(4):
            with connected(found) as connection:
                connection.sendall(b"GET /health HTTP/1.1\r\nA: %b\r\n\r\n" % (b"x" * MAX_HEAD))
                assert answers(rest(connection)) == [431]
            with connected(found) as connection:
                assert answers(rest(connection)) == []
