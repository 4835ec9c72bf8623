"""Feast's own ways of writing, on our engine and store: the rows of Feast's, corrections that arrive, no labels."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import redis
from encoding import NOON, TIME, hashes, server
from feast import BatchFeatureView, Entity, FeatureStore, FeatureView, Field, FileSource, PushSource, ValueType, types
from feast.infra.common.materialization_job import MaterializationTask
from feast.labeling.label_view import LabelView
from projects import write as write_file
from stores import port

from weakfish.errors import CheckFailed, StoreError, UserError
from weakfish.feast import clients
from weakfish.feast import materialize as writing
from weakfish.feast.materialize import ColumnarComputeEngine

USER = Entity(name="user", join_keys=["user_id"], value_type=ValueType.INT64)
SHOP = Entity(name="shop", join_keys=["shop"], value_type=ValueType.STRING)
SCHEMA = {
    "user_id": types.Int64,
    "shop": types.String,
    "orders": types.Int64,
    "mean": types.Float64,
    "ratio": types.Float32,
    "vip": types.Bool,
    "city": types.String,
    "seen": types.UnixTimestamp,
    "tags": types.Array(types.String),
}
OURS = {
    "offline_store": "{type: weakfish.feast.offline.AsOfOfflineStore}",
    "online_store": "{type: weakfish.feast.online.ProjectRedisOnlineStore}",
    "batch_engine": "{type: weakfish.feast.materialize.ColumnarComputeEngine}",
}
END = NOON + timedelta(days=30)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[redis.Redis]:
    with server("redis-server", tmp_path_factory.mktemp("server")) as found:
        yield found


@pytest.fixture(autouse=True)
def _named(client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    client.flushall()
    monkeypatch.setenv("WEAKFISH_REDIS", f"127.0.0.1:{port(client)}")


def rows(seed: int = 1, count: int = 300) -> pa.Table:
    """A history of 40 entities in no order, without ties."""
    chance = random.Random(seed)  # noqa: S311
    users = [chance.randrange(40) - 20 for _ in range(count)]
    times = [NOON + timedelta(minutes=chance.randrange(30_000), microseconds=number) for number in range(count)]
    maybe = [chance.random() < 0.9 for _ in range(count)]
    return pa.table(
        {
            "user_id": pa.array(users, pa.int64()),
            "shop": [f"shöp {user % 3}" for user in users],
            "orders": pa.array([chance.randrange(1000) for _ in range(count)], pa.int64()),
            "mean": [chance.random() if here else None for here in maybe],
            "ratio": pa.array([chance.random() if here else None for here in maybe], pa.float32()),
            "vip": [chance.random() < 0.5 if here else None for here in maybe],
            "city": [chance.choice(["", "Köln", None]) for _ in range(count)],
            "seen": pa.array(
                [time - timedelta(hours=2) if here else None for time, here in zip(times, maybe, strict=True)], TIME
            ),
            "tags": [chance.choice([["a", "b"], [], None]) for _ in range(count)],
            "event_timestamp": pa.array(times, TIME),
            "created": pa.array([time + timedelta(hours=1) for time in times], TIME),
        }
    )


def source(root: Path, table: pa.Table, **more: Any) -> FileSource:
    file = root / "rows.parquet"
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, file)
    settings = {"timestamp_field": "event_timestamp", "created_timestamp_column": "created", **more}
    return FileSource(name="rows", path=str(file), **settings)


def schema(*names: str) -> list[Field]:
    return [Field(name=name, dtype=SCHEMA[name]) for name in names or SCHEMA]


def habits(one: FileSource, **more: Any) -> FeatureView:
    return FeatureView(name="habits", entities=[USER, SHOP], schema=schema(), source=one, ttl=timedelta(0), **more)


def opened(root: Path, *objects: Any, **settings: str) -> FeatureStore:
    """A Feast repository with these objects, on our engines if nothing else is said."""
    lines = "\n".join(f"        {name}: {value}" for name, value in {**OURS, **settings}.items())
    write_file(
        root / "feature_store.yaml",
        f"""
        project: shops
        provider: local
        registry: registry.db
{lines}
        entity_key_serialization_version: 3
        """,
    )
    store = FeatureStore(repo_path=str(root))
    store.apply([USER, SHOP, *objects])
    return store


def feasts(client: redis.Redis) -> dict[str, str]:
    """Settings under which Feast's own engines do the same."""
    where = f"{{type: redis, connection_string: '127.0.0.1:{port(client)}'}}"
    return {"offline_store": "{type: duckdb}", "online_store": where, "batch_engine": "local"}


