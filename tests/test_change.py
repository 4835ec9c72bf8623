"""Changes injected into small tables: the right check tells of each, with the right severity, and of nothing else."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from changes import MONTHS, compare, measure, not_passed, orders, put
from projects import tiny

from weakfish.checks.baseline import Entry
from weakfish.checks.change import change_checks
from weakfish.checks.validate import validate
from weakfish.engine.profile import profile_of
from weakfish.project.params import ChangeParams
from weakfish.project.paths import Project

HISTORY = {month: orders(month) for month in MONTHS}
NEW = "2024-04"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return Project(tiny(tmp_path_factory.mktemp("change") / "orders"))


def setting(table: pa.Table, **columns: object) -> pa.Table:
    """The table with columns replaced."""
    for name, values in columns.items():
        table = table.set_column(table.column_names.index(name), name, pa.chunked_array([pa.array(values)]))
    return table


def shifted(rows: pa.Table) -> pa.Table:
    return setting(rows, amount=pc.multiply(rows["amount"], 3.0).combine_chunks())


def with_a_new_kind(rows: pa.Table) -> pa.Table:
    kinds = np.array(rows["kind"].to_pylist())
    kinds[::20] = "lamp"
    return setting(rows, kind=kinds)


def without_a_kind(rows: pa.Table) -> pa.Table:
    return setting(rows, kind=np.where(np.array(rows["kind"].to_pylist()) == "pen", "card", rows["kind"].to_pylist()))


def with_more_nulls(rows: pa.Table) -> pa.Table:
    hidden = np.arange(rows.num_rows) % 5 == 0
    return setting(rows, amount=pc.if_else(pa.array(hidden), None, rows["amount"].combine_chunks()))


def late(rows: pa.Table) -> pa.Table:
    moved = pc.add(rows["paid_at"], pa.scalar(20 * 3600 * 10**6, pa.duration("us")))
    return setting(rows, paid_at=moved.combine_chunks())


def with_one_buyer(rows: pa.Table) -> pa.Table:
    return setting(rows, buyer=[f"{0:032x}"] * rows.num_rows)


def with_huge_orders(rows: pa.Table) -> pa.Table:
    pieces = rows["pieces"].to_numpy().copy()
    pieces[::30] += 1000
    return setting(rows, pieces=pieces)


CHANGES: dict[str, tuple[Callable[[pa.Table], pa.Table], dict[str, str]]] = {
    "shifted numbers": (shifted, {"drift(amount)": "warned"}),
    "a new category": (with_a_new_kind, {"categories(kind)": "warned"}),
    "a vanished category": (without_a_kind, {"categories(kind)": "warned"}),
    "more nulls": (with_more_nulls, {"nulls(amount)": "warned"}),
    "later times": (late, {"drift(paid_at)": "warned"}),
    "one name for all": (with_one_buyer, {"cardinality(buyer)": "warned"}),
    "huge values": (with_huge_orders, {"range(pieces)": "noted"}),
}


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("where", ["a new partition", "accepted partitions"])
def test_a_change_is_told_by_its_own_check(project: Project, name: str, where: str) -> None:
    change, expected = CHANGES[name]
    if where == "a new partition":
        found = compare(project, HISTORY, {**HISTORY, NEW: change(orders(NEW))})
    else:
        found = compare(project, HISTORY, {month: change(rows) for month, rows in HISTORY.items()})
    told = not_passed(found)
    assert expected.items() <= told.items()
    own = {check.partition("(")[2] for check in expected}
    assert all(check.partition("(")[2] in own for check in told), told
    for check in expected:
        assert found[check].against_baseline
        assert found[check].kind == "change"
        assert where.removeprefix("a ") in (found[check].found or "")


def test_resampled_tables_raise_no_alarm(project: Project) -> None:
    for seed in range(5, 12):
        now = {month: orders(month, seed=seed) for month in (*MONTHS, NEW)}
        assert not_passed(compare(project, HISTORY, now)) == {}


@pytest.mark.parametrize("rows", [1, 4, 12, 40])
def test_a_new_partition_of_few_rows_raises_no_alarm(project: Project, rows: int) -> None:
    for seed in range(30, 36):
        now = {**HISTORY, NEW: orders(NEW, rows=rows, seed=seed)}
        found = not_passed(compare(project, HISTORY, now))
        assert set(found) <= {"range(amount)", "range(pieces)"}  # one row of a few may be the largest ever


def test_a_truncated_month_is_critical_and_says_how_much_is_gone(project: Project) -> None:
    found = compare(project, HISTORY, {**HISTORY, "2024-02": HISTORY["2024-02"].slice(0, 500)})
    lost = found["volume(lost)"]
    assert (lost.status, lost.severity) == ("failed", "critical")
    assert lost.observed == pytest.approx(0.375)
    assert lost.by_partition == {"2024-01": 0, "2024-02": 0.375, "2024-03": 0}
    assert lost.found == "300 accepted rows are gone; 2024-02 lost the most, 37.5 % of its 800 rows."
    gone = compare(project, HISTORY, {month: HISTORY[month] for month in MONTHS[1:]})["volume(lost)"]
    assert (gone.status, gone.observed) == ("failed", 1)


def test_a_few_lost_rows_are_within_the_limit(project: Project) -> None:
    now = {**HISTORY, "2024-02": HISTORY["2024-02"].slice(0, 796)}
    assert compare(project, HISTORY, now)["volume(lost)"].status == "passed"
    assert compare(project, HISTORY, now, lost_rows=0.001)["volume(lost)"].status == "failed"


def test_accepted_months_that_grow_warn_but_the_last_may(project: Project) -> None:
    grown = orders("2024-02", rows=850)
    assert not_passed(compare(project, HISTORY, {**HISTORY, "2024-02": grown})) == {"volume(gained)": "warned"}
    assert not_passed(compare(project, HISTORY, {**HISTORY, "2024-03": orders("2024-03", rows=850)})) == {}


@pytest.mark.parametrize(("rows", "status"), [(100, "warned"), (800, "passed"), (2000, "passed"), (3000, "warned")])
def test_new_partitions_have_about_as_many_rows_as_usual(project: Project, rows: int, status: str) -> None:
    now = {**HISTORY, NEW: orders(NEW, rows=rows), "2024-05": orders("2024-05")}
    volume = compare(project, HISTORY, now)["volume(new)"]
    assert volume.status == status
    assert volume.by_partition[NEW] == rows


def test_the_newest_partition_may_have_few_rows_since_it_is_not_over(project: Project) -> None:
    assert compare(project, HISTORY, {**HISTORY, NEW: orders(NEW, rows=20)})["volume(new)"].status == "passed"


def test_a_column_that_is_gone_or_of_another_type_is_critical_and_a_new_one_warns(project: Project) -> None:
    def edited(rows: pa.Table) -> pa.Table:
        less = rows.drop_columns(["is_gift"])
        retyped = setting(less, pieces=less["pieces"].cast(pa.float64()).combine_chunks())
        return retyped.append_column("shop", pa.array(["here"] * rows.num_rows))

    found = compare(project, HISTORY, {month: edited(rows) for month, rows in HISTORY.items()})
    assert not_passed(found) == {"schema": "failed", "schema(new)": "warned"}
    assert found["schema"].found == "is_gift is gone; pieces was int64 and is double."
    assert found["schema"].severity == "critical"
    assert "drift(pieces)" not in found
    only_new = compare(project, HISTORY, {**HISTORY, NEW: edited(orders(NEW))})
    told = str(only_new["schema"].found)
    assert told.startswith(f"is_gift is gone from {NEW} of {len(HISTORY) + 1} partitions; pieces was int64 and is")
    assert only_new["schema"].status == "failed"


def test_rows_outside_of_the_accepted_extremes_are_found_and_are_a_warning_for_features(project: Project) -> None:
    now = {**HISTORY, NEW: with_huge_orders(orders(NEW))}
    found = compare(project, HISTORY, now)["range(pieces)"]
    assert {name: rows.tolist() for name, rows in found.rows.items()} == {NEW: list(range(0, 800, 30))}
    assert found.unexpected == 27
    view = {
        name: rows.rename_columns(["order_id", "event_timestamp", *rows.column_names[2:]]) for name, rows in now.items()
    }
    of_view = {name: view[name] for name in MONTHS}
    assert compare(project, of_view, view, "features/kind")["range(pieces)"].status == "warned"
    loose = compare(project, of_view, view, "features/kind", out_of_range=0.04)["range(pieces)"]
    assert loose.status == "passed"


def test_columns_that_grow_by_their_nature_are_only_noted(project: Project) -> None:
    now = {**HISTORY, NEW: shifted(orders(NEW))}
    assert not_passed(compare(project, HISTORY, now, growing=["amo*"], out_of_range=0)) == {
        "drift(amount)": "noted",
        "range(amount)": "noted",
    }


def test_a_training_set_has_one_warning_for_all_its_columns(project: Project) -> None:
    found = compare(project, HISTORY, {**HISTORY, NEW: shifted(late(orders(NEW)))}, "training/fraud")
    assert not_passed(found) == {"drift": "warned", "drift(amount)": "noted", "drift(paid_at)": "noted"}
    assert "2 of 7 columns drifted, most of all paid_at (PSI" in (found["drift"].found or "")


def test_a_new_value_is_told_by_name_only_if_it_repeats(project: Project) -> None:
    rows = orders(NEW)
    kinds = rows["kind"].to_pylist()
    kinds[:12] = ["lamp"] * 12
    kinds[12:16] = [f"call me at 555-000{number}" for number in range(4)]
    found = compare(project, HISTORY, {**HISTORY, NEW: setting(rows, kind=kinds)})["categories(kind)"]
    assert found.arguments["new"] == {"lamp": 12}
    assert found.arguments["rare"] == 4
    assert found.observed == 0.02
    assert "555" not in str(found)


def test_a_column_of_categories_that_fills_with_names_is_told_without_them(project: Project) -> None:
    rows = orders(NEW)
    found = compare(project, HISTORY, {**HISTORY, NEW: setting(rows, kind=rows["order_id"].to_pylist())})
    assert found["categories(kind)"].status == "warned"
    assert found["categories(kind)"].observed == 1
    assert NEW + "-0" not in str(found["categories(kind)"])


def test_every_comparison_says_what_it_found_and_what_it_can_see(project: Project) -> None:
    found = compare(project, HISTORY, {**HISTORY, NEW: orders(NEW)})
    assert {name.partition("(")[0] for name in found} == {
        "drift", "nulls", "categories", "cardinality", "range", "volume", "schema",
    }  # fmt: skip
    for check in found.values():
        assert check.found, check.check
        assert check.detects, check.check
        assert check.why
    drift = found["drift(amount)"]
    assert set(drift.by_partition) == {*MONTHS, NEW}
    assert "a mean of values that moved by 0." in (drift.detects or "")
    assert "a share of 'false' of" in (found["drift(is_gift)"].detects or "")


def test_nothing_is_said_of_columns_of_which_nothing_can_be_said(project: Project) -> None:
    few = {month: orders(month, rows=3) for month in MONTHS}
    found = compare(project, few, {**few, NEW: orders(NEW, rows=3)})
    assert {name.partition("(")[0] for name in found} <= {"volume", "schema", "range", "nulls", "cardinality"}
    assert "nulls(pieces)" not in found
    assert "range(buyer)" not in found


def test_rows_without_a_time_are_neither_a_new_month_nor_a_lost_one(project: Project) -> None:
    undated = orders("2024-01", rows=90)
    accepted = Entry.of(measure(project, {**HISTORY, "undated": undated}), "2024-02", data_version="", verdict="passed")
    assert list(accepted.rows) == ["2024-01", "2024-02", "undated"]
    files = put(project, "events", {**HISTORY, "undated": undated.slice(0, 20)})
    checks = change_checks("events", profile_of(project, "events", files), accepted, ChangeParams(), files)
    assert [check.check for check in checks if check.status != "passed"] == []


def test_rows_without_a_time_that_turn_up_are_no_new_month(project: Project) -> None:
    found = compare(project, HISTORY, {**HISTORY, "undated": shifted(orders("2024-01", rows=5000))})
    assert not_passed(found) == {}
    assert "volume(new)" not in found


def test_without_a_baseline_one_note_says_how_to_accept_one(project: Project) -> None:
    files = put(project, "events", HISTORY)
    (check,) = change_checks("events", profile_of(project, "events", files), None, ChangeParams(), files)
    assert (check.check, check.severity, check.status) == ("baseline", "info", "noted")
    assert "`weakfish accept-baseline`" in check.why


def test_a_table_without_expectations_is_compared_with_the_baseline_only(project: Project) -> None:
    put(project, "events", HISTORY)
    (project.root / "validation/events.py").unlink()
    verdict = validate(project, "events")
    assert ([check.check for check in verdict.checks], verdict.verdict) == (["clock(placed_at)", "baseline"], "passed")


def test_the_same_tables_give_the_same_checks(project: Project) -> None:
    now = {**HISTORY, NEW: shifted(orders(NEW))}
    assert str(compare(project, HISTORY, now)) == str(compare(project, HISTORY, now))


def test_a_value_or_two_outside_of_what_was_accepted_are_no_alarm(project: Project) -> None:
    def new_month(rows: int, kinds: list[str]) -> dict[str, pa.Table]:
        few = with_huge_orders(orders(NEW, rows=rows))
        return {**HISTORY, NEW: setting(few, kind=kinds)}

    for rows, kinds in ((1, ["lamp"]), (2, ["lamp", "desk"]), (12, ["lamp", *["book"] * 11])):
        assert not_passed(compare(project, HISTORY, new_month(rows, kinds))) == {}, rows
    many = compare(project, HISTORY, new_month(40, ["lamp"] * 10 + ["book"] * 30))
    assert not_passed(many)["categories(kind)"] == "warned"


def test_columns_that_grow_do_not_count_as_drifted_in_a_training_set(project: Project) -> None:
    now = {**HISTORY, NEW: shifted(late(orders(NEW)))}
    found = compare(project, HISTORY, now, "training/fraud", growing=["amount", "paid_at"])
    assert not_passed(found) == {"drift(amount)": "noted", "drift(paid_at)": "noted"}
    assert found["drift"].found == "0 of 5 columns drifted."


@pytest.mark.parametrize(("table", "status"), [("events", "warned"), ("features/kind", "noted"), ("labels/x", "noted")])
def test_a_column_that_the_team_added_is_noted_and_one_that_the_events_bring_warns(
    project: Project, table: str, status: str
) -> None:
    now = {month: rows.append_column("shop", pa.array(["here"] * rows.num_rows)) for month, rows in HISTORY.items()}
    assert not_passed(compare(project, HISTORY, now, table)) == {"schema(new)": status}


def test_a_change_after_an_edit_of_the_team_says_so(project: Project) -> None:
    files = put(project, "features/kind", {**HISTORY, NEW: shifted(orders(NEW))})
    accepted = Entry.of(measure(project, HISTORY), None, data_version="", verdict="passed")
    profile = profile_of(project, "features/kind", files)
    for edited in ([], ["feature_repo/transforms.py"]):
        checks = change_checks("features/kind", profile, accepted, ChangeParams(), files, edited)
        drift = next(check for check in checks if check.check == "drift(amount)")
        said = "The team's own edit may be why: feature_repo/transforms.py was edited since the baseline."
        assert str(drift.found).endswith(said) is bool(edited)
        assert not any(said in str(check.found) for check in checks if check.status == "passed")
