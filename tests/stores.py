"""A small Feast project about a shop, and real servers to publish it to."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import machine
import pyarrow as pa
import pytest
import redis
from listening import Arguments, listening
from projects import write

from weakfish.contracts.tables import TIME, write_partition
from weakfish.files import sha256, write_json
from weakfish.project.paths import Project

BEGIN = datetime(2024, 1, 1, tzinfo=UTC)
AS_OF = datetime(2024, 2, 10, 8, 30, 0, 250_000, tzinfo=UTC)

DEFINITIONS = '''
    """Buyers and shops."""

    from datetime import timedelta
    from pathlib import Path

    from feast import Entity, FeatureService, FeatureView, ValueType

    from weakfish.project.paths import Project
    from weakfish.feast.definitions import view_schema, view_source

    here = Project.find(Path(__file__).parent)
    buyer = Entity(name="buyer", value_type=ValueType.STRING)
    shop = Entity(name="shop", value_type=ValueType.STRING)

    buyer_orders = FeatureView(
        name="buyer_orders", entities=[buyer], ttl=timedelta(0),
        schema=view_schema(here, "buyer_orders"), source=view_source(here, "buyer_orders"),
    )
    buyer_refunds = FeatureView(
        name="buyer_refunds", entities=[buyer], ttl=timedelta(0),
        schema=view_schema(here, "buyer_refunds"), source=view_source(here, "buyer_refunds"),
    )
    shop_orders = FeatureView(
        name="shop_orders", entities=[shop], ttl=timedelta(0),
        schema=view_schema(here, "shop_orders"), source=view_source(here, "shop_orders"),
    )
    fraud_v1 = FeatureService(name="fraud_v1", features=[buyer_orders, buyer_refunds, shop_orders])
'''

COLUMNS = {"orders_7d": pa.int64(), "mean_30d": pa.float64(), "first_seen_at": TIME, "is_new": pa.bool_()}
TYPES = {**COLUMNS, "last_seen_at": TIME}


def shop(root: Path, name: str = "shop") -> Project:
    """A project with three small views, in the new folder ``root``; ``name`` is its Feast project."""
    root.mkdir(parents=True)
    orders = Path(__file__).parent / "orders"
    shutil.copy(orders / "params.yaml", root)
    shutil.copy(orders / "dvc.yaml", root)
    write(
        root / "feature_repo/feature_store.yaml",
        f"""
        project: {name}
        provider: local
        registry: {{path: ../data/registry/registry.db, cache_ttl_seconds: 60}}
        offline_store: {{type: duckdb}}
        online_store: {{type: weakfish.feast.online.ProjectRedisOnlineStore}}
        materialization: {{pull_latest_features: true, online_write_batch_size: 4}}
        entity_key_serialization_version: 3
        """,
    )
    write(root / "feature_repo/definitions.py", DEFINITIONS)
    table(root, "buyer_orders", "buyer", [f"b{number}" for number in range(12)])
    table(root, "buyer_refunds", "buyer", [f"b{number}" for number in range(0, 12, 2)])
    table(root, "shop_orders", "shop", ["s0", "s1", "ähop/ß*[?"])
    return Project(root)


def table(
    root: Path, view: str, entity: str, entities: Sequence[str], columns: Sequence[str] = tuple(COLUMNS), shift: int = 0
) -> None:
    """Make a view's table: rows on some hours of forty days, nulls and ties with ``as_of`` among them."""
    rows = []
    for position, name in enumerate(entities):
        for number in range(1 + position % 4):
            time = BEGIN + timedelta(days=13 * number + position % 3, hours=position)
            rows.append((time, name, number + shift + position))
    rows.append((AS_OF, entities[0], 1000 + shift))
    rows.append((AS_OF + timedelta(microseconds=1), entities[1], 2000 + shift))
    rows.sort()
    folder = root / "data/features"
    shutil.rmtree(folder / view, ignore_errors=True)
    for month in sorted({time.strftime("%Y-%m") for time, _, _ in rows}):
        mine = [row for row in rows if row[0].strftime("%Y-%m") == month]
        write_partition(folder / view, month, _month(mine, entity, columns))
    files = {file.stem: {"sha256": sha256(file)} for file in sorted((folder / view).glob("*.parquet"))}
    kinds = {entity: "string", "event_timestamp": str(TIME), "created": str(TIME)}
    manifest = {
        "view": view,
        "entity": entity,
        "columns": kinds | {name: str(TYPES[name]) for name in columns},
        "features": list(columns),
        "partitions": files,
        "data_version": "-".join(content["sha256"] for content in files.values()),
        "as_of": AS_OF.isoformat(),
    }
    write_json(folder / f"{view}.manifest.json", manifest)


def _month(rows: Sequence[tuple[datetime, str, int]], entity: str, columns: Sequence[str]) -> pa.Table:
    times = pa.array([time for time, _, _ in rows], TIME)
    values = {
        "orders_7d": [None if value % 5 == 4 else value for _, _, value in rows],
        "mean_30d": [None if value % 3 == 2 else value / 7 for _, _, value in rows],
        "first_seen_at": [None if value % 4 == 3 else time - timedelta(days=1) for time, _, value in rows],
        "last_seen_at": [time - timedelta(hours=1, microseconds=7) for time, _, _ in rows],
        "is_new": [None if value % 7 == 6 else value % 2 == 0 for _, _, value in rows],
    }
    features = {name: pa.array(values[name], TYPES[name]) for name in columns}
    return pa.table({entity: [name for _, name, _ in rows], "event_timestamp": times, "created": times, **features})


def set_as_of(project: Project, value: str) -> Project:
    """The project with another ``publish.as_of``."""
    file = project.root / "params.yaml"
    text = file.read_text(encoding="utf-8").split("\npublish:")[0].rstrip()
    file.write_text(f"{text}\npublish: {{as_of: {value}}}\n", encoding="utf-8")
    return Project(project.root)


@contextlib.contextmanager
def redis_server(folder: Path, *settings: str, at: int | None = None) -> Iterator[redis.Redis]:
    """A client of Debian's redis-server on a loopback port, ``at`` or a free one."""
    with listening(debian(folder, *settings), folder, at) as (_, found), redis.Redis(port=found) as client:
        yield client


def debian(folder: Path, *settings: str) -> Arguments:
    """The command line of Debian's redis-server, which keeps nothing on disk but what ``settings`` say."""
    program = machine.program("redis-server")
    common = ["--bind", "127.0.0.1", "--dir", str(folder), "--save", ""]
    return lambda port: [program, "--port", str(port), *common, *settings]


def named(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Let the environment name the server on a port of this machine, and nothing else about it."""
    for name in [name for name in os.environ if name.startswith("WEAKFISH_REDIS")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("WEAKFISH_REDIS", f"127.0.0.1:{number}")


def port(client: redis.Redis) -> int:
    return int(client.connection_pool.connection_kwargs["port"])


def python(project: Project, code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run code in a process of its own, from the root of the file system; ``project`` is defined there."""
    begin = "from pathlib import Path; from weakfish.project.paths import Project"
    code = f"{begin}; project = Project(Path({str(project.root)!r}))\n{code}"
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd="/",
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def dump(client: redis.Redis) -> dict[bytes, Any]:
    """Everything a server holds."""
    held: dict[bytes, Any] = {}
    for key in client.scan_iter():
        held[key] = client.hgetall(key) if client.type(key) == b"hash" else client.get(key)
    return held


def report(project: Project) -> Any:
    return json.loads((project.reports / "publish.json").read_text(encoding="utf-8"))