def begin() -> datetime:
    return NOON - timedelta(days=1)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("offline", [OURS["offline_store"], "{type: duckdb}"], ids=["as-of", "duckdb"])
def test_materialization_writes_what_feasts_local_engine_does(
    client: redis.Redis, tmp_path: Path, offline: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "ROWS", 7)
    one = source(tmp_path, rows())
    opened(tmp_path / "theirs", habits(one), **feasts(client)).materialize(begin(), END)
    theirs = hashes(client)
    client.flushall()
    opened(tmp_path / "ours", habits(one), offline_store=offline).materialize(begin(), END)
    assert hashes(client) == theirs
    assert len(theirs) == 40


def test_only_rows_of_the_time_that_is_asked_for_come_over(client: redis.Redis, tmp_path: Path) -> None:
    table = rows()
    store = opened(tmp_path, habits(source(tmp_path, table)))
    start, end = NOON + timedelta(days=4), NOON + timedelta(days=5)
    store.materialize(start, end)
    times = [time for time in table["event_timestamp"].to_pylist() if start <= time <= end]
    assert 0 < client.dbsize() <= len(times)


def test_a_correction_arrives_and_a_run_over_old_rows_takes_nothing_back(client: redis.Redis, tmp_path: Path) -> None:
    first = rows(count=1)
    corrected = first.set_column(2, "orders", pa.array([777])).set_column(
        10, "created", pa.array([first["created"][0].as_py() + timedelta(hours=1)], TIME)
    )
    store = opened(tmp_path, habits(source(tmp_path, first)))
    store.materialize(begin(), END)
    before = hashes(client)
    source(tmp_path, corrected)
    store.materialize(begin(), END)
    assert orders(store, first) == [777]
    source(tmp_path, first)
    store.materialize(begin(), END)
    assert orders(store, first) == [777]
    assert hashes(client) != before


@pytest.mark.parametrize("batch_engine", [OURS["batch_engine"], "local"], ids=["columnar", "local"])
def test_a_view_whose_gate_is_shut_is_not_materialized(client: redis.Redis, tmp_path: Path, batch_engine: str) -> None:
    for mark in ("params.yaml", "dvc.yaml", "validation/features/habits.py"):
        write_file(tmp_path / mark, "")
    one = source(tmp_path / "data/features/habits", rows())
    store = opened(tmp_path / "feature_repo", habits(one), batch_engine=batch_engine)
    with pytest.raises(CheckFailed, match="features/habits has not been validated"):
        store.materialize(begin(), END)
    assert client.dbsize() == 0
    (tmp_path / "validation/features/habits.py").unlink()
    store.materialize(begin(), END)
    assert client.dbsize()


def orders(store: FeatureStore, table: pa.Table) -> Any:
    keys = table.select(["user_id", "shop"]).to_pylist()
    return store.get_online_features(["habits:orders"], keys).to_dict()["orders"]


def test_the_next_run_goes_on_from_where_the_last_one_ended(client: redis.Redis, tmp_path: Path) -> None:
    table = rows()
    store = opened(tmp_path, habits(source(tmp_path, table)))
    store.materialize(begin(), NOON + timedelta(days=10))
    assert store.get_feature_view("habits").most_recent_end_time == NOON + timedelta(days=10)
    store.materialize_incremental(END)
    assert store.get_feature_view("habits").most_recent_end_time == END
    last = table.to_pandas().sort_values("event_timestamp").groupby("user_id").last().reset_index()
    assert orders(store, pa.Table.from_pandas(last)) == last["orders"].tolist()


