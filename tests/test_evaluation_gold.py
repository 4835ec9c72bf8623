"""Evaluation shows what gold labels can support: with none, a few, missing classes, no text, no features, no times."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from projects import ORDERS, write
from sklearn.metrics import roc_auc_score
from test_evaluation import BINARY, SETTINGS, THREE, certain, drawn, inputs, task

from weakfish.contracts.gold import ROWS, UNKNOWN
from weakfish.contracts.gold import ROWS_OF_CLASS as OF_CLASS
from weakfish.contracts.tables import UNDATED, write_partition
from weakfish.errors import TableError
from weakfish.evaluation import classifiers as models_module
from weakfish.evaluation import evaluate as plots
from weakfish.evaluation import measures as spread
from weakfish.evaluation.aligned import Aligned, Periods, features_of, texts_of
from weakfish.evaluation.classifiers import sample
from weakfish.evaluation.evaluate import Evaluation, assess
from weakfish.evaluation.measures import MEASURES, Predictions, Support
from weakfish.labeling.learning import fit_predict
from weakfish.labeling.matrix import rows_at
from weakfish.project.params import EvaluateParams
from weakfish.project.paths import Project

NO_TEXT = EvaluateParams(text=[], seeds=[1], bootstrap=20)


def known(rows: Aligned, dev: int, test: int) -> Aligned:
    """The same events, gold labels known of the first so many of either part."""

    def first(gold: np.ndarray, number: int) -> np.ndarray:
        return np.where(np.isin(np.arange(len(gold)), np.flatnonzero(gold != UNKNOWN)[:number]), gold, UNKNOWN)

    return replace(rows, dev=first(rows.dev, dev), test=first(rows.test, test))


def values(found: Evaluation) -> dict[str, dict[str, Any]]:
    return {
        model: {name: of["value"] for name, of in measures.items()}
        for model, measures in found.metrics["models"].items()
    }


@pytest.mark.parametrize("classes", [BINARY, THREE])
def test_without_gold_nothing_is_measured_or_trained_and_each_figure_says_why(classes: list[str]) -> None:
    found = assess(known(inputs(classes, with_features=True), 0, 0), task(classes), SETTINGS)
    assert (found.metrics["dev_rows"], found.metrics["test_rows"]) == (0, 0)
    assert set(found.metrics["models"]) == {"majority_vote", "label_model"}
    entries = [entry for model in found.metrics["models"].values() for entry in model.values()]
    assert {entry["value"] for entry in entries} == {None}
    assert {entry["reason"] for entry in entries} == {"No test row has a gold label."}
    assert found.plots["roc"] == found.plots["calibration"] == []
    assert found.metrics["left_out"]["roc"] == "No test row has a gold label."
    assert {point["model"] for point in found.plots["share_over_time"]} == {"majority_vote", "label_model"}


def test_gold_of_dev_alone_measures_functions_but_no_model() -> None:
    found = assess(known(inputs(BINARY), 120, 0), task(BINARY), SETTINGS)
    assert found.metrics["dev_rows"] == 120
    assert {value for model in values(found).values() for value in model.values()} == {None}
    assert found.metrics["functions"]["function_0"]["dev"]["votes"] > 50
    assert found.metrics["functions"]["function_0"]["test"]["accuracy"] is None


def test_gold_of_test_alone_measures_labels_and_leaves_out_the_ceiling() -> None:
    found = values(assess(known(inputs(BINARY), 0, 120), task(BINARY), SETTINGS))
    assert found["label_model"]["auc"] > 0.8
    assert found["text_weak"]["auc"] > 0.8
    assert set(found["text_gold"].values()) == {None}


@pytest.mark.parametrize("rows", [1, ROWS - 1])
def test_a_handful_of_test_rows_gives_no_figure_and_says_how_many_there_are(rows: int) -> None:
    found = assess(known(inputs(BINARY), 120, rows), task(BINARY), SETTINGS)
    assert {value for model in values(found).values() for value in model.values()} == {None}
    reason = found.metrics["models"]["label_model"]["accuracy"]["reason"]
    assert reason.startswith(f"Only {rows} test row")
    assert found.plots["calibration"] == []


def test_rows_enough_of_one_class_alone_give_accuracy_but_neither_auc_nor_f1() -> None:
    rows = inputs(BINARY)
    rare = np.flatnonzero(rows.test == 1)[OF_CLASS - 1 :]
    few = replace(rows, test=np.where(np.isin(np.arange(240), rare), UNKNOWN, rows.test))
    found = assess(few, task(BINARY), SETTINGS)
    label_model = found.metrics["models"]["label_model"]
    assert label_model["accuracy"]["value"] > 0.5
    for name in ("auc", "f1"):
        assert label_model[name]["reason"] == f"Class yes has only {OF_CLASS - 1} test rows; {OF_CLASS} are needed."
    assert found.plots["roc"] == []
    assert "yes" in found.metrics["left_out"]["roc"]
    assert found.plots["calibration"]


def test_a_class_with_few_rows_has_no_figures_of_its_own_and_no_part_in_means() -> None:
    rows = inputs(THREE)
    rare = np.flatnonzero(rows.test == 2)[3:]
    found = assess(
        replace(rows, test=np.where(np.isin(np.arange(240), rare), UNKNOWN, rows.test)), task(THREE), SETTINGS
    )
    classes = found.metrics["classes"]
    assert classes["blue"]["test_rows"] == 3
    assert classes["blue"]["models"] == {}
    assert set(classes["red"]["models"]) == set(found.metrics["models"])
    mean = np.mean([classes[name]["models"]["label_model"]["f1"]["value"] for name in ("red", "green")])
    assert found.metrics["models"]["label_model"]["f1"]["value"] == pytest.approx(mean, abs=1e-6)
    assert found.metrics["models"]["label_model"]["f1"]["classes"] == 2


def test_a_ceiling_needs_dev_rows_of_each_class_that_is_measured() -> None:
    rows = inputs(THREE)
    rare = np.flatnonzero(rows.dev == 0)[4:]
    found = assess(replace(rows, dev=np.where(np.isin(np.arange(240), rare), UNKNOWN, rows.dev)), task(THREE), SETTINGS)
    gold = found.metrics["models"]["text_gold"]["auc"]
    assert gold["value"] is None
    assert gold["reason"] == "Of red (4) there are fewer than 10 dev rows to learn from."
    assert found.metrics["models"]["text_weak"]["auc"]["value"] > 0.8


def test_a_model_that_decides_few_test_rows_has_no_accuracy_on_these() -> None:
    rows = inputs(BINARY)
    silent = replace(rows, published=Predictions(rows.published.probabilities, np.arange(240) % 12 == 0))
    found = assess(silent, task(BINARY), SETTINGS).metrics["models"]["label_model"]
    assert found["accuracy_covered"]["value"] is None
    assert found["accuracy_covered"]["reason"] == "The model decides on 10 test rows only; 30 are needed."
    assert found["coverage"]["value"] == pytest.approx(10 / 120, abs=1e-6)


def test_what_is_always_right_has_an_exact_interval_and_no_interval_where_there_is_none() -> None:
    gold = np.arange(40) % 2
    found = spread.spread(gold, {1: certain(np.eye(2)[gold])}, 1, spread.resamples(40, 50, 1), BINARY)[0]
    assert found["accuracy"]["interval"] == [round(0.025 ** (1 / 40), 6), 1.0]
    assert found["auc"]["value"] == 1.0
    assert found["auc"]["interval"] is None
    wrong = spread.spread(gold, {1: certain(np.eye(2)[1 - gold])}, 1, spread.resamples(40, 50, 1), BINARY)[0]
    assert wrong["accuracy"]["interval"] == [0.0, round(1 - 0.025 ** (1 / 40), 6)]


def test_blocks_of_samples_give_what_all_at_once_give(monkeypatch: pytest.MonkeyPatch) -> None:
    gold, proba = drawn(3)
    samples = spread.resamples(len(gold), 23, 1)
    whole = spread.spread(gold, {1: certain(proba)}, 1, samples, THREE)[0]
    monkeypatch.setattr(spread, "AT_ONCE", 5 * len(gold))
    assert spread.spread(gold, {1: certain(proba)}, 1, samples, THREE)[0] == whole


def test_without_columns_of_text_there_are_no_models_of_text() -> None:
    rows = replace(inputs(BINARY, with_features=True), texts=None)
    assert list(values(assess(rows, task(BINARY), NO_TEXT))) == [
        "majority_vote",
        "label_model",
        "features_weak",
        "features_gold",
        "majority_class",
    ]


def test_without_text_and_features_the_labels_alone_are_measured() -> None:
    found = assess(replace(inputs(THREE), texts=None), task(THREE), NO_TEXT)
    assert list(values(found)) == ["majority_vote", "label_model", "majority_class"]
    assert values(found)["label_model"]["accuracy"] > 0.5


def test_events_without_times_have_no_shares_over_time_and_count_alike_in_training() -> None:
    rows = inputs(BINARY, with_features=True)
    undated = replace(rows, days=np.zeros(240), periods=Periods.of(["undated"] * 240))
    found = assess(undated, task(BINARY), SETTINGS)
    assert found.plots["share_over_time"] == []
    assert found.metrics["left_out"] == {"share_over_time": "No event has a time."}
    assert values(found)["features_weak"]["auc"] > 0.7


def test_the_area_below_the_mean_curve_is_the_auc_that_is_reported() -> None:
    gold, proba = drawn(6, rows=900)
    points = plots.roc(gold, {"model": certain(proba)}, [0, 2, 3])
    area = np.trapezoid([point["tpr"] for point in points], [point["fpr"] for point in points])
    expected = np.mean([roc_auc_score(gold == label, proba[:, label]) for label in (0, 2, 3)])
    assert area == pytest.approx(expected, abs=0.005)
    assert len(points) < 110


def test_calibration_of_many_classes_is_of_the_decided_class() -> None:
    gold, proba = drawn(6, rows=900)
    points = plots.calibration(gold, {"model": certain(proba)})
    assert sum(point["rows"] for point in points) == 900
    right = sum(point["fraction_positive"] * point["rows"] for point in points)
    assert right == pytest.approx((proba.argmax(axis=1) == gold).sum(), abs=1e-2)
    assert plots.calibration(gold, {"few": Predictions(proba, np.arange(900) < ROWS - 1)}) == []


def test_shares_over_time_are_of_the_six_largest_of_many_classes() -> None:
    gold = np.repeat(np.arange(10), np.arange(1, 11) * 4)
    points = plots.share_over_time(
        Periods.of(["2024-01"] * len(gold)),
        [("gold", np.ones(len(gold), dtype=bool), lambda rows: np.eye(10)[gold[rows]])],
        list("abcdefghij"),
    )
    assert [point["class"] for point in points] == list("efghij")
    assert points[-1]["share"] == pytest.approx(40 / len(gold), abs=1e-6)


def test_examples_of_many_classes_count_for_the_three_most_probable() -> None:
    class Model:
        def fit(self, examples: np.ndarray, labels: np.ndarray, sample_weight: np.ndarray) -> None:
            self.seen, self.classes_ = (examples, labels, sample_weight), np.unique(labels)

        def predict_proba(self, rows: np.ndarray) -> np.ndarray:
            return np.full((len(rows), len(self.classes_)), 1 / len(self.classes_))

    model = Model()
    soft = np.array([[0.4, 0.05, 0.3, 0.05, 0.2], [0.0, 0.0, 0.0, 0.0, 1.0]])
    found = fit_predict(model, np.array([[1.0], [2.0]]), soft, np.zeros((1, 1)))
    examples, labels, weights = model.seen
    of_first = examples[:, 0] == 1.0
    assert labels[of_first].tolist() == [0, 2, 4]
    assert weights[of_first] == pytest.approx(np.array([0.4, 0.3, 0.2]) / 0.9)
    assert weights[~of_first].tolist() == [1.0]
    assert not isinstance(found, str)
    assert found[0, [1, 3]].tolist() == [0.0, 0.0]


def test_training_on_a_sample_repeats_and_reads_no_other_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = inputs(THREE)
    monkeypatch.setattr(models_module, "EXAMPLES", 3 * 60)
    first, again = (assess(rows, task(THREE), SETTINGS) for _ in range(2))
    assert first.metrics == again.metrics
    assert values(first)["text_weak"]["auc"] > 0.8
    chosen = sample(rows.earlier & (rows.votes >= 0).any(axis=1), 60, 1) | sample(rows.dev != UNKNOWN, 60, 1)
    unread = ~(chosen | (rows.test != UNKNOWN))
    assert unread.sum() > 10
    asked: list[np.ndarray] = []

    def read(wanted: np.ndarray) -> list[list[str]]:
        asked.append(wanted)
        return rows.texts(wanted)

    assert assess(replace(rows, texts=read), task(THREE), SETTINGS).metrics == first.metrics
    assert len(asked) == 1
    assert not (asked[0] & unread).any()


def test_every_measure_has_a_reason_where_it_has_no_value() -> None:
    for count in ([0, 0], [40, 0], [0, 9], [31, 9], [20, 20]):
        support = Support(BINARY, count)
        gold = np.repeat([0, 1], count)
        found = spread.spread(gold, {1: certain(np.eye(2)[gold])}, 1, spread.resamples(len(gold), 10, 1), BINARY)[0]
        assert set(found) == set(MEASURES)
        for entry in found.values():
            assert (entry["value"] is None) == ("reason" in entry)
        assert (support.lacks_rows() is None) == (sum(count) >= ROWS)


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows are read of those that are asked for, by batch."""
    taken: list[int] = []

    def counted(file: Path, columns: Sequence[str], places: np.ndarray) -> Iterator[pa.Table]:
        for rows in rows_at(file, columns, places):
            taken.append(rows.num_rows)
            yield rows

    monkeypatch.setattr("weakfish.evaluation.aligned.rows_at", counted)
    return taken


