"""Two tasks over the same events, one of six classes: labels, metrics, checks, the page and the terminal have both."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from made_tasks import Made, evaluated, labelled, project
from projects import write

from weakfish.checks.label_checks import label_checks
from weakfish.checks.label_totals import rules_of, through
from weakfish.checks.validate import validate
from weakfish.contracts.ledgers import ledger_file
from weakfish.contracts.tables import read_table, write_partition
from weakfish.contracts.verdicts import Status, verdict_file
from weakfish.files import read_json, write_json
from weakfish.labeling.explain import explain
from weakfish.project.paths import Project
from weakfish.report.page import render
from weakfish.report.summary import print_summary

TASKS = {"topic": Made(6, 12), "urgent": Made(2, 5, gold=0.02)}


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The project with labels and metrics of both tasks; of the second, few gold labels are known."""
    return evaluated(labelled(project(tmp_path_factory.mktemp("both"), TASKS)))


def test_metrics_are_by_task_and_plots_name_the_task(both: Project) -> None:
    found = read_json(both.reports / "metrics.json")["tasks"]
    assert set(found) == set(TASKS)
    assert found["topic"]["models"]["label_model"]["f1"]["classes"] == 6
    assert set(found["topic"]["classes"]) == set(TASKS["topic"].names)
    assert "classes" not in found["urgent"]
    assert found["urgent"]["models"]["label_model"]["f1"]["value"] is None
    points = read_json(both.reports / "plots" / "roc.json")
    assert {point["task"] for point in points} == {"topic"}
    shares = read_json(both.reports / "plots" / "share_over_time.json")
    assert {point.get("class") for point in shares if point["task"] == "topic"} == set(TASKS["topic"].names)
    assert {point.get("class") for point in shares if point["task"] == "urgent"} == {None}


def test_the_ledgers_count_the_labels_of_all_tasks(both: Project) -> None:
    label, measured = (read_json(ledger_file(both, stage)) for stage in ("label", "evaluate"))
    assert (label["rows_in"], label["rows_out"]) == (900, 1800)
    test_rows = [of["test_rows"] for of in read_json(both.reports / "metrics.json")["tasks"].values()]
    assert (measured["rows_in"], measured["rows_out"]) == (1800, sum(test_rows))
    assert all(test_rows)


def test_a_verdict_on_each_task_passes_before_anything_is_accepted(both: Project) -> None:
    for task in TASKS:
        validate(both, f"evaluation/{task}")
        verdict = read_json(verdict_file(both, f"evaluation/{task}"))
        checks = {check["check"]: check["status"] for check in verdict["checks"]}
        assert checks["baseline"] == "noted"
        assert "failed" not in checks.values()
    assert {name for name in checks if name.startswith("calibration")} == set()  # too little gold


def test_labels_that_nothing_was_accepted_of_are_checked_by_fixed_limits_alone(both: Project) -> None:
    for task in TASKS:
        found = label_checks(both, task, None)
        assert {check.expectation for check in found} == {"label_model_degenerate"}
        assert Status.FAILED not in {check.status for check in found}


def test_labels_as_accepted_pass_and_each_class_is_compared(both: Project) -> None:
    found = label_checks(both, "topic", json.loads(json.dumps(through(rules_of(both, "topic"), None))))
    compared = [check for check in found if check.against_baseline]
    assert {check.status for check in compared} == {Status.PASSED}
    balances = {check.check for check in compared if check.expectation == "class_balance"}
    assert balances == {f"class_balance({name})" for name in TASKS["topic"].names}


def test_an_explanation_is_of_the_task_that_is_asked_for(both: Project) -> None:
    for task, made in TASKS.items():
        labels = read_table(both.table(f"labels/{task}")).to_pylist()
        row = next(row for row in labels if row["covered"])
        found = explain(both, task, row["ticket_id"])
        assert (found["label"], found["classes"]) == (row["label"], made.names)
        assert len(found["functions"]) == made.functions


def text_of(page: str, section: str) -> str:
    """The text of a section of the page, its tags taken out."""
    found = re.search(rf'<section id="{section}".*?</section>', page, re.DOTALL)
    assert found is not None, section
    return " ".join(re.sub(r"<[^>]+>", " ", found.group()).split())


