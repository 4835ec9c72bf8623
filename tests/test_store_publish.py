"""Publishing: online equals offline, nothing runs twice, what is gone is gone, and nothing is half-published."""

from __future__ import annotations

import json
import math
import os
import re
import signal
import socket
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from weakfish.feast.adapter import plain_store

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import redis
from feast import FeatureStore
from forks import ended, forked
from projects import contents, replace, write
from stores import AS_OF, DEFINITIONS, dump, port, python, redis_server, report, set_as_of, shop, table

from weakfish.contracts.tables import read_table
from weakfish.errors import Busy, StoreError, TableError, UserError
from weakfish.feast import layout as keys
from weakfish.feast.commit import Changes, Counts
from weakfish.feast.publish import audit, publish
from weakfish.project.paths import Project

NOT_FOUND = 3  # FieldStatus of Feast
PUBLISH = "from weakfish.feast.publish import publish; print(bool(publish(project)))"


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return shop(tmp_path / "shop")


def offline(project: Project, view: str, entity: str, until: datetime) -> dict[str, dict[str, Any]]:
    """The last row of every entity until a time, from Parquet, by brute force."""
    rows = read_table(project.table("features") / view).to_pylist()
    past = sorted((row for row in rows if row["event_timestamp"] <= until), key=lambda row: row["event_timestamp"])
    return {row[entity]: row for row in past}


def online(project: Project, view: str, entity: str, names: list[str], features: list[str]) -> dict[str, Any]:
    """What Feast's SDK returns, with statuses and event times."""
    feast = FeatureStore(repo_path=str(project.root / "feature_repo"))
    response = feast.get_online_features([f"{view}:{f}" for f in features], [{entity: name} for name in names])
    found = response.to_dict(include_event_timestamps=True)
    result = dict(zip(response.proto.metadata.feature_names.val, response.proto.results, strict=True))
    for position, name in enumerate(names):
        found.setdefault("statuses", {})[name] = {f: result[f].statuses[position] for f in features}
    return found


def assert_online_is_offline(project: Project, until: datetime) -> None:
    tables = {"buyer_orders": "buyer", "buyer_refunds": "buyer", "shop_orders": "shop"}
    for view, entity in tables.items():
        expected = offline(project, view, entity, until)
        features = report(project)["views"][view]["features"]
        names = [*sorted({row[entity] for row in read_table(project.table("features") / view).to_pylist()}), "nobody"]
        found = online(project, view, entity, names, features)
        assert report(project)["views"][view]["entities"] == len(expected)
        for position, name in enumerate(names):
            if name not in expected:
                assert set(found["statuses"][name].values()) == {NOT_FOUND}, f"{name} is NOT_FOUND"
                continue
            for feature in features:
                want, got = expected[name][feature], found[feature][position]
                if isinstance(want, datetime):  # Feast keeps times to the second
                    want, got = want.replace(microsecond=0), got.replace(tzinfo=got.tzinfo or UTC)
                assert got == want or (want is None and got is None), (view, name, feature)
                assert type(got) is type(want)
                seconds = found[f"{feature}__ts"][position]
                assert seconds == math.floor(expected[name]["event_timestamp"].timestamp())


def test_online_equals_offline_for_every_entity_and_feature(project: Project, store: redis.Redis) -> None:
    assert publish(project)
    assert_online_is_offline(project, AS_OF)


@pytest.mark.parametrize("as_of", [AS_OF - timedelta(microseconds=1), datetime(2024, 1, 14, 3, tzinfo=UTC)])
def test_going_back_in_time_brings_back_old_values_and_forgets_entities_not_seen_yet(
    project: Project, store: redis.Redis, as_of: datetime
) -> None:
    publish(project)
    assert publish(set_as_of(project, as_of.isoformat()))
    assert_online_is_offline(project, as_of)
    assert report(project)["as_of"] == as_of.isoformat()


def test_a_process_of_its_own_in_another_time_zone_makes_no_noise_and_no_difference(
    project: Project, store: redis.Redis
) -> None:
    as_of = datetime(2024, 1, 15, 2, tzinfo=UTC)
    set_as_of(project, "2024-01-15T02:00:00")
    result = python(project, PUBLISH, TZ="America/New_York")
    assert (result.stdout, result.returncode) == ("True\n", 0)
    assert [line for line in result.stderr.splitlines() if not line.startswith("publish ")] == []
    assert_online_is_offline(Project(project.root), as_of)


