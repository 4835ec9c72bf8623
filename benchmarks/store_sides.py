"""Both sides of the store's figures: the same calls of Feast's SDK on one repository or the other.

Which engines run is the repository's matter. ``port`` is that of the server that our online store is told to use.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Generator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from benchmarks.servers import stay_apart
from benchmarks.store_data import KEY, names
from benchmarks.store_projects import SERVICE, VIEW

Side = Generator[dict[str, Any], dict[str, Any], None]


def historical(repo: str, spine: str) -> Side:
    """``get_historical_features`` of a service for the spine in a Parquet file, to Arrow; ``out`` gets the table."""
    import pandas as pd
    import pyarrow.parquet as pq

    store = _store(repo)
    service = store.get_feature_service(SERVICE)
    frame = pd.read_parquet(spine)
    asked = yield {}
    while True:
        begin = time.perf_counter()
        table = store.get_historical_features(entity_df=frame, features=service).to_arrow()
        seconds = time.perf_counter() - begin
        pq.write_table(table, asked["out"])
        del table
        asked = yield {"seconds": seconds}


def materialize(repo: str, port: int, views: Sequence[str] = (VIEW,)) -> Side:
    """``materialize`` of views up to ``until`` (ISO)."""
    store = _store(repo, port)
    asked = yield {}
    while True:
        until = datetime.fromisoformat(asked["until"])
        begin = time.perf_counter()
        store.materialize(until - timedelta(days=365), until, feature_views=list(views))
        asked = yield {"seconds": time.perf_counter() - begin}


def publish(root: str, port: int) -> Side:
    """``weakfish publish`` of the project in ``root``; says how long its audit took, too."""
    from weakfish.feast import publish as verbs
    from weakfish.project.paths import Project

    os.environ["WEAKFISH_REDIS"] = f"127.0.0.1:{port}"
    yield {}
    begin = time.perf_counter()
    verbs.publish(Project(Path(root)))
    yield {"seconds": time.perf_counter() - begin}


def audit(root: str, port: int) -> Side:
    """``weakfish audit`` of the project in ``root``: seconds, whether it passed, and rows by kind."""
    from weakfish.feast import publish as verbs
    from weakfish.project.paths import Project

    os.environ["WEAKFISH_REDIS"] = f"127.0.0.1:{port}"
    yield {}
    while True:
        begin = time.perf_counter()
        found = verbs.audit(Project(Path(root)))
        seconds = time.perf_counter() - begin
        counts = found.audit["views"][VIEW]["rows"]
        yield {
            "seconds": seconds,
            "passed": found.passed,
            "rows": {kind: number for kind, number in counts.items() if number},
        }


def reads(repo: str, port: int, accounts: int) -> Side:
    """``get_online_features`` of a service for ``entities`` accounts at a time, ``count`` times, drawn by ``seed``.

    A reading ends when the whole response is there as Feast's protocol buffer. Answers ``latencies`` in ms, the same
    with ``to_dict()`` as ``dict_latencies``, and two digests: of all that the response says, and of the raw ``values``
    and times alone.
    """
    stay_apart()
    store = _store(repo, port)
    service = store.get_feature_service(SERVICE)
    asked = yield {}
    while True:
        rows = [[{KEY: name} for name in some] for some in drawn(accounts, **asked)]
        responses, latencies, dicts = [], [], []
        for entity_rows in rows:
            begin = time.perf_counter()
            proto = store.get_online_features(features=service, entity_rows=entity_rows).proto
            latencies.append((time.perf_counter() - begin) * 1000)
            responses.append(proto)
        for entity_rows in rows:
            begin = time.perf_counter()
            store.get_online_features(features=service, entity_rows=entity_rows).to_dict()
            dicts.append((time.perf_counter() - begin) * 1000)
        whole, values = hashlib.sha256(), hashlib.sha256()
        for response in responses:
            by_name = dict(sorted(zip(response.metadata.feature_names.val, response.results, strict=True)))
            for name, vector in by_name.items():  # in which order a service has its features is chance with Feast
                _add(whole, name.encode())
                _add(whole, vector.SerializeToString(deterministic=True))
            _add_values(values, [vector for name, vector in by_name.items() if name != KEY])
        asked = yield {
            "latencies": latencies,
            "dict_latencies": dicts,
            "digest": whole.hexdigest(),
            "values": values.hexdigest(),
        }


def raw_reads(port: int, accounts: int, project: str, view: str, features: list[str]) -> Side:
    """``HMGET`` of the same fields by redis-py, with keys and fields spelled out beforehand."""
    import struct

    import redis

    from weakfish.feast.layout import feature_field, time_field

    def key(name: str) -> bytes:
        strings = [text.encode() for text in (KEY, name)]
        parts = [struct.pack("<II", 2, len(text)) + text for text in strings]  # 2 is a string
        return struct.pack("<I", 1) + b"".join(parts) + project.encode()

    stay_apart()
    client = redis.Redis("127.0.0.1", port)
    fields = [*(feature_field(view, name) for name in features), time_field(view)]
    client.ping()
    asked = yield {}
    while True:
        keys = [key(name) for some in drawn(accounts, **asked) for name in some]
        found: list[Any] = []
        latencies = []
        for one in keys:
            begin = time.perf_counter()
            row = client.hmget(one, fields)
            latencies.append((time.perf_counter() - begin) * 1000)
            found.append(row)
        digest = hashlib.sha256()
        for row in found:
            for value in row:
                _add(digest, value)
        asked = yield {"latencies": latencies, "values": digest.hexdigest()}


def drawn(accounts: int, seed: int, count: int, entities: int) -> list[list[str]]:
    """``count`` times ``entities`` names of accounts, none twice in a time."""
    import numpy as np

    rng = np.random.default_rng(seed)
    chosen = np.stack([rng.choice(accounts, entities, replace=False) for _ in range(count)])
    flat: list[str] = names(chosen.ravel()).to_pylist()
    return [flat[first : first + entities] for first in range(0, len(flat), entities)]


def _add_values(digest: Any, vectors: list[Any]) -> None:
    """Add features as the raw reading has them: entity by entity, its values, then its time."""
    for position in range(len(vectors[0].values)):
        for vector in vectors:
            _add(digest, vector.values[position].SerializeToString())
        _add(digest, vectors[0].event_timestamps[position].SerializeToString())


def _add(digest: Any, value: bytes) -> None:
    digest.update(len(value).to_bytes(4, "little") + value)


def _store(repo: str, port: int | None = None) -> Any:
    if port is not None:
        os.environ["WEAKFISH_REDIS"] = f"127.0.0.1:{port}"
    from feast import FeatureStore

    return FeatureStore(repo_path=repo)
