"""Patches: what a mistake in one gets, which rows a name names, and repairs against an oracle."""

from __future__ import annotations

import shutil
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from projects import tiny, weakfish
from quarantined import patch

from weakfish.checks.bad_rows import hashed, names_of
from weakfish.checks.repairs import staged_files
from weakfish.contracts.tables import TIME, Contract, partition_names, read_partition, write_partition
from weakfish.errors import UserError
from weakfish.project.paths import Project

START = datetime(2024, 1, 1, tzinfo=UTC)
SCHEMA = pa.schema(
    [
        ("order_id", pa.string()),
        ("placed_at", TIME),
        ("amount", pa.int64()),
        ("weight", pa.float64()),
        ("gift", pa.bool_()),
        ("note", pa.string()),
    ]
)
CONTRACT = Contract("events", SCHEMA, "order_id", "placed_at")

LATEST = datetime.max.replace(tzinfo=UTC)

Order = dict[str, Any]


def order(key: str | None, day: int | None, **values: Any) -> Order:
    time = None if day is None else START + timedelta(days=day)
    return {"order_id": key, "placed_at": time, "amount": 1, "weight": 0.5, "gift": False, "note": "book"} | values


def stage(root: Path, orders: list[Order]) -> Project:
    """Write the staged table, as ingest would."""
    table = pa.Table.from_pylist(orders, SCHEMA)
    shutil.rmtree(root / "data", ignore_errors=True)
    names = partition_names(table["placed_at"], "month")
    for name in pc.unique(names).to_pylist():
        write_partition(root / "data/staged", name, CONTRACT.in_order(table.filter(pc.equal(names, name))))
    return Project(root)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    orders = [order("a", 0), order("b", 1), order("c", 40), order(None, 41, note="lost"), order("d", None)]
    return stage(tiny(tmp_path / "orders"), orders)


def repaired(project: Project) -> dict[str, list[Order]]:
    with staged_files(project, "events") as files:
        return {name: read_partition(file).to_pylist() for name, file in files.items()}


def refused(project: Project) -> str:
    """The one sentence with which patches are refused."""
    with pytest.raises(UserError) as error, staged_files(project, "events"):
        pass
    text = str(error.value)
    assert "\n" not in text
    assert text.endswith((".", "?"))
    return text


MISTAKES = {
    "who: Ann\nwhy: x\nkeys: [a]\nset: {amount: 1}": "table is missing; add it",
    "table: events\nwhy: x\nkeys: [a]\nset: {amount: 1}": "who is missing; add it",
    "table: events\nwho: Ann\nkeys: [a]\nset: {amount: 1}": "why is missing; add it",
    "table: events\nwho: ' '\nwhy: x\nkeys: [a]\nset: {amount: 1}": "who must not be empty",
    "table: events\nwho: Ann\nwhy: x\nkeys: [a]\nset: {amount: 1}\nwhen: now": "when is not a field of a patch",
    "table: events\nwho: Ann\nwhy: x\nkeys: [a]\nset: {amount: 1}\nname: x": "name is not a field of a patch",
    "table: labels/fraud\nwho: Ann\nwhy: x\nkeys: [a]\nset: {p: 1}": "rows are quarantined only in events",
    "table: events\nwho: Ann\nwhy: x": "give either rule",
    "table: events\nwho: Ann\nwhy: x\nkeys: [a]\nrule: r": "give either rule",
    "table: events\nwho: Ann\nwhy: x\nkeys: [a]": "with keys give either set",
    "table: events\nwho: Ann\nwhy: x\nkeys: [a]\nset: {amount: 1}\nrelease: [r]": "with keys give either set",
    "table: events\nwho: Ann\nwhy: x\nrule: r\nset: {amount: 1}": "set and release go with keys",
    "table: events\nwho: Ann\nwhy: x\nkeys: [a]\nrelease: [r]\npartitions: [p]": "partitions goes with rule",
    "table: events\nwho: Ann\nwhy: x\nkeys: []\nset: {amount: 1}": "keys ",
    "table: events\nwho: Ann\nwhy: x\nkeys: [a, a]\nset: {amount: 1}": "keys names 'a' twice",
    "table: events\nwho: Ann\nwhy: x\nkeys: [7]\nset: {amount: 1}": "keys.0 should be a valid string",
    "table: events\nwho: Ann\nwhy: x\nkeys: [a]\nset: {}": "set ",
    "table: events\nwho: Ann\nwhy: x\nkeys: [a]\nset: {amont: 1}": "did you mean 'amount'?",
    "table: events\nwho: Ann\nwhy: x\nkeys: [a]\nset: {amount: 1.5}": "set.amount must be a whole number",
    "table: events\nwho: Ann\nwhy: x\nkeys: [a]\nset: {amount: '1'}": "set.amount must be a whole number",
    "table: events\nwho: Ann\nwhy: x\nkeys: [a]\nset: {amount: true}": "set.amount must be a whole number",
    "table: events\nwho: Ann\nwhy: x\nkeys: [a]\nset: {amount: 9223372036854775808}": "set.amount must be a whole",
    "table: events\nwho: Ann\nwhy: x\nkeys: [a]\nset: {weight: .inf}": "set.weight must be a number",
    "table: events\nwho: Ann\nwhy: x\nkeys: [a]\nset: {gift: 1}": "set.gift must be true or false",
    "table: events\nwho: Ann\nwhy: x\nkeys: [a]\nset: {note: 5}": "set.note must be text",
    "table: events\nwho: Ann\nwhy: x\nkeys: [a]\nset: {placed_at: 2024-01-02}": "set.placed_at must be a time",
    "table: events\nwho: Ann\nwhy: x\nkeys: [a]\nset: {placed_at: '2024-01-02T10:00:00'}": "a time with its zone",
    "table: events\nwho: Ann\nwhy: x\nkeys: [a]\nset: {placed_at: yesterday}": "a time with its zone",
    "table: events\nwho: Ann\nwhy: x\nkeys: [a]\nset: {order_id: null}": "a row cannot lose its key",
    "table: events\nwho: Ann\nwhy: x\nkeys: [a]\nset: {order_id: b}": "more than one row of events would then have",
    "table: events\nwho: Ann\nwhy: x\nkeys: [a, b]\nset: {order_id: e}": "than one row of events would then have",
    "table: events\nwho: Ann\nwhy: x\nkeys: [aa]\nset: {amount: 1}": "There is no row 'aa' in events",
    "table: events\nwho: Ann\nwhy: x\nkeys: [aa]\nrelease: [r]": "There is no row 'aa' in events",
    "table: [events": "is not YAML",
    "- a": "holds no fields",
    "": "holds no fields",
}


