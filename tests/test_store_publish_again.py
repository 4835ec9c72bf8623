"""While nothing changed, each publication compares a share of what is online, and mends all where that differs."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import redis
from click.testing import CliRunner
from feast import FeatureStore
from stores import AS_OF, dump, shop, table

from weakfish.cli.main import cli
from weakfish.contracts.publications import SHARES, receipt_file
from weakfish.feast import layout as keys
from weakfish.feast.probe import share_of
from weakfish.feast.publish import audit, publish
from weakfish.project.paths import Project

FIELD = keys.feature_field("buyer_orders", "mean_30d")
BUYERS = [f"b{number}" for number in range(60)]
ROWS = len(BUYERS) + 6 + 3


@pytest.fixture
def project(tmp_path: Path, store: redis.Redis) -> Project:
    """A small project, published, whose rows are in all shares."""
    found = shop(tmp_path / "shop")
    table(found.root, "buyer_orders", "buyer", BUYERS)
    assert publish(found)
    assert {share_of(key) for key in keys.of_project(store, "shop")} == set(range(SHARES))
    return found


def key_of(store: redis.Redis, name: str) -> Any:
    return next(key for key in keys.of_project(store, "shop") if key.endswith(f"{name}shop".encode()))


def runs(project: Project) -> list[Any]:
    """Publications until each share had its turn."""
    return [publish(project) for _ in range(SHARES)]


def test_so_many_runs_compare_every_row_once(project: Project, store: redis.Redis) -> None:
    held = dump(store)
    for _ in range(2):
        outcomes = runs(project)
        assert not any(outcomes)
        assert [outcome.share for outcome in outcomes] == list(range(SHARES))
        assert all(0 < outcome.compared < ROWS for outcome in outcomes)
        assert sum(outcome.compared for outcome in outcomes) == ROWS == outcomes[0].rows
    assert dump(store) == held


def spoil(store: redis.Redis, name: str, how: str) -> None:
    key = key_of(store, name)
    row: Any = store.hgetall(key)
    other = keys.feature_field("buyer_orders", "orders_7d")
    if how == "a value":
        store.hset(key, FIELD, b"\x29\0\0\0\0\0\0\xf0\x3f")  # type: ignore[arg-type]
    elif how == "a value that is gone":
        store.hdel(key, FIELD)  # type: ignore[arg-type]
    elif how == "two values that changed places":
        store.hset(key, mapping={FIELD: row[other], other: row[FIELD]})
    elif how == "the row of another entity":
        store.hset(key, mapping=store.hgetall(key_of(store, "b41")))
    elif how == "the created time":
        store.hset(key, keys.created_field("buyer_orders"), b"\0" * 16)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["b0", "b7", "b33", "b59"])
@pytest.mark.parametrize(
    "how",
    [
        "a value",
        "a value that is gone",
        "two values that changed places",
        "the row of another entity",
        "the created time",
    ],
)
def test_what_somebody_else_changed_is_found_by_its_share_and_written(
    project: Project, store: redis.Redis, name: str, how: str
) -> None:
    held, turn = dump(store), share_of(key_of(store, name))
    spoil(store, name, how)
    spoil(store, "b12", how)  # whatever its share is, it is written along
    first = min(turn, share_of(key_of(store, "b12")))
    outcomes = [publish(project) for _ in range(first + 1)]
    assert [bool(outcome) for outcome in outcomes] == [False] * first + [True]
    assert outcomes[-1].counts["buyer_orders"].written == 2
    assert dump(store) == held
    assert not any(runs(project))


def test_where_no_audit_was_made_all_is_compared_and_written_at_once(project: Project, store: redis.Redis) -> None:
    held = dump(store)
    receipt_file(project, "shop").unlink()
    outcome = publish(project)
    assert outcome is not None
    assert (bool(outcome), outcome.compared, outcome.share) == (False, ROWS, None)
    spoil(store, "b33", "a value")
    receipt_file(project, "shop").unlink()
    assert publish(project)
    assert dump(store) == held


def test_after_an_audit_that_failed_all_is_written_whatever_share_is_next(project: Project, store: redis.Redis) -> None:
    held = dump(store)
    for name in ("b1", "b2", "b3", "b4"):
        spoil(store, name, "a value")
    assert not audit(project).passed
    assert publish(project)
    assert dump(store) == held


def test_what_a_service_pushed_since_is_compared_and_stays(project: Project, store: redis.Redis) -> None:
    feast, time = FeatureStore(repo_path=str(project.root / "feature_repo")), AS_OF + timedelta(hours=1)
    row = {"buyer": "b33", "event_timestamp": time, "created": time, "orders_7d": 77, "mean_30d": 7.5}
    feast.write_to_online_store("buyer_orders", pd.DataFrame([{**row, "first_seen_at": time, "is_new": False}]))
    pushed = store.hgetall(key_of(store, "b33"))
    turn = share_of(key_of(store, "b33"))
    outcomes = [publish(project) for _ in range(turn + 1)]
    assert [bool(outcome) for outcome in outcomes] == [False] * turn + [True]
    counts = outcomes[-1].counts["buyer_orders"]
    assert (counts.written, counts.unchanged, counts.left) == (0, len(BUYERS) - 1, 1)
    assert store.hgetall(key_of(store, "b33")) == pushed
    assert not any(runs(project))


def test_the_command_says_what_it_compared(
    project: Project, store: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project.root)
    count = sum(
        1 + (name in {f"b{number}" for number in range(0, 12, 2)})
        for name in BUYERS
        if share_of(key_of(store, name)) == 0
    ) + sum(share_of(key_of(store, name)) == 0 for name in ("s0", "s1", "ähop/ß*[?"))
    assert (
        f"Nothing changed, and {count} of {ROWS} rows (share 1 of {SHARES}) are online as the last audit found them; "
        "the next run compares the next share.\n"
    ) in CliRunner().invoke(cli, ["publish"], catch_exceptions=False).stdout
    receipt_file(project, "shop").unlink()
    printed = CliRunner().invoke(cli, ["publish"], catch_exceptions=False).stdout
    assert f"Nothing changed: all {ROWS} rows online were compared with the feature tables.\n" in printed
    said = CliRunner().invoke(cli, ["publish", "--json"], catch_exceptions=False).stdout
    assert json.loads(said) == {"changed": False, "compared": count, "rows": ROWS}
