"""The gate by hand: what it says of one table or of all, that it changes nothing; and a stricter gate of DVC."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from projects import contents
from verdicts import NOTED, PASSED, WARNED, judged, labels, run

from weakfish.contracts.gate import gate_file
from weakfish.contracts.ledgers import read_runs
from weakfish.contracts.verdicts import verdict_file
from weakfish.errors import CheckFailed, TableError, UnknownName
from weakfish.project.paths import Project


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    return judged(tmp_path, monkeypatch)


def test_a_gate_without_a_table_looks_at_all_and_changes_nothing(project: Project) -> None:
    before = contents(project.root)
    assert run("gate").exit_code == 0
    strict = run("gate", "--fail-on", "warning")
    assert isinstance(strict.exception, CheckFailed)
    assert strict.exception.exit_code == 1
    assert strict.stdout.splitlines() == [
        "quarantined critical events: not_null(placed_at): 3 rows, value 0.015",
        "warned      warning  labels/fraud: drift(amount): value 0.31, threshold 0.2",
    ]
    assert "2 checks of events, labels/fraud did not hold (--fail-on warning)" in str(strict.exception)
    assert len(run("gate", "--fail-on", "info").stdout.splitlines()) == 3
    one = run("gate", "labels/fraud", "--fail-on", "warning")
    assert isinstance(one.exception, CheckFailed)
    assert len(one.stdout.splitlines()) == 1
    assert contents(project.root) == before


def test_a_gate_speaks_json(project: Project) -> None:
    said = json.loads(run("gate", "--fail-on", "warning", "--json").stdout)
    assert {name: said[name] for name in ("fail_on", "verdict", "tables", "outdated")} == {
        "fail_on": "warning",
        "verdict": "warned",
        "tables": {"events": "warned", "labels/fraud": "warned"},
        "outdated": [],
    }
    assert [(found["table"], found["check"]) for found in said["checks"]] == [
        ("events", "not_null(placed_at)"),
        ("labels/fraud", "drift(amount)"),
    ]


def test_a_gate_by_hand_fails_on_a_verdict_about_other_data(project: Project) -> None:
    labels(project, PASSED)
    assert run("gate").exit_code == 0
    pq.write_table(pa.table({"order_id": ["b"]}), project.table("labels/fraud") / "2024-01.parquet")
    result = run("gate", "--json")
    assert isinstance(result.exception, CheckFailed)
    assert "The verdict on labels/fraud is about different data" in str(result.exception)
    assert json.loads(result.stdout)["outdated"] == ["labels/fraud"]


def test_a_gate_without_verdicts_or_with_a_wrong_name_says_so(project: Project) -> None:
    wrong = run("gate", "labels/fruad", "--fail-on", "info").exception
    assert isinstance(wrong, UnknownName)
    assert "did you mean 'labels/fraud'" in str(wrong)
    for table in ("events", "labels/fraud"):
        verdict_file(project, table).unlink()
    for arguments in (("gate",), ("gate", "events")):
        nothing = run(*arguments).exception
        assert isinstance(nothing, TableError)
        assert (
            str(nothing) == "Nothing has been validated in this project yet, so there is no gate; run `weakfish run`."
        )
    assert not (project.root / ".weakfish/runs/gate_events.json").exists()


def test_dvc_may_run_a_stricter_gate(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    labels(project, PASSED, WARNED)
    monkeypatch.setenv("DVC_STAGE", "gate_labels@fraud")
    assert isinstance(run("gate", "labels/fraud", "--fail-on", "warning").exception, CheckFailed)
    assert not gate_file(project, "labels/fraud").exists()
    assert read_runs(project)["gate_labels@fraud"].exit_code == 1
    assert (project.reports / "index.html").exists()
    labels(project, PASSED, NOTED)
    assert run("gate", "labels/fraud", "--fail-on", "warning").exit_code == 0
    assert gate_file(project, "labels/fraud").exists()
