"""The load on a feature server: POST requests over connections that stay open, one after another on each.

It is one thread on `selectors` with requests spelled out beforehand, so that it costs some ten microseconds a request;
`run` says how many.
"""

from __future__ import annotations

import hashlib
import json
import re
import selectors
import socket
import time
from collections.abc import Generator, Iterator, Sequence
from typing import Any

HOST = "127.0.0.1"
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
CHUNK = 1 << 18
SECONDS = 30.0


class Connection:
    """A connection that stays open, with at most one request under way."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection((HOST, port), timeout=SECONDS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.number = -1
        self.begin = 0.0
        self._read = b""

    def send(self, number: int, request: bytes) -> None:
        """Send a request whole."""
        self.number, self.begin, self._read = number, time.perf_counter(), b""
        self.socket.sendall(request)

    def receive(self) -> bytes | None:
        """The body of the answer, once all of it is there.

        Raises
        ------
        ValueError
            When the server closed the connection or answered with anything but 200.
        """
        part = self.socket.recv(CHUNK)
        self._read += part
        head, separator, body = self._read.partition(b"\r\n\r\n")
        if not part or (separator and b" 200 " not in head[:16]):
            raise ValueError(f"Request {self.number} was answered with {self._read[:400]!r}, not with 200.")
        length = LENGTH.search(head) if separator else None
        return body if length and len(body) >= int(length[1]) else None


def load(port: int, path: str, bodies: str, connections: int) -> Generator[dict[str, Any] | None, dict[str, Any], None]:
    """A side that sends the bodies of a file, one a line, to ``path``; asked for ``first`` and ``count``.

    Answers ``seconds``, ``latencies`` in ms, ``own_seconds`` of this process's processor, and a ``digest`` of what the
    server answered, request by request.
    """
    with open(bodies, "rb") as lines:  # noqa: PTH123 -- as light as can be
        requests = [_request(path, line.strip()) for line in lines]
    open_connections = [Connection(port) for _ in range(connections)]
    asked = yield None
    while True:
        chosen = [requests[number % len(requests)] for number in range(asked["first"], asked["first"] + asked["count"])]
        asked = yield run(open_connections, chosen)


def run(connections: Sequence[Connection], requests: Sequence[bytes]) -> dict[str, Any]:
    """Send all requests, each by the connection that is free first."""
    answers, latencies = [b""] * len(requests), [0.0] * len(requests)
    waiting = iter(enumerate(requests))
    with selectors.DefaultSelector() as selector:
        for connection in connections:
            selector.register(connection.socket, selectors.EVENT_READ, connection)
        begin, own = time.perf_counter(), time.process_time()
        busy = sum(_next(connection, waiting) for connection in connections)
        while busy:
            ready = selector.select(SECONDS)
            if not ready:
                raise TimeoutError(f"The server did not answer within {SECONDS} s.")
            for key, _ in ready:
                connection = key.data
                body = connection.receive()
                if body is None:
                    continue
                latencies[connection.number] = (time.perf_counter() - connection.begin) * 1000
                answers[connection.number] = body
                busy -= not _next(connection, waiting)
    return {
        "seconds": time.perf_counter() - begin,
        "own_seconds": time.process_time() - own,
        "latencies": latencies,
        "digest": digest(answers),
    }


def digest(answers: Sequence[bytes]) -> str:
    """A hash of the answers of a feature server, whatever their spelling and the order of their features."""
    found = hashlib.sha256()
    for answer in map(json.loads, answers):
        names = answer["metadata"].pop("feature_names")
        answer["results"] = dict(zip(names, answer["results"], strict=True))
        found.update(json.dumps(answer, sort_keys=True).encode() + b"\n")
    return found.hexdigest()


def _next(connection: Connection, waiting: Iterator[tuple[int, bytes]]) -> bool:
    following = next(waiting, None)
    if following:
        connection.send(*following)
    return following is not None


def _request(path: str, body: bytes) -> bytes:
    lines = (f"POST {path} HTTP/1.1", f"Host: {HOST}", "Content-Type: application/json", f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body