def test_publishing_again_does_nothing_and_leaves_the_same_reports(project: Project, store: redis.Redis) -> None:
    publish(project)
    before, held = contents(project.reports), dump(store)
    for file in project.reports.rglob("*.json"):
        file.unlink()  # as DVC does
    assert not publish(project)
    assert contents(project.reports) == before
    assert dump(store) == held


def test_the_probe_imports_neither_feast_nor_pandas(project: Project, store: redis.Redis) -> None:
    publish(project)
    result = python(
        project, f"{PUBLISH}; import sys; print([m for m in ('feast', 'pandas', 'duckdb', 'ibis') if m in sys.modules])"
    )
    assert result.stdout == "False\n[]\n", result.stderr


@pytest.mark.parametrize("loss", ["all", "a key", "a row", "the marker", "registry", "damaged registry"])
def test_what_was_lost_is_made_again(project: Project, store: redis.Redis, loss: str) -> None:
    publish(project)
    registry = project.data / "registry/registry.db"
    held = dump(store)
    key = next(key for key in held if keys.join_keys(key, "shop") == ("buyer",))
    {
        "all": lambda: store.flushall(),
        "a key": lambda: store.delete(key),
        "a row": lambda: store.hdel(key, "_ts:buyer_orders"),
        "the marker": lambda: store.delete(keys.marker("shop")),
        "registry": registry.unlink,
        "damaged registry": lambda: registry.write_bytes(b"not a registry" * 50),
    }[loss]()
    assert publish(project)
    assert dump(store) == held
    assert FeatureStore(repo_path=str(project.root / "feature_repo")).list_feature_views()
    assert not publish(project)


