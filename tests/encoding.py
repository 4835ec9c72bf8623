"""Feature views of all of Feast's types, rows for them, and plain Feast's Redis store to compare with."""

from __future__ import annotations

import contextlib
import hashlib
import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import machine
import pyarrow as pa
import redis
from feast import Entity, FeatureView, Field, FileSource, RepoConfig, types
from feast.infra.online_stores.redis import RedisOnlineStore
from feast.utils import _convert_arrow_to_proto
from listening import listening
from stores import port

from weakfish.feast.encoding import Encoded, encode
from weakfish.feast.server import NEVER, program
from weakfish.feast.writer import writes

TIME = pa.timestamp("us", "UTC")
NOON = datetime(2024, 3, 1, 12, tzinfo=UTC)
KEYS: dict[str, Any] = {"user": types.Int64}


def view(features: Mapping[str, Any], keys: Mapping[str, Any] = KEYS, name: str = "habits", **more: Any) -> FeatureView:
    """A view with these features and join keys, by name and Feast type."""
    entities = [Entity(name=key, value_type=kind.to_value_type()) for key, kind in keys.items()]
    schema = [Field(name=key, dtype=kind) for key, kind in {**keys, **features}.items()]
    times = {"timestamp_field": "event_timestamp", "created_timestamp_column": "created"}
    return FeatureView(name=name, entities=entities, schema=schema, source=FileSource(path="x", **times), **more)


def config(client: redis.Redis | None = None, project: str = "pröject") -> RepoConfig:
    """Plain Feast's settings for a server."""
    where = f"127.0.0.1:{port(client)}" if client else "127.0.0.1:1"
    return RepoConfig(
        project=project,
        provider="local",
        registry="registry.db",
        online_store={"type": "redis", "connection_string": where},
        entity_key_serialization_version=3,
    )


def table(columns: Mapping[str, Any], times: Sequence[datetime] | None = None, created: Any = None) -> pa.Table:
    """Rows with these columns; event times a day apart, created an hour after them, if nothing else is said."""
    count = len(next(iter(columns.values())))
    times = times or [NOON + timedelta(days=number, microseconds=number) for number in range(count)]
    created = created or [time + timedelta(hours=1) for time in times]
    found = {name: column if isinstance(column, pa.Array) else pa.array(column) for name, column in columns.items()}
    return pa.table({**found, "event_timestamp": pa.array(times, TIME), "created": pa.array(created, TIME)})


def feast_rows(one: FeatureView, rows: pa.Table) -> Any:
    """Rows as Feast converts them to be handed to an online store."""
    kinds = {field.name: field.dtype.to_value_type() for field in one.entity_columns}
    return _convert_arrow_to_proto(rows, one, kinds)


def write_by_feast(client: redis.Redis, one: FeatureView, rows: Any, project: str = "pröject") -> None:
    """Hand rows to plain Feast's Redis store."""
    RedisOnlineStore().online_write_batch(config(client, project), one, rows, None)


def read_by_feast(client: redis.Redis, one: FeatureView, entities: Any, project: str = "pröject") -> Any:
    """What plain Feast's Redis store reads."""
    return RedisOnlineStore().online_read(config(client, project), one, list(entities))


@contextlib.contextmanager
def server(kind: str, folder: Path, *settings: str, at: int | None = None) -> Iterator[redis.Redis]:
    """A client of a server on a loopback port: Debian's ``redis-server``, or the embedded ``valkey``."""
    name = program() if kind == "valkey" else machine.program("redis-server")
    common = ["--bind", "127.0.0.1", "--dir", str(folder), "--save", "", *settings]
    with (
        listening(lambda found: [name, "--port", str(found), *common], folder, at) as (_, found),
        redis.Redis(port=found, retry=NEVER) as client,
    ):
        yield client


def write(client: Any, rows: Encoded, **how: Any) -> int:
    """Write rows by a client of a server or a cluster; returns how many were not older than the stored ones."""
    return writes(rows, **how).make(client)


def hashes(client: redis.Redis) -> dict[bytes, dict[bytes, bytes]]:
    """All hashes of a server, without the one field that Feast does not know."""
    return {
        key: {name: value for name, value in client.hgetall(key).items() if not name.startswith(b"_created:")}
        for key in client.scan_iter()
    }


