"""Expectations of a new project: they hold for the data that they were proposed from, and see what breaks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scaffolded import proposed, written

from weakfish.checks.validate import validate
from weakfish.project.paths import Project
from weakfish.scaffold.render import render
from weakfish.scaffold.survey import ColumnFacts, ColumnSuite, Suite, measure

TIME = pa.timestamp("us", tz="UTC")


def facts(name: str, kind: str, **more: Any) -> ColumnFacts:
    return ColumnFacts.model_validate({"name": name, "kind": kind, "rows": 1000, "nulls": 0, **more})


def measured(*columns: ColumnFacts, rows: int = 1000, **more: Any) -> Suite:
    sample = pa.table({"id": [f"k{number}" for number in range(rows)]})
    return measure(sample, key="id", time=None, facts=columns, **more)


def column(given: ColumnFacts) -> ColumnSuite:
    [found] = measured(given).columns
    return found


def statuses(project: Project, rows: pa.Table) -> Mapping[str, str]:
    """How the checks of staged events stand, by check, those of change apart."""
    file = project.staged("events") / "2025-01.parquet"
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(rows, file)
    verdict = validate(project, "events")
    return {check.check: check.status for check in verdict.checks if check.check != "baseline"}


def spoiled(rows: pa.Table, name: str, values: list[Any]) -> pa.Table:
    """The rows with other values at the end of a column."""
    place, kept = rows.schema.get_field_index(name), rows.num_rows - len(values)
    new = pa.concat_arrays([rows[name].combine_chunks().slice(0, kept), pa.array(values, rows[name].type)])
    return rows.set_column(place, name, new)


def test_all_hold_for_the_rows_that_they_were_proposed_from_and_not_for_others(tmp_path: Path) -> None:
    proposal, sample = proposed("orders")
    with written(tmp_path, render(proposal, "1.2.3")) as project:
        found = statuses(project, sample)
        assert {check: status for check, status in found.items() if status != "passed"} == {}
        assert len(found) >= 20
        ids = sample["order_id"].to_pylist()
        broken = {
            "order_id": [ids[0], ids[1]],
            "placed_at": [None, None],
            "amount": [1e9] * 20,
            "items": [-4] * 20,
            "product": ["unheard of"] * 70,
            "channel": [None] * 20,
        }
        rows = sample
        for name, values in broken.items():
            rows = spoiled(rows, name, values)
        moved = {check: status for check, status in statuses(project, rows).items() if status != "passed"}
        assert moved == {
            "column_values_to_be_unique(order_id)": "quarantined",
            "column_values_to_not_be_null(placed_at)": "quarantined",
            "column_values_to_be_between(amount)": "warned",
            "column_values_to_be_between(items)": "warned",
            "column_values_to_be_in_set(product)": "warned",
            "column_values_to_not_be_null(channel)": "warned",
        }


def test_a_column_of_another_type_is_told_of(tmp_path: Path) -> None:
    proposal, sample = proposed("orders")
    with written(tmp_path, render(proposal, "1.2.3")) as project:
        amounts = sample["amount"].cast(pa.string())
        rows = sample.set_column(sample.schema.get_field_index("amount"), "amount", amounts)
        assert statuses(project, rows)["column_values_to_be_in_type_list(amount)"] == "warned"


def test_rows_that_are_known_to_fail_may_be_set_aside() -> None:
    assert measured(facts("a", "integer")).max_quarantined_share == 0.05
    undated = facts("at", "time", nulls=300)
    sample = pa.table({"id": ["a"], "at": pa.array([None], TIME)})
    assert measure(sample, key="id", time="at", facts=[undated]).max_quarantined_share == 0.39
    assert measured(facts("id", "string"), key_repeats=100).max_quarantined_share == 0.26  # both of each pair
    assert measured(facts("id", "string", nulls=1000)).max_quarantined_share == 1.0


@pytest.mark.parametrize(
    ("years", "bounds", "share"),
    [
        ([2024] * 100, ("1971", "2100"), 0.05),
        ([1970] * 5 + [2024] * 95, ("1971", "2100"), 0.08),  # a clock that was not set
        ([1850] * 50 + [1950] * 50, ("1678", "2100"), 0.05),  # history
        ([2024] * 90 + [2200] * 10, ("1971", "2262"), 0.05),
    ],
)
def test_times_outside_are_wrong_where_they_are_few_and_right_where_they_are_many(
    years: list[int], bounds: tuple[str, str], share: float
) -> None:
    times = pa.array([f"{year}-05-01T00:00:00Z" for year in years]).cast(TIME)
    sample = pa.table({"id": [f"k{number}" for number in range(len(years))], "at": times})
    found = measure(sample, key="id", time="at", facts=[facts("at", "time")])
    assert (str(found.earliest)[:4], str(found.latest)[:4]) == bounds
    assert found.max_quarantined_share == share


def test_without_times_nothing_is_asked_of_them() -> None:
    found = measured(facts("a", "integer", least=1, greatest=9))
    assert (found.earliest, found.latest) == (None, None)
    proposal, _ = proposed("flats")
    assert "event_time" not in render(proposal, "1.2.3")["validation/events.py"]


@pytest.mark.parametrize(
    ("least", "greatest", "low", "high"),
    [
        (0, 9, 0, 14),
        (1, 1, 0, 2),
        (0, 0, 0, 1),
        (-10, 10, -20, 20),
        (-7.5, -2.5, -10.0, 0.0),
        (0.001, 0.004, 0.0, 0.0055),
        (-(1 << 62), 1 << 62, None, None),
    ],
)
def test_numbers_have_room_on_both_sides_and_do_not_begin_below_zero(
    least: float, greatest: float, low: float | None, high: float | None
) -> None:
    kind = "integer" if isinstance(least, int) else "number"
    found = column(facts("n", kind, least=least, greatest=greatest))
    assert (found.least, found.greatest) == (low, high)
    if found.least is not None and found.greatest is not None:
        assert found.least <= least
        assert found.greatest >= greatest


@pytest.mark.parametrize(
    ("nulls", "present"), [(0, 0.99), (10, 0.89), (100, 0.81), (500, 0.45), (960, None), (1000, None)]
)
def test_as_many_values_as_now_are_wanted_and_some_fewer_do(nulls: int, present: float | None) -> None:
    assert column(facts("a", "boolean", nulls=nulls)).present == present


def test_few_short_texts_are_categories_and_others_have_a_length() -> None:
    few = facts("a", "string", distinct=2, frequent=(("b", 600), ("a", 400)), shortest=1, longest=1)
    assert (column(few).values, column(few).longest) == (("a", "b"), None)
    many = facts("a", "string", distinct=900, shortest=3, longest=130)
    assert (column(many).values, column(many).longest) == (None, 260)
    long = facts("a", "string", distinct=1, frequent=(("x" * 61, 1000),), shortest=61, longest=61)
    assert column(long).values is None
    empty = facts("a", "string", nulls=1000)
    assert column(empty) == ColumnSuite(name="a")
