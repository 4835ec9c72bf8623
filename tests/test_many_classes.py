"""A task of fifty classes and four functions: labels, what is remembered of them, explanations, the page."""

from __future__ import annotations

import io
import json
import re

import numpy as np
import pytest
from made_tasks import Made, evaluated, labelled, project
from made_votes import own_functions

from weakfish.checks.label_checks import label_checks
from weakfish.checks.label_totals import rules_of, through
from weakfish.cli.labels import print_explanation
from weakfish.contracts.reports import ClassMetrics, PartitionReport, TaskMetrics
from weakfish.contracts.tables import read_table
from weakfish.contracts.verdicts import Status
from weakfish.contracts.votes_file import FEW_CLASSES, parse_table, table_json
from weakfish.evaluation import evaluate as evaluate_module
from weakfish.files import read_json
from weakfish.labeling.explain import explain
from weakfish.project.paths import Project
from weakfish.report.charts import COLOURS, stacked
from weakfish.report.page import render
from weakfish.report.task_sections import averaged, expected

FIFTY = Made(50, 4, votes_for=4)


@pytest.fixture(scope="module")
def fifty(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The project with labels and metrics; no function votes for the fifth class or a later one."""
    return evaluated(labelled(project(tmp_path_factory.mktemp("fifty"), {"topic": FIFTY}, rows=300)))


def test_labels_name_only_classes_that_functions_vote_for_and_shares_add_up(fifty: Project) -> None:
    labels = read_table(fifty.table("labels/topic"))
    shares = np.stack([labels[f"p_{name}"].to_numpy() for name in FIFTY.names], axis=1)
    assert shares.sum(axis=1) == pytest.approx(1)
    covered = labels["covered"].to_numpy()
    assert 0 < covered.sum() < len(covered)
    assert set(labels["label"].to_pylist()) <= {*FIFTY.names[:4], None}
    assert shares[~covered] == pytest.approx(0.02)


def test_figures_are_of_the_classes_that_test_has_enough_of(fifty: Project) -> None:
    found = read_json(fifty.reports / "metrics.json")["tasks"]["topic"]
    scored = [name for name, of in found["classes"].items() if of["models"]]
    assert 1 < len(scored) < 50
    assert [name for name, of in found["classes"].items() if of["test_rows"] >= 10] == scored
    assert found["models"]["label_model"]["auc"]["classes"] == len(scored)
    assert found["models"]["text_gold"]["auc"]["value"] is None
    shares = read_json(fifty.reports / "plots" / "share_over_time.json")
    assert len({point["class"] for point in shares}) == 6


def test_other_seeds_are_not_tried_where_a_fit_takes_long(fifty: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate_module, "MANY", 199)
    monkeypatch.setitem(fifty.params.evaluate.__dict__, "seeds", [1, 2, 3])
    fits: list[list[int]] = []
    models = evaluate_module.label_models
    monkeypatch.setattr(evaluate_module, "label_models", lambda *given: fits.append(given[2]) or models(*given))
    with own_functions():
        found = evaluate_module.evaluate_task(fifty, "topic")
    assert fits == [[1]]
    assert found.metrics["left_out"]["seeds"].startswith("Other seeds are not tried")


def test_what_is_remembered_of_functions_is_small_and_compares_as_accepted(fifty: Project) -> None:
    written = read_json(fifty.reports / "labeling_functions.json")["tasks"]["topic"]["by_partition"][0]["others"]
    assert all(len(table["counts"]) < 250 for table in written.values())
    accepted = json.loads(json.dumps(through(rules_of(fifty, "topic"), None)))
    found = label_checks(fifty, "topic", accepted)
    assert {check.status for check in found if check.against_baseline} == {Status.PASSED}
    assert len([check for check in found if check.expectation == "class_balance"]) == 50


@pytest.mark.parametrize("classes", [2, FEW_CLASSES, FEW_CLASSES + 1, 50])
def test_a_table_of_counts_comes_back_as_it_was_written(classes: int) -> None:
    table = np.random.default_rng(classes).integers(0, 2, (classes + 1, classes)).tolist()
    content = json.loads(json.dumps(table_json(table)))
    assert parse_table(content) == tuple(map(tuple, table))
    assert isinstance(content, list) == (classes <= FEW_CLASSES)


def test_an_explanation_compares_the_label_with_the_classes_that_come_next(fifty: Project) -> None:
    row = next(row for row in read_table(fifty.table("labels/topic")).to_pylist() if row["label"] == "kind_02")
    found, out = explain(fifty, "topic", row["ticket_id"]), io.StringIO()
    print_explanation(found, out)
    said = out.getvalue()
    assert max(map(len, said.splitlines())) <= 110
    others = sorted(FIFTY.names, key=lambda name: -found["probabilities"][name])
    assert others[0] == "kind_02"
    assert re.findall(r"against (kind_\d+)", said) == others[1:4]
    assert "46 others" in said
    together = re.search(r"together +([+-][\d.]+)", said)
    assert together is not None
    ratio = np.log(found["probabilities"]["kind_02"] / found["probabilities"][others[1]])
    assert float(together.group(1)) == pytest.approx(ratio, abs=6e-4)


def test_an_uncovered_row_is_explained_in_a_few_lines(fifty: Project) -> None:
    row = next(row for row in read_table(fifty.table("labels/topic")).to_pylist() if not row["covered"])
    out = io.StringIO()
    print_explanation(explain(fifty, "topic", row["ticket_id"]), out)
    assert "0.0200 for each of 50 classes" in out.getvalue()
    assert len(out.getvalue().splitlines()) < 12


def test_the_page_of_fifty_classes_has_no_legend_of_fifty(fifty: Project) -> None:
    page = render(fifty.root).read_text(encoding="utf-8")
    legends = re.findall(r'<p class="legend">.*?</p>', page, re.DOTALL)
    assert max(legend.count("<span>") for legend in legends) <= COLOURS + 1
    assert "42 others" in page
    assert "the same share of each of 50 classes" in page
    assert re.search(r"means over \d+ of 50 classes", page)
    assert "The 6 largest of 50 classes." in page


def test_a_stack_of_many_classes_holds_the_largest_and_the_rest() -> None:
    names = [f"kind_{number}" for number in range(20)]
    mean = {name: (number + 1) / 210 for number, name in enumerate(names)}
    part = PartitionReport(partition="2024-01", rows=10, covered=10, mean=mean)
    assert stacked(names, [part]) == [*names[12:], "12 others"]
    assert stacked(names[:COLOURS], [part]) == names[:COLOURS]


def test_sentences_on_many_classes_name_a_few() -> None:
    few = {f"kind_{number}": ClassMetrics(test_rows=3) for number in range(40)}
    enough = {f"big_{number}": ClassMetrics(test_rows=30, models={"label_model": {}}) for number in range(5)}
    assert averaged(TaskMetrics(classes=few | enough)) == (
        "AUC, average precision and F1 are means over 5 of 45 classes, each against the rest; "
        "there are too few test rows of "
        "kind_0, kind_1, kind_2 and 37 more."
    )
    assert averaged(TaskMetrics()) is None
    balance = {"main": 0.51} | {f"kind_{number}": 0.01 for number in range(49)}
    assert expected(balance) == "51.0 % main, 1.0 % kind_0, 1.0 % kind_1, and less of each of 47 other classes"
    assert expected({"no": 0.4, "yes": 0.6}) == "40.0 % no, 60.0 % yes"
