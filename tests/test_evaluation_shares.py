"""Probabilities at work: shares of classes estimated without labels, and what is corrected for them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import precision_recall_curve
from test_evaluation import BINARY, SETTINGS, THREE, as_read, held

from weakfish.contracts.gold import UNKNOWN
from weakfish.evaluation.aligned import Aligned, Periods
from weakfish.evaluation.classifiers import Classifiers
from weakfish.evaluation.evaluate import Evaluation, assess
from weakfish.evaluation.measures import Predictions
from weakfish.evaluation.shares import (
    MovedShares,
    at_level,
    best_threshold,
    class_shares,
    levels,
    scaled,
    votes_shift,
)
from weakfish.labeling.label_model import Sums, fit
from weakfish.project.params import TaskParams

SLIGHT = 0.02
"""By how much F1 may fall where shares have not moved."""


def spam(share: float) -> TaskParams:
    """A task whose label model knows the share of positive rows before the split."""
    return TaskParams(classes=BINARY, label_model={"class_balance": [1 - share, share]})


def events(before: float, after: float, rows: int = 3000, seed: int = 1, functions: int = 8) -> Aligned:
    """Events of which the share ``before`` the split is positive, and another ``after`` it; words tell some of it.

    Functions vote on a third of the rows, and rightly on nine of ten.
    """
    random = np.random.default_rng(seed)
    earlier = np.arange(rows) < rows // 2
    gold = (random.random(rows) < np.where(earlier, before, after)).astype(np.int64)
    votes = np.full((rows, functions), -1, dtype=np.int8)
    for column in range(functions):
        right = np.where(random.random(rows) < 0.9, gold, 1 - gold)
        votes[:, column] = np.where(random.random(rows) < 0.35, right, -1)
    leaning = np.where(random.random((rows, 5)) < 0.7, gold[:, None], 1 - gold[:, None])
    numbers = random.integers(30, size=(rows, 5))
    words = [
        " ".join(f"{'xy'[of]}{n}" for of, n in zip(*row, strict=True)) for row in zip(leaning, numbers, strict=True)
    ]
    model = fit(Sums.of(votes, 2), spam(before))
    return Aligned(
        classes=BINARY,
        functions=[f"function_{column}" for column in range(functions)],
        votes=votes,
        published=Predictions(model.probabilities(votes), (votes != -1).any(axis=1)),
        dev=np.where(earlier, gold, UNKNOWN),
        test=np.where(earlier, UNKNOWN, gold),
        earlier=earlier,
        days=np.arange(rows) / 100,
        periods=Periods.of(["2024-01" if of else "2024-02" for of in earlier]),
        texts=held(words),
        features=as_read((gold + random.standard_normal(rows))[:, None]),
    )


def best_f1(rows: Aligned, kind: str, before: float) -> float:
    """The best F1 that any threshold gives on a classifier's own scores."""
    classifiers = Classifiers(rows, 1)
    (stretch,) = classifiers.stretches
    learned = classifiers.on_weak_labels(classifiers.soft_labels(spam(before), [1], stretch), stretch)[kind]
    assert not isinstance(learned, str)
    precision, recall, _ = precision_recall_curve(rows.test[rows.test != UNKNOWN], learned[1].probabilities[:, 1])
    return float((2 * precision * recall / np.maximum(precision + recall, 1e-9)).max())


def f1(found: Evaluation, model: str, part: str = "models") -> float:
    return float(found.metrics[part][model]["f1"]["value"])


@pytest.mark.parametrize(("before", "after"), [(0.5, 0.05), (0.1, 0.4)])
def test_after_a_made_up_shift_classifiers_decide_nearly_as_well_as_any_threshold(before: float, after: float) -> None:
    rows = events(before, after)
    found = assess(rows, spam(before), SETTINGS, "yes")
    share = found.metrics["share"]
    assert share["corrected"]
    assert share["new"]["yes"] == pytest.approx(after, abs=0.04)
    assert "moved as that predicts" in share["sentence"]
    for kind in ("text", "features", "both"):
        model, best = f"{kind}_weak", best_f1(rows, kind, before)
        assert f1(found, model) > f1(found, model, "uncorrected") + 0.03
        assert f1(found, model) > 0.9 * best, (kind, f1(found, model), best)
        brier = [found.metrics[part][model]["brier"]["value"] for part in ("models", "uncorrected")]
        assert brier[0] < brier[1]
        auc = [found.metrics[part][model]["auc"]["value"] for part in ("models", "uncorrected")]
        assert auc[0] == pytest.approx(auc[1], abs=1e-6)
    assert "text_gold" in found.metrics["uncorrected"]
    assert found.metrics["uncorrected"]["text_weak"]["f1"]["interval"] is None


