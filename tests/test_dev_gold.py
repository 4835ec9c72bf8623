"""What the label stage says of its labels on every run: figures on dev gold, and what changed since the last run."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from made_votes import own_functions, project, vote
from projects import contents
from pydantic import TypeAdapter

from weakfish.contracts.gold import UNKNOWN, Confusion
from weakfish.contracts.ledgers import write_ledger
from weakfish.contracts.reports import TaskLabels
from weakfish.contracts.tables import read_table, write_partition
from weakfish.errors import TableError
from weakfish.files import read_json
from weakfish.labeling.dev_gold import DevCounts, decided
from weakfish.labeling.label import label
from weakfish.project.paths import Project

JANUARY, FEBRUARY = "2024-01", "2024-02"


def said(at: Project) -> list[str]:
    """What the label stage says."""
    with own_functions():
        return label(at)


def reported(at: Project) -> dict[str, Any]:
    found: dict[str, Any] = read_json(at.reports / "labeling_functions.json")["tasks"]["fraud"]
    return found


def truth(at: Project) -> dict[str, str]:
    """The dev gold of each order that has some."""
    rows = read_table(at.table("gold/dev/fraud")).to_pylist()
    return {row["order_id"]: row["label"] for row in rows}


def test_confusions_count_rows_by_gold_class_and_label_and_add_up() -> None:
    gold = np.array([0] * 20 + [1] * 12 + [UNKNOWN] * 3)
    labels = np.array([0] * 15 + [1] * 3 + [UNKNOWN] * 2 + [1] * 9 + [0] * 3 + [1] * 3)
    found = Confusion.of(gold, labels, ["fine", "fraud"])
    assert found.counts == [[15, 3, 2], [3, 9, 0]]
    figures = found.figures()
    assert figures["accuracy"] == pytest.approx(24 / 32)
    assert figures["coverage"] == pytest.approx(30 / 32)
    assert figures["f1"] == pytest.approx(18 / 24)
    assert (found + found).counts == [[30, 6, 4], [6, 18, 0]]
    assert Confusion.from_json(found.to_json(), found.classes) == Confusion(found.classes, ((15, 3, 2), (3, 9, 0)))


def test_figures_that_too_few_rows_support_are_left_out() -> None:
    few = Confusion(["fine", "fraud"], [[20, 0, 0], [0, 9, 0]])
    assert set(few.figures().values()) == {None}
    rare = Confusion(["fine", "fraud"], [[40, 0, 0], [0, 9, 0]]).figures()
    assert (rare["accuracy"], rare["f1"]) == (1.0, None)


def test_f1_is_that_of_the_rarer_class_whichever_comes_first() -> None:
    counts = [[9, 11, 0], [4, 176, 0]]
    assert Confusion(["fraud", "ok"], counts).figures()["f1"] == pytest.approx(18 / 33)
    assert Confusion(["fraud", "ok"], counts).figures(1)["f1"] == pytest.approx(352 / 367)
    assert Confusion(["ok", "fraud"], [[176, 4, 0], [11, 9, 0]]).figures()["f1"] == pytest.approx(18 / 33)
    assert Confusion(["a", "b"], [[20, 0, 0], [0, 20, 0]]).rarer == 1
    assert Confusion(["a", "b", "c"], [[1, 0, 0, 0]] * 3).rarer is None


def test_f1_of_three_classes_is_the_mean_over_those_with_rows_enough() -> None:
    found = Confusion(["a", "b", "c"], [[10, 0, 0, 0], [0, 10, 10, 0], [0, 0, 5, 0]])
    assert found.figures()["f1"] == pytest.approx((1 + 2 / 3) / 2)


def test_rows_without_votes_and_ties_are_not_decided() -> None:
    posterior = np.array([[0.2, 0.8], [0.5, 0.5], [0.9, 0.1]])
    assert decided(posterior, np.array([True, True, False])).tolist() == [1, UNKNOWN, UNKNOWN]


def test_votes_of_functions_are_counted_on_rows_with_gold_beside_what_chance_would_bring() -> None:
    gold = np.array([0, 0, 0, 1, UNKNOWN])
    votes = np.array([[0, 1], [0, -1], [1, 1], [1, -1], [1, 1]], np.int8)
    found = DevCounts.of(gold, gold, votes, ["fine", "fraud"]).of_functions()
    assert found[0] == {"votes": 4, "correct": 3, "accuracy": 0.75, "by_chance": 2 * 0.75 + 2 * 0.25}
    assert found[1] == {"votes": 2, "correct": 0, "accuracy": 0.0, "by_chance": 0.5}


def test_every_run_says_what_the_labels_are_worth_on_dev_gold(tmp_path: Path) -> None:
    at = project(tmp_path)
    vote(at, JANUARY, gold_in="dev")
    vote(at, FEBRUARY, gold_in="test")
    lines = said(at)
    labels = read_table(at.table("labels/fraud"))
    gold = truth(at)
    right = {"fine": 0, "fraud": 0}
    claimed = undecided = 0
    for row in labels.to_pylist():
        if row["order_id"] in gold:
            decides = row["covered"] and row["p_fine"] != row["p_fraud"]
            undecided += not decides
            claimed += decides and row["label"] == "fraud"
            if decides and row["label"] == gold[row["order_id"]]:
                right[row["label"]] += 1
    frauds = sum(of == "fraud" for of in gold.values())
    accuracy, f1 = sum(right.values()) / 600, 2 * right["fraud"] / (frauds + claimed)
    dev = reported(at)["dev"]
    assert dev["rows"] == len(gold) == 600
    assert (dev["accuracy"], dev["f1"]) == (pytest.approx(accuracy, abs=1e-6), pytest.approx(f1, abs=1e-6))
    assert dev["coverage"] == pytest.approx(1 - undecided / 600, abs=1e-6)
    assert accuracy > 0.8
    covered = reported(at)["covered"]
    assert lines == [
        f"fraud: {covered:,} of 1,200 rows have a label ({100 * covered / 1200:.1f} %).",
        f"fraud: on 600 rows of dev gold, accuracy {accuracy:.3f}, F1 of fraud {f1:.3f}, "
        f"coverage {1 - undecided / 600:.3f}.",
    ]
    of_rule = next(of["dev"] for of in reported(at)["functions"] if of["name"] == "is_large")
    assert of_rule["accuracy"] == pytest.approx(0.9, abs=0.05)
    assert of_rule["by_chance"] < 0.6 * of_rule["votes"] < of_rule["correct"]
    assert TypeAdapter(TaskLabels).validate_python(reported(at)).dev is not None


def test_a_second_run_says_what_changed_since_the_first(tmp_path: Path) -> None:
    at = project(tmp_path)
    vote(at, JANUARY, gold_in="dev")
    said(at)
    first = reported(at)["dev"]
    assert said(at)[1:] == [
        f"fraud: on 600 rows of dev gold, accuracy {first['accuracy']:.3f} (as before), F1 of fraud {first['f1']:.3f} "
        f"(as before), coverage {first['coverage']:.3f} (as before).",
        "fraud: since the last run, nothing changed.",
    ]
    before = read_table(at.table("labels/fraud"))["label"].to_pylist().count("fraud")
    vote(at, JANUARY, gold_in="dev", bends={"is_large": lambda votes, _: np.ones_like(votes)}, edited=("is_large",))
    lines = said(at)
    now = read_table(at.table("labels/fraud"))["label"].to_pylist().count("fraud")
    assert now > before
    assert lines[2].startswith("fraud: since the last run, 1 function edited (is_large); ")
    assert f"; {now - before:,} more rows labeled fraud" in lines[2]
    assert f"accuracy {reported(at)['dev']['accuracy']:.3f} (-" in lines[1]


def test_test_gold_changes_no_byte_of_labels_and_their_report(tmp_path: Path) -> None:
    at = project(tmp_path)
    vote(at, JANUARY, gold_in="dev")
    vote(at, FEBRUARY, gold_in="test")
    said(at)
    before = contents(at.data / "labels"), (at.reports / "labeling_functions.json").read_bytes()
    test = at.table("gold/test/fraud") / f"{FEBRUARY}.parquet"
    gold = read_table(test.parent)
    turned = gold["label"].take(pa.array(range(599, -1, -1)))
    write_partition(test.parent, FEBRUARY, gold.set_column(1, "label", turned))
    said(at)
    assert (contents(at.data / "labels"), (at.reports / "labeling_functions.json").read_bytes()) == before
    shutil.rmtree(at.data / "gold")
    lines = said(at)
    assert contents(at.data / "labels") == before[0]
    assert lines[1] == "fraud: no row has dev gold, so nobody knows how good these labels are."
    assert reported(at)["dev"] is None
    assert {of["dev"] for of in reported(at)["functions"]} == {None}


def test_gold_of_another_month_counts_only_where_repairs_moved_rows(tmp_path: Path) -> None:
    at = project(tmp_path)
    vote(at, JANUARY)
    moved = pa.table({"order_id": [f"{JANUARY}-{number}" for number in range(40)], "label": ["fine"] * 40})
    write_partition(at.table("gold/dev/fraud"), FEBRUARY, moved)
    said(at)
    assert reported(at)["dev"] is None
    write_ledger(at, "accept", rows_in=600, rows_out=600, repaired=40)
    said(at)
    assert reported(at)["dev"]["rows"] == 40


def test_a_gold_label_that_is_no_class_stops_the_stage_with_its_name(tmp_path: Path) -> None:
    at = project(tmp_path)
    vote(at, JANUARY)
    write_partition(
        at.table("gold/dev/fraud"), JANUARY, pa.table({"order_id": [f"{JANUARY}-1"], "label": ["doubtful"]})
    )
    with pytest.raises(TableError, match=r"'doubtful', which is none of the task's classes \(fine, fraud\)"):
        said(at)
