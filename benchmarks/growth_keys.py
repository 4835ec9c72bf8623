"""How much memory it takes to look for rows that no table has among all keys of a store, as publishing and auditing do.

    python -m benchmarks.growth_keys [--keys 1000000]

Prints a line of JSON for a tenth of the keys and one for all: ``keys``, ``found``, ``seconds``, ``peak_rss_mb``. One
key in a thousand is in no table.
"""

from __future__ import annotations

import argparse
import json
import struct
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import redis

from benchmarks.process import run
from benchmarks.servers import redis_server
from weakfish.feast.layout import STRING, batches, time_field
from weakfish.feast.server import HOST

VIEW, PROJECT, STRANGE = "orders", "shop", 1000


def made(rows: range) -> Iterator[bytes]:
    """Keys of customers as Feast lays them out."""
    for row in rows:
        texts = (b"buyer", b"customer-%012d" % row)
        laid = (struct.pack("<II", STRING, len(text)) + text for text in texts)
        yield struct.pack("<I", 1) + b"".join(laid) + PROJECT.encode()


def look(port: int, keys: int) -> dict[str, Any]:
    """Look through the keys of the server at a port."""
    from weakfish.feast.diff import KeySearch, KnownKeys, Layout, Online, leftovers

    begin = time.perf_counter()
    layouts = {VIEW: Layout.of(VIEW, {"join_keys": ["buyer"], "features": ["amount"]})}
    known, client = KnownKeys(layouts, layouts), redis.Redis(HOST, port)
    for start in range(0, keys, STRANGE):
        found = list(made(range(start + 1, min(start + STRANGE, keys))))
        known.add(VIEW, found, [[]] * len(found))
    found_there = sum(1 for _ in leftovers(Online(client), known, KeySearch(PROJECT, thorough=False)))
    client.close()
    return {"seconds": round(time.perf_counter() - begin, 1), "found": found_there}


def fill(port: int, rows: range) -> None:
    """Put a row of the view into each key."""
    with redis.Redis(HOST, port) as client:
        for some in batches(made(rows)):
            with client.pipeline(transaction=False) as pipe:
                for key in some:
                    pipe.hset(key, time_field(VIEW).decode(), "x")
                pipe.execute()


def main() -> None:
    """Fill a server, and print the lines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keys", type=int, default=1_000_000)
    every = parser.parse_args().keys
    with tempfile.TemporaryDirectory() as folder, redis_server(Path(folder) / "server") as server:
        for first, keys in ((0, every // 10), (every // 10, every)):
            fill(server.port, range(first, keys))
            done = run("growth_keys:look", port=server.port, keys=keys)
            line = {
                "name": "growth_keys",
                "keys": keys,
                "found": done.result["found"],
                "seconds": done.result["seconds"],
            }
            print(json.dumps(line | {"peak_rss_mb": done.peak_rss_mb}), flush=True)


if __name__ == "__main__":
    main()