def test_another_server_is_filled_and_the_first_one_left(
    project: Project, store: redis.Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(project)
    held = dump(store)
    with redis_server(tmp_path / "other") as other:
        monkeypatch.setenv("WEAKFISH_REDIS", f"localhost:{port(other)}")
        assert publish(project)
        assert dump(other) == held == dump(store)


def test_only_the_view_that_changed_is_filled_again(project: Project, store: redis.Redis) -> None:
    publish(project)
    before = {view: content["data_version"] for view, content in report(project)["views"].items()}
    table(project.root, "buyer_orders", "buyer", [f"b{number}" for number in range(3, 12)], shift=50)
    outcome = publish(project)
    assert outcome
    assert outcome.counts == {
        "buyer_orders": Counts(written=9, removed=3),
        "buyer_refunds": Counts(unchanged=6),
        "shop_orders": Counts(unchanged=3),
    }
    after = {view: content["data_version"] for view, content in report(project)["views"].items()}
    assert {view for view in after if after[view] != before[view]} == {"buyer_orders"}
    assert set(online(project, "buyer_orders", "buyer", ["b0"], ["orders_7d"])["statuses"]["b0"].values()) == {
        NOT_FOUND
    }
    expected = offline(project, "buyer_orders", "buyer", AS_OF)
    found = online(project, "buyer_orders", "buyer", list(expected), ["mean_30d"])
    assert found["mean_30d"] == [row["mean_30d"] for row in expected.values()]  # same event times, corrected values


def test_only_rows_that_changed_are_written(project: Project, store: redis.Redis) -> None:
    publish(project)
    held = dump(store)
    file = project.table("features") / "buyer_orders/2024-02.parquet"
    part = pq.read_table(file)
    values = part["orders_7d"].to_pylist()
    place = part["buyer"].to_pylist().index("b0")
    values[place] = 4321
    pq.write_table(part.set_column(part.schema.get_field_index("orders_7d"), "orders_7d", pa.array(values)), file)
    manifest = project.table("features") / "buyer_orders.manifest.json"
    manifest.write_text(manifest.read_text().replace('"data_version": "', '"data_version": "x'))
    store.config_resetstat()
    outcome = publish(project)
    assert store.info("commandstats")["cmdstat_hset"]["calls"] == 1
    assert outcome
    assert outcome.counts["buyer_orders"] == Counts(written=1, unchanged=11)
    marker = keys.marker("shop").encode()
    changed = {key for key, row in dump(store).items() if row != held[key]}
    assert {keys.join_keys(key, "shop") for key in changed - {marker}} == {("buyer",)}
    assert len(changed - {marker}) == 1
    assert online(project, "buyer_orders", "buyer", ["b0"], ["orders_7d"])["orders_7d"] == [4321]


def test_a_view_that_was_removed_or_renamed_or_lost_a_field_is_gone_online(
    project: Project, store: redis.Redis
) -> None:
    publish(project)
    definitions = project.root / "feature_repo/definitions.py"
    text = definitions.read_text(encoding="utf-8")
    text = text.replace('name="shop_orders"', 'name="shop_sales"')
    text = text.replace(
        'name="buyer_refunds", entities=[buyer]', 'name="buyer_refunds", online=False, entities=[buyer]'
    )
    definitions.write_text(text, encoding="utf-8")
    table(
        project.root, "buyer_orders", "buyer", [f"b{number}" for number in range(12)], columns=["orders_7d", "is_new"]
    )
    assert publish(project)
    fields = {
        ("buyer",): set(keys.fields("buyer_orders", ["orders_7d", "is_new"])),
        ("shop",): set(keys.fields("shop_sales", ["orders_7d", "mean_30d", "first_seen_at", "is_new"])),
    }
    for key, row in dump(store).items():
        kind = keys.join_keys(key, "shop")
        if kind:
            assert set(row) == fields[kind]
    names = {view.name for view in FeatureStore(repo_path=str(project.root / "feature_repo")).list_feature_views()}
    assert names == {"buyer_orders", "buyer_refunds", "shop_sales"}


def test_a_field_that_was_added_or_retyped_is_served(project: Project, store: redis.Redis) -> None:
    table(project.root, "shop_orders", "shop", ["s0", "s1"], columns=["orders_7d"])
    publish(project)
    table(project.root, "shop_orders", "shop", ["s0", "s1"], columns=["orders_7d", "mean_30d"])
    for file in sorted((project.table("features") / "shop_orders").glob("*.parquet")):
        part = pq.read_table(file)
        at = part.schema.get_field_index("orders_7d")
        pq.write_table(part.set_column(at, "orders_7d", part["orders_7d"].cast(pa.float64())), file)
    manifest = project.table("features") / "shop_orders.manifest.json"
    content = json.loads(manifest.read_text())
    content["columns"]["orders_7d"] = "double"
    content["data_version"] = "retyped"
    manifest.write_text(json.dumps(content))
    assert publish(project)
    found = online(project, "shop_orders", "shop", ["s0"], ["orders_7d", "mean_30d"])
    assert found["orders_7d"] == [1000.0]
    assert type(found["orders_7d"][0]) is float


@pytest.mark.parametrize("name", ["op", "shop2", "work*shop", "hop"])
def test_keys_of_another_project_are_left_alone_whatever_its_name(
    project: Project, store: redis.Redis, tmp_path: Path, name: str
) -> None:
    project_key = b"\x01\0\0\0\x02\0\0\0\x05\0\0\0buyer\x02\0\0\0\x02\0\0\0b1" + name.encode()
    strangers = {project_key: {b"_ts:buyer_orders": b"x"}, b"plain" + name.encode(): b"text", b"shop": b"text"}
    for key, value in strangers.items():
        if isinstance(value, dict):
            store.hset(key, mapping=value)
        else:
            store.set(key, value)
    publish(project)
    table(project.root, "buyer_orders", "buyer", ["b9", "b8"])
    publish(project)
    feast = FeatureStore(repo_path=str(project.root / "feature_repo"))
    assert {key: value for key, value in dump(store).items() if key in strangers} == strangers
    feast.teardown()
    assert dump(store) == strangers


def test_a_publisher_killed_before_its_commit_has_changed_nothing(project: Project, store: redis.Redis) -> None:
    publish(project)
    held = dump(store)
    table(project.root, "buyer_orders", "buyer", ["b1", "b2"], shift=9)
    assert ended(forked(lambda: killed(project, limit=10_000, at=1))) == -signal.SIGKILL
    lock = store.get(keys.lock("shop"))
    assert {key: value for key, value in dump(store).items() if key != keys.lock("shop").encode()} == held
    assert lock is not None
    assert publish(project)
    assert_online_is_offline(project, AS_OF)
    assert store.get(keys.lock("shop")) is None


@pytest.mark.parametrize(
    "marker",
    [
        '{"version": "x", "as_of": "", "views": {"buyer_orders": {}}}',
        '{"version": "x", "as_of": "", "views": {}, "others": {"clicks": {}}}',
        "hello",
    ],
)
def test_a_marker_that_is_not_ours_counts_as_never_published(
    project: Project, store: redis.Redis, marker: str, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(project)
    store.set(keys.marker("shop"), marker)
    with pytest.raises(StoreError, match="holds nothing that was published; run `weakfish publish`"):
        audit(project)
    capsys.readouterr()
    assert publish(project)
    assert (
        "is no marker that this version wrote; it counts as if nothing had been published." in capsys.readouterr().err
    )
    assert_online_is_offline(project, AS_OF)
    assert not publish(project)


def test_a_publisher_killed_between_its_parts_is_repaired_by_the_next(project: Project, store: redis.Redis) -> None:
    publish(project)
    for view, entity in (("buyer_orders", "buyer"), ("shop_orders", "shop")):
        table(project.root, view, entity, ["b1", "b2", "b3", "b4"], shift=9)
    assert ended(forked(lambda: killed(project, limit=2, at=3))) == -signal.SIGKILL
    marker = json.loads(store.get(keys.marker("shop")) or b"{}")
    assert marker["version"] == report(project)["version"]
    assert (marker["under_way"]["view"], marker["under_way"]["rows"]) == ("buyer_orders", 2)
    outcome = publish(project)
    assert outcome
    assert (outcome.counts["buyer_orders"].written, outcome.counts["buyer_orders"].unchanged) == (0, 4)
    assert_online_is_offline(project, AS_OF)
    assert not publish(project)


def killed(project: Project, limit: int, at: int) -> None:
    """Publish in parts of ``limit`` rows, and be killed before the transaction number ``at``."""
    transaction, calls = Changes._transaction, []

    def counted(self: Changes, *arguments: Any) -> None:
        calls.append(arguments)
        if len(calls) == at:
            os.kill(os.getpid(), signal.SIGKILL)
        transaction(self, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("weakfish.feast.commit.LIMIT", limit)
        patch.setattr("weakfish.feast.latest_rows.ROWS", limit)
        patch.setattr(Changes, "_transaction", counted)
        publish(project)


def test_publishing_in_parts_gives_the_same(
    project: Project, store: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(project)
    held = dump(store)
    store.flushall()
    monkeypatch.setattr("weakfish.feast.commit.LIMIT", 3)
    monkeypatch.setattr("weakfish.feast.latest_rows.ROWS", 3)
    publish(project)
    assert dump(store) == held


def test_readers_see_the_old_rows_or_the_new_and_never_a_gap(project: Project, store: redis.Redis) -> None:
    publish(project)
    key = next(k for k in dump(store) if keys.join_keys(k, "shop") == ("buyer",) and b"b1" in k)
    fields = [keys.feature_field("buyer_orders", "mean_30d"), keys.feature_field("buyer_refunds", "mean_30d")]
    seen, stop = set(), threading.Event()

    def watch() -> None:
        reader = redis.Redis(port=port(store))
        while not stop.is_set():
            seen.add(tuple(reader.hmget(key, fields)))
        reader.close()

    before = tuple(store.hmget(key, fields))
    table(project.root, "buyer_orders", "buyer", [f"b{number}" for number in range(12)], shift=3)
    table(project.root, "buyer_refunds", "buyer", [f"b{number}" for number in range(0, 12, 2)], shift=3)
    watcher = threading.Thread(target=watch)
    watcher.start()
    publish(project)
    stop.set()
    watcher.join()
    assert seen <= {before, tuple(store.hmget(key, fields))}


def test_a_server_out_of_memory_keeps_the_old_values(project: Project, store: redis.Redis) -> None:
    publish(project)
    held, registry = dump(store), (project.data / "registry/registry.db").read_bytes()
    table(project.root, "buyer_orders", "buyer", ["b1", "b2"], shift=9)
    try:
        store.config_set("maxmemory", "1")
        with pytest.raises(StoreError, match=r"out of memory and took nothing; give it more \(maxmemory\)"):
            publish(project)
    finally:
        store.config_set("maxmemory", "0")
    assert dump(store) == held
    assert (project.data / "registry/registry.db").read_bytes() == registry
    assert publish(project)


def test_a_server_that_runs_out_of_memory_in_the_commit_keeps_old_values_and_registry(
    project: Project, store: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(project)
    held, registry = dump(store), (project.data / "registry/registry.db").read_bytes()
    table(project.root, "buyer_orders", "buyer", ["b1", "b2"], shift=9)
    execute = Changes._transaction

    def short(self: Changes, *arguments: Any) -> None:
        store.config_set("maxmemory", "1")
        execute(self, *arguments)

    monkeypatch.setattr(Changes, "_transaction", short)
    with pytest.raises(StoreError, match="out of memory"):
        publish(project)
    store.config_set("maxmemory", "0")
    assert dump(store) == held
    assert (project.data / "registry/registry.db").read_bytes() == registry


def test_the_second_of_two_publishers_on_a_server_is_told_who_works(
    project: Project, store: redis.Redis, tmp_path: Path
) -> None:
    publish(project)
    table(project.root, "buyer_orders", "buyer", ["b1", "b2"], shift=9)
    store.set(keys.lock("shop"), json.dumps({"host": "elsewhere", "pid": 7, "token": "x"}), ex=30)
    with pytest.raises(StoreError, match="Process 7 on elsewhere is publishing to this online store; wait"):
        publish(project)
    here = {"host": socket.gethostname(), "pid": os.getpid(), "token": "x"}
    store.set(keys.lock("shop"), json.dumps({**here, "since": time.time()}), ex=30)
    with pytest.raises(StoreError, match=f"Process {os.getpid()} on"):
        publish(project)
    store.set(keys.lock("shop"), json.dumps({**here, "since": 0}), ex=30)  # of a process whose number is ours now
    assert publish(project)


def test_the_second_of_two_publishers_in_a_project_is_refused(project: Project, store: redis.Redis) -> None:
    from weakfish.project.runs import locked

    with locked(project, "online publish"), pytest.raises(Busy, match="already running"):
        publish(project)


def test_a_lock_that_was_lost_stops_the_commit(
    project: Project, store: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = Changes.commit

    def late(self: Changes, marker: Any) -> None:
        store.set(keys.lock("shop"), "another")
        commit(self, marker)

    monkeypatch.setattr(Changes, "commit", late)
    with pytest.raises(StoreError, match="Another publisher took over"):
        publish(project)
    assert store.get(keys.marker("shop")) is None


@pytest.mark.parametrize(
    ("old", "new", "error", "expected"),
    [
        ("buyer = Entity", "1 / 0; buyer = Entity", UserError, "definitions.py cannot be imported: ZeroDivisionError"),
        ('here, "shop_orders")', 'here, "shops")', TableError, "shops.manifest.json does not exist; run `dvc repro`"),
        ('name="shop_orders"', 'name="buyer_orders"', UserError, "Feast does not accept feature_repo"),
        (DEFINITIONS.split('"""')[2].replace("\n    ", "\n"), "\n", UserError, "defines a feature view; add one"),
    ],
)
def test_definitions_that_cannot_be_used_are_named_and_change_nothing(
    project: Project, store: redis.Redis, old: str, new: str, error: type[Exception], expected: str
) -> None:
    publish(project)
    held, registry = dump(store), (project.data / "registry/registry.db").read_bytes()
    file = project.root / "feature_repo/definitions.py"
    if "feature view; add" in expected:
        write(file, '"""Nothing."""\n')
    else:
        replace(file, old, new)
    with pytest.raises(error, match=expected):
        publish(project)
    assert dump(store) == held
    assert (project.data / "registry/registry.db").read_bytes() == registry


@pytest.mark.parametrize(
    ("registry", "kind"),
    [
        ("{registry_type: sql, path: 'sqlite:///registry.sqlite'}", "sql"),
        ("sqlite:///registry.sqlite", "file"),
        ("{path: 's3://bucket/registry.db'}", "file"),
        ("{registry_type: remote, path: 'localhost:6570'}", "remote"),
    ],
)
def test_a_registry_that_is_no_local_file_is_refused_and_leaves_nothing_behind(
    project: Project, store: redis.Redis, registry: str, kind: str
) -> None:
    file = project.root / "feature_repo/feature_store.yaml"
    replace(file, "{path: ../data/registry/registry.db, cache_ttl_seconds: 60}", registry)
    before = sorted(project.root.rglob("*"))
    with pytest.raises(StoreError, match=rf"feature_store.yaml names \(registry_type: {kind}\) is not a local file"):
        publish(project)
    assert sorted(path for path in project.root.rglob("*") if ".weakfish" not in path.parts) == before
    assert not dump(store)


def test_what_plain_feast_leaves_of_a_view_that_it_deletes_is_gone_with_the_next_publication(
    project: Project, store: redis.Redis
) -> None:
    publish(project)
    held = dump(store)
    feast = FeatureStore(repo_path=str(project.root / "feature_repo"))
    plain_store(store).delete_table(feast.config, feast.get_feature_view("buyer_refunds"))
    created = keys.created_field("buyer_refunds")
    left = [row for key, row in dump(store).items() if keys.join_keys(key, "shop") == ("buyer",) and created in row]
    assert left, "plain Feast knows nothing of the field"
    row = {"buyer": "b0", "orders_7d": 1, "mean_30d": 0.5, "first_seen_at": AS_OF, "is_new": True}
    older = {"event_timestamp": AS_OF, "created": AS_OF - timedelta(days=1)}
    feast.write_to_online_store("buyer_refunds", pd.DataFrame([{**row, **older}]))
    assert feast.get_online_features(["buyer_refunds:orders_7d"], [{"buyer": "b0"}]).to_dict()["orders_7d"] == [1], (
        "what is left of a row does not count against a new one"
    )
    publish(project)
    assert dump(store) == held
    plain_store(store).delete_table(feast.config, feast.get_feature_view("buyer_refunds"))
    file = project.root / "feature_repo/definitions.py"
    file.write_text(
        re.sub(r"buyer_refunds = FeatureView\(.*?\n\)\n", "", file.read_text(), flags=re.S).replace(
            "buyer_orders, buyer_refunds, ", "buyer_orders, "
        )
    )
    assert publish(project)
    assert not any(created in row for row in dump(store).values() if isinstance(row, dict))


def test_a_table_that_is_gone_or_cut_off_is_named_and_changes_nothing(project: Project, store: redis.Redis) -> None:
    publish(project)
    held = dump(store)
    file = project.table("features") / "shop_orders/2024-01.parquet"
    whole = file.read_bytes()
    file.unlink()
    with pytest.raises(
        TableError, match=r"shop_orders/2024-01.parquet is gone, nothing was published; run `dvc repro`"
    ):
        publish(project)
    file.write_bytes(whole[:-20])
    manifest = project.table("features") / "shop_orders.manifest.json"
    manifest.write_text(manifest.read_text().replace('"data_version": "', '"data_version": "x'))
    with pytest.raises(TableError, match="is not readable Parquet"):
        publish(project)
    assert dump(store) == held


def test_rows_after_now_wait_until_they_are_due(project: Project, store: redis.Redis) -> None:
    now = set_as_of(project, "now")
    assert publish(now)
    assert not publish(now)
    marker = json.loads(store.get(keys.marker("shop")) or b"{}")
    assert marker["due"] is None
    store.set(keys.marker("shop"), json.dumps({**marker, "due": "2024-02-10T08:30:00+00:00"}))
    assert publish(now)


def test_keys_are_laid_out_as_feast_does() -> None:
    from feast.infra.key_encoding_utils import serialize_entity_key
    from feast.infra.online_stores.helpers import _mmh3
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey
    from feast.protos.feast.types.Value_pb2 import Value

    entity = EntityKey(join_keys=["shop", "buyer"], entity_values=[Value(string_val="ä" * 42), Value(int64_val=63)])
    key = serialize_entity_key(entity, 3) + b"shop"
    assert keys.join_keys(key, "shop") == ("buyer", "shop")
    assert keys.join_keys(key, "op") is None
    assert keys.join_keys(key + b"x", "shop") is None
    assert keys.join_keys(b"", "shop") is None
    assert keys.feature_field("view", "feature") == _mmh3("view:feature")


def test_two_processes_at_once_leave_a_whole_store(project: Project, store: redis.Redis) -> None:
    codes = sorted(map(ended, [forked(lambda: publish(project)) for _ in range(2)]))
    assert codes[0] == 0
    assert codes[1] in (0, Busy.exit_code)
    assert_online_is_offline(project, AS_OF)
