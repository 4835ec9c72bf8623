"""Rows that failed and come back: repaired, let in as they are, or because the source was mended."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from projects import contents, replace, tiny
from quarantined import DEBT, NO_TIME, check_again, checks, forget, keys, ledger, patch, read_again, rows, spoil

from weakfish.checks.gates import accept
from weakfish.checks.repairs import staged_files
from weakfish.errors import CheckFailed, UserError
from weakfish.project.paths import Project

ORDERS = [f"o{number:02}" for number in range(30)]
MADE = ("data/events", "data/quarantine", "data/masks", "reports/validation", "reports/ledger")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project in which the events were checked and accepted: o00, o07 and o20 are set aside."""
    root = tiny(tmp_path_factory.mktemp("built") / "orders")
    spoil(root)
    read_again(root)
    check_again(root)
    return root


@pytest.fixture
def project(built: Path, tmp_path: Path) -> Path:
    root = Path(shutil.copytree(built, tmp_path / "orders"))
    forget(root)
    return root


def made(root: Path) -> dict[str, dict[str, bytes]]:
    return {folder: contents(root / folder) for folder in MADE}


def test_bad_rows_are_set_aside_with_every_reason(project: Path) -> None:
    aside = {row["order_id"]: row["reasons"] for part in rows(project, "quarantine/events").values() for row in part}
    assert aside == {
        "o00": [f"{DEBT}: Debts are no orders.", f"{NO_TIME}: No time, no place."],
        "o07": [f"{DEBT}: Debts are no orders."],
        "o20": [f"{DEBT}: Debts are no orders."],
    }
    assert keys(project, "events") == [key for key in ORDERS if key not in aside]
    counts = ledger(project)
    assert (counts["rows_in"], counts["rows_out"], counts["quarantined"]) == (30, 27, 3)
    assert (counts["released"], counts["repaired"], counts["patches"]) == (0, 0, [])


def test_a_repaired_time_moves_a_row_into_its_month_where_it_gets_its_votes_and_labels(project: Path) -> None:
    from weakfish.labeling.label import label
    from weakfish.labeling.vote import vote

    february = (project / "data/events/2024-02.parquet").read_bytes()
    patch(project, "time", keys=["o00"], set={"placed_at": "2024-01-04T00:00:00Z", "amount": 250})
    check_again(project)
    assert keys(project, "events")[:3] == ["o01", "o00", "o02"]
    assert keys(project, "quarantine/events") == ["o07", "o20"]
    assert (project / "data/events/2024-02.parquet").read_bytes() == february
    counts = ledger(project)
    assert (counts["rows_in"], counts["rows_out"], counts["quarantined"], counts["repaired"]) == (30, 28, 2, 1)
    assert counts["reasons"] == {DEBT: 2}
    assert [(entry["patch"], entry["rows"]) for entry in counts["patches"]] == [("validation/patches/time.yaml", 1)]

    vote(Project(project))
    label(Project(project))
    january = rows(project, "labels/fraud")["2024-01"]
    assert [row["order_id"] for row in january[:3]] == ["o01", "o00", "o02"]
    assert (january[1]["n_votes"], january[1]["label"]) == (2, "fraud")
    assert pq.read_table(project / "data/votes/fraud/2024-01.parquet")["is_large"][1].as_py() == 1


def test_a_repaired_partition_has_the_bytes_that_a_right_source_would_have_given(project: Path) -> None:
    patch(project, "time", keys=["o00"], set={"placed_at": "2024-01-04T00:00:00Z"})
    patch(project, "amount", keys=["o07", "o20"], set={"amount": 70})
    with staged_files(Project(project), "events") as files:
        repaired = {name: file.read_bytes() for name, file in files.items()}
    replace(project / "sources/orders.py", "7: -7, 20: -20", "7: 70, 20: 70")
    replace(project / "sources/orders.py", "if number else None", "if number else START + timedelta(days=3)")
    read_again(project)
    assert repaired == {file.stem: file.read_bytes() for file in sorted((project / "data/staged").glob("*.parquet"))}


def test_a_repair_rewrites_only_the_partitions_that_it_touches(project: Path) -> None:
    staged = contents(project / "data/staged")
    patch(project, "amount", keys=["o20"], set={"amount": 1})
    with staged_files(Project(project), "events") as files:
        touched = files["2024-02"]
        assert {name: file for name, file in files.items() if name != "2024-02"} == {
            name: project / f"data/staged/{name}.parquet" for name in ("2024-01", "undated")
        }
        assert touched.parent != project / "data/staged"
        assert pq.read_table(touched).schema.equals(pq.read_table(project / "data/staged/2024-02.parquet").schema)
    assert not touched.exists()
    assert not list((project / ".weakfish/tmp").glob("repairs-*"))
    assert contents(project / "data/staged") == staged


def test_without_repairs_the_staged_files_are_used_as_they_lie(project: Path) -> None:
    patch(project, "waiver", rule=DEBT)
    with staged_files(Project(project), "events") as files:
        assert files == {file.stem: file for file in (project / "data/staged").glob("*.parquet")}
        assert list(files) == ["2024-01", "2024-02", "undated"]


def test_a_row_can_be_moved_into_a_month_that_had_none(project: Path) -> None:
    patch(project, "time", keys=["o00", "o01"], set={"placed_at": "2023-07-01T00:00:00Z", "amount": 5})
    check_again(project)
    assert [row["order_id"] for row in rows(project, "events")["2023-07"]] == ["o00", "o01"]
    assert keys(project, "events")[:3] == ["o00", "o01", "o02"]
    assert ledger(project)["repaired"] == 2