@pytest.mark.parametrize(("text", "expected"), MISTAKES.items())
def test_a_mistake_in_a_patch_is_one_sentence_with_its_file_and_field(
    project: Project, text: str, expected: str
) -> None:
    (project.patches / "x.yaml").write_text(text, encoding="utf-8")
    sentence = refused(project)
    assert expected in sentence
    assert "validation/patches/x.yaml" in sentence


def test_a_wrong_value_is_not_repeated_in_the_sentence(project: Project) -> None:
    patch(project.root, "x", keys=["a"], set={"amount": "a private remark"})
    assert "private" not in refused(project)


def test_a_file_that_would_be_passed_over_is_refused(project: Project) -> None:
    file = patch(project.root, "x", keys=["a"], set={"amount": 5})
    file.rename(file.with_suffix(".yml"))
    assert "validation/patches/x.yml is not read" in refused(project)


def test_patches_that_say_different_things_of_a_cell_are_refused_and_the_same_thing_twice_is_fine(
    project: Project,
) -> None:
    patch(project.root, "one", keys=["a", "b"], set={"amount": 5})
    patch(project.root, "two", keys=["b"], set={"amount": 5, "note": "toy"})
    assert [row["amount"] for row in repaired(project)["2024-01"]] == [5, 5]
    patch(project.root, "two", keys=["b"], set={"amount": 6})
    sentence = refused(project)
    assert "validation/patches/one.yaml and validation/patches/two.yaml set amount of the same row" in sentence


def test_a_mistake_is_an_exit_code_and_no_traceback(project: Project) -> None:
    (project.patches / "x.yaml").write_text("table: events", encoding="utf-8")
    result = weakfish(project.root, "quarantine", "patches")
    assert result.returncode == 2
    assert result.stderr.startswith("weakfish: validation/patches/x.yaml: who is missing; add it (1 more")
    assert "Traceback" not in result.stderr


def test_values_take_the_types_of_their_columns(project: Project) -> None:
    values = {"amount": 7, "weight": 2, "gift": True, "note": None, "placed_at": "2024-01-05T01:00:00+02:00"}
    patch(project.root, "x", keys=["a"], set=values)
    (row,) = [row for row in repaired(project)["2024-01"] if row["order_id"] == "a"]
    time = datetime(2024, 1, 4, 23, tzinfo=UTC)
    assert row == {"order_id": "a", "placed_at": time, "amount": 7, "weight": 2.0, "gift": True, "note": None}