def test_a_run_that_loses_the_server_leaves_whole_rows_and_the_next_one_ends_it(
    client: redis.Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clients, "RETRY_SECONDS", 0.2)
    monkeypatch.setattr(writing, "ROWS", 5)
    one = source(tmp_path, rows())
    store = opened(tmp_path / "a", habits(one))
    store.materialize(begin(), END)
    expected = hashes(client)
    client.flushall()
    with server("redis-server", tmp_path, "--appendonly", "yes", "--appendfsync", "always") as other:
        where = port(other)
        monkeypatch.setenv("WEAKFISH_REDIS", f"127.0.0.1:{where}")
        broken = opened(tmp_path / "b", habits(one))
        online = broken._get_provider().online_store
        written: list[int] = []

        def stop(count: int) -> None:
            written.append(count)
            if len(written) == 3:
                other.shutdown(nosave=True)

        with monkeypatch.context() as patch:
            patch.setattr(writing.Progress, "add", lambda self, count: stop(count))
            with pytest.raises(StoreError, match="went away while view habits was being written"):
                broken.materialize(begin(), END)
    assert sum(written) == 15
    with server("redis-server", tmp_path, "--appendonly", "yes", at=where) as other:
        assert len(hashes(other)) == 15
        assert hashes(other).items() <= expected.items()
        asyncio.run(online.close())
        broken.materialize(begin(), END)
        assert hashes(other) == expected


def test_rows_that_are_pushed_or_written_keep_the_newer_one(client: redis.Redis, tmp_path: Path) -> None:
    pushed = PushSource(name="pushed", batch_source=source(tmp_path, rows(count=1)))
    store = opened(tmp_path, FeatureView(name="habits", entities=[USER, SHOP], schema=schema(), source=pushed))
    table = rows(count=1)
    frame = table.to_pandas()
    frame["tags"] = [["a"]]
    corrected = frame.assign(orders=778, created=frame["created"] + pd.Timedelta("1h"))
    store.push("pushed", frame)
    before = hashes(client)
    store.push("pushed", corrected)
    store.write_to_online_store("habits", frame)
    assert orders(store, table) == [778]
    older = corrected.assign(orders=779, event_timestamp=frame["event_timestamp"] - pd.Timedelta("1us"))
    store.push("pushed", older.assign(created=older["created"] + pd.Timedelta("1h")))
    assert orders(store, table) == [778]

    async def work() -> None:
        await store.push_async("pushed", corrected.assign(orders=780))
        await store.write_to_online_store_async("habits", frame)
        await store._get_provider().close()

    asyncio.run(work())
    assert orders(store, table) == [780]
    assert hashes(client).keys() == before.keys()


def test_a_null_inside_an_array_is_refused_by_every_writer(client: redis.Redis, tmp_path: Path) -> None:
    table = rows(count=1).set_column(8, "tags", pa.array([["a", None]]))
    pushed = PushSource(name="pushed", batch_source=source(tmp_path, table))
    view = FeatureView(name="habits", entities=[USER, SHOP], schema=schema(), source=pushed)
    store = opened(tmp_path, view)
    for write in (
        lambda: store.materialize(begin(), END),
        lambda: store.push("pushed", table.to_pandas()),
        lambda: store.write_to_online_store("habits", table.to_pandas()),
    ):
        with pytest.raises(StoreError, match="A null inside an array has no value of Feast's type STRING_LIST"):
            write()
    assert not hashes(client)


def test_expiry_of_keys_is_as_feast_has_it(client: redis.Redis, tmp_path: Path) -> None:
    kept = "{type: weakfish.feast.online.ProjectRedisOnlineStore, key_ttl_seconds: 1000}"
    opened(tmp_path, habits(source(tmp_path, rows())), online_store=kept).materialize(begin(), END)
    assert all(0 < client.ttl(key) <= 1000 for key in client.scan_iter())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_another_online_store_is_filled_as_feasts_engine_does(client: redis.Redis, tmp_path: Path) -> None:
    theirs = feasts(client)
    found = []
    for number, engine in enumerate((theirs["batch_engine"], OURS["batch_engine"])):
        client.flushall()
        one = habits(source(tmp_path, rows()))
        opened(tmp_path / str(number), one, **{**theirs, "batch_engine": engine}).materialize(begin(), END)
        found.append(hashes(client))
    assert found[0] == found[1]
    assert len(found[0]) == 40


