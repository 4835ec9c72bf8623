"""The accepted baseline: what goes into it, what is refused, what moved, and its history in git."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from changes import MONTHS, judge, orders, put
from click.testing import CliRunner
from projects import git, tiny

from weakfish.checks import gates
from weakfish.checks.accept import accept_baseline
from weakfish.checks.baseline import AcceptedRevision, Baseline, revisions
from weakfish.checks.gates import verdict_of
from weakfish.checks.reported import data_version
from weakfish.cli.main import cli
from weakfish.contracts.ledgers import run_file
from weakfish.contracts.verdicts import Check, Status, verdict_file, write_verdict
from weakfish.errors import CheckFailed, UnknownName, UserError
from weakfish.files import read_json, write_json
from weakfish.project.paths import Project
from weakfish.project.runs import run_recorded

HISTORY = {month: orders(month, rows=300) for month in MONTHS}
TABLES = ("events", "labels/fraud")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project whose two tables have verdicts on what lies there."""
    project = Project(tiny(tmp_path / "orders"))
    for table in TABLES:
        put(project, table, HISTORY)
        judge(project, table)
    return project


def edit(file: Path, change: Callable[[dict], None]) -> None:
    content = read_json(file)
    change(content)
    write_json(file, content)


def failing(by_baseline: bool, status: Status = Status.FAILED, severity: str = "critical") -> Check:
    why = "So be it."
    return Check("values_hold(amount)", "values_hold", severity, why, status, against_baseline=by_baseline)


def record(project: Project, stage: str, code: int | None) -> None:
    times = {"started_at": "2026-01-01T00:00:00+00:00", "finished_at": None}
    write_json(run_file(project, stage), {"stage": stage, **times, "exit_code": code, "message": "m", "seconds": 1.0})


def test_what_was_judged_is_accepted_and_compares_as_unchanged(project: Project) -> None:
    moves = {move.table: move for move in accept_baseline(project)}
    assert {table: (move.state, move.rows) for table, move in moves.items()} == dict.fromkeys(TABLES, ("new", 900))
    for table in TABLES:
        verdict = judge(project, table)
        assert {check.check for check in verdict.checks if check.status != "passed"} == set()
        assert "drift(amount)" in {check.check for check in verdict.checks}
        entry = Baseline.read(project).table(table)
        assert entry is not None
        assert (entry.data_version, entry.through, entry.rows) == (
            verdict.data_version,
            None,
            dict.fromkeys(MONTHS, 300),
        )


def test_accepting_twice_gives_the_same_bytes_and_says_so(project: Project) -> None:
    accept_baseline(project)
    first = project.baseline.read_bytes()
    assert {move.state for move in accept_baseline(project)} == {"same"}
    assert project.baseline.read_bytes() == first
    judge(project)
    accept_baseline(project, ["events"])
    again = project.baseline.read_bytes()
    judge(project)
    accept_baseline(project, ["events"])
    assert project.baseline.read_bytes() == again


def test_later_partitions_stay_new_when_accepted_only_through_one(project: Project) -> None:
    accept_baseline(project, through="2024-02")
    entry = Baseline.read(project).tables["events"]
    assert (entry.through, list(entry.rows)) == ("2024-02", ["2024-01", "2024-02"])
    assert entry.columns["amount"].rows == 600
    checks = {check.check: check for check in judge(project).checks}
    assert set(checks["drift(amount)"].arguments["compared"]) == {
        "new partitions",
        "accepted partitions as they are now",
    }


def test_only_the_tables_that_are_named_are_accepted(project: Project) -> None:
    accept_baseline(project)
    for table in TABLES:
        put(project, table, {**HISTORY, "2024-04": orders("2024-04", rows=300)})
        judge(project, table)
    assert [move.table for move in accept_baseline(project, ["labels/fraud"])] == ["labels/fraud"]
    rows = {name: sum(entry.rows.values()) for name, entry in Baseline.read(project).tables.items()}
    assert rows == {"events": 900, "labels/fraud": 1200}


def test_what_moved_is_told_with_the_columns_that_moved_most(project: Project) -> None:
    accept_baseline(project)
    kinds = orders("2024-04", rows=600)
    moved = kinds.set_column(4, "pieces", kinds["pieces"].take(list(range(599, -1, -1)))).drop_columns(["kind"])
    moved = moved.append_column("kind", [["book"] * 600])
    put(project, "events", {**HISTORY, "2024-04": moved})
    judge(project)
    (move,) = accept_baseline(project, ["events"])
    assert (move.state, move.rows, move.rows_before) == ("moved", 1500, 900)
    assert move.columns[0][0] == "kind"
    assert ("categories(kind)", None, "warned") in move.checks


@pytest.mark.parametrize(
    ("arguments", "error", "sentence"),
    [
        ((["event"], None), UnknownName, "did you mean 'events'"),
        (([], "2024-07"), UnknownName, "There is no partition '2024-07'"),
        ((["evaluation/fraud"], None), UnknownName, "There is no table with a suite 'evaluation/fraud'"),
    ],
)
def test_unknown_names_are_one_sentence(project: Project, arguments: tuple, error: type, sentence: str) -> None:
    before = project.baseline.read_bytes()
    with pytest.raises(error, match=sentence):
        accept_baseline(project, *arguments)
    assert project.baseline.read_bytes() == before


