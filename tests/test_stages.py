"""The stages one by one, on the tiny project: what each makes, and that no row is lost on the way."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest
from forks import ended, forked
from in_process import run_here
from projects import command, contents, replace, tiny, weakfish

from weakfish.contracts.tables import TIME, read_table
from weakfish.files import existed
from weakfish.project.runs import sweep, temporary_folder

STAGES = (
    ["ingest"],
    ["validate", "events"],
    ["accept"],
    ["vote"],
    ["label"],
    ["validate", "labels/fraud"],
    ["gate", "labels/fraud"],
)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tiny(tmp_path_factory.mktemp("tiny") / "orders")
    for stage in STAGES:
        result = weakfish(root, *stage)
        assert result.returncode == 0, result.stderr
    return root


def test_events_are_staged_by_month_in_order_without_gold(done: Path) -> None:
    files = sorted(file.name for file in (done / "data/staged").iterdir())
    assert files == ["2024-01.parquet", "2024-02.parquet", "undated.parquet"]
    staged = read_table(done / "data/staged")
    assert staged.column_names == ["order_id", "placed_at", "amount", "note"]
    assert staged.schema.field("placed_at").type == TIME
    assert staged["order_id"].to_pylist() == [f"o{number:02}" for number in [*range(1, 30), 0]]


def test_gold_is_split_at_the_split_time_and_undated_gold_kept_apart(done: Path) -> None:
    dev, test = read_table(done / "data/gold/dev/fraud"), read_table(done / "data/gold/test/fraud")
    known = [number for number in range(1, 30) if number % 3 != 2]
    assert dev["order_id"].to_pylist() == [f"o{number:02}" for number in known if number < 16]
    assert test["order_id"].to_pylist() == [f"o{number:02}" for number in known if number >= 16]
    assert read_table(done / "data/gold/undated/fraud").to_pylist() == [{"order_id": "o00", "label": "fine"}]


def test_staged_is_accepted_plus_quarantined_with_every_reason(done: Path) -> None:
    staged, events = read_table(done / "data/staged"), read_table(done / "data/events")
    aside = read_table(done / "data/quarantine/events")
    assert staged.num_rows == 30 == events.num_rows + aside.num_rows
    assert aside["order_id"].to_pylist() == ["o00"]
    assert aside["reasons"].to_pylist() == [["column_values_to_not_be_null(placed_at): No time, no place."]]
    ledger = json.loads((done / "reports/ledger/accept.json").read_text())
    assert ledger["reasons"] == {"column_values_to_not_be_null(placed_at)": 1}


def test_a_partition_without_bad_rows_keeps_its_bytes(done: Path) -> None:
    for month in ("2024-01", "2024-02"):
        assert (done / f"data/events/{month}.parquet").read_bytes() == (
            done / f"data/staged/{month}.parquet"
        ).read_bytes()


def test_a_verdict_is_canonical_and_names_rows_by_key(done: Path) -> None:
    file = done / "reports/validation/events.json"
    before = file.read_bytes()
    assert weakfish(done, "validate", "events").returncode == 0
    assert file.read_bytes() == before
    verdict = json.loads(before)
    found = {check["check"]: (check["status"], check["keys"]) for check in verdict["checks"]}
    assert verdict["verdict"] == "warned"
    assert found == {
        "baseline": ("noted", []),
        "clock(placed_at)": ("passed", []),
        "column_values_to_be_between(amount)": ("passed", []),
        "column_values_to_not_be_null(amount)": ("warned", ["o05"]),
        "column_values_to_not_be_null(placed_at)": ("quarantined", ["o00"]),
    }


def test_votes_stand_in_the_order_of_the_events(done: Path) -> None:
    events = read_table(done / "data/events")
    expected = [1 if amount is not None and amount > 200 else -1 for amount in events["amount"].to_pylist()]
    assert read_table(done / "data/votes/fraud")["is_large"].to_pylist() == expected
    books = [0 if note == "book" else -1 for note in events["note"].to_pylist()]
    assert read_table(done / "data/votes/fraud")["is_a_book"].to_pylist() == books


def test_labels_hold_probabilities_of_both_models_and_say_what_is_covered(done: Path) -> None:
    labels = read_table(done / "data/labels/fraud")
    names = ["p_fine", "p_fraud", "majority_fine", "majority_fraud", "covered", "n_votes", "label"]
    assert labels.column_names == ["order_id", "placed_at", *names]
    for row in labels.to_pylist():
        assert row["p_fine"] + row["p_fraud"] == pytest.approx(1)
        assert row["covered"] == (row["n_votes"] > 0) == (row["label"] is not None)
    assert pq.read_schema(done / "data/labels/fraud/2024-01.parquet").field("placed_at").type == TIME


def test_an_order_without_votes_has_the_class_balance(done: Path, tmp_path: Path) -> None:
    root = tiny(tmp_path / "orders")
    replace(root / "params.yaml", "[0.5, 0.5]", "[0.7, 0.3]")
    replace(
        root / "labeling_functions/orders.py", 'order.note == "book"', 'order.note == "book" and order.amount != 110'
    )
    run_here(root, *STAGES[:5])
    labels = {row["order_id"]: row for row in read_table(root / "data/labels/fraud").to_pylist()}
    row = labels["o11"]
    assert (row["covered"], row["n_votes"], row["label"]) == (False, 0, None)
    assert (row["p_fine"], row["p_fraud"]) == (pytest.approx(0.7), pytest.approx(0.3))


def test_the_manifest_says_what_made_the_labels(done: Path) -> None:
    manifest = json.loads((done / "data/labels/fraud.manifest.json").read_text())
    assert set(manifest["functions"]) == {"buys_gift_cards", "is_large", "is_small", "is_a_book"}
    (model,) = manifest["models"]
    assert (model["fitted_through"], model["partitions"], model["rows"]) == ("2024-02", ["2024-01", "2024-02"], 29)
    assert (len(model["mu"]), len(model["weights"]), manifest["method"]) == (8, 4, "snorkel")
    assert set(manifest["events"]) == {"2024-01", "2024-02"}
    assert manifest["settings"]["label_model"]["seed"] == 1


def test_the_summary_agrees_with_snorkels_own_analysis(done: Path) -> None:
    import numpy as np
    from snorkel.labeling import LFAnalysis

    summary = json.loads((done / "reports/labeling_functions.json").read_text())["tasks"]["fraud"]
    votes = read_table(done / "data/votes/fraud")
    columns = [votes[function["name"]].to_numpy() for function in summary["functions"]]
    analysis = LFAnalysis(np.stack(columns, axis=1).astype(float))
    assert [f["coverage"] for f in summary["functions"]] == pytest.approx(list(analysis.lf_coverages()))
    assert [f["overlaps"] for f in summary["functions"]] == pytest.approx(list(analysis.lf_overlaps()))
    assert [f["conflicts"] for f in summary["functions"]] == pytest.approx(list(analysis.lf_conflicts()))


def test_labels_do_not_depend_on_raw_or_gold(done: Path, tmp_path: Path) -> None:
    import shutil

    root = tmp_path / "copy"
    shutil.copytree(done, root)
    before = {table: contents(root / "data" / table) for table in ("votes", "labels")}
    for table in ("gold", "staged", "votes", "labels"):
        shutil.rmtree(root / "data" / table)
    run_here(root, ["vote"], ["label"])
    assert {table: contents(root / "data" / table) for table in ("votes", "labels")} == before


@pytest.mark.parametrize(
    ("partition", "names"),
    [("day", [f"2024-01-{day:02}" for day in range(3, 32, 2)][:3]), ("year", ["2024", "undated"])],
)
def test_a_partition_may_be_a_day_or_a_year_and_labels_are_the_same(
    done: Path, tmp_path: Path, partition: str, names: list[str]
) -> None:
    root = tiny(tmp_path / "orders")
    replace(root / "params.yaml", "time: placed_at", f"time: placed_at\n  partition: {partition}")
    run_here(root, *STAGES)
    staged = sorted(file.stem for file in (root / "data/staged").iterdir())
    assert staged[: len(names)] == names
    assert len(staged) == {"day": 30, "year": 2}[partition]
    labels, by_month = (read_table(folder / "data/labels/fraud").sort_by("order_id") for folder in (root, done))
    assert labels == by_month


def test_a_number_that_another_process_has_now_is_of_a_process_that_has_ended(tmp_path: Path) -> None:
    """Process 1 is another user's where tests do not run as root: it cannot be signalled, and lives."""
    init = psutil.Process(1).create_time()
    assert (existed(1, init + 10), existed(1, init - 10)) == (True, False)
    assert (existed(os.getpid(), time.time()), existed(os.getpid(), init - 10)) == (True, False)
    assert not existed(2**40, time.time())
    for name, written in (("a-1-x", init - 10), (f"b-{os.getpid()}-x", 0.0), ("c-1-x", time.time()), ("notes", 0.0)):
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, (written, written))
    sweep(tmp_path)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["c-1-x", "notes"]