@pytest.mark.parametrize(("share", "seed"), [(0.5, 1), (0.4, 2), (0.15, 3), (0.15, 4)])
def test_where_shares_have_not_moved_nothing_gets_worse(share: float, seed: int) -> None:
    rows = events(share, share, seed=seed)
    found = assess(rows, spam(share), SETTINGS, "yes")
    for kind in ("text", "features", "both"):
        model = f"{kind}_weak"
        raw = f1(found, model, "uncorrected") if "uncorrected" in found.metrics else f1(found, model)
        assert f1(found, model) > raw - SLIGHT


def test_gold_of_test_moves_neither_shares_nor_thresholds() -> None:
    rows = events(0.5, 0.1)
    tested = rows.test != UNKNOWN
    shuffled = rows.test.copy()
    shuffled[tested] = np.random.default_rng(5).permutation(shuffled[tested])
    first, second = (assess(of, spam(0.5), SETTINGS, "yes") for of in (rows, replace(rows, test=shuffled)))
    assert first.metrics["share"] == second.metrics["share"]
    drawn = [
        [point for point in found.plots["share_over_time"] if point["model"] != "gold"] for found in (first, second)
    ]
    assert drawn[0] == drawn[1]
    assert [f1(found, "text_weak") > 0.3 for found in (first, second)] == [True, False]


def test_where_vote_rates_do_not_bear_it_out_nothing_is_corrected_and_the_sentence_says_so() -> None:
    rows = events(0.5, 0.5)
    votes = rows.votes.copy()
    silent = (np.arange(8) < 6) & ~rows.earlier[:, None] & (votes == 1)
    votes[silent] = -1  # most functions no longer find the class, though it is as frequent as before
    broken = (np.arange(8) == 7) & ~rows.earlier[:, None] & (np.random.default_rng(3).random(votes.shape) < 0.5)
    votes[broken] = 1
    found = assess(replace(rows, votes=votes), spam(0.5), SETTINGS, "yes")
    assert not found.metrics["share"]["corrected"]
    assert "So classifiers are as learned." in found.metrics["share"]["sentence"]
    assert "uncorrected" not in found.metrics


def test_too_few_covered_test_rows_leave_probabilities_as_learned() -> None:
    rows = events(0.5, 0.1)
    votes = rows.votes.copy()
    votes[np.flatnonzero(~rows.earlier)[20:]] = -1
    found = assess(replace(rows, votes=votes), spam(0.5), SETTINGS, "yes")
    share = found.metrics["share"]
    assert (share["corrected"], share["rows"]) == (False, (votes[1500:1520] >= 0).any(axis=1).sum())
    assert "below 30 they cannot say how frequent classes are" in share["sentence"]


@pytest.mark.parametrize(("before", "after"), [(0.5, 0.05), (0.1, 0.4), (0.3, 0.3)])
def test_shares_are_found_from_posteriors_that_were_true_before(before: float, after: float) -> None:
    random = np.random.default_rng(1)
    gold = random.random(20_000) < after
    signal = random.normal(size=20_000) + 1.5 * gold
    odds = 1.5 * signal - 1.5**2 / 2 + np.log(before / (1 - before))
    posterior = 1 / (1 + np.exp(-odds))
    found = class_shares(np.stack([1 - posterior, posterior], axis=1), np.array([1 - before, before]))
    assert found == pytest.approx([1 - after, after], abs=0.02)


@pytest.mark.parametrize("classes", [2, 5])
def test_levels_give_the_mean_that_is_asked_for_and_keep_the_order_of_rows(classes: int) -> None:
    random = np.random.default_rng(2)
    posteriors = random.dirichlet(np.full(classes, 0.3), size=500)
    posteriors[0] = np.eye(classes)[0]
    shares = random.dirichlet(np.ones(classes))
    found = scaled(posteriors, levels(posteriors, shares))
    assert found.mean(axis=0) == pytest.approx(shares, abs=1e-4)
    assert found.sum(axis=1) == pytest.approx(1)
    if classes == 2:
        assert (np.argsort(found[:, 1], kind="stable") == np.argsort(posteriors[:, 1], kind="stable")).all()


def test_the_threshold_is_the_one_whose_expected_f1_is_highest() -> None:
    random = np.random.default_rng(3)
    probabilities = random.beta(0.3, 2, size=400).round(2)
    gold = (random.random((2000, 400)) < probabilities).astype(float)
    mean = {}
    for cut in np.unique(probabilities):
        said = probabilities >= cut
        mean[cut] = (2 * gold[:, said].sum(axis=1) / (gold.sum(axis=1) + said.sum())).mean()
    found = best_threshold(probabilities)
    assert found in probabilities
    assert mean[found] > max(mean.values()) - 0.01
    assert found < 0.5
    assert best_threshold(np.array([0.3, 0.3, 0.3])) == 0.3