def test_texts_are_read_of_the_rows_that_are_asked_for_and_of_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taken: list[int]
) -> None:
    write(tmp_path / "params.yaml", ORDERS)
    notes = [f"note {row}" if row % 5 else None for row in range(30)]
    for part, start in enumerate((0, 10, 20), 1):
        rows = pa.table({"order_id": notes[start : start + 10], "note": notes[start : start + 10]})
        write_partition(tmp_path / "data/events", f"2024-01~{part:04}", rows)
    monkeypatch.setattr("weakfish.labeling.matrix.EVENTS_BATCH", 4)
    wanted = np.isin(np.arange(30), [0, 1, 9, 12, 13, 29])
    assert texts_of(Project(tmp_path))(wanted) == [["", "note 1", "note 9", "note 12", "note 13", "note 29"]]
    assert sum(taken) == 6


def test_features_are_read_of_the_rows_that_are_asked_for_and_of_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taken: list[int]
) -> None:
    write(tmp_path / "params.yaml", ORDERS)
    counts = [row if row % 5 else None for row in range(30)]
    for part, start in enumerate((0, 10, 20), 1):
        here = slice(start, start + 10)
        rows = pa.table({"order_id": list("abcdefghij"), "covered": [True] * 10, "n_votes": pa.array([1] * 10)})
        rows = rows.append_column("orders_7d", pa.array(counts[here])).append_column("amount", [[0.5] * 10])
        write_partition(tmp_path / "data/training/fraud", f"2024-01~{part:04}", rows)
    read = features_of(Project(tmp_path), "fraud")
    assert read
    found = read(np.isin(np.arange(30), [0, 1, 9, 12, 13, 29]))
    assert found.tolist() == [[count, 0.5] for count in (0, 1, 9, 12, 13, 29)]
    assert sum(taken) == 6


def test_a_period_that_lies_in_parts_is_one_and_undated_rows_have_none() -> None:
    names = ["2024-02", "2024-01", UNDATED, "2024-02", "2024-01"]
    parts = [Periods.of(names[:2]), Periods.of([]), Periods.of(names[2:])]
    found = Periods.together(parts)
    assert found.of_rows() == names
    assert [(name, rows.tolist()) for name, rows in found.rows()] == [
        ("2024-01", [1, 4]),
        ("2024-02", [0, 3]),
        (UNDATED, [2]),
    ]
    assert found.is_dated().tolist() == [True, True, False, True, True]


@pytest.mark.parametrize(
    ("column", "sentence"), [("place", "does not exist, there are order_id, amount"), ("amount", "is double, not text")]
)
def test_a_column_of_text_that_is_none_is_refused(tmp_path: Path, column: str, sentence: str) -> None:
    write(tmp_path / "params.yaml", ORDERS.replace("[note]", f"[{column}]"))
    write_partition(tmp_path / "data/events", "2024-01", pa.table({"order_id": ["a"], "amount": [1.0]}))
    with pytest.raises(TableError, match=rf"^Column {column} of the events {sentence}; correct evaluate\.text"):
        texts_of(Project(tmp_path))
