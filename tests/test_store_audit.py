"""The audit: every entity and feature online against offline; what differs is named, fails the stage, is repaired."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import redis
from click.testing import CliRunner
from feast import FeatureStore
from projects import contents, tiny
from stores import AS_OF, COLUMNS, dump, port, report, set_as_of, shop, table

from weakfish.cli.main import cli
from weakfish.contracts.publications import Receipt, receipt_file
from weakfish.errors import CheckFailed, StoreError, UserError
from weakfish.feast import layout as keys
from weakfish.feast.audit import differing
from weakfish.feast.contents import Contents
from weakfish.feast.diff import Online
from weakfish.feast.latest_rows import LatestRows
from weakfish.feast.probe import event_time, failure
from weakfish.feast.publish import audit, check, publish
from weakfish.feast.registry import open_store
from weakfish.project.paths import Project
from weakfish.report.overall import overall

VIEW, FEATURE = "buyer_orders", "mean_30d"
FIELD = keys.feature_field(VIEW, FEATURE)
LATER = AS_OF + timedelta(hours=1)


@pytest.fixture
def project(tmp_path: Path, store: redis.Redis) -> Project:
    """A small project, published."""
    found = shop(tmp_path / "shop")
    assert publish(found)
    return found


def key_of(store: redis.Redis, entity: str, name: str) -> bytes:
    kind = (entity,)
    found = (key for key in store.scan_iter() if keys.join_keys(key, "shop") == kind)
    return next(key for key in found if key.endswith(f"{name}shop".encode()))


def push(project: Project, buyer: str, time: datetime) -> None:
    """What a service does that knows an event of its own."""
    feast = FeatureStore(repo_path=str(project.root / "feature_repo"))
    row = {"buyer": buyer, "event_timestamp": time, "created": time, "orders_7d": 77, "mean_30d": 7.5}
    feast.write_to_online_store(VIEW, pd.DataFrame([{**row, "first_seen_at": time, "is_new": False}]))


def rows(found: Receipt, view: str = VIEW) -> dict[str, int]:
    return {kind: count for kind, count in found.audit["views"][view]["rows"].items() if count}


def test_all_that_was_published_is_equal_and_said_so(project: Project) -> None:
    found = report(project)["audit"]
    assert found["passed"]
    entities = {view: content["entities"] for view, content in report(project)["views"].items()}
    assert {view: content["rows"]["equal"] for view, content in found["views"].items()} == entities
    features = {*report(project)["views"][VIEW]["features"], "event_timestamp"}
    assert found["views"][VIEW]["features"] == {name: {"equal": 12} for name in features}
    assert found["views"][VIEW]["sample"] == {"rows": 12, "different": 0, "first": []}


def test_a_byte_that_was_corrupted_is_caught_named_and_repaired(project: Project, store: redis.Redis) -> None:
    held = dump(store)
    key = key_of(store, "buyer", "b3")
    value = bytearray(store.hget(key, FIELD) or b"")
    value[-1] ^= 1
    store.hset(key, FIELD, bytes(value))
    found = audit(project)
    assert not found.passed
    view = found.audit["views"][VIEW]
    assert rows(found) == {"equal": 11, "different": 1}
    assert view["features"][FEATURE] == {"equal": 11, "different": 1, "first": {"different": [{"buyer": "b3"}]}}
    assert view["features"]["orders_7d"] == {"equal": 12}
    assert view["first"] == {"different": [{"buyer": "b3"}]}
    assert report(project)["audit"] == found.audit
    assert "buyer_orders has 1 different (first: buyer=b3)" in str(failure(found))
    assert publish(project)
    assert dump(store) == held
    assert audit(project).passed


@pytest.mark.parametrize("entity", [f"b{number}" for number in (0, 5, 11)])
def test_every_batch_of_rows_is_compared(
    project: Project, store: redis.Redis, monkeypatch: pytest.MonkeyPatch, entity: str
) -> None:
    monkeypatch.setattr("weakfish.feast.latest_rows.ROWS", 3)
    store.hset(key_of(store, "buyer", entity), FIELD, b"\x00")
    found = audit(project)
    assert rows(found) == {"equal": 11, "different": 1}
    assert found.audit["views"][VIEW]["first"] == {"different": [{"buyer": entity}]}


def test_the_command_prints_what_differs_and_ends_with_code_1(
    project: Project, store: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.hset(key_of(store, "buyer", "b3"), FIELD, b"\x00")
    monkeypatch.chdir(project.root)
    result = CliRunner().invoke(cli, ["audit", "--json"])
    assert not json.loads(result.stdout)["passed"]
    assert isinstance(result.exception, CheckFailed)
    assert "The online store does not hold what the feature tables say: buyer_orders has 1 different" in str(
        result.exception
    )
    printed = CliRunner().invoke(cli, ["audit"]).stdout
    assert "  buyer_orders: 11 equal, 1 different; 11 of 11 by plain Feast\n    different: buyer=b3\n" in printed
    assert "Run `weakfish publish`" in " ".join(overall(project.root).sentences)
    assert overall(project.root).verdict == "failed"
    page = (project.reports / "index.html").read_text(encoding="utf-8")
    assert "buyer=b3" in page


def test_rows_and_values_that_are_missing_stale_or_unexpected_are_told_apart(
    project: Project, store: redis.Redis
) -> None:
    store.delete(key_of(store, "shop", "s0"))
    store.execute_command("HDEL", key_of(store, "buyer", "b1"), FIELD)
    time = keys.time_field(VIEW)
    newest, older = (store.hgetall(key_of(store, "buyer", name))[time] for name in ("b0", "b2"))
    assert (event_time(newest) or 0) > (event_time(older) or 0)
    store.hset(key_of(store, "buyer", "b0"), time, older)
    stranger = key_of(store, "buyer", "b4").replace(b"b4shop", b"b?shop")
    store.hset(stranger, mapping=store.hgetall(key_of(store, "buyer", "b4")))
    found = audit(project)
    assert rows(found) == {"equal": 10, "missing": 1, "stale": 1, "unexpected": 1}
    assert rows(found, "buyer_refunds") == {"equal": 6, "unexpected": 1}
    assert rows(found, "shop_orders") == {"equal": 2, "missing": 1}
    first = found.audit["views"][VIEW]["first"]
    assert first == {"missing": [{"buyer": "b1"}], "stale": [{"buyer": "b0"}], "unexpected": [{"buyer": "b?"}]}
    assert found.audit["views"][VIEW]["features"][FEATURE] == {
        "equal": 10,
        "missing": 1,
        "stale": 1,
        "first": {"missing": [{"buyer": "b1"}], "stale": [{"buyer": "b0"}]},
    }
    assert publish(project)
    assert audit(project).passed
    assert not store.exists(stranger)


def test_a_time_to_live_that_somebody_set_is_named_and_taken_away(project: Project, store: redis.Redis) -> None:
    publish(project)
    key, held = key_of(store, "buyer", "b4"), store.hgetall(key_of(store, "buyer", "b4"))
    before = audit(project)
    store.expire(key, 1_000)
    found = audit(project)
    (view, of), *others = [(name, of) for name, of in found.audit["views"].items() if "expiring" in of["rows"]]
    assert [each["rows"]["expiring"] for _, each in others] == [1]  # the other view of buyers: a key holds both
    assert (of["rows"]["expiring"], of["first"]["expiring"]) == (1, [{"buyer": "b4"}])
    assert of["rows"]["equal"] == rows(before, view)["equal"] - 1
    assert not any("expiring" in counts for counts in of["features"].values())
    with pytest.raises(CheckFailed, match=rf"{view} has 1 expiring \(first: buyer=b4\); .*run `weakfish publish`"):
        check(found)
    assert store.ttl(key) > 0
    outcome = publish(project)
    assert outcome is not None
    assert outcome.counts is not None
    assert sum(counts.written for counts in outcome.counts.values()) == 1
    assert (store.ttl(key), store.hgetall(key)) == (-1, held)
    assert audit(project).passed


def test_whoever_may_not_ask_for_times_to_live_audits_and_publishes_without(
    project: Project, store: redis.Redis
) -> None:
    publish(project)
    key = key_of(store, "buyer", "b4")
    store.expire(key, 1_000)
    store.acl_setuser("few", enabled=True, passwords=["+secret"], keys=["*"], commands=["+ping", "+hmget"])
    reader = redis.Redis(port=port(store), username="few", password="secret")
    try:
        assert (Online(store).expiring([key]), Online(reader).expiring([key])) == ([True], [False])
        assert (Online(reader).keep([key]), Online(store).keep([key])) == (0, 1)
    finally:
        reader.close()
        store.acl_deluser("few")


def test_a_row_that_a_service_pushed_is_newer_and_no_error_and_stays(project: Project, store: redis.Redis) -> None:
    push(project, "b1", LATER)
    push(project, "new", LATER)
    found = audit(project)
    assert found.passed
    assert rows(found) == {"equal": 11, "newer": 2}
    pushed = {name: store.hgetall(key_of(store, "buyer", name)) for name in ("b1", "new")}
    table(project.root, VIEW, "buyer", [f"b{number}" for number in range(12)], shift=3)
    outcome = publish(project)
    assert outcome
    assert (outcome.counts[VIEW].written, outcome.counts[VIEW].left) == (11, 2)
    assert rows(audit(project)) == {"equal": 11, "newer": 2}
    assert store.hget(key_of(store, "buyer", "new"), FIELD) == pushed["new"][FIELD]
    for field in keys.fields(VIEW, ["orders_7d", FEATURE, "first_seen_at", "is_new"]):
        assert store.hget(key_of(store, "buyer", "b1"), field) == pushed["b1"][field]
    assert not publish(project)


def test_a_push_of_a_time_that_the_tables_know_gives_way_to_them(project: Project, store: redis.Redis) -> None:
    held = dump(store)
    push(project, "b1", AS_OF)
    push(project, "new", AS_OF)
    found = audit(project)
    assert rows(found) == {"equal": 11, "different": 1, "unexpected": 1}
    assert publish(project)
    assert dump(store) == held


def test_pushes_give_way_once_the_tables_know_their_time(project: Project, store: redis.Redis) -> None:
    push(project, "b1", LATER)
    push(project, "new", LATER)
    for view, entity in (("buyer_orders", "buyer"), ("buyer_refunds", "buyer"), ("shop_orders", "shop")):
        manifest = project.table("features") / f"{view}.manifest.json"
        content = json.loads(manifest.read_text())
        assert content["entity"] == entity
        manifest.write_text(json.dumps({**content, "as_of": (LATER + timedelta(hours=1)).isoformat()}))
    outcome = publish(project)
    assert outcome
    assert (outcome.counts[VIEW].written, outcome.counts[VIEW].removed) == (1, 1)
    assert rows(audit(project)) == {"equal": 12}


def test_a_row_that_stays_as_pushed_loses_the_fields_that_are_gone_or_of_another_type(
    project: Project, store: redis.Redis
) -> None:
    push(project, "b1", LATER)
    table(project.root, VIEW, "buyer", [f"b{number}" for number in range(12)], ["mean_30d", "first_seen_at"])
    folder = project.table("features")
    for file in sorted((folder / VIEW).glob("*.parquet")):
        part = pq.read_table(file)
        place = part.schema.get_field_index("mean_30d")
        pq.write_table(part.set_column(place, "mean_30d", part["mean_30d"].cast(pa.float32())), file)
    manifest = folder / f"{VIEW}.manifest.json"
    content = json.loads(manifest.read_text())
    content["columns"]["mean_30d"] = "float"
    manifest.write_text(json.dumps({**content, "data_version": "retyped"}))
    assert publish(project)
    held = set(store.hgetall(key_of(store, "buyer", "b1")))
    fresh = set(keys.fields(VIEW, ["first_seen_at"]))
    assert held - set(keys.fields("buyer_refunds", [*COLUMNS])) == fresh
    whole = set(store.hgetall(key_of(store, "buyer", "b3")))
    assert whole == fresh | {FIELD}
    assert rows(audit(project)) == {"equal": 11, "newer": 1}


def test_corruption_of_a_view_that_did_not_change_fails_the_publication_and_the_next_repairs_it(
    project: Project, store: redis.Redis
) -> None:
    store.hset(key_of(store, "shop", "s1"), keys.feature_field("shop_orders", FEATURE), b"\x00")
    table(project.root, VIEW, "buyer", [f"b{number}" for number in range(12)], shift=3)
    with pytest.raises(CheckFailed, match=r"shop_orders has 1 different \(first: shop=s1\); run `weakfish publish`"):
        publish(project)
    assert not report(project)["audit"]["passed"]
    outcome = publish(project)
    assert outcome
    assert [counts.written for counts in outcome.counts.values()] == [0, 0, 1]
    assert report(project)["audit"]["passed"]
    assert not publish(project)


def test_plain_feast_notices_a_value_and_a_time_that_are_not_as_in_the_table(
    project: Project, store: redis.Redis
) -> None:
    feast = open_store(project)
    view = feast.get_feature_view(VIEW)
    ((batch, encoded),) = list(LatestRows(view, feast.config, Contents.of_work_tree(project).as_of).batches())
    assert differing(store, feast.config, view, batch) == []
    found = encoded.keys.to_pylist()
    first, other = found.index(key_of(store, "buyer", "b0")), found.index(key_of(store, "buyer", "b2"))
    store.hset(found[first], FIELD, b"\x29\0\0\0\0\0\0\xf0\x3f")
    store.hset(found[other], keys.time_field(VIEW), b"\x08\x01")
    assert differing(store, feast.config, view, batch) == sorted([first, other])


def test_auditing_again_leaves_the_same_bytes(project: Project, store: redis.Redis) -> None:
    before = contents(project.reports)
    assert audit(project).passed
    assert contents(project.reports) == before


def test_another_machine_audits_what_it_finds_published(project: Project, store: redis.Redis) -> None:
    before = contents(project.reports)
    receipt_file(project, "shop").unlink()
    assert not publish(project)
    assert contents(project.reports) == before
    assert receipt_file(project, "shop").exists()


def test_what_is_not_published_is_not_audited(project: Project, store: redis.Redis) -> None:
    table(project.root, VIEW, "buyer", ["b1", "b2"], shift=3)
    with pytest.raises(StoreError, match="have changed since they were published; run `weakfish publish`"):
        audit(project)
    store.flushall()
    with pytest.raises(StoreError, match="holds nothing that was published; run `weakfish publish`"):
        audit(project)


def test_the_audit_goes_by_the_time_of_the_publication(project: Project, store: redis.Redis) -> None:
    assert publish(set_as_of(project, "now"))
    again = Project(project.root)
    assert audit(again).passed
    assert rows(audit(again)) == {"equal": 12}


def test_many_rows_are_looked_up_by_a_sample(
    project: Project, store: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("weakfish.feast.probe.COUNTED", 1)
    asked: list[Any] = []
    monkeypatch.setattr("weakfish.feast.probe._has_all", lambda *arguments: asked.append(arguments))
    assert not publish(project)
    store.hdel(key_of(store, "buyer", "b5"), keys.time_field(VIEW).decode())
    assert publish(project)
    assert asked == []
    store.delete(key_of(store, "shop", "s0"))
    assert publish(project)
    assert asked == []


def test_without_views_there_is_nothing_to_audit(tmp_path: Path) -> None:
    root = tiny(tmp_path / "orders")
    with (root / "params.yaml").open("a") as params:
        params.write("views: []\n")
    with pytest.raises(UserError, match="nothing is published, so there is nothing to audit"):
        audit(Project(root))