def test_of_three_classes_each_is_moved_to_its_new_share() -> None:
    random = np.random.default_rng(4)
    before, after = np.array([0.5, 0.3, 0.2]), np.array([0.1, 0.2, 0.7])
    gold = random.choice(3, size=8000, p=after)
    signal = np.eye(3)[gold] * 2 + random.normal(size=(8000, 3))
    raw = np.exp(2 * signal) * before
    says = Predictions(raw / raw.sum(axis=1, keepdims=True), np.ones(8000, bool), trained=before)
    shift = MovedShares(before, after, 8000, 9, 8, None)
    found = at_level(says, np.ones(8000, bool), shift)
    assert found.probabilities.mean(axis=0) == pytest.approx(after, abs=0.02)
    assert (found.decided() == gold).mean() > (says.decided() == gold).mean() + 0.02
    assert found.threshold is None
    assert "and probabilities" not in shift.sentence(2, THREE[2])
    assert at_level(says, np.ones(8000, bool), replace(shift, nearer=4)) is says
    assert at_level(replace(says, trained=None), np.ones(8000, bool), shift).trained is None


def test_a_function_that_votes_as_before_has_no_say_and_one_that_changed_is_named() -> None:
    random = np.random.default_rng(6)

    def votes(gold: np.ndarray, odd: float) -> np.ndarray:
        hits = [np.where(random.random(len(gold)) < 0.6, gold, -1) for _ in range(3)]
        hits.append(np.where(random.random(len(gold)) < 0.2, 0, -1))  # knows nothing
        hits.append(np.where(random.random(len(gold)) < odd, 1, -1))  # votes more often later, on rows of either class
        return np.stack(hits, axis=1).astype(np.int8)

    old, new = (random.random(4000) < 0.5).astype(int), (random.random(4000) < 0.2).astype(int)
    soft = [np.eye(2)[of] * 0.98 + 0.01 for of in (old, new)]
    names = ["a", "b", "c", "knows_nothing", "odd"]
    found = votes_shift((votes(old, 0.1), votes(new, 0.6)), (soft[0], soft[1]), np.array([0.5, 0.5]), names)
    assert found.new[1] == pytest.approx(0.2, abs=0.02)
    assert (found.asked, found.nearer, found.holds) == (6, 6, True)
    far = votes_shift((votes(old, 0.1), votes(old, 0.6)), (soft[0], soft[1]), np.array([0.5, 0.5]), names)
    assert (far.nearer, far.holds) == (0, False)
    assert far.stranger in ("a", "b", "c")


def test_a_label_model_that_is_wrong_before_and_after_in_the_same_way_shows_no_move() -> None:
    random = np.random.default_rng(7)

    def votes_and_soft(rows: int) -> tuple[np.ndarray, np.ndarray]:
        gold = (random.random(rows) < 0.45).astype(int)
        votes = np.where(random.random((rows, 4)) < 0.5, gold[:, None], -1).astype(np.int8)
        soft = np.where(votes.max(axis=1, keepdims=True) >= 0, np.eye(2)[gold] * 0.5 + [0.35, 0.15], 0.5)
        return votes, soft  # it says the second class too seldom, and is never sure

    (old, before), (new, after) = votes_and_soft(3000), votes_and_soft(800)
    assert class_shares(after, np.array([0.5, 0.5]))[1] < 0.35  # what it would say of the new rows by themselves
    found = votes_shift((old, new), (before, after), np.array([0.5, 0.5]), ["a", "b", "c", "d"])
    assert found.new == pytest.approx(found.trained, abs=0.05)
    assert not found.holds


@pytest.mark.parametrize(
    ("nearer", "asked", "holds"),
    [(0, 0, False), (1, 1, False), (3, 3, False), (4, 4, True), (2, 3, False), (33, 40, True), (22, 40, False)],
)
def test_so_few_rates_that_chance_could_do_it_bear_nothing_out(nearer: int, asked: int, holds: bool) -> None:
    even = np.array([0.5, 0.5])
    found = MovedShares(even, even, 100, asked, nearer, None)
    assert found.holds == holds
    assert ("so few may do so by chance" in found.sentence(1, "yes")) == (0 < asked < 4)


@pytest.mark.parametrize("method", ["hyper", "naive-bayes", "majority"])
def test_shares_are_found_with_methods_whose_probabilities_only_rank(method: str) -> None:
    rows = events(0.5, 0.15, functions=20)
    task = TaskParams(classes=BINARY, label_model={"class_balance": [0.5, 0.5], "method": method})
    classifiers = Classifiers(rows, 1)
    labels = classifiers.soft_labels(task, [1], classifiers.stretches[0])
    assert labels is not None
    found = votes_shift(labels.votes, labels.by_seed[1], np.array([0.5, 0.5]), rows.functions)
    assert found.new[1] == pytest.approx(0.15, abs=0.03)
    assert found.holds
