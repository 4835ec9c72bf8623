"""Whether both sides of the store's figures gave the same: compared in full, in processes of their own."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

BATCH = 5_000


def frames(ours: str, theirs: str, by: str) -> dict[str, Any]:
    """Compare two tables in Parquet, whatever the order of their rows and columns; the column ``by`` numbers rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    mine, other = (pq.ParquetFile(file).read().replace_schema_metadata().sort_by(by) for file in (ours, theirs))
    different: dict[str, int] = {}
    if set(mine.column_names) != set(other.column_names) or mine.num_rows != other.num_rows:
        return {"equal": False, "rows": [mine.num_rows, other.num_rows]}
    for name in other.column_names:
        kind = mine[name].type
        column = other[name].cast(kind) if pa.types.is_timestamp(kind) or pa.types.is_string(kind) else other[name]
        if not _same(mine[name], column):
            different[name] = 1
    return {"equal": not different, "different": sorted(different), "nulls": mine[mine.column_names[-1]].null_count}


def _same(mine: Any, other: Any) -> bool:
    """Equal values, bit for bit where they are floats, and nulls in the same rows."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if mine.type != other.type:
        return False
    if pa.types.is_floating(mine.type):
        bits = pa.int64() if mine.type == pa.float64() else pa.int32()
        mine, other = (column.combine_chunks().view(bits) for column in (mine, other))
        return bool(mine.is_valid().equals(other.is_valid()) and pc.all(pc.equal(mine, other)).as_py() is not False)
    return bool(mine.combine_chunks().equals(other.combine_chunks()))


def servers(ours: int, theirs: int) -> dict[str, Any]:
    """Compare all that two servers hold, but for the fields that only ours has and keys that are no entity's."""
    import redis

    mine, other = (redis.Redis("127.0.0.1", port) for port in (ours, theirs))
    counts = [0, 0]
    different = 0
    for keys in _batches(other.scan_iter(count=BATCH, _type="HASH")):
        rows = [_rows(client, keys) for client in (mine, other)]
        counts[1] += len(keys)
        for row, wanted in zip(*rows, strict=True):
            own = {field: value for field, value in row.items() if not field.startswith(b"_created:")}
            different += own != wanted
    counts[0] = sum(1 for _ in mine.scan_iter(count=BATCH, _type="HASH"))
    return {"equal": not different and counts[0] == counts[1], "different": different, "rows": counts}


def ready_made(source: int, target: int, batch: int) -> dict[str, Any]:
    """Write the rows of one server to another by commands made beforehand; rows a second of that alone."""
    import socket
    import time

    import redis
    from redis.connection import Connection

    client = redis.Redis("127.0.0.1", source)
    spelled = Connection().pack_command  # type: ignore[no-untyped-call]
    rows, seconds = 0, 0.0
    with socket.create_connection(("127.0.0.1", target)) as connection, connection.makefile("rb") as answers:
        for keys in _batches(client.scan_iter(count=BATCH, _type="HASH"), batch):
            commands = []
            for key, row in zip(keys, _rows(client, keys), strict=True):
                parts = [part for pair in row.items() for part in pair]
                commands.append(b"".join(spelled("HSET", key, *parts)))  # type: ignore[no-untyped-call]
            ready = b"".join(commands)
            begin = time.perf_counter()
            connection.sendall(ready)
            for _ in keys:
                if not answers.readline().startswith(b":"):
                    raise ValueError("The server refused a ready-made HSET.")
            seconds += time.perf_counter() - begin
            rows += len(keys)
    return {"rows": rows, "rate": rows / seconds}


def corrupt(port: int) -> None:
    """Change a byte of one value of one row."""
    import redis

    client: Any = redis.Redis("127.0.0.1", port)
    for key in client.scan_iter(_type="HASH"):
        values = {field: value for field, value in client.hgetall(key).items() if len(field) == 4 and value}
        if values:
            field, value = min(values.items())
            client.hset(key, field, value[:-1] + bytes([value[-1] ^ 1]))
            return
    raise ValueError("The server holds no row whose value could be changed.")


def plain_reader(repo: str, table: str, accounts: int) -> dict[str, Any]:
    """Compare what plain Feast reads of accounts, drawn at random, with the feature table in Parquet."""
    import numpy as np
    import pyarrow.dataset as ds
    from feast import FeatureStore

    from benchmarks.store_data import FEATURES, KEY
    from benchmarks.store_projects import SERVICE

    rows = ds.dataset(table, format="parquet").to_table()
    chosen = np.random.default_rng(5).choice(rows.num_rows, min(accounts, rows.num_rows), replace=False)
    wanted = rows.take(np.sort(chosen)).select([KEY, *FEATURES]).to_pydict()
    store = FeatureStore(repo_path=repo)
    entity_rows = [{KEY: name} for name in wanted[KEY]]
    found = store.get_online_features(features=store.get_feature_service(SERVICE), entity_rows=entity_rows).to_dict()
    return {"equal": all(found[name] == wanted[name] for name in wanted), "rows": len(entity_rows)}


def _rows(client: Any, keys: list[bytes]) -> list[dict[bytes, bytes]]:
    with client.pipeline(transaction=False) as pipe:
        for key in keys:
            pipe.hgetall(key)
        rows: list[dict[bytes, bytes]] = pipe.execute()
    return rows


def _batches(keys: Iterator[bytes], size: int = BATCH) -> Iterator[list[bytes]]:
    seen: set[bytes] = set()
    fresh = (key for key in keys if not (key in seen or seen.add(key)))  # type: ignore[func-returns-value]
    while batch := list(islice(fresh, size)):
        yield batch
