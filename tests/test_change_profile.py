"""Profiles: what is measured of each kind of column, what is never kept, and what comes from the cache."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import permutations
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from changes import MONTHS, measure, orders, put
from projects import tiny

from weakfish.contracts.tables import TIME
from weakfish.engine.profile import ColumnProfile, Profile, profile_of, write_profile
from weakfish.errors import TableError
from weakfish.project.paths import Project

NOON = datetime(2024, 1, 1, 12, tzinfo=UTC)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tiny(tmp_path / "orders"))


def test_a_column_is_measured_by_its_kind(project: Project) -> None:
    rows = pa.table(
        {
            "order_id": ["a", "b", "c", None],
            "placed_at": pa.array([NOON] * 4, TIME),
            "paid_at": pa.array([NOON + timedelta(hours=h) for h in (1, 2, -3)] + [None], TIME),
            "due": pa.array([date(2024, 1, 2)] * 4),
            "amount": [1.5, float("nan"), float("inf"), -2.0],
            "price": pa.array([Decimal("1.25"), Decimal("2.50"), None, None]),
            "took": pa.array([timedelta(seconds=1), timedelta(seconds=2), None, None]),
            "note": ["one", "three", "ñandú", ""],
            "is_gift": [True, False, True, None],
            "items": [["a"], ["a", "b"], [], None],
            "place": [{"x": 1}, {"x": 2}, None, None],
            "tags": pa.array([[("a", 1)], [], None, None], pa.map_(pa.string(), pa.int64())),
        }
    )
    columns = measure(project, {"2024-01": rows}).columns
    assert {name: column.kind for name, column in columns.items()} == {
        "order_id": "text",
        "placed_at": "time",
        "paid_at": "distance",
        "due": "distance",
        "amount": "number",
        "price": "number",
        "took": "number",
        "note": "text",
        "is_gift": "boolean",
        "items": "list",
        "place": "other",
        "tags": "other",
    }
    nulls = {name: column.nulls for name, column in columns.items()}
    assert nulls == {
        "order_id": 1, "placed_at": 0, "paid_at": 1, "due": 0, "amount": 1, "price": 2, "took": 2, "note": 0,
        "is_gift": 1, "items": 1, "place": 2, "tags": 2,
    }  # fmt: skip
    extremes = {name: (column.low, column.high) for name, column in columns.items() if column.low is not None}
    assert extremes == {
        "paid_at": (-3, 2),
        "due": (12, 12),
        "amount": (-2, 1.5),
        "price": (1.25, 2.5),
        "took": (1e6, 2e6),
    }
    sketched = {name: column.sketch.total for name, column in columns.items() if column.sketch is not None}
    assert sketched == {
        "order_id": 3,
        "paid_at": 3,
        "due": 4,
        "amount": 3,
        "price": 2,
        "took": 2,
        "note": 4,
        "items": 3,
    }
    assert columns["note"].sketch is not None
    assert columns["note"].sketch.counts.tolist() == [1, 1, 2]  # characters, not bytes
    assert columns["is_gift"].categories == {"false": 1, "true": 2}


def test_categories_are_few_short_much_repeated_values_that_name_nobody(project: Project) -> None:
    rows = 1000
    digits = np.arange(rows)
    table = pa.table(
        {
            "order_id": (digits % 3).astype(str),
            "placed_at": pa.array([NOON] * rows, TIME),
            "kind": (digits % 64).astype(str),
            "many": (digits % 65).astype(str),
            "long": np.char.multiply("x", 60 + digits % 10),
            "hashed": [f"{value % 5:032x}" for value in digits],
            "address": [f"u{value % 5}@example.org" for value in digits],
            "rare": [str(value) if value < 20 else None for value in digits],
        }
    )
    columns = measure(project, {"2024-01": table}).columns
    assert [name for name, column in columns.items() if column.categories is not None] == ["kind"]


def test_entities_of_features_are_no_categories_and_their_time_is_feasts(project: Project) -> None:
    rows = 500
    table = pa.table(
        {
            "kind": ["book", "pen"] * (rows // 2),
            "event_timestamp": pa.array([NOON] * rows, TIME),
            "created": pa.array([NOON] * rows, TIME),
            "last_kind": ["book", "pen"] * (rows // 2),
        }
    )
    columns = measure(project, {"2024-01": table}, "features/kind_activity").columns
    assert columns["kind"].categories is None
    assert columns["last_kind"].categories == {"book": 250, "pen": 250}
    assert columns["event_timestamp"].kind == "time"
    assert (columns["created"].low, columns["created"].high) == (0, 0)


def test_no_key_hash_or_rare_text_gets_into_the_file(project: Project) -> None:
    parts = {month: orders(month) for month in MONTHS}
    write_profile(project, "events", "1", measure(project, parts))
    text = project.profile("events").read_text()
    for rows in parts.values():
        assert not any(key in text for key in rows["order_id"].to_pylist())
        assert not any(buyer in text for buyer in rows["buyer"].to_pylist())
    assert '"book"' in text


def test_the_profile_of_all_partitions_is_that_of_all_rows(project: Project) -> None:
    parts = {month: orders(month) for month in MONTHS}
    split = measure(project, parts).columns
    whole = measure(project, {"2024-01": pa.concat_tables(parts.values())}).columns
    for name, column in whole.items():
        of_parts = split[name].as_json() | {"distinct": None}
        assert of_parts == column.as_json() | {"distinct": None}, name


def test_partitions_add_up_to_the_same_bytes_in_any_order_and_any_grouping(project: Project) -> None:
    parts = {f"2024-{month:02}": orders(f"2024-{month:02}", rows=100 * month, seed=month) for month in range(1, 5)}
    partitions = measure(project, parts).partitions
    for name in partitions["2024-01"].columns:
        found = [partition.columns[name] for partition in partitions.values()]
        whole = as_bytes(ColumnProfile.merged(found))
        for order in permutations(found):
            assert as_bytes(ColumnProfile.merged(order)) == whole, name
            pairs = [ColumnProfile.merged(order[:2]), ColumnProfile.merged(order[2:])]
            assert as_bytes(ColumnProfile.merged(pairs)) == whole, name
        assert sum(column.rows for column in found) == 1000 == ColumnProfile.merged(found).rows


def test_categories_that_are_too_many_in_all_partitions_together_are_no_categories() -> None:
    parts = [
        ColumnProfile("string", "text", 400, 0, 40, categories={f"{part}{kind}": 10 for kind in range(40)})
        for part in ("a", "b")
    ]
    assert ColumnProfile.merged(parts[:1]).categories == parts[0].categories
    assert ColumnProfile.merged(parts).categories is None


def as_bytes(column: ColumnProfile) -> bytes:
    return json.dumps(column.as_json()).encode()


def test_distinct_values_are_exact_when_few_and_near_when_many(project: Project) -> None:
    rows = 60_000
    table = pa.table(
        {
            "placed_at": pa.array([NOON] * rows, TIME),
            "few": np.arange(rows) % 900,
            "buyer": np.char.add("b", (np.arange(rows) % 900).astype(str)),
            "key": np.char.add("k", np.arange(rows).astype(str)),
        }
    )
    columns = measure(project, {"2024-01": table}).columns
    assert columns["few"].distinct == columns["buyer"].distinct == 900
    assert columns["key"].distinct == pytest.approx(rows, rel=0.1)


def test_row_groups_and_dictionaries_do_not_matter(project: Project) -> None:
    rows = orders("2024-01", rows=3000)
    expected = measure(project, {"2024-01": rows}).as_json()
    file = project.staged("events") / "2024-01.parquet"
    encoded = rows.set_column(5, "kind", rows["kind"].dictionary_encode())
    pq.write_table(encoded, file, row_group_size=70)
    found = profile_of(project, "events", {"2024-01": file}).as_json()
    kind = found["2024-01"]["columns"]["kind"].pop("type")
    assert kind.startswith("dictionary")
    expected["2024-01"]["columns"]["kind"].pop("type")
    assert found == expected


def test_only_partitions_that_changed_are_measured_again(project: Project) -> None:
    parts = {month: orders(month) for month in MONTHS[:2]}
    first = measure(project, parts)
    known = pieces(project)
    assert len(known) == 2
    measure(project, {**parts, "2024-03": orders("2024-03")})
    assert len(pieces(project)) == 3
    assert pieces(project).items() > known.items()  # what is measured again is written anew
    for file in pieces(project):
        file.write_text("{ cut off")
    assert measure(project, parts).as_json() == first.as_json()
    assert len(pieces(project)) == 2


def pieces(project: Project) -> dict[Path, int]:
    """What is remembered, with inodes."""
    cache = project.root / ".weakfish/cache/profiles/events"
    return {file: file.stat().st_ino for file in cache.rglob("*") if file.is_file()}


def test_a_written_profile_reads_as_the_same(project: Project) -> None:
    profile = measure(project, {month: orders(month) for month in MONTHS})
    write_profile(project, "events", "1", profile, rules={"a": 1})
    content = json.loads(project.profile("events").read_text())
    assert content["rules"] == {"a": 1}
    assert Profile.parse(content["profile"]).as_json() == profile.as_json()


def test_a_file_that_was_cut_off_is_one_sentence(project: Project) -> None:
    files = put(project, "events", {"2024-01": orders("2024-01", rows=5000)})
    file = files["2024-01"]
    content = bytearray(file.read_bytes())
    content[200:2000] = bytes(1800)
    file.write_bytes(content)
    with pytest.raises(TableError, match="not readable Parquet"):
        profile_of(project, "events", files)
