"""Checks of features: how old their rows are, and whether the online store serves what training read."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
import redis
from stores import AS_OF, BEGIN, report, set_as_of, shop, table

from weakfish.checks.accept import accept_baseline
from weakfish.checks.reported import feature_checks, serving_checks
from weakfish.checks.validate import validate
from weakfish.cli.store import of_audit, of_publication
from weakfish.contracts.publications import ENOUGH_ENTITIES
from weakfish.contracts.tables import partitions, read_partition, read_table, write_partition
from weakfish.contracts.verdicts import Check
from weakfish.feast import layout as keys
from weakfish.feast.diff import is_most
from weakfish.feast.publish import audit, publish
from weakfish.files import read_json, write_json
from weakfish.project.paths import Project

NEWEST = BEGIN + timedelta(days=41, hours=11)
"""The newest row of a buyer that `shop` writes."""

VIEWS = ("buyer_orders", "buyer_refunds", "shop_orders")


def ages(project: Project, view: str = VIEWS[0]) -> dict[str, Check]:
    found = feature_checks(project, view, partitions(project.table("features") / view))
    return {check.check: check for check in found}


def served(project: Project) -> dict[str, Check]:
    return {check.check: check for check in serving_checks(project, "fraud")}


def trained(project: Project, versions: dict[str, str]) -> None:
    """What a training set says that it was made of."""
    data = {f"features/{view}": version for view, version in versions.items()}
    write_json(project.table("training") / "fraud.manifest.json", {"data": {"events": "0", **data}})


def params(project: Project, text: str) -> Project:
    file = project.root / "params.yaml"
    file.write_text(f"{file.read_text(encoding='utf-8').rstrip()}\n{text}\n", encoding="utf-8")
    return Project(project.root)


def key_of(store: redis.Redis, entity: str, name: str) -> bytes:
    found = (key for key in store.scan_iter() if keys.join_keys(key, "shop") == (entity,))
    return next(key for key in found if key.endswith(f"{name}shop".encode()))


def test_rows_as_new_as_the_last_event_are_fresh(tmp_path: Path) -> None:
    found = ages(shop(tmp_path / "shop"))
    assert {name: check.status for name, check in found.items()} == {"freshness": "passed", "stale_entities": "passed"}
    assert found["freshness"].observed == 0.0


@pytest.mark.parametrize(("hours", "status"), [(48, "passed"), (49, "warned")])
def test_rows_that_are_older_than_the_limit_when_published_are_a_warning(
    hours: int, status: str, tmp_path: Path
) -> None:
    later = NEWEST + timedelta(hours=hours)
    check = ages(set_as_of(shop(tmp_path / "shop"), f'"{later.isoformat()}"'))["freshness"]
    assert (check.status, check.observed, check.threshold) == (status, hours, 48)


def test_rows_after_the_time_that_is_answered_for_do_not_make_a_view_fresh(tmp_path: Path) -> None:
    check = ages(set_as_of(shop(tmp_path / "shop"), '"2024-01-01T00:00:00"'))["freshness"]
    assert (check.status, check.observed) == ("passed", 0.0)
    found = ages(set_as_of(shop(tmp_path / "other"), '"2023-12-31T00:00:00"'))
    assert found["freshness"].status == "warned"
    assert found["freshness"].found == "There is no row before 2023-12-31 00:00 UTC, the time set by publish.as_of."
    assert "stale_entities" not in found


def test_now_is_the_clock_of_this_machine(tmp_path: Path) -> None:
    check = ages(set_as_of(shop(tmp_path / "shop"), "now"))["freshness"]
    assert check.status == "warned"
    assert isinstance(check.observed, float)
    assert check.observed == pytest.approx((datetime.now(UTC) - NEWEST) / timedelta(hours=1), abs=1)


def test_too_many_entities_without_new_rows_are_a_warning(tmp_path: Path) -> None:
    limits = "validation: {features: {stale_after_hours: 240, max_stale_share: 0.2}}"
    check = ages(params(shop(tmp_path / "shop"), limits))["stale_entities"]
    # b0, b3 and b7 have rows in those ten days; the rows of b1 and b11 are of later than the last event
    assert check.found == "9 of 12 entities have no row since 2024-01-31 08:30 UTC."
    assert (check.status, check.observed) == ("warned", pytest.approx(9 / 12, abs=1e-6))


def test_what_is_served_equals_what_training_read(tmp_path: Path, store: redis.Redis) -> None:
    project = shop(tmp_path / "shop")
    assert publish(project)
    trained(project, {view: report(project)["views"][view]["data_version"] for view in VIEWS})
    found = served(project)
    assert {check.status for check in found.values()} == {"passed"}
    assert found.keys() == {
        f"{what}({view})" for what in ("serving_equals_training", "serving_version") for view in VIEWS
    }


def test_a_value_and_a_row_that_are_served_otherwise_are_critical_and_named_by_key(
    tmp_path: Path, store: redis.Redis
) -> None:
    project = shop(tmp_path / "shop")
    assert publish(project)
    trained(project, {view: report(project)["views"][view]["data_version"] for view in VIEWS})
    store.hset(key_of(store, "buyer", "b3"), keys.feature_field("buyer_orders", "mean_30d"), b"\x00")
    store.delete(key_of(store, "buyer", "b4"))
    assert not audit(project).passed
    found = served(project)
    failed = {name for name, check in found.items() if check.status == "failed"}
    assert failed == {"serving_equals_training(buyer_orders)", "serving_equals_training(buyer_refunds)"}
    check = found["serving_equals_training(buyer_orders)"]
    assert (check.unexpected, check.unexpected_share) == (2, 2 / 12)
    assert check.arguments["rows"] == {"missing": 1, "stale": 0, "different": 1, "unexpected": 0}
    assert check.arguments["features"]["mean_30d"] == {"missing": 1, "different": 1}
    assert check.arguments["features"]["orders_7d"] == {"missing": 1}
    assert check.found is not None
    assert check.found.startswith("Of 12 rows online, 1 missing, 1 different; features: mean_30d (2), ")
    assert check.found.endswith("; first: b4, b3.")


def test_an_audit_of_other_rows_than_training_read_is_a_warning(tmp_path: Path, store: redis.Redis) -> None:
    project = shop(tmp_path / "shop")
    assert publish(project)
    versions = {view: report(project)["views"][view]["data_version"] for view in VIEWS}
    trained(project, versions | {"shop_orders": "f" * 64})
    assert {name for name, check in served(project).items() if check.status != "passed"} == {
        "serving_version(shop_orders)"
    }
    assert served(project)["serving_version(shop_orders)"].status == "warned"


def emptied(project: Project, buyers: int) -> int:
    """Give some buyers a row without orders, a day later; return how many had orders until then."""
    folder, later = project.table("features") / "buyer_orders", AS_OF + timedelta(days=1)
    rows = read_table(folder)
    last: dict[str, int | None] = {}
    for row in sorted(rows.to_pylist(), key=lambda row: row["event_timestamp"]):
        if row["event_timestamp"] <= AS_OF:
            last[row["buyer"]] = row["orders_7d"]
    new = [
        {**dict.fromkeys(rows.column_names), "buyer": f"b{number}", "event_timestamp": later, "created": later}
        | {"orders_7d": 0, "first_seen_at": BEGIN}
        for number in range(buyers)
    ]
    month = f"{later:%Y-%m}"
    there = read_partition(folder / f"{month}.parquet")
    write_partition(folder, month, pa.concat_tables([there, pa.Table.from_pylist(new, there.schema)]))
    file = project.table("features") / "buyer_orders.manifest.json"
    content = {**read_json(file), "as_of": later.isoformat(), "data_version": f"{buyers:064}"}
    write_json(file, content)
    return sum(bool(orders) for orders in last.values())


def test_what_most_entities_lost_since_the_publication_before_is_said(tmp_path: Path, store: redis.Redis) -> None:
    project = shop(tmp_path / "shop")
    table(project.root, "buyer_orders", "buyer", [f"b{number}" for number in range(90)])
    assert publish(project)
    assert "served_change(buyer_orders)" not in said(project), "there was nothing before"
    had = emptied(project, buyers=90)
    assert had >= ENOUGH_ENTITIES
    outcome = publish(project)
    since = "buyer_orders: since the publication as of 2024-02-10 08:30 UTC"
    told = f"{since} .*orders_7d became 0 or null for {had} of {had}"
    assert re.search(told, of_publication(outcome, as_json=False))
    check = said(project)["served_change(buyer_orders)"]
    assert (check.status, check.severity, check.observed) == ("warned", "warning", 1.0)
    assert set(check.arguments["features"]) >= {"orders_7d", "mean_30d", "is_new"}
    assert "first_seen_at" not in check.arguments["features"]
    assert re.search(told, str(check.found))
    before = (project.reports / "publish.json").read_bytes()
    assert not publish(project)
    assert re.search(told, of_audit(audit(project), as_json=False))
    assert (project.reports / "publish.json").read_bytes() == before
    store.hset(key_of(store, "buyer", "b3"), keys.feature_field("buyer_orders", "mean_30d"), b"\x00")
    assert not audit(project).passed
    assert publish(project), "a repair is no other publication"
    assert re.search(told, str(said(project)["served_change(buyer_orders)"].found))


@pytest.mark.parametrize(("there", "lose"), [(90, 3), (90, 35), (33, 33), (12, 12), (5, 3)])
def test_what_few_entities_lost_or_all_of_a_few_is_not(
    tmp_path: Path, store: redis.Redis, there: int, lose: int
) -> None:
    project = shop(tmp_path / "shop")
    table(project.root, "buyer_orders", "buyer", [f"b{number}" for number in range(there)])
    assert publish(project)
    had = emptied(project, buyers=lose)
    assert (had >= ENOUGH_ENTITIES) == (there == 90)
    assert publish(project)
    assert "served_change(buyer_orders)" not in said(project)


def test_it_takes_thirty_entities_to_speak_of_most_of_them() -> None:
    assert ENOUGH_ENTITIES == 30
    assert (is_most(16, 30), is_most(15, 30), is_most(29, 29), is_most(3, 5)) == (True, False, False, False)


def said(project: Project) -> dict[str, Check]:
    trained(project, {view: report(project)["views"][view]["data_version"] for view in VIEWS})
    return served(project)


def test_what_nobody_audited_is_noted(tmp_path: Path) -> None:
    project = shop(tmp_path / "shop")
    trained(project, dict.fromkeys(VIEWS, "0"))
    found = served(project)
    assert {(check.status, check.severity) for check in found.values()} == {("noted", "info")}
    assert found.keys() == {f"serving_equals_training({view})" for view in VIEWS}


def test_a_view_that_changed_after_its_code_was_edited_says_so_and_not_before(tmp_path: Path) -> None:
    view, moves = "features/buyer_orders", ["orders_7d", "is_new", "last_seen_at"]
    at = params(shop(tmp_path / "shop"), "views: [buyer_orders]")
    code = at.root / "feature_repo/transforms.py"
    code.write_text("DAYS = 7\n", encoding="utf-8")
    validate(at, view)
    accept_baseline(at, [view])
    table(at.root, "buyer_orders", "buyer", [f"b{number}" for number in range(12)], moves, shift=500)

    def moved() -> list[Check]:
        return [check for check in validate(at, view).checks if check.kind == "change" and check.status == "warned"]

    assert moved()
    assert not any("edited" in str(check.found) for check in moved())
    code.write_text("DAYS = 14\n", encoding="utf-8")
    said = "The team's own edit may be why: feature_repo/transforms.py was edited since the baseline."
    assert all(str(check.found).endswith(said) for check in moved())
    accept_baseline(at, [view])
    assert not moved()
