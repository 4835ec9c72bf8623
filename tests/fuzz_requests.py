"""Requests that no client makes: `weakfish serve` answers each with 200 or what is wrong with it, and lives on.

Good questions are changed in their JSON or in their bytes, heads are made of nonsense, and connections end at once.
"""

from __future__ import annotations

import contextlib
import copy
import json
import random
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from serving import ORDERS, Site, repository, serving
from spoiling import SPICES, spoiled
from stores import port, redis_server

QUESTIONS: tuple[dict[str, Any], ...] = (
    {"feature_service": "ten", "entities": {"buyer": ["b1", "b2"]}},
    {
        "features": [f"buyer_orders:{name}" for name in ORDERS],
        "entities": {"buyer": ["b3"]},
        "full_feature_names": True,
    },
    {"features": ["shop_sales:sales", "buyer_visits:visits"], "entities": {"shop_id": [1, 2], "buyer": ["b1", "b2"]}},
    {"feature_service": "priced", "entities": {"buyer": ["b1"]}, "request_context": {"price": [1.5], "items": [2]}},
    {"feature_service": "types", "entities": {"shop_id": [1, 2**62]}},
    {"feature_service": "wide", "entities": {"buyer": ["b1"], "shop_id": [1]}},
)
VALUES: tuple[Any, ...] = (
    *(None, True, 0, -1, 2**63, 2**64, 10**400, 0.5, -0.0, 1e308, "", "b1", "1", "NaN", "x" * 5000, "\x00", "\ud800"),
    *([], [[]], [None], ["b1"] * 100, {}, {"a": []}, {"": {"": {}}}, [1, "a", None], "2024-01-01", "buyer_orders:f0"),
)
PATHS = (
    "/get-online-features",
    "/health",
    "/metrics",
    "/",
    "/push",
    "/docs",
    "/get-online-features/",
    "/%00",
    "/..",
    "*",
)
METHODS = ("POST", "POST", "GET", "HEAD", "PUT", "OPTIONS", "DELETE", "TRACE", "X")
WHOLE = ("JSON changed", "body spoiled")
"""Requests that end, whatever is wrong with them, and so are answered."""

ANSWERS = {None, 200, 501, *range(400, 500)}
"""What a request may be answered: 501 says that a transfer coding is not `chunked` alone."""

PATIENCE = 1.0
"""Seconds to wait for an answer; where more of the request is to come there is none."""


@contextlib.contextmanager
def cases(folder: Path) -> Iterator[Callable[[random.Random], str]]:
    """Try one request."""
    with redis_server(folder / "redis") as client, contextlib.ExitStack() as stack:
        project = repository(folder / "project", lambda _: port(client))
        site = stack.enter_context(serving(project, WEAKFISH_REDIS=f"127.0.0.1:{port(client)}"))

        def one(draw: random.Random) -> str:
            sort, sent = _request(draw)
            status = _ask(site, sent, cut=sort == "cut off")
            assert site.process.poll() is None, f"the server ended upon {sent[:300]!r}: {site.said()[-800:]}"
            assert site.ask("/health").status == 200, f"the server is not healthy after {sent[:300]!r}"
            assert status is not None or sort not in WHOLE, f"no answer to {sent[:600]!r}"
            assert status in ANSWERS, f"{status} for {sent[:600]!r}"
            return f"{sort}, {status or 'no answer'}"

        yield one


def _ask(site: Site, sent: bytes, *, cut: bool) -> int | None:
    """The status of the first answer; None where there is none, since the request does not end."""
    with socket.create_connection(("127.0.0.1", site.port), timeout=PATIENCE) as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(sent)
            if cut:
                return None
        answer = b""
        with contextlib.suppress(ConnectionError, TimeoutError):
            while b"\r\n" not in answer and (part := connection.recv(1 << 16)):
                answer += part
    assert not answer or answer.startswith(b"HTTP/1."), f"an answer that is none: {answer[:100]!r}"
    return int(answer.split()[1]) if answer else None


def _request(draw: random.Random) -> tuple[str, bytes]:
    question = copy.deepcopy(draw.choice(QUESTIONS))
    match draw.randrange(6):
        case 0:
            return "JSON changed", _post(_dumped(question, draw, times=0), draw)
        case 1 | 2:
            return "JSON changed", _post(_dumped(question, draw, times=draw.randrange(1, 4)), draw)
        case 3:
            return "body spoiled", _post(spoiled(json.dumps(question).encode(), draw), draw)
        case 4:
            return "head spoiled", _strange(json.dumps(question).encode(), draw)
        case _:
            whole = _post(json.dumps(question).encode(), draw)
            return (
                ("cut off", whole[: draw.randrange(len(whole))])
                if draw.random() < 0.5
                else ("bytes spoiled", spoiled(whole, draw))
            )


def _dumped(question: dict[str, Any], draw: random.Random, times: int) -> bytes:
    changed: Any = question
    for _ in range(times):
        changed = _changed(changed, draw)
    text = json.dumps(changed)
    if draw.random() < 0.1:
        text = text.replace('"b1"', draw.choice(("NaN", "Infinity", "1e999", "[" * 3000, '"\\ud800"', "01", "'b1'")))
    return text.encode()


def _changed(value: Any, draw: random.Random) -> Any:
    """A value with something in it, however deep, replaced, added or taken away."""
    if isinstance(value, dict) and value and draw.random() < 0.8:
        name = draw.choice(list(value))
        match draw.randrange(5):
            case 0:
                del value[name]
            case 1:
                value[draw.choice(("buyer", "shop_id", "price", "no such", "", "features", "entities"))] = draw.choice(
                    VALUES
                )
            case _:
                value[name] = _changed(value[name], draw)
        return value
    if isinstance(value, list) and value and draw.random() < 0.7:
        place = draw.randrange(len(value))
        value[place] = _changed(value[place], draw)
        return value
    return copy.deepcopy(draw.choice(VALUES))


def _post(body: bytes, draw: random.Random) -> bytes:
    head = [b"POST /get-online-features HTTP/1.1", b"Host: x", b"Connection: close"]
    head.append(b"Content-Type: " + draw.choice((*[b"application/json"] * 9, b"text/plain")))
    if draw.random() < 0.2:
        head.append(b"Transfer-Encoding: chunked")
        size = draw.randrange(1, 50)
        parts = [body[place : place + size] for place in range(0, len(body), size)]
        body = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
    else:
        head.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join([*head, b"", body])


def _strange(body: bytes, draw: random.Random) -> bytes:
    first = f"{draw.choice(METHODS)} {draw.choice(PATHS)} HTTP/{draw.choice(('1.1', '1.0', '2.0', '9'))}".encode()
    length = draw.choice((b"%d" % len(body), b"0", b"-1", b"1e3", b"9" * 30, b"x", b"1, 2"))
    head = [first, b"Host: " + draw.choice((b"x", b"", b"a b", b"\xff")), b"Content-Length: " + length]
    for _ in range(draw.randrange(4)):
        head.append(draw.choice(SPICES) + b": " + draw.choice(SPICES))
    head.append(
        draw.choice((b"Connection: close", b"Connection: upgrade", b"Expect: 100-continue", b"X: " + b"y" * 9000))
    )
    return b"\r\n".join([*head, b"", body])