def test_older_rows_do_not_come_back_where_feast_would_not_look(client: redis.Redis, tmp_path: Path) -> None:
    unseeing = "{type: weakfish.feast.online.ProjectRedisOnlineStore, skip_dedup: true}"
    store = opened(tmp_path, habits(source(tmp_path, rows(count=1))), online_store=unseeing)
    frame = rows(count=1).to_pandas()
    frame["tags"] = [["a"]]
    store.write_to_online_store("habits", frame)
    store.write_to_online_store(
        "habits", frame.assign(orders=5, event_timestamp=frame["event_timestamp"] - pd.Timedelta("1us"))
    )
    assert orders(store, rows(count=1)) == frame["orders"].tolist()


@pytest.mark.filterwarnings("ignore:Batch feature views are experimental")
def test_a_view_that_feast_computes_is_written_too(client: redis.Redis, tmp_path: Path) -> None:
    def doubled(frame):  # Feast takes its text elsewhere, where no annotation is known
        return frame.assign(orders=frame["orders"] * 2)

    table = rows()
    one = BatchFeatureView(
        name="doubled",
        mode="pandas",
        entities=[USER, SHOP],
        schema=schema("user_id", "shop", "orders", "city"),
        source=source(tmp_path, table.drop_columns(["tags"])),
        udf=doubled,
        udf_string="doubled",
        online=True,
    )
    store = opened(tmp_path, one)
    store.materialize(begin(), END)
    last = table.to_pandas().sort_values("event_timestamp").groupby("user_id").last().reset_index()
    keys = pa.Table.from_pandas(last).select(["user_id", "shop"]).to_pylist()
    found = store.get_online_features(["doubled:orders"], keys).to_dict()["orders"]
    assert found == [2 * number for number in last["orders"]]
    assert sum(name.startswith(b"_created:") for name in client.hkeys(client.randomkey())) == 1


def test_columns_that_a_source_calls_otherwise_are_found(client: redis.Redis, tmp_path: Path) -> None:
    names = {"orders": "n", "event_timestamp": "at"}
    table = rows()
    table = table.rename_columns([names.get(name, name) for name in table.column_names])
    one = source(tmp_path, table, field_mapping={"n": "orders"}, timestamp_field="at")
    for number, offline in enumerate((OURS["offline_store"], "{type: dask}")):
        client.flushall()
        store = opened(tmp_path / str(number), habits(one), offline_store=offline)
        store.materialize(begin(), END)
        last = rows().to_pandas().sort_values("event_timestamp").groupby("user_id").last().reset_index()
        assert orders(store, pa.Table.from_pandas(last)) == last["orders"].tolist()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_view_without_entities_is_materialized(client: redis.Redis, tmp_path: Path) -> None:
    total = FeatureView(name="totals", entities=[], schema=schema("orders"), source=source(tmp_path, rows()))
    theirs = {**feasts(client), "offline_store": "{type: dask}"}
    opened(tmp_path / "theirs", total, **theirs).materialize(begin(), END)
    expected = hashes(client)
    assert len(expected) == 1
    for number, offline in enumerate((OURS["offline_store"], "{type: dask}")):
        client.flushall()
        opened(tmp_path / str(number), total, offline_store=offline).materialize(begin(), END)
        assert hashes(client) == expected


def test_a_view_that_is_not_online_is_left_alone(client: redis.Redis, tmp_path: Path) -> None:
    store = opened(tmp_path, habits(source(tmp_path, rows()), online=False))
    engine = store._get_provider().batch_engine
    assert isinstance(engine, ColumnarComputeEngine)
    with pytest.raises(ValueError, match="not configured to be served online"):
        store.materialize(begin(), END, feature_views=["habits"])
    assert client.dbsize() == 0


def test_labels_stay_out_however_they_come(client: redis.Redis, tmp_path: Path) -> None:
    labels = LabelView(
        name="verdicts",
        entities=[USER, SHOP],
        schema=schema("user_id", "shop", "orders"),
        source=source(tmp_path, rows()),
        labeler_field="city",
    )
    store = opened(tmp_path, labels)
    engine = store._get_provider().batch_engine
    for way in (
        lambda: store.write_to_online_store("verdicts", rows(count=1).to_pandas()),
        lambda: asyncio.run(store.write_to_online_store_async("verdicts", rows(count=1).to_pandas())),
        lambda: engine.materialize(store.registry, MaterializationTask("shops", labels, begin(), END)),
    ):
        with pytest.warns(UserWarning, match="Labels of 'verdicts' are not written to the online store"):
            way()
    assert client.dbsize() == 0