def test_the_page_shows_each_task_and_claims_nothing_that_was_not_measured(both: Project) -> None:
    page = render(both.root).read_text(encoding="utf-8")
    topic, urgent = text_of(page, "metrics-1"), text_of(page, "metrics-2")
    assert "Metrics of topic" in topic
    assert "AUC, average precision and F1 are means over the 6 classes" in topic
    assert all(name in topic for name in TASKS["topic"].names)
    assert "mean over classes of one against the rest" in topic
    assert "Metrics of urgent" in urgent
    assert "There are no figures. Only" in urgent
    assert not re.search(r"AUC|F1|Accuracy|Coverage|Brier|Gold labels:?\s", urgent)
    assert "Gold labels" in topic
    for task in TASKS:
        assert f"Labels of {task}" in page
        assert f"Labeling functions of {task}" in page


def test_the_terminal_shows_a_table_for_what_is_measured_and_a_sentence_for_what_is_not(both: Project) -> None:
    out = io.StringIO()
    print_summary(both.root, file=out)
    said = out.getvalue()
    assert re.search(r"topic, test +Av. prec. +F1 +AUC +Bal. acc. +Coverage", said)
    assert re.search(r"urgent, test: Only \d+ test rows have gold labels", said)
    assert "urgent, test  " not in said


def test_events_without_times_text_and_gold_make_reports_all_the_same(tmp_path: Path) -> None:
    tasks = {"topic": Made(6, 3, votes_for=3, gold=0), "urgent": Made(2, 4, gold=0.5)}
    at = labelled(project(tmp_path, tasks, dated=False, text=False))
    hint = np.random.default_rng(1).random(900)
    for task in tasks:
        labels = read_table(at.table(f"labels/{task}"))
        kept = [name for name in labels.column_names if not name.startswith("majority_") and name != "label"]
        train = labels.select(kept)
        if task == "urgent":
            train = train.append_column("hint", pa.array(hint + labels["p_yes"].to_numpy()))
        write_partition(at.table(f"training/{task}"), "undated", train)
    evaluated(at)
    found = read_json(at.reports / "metrics.json")["tasks"]
    assert found["topic"]["left_out"]["share_over_time"] == "No event has a time."
    assert set(found["topic"]["models"]) == {"majority_vote", "label_model"}
    learned = {"features_weak", "features_gold"}
    assert set(found["urgent"]["models"]) == {"majority_vote", "label_model", "majority_class", *learned}
    assert found["urgent"]["models"]["features_weak"]["auc"]["value"] > 0.6
    assert found["urgent"]["models"]["label_model"]["auc"]["value"] > 0.8
    assert read_json(at.reports / "plots" / "share_over_time.json") == []
    for task in tasks:
        validate(at, f"evaluation/{task}")
        label_checks(at, task, through(rules_of(at, task), None))
    page = render(at.root).read_text(encoding="utf-8")
    assert "There are no figures. No test row has a gold label." in text_of(page, "metrics-1")
    assert "No shares over time: No event has a time." in text_of(page, "metrics-2")


def test_metrics_accepted_without_an_interval_are_compared_all_the_same(both: Project, tmp_path: Path) -> None:
    write(tmp_path / "params.yaml", (both.root / "params.yaml").read_text())
    at = Project(tmp_path)
    perfect: dict[str, Any] = {"value": 1.0, "minimum": 1.0, "interval": None}
    names = ("auc", "coverage", "f1")
    metrics = {"test_rows": 50, "models": {"label_model": dict.fromkeys(names, perfect)}}
    accepted = {"data_version": "", "verdict": "passed", "through": None, "checks": {}, "metrics": metrics}
    write_json(at.baseline, {"tables": {"evaluation/urgent": accepted}})
    write_json(at.reports / "plots/calibration.json", [])
    statuses = {}
    for value in (1.0, 0.5):
        now = {**perfect, "value": value}
        found = {"test_rows": 50, "models": {"label_model": dict.fromkeys(names, now)}}
        write_json(at.reports / "metrics.json", {"tasks": {"urgent": found}})
        validate(at, "evaluation/urgent")
        statuses[value] = {check["status"] for check in read_json(verdict_file(at, "evaluation/urgent"))["checks"]}
    assert statuses == {1.0: {"passed"}, 0.5: {"warned"}}


@pytest.mark.parametrize("functions", [1, 2])
def test_a_task_with_too_few_functions_has_a_majority_vote_and_says_so(tmp_path: Path, functions: int) -> None:
    at = project(tmp_path, {"urgent": Made(2, 4), "topic": Made(6, functions)}, rows=40)
    labelled(at)
    found = read_json(at.reports / "labeling_functions.json")["tasks"]["topic"]
    assert found["method"] == "majority"
    assert re.match(rf"There (is|are) {functions} labeling functions?; with fewer than 3 ", found["why"][0])
