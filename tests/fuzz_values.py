"""Values that nobody published: what is read, audited and published when keys in Redis hold something else.

A read never fails for it, the audit says what differs, and `weakfish publish` puts it right, so that the audit passes.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import redis
from feast import FeatureStore
from in_process import run_here
from serving import serving
from stores import dump, port, redis_server, report, shop

from weakfish.errors import CheckFailed, StoreError
from weakfish.feast import layout

ROWS = [{"buyer": f"b{number}", "shop": "s0"} for number in range(12)]
QUESTION: dict[str, Any] = {
    "feature_service": "fraud_v1",
    "entities": {name: [row[name] for row in ROWS] for name in ("buyer", "shop")},
    "full_feature_names": True,
}
GARBAGE = (
    b"",
    b"\x00",
    b"\xff" * 9,
    b"garbage",
    b"\x08\x96\x01",
    b"\x12\xff\xff\xff\xff\x0f",
    b'{"features": 1}',
    b"[]",
    b"null",
)
GARBAGE += (
    b"\x1a\x03abc",
    b"\x20\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
    b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
    b"9" * 400,
)


@contextlib.contextmanager
def cases(folder: Path) -> Iterator[Callable[[random.Random], str]]:
    """Change some of what is published, read it, and publish again."""
    with redis_server(folder / "redis") as client:
        os.environ["WEAKFISH_REDIS"] = f"127.0.0.1:{port(client)}"
        project = shop(folder / "shop")
        run_here(project.root, ["publish"])
        good = dump(client)
        with serving(project) as site:

            def one(draw: random.Random) -> str:
                client.flushall()
                _load(client, good)
                sorts = sorted({_spoil(client, draw) for _ in range(draw.choice((1, 1, 2, 5)))})
                answer = site.features(**QUESTION)
                assert answer.status == 200, f"{answer.status} {answer.body[:300]!r} with {sorts}"
                names = answer.json["metadata"]["feature_names"]
                assert len(names) == len(answer.json["results"])
                store = FeatureStore(repo_path=str(project.root / "feature_repo"))
                store.get_online_features(
                    store.get_feature_service("fraud_v1"), ROWS, full_feature_names=True
                ).to_dict()
                run_here(project.root, ["online", "get", "buyer=b1", "shop=s0"])
                with contextlib.suppress(CheckFailed, StoreError):  # the latter where nothing counts as published
                    run_here(project.root, ["audit"])
                run_here(project.root, ["publish"])
                run_here(project.root, ["audit"])
                now = dump(client)
                differing = [key for key in good if isinstance(good[key], dict) and now.get(key) != good[key]]
                left = sum(
                    view["rows"].get("newer", 0) for view in report(project)["audit"]["views"].values()
                )  # whose time is a later one now
                assert len(differing) <= left, f"after publishing {differing[0]!r} still differs, with {sorts}"
                return ", ".join(sorts)

            with contextlib.chdir(project.root):
                yield one


def _load(client: redis.Redis, held: dict[bytes, Any]) -> None:
    for key, value in held.items():
        if isinstance(value, dict):
            client.hset(key, mapping=value)
        else:
            client.set(key, value)


def _spoil(client: redis.Redis, draw: random.Random) -> str:
    """Change one key, and say how."""
    marker = layout.marker("shop")
    keys = sorted(key for key in client.scan_iter() if client.type(key) == b"hash")
    if not keys or draw.random() < 0.2:
        return _spoil_marker(client, marker, draw)
    key = draw.choice(keys)
    names = sorted(client.hkeys(key))
    name = draw.choice(names)
    match draw.randrange(7):
        case 0:
            client.delete(key)
            return "hash gone"
        case 1:
            client.hdel(key, name)
            return "field gone"
        case 2:
            client.hset(key, name, draw.choice(GARBAGE))
            return "garbage"
        case 3:
            value = client.hget(key, name)
            assert value is not None
            place = draw.randrange(len(value) + 1)
            client.hset(key, name, value[:place] + draw.randbytes(2) + value[place + 1 :])
            return "bytes changed"
        case 4:
            client.delete(key)
            client.set(key, draw.choice(GARBAGE))
            return "string for a hash"
        case 5:
            client.delete(key)
            client.rpush(key, "a", "b")
            return "list for a hash"
        case _:
            client.hset(key, name, client.hget(draw.choice(keys), draw.choice(names)) or b"x")
            return "value of another"


def _spoil_marker(client: redis.Redis, marker: str | bytes, draw: random.Random) -> str:
    client_type = client.type(marker)
    content = client.get(marker) if client_type == b"string" else None
    match draw.randrange(4):
        case 0:
            client.delete(marker)
            return "marker gone"
        case 1:
            client.set(marker, draw.choice(GARBAGE))
            return "marker garbage"
        case 2:
            client.delete(marker)
            client.hset(marker, "a", "b")
            return "marker a hash"
        case _:
            found = json.loads(content) if content else {}
            if isinstance(found, dict) and found:
                found[draw.choice(sorted(found))] = draw.choice((None, [], {}, 1, "x", {"a": 1}))
            client.set(marker, json.dumps(found))
            return "marker changed"