def lose_a_verdict(project: Project) -> None:
    verdict_file(project, "events").unlink()


def change_the_data(project: Project) -> None:
    put(project, "events", {**HISTORY, "2024-04": orders("2024-04", rows=10)})


def change_the_profile(project: Project) -> None:
    edit(project.profile("events"), lambda content: content.update(data_version="another"))


def fail_a_check(project: Project) -> None:
    judge(project, "labels/fraud", failing(by_baseline=False))


def fail_a_stage(project: Project) -> None:
    record(project, "vote", 2)


def leave_a_stage_at_work(project: Project) -> None:
    record(project, "label", None)


def shut_a_gate_without_a_reason_in_the_baseline(project: Project) -> None:
    record(project, "gate_labels@fraud", 1)


def garble_the_baseline(project: Project) -> None:
    project.baseline.write_text('{"tables": {"events": {"rows": 3}}}')


REFUSALS = {
    "no verdict": (lose_a_verdict, UserError, "no verdict on events yet"),
    "other data": (change_the_data, CheckFailed, "verdict of events is about different data"),
    "another profile": (change_the_profile, CheckFailed, "profile of events is about different data"),
    "a failed check": (fail_a_check, CheckFailed, r"labels/fraud failed for reasons other.*values_hold\(amount\)"),
    "a failed stage": (fail_a_stage, CheckFailed, "Stage vote failed"),
    "a stage at work": (leave_a_stage_at_work, CheckFailed, "Stage label has not ended"),
    "a shut gate": (shut_a_gate_without_a_reason_in_the_baseline, CheckFailed, "Stage gate_labels@fraud failed"),
    "no baseline": (garble_the_baseline, UserError, "is not a baseline.*git checkout"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_nothing_is_accepted_after_a_run_that_failed(project: Project, name: str) -> None:
    spoil, error, sentence = REFUSALS[name]
    spoil(project)
    before = project.baseline.read_bytes()
    with pytest.raises(error, match=sentence):
        accept_baseline(project)
    assert project.baseline.read_bytes() == before


def test_a_gate_shut_by_the_baseline_alone_is_answered_by_accepting(project: Project) -> None:
    accept_baseline(project)
    put(project, "events", {**HISTORY, "2024-02": HISTORY["2024-02"].slice(0, 200)})
    assert judge(project).verdict == "failed"
    with pytest.raises(CheckFailed, match=r"volume\(lost\) failed"):
        run_recorded(project, "accept", gates.accept)
    put(project, "labels/fraud", {"2024-01": HISTORY["2024-01"]})  # was made anew, and never judged
    before = Baseline.read(project).tables["labels/fraud"]
    moves = {move.table: move for move in accept_baseline(project)}
    assert (moves["events"].rows, moves["events"].rows_before) == (800, 900)
    assert moves["labels/fraud"].state == "left"
    assert "about different data" in (moves["labels/fraud"].reason or "")
    assert Baseline.read(project).tables["labels/fraud"].as_json() == before.as_json()
    with pytest.raises(CheckFailed, match="labels/fraud is about different data"):
        accept_baseline(project, ["labels/fraud"])
    assert judge(project).verdict == "passed"
    run_recorded(project, "accept", gates.accept)
    assert sorted(file.stem for file in project.table("events").iterdir()) == list(MONTHS)


def test_a_gate_that_warnings_shut_is_answered_by_accepting_only_if_all_are_of_the_baseline(project: Project) -> None:
    record(project, "gate_labels@fraud", 1)
    warned = failing(True, Status.WARNED, "warning")
    judge(project, "labels/fraud", warned)
    assert accept_baseline(project)
    judge(project, "labels/fraud", warned, replace(failing(False, Status.WARNED, "warning"), check="another"))
    with pytest.raises(CheckFailed, match="Stage gate_labels@fraud failed"):
        accept_baseline(project)


def test_a_check_against_the_baseline_that_could_not_be_run_is_no_difference(project: Project) -> None:
    judge(project, "labels/fraud", replace(failing(by_baseline=True), error="It broke."))
    record(project, "gate_labels@fraud", 1)
    with pytest.raises(CheckFailed):
        accept_baseline(project)


def test_a_value_that_repeats_only_after_the_accepted_partitions_is_not_named(project: Project) -> None:
    named = {}
    for month, times in zip(MONTHS, (4, 4, 20), strict=True):
        kinds = HISTORY[month]["kind"].to_pylist()
        kinds[:times] = ["lamp"] * times
        named[month] = HISTORY[month].set_column(5, "kind", [kinds])
    put(project, "events", named)
    judge(project)
    accept_baseline(project, ["events"], "2024-02")
    assert set(Baseline.read(project).tables["events"].columns["kind"].categories or ()) == {"book", "card", "pen"}
    assert "categories(kind)" in {check.check for check in judge(project).checks if check.status == "warned"}


def test_rules_of_labels_are_accepted_up_to_the_same_partition_and_metrics_as_they_are(project: Project) -> None:
    function = {"votes": [10, 20], "others": [[1, 2], [3, 4], [5, 6]], "conflicts": 1, "settled": 2}
    part = {"rows": 300, "covered": 30, "weighed": 30, "differing": 0, "mean": {"fine": 0.5, "fraud": 0.5}}
    rules = {
        "classes": ["fine", "fraud"],
        "method": "snorkel",
        "signals": {},
        "hashes": {"is_large": "1"},
        "weights": {"is_large": 0.5},
        "by_partition": {month: {**part, "functions": {"is_large": function}} for month in MONTHS},
    }
    edit(project.profile("labels/fraud"), lambda content: content.update(rules=rules))
    measures = {name: {"value": 0.9, "interval": [0.8, 1.0]} for name in ("auc", "coverage", "f1")}
    metrics = {"test_rows": 30, "models": {"label_model": measures}}
    write_json(project.reports / "metrics.json", {"tasks": {"fraud": metrics}})
    write_json(project.reports / "plots/calibration.json", [])
    write_verdict(project, verdict_of("evaluation/fraud", data_version(project), 30, [], None))
    accept_baseline(project, through="2024-02")
    tables = Baseline.read(project).tables
    assert tables["labels/fraud"].rules["partitions"] == {"2024-01": 300, "2024-02": 300}
    assert tables["labels/fraud"].rules["functions"]["is_large"]["votes"] == [20, 40]
    assert tables["evaluation/fraud"].metrics == metrics
    write_json(project.reports / "metrics.json", {"tasks": {"fraud": {**metrics, "test_rows": 31}}})
    with pytest.raises(CheckFailed, match="verdict of evaluation/fraud is about different data"):
        accept_baseline(project)


def test_no_key_hash_or_rare_text_gets_into_the_baseline(project: Project) -> None:
    rows = HISTORY["2024-01"]
    kinds = rows["kind"].to_pylist()
    kinds[7] = "call me at 555-0001"
    secret = rows.set_column(rows.column_names.index("kind"), "kind", [kinds])
    put(project, "events", {**HISTORY, "2024-01": secret})
    judge(project)
    accept_baseline(project, ["events"])
    text = project.baseline.read_text()
    for part in HISTORY.values():
        for column in ("order_id", "buyer"):
            assert not any(value in text for value in part[column].to_pylist())
    assert '"book"' in text
    assert "555-0001" not in text


def test_a_baseline_is_small(project: Project) -> None:
    accept_baseline(project)
    assert project.baseline.stat().st_size < 20_000 * len(TABLES)


def test_the_command_says_what_moved_and_refuses_with_an_exit_code(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project.root)
    run = CliRunner().invoke
    said = run(cli, ["accept-baseline", "--through", "2024-02"]).stdout
    assert "events: accepted through 2024-02, 600 rows." in said
    assert "Commit validation/baseline.json" in said
    assert "as it was" in run(cli, ["accept-baseline", "--through", "2024-02"]).stdout
    tables = json.loads(run(cli, ["accept-baseline", "--json"]).stdout)["tables"]
    assert [(table["table"], table["rows"], table["rows_before"]) for table in tables] == [
        (table, 900, 600) for table in TABLES
    ]
    record(project, "vote", 3)
    result = run(cli, ["accept-baseline"])
    assert isinstance(result.exception, CheckFailed)
    assert result.stdout == ""


def commit(project: Project, message: str) -> None:
    git(project.root, "add", "validation")
    git(project.root, "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "--quiet", "--message", message)


def test_the_history_of_the_baseline_is_read_from_git_newest_last(project: Project) -> None:
    assert revisions(project) == []
    git(project.root, "init", "--quiet")
    commit(project, "empty")
    accept_baseline(project, through="2024-01")
    commit(project, "first")
    project.baseline.write_text("{")
    commit(project, "broken")
    accept_or_restore = git(project.root, "show", "HEAD~1:validation/baseline.json")
    project.baseline.write_text(accept_or_restore)
    judge(project)
    accept_baseline(project)
    commit(project, "second")
    project.baseline.unlink()
    history = revisions(project)
    assert all(isinstance(one, AcceptedRevision) for one in history)
    assert [{name: sum(table.rows.values()) for name, table in one.tables.items()} for one in history] == [
        {},
        {"events": 300, "labels/fraud": 300},
        {"events": 900, "labels/fraud": 900},
    ]
    assert history[-1].commit == git(project.root, "log", "-1", "--format=%h").strip()
    assert history[-1].date == git(project.root, "log", "-1", "--format=%cI").strip()
    assert history[1].tables["events"].through == "2024-01"
    drift = history[-1].tables["events"].checks["drift(amount)"]
    assert (drift.status, type(drift.value)) == ("passed", float)
    assert [one.commit for one in revisions(project, limit=1)] == [history[-1].commit]


def test_the_history_is_that_of_the_project_within_a_larger_repository(project: Project) -> None:
    git(project.root.parent, "init", "--quiet")
    accept_baseline(project)
    commit(project, "first")
    assert [sorted(one.tables) for one in revisions(project)] == [sorted(TABLES)]