def test_what_feast_keeps_of_a_killed_process_goes_with_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tiny(tmp_path / "orders")
    code = "import os, weakfish.feast.registry; print(os.environ['PROMETHEUS_MULTIPROCESS_DIR'], flush=True); "
    environment = {"TMPDIR": str(tmp_path / "system"), "PYTHONSAFEPATH": "1"}
    monkeypatch.delenv("PROMETHEUS_MULTIPROCESS_DIR", raising=False)  # of this process, which may have imported Feast
    (tmp_path / "system").mkdir()
    killed = command(root, sys.executable, "-c", code + "os.kill(os.getpid(), 9)", **environment)
    left = Path(killed.stdout.strip())
    assert left.is_dir()
    assert left.parent == root / ".weakfish/tmp"
    ended_well = command(root, sys.executable, "-c", code, **environment)
    assert Path(ended_well.stdout.strip()).parent == root / ".weakfish/tmp"
    assert list((root / ".weakfish/tmp").iterdir()) == []
    assert list((tmp_path / "system").glob("*feast*")) == []


def test_temporary_folders_of_killed_processes_go_and_those_of_living_ones_stay(tmp_path: Path) -> None:
    gone = forked(lambda: None)
    assert ended(gone) == 0
    for process in (gone, os.getpid()):
        (tmp_path / f"spill-{process}-x").mkdir()
    with temporary_folder(tmp_path, "spill") as folder:
        assert folder.parent == tmp_path
        assert {each.name for each in tmp_path.iterdir()} == {f"spill-{os.getpid()}-x", folder.name}
    assert not folder.exists()
