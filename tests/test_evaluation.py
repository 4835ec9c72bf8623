"""Metrics, their spread and the text classifier, on predictions and label matrices small enough to check."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sklearn.metrics as skl
from sklearn.ensemble._hist_gradient_boosting.binning import _find_binning_thresholds

from weakfish.contracts.gold import UNKNOWN, Confusion, gold_labels
from weakfish.errors import TableError
from weakfish.evaluation import evaluate as plots
from weakfish.evaluation.aligned import Aligned, Periods, ReadNumbers, ReadTexts, numbers
from weakfish.evaluation.classifiers import cuts, learn_numbers, learn_words, vote_shares, word_features
from weakfish.evaluation.evaluate import assess, empirical, positive_class
from weakfish.evaluation.measures import (
    MEASURES,
    Predictions,
    Support,
    measure,
    missing,
    no_better,
    ranking,
    resamples,
    spread,
)
from weakfish.labeling.label_model import Sums, fit
from weakfish.labeling.learning import NothingToLearn, word_counts
from weakfish.project.params import EvaluateParams, TaskParams

BINARY = ["no", "yes"]
THREE = ["red", "green", "blue"]
SETTINGS = EvaluateParams(text=["words"], seeds=[1, 2], bootstrap=50)


def task(classes: list[str]) -> TaskParams:
    balance = [1 / len(classes)] * len(classes)
    return TaskParams(
        classes=classes,
        label_model={"class_balance": balance, "n_epochs": 100, "lr": 0.01, "l2": 0.0, "seed": 1},
    )


def certain(probabilities: np.ndarray) -> Predictions:
    return Predictions(probabilities, np.ones(len(probabilities), dtype=bool))


def drawn(classes: int, rows: int = 300, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Gold labels, and probabilities that lean towards them, with scores that repeat."""
    generator = np.random.default_rng(seed)
    gold = generator.integers(classes, size=rows)
    scores = generator.integers(1, 9, size=(rows, classes)) + 3.0 * np.eye(classes)[gold]
    return gold, scores / scores.sum(axis=1, keepdims=True)


def value(gold: np.ndarray, predictions: Predictions, name: str) -> float:
    return float(measure(gold, predictions, np.ones((1, len(gold))))[name][0])


def held(*columns: Sequence[str]) -> ReadTexts:
    """Texts that need not be read."""
    return lambda rows: [[column[row] for row in np.flatnonzero(rows)] for column in columns]


def as_read(features: np.ndarray) -> ReadNumbers:
    """Features that need not be read."""
    return lambda rows: features[rows]


def inputs(classes: list[str], rows: int = 240, seed: int = 3, with_features: bool = False) -> Aligned:
    """Events whose words tell their class, five functions that are mostly right, one month of dev and one of test.

    The first of two features tells the class too, on three rows of four.
    """
    generator = np.random.default_rng(seed)
    gold = generator.integers(len(classes), size=rows)
    votes = np.full((rows, 5), -1, dtype=np.int8)
    for column in range(5):
        voted = generator.random(rows) < 0.7
        wrong = generator.random(rows) < 0.15
        votes[voted, column] = np.where(wrong, (gold + 1) % len(classes), gold)[voted]
    votes[0] = votes[-1] = -1
    earlier = np.arange(rows) < rows // 2
    model = fit(Sums.of(votes, len(classes)), task(classes))
    words = [f"{' '.join(generator.choice([f'{classes[label]}{n}' for n in range(9)], 6))} common" for label in gold]
    return Aligned(
        classes=classes,
        functions=[f"function_{column}" for column in range(5)],
        votes=votes,
        published=Predictions(model.probabilities(votes), (votes != -1).any(axis=1)),
        dev=np.where(earlier, gold, UNKNOWN),
        test=np.where(earlier, UNKNOWN, gold),
        earlier=earlier,
        days=np.arange(rows) / 4,
        periods=Periods.of(["2024-01" if before else "2024-02" for before in earlier]),
        texts=held(words),
        features=as_read(known(gold, generator)) if with_features else None,
    )