def test_historical_features_work_beside_the_engine(client: redis.Redis, tmp_path: Path) -> None:
    table = rows()
    store = opened(tmp_path, habits(source(tmp_path, table)))
    spine = table.to_pandas()[["user_id", "shop", "event_timestamp"]]
    found = store.get_historical_features(spine, ["habits:orders"]).to_df()
    assert found["orders"].tolist() == table["orders"].to_pylist()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_row_without_its_key_stops_the_run_and_is_told(tmp_path: Path) -> None:
    store = opened(tmp_path, habits(source(tmp_path, rows())), offline_store="{type: duckdb}")
    with_null = rows().set_column(1, "shop", pa.array([None] * 300, pa.string()))
    source(tmp_path, with_null)
    with pytest.raises(StoreError, match="rows of view habits have no shop, which is their key"):
        store.materialize(begin(), END)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("engine", [OURS["batch_engine"], "local"], ids=["columnar", "local"])
def test_rows_that_were_created_after_the_end_are_materialized_as_feast_does(
    client: redis.Redis, tmp_path: Path, engine: str
) -> None:
    late = rows(count=2).set_column(10, "created", pa.array([END + timedelta(days=1)] * 2, TIME))
    one = source(tmp_path, late)
    opened(tmp_path / "theirs", habits(one), **feasts(client)).materialize(begin(), END)
    theirs = hashes(client)
    client.flushall()
    store = opened(tmp_path / "ours", habits(one), batch_engine=engine)
    store.materialize(begin(), END)
    assert hashes(client) == theirs
    assert orders(store, late) == late["orders"].to_pylist()
    history = store.get_historical_features(
        late.select(["user_id", "shop"]).append_column("event_timestamp", pa.array([END] * 2, TIME)), ["habits:orders"]
    )
    assert history.to_arrow()["orders"].to_pylist() == late["orders"].to_pylist(), "the two stores are one"


@pytest.mark.filterwarnings("ignore:There are some mismatches", "ignore::DeprecationWarning")
def test_a_view_whose_source_lacks_a_join_key_is_refused_by_name(client: redis.Redis, tmp_path: Path) -> None:
    sentence = (
        r"View 'stays' has the entities guest, user, but its source lacks a join key of theirs \(found: user_id\)"
    )
    one, guest = source(tmp_path, rows()), Entity(name="guest", join_keys=["guest_id"])
    stays = FeatureView(name="stays", entities=[guest, USER], schema=schema("orders"), source=one)
    store = opened(tmp_path)
    with pytest.raises(UserError, match=sentence):
        store.apply([USER, guest, stays])
    assert "stays" not in {view.name for view in FeatureStore(repo_path=str(tmp_path)).list_feature_views()}
    theirs = opened(tmp_path / "theirs", guest, stays, online_store=feasts(client)["online_store"])
    store = opened(tmp_path / "theirs")  # a registry that plain Feast made
    assert theirs.get_feature_view("stays").join_keys == ["user_id"]
    for way in (
        lambda: store.materialize(begin(), END),
        lambda: store.write_to_online_store("stays", rows(count=1).to_pandas()),
        lambda: store.get_historical_features(rows(count=1).select(["user_id", "event_timestamp"]), ["stays:orders"]),
    ):
        with pytest.raises(UserError, match=sentence):
            way()
    assert client.dbsize() == 0


@pytest.mark.parametrize("kind", [pa.list_(pa.float32()), pa.list_(pa.float32(), 2)])
def test_vectors_of_another_length_than_their_view_declares_are_refused(
    client: redis.Redis, tmp_path: Path, kind: pa.DataType
) -> None:
    vectors = rows(count=3).select(["user_id", "event_timestamp", "created"])
    vectors = vectors.append_column("place", pa.array([[1.0, 2.0]] * 3, kind))
    fields = [Field(name="place", dtype=types.Array(types.Float32), vector_index=True, vector_length=3)]
    view = FeatureView(name="places", entities=[USER], schema=fields, source=source(tmp_path, vectors))
    with pytest.raises(
        StoreError, match=r"Vector length 2 does not match expected 3 .*correct|Vector length 2 does not"
    ):
        opened(tmp_path, view).materialize(begin(), END)
    assert client.dbsize() == 0