IDS = [str(uuid.UUID(int=number)) for number in range(3)]
PAIR = types.Struct({"a": types.Int64, "b": types.String})
ALL: dict[str, tuple[Any, pa.Array]] = {
    "float32": (types.Float32, pa.array([1.5, None, -0.0, float("nan"), float("inf")], pa.float32())),
    "float64": (types.Float64, pa.array([1e300, None, -0.0, float("nan"), -float("inf")])),
    "int32": (types.Int32, pa.array([-(2**31), None, 0, -1, 2**31 - 1], pa.int32())),
    "int64": (types.Int64, pa.array([-(2**63), 2**63 - 1, 0, -1, 2**53 + 1])),
    "string": (types.String, pa.array(["", None, "ähm\n\x00", "\N{PILE OF POO}", "x" * 70_000])),
    "bytes": (types.Bytes, pa.array([b"", None, b"\x00\xff", b"plain", b"y" * 300])),
    "pdf": (types.PdfBytes, pa.array([b"%PDF", None, b"", b"\x00", b"z"])),
    "image": (types.ImageBytes, pa.array([b"\x89PNG", None, b"", b"\x00", b"z"])),
    "bool": (types.Bool, pa.array([True, None, False, True, False])),
    "time": (
        types.UnixTimestamp,
        pa.array([NOON, None, datetime(1960, 1, 1, 0, 0, 0, 5, UTC), datetime(1970, 1, 1), NOON], TIME),
    ),
    "uuid": (types.Uuid, pa.array([IDS[0], None, IDS[1], IDS[2], IDS[0]])),
    "time_uuid": (types.TimeUuid, pa.array([IDS[0], None, IDS[1], IDS[2], IDS[0]])),
    "decimal": (types.Decimal, pa.array([Decimal("1.50"), None, Decimal("-3.10"), Decimal("7.00"), Decimal("0.10")])),
    "json": (types.Json, pa.array(['{"a": 1}', None, "[]", "3", '"x"'])),
    "map": (types.Map, pa.array([json.dumps({"a": 1, "b": None}), None, "{}", '{"c": {"d": "e"}}', '{"f": [1, 2]}'])),
    "struct": (
        types.Struct({"a": types.Int64, "b": types.String}),
        pa.array([{"a": 1, "b": "x"}, None] + [{"a": 2, "b": ""}] * 3),
    ),
    "bytes_list": (types.Array(types.Bytes), pa.array([[b"a", b""], None, [], [b"\x00"], [b"b"]])),
    "string_list": (types.Array(types.String), pa.array([["a", ""], None, [], ["ä"], ["b"]])),
    "int32_list": (types.Array(types.Int32), pa.array([[1, -1], None, [], [0], [2]], pa.list_(pa.int32()))),
    "int64_list": (types.Array(types.Int64), pa.array([[1, -1], None, [], [2**62], [2]])),
    "float32_list": (types.Array(types.Float32), pa.array([[1.5], None, [], [-0.0], [2.0]], pa.list_(pa.float32()))),
    "float64_list": (types.Array(types.Float64), pa.array([[1.5], None, [], [-0.0], [2.0]])),
    "bool_list": (types.Array(types.Bool), pa.array([[True, False], None, [], [False], [True]])),
    "time_list": (types.Array(types.UnixTimestamp), pa.array([[NOON], None, [], [NOON, NOON], [NOON]], pa.list_(TIME))),
    "uuid_list": (types.Array(types.Uuid), pa.array([IDS, None, [], IDS[:1], IDS[1:]])),
    "time_uuid_list": (types.Array(types.TimeUuid), pa.array([IDS, None, [], IDS[:1], IDS[1:]])),
    "decimal_list": (types.Array(types.Decimal), pa.array([["1.5", "2"], None, [], ["3"], ["4"]])),
    "json_list": (types.Array(types.Json), pa.array([['{"a": 1}'], None, [], ["[]"], ["2"]])),
    "map_list": (types.Array(types.Map), pa.array(['[{"a": 1}]', None, "[]", '[{"b": "c"}]', "[]"])),
    "struct_list": (
        types.Array(types.Struct({"a": types.Int64})),
        pa.array([[{"a": 1}], None, [], [{"a": 2}] * 2, []]),
    ),
    "nested": (types.Array(types.Array(types.Int64)), pa.array([[[1], [2, 3]], None, [], [None], [[4]]])),
    "nested_set": (types.Set(types.Array(types.Int64)), pa.array([[[1], [2, 3]], None, [], [None], [[4]]])),
    "string_set": (types.Set(types.String), pa.array([["b", "a", "b"], None, [], ["ä"], ["c", "d", "e", "f"]])),
    "bytes_set": (types.Set(types.Bytes), pa.array([[b"b", b"a"], None, [], [b""], [b"c", b"d"]])),
    "int32_set": (types.Set(types.Int32), pa.array([[3, 1, 2], None, [], [0], [2]], pa.list_(pa.int32()))),
    "int64_set": (types.Set(types.Int64), pa.array([[3, 1, 2], None, [], [2**62], [2]])),
    "float32_set": (types.Set(types.Float32), pa.array([[2.5, 1.5], None, [], [0.0], [2.0]], pa.list_(pa.float32()))),
    "float64_set": (types.Set(types.Float64), pa.array([[2.5, 1.5], None, [], [0.0], [2.0]])),
    "bool_set": (types.Set(types.Bool), pa.array([[True, False], None, [], [False], [True]])),
    "time_set": (types.Set(types.UnixTimestamp), pa.array([[NOON], None, [], [NOON, NOON], [NOON]], pa.list_(TIME))),
    "uuid_set": (types.Set(types.Uuid), pa.array([IDS, None, [], IDS[:1], IDS[1:]])),
    "time_uuid_set": (types.Set(types.TimeUuid), pa.array([IDS, None, [], IDS[:1], IDS[1:]])),
    "decimal_set": (types.Set(types.Decimal), pa.array([["1.5", "2"], None, [], ["3"], ["4"]])),
}
"""A column of five rows for each type that Feast can convert from Arrow."""

USERS = pa.array([1, -2, 0, 2**63 - 1, -(2**63)])


def all_types() -> tuple[FeatureView, pa.Table]:
    """A view with a feature of each type, and five rows of it."""
    one = view({name: kind for name, (kind, _) in ALL.items()})
    return one, table({"user": USERS, **{name: column for name, (_, column) in ALL.items()}})


def digest_of_all() -> str:
    """A hash of all that `all_types` is encoded to."""
    one, rows = all_types()
    found = hashlib.sha256()
    for field, column in encode(one, config(), rows).fields().items():
        found.update(field + b"".join(column.to_pylist()))
    return found.hexdigest()