def test_a_repaired_row_that_still_fails_stays_aside(project: Path) -> None:
    patch(project, "time", keys=["o00"], set={"placed_at": "2024-01-04T00:00:00Z"})
    check_again(project)
    assert keys(project, "quarantine/events") == ["o00", "o07", "o20"]
    assert ledger(project)["reasons"] == {DEBT: 3}


def test_a_waiver_lets_in_exactly_the_rows_that_it_names(project: Path) -> None:
    patch(project, "waiver", keys=["o07"], release=[DEBT])
    check_again(project)
    assert keys(project, "quarantine/events") == ["o20", "o00"]
    assert rows(project, "events")["2024-01"][6]["amount"] == -7
    found = checks(project)[DEBT]
    assert (found["status"], found["unexpected"], found["released"], found["keys"]) == (
        "quarantined",
        3,
        1,
        ["o20", "o00"],
    )
    counts = ledger(project)
    assert (counts["rows_out"], counts["quarantined"], counts["released"], counts["repaired"]) == (28, 2, 1, 0)
    assert counts["reasons"] == {DEBT: 2, NO_TIME: 1}


def test_a_check_whose_bad_rows_are_all_let_past_has_passed_and_says_how_many(project: Path) -> None:
    patch(project, "waiver", rule=DEBT)
    check_again(project)
    found = checks(project)[DEBT]
    assert (found["status"], found["unexpected"], found["released"], found["keys"]) == ("passed", 3, 3, [])
    assert keys(project, "quarantine/events") == ["o00"]
    assert ledger(project)["released"] == 2  # o00 is past the debts, and still has no time


def test_a_waiver_for_partitions_ends_with_them(project: Path) -> None:
    patch(project, "waiver", rule=DEBT, partitions=["2024-01"])
    check_again(project)
    assert keys(project, "quarantine/events") == ["o20", "o00"]


def test_rows_let_past_a_check_do_not_count_against_the_limit(project: Path) -> None:
    replace(project / "params.yaml", "max_quarantined_share: 0.25", "max_quarantined_share: 0.05")
    with pytest.raises(CheckFailed, match=r"3 of 30 rows are bad, at most 5\.0 % may be"):
        check_again(project)
    patch(project, "waiver", rule=DEBT)
    check_again(project)
    assert ledger(project)["quarantined"] == 1


def test_taking_a_patch_away_puts_its_rows_back(project: Path) -> None:
    before = made(project)
    files = [
        patch(project, "time", keys=["o00"], set={"placed_at": "2024-01-04T00:00:00Z", "amount": 1}),
        patch(project, "waiver", rule=DEBT),
    ]
    check_again(project)
    assert keys(project, "quarantine/events") == []
    assert made(project) != before
    for file in files:
        file.unlink()
    check_again(project)
    assert made(project) == before


def test_the_same_patches_give_the_same_bytes_wherever_the_project_lies(project: Path, tmp_path: Path) -> None:
    patch(project, "time", keys=["o00"], set={"placed_at": "2024-01-04T00:00:00Z"})
    patch(project, "waiver", keys=["o07"], release=[DEBT])
    other = Path(shutil.copytree(project, tmp_path / "elsewhere/orders"))
    check_again(project)
    first = made(project)
    check_again(project)
    assert made(project) == first
    check_again(other)
    assert made(other) == first


def test_a_mended_source_needs_no_patch_and_says_which_are_idle(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    patch(project, "amount", keys=["o07"], set={"amount": 70})
    patch(project, "waiver", keys=["o20"], release=[DEBT])
    replace(project / "sources/orders.py", "{0: -1, 5: None, 7: -7, 20: -20}", "{5: None}")
    read_again(project)
    check_again(project)
    assert keys(project, "quarantine/events") == ["o00"]
    counts = ledger(project)
    assert (counts["released"], counts["repaired"]) == (0, 0)
    assert {entry["patch"]: entry["rows"] for entry in counts["patches"]} == {
        "validation/patches/amount.yaml": 0,
        "validation/patches/waiver.yaml": 0,
    }
    said = capsys.readouterr().err
    assert "validation/patches/amount.yaml touches no row any more" in said
    assert "validation/patches/waiver.yaml touches no row any more" in said


@pytest.mark.parametrize("change", [{"rule": DEBT}, {"keys": ["o07"], "set": {"amount": 1}}])
def test_patches_that_the_verdict_has_not_seen_open_no_gate(project: Path, change: dict[str, object]) -> None:
    before = made(project)
    patch(project, "late", **change)
    with pytest.raises(CheckFailed, match=r"run `weakfish validate events`\."):
        accept(Project(project))
    assert made(project) == before


def test_a_waiver_cannot_name_a_check_that_is_not_there_or_sets_no_rows_aside(project: Path) -> None:
    file = patch(project, "waiver", keys=["o07"], release=["column_values_to_be_betwen(amount)"])
    with pytest.raises(UserError, match=r"There is no check .*validation/patches/waiver.yaml.*did you mean") as error:
        check_again(project)
    assert DEBT in str(error.value)
    file.unlink()
    patch(project, "waiver", keys=["o05"], release=["column_values_to_not_be_null(amount)"])
    with pytest.raises(UserError, match="quarantines no rows, so it needs no waiver"):
        check_again(project)


def test_copies_of_a_killed_process_are_swept_out_and_those_of_a_live_one_kept(project: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    dead, live = (project / f".weakfish/tmp/repairs-{process}-x" for process in (gone.pid, os.getpid()))
    dead.mkdir(parents=True)
    live.mkdir()
    patch(project, "amount", keys=["o07"], set={"amount": 1})
    with staged_files(Project(project), "events"):
        assert not dead.exists()
        assert live.exists()