def known(gold: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    found = np.stack([gold + 0.3 * generator.standard_normal(len(gold)), generator.random(len(gold))], axis=1)
    found[generator.random(len(gold)) < 0.25, 0] = np.nan
    return found


@pytest.mark.parametrize("classes", [2, 3])
def test_measures_equal_those_of_scikit_learn(classes: int) -> None:
    gold, proba = drawn(classes)
    predictions = certain(proba)
    decided = predictions.decided()
    average = {"average": "binary", "pos_label": 1} if classes == 2 else {"average": "macro"}
    labels = None if classes == 2 else list(range(classes))
    sure = decided >= 0
    expected = {
        "accuracy": skl.accuracy_score(gold, decided),
        "accuracy_covered": skl.accuracy_score(gold[sure], decided[sure]),
        "coverage": sure.mean(),
        "average_precision": skl.average_precision_score(
            gold if classes == 2 else np.eye(3)[gold], proba[:, 1] if classes == 2 else proba
        ),
        "balanced_accuracy": np.mean([(decided[gold == label] == label).mean() for label in range(classes)]),
        "auc": skl.roc_auc_score(gold, proba[:, 1] if classes == 2 else proba, multi_class="ovr"),
        "brier": skl.brier_score_loss(gold, proba[:, 1] if classes == 2 else proba),
        "log_loss": skl.log_loss(gold, proba),
    }
    found = {name: value(gold, predictions, name) for name in MEASURES}
    if classes == 2:
        expected["f1"] = skl.f1_score(gold == 1, decided == 1)
    else:
        expected["f1"] = skl.f1_score(gold, decided, labels=labels, **average)
    assert found == pytest.approx(expected)


def test_a_weighting_measures_as_the_rows_that_it_repeats() -> None:
    gold, proba = drawn(3, rows=60)
    weights = resamples(60, 4, seed=8)
    found = measure(gold, certain(proba), weights)
    for number, weighting in enumerate(weights):
        rows = np.repeat(np.arange(60), weighting.astype(int))
        alone = measure(gold[rows], certain(proba[rows]), np.ones((1, len(rows))))
        assert {name: found[name][number] for name in MEASURES} == pytest.approx(
            {name: alone[name][0] for name in MEASURES}
        )


def test_auc_counts_ties_half() -> None:
    positive = np.array([True, False, True, False])
    assert ranking(positive, np.array([0.5, 0.5, 0.5, 0.5]), np.ones((4, 1)))[0].tolist() == [0.5]
    assert ranking(positive, np.array([0.9, 0.5, 0.5, 0.1]), np.ones((4, 1)))[0].tolist() == [0.875]


def test_a_model_that_finds_no_fraud_has_no_f1_of_it_and_is_called_no_better_than_a_constant() -> None:
    gold = np.where(np.arange(1000) < 980, 0, 1)
    classes = ["fraud", "ok"]  # the rare class is the first: F1 of the last would be 0.99
    says_ok = certain(np.tile([0.1, 0.9], (1000, 1)))
    place, why = positive_class(1 - gold, classes)
    assert (place, why) == (0, "it is the rarer class of dev gold")
    samples = resamples(1000, 200, seed=1)
    found = spread(1 - gold, {1: says_ok}, 1, samples, classes, place)[0]
    assert found["f1"]["value"] == 0
    assert found["average_precision"]["value"] == pytest.approx(0.02)
    assert found["balanced_accuracy"]["value"] == 0.5
    assert spread(1 - gold, {1: says_ok}, 1, samples, classes, 1)[0]["f1"]["value"] == pytest.approx(0.9899, abs=1e-4)
    support = Support.of(1 - gold, classes, place)
    assert no_better(1 - gold, says_ok, found, samples, support) == (
        "It decides no better than always answering ok: its balanced accuracy is 0.50, that of a constant answer 0.50."
    )
    ranks = certain(np.stack([0.1 + 0.3 * gold, 0.9 - 0.3 * gold], axis=1))  # says ok everywhere, and ranks well
    figures = spread(1 - gold, {1: ranks}, 1, samples, classes, place)[0]
    assert figures["auc"]["value"] == 1
    half = certain(np.where((np.arange(1000) % 2 == 0)[:, None], [0.4, 0.6], [0.2, 0.8]))
    assert no_better(1 - gold, half, spread(1 - gold, {1: half}, 1, samples, classes, place)[0], samples, support)
    finds = certain(np.stack([0.8 * gold, 1 - 0.8 * gold], axis=1))
    assert no_better(1 - gold, finds, figures, samples, support) is None
    few = Predictions(finds.probabilities, gold == 1)  # decides on nothing but fraud, and is right
    assert no_better(1 - gold, few, figures, samples, support) is None


def test_a_ranking_that_a_threshold_would_serve_is_told_of() -> None:
    gold = np.where(np.arange(400) < 360, 0, 1)
    scores = np.where(gold == 1, 0.4, 0.1) + 0.09 * np.sin(np.arange(400))
    ranks = certain(np.stack([1 - scores, scores], axis=1))
    samples = resamples(400, 200, seed=1)
    figures = spread(gold, {1: ranks}, 1, samples, BINARY)[0]
    figures["auc"]["interval"] = [0.98, 1.0]
    sentence = no_better(gold, ranks, figures, samples, Support.of(gold, BINARY))
    assert sentence
    assert sentence.endswith("Its probabilities rank rows better than chance; another threshold may serve.")


def test_the_positive_class_is_set_or_the_rarer_of_dev_gold_or_the_last() -> None:
    assert positive_class(np.array([0, 1, 1, UNKNOWN]), BINARY)[0] == 0
    assert positive_class(np.array([0, 0, 1, UNKNOWN]), BINARY)[0] == 1
    assert positive_class(np.array([UNKNOWN]), BINARY) == (1, "there is no dev gold, so it is the last class")
    assert positive_class(np.array([0, 1]), BINARY)[0] == 1
    assert positive_class(np.array([0, 1, 1]), BINARY, "yes") == (1, "evaluate.positive in params.yaml says so")


def test_figures_are_about_the_class_that_is_asked_for() -> None:
    found = {name: assess(inputs(BINARY), task(BINARY), SETTINGS, name) for name in BINARY}
    for place, name in enumerate(BINARY):
        of = found[name].metrics
        assert (of["positive"], of["positive_why"]) == (name, "evaluate.positive in params.yaml says so")
        counts = np.array([[int(n) for n in row] for row in Confusion.from_json(of["confusion"], BINARY).counts])
        f1 = 2 * counts[place, place] / (counts[place].sum() + counts[:, place].sum())
        assert of["models"]["label_model"]["f1"]["value"] == pytest.approx(f1, abs=1e-6)
        bins = [point for point in found[name].plots["calibration"] if point["model"] == "text_weak"]
        said = sum(point["mean_predicted"] * point["rows"] for point in bins)
        assert abs(said - counts[place].sum()) < abs(said - counts[1 - place].sum())
        assert sum(point["fraction_positive"] * point["rows"] for point in bins) == pytest.approx(counts[place].sum())
    shares = [
        [point["share"] for point in found[name].plots["share_over_time"] if point["model"] == "gold"]
        for name in BINARY
    ]
    assert np.sum(shares, axis=0) == pytest.approx(1)


def test_uncovered_and_tied_rows_are_undecided_and_count_as_wrong_among_all() -> None:
    proba = np.array([[0.9, 0.1], [0.2, 0.8], [0.5, 0.5], [0.3, 0.7]])
    predictions = Predictions(proba, np.array([True, True, True, False]))
    gold = np.array([0, 1, 1, 1])
    assert predictions.decided().tolist() == [0, 1, -1, -1]
    assert value(gold, predictions, "coverage") == 0.5
    assert value(gold, predictions, "accuracy") == 0.5
    assert value(gold, predictions, "accuracy_covered") == 1.0
    assert value(gold, predictions, "f1") == pytest.approx(0.5)  # one of three found, no false alarm


def test_vote_shares_decide_as_the_majority_and_have_no_say_without_votes() -> None:
    votes = np.array([[1, 1, 0], [-1, 0, 1], [-1, -1, -1], [2, -1, -1]], dtype=np.int8)
    shares = vote_shares(votes, 3)
    assert shares.decided().tolist() == [1, -1, -1, 2]
    assert shares.covered.tolist() == [True, True, False, True]
    assert shares.probabilities[0].tolist() == [1 / 3, 2 / 3, 0]
    assert shares.probabilities[2].tolist() == [1 / 3] * 3


@pytest.mark.parametrize("classes", [BINARY, THREE])
def test_the_bootstrap_interval_holds_the_value_and_repeats(classes: list[str]) -> None:
    gold, proba = drawn(len(classes))
    samples = resamples(len(gold), 400, seed=5)
    found = spread(gold, {5: certain(proba)}, 5, samples, classes)[0]
    for name in ("accuracy", "f1", "auc", "brier", "log_loss"):
        low, high = found[name]["interval"]
        assert low < found[name]["value"] < high, name
    again = spread(gold, {5: certain(proba)}, 5, resamples(len(gold), 400, seed=5), classes)[0]
    assert json.dumps(again) == json.dumps(found)


def test_the_worst_over_the_seeds_is_the_least_of_a_score_and_the_most_of_a_loss() -> None:
    gold, proba = drawn(2)
    good, bad = certain(proba), certain(proba[:, ::-1])
    found = spread(gold, {1: good, 2: bad}, 1, resamples(len(gold), 20, seed=1), BINARY)[0]
    assert found["accuracy"]["minimum"] == round(value(gold, bad, "accuracy"), 6)
    assert found["accuracy"]["value"] == round(value(gold, good, "accuracy"), 6)
    assert found["log_loss"]["maximum"] == round(value(gold, bad, "log_loss"), 6)


def test_a_class_of_two_that_test_lacks_gives_null_with_the_reason() -> None:
    gold, proba = drawn(2)
    few = gold == 0
    found = spread(gold[few], {1: certain(proba[few])}, 1, resamples(int(few.sum()), 20, seed=1), BINARY)[0]
    for name in ("auc", "average_precision", "balanced_accuracy", "f1"):
        assert found[name]["value"] is None
        assert found[name]["interval"] is None
        assert found[name]["reason"] == "No test row is of class yes."
    assert found["accuracy"]["value"] is not None


def test_a_mean_over_classes_is_over_those_that_test_has_and_says_how_many() -> None:
    gold, proba = drawn(3)
    few = gold < 2
    samples = resamples(int(few.sum()), 20, seed=1)
    found = spread(gold[few], {1: certain(proba[few])}, 1, samples, THREE)[0]
    each = [float(ranking(gold[few] == label, proba[few][:, label], np.ones((few.sum(), 1)))[0][0]) for label in (0, 1)]
    assert found["auc"]["value"] == pytest.approx(np.mean(each), abs=1e-6)
    assert {found[name]["classes"] for name in ("auc", "average_precision", "f1")} == {2}
    assert all("classes" not in found[name] for name in ("accuracy", "brier", "coverage"))


def test_no_test_rows_at_all_give_null_with_the_reason() -> None:
    nothing = certain(np.zeros((0, 2)))
    found = spread(np.zeros(0, dtype=np.int64), {1: nothing}, 1, resamples(0, 20, seed=1), BINARY)[0]
    assert {entry["value"] for entry in found.values()} == {None}
    assert all("gold" in entry["reason"] for entry in found.values())


def test_a_model_that_decides_nothing_has_no_accuracy_on_covered_rows() -> None:
    gold = np.arange(40) % 2
    silent = Predictions(np.full((40, 2), 0.5), np.zeros(40, dtype=bool))
    found = spread(gold, {1: silent}, 1, resamples(40, 20, seed=1), BINARY)[0]
    assert found["accuracy_covered"]["value"] is None
    assert found["coverage"]["value"] == 0


def test_empirical_accuracy_counts_votes_on_rows_with_gold_labels_alone() -> None:
    votes = np.array([[1, -1], [0, -1], [1, -1], [1, -1]], dtype=np.int8)
    parts = {"dev": np.array([1, 1, UNKNOWN, UNKNOWN]), "test": np.array([UNKNOWN, UNKNOWN, 1, UNKNOWN])}
    found = empirical(["first", "silent"], votes, parts)
    assert found["first"]["dev"] == {"votes": 2, "correct": 1, "accuracy": 0.5}
    assert found["first"]["test"] == {"votes": 1, "correct": 1, "accuracy": 1.0}
    assert found["silent"]["test"] == {"votes": 0, "correct": 0, "accuracy": None}


def test_gold_labels_may_lack_rows_hold_others_or_not_exist(tmp_path: Path) -> None:
    keys = pa.chunked_array([["a", "b"], ["c"]])
    assert gold_labels(tmp_path, "key", keys, BINARY).tolist() == [UNKNOWN] * 3
    pq.write_table(pa.table({"key": ["c", "stranger", "a"], "label": ["yes", "no", None]}), tmp_path / "p.parquet")
    assert gold_labels(tmp_path, "key", keys, BINARY).tolist() == [UNKNOWN, UNKNOWN, 1]


def test_a_gold_label_that_is_no_class_is_refused_by_name(tmp_path: Path) -> None:
    pq.write_table(pa.table({"key": ["a"], "label": ["perhaps"]}), tmp_path / "p.parquet")
    with pytest.raises(TableError, match=r"perhaps.*no, yes"):
        gold_labels(tmp_path, "key", pa.chunked_array([["a"]]), BINARY)


def test_classifiers_repeat_themselves_and_trees_differ_between_seeds() -> None:
    rows = inputs(BINARY)
    assert rows.texts is not None
    features = word_features(word_counts(rows.texts(rows.test == rows.test)), rows.earlier)
    soft = np.eye(2)[np.where(rows.earlier, rows.dev, 0)] * 0.8 + 0.1
    learned = [learn_words(features[rows.earlier], soft[rows.earlier], features) for _ in range(2)]
    assert np.array_equal(learned[0], learned[1])
    values = np.random.default_rng(3).normal(size=(240, 6))
    trees = [learn_numbers(values, soft, np.zeros(240), seed, values) for seed in (1, 1, 2)]
    assert np.array_equal(trees[0], trees[1])
    assert not np.array_equal(trees[0], trees[2])


@pytest.mark.parametrize("texts", [[""] * 20, [f"word{number}" for number in range(20)]])
def test_text_that_teaches_nothing_gives_the_reason(texts: list[str]) -> None:
    features = word_features(word_counts([texts]), np.arange(20) < 2)
    with pytest.raises(NothingToLearn, match="share no words"):
        learn_words(features[:10], np.eye(2)[np.arange(10) % 2], features)


def test_one_class_alone_teaches_nothing_and_says_so() -> None:
    features = word_features(word_counts([["same words"] * 10]), np.ones(10, dtype=bool))
    with pytest.raises(NothingToLearn, match="one class only"):
        learn_words(features, np.eye(2)[np.zeros(10, dtype=int)], features)


@pytest.mark.parametrize("classes", [BINARY, THREE])
def test_an_assessment_measures_all_models_and_repeats_to_the_byte(classes: list[str]) -> None:
    found = assess(inputs(classes), task(classes), SETTINGS)
    models = found.metrics["models"]
    assert list(models) == ["majority_vote", "label_model", "text_weak", "text_gold", "majority_class"]
    assert models["majority_class"]["balanced_accuracy"]["value"] == pytest.approx(1 / len(classes))
    assert (found.metrics["dev_rows"], found.metrics["test_rows"], found.rows) == (120, 120, 240)
    for name, model in models.items():
        assert set(model) == set(MEASURES)
        assert (model["auc"]["value"] > 0.8) == (name != "majority_class")
        assert model["auc"]["minimum"] <= model["auc"]["value"]
    assert models["label_model"]["coverage"]["value"] < 1 == models["text_weak"]["coverage"]["value"]
    again = assess(inputs(classes), task(classes), SETTINGS)
    assert json.dumps([again.metrics, again.plots]) == json.dumps([found.metrics, found.plots])


@pytest.mark.parametrize("classes", [BINARY, THREE])
def test_with_a_training_set_classifiers_learn_from_features_and_from_both(classes: list[str]) -> None:
    found = assess(inputs(classes, with_features=True), task(classes), SETTINGS)
    models = found.metrics["models"]
    of_text, of_features, of_both = ([f"{what}_weak", f"{what}_gold"] for what in ("text", "features", "both"))
    assert list(models) == ["majority_vote", "label_model", *of_text, *of_features, *of_both, "majority_class"]
    for name in (*of_features, *of_both):
        assert set(models[name]) == set(MEASURES)
        assert models[name]["auc"]["value"] > (0.75 if len(classes) == 2 else 0.6)
        assert models[name]["coverage"]["value"] == 1
    again = assess(inputs(classes, with_features=True), task(classes), SETTINGS)
    assert json.dumps([again.metrics, again.plots]) == json.dumps([found.metrics, found.plots])


def test_features_become_numbers_and_counts_of_nothing_are_zero() -> None:
    features = pa.table(
        {
            "count": pa.array([3, None], pa.int64()),
            "share": pa.array([0.5, None], pa.float64()),
            "seen_at": pa.array([0, 1], pa.timestamp("us", tz="UTC")),
            "flag": [True, False],
            "name": ["a", "b"],
        }
    )
    found = numbers(features)
    assert found[0].tolist() == [3, 0.5, 1]
    assert found[1, [0, 2]].tolist() == [0, 0]
    assert np.isnan(found[1, 1])


def test_a_missing_value_counts_as_the_usual_one_and_teaches_nothing() -> None:
    generator = np.random.default_rng(4)
    gold = generator.integers(2, size=400)
    values = np.where(gold == 1, np.nan, 1.0)[:, None]  # that it is missing would tell all
    found = learn_numbers(values, np.eye(2)[gold], np.zeros(400), 1, values)
    assert not isinstance(found, str)
    assert np.ptp(found[:, 1]) == 0


def test_late_examples_count_more_than_early_ones() -> None:
    values = np.tile([0.0, 1.0], 200)[:, None]
    days = np.repeat([0.0, 300.0], 200)
    gold = np.where(days > 0, values[:, 0], 1 - values[:, 0]).astype(int)  # what it means has turned round
    found = learn_numbers(values, np.eye(2)[gold], days, 1, np.array([[0.0], [1.0]]))
    assert not isinstance(found, str)
    assert found[:, 1].round().tolist() == [0, 1]


def test_a_training_set_without_numbers_gives_the_reason() -> None:
    rows = replace(inputs(BINARY), features=as_read(np.zeros((240, 0))))
    found = assess(rows, task(BINARY), SETTINGS).metrics["models"]
    assert "no feature" in found["features_weak"]["auc"]["reason"]
    assert found["both_weak"]["auc"]["value"] > 0.8  # it still has text


def test_text_in_both_is_not_trusted_for_what_it_knows_by_heart() -> None:
    rows = inputs(BINARY)
    generator = np.random.default_rng(5)
    gold = np.where(rows.earlier, rows.dev, rows.test)
    told = np.where(generator.random(240) < 0.9, gold, 1 - gold)[:, None].astype(float)
    names = [f"{number:x}" * 40 for number in generator.integers(16**6, size=240)]  # they tell nothing of other rows
    found = assess(replace(rows, texts=held(names), features=as_read(told)), task(BINARY), SETTINGS).metrics["models"]
    assert found["features_gold"]["accuracy"]["value"] > 0.85
    assert found["both_gold"]["accuracy"]["value"] > 0.85


def test_weighted_bins_are_those_of_scikit_learn() -> None:
    generator = np.random.default_rng(2)
    values, weights = np.exp(generator.normal(size=3000)), generator.random(3000)
    expected = _find_binning_thresholds(values, 255, weights)
    assert np.array_equal(cuts(values, weights), expected)
    few = values.round(0)
    assert np.array_equal(cuts(few, weights), _find_binning_thresholds(few, 255, weights))


def test_what_trains_on_weak_labels_reads_no_gold_and_no_later_votes() -> None:
    rows = inputs(BINARY, with_features=True)
    swapped = replace(rows, dev=np.where(rows.dev == UNKNOWN, UNKNOWN, 1 - rows.dev))
    later = rows.votes.copy()
    later[~rows.earlier] = -1
    silent = replace(rows, votes=later)
    models = [assess(of, task(BINARY), SETTINGS, "yes").metrics["models"] for of in (rows, swapped, silent)]
    for name in ("text_weak", "features_weak", "both_weak"):
        assert models[0][name] == models[1][name] == models[2][name]


def test_models_that_cannot_be_had_are_null_with_the_reason() -> None:
    rows = inputs(BINARY)
    no_gold = replace(rows, dev=np.full(240, UNKNOWN))
    assert assess(no_gold, task(BINARY), SETTINGS).metrics["models"]["text_gold"]["auc"]["value"] is None
    all_later = replace(rows, earlier=np.zeros(240, dtype=bool))
    weak = assess(all_later, task(BINARY), SETTINGS).metrics["models"]["text_weak"]
    assert weak == missing(dict.fromkeys(MEASURES, "No event before the split is covered by a labeling function."))


def test_plots_are_flat_records_with_a_series_per_model() -> None:
    found = assess(inputs(BINARY), task(BINARY), SETTINGS).plots
    fields: dict[str, set[str]] = {
        "roc": {"model", "fpr", "tpr"},
        "calibration": {"model", "mean_predicted", "fraction_positive", "rows"},
        "share_over_time": {"model", "partition", "share", "rows"},
    }
    for name, expected in fields.items():
        assert {frozenset(point) for point in found[name]} == {frozenset(expected)}
    models = {"majority_vote", "label_model", "text_weak", "text_gold"}
    assert {point["model"] for point in found["roc"]} == models
    assert {point["model"] for point in found["share_over_time"]} == {"gold", *models}
    assert {point["partition"] for point in found["share_over_time"] if point["model"] == "text_weak"} == {"2024-02"}


def test_calibration_holds_every_covered_row_once() -> None:
    gold, proba = drawn(2)
    proba[0] = (0.0, 1.0)
    covered = np.arange(len(gold)) % 7 > 0
    points: list[dict[str, Any]] = plots.calibration(gold, {"model": Predictions(proba, covered)})
    assert sum(point["rows"] for point in points) == covered.sum()
    observed = sum(point["fraction_positive"] * point["rows"] for point in points)
    assert observed == pytest.approx(gold[covered].sum(), abs=1e-3)


def test_there_is_no_roc_curve_where_one_side_is_empty() -> None:
    assert plots.roc(np.ones(5, dtype=np.int64), {"model": certain(np.full((5, 2), 0.5))}) == []
