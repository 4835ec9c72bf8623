"""The `features` verb on the tiny project: what it writes, walks forward by, repeats, and refuses."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from in_process import run_here
from projects import BIN, clone, command, contents, replace, tiny, weakfish, write
from stores import python

from weakfish.contracts.tables import TIME, read_partition, read_table
from weakfish.project.paths import Project

STAGES = (["ingest"], ["validate", "events"], ["accept"], ["vote"], ["features"])
TRANSFORMS = "feature_repo/transforms.py"


def run(root: Path, *stages: list[str]) -> None:
    for stage in stages:
        result = weakfish(root, *stage)
        assert result.returncode == 0, result.stderr


def project(root: Path, orders: int = 30, days: int = 2) -> Path:
    """The tiny project with so many orders, so many days apart."""
    tiny(root)
    replace(root / "sources/orders.py", "range(30)", f"range({orders})")
    replace(root / "sources/orders.py", "range(0, 30, 7)", f"range(0, {orders}, 7)")
    replace(root / "sources/orders.py", "days=2 * number", f"hours={24 * days} * number")
    return root


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """270 orders, one a day, so that three months have enough before them to know labels; by processes of their own."""
    root = project(tmp_path_factory.mktemp("features") / "orders", 270, 1)
    run(root, *STAGES)
    return root


def test_rows_have_their_boundary_as_both_times_and_declared_types(done: Path) -> None:
    rows = read_table(done / "data/features/kind_activity")
    assert rows.schema.equals(
        pa.schema(
            [
                ("note", pa.string()),
                ("event_timestamp", TIME),
                ("created", TIME),
                ("orders_7d", pa.int64()),
                ("amount_mean_7d", pa.float64()),
                ("fraud_share", pa.float64()),
                ("last_seen_at", TIME),
            ]
        )
    )
    assert rows["created"].equals(rows["event_timestamp"])
    keys = list(zip(rows["event_timestamp"].to_pylist(), rows["note"].to_pylist(), strict=True))
    assert keys == sorted(set(keys))
    assert all((time.minute, time.second, time.microsecond) == (0, 0, 0) for time, _ in keys)


def test_the_manifest_says_what_made_the_rows_and_how_far_they_reach(done: Path) -> None:
    manifest = json.loads((done / "data/features/kind_activity.manifest.json").read_text())
    rows = read_table(done / "data/features/kind_activity")
    last = pc.max(read_table(done / "data/events")["placed_at"]).as_py()
    assert manifest["rows"] == rows.num_rows == sum(part["rows"] for part in manifest["partitions"].values())
    assert list(manifest["columns"]) == sorted(rows.column_names)
    assert manifest["features"] == rows.column_names[3:]
    assert manifest["as_of"] == last.isoformat() >= max(rows["event_timestamp"].to_pylist()).isoformat()
    ledger = json.loads((done / "reports/ledger/features.json").read_text())
    assert (ledger["rows_in"], ledger["rows_out"]) == (read_table(done / "data/events").num_rows, rows.num_rows)


def test_labels_are_known_a_delay_after_their_events_from_earlier_months_alone(done: Path) -> None:
    sizes = {}
    for file in sorted((done / "data/known_labels/fraud").iterdir()):
        known = read_partition(file)
        sizes[file.stem] = known.num_rows
        assert all(through < file.stem for through in known["fitted_through"].to_pylist())
        delays = pc.subtract(known["known_at"], known["placed_at"]).unique().to_pylist()
        assert [delay.total_seconds() for delay in delays] in ([], [24 * 3600])
        total = pc.add(known["p_fine"], known["p_fraud"]).to_pylist()
        assert total == pytest.approx([1.0] * known.num_rows)
    # 119 orders lie before May; the last order is of September 26
    assert [month for month, size in sizes.items() if not size] == ["2024-01", "2024-02", "2024-03", "2024-04"]
    assert sizes["2024-05"] == 31


def test_the_share_of_known_labels_is_their_mean_at_the_last_row(done: Path) -> None:
    events = {row["order_id"]: row["note"] for row in read_table(done / "data/events").to_pylist()}
    row = [row for row in read_table(done / "data/features/kind_activity").to_pylist() if row["note"] == "book"][-1]
    known = [
        label["p_fraud"]
        for label in read_table(done / "data/known_labels/fraud").to_pylist()
        if events[label["order_id"]] == "book" and label["known_at"] < row["event_timestamp"]
    ]
    assert known
    assert row["fraud_share"] == pytest.approx(sum(known) / len(known), abs=1e-6)


def test_a_staged_event_that_was_not_accepted_moves_no_clock(done: Path) -> None:
    before = contents(done / "data/features")
    last = sorted((done / "data/events").glob("*.parquet"))[-1]
    far = done / "data/staged/2099-01.parquet"
    late = pq.read_table(last)
    times = pa.array([datetime(2099, 1, 1, tzinfo=UTC)] * late.num_rows, TIME)
    pq.write_table(late.set_column(late.column_names.index("placed_at"), "placed_at", times), far)
    try:
        run_here(done, ["features", "--despite-gate", "a wrong clock"])
    finally:
        far.unlink()
    assert contents(done / "data/features") == before


def test_later_events_and_votes_leave_known_labels_and_rows_that_stood(done: Path, tmp_path: Path) -> None:
    root = project(tmp_path / "orders", 290, 1)
    run_here(root, *STAGES)
    for table in ("known_labels/fraud", "features/kind_activity"):
        before, after = contents(done / "data" / table), contents(root / "data" / table)
        whole = sorted(before)[:-1]  # the last month goes on
        assert len(whole) == 8
        assert {month: after[month] for month in whole} == {month: before[month] for month in whole}


def test_the_same_project_gives_the_same_bytes(done: Path, tmp_path: Path) -> None:
    root = project(tmp_path / "orders", 270, 1)
    run_here(root, *STAGES)
    for table in ("known_labels", "features"):
        assert contents(root / "data" / table) == contents(done / "data" / table)


def test_an_edited_transform_gives_the_rows_that_it_gives_without_what_was_computed_before(tmp_path: Path) -> None:
    root = project(tmp_path / "orders")
    run_here(root, *STAGES)
    before = contents(root / "data/features")
    replace(root / TRANSFORMS, "days=7", "days=8")
    run_here(root, ["features"])
    edited = contents(root / "data/features")
    shutil.rmtree(root / ".weakfish/cache/features")
    run_here(root, ["features"])
    assert contents(root / "data/features") == edited != before


def test_without_history_no_label_is_known_and_shares_are_null(tmp_path: Path) -> None:
    root = project(tmp_path / "orders")
    run_here(root, *STAGES)
    assert read_table(root / "data/known_labels/fraud").num_rows == 0
    rows = read_table(root / "data/features/kind_activity")
    assert rows["fraud_share"].null_count == rows.num_rows > 0


def test_features_read_no_labels(done: Path) -> None:
    assert not (done / "data/labels").exists()


@pytest.mark.parametrize(
    ("module", "message"),
    [
        ("", "defines no views"),
        ("@transform(entity='note')\ndef kind(past):\n    return 1 / 0\n", "View 'kind' raised ZeroDivisionError"),
        ("@transform(entity='note', name='a view')\ndef kind(past): ...\n", "View 'a view'"),
        ("raise OSError('gone')\n", "cannot be imported: OSError: gone"),
    ],
)
def test_a_wrong_transform_stops_the_stage_with_one_sentence_and_leaves_the_old_rows(
    done: Path, module: str, message: str
) -> None:
    before, kept = contents(done / "data"), (done / TRANSFORMS).read_bytes()
    write(done / TRANSFORMS, f"from weakfish.features import transform\n{module}")
    try:
        result = weakfish(done, "features")
    finally:
        (done / TRANSFORMS).write_bytes(kept)
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)
    assert message in result.stderr
    assert contents(done / "data") == before


def test_the_verdict_names_bad_rows_by_entity_and_time(done: Path) -> None:
    write(
        done / "validation/features/kind_activity.py",
        """
        from great_expectations import expectations as gxe

        EXPECTATIONS = [
            gxe.ExpectColumnValuesToBeBetween(column="orders_7d", max_value=0, severity="critical"),
        ]
        """,
    )
    run_here(done, ["validate", "features/kind_activity"])
    verdict = json.loads((done / "reports/validation/features/kind_activity.json").read_text())
    first = read_table(done / "data/features/kind_activity").slice(0, 1).to_pylist()[0]
    assert verdict["checks"][0]["keys"][0] == f"{first['note']}@{first['event_timestamp']:%Y-%m-%d %H:%M:%S.%f}Z"
    assert weakfish(done, "gate", "features/kind_activity").returncode == 1


def test_a_view_has_the_same_fields_before_its_table_is_made_and_after(done: Path, tmp_path: Path) -> None:
    fresh = project(tmp_path / "orders")
    code = "from weakfish.feast.definitions import view_schema; print(view_schema(project, 'kind_activity'))"
    before, after = (python(Project(root), code) for root in (fresh, done))
    assert (before.stdout, before.stderr) == (after.stdout, "")
    assert before.stdout.count("Field(") == 1 + 4
    refused = python(Project(fresh), code.replace("kind_activity", "kinds"))
    assert "transforms.py declares no view 'kinds' (there are: kind_activity)" in refused.stderr


def test_feast_applies_the_definitions_of_a_fresh_clone(tmp_path: Path) -> None:
    root = clone(tmp_path / "clone")
    assert not (root / "data/features").exists()
    applied = command(Path("/"), str(BIN / "feast"), "-c", str(root / "feature_repo"), "apply")
    assert applied.returncode == 0, applied.stderr
    assert (root / "data/registry/registry.db").is_file()
