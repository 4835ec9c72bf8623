"""`weakfish serve` and requests that are made to cost it much, or to be read in two ways."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from typing import Any

import psutil
import pytest
from serving import Site, on_embedded_server, serving
from starlette.exceptions import HTTPException
from test_store_serve_limits import HEALTH, MEBIBYTE, POST, answers, connected, rest

from weakfish.feast.serving.messages import LONGEST_TEXT, MOST_COLUMNS, MOST_FEATURES, MOST_INNER, parse
from weakfish.project.paths import Project

TOKEN = "a-token-of-sufficient-length"
BEARER = f"Authorization: Bearer {TOKEN}\r\n".encode()
QUESTION = b'{"features": ["shop_sales:sales"], "entities": {"shop_id": [1]}}'
MAX_HEAD = 16_384
UPGRADES = {
    "made up": b"Connection: upgrade\r\nUpgrade: x\r\n",
    "HTTP/2": b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMA\r\n",
    "two": b"Connection: upgrade\r\nUpgrade: x\r\nUpgrade: websocket\r\n",
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    with on_embedded_server(tmp_path_factory.mktemp("serve") / "project") as found:
        yield found


@pytest.fixture(scope="module")
def site(project: Project) -> Iterator[Site]:
    with serving(project, WEAKFISH_SERVE_TOKEN=TOKEN) as found:
        yield found
        assert "Traceback" not in found.said()


def said(site: Site, *parts: bytes) -> bytes:
    """What a connection answers to parts that are sent one by one, and then to a last request."""
    with connected(site) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for part in parts:
            connection.sendall(part)
        connection.sendall(HEALTH.replace(b"Host", b"Connection: close\r\nHost"))
        return rest(connection)


def post(body: bytes, more: bytes = b"", *, chunked: bool = False) -> tuple[bytes, bytes]:
    """A request for features in two parts, its head and its body."""
    if chunked:
        return POST + BEARER + more + b"Transfer-Encoding: chunked\r\n\r\n", b"%x\r\n%b\r\n0\r\n\r\n" % (
            len(body),
            body,
        )
    return POST + BEARER + more + b"Content-Length: %d\r\n\r\n" % len(body), body


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
@pytest.mark.parametrize("wish", UPGRADES.values(), ids=UPGRADES)
def test_a_wish_to_upgrade_is_ignored_and_the_body_stays_a_body(site: Site, wish: bytes, chunked: bool) -> None:
    whole = b"".join(post(QUESTION))
    for body, expected in ((QUESTION, 200), (whole, 422), (b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n", 422)):
        head, sent = post(body, wish, chunked=chunked)
        for parts in ((head + sent,), (head, sent), [bytes([byte]) for byte in head + sent]):
            assert answers(said(site, *parts)) == [expected, 200]
    assert answers(said(site, b"".join(post(QUESTION, wish)) * 3)) == [200] * 4


def test_a_request_without_a_body_that_wishes_to_upgrade_leaves_the_next_one_whole(site: Site) -> None:
    for wish in UPGRADES.values():
        assert answers(said(site, HEALTH.replace(b"Host", wish + b"Host"), HEALTH)) == [200] * 3
    with connected(site) as connection:
        connection.sendall(b"CONNECT x:80 HTTP/1.1\r\nHost: x:80\r\n\r\n")
        assert answers(rest(connection)) == [400]


def head_of(size: int, line: bytes) -> bytes:
    """A head of so many bytes, filled up with lines, and with blanks in the last."""
    begin = b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    lines = line * ((size - len(begin) - 100) // len(line))
    left = size - len(begin) - len(lines) - len(b"Z:\r\n\r\n")
    return begin + lines + b"Z:" + b" " * left + b"\r\n\r\n"


@pytest.mark.parametrize("step", [1000, 15_000, 100_000])
@pytest.mark.parametrize("line", [b"X:" + b" " * 5000 + b"a\r\n", b"X:a\r\n"], ids=["blanks", "short lines"])
def test_a_head_is_measured_by_the_bytes_that_come(site: Site, line: bytes, step: int) -> None:
    for size, expected in ((MAX_HEAD, 200), (MAX_HEAD + 1, 431), (4 * MEBIBYTE, 431)):
        head = head_of(size, line)
        assert len(head) == size
        with connected(site) as connection:
            for place in range(0, size, step):
                connection.sendall(head[place : place + step])
            assert answers(rest(connection)) == [expected]


@pytest.mark.parametrize("part", [b"a" * MAX_HEAD, b"X:" + b" " * MAX_HEAD, b"\r\n" * MAX_HEAD], ids=repr)
def test_what_has_no_end_is_refused_though_it_comes_at_once(site: Site, part: bytes) -> None:
    for begin in (b"", b"GET /health HTTP/1.1\r\nHost: x\r\n"):
        if begin and part.startswith(b"\r\n"):
            continue  # where the head has ended
        with connected(site) as connection:
            connection.sendall(begin + part)
            assert answers(rest(connection))[0] in ((431,) if begin or part.startswith(b"\r\n") else (400, 431))


@pytest.mark.parametrize(
    ("head", "status", "sentence"),
    [
        (b"GET /health HTTP/1.1\r\n", 400, "must have one Host header"),
        (b"GET /health HTTP/1.1\r\nHost: x\r\nHost: x\r\n", 400, "must have one Host header"),
        (b"GET /health HTTP/1.0\r\n", 200, ""),
        (POST + BEARER + b"Transfer-Encoding: gzip, chunked\r\n", 501, "only Transfer-Encoding that is taken"),
        (POST + BEARER + b"Transfer-Encoding:, chunked\r\n", 501, "only Transfer-Encoding that is taken"),
        (POST + BEARER + b"Content-Encoding: gzip\r\nContent-Length: 9\r\n", 415, "must not be compressed"),
    ],
)
def test_a_head_that_can_be_read_in_two_ways_is_refused(site: Site, head: bytes, status: int, sentence: str) -> None:
    with connected(site) as connection:
        connection.sendall(head + b"\r\n")
        found = rest(connection)
    assert answers(found) == [status]
    assert sentence.encode() in found


def test_the_scheme_of_a_token_is_read_in_either_case(site: Site) -> None:
    for shown, expected in ((f"bearer {TOKEN}", 200), (f"BEARER  {TOKEN}", 200), (f"bearer {TOKEN}x", 401)):
        assert site.ask("/metrics", headers={"Authorization": shown}).status == expected


WRONG = {
    "features of another type": (b'{"entities":{"a":[1]},"features":[%b]}', b"1", "at features.0: Input should be a"),
    "features in number": (b'{"entities":{"a":[1]},"features":[%b]}', b'"a"', f"at most {MOST_FEATURES} items"),
    "entities of another type": (b'{"features":["a:b"],"entities":{"0":1%b}}', None, "800,001 lists, of which at most"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_large_body_of_wrong_types_ends_at_the_first(site: Site, name: str) -> None:
    form, value, sentence = WRONG[name]
    many = b"".join(b',"%x":1' % place for place in range(16, 800_016)) if value is None else b",".join([value] * 10**6)
    process = psutil.Process(site.process.pid)
    before = process.memory_info().rss
    answer = site.ask("/get-online-features", form % many, {"Authorization": f"Bearer {TOKEN}"})
    assert answer.status == 422
    assert sentence in answer.detail
    assert process.memory_info().rss - before < 300 * MEBIBYTE


def test_lists_are_bounded_by_their_number_and_named_when_they_are_none() -> None:
    columns: dict[str, Any] = {f"c{place}": [1] for place in range(MOST_COLUMNS)}
    asked = {"features": ["a:b"], "entities": columns}
    assert len(parse(json.dumps(asked).encode(), 1).entities) == MOST_COLUMNS
    for more, sentence in (
        ({"c0": 1, "c1": 2}, "at entities.c0: Input should be a valid array."),
        ({"d": [1]}, "1,001"),
    ):
        with pytest.raises(HTTPException, match=sentence):
            parse(json.dumps({**asked, "entities": {**columns, **more}}).encode(), 1)


def test_lists_within_lists_are_bounded_and_brackets_in_texts_are_not() -> None:
    def asked(values: list[Any]) -> bytes:
        return json.dumps({"features": ["a:b"], "entities": {"k": values}}).encode()

    for inner in ([], {}, [[]]):
        with pytest.raises(HTTPException, match="more than 250,000 lists and objects"):
            parse(asked([inner] * MOST_INNER), 2 * MOST_INNER)
    assert len(parse(asked([[]] * (MOST_INNER - 4)), MOST_INNER).entities["k"]) == MOST_INNER - 4
    texts = ['[{"\\' * MOST_INNER, "[", '\\"' + "{" * MOST_INNER]
    assert parse(asked(texts), 3).entities["k"] == texts
    with pytest.raises(HTTPException, match="is not valid JSON"):
        parse(asked(texts)[:-9], 3)


@pytest.mark.parametrize("digits", [LONGEST_TEXT + 1, 400_000])
def test_a_text_that_is_to_become_a_number_has_a_bounded_length(site: Site, digits: int) -> None:
    token = {"Authorization": f"Bearer {TOKEN}"}
    body: dict[str, Any] = {"feature_service": "types", "entities": {"shop_id": [1, "1" * digits]}}
    answer = site.ask("/get-online-features", body, token)
    assert answer.status == 422
    assert answer.detail.startswith("The value of 'shop_id' in row 1 has a text of more than 128 characters, which can")
    body["entities"] = {"shop_id": ["1".zfill(LONGEST_TEXT)]}
    assert site.ask("/get-online-features", body, token).status == 200
    body = {"feature_service": "ten", "entities": {"buyer": ["1" * digits]}}
    assert site.ask("/get-online-features", body, token).status == 200, "a text may be long"