def test_a_row_without_a_key_is_named_by_a_hash_of_what_it_holds_wherever_it_stands(project: Project) -> None:
    (name,) = named(project, "2024-02", [1])
    assert name.startswith("~")
    again = [order("d", None), order(None, 40, note="other"), order(None, 41, note="lost"), order("z", 40)]
    stage(project.root, again)
    assert name in named(project, "2024-02", [0, 1, 2])
    wide = pa.Table.from_pylist([order(None, 41, note="lost")], SCHEMA)
    new = wide.append_column("new", pa.nulls(1, pa.string()))
    assert hashed(new.select(sorted(new.column_names))) == hashed(wide) == [name]


def named(project: Project, partition: str, rows: list[int]) -> list[str]:
    file = project.staged("events") / f"{partition}.parquet"
    return list(names_of(project, file, np.array(rows, np.int64)).to_pylist())


def test_a_row_without_a_key_can_be_given_one_and_is_then_named_by_it(project: Project) -> None:
    (name,) = named(project, "2024-02", [1])
    patch(project.root, "one", keys=[name], set={"order_id": "x"})
    patch(project.root, "two", keys=["x"], set={"amount": 5})
    assert [(row["order_id"], row["amount"]) for row in repaired(project)["2024-02"]] == [("c", 1), ("x", 5)]


def test_a_repaired_row_without_a_key_keeps_its_name(project: Project) -> None:
    (name,) = named(project, "2024-02", [1])
    patch(project.root, "one", keys=[name], set={"placed_at": "2024-01-01T12:00:00Z", "note": "found"})
    with staged_files(project, "events") as files:
        assert [row["order_id"] for row in read_partition(files["2024-01"]).to_pylist()] == ["a", None, "b"]
        assert names_of(project, files["2024-01"], np.array([0, 1, 2])).to_pylist() == ["a", name, "b"]


def test_one_of_two_rows_that_share_a_key_is_named_by_its_hash(project: Project) -> None:
    stage(project.root, [order("a", 0, note="first"), order("a", 1, note="second"), order("b", 2)])
    second = hashed(pa.Table.from_pylist([order("a", 1, note="second")], SCHEMA))
    patch(project.root, "x", keys=second, set={"order_id": "c"})
    found = [(row["order_id"], row["note"]) for row in repaired(project)["2024-01"]]
    assert found == [("a", "first"), ("c", "second"), ("b", "book")]


def test_a_hash_that_no_row_has_any_more_touches_none(project: Project) -> None:
    patch(project.root, "x", keys=["~0123456789ab"], set={"amount": 5})
    with staged_files(project, "events") as files:
        assert files.plan.rows == {"validation/patches/x.yaml": 0}
        assert files.plan.changes == {}


DAYS = st.one_of(st.none(), st.integers(0, 100))
ROWS = st.lists(st.tuples(DAYS, st.integers(-3, 3)), min_size=1, max_size=12)
REPAIRS = st.lists(st.tuples(st.integers(0, 11), st.one_of(st.just("keep"), DAYS), st.integers(-3, 3)), max_size=6)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(ROWS, REPAIRS)
def test_repaired_files_hold_what_an_oracle_says(
    orders: list[tuple[int | None, int]], repairs: list[tuple[int, int | str | None, int]]
) -> None:
    table = {f"o{number:02}": order(f"o{number:02}", day, amount=of) for number, (day, of) in enumerate(orders)}
    with tempfile.TemporaryDirectory() as folder:
        project = stage(tiny(Path(folder) / "orders"), list(table.values()))
        for number, day, amount in {number: (number, *rest) for number, *rest in repairs}.values():
            key = f"o{number % len(orders):02}"
            if (project.patches / f"{key}.yaml").exists():
                continue
            values: dict[str, Any] = {"amount": amount}
            if not isinstance(day, str):
                values["placed_at"] = None if day is None else (START + timedelta(days=day)).isoformat()
                table[key]["placed_at"] = None if day is None else START + timedelta(days=day)
            table[key]["amount"] = amount
            patch(project.root, key, keys=[key], set=values)
        expected: dict[str, list[Order]] = {}
        in_order = sorted(table.values(), key=lambda row: (row["placed_at"] or LATEST, row["order_id"]))
        for row in in_order:
            expected.setdefault(f"{row['placed_at']:%Y-%m}" if row["placed_at"] else "undated", []).append(row)
        found = repaired(project)
    assert found == expected
    assert list(found) == sorted(expected)


def test_a_row_of_a_table_without_the_key_is_named_by_its_first_two_columns(project: Project) -> None:
    boundaries = pa.array([START, None], TIME)
    rows = pa.table({"customer": ["x", "y"], "event_timestamp": boundaries, "orders_7d": [1, 2]})
    write_partition(project.table("features/activity"), "2024-01", rows)
    file = project.table("features/activity") / "2024-01.parquet"
    names = names_of(project, file, np.array([1, 0])).to_pylist()
    assert names == ["y@None", "x@2024-01-01 00:00:00.000000Z"]
