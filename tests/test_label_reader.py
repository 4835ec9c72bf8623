"""The reader: what it learns from votes of other rows, and how far it is trusted."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from weakfish.labeling.learning import NothingToLearn, SoftRegression, WordFeatures, word_counts
from weakfish.labeling.row_reader import FOLDS, RowReader, fit_reader, folds_of, hashes_of, normalized

TOPICS = ["prize money winner claim cash", "meeting agenda minutes report budget"]
OTHER = "the a of to in on for with at by"


def texts_of(classes: npt.NDArray[np.int64], seed: int) -> list[str]:
    """Texts of ten words each, of which three say what the class is."""
    draw = np.random.default_rng(seed)
    words = [topic.split() for topic in TOPICS]
    return [
        " ".join([*draw.choice(words[label], 3), *draw.choice(OTHER.split(), 7), f"n{number}"])
        for number, label in enumerate(classes)
    ]


def learned(
    texts: list[str], soft: npt.NDArray[np.float64], weights: npt.NDArray[np.float64]
) -> tuple[RowReader, npt.NDArray[np.float64]]:
    counts = word_counts([texts])
    folds = folds_of(hashes_of([texts]))
    reader = fit_reader(counts, folds, soft, weights)
    return reader, normalized(np.log(soft) + reader.log_odds(counts, folds))


@pytest.fixture
def truth() -> npt.NDArray[np.int64]:
    return np.random.default_rng(3).integers(0, 2, 600)


def soft_of(truth: npt.NDArray[np.int64], seed: int, right: float = 0.8) -> npt.NDArray[np.float64]:
    """What votes say that are right so often."""
    draw = np.random.default_rng(seed)
    said = np.where(draw.random(len(truth)) < right, truth, 1 - truth)
    return np.where(np.arange(2) == said[:, None], right, 1 - right)


def test_rows_without_votes_are_labeled_by_what_others_with_their_words_have(truth: npt.NDArray[np.int64]) -> None:
    soft, texts = soft_of(truth, 4), texts_of(truth, 5)
    voted = np.arange(len(truth)) < 400
    soft[~voted] = 0.5
    reader, both = learned(texts, soft, voted.astype(float))
    assert reader.helps
    assert (both.argmax(axis=1) == truth)[~voted].mean() > 0.9
    rows = np.arange(len(truth))
    right, before = both[rows, truth], soft[rows, truth]
    assert right[voted].mean() > before[voted].mean() + 0.05


def test_a_reader_of_words_that_say_nothing_is_not_listened_to(truth: npt.NDArray[np.int64]) -> None:
    soft, texts = soft_of(truth, 4), texts_of(1 - np.random.default_rng(8).permutation(truth), 5)
    reader, both = learned(texts, soft, np.ones(len(truth)))
    assert not reader.helps
    assert reader.power.max() < 0.3
    assert np.abs(both - soft).max() < 0.1


def test_no_row_is_judged_by_what_learned_from_it_or_a_copy(truth: npt.NDArray[np.int64]) -> None:
    texts = texts_of(truth, 5)
    texts[:50] = ["the very same words in all of these"] * 50
    soft = soft_of(truth, 4)
    counts, folds = word_counts([texts]), folds_of(hashes_of([texts]))
    assert len(set(folds[:50])) == 1
    assert set(folds) == set(range(FOLDS))
    before = fit_reader(counts, folds, soft, np.ones(len(truth))).models[folds[0]]
    soft[:50] = [0.99, 0.01]
    after = fit_reader(counts, folds, soft, np.ones(len(truth))).models[folds[0]]
    assert np.array_equal(before.weights, after.weights)


def test_the_same_rows_in_another_order_are_read_alike(truth: npt.NDArray[np.int64]) -> None:
    texts, soft = texts_of(truth, 5), soft_of(truth, 4)
    _, found = learned(texts, soft, np.ones(len(truth)))
    order = np.random.default_rng(1).permutation(len(truth))
    _, again = learned([texts[place] for place in order], soft[order], np.ones(len(truth)))
    assert np.allclose(found[order], again, atol=1e-3)


def test_what_a_row_weighs_is_how_often_it_stands_there() -> None:
    examples = np.array([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    from scipy.sparse import csr_array

    soft = np.array([[0.9, 0.1], [0.2, 0.8], [0.5, 0.5]])
    twice = SoftRegression.of(csr_array(examples[[0, 1, 2, 2]]), soft[[0, 1, 2, 2]], 4.0)
    weighed = SoftRegression.of(csr_array(examples), soft * np.array([[1.0], [1.0], [2.0]]), 4.0)
    assert np.allclose(twice.weights, weighed.weights, atol=1e-6)


def test_it_is_the_regression_of_scikit_learn() -> None:
    from scipy.sparse import csr_array
    from sklearn.linear_model import LogisticRegression

    draw = np.random.default_rng(2)
    examples, truth = csr_array(draw.normal(size=(300, 6))), draw.integers(0, 3, 300)
    ours = SoftRegression.of(examples, np.eye(3)[truth], 0.5)
    theirs = LogisticRegression(C=0.5, tol=1e-8, max_iter=5000).fit(examples, truth)
    assert np.abs(np.exp(ours.logs(examples)) - theirs.predict_proba(examples)).max() < 1e-3


def test_there_is_something_to_learn_from_or_a_sentence(truth: npt.NDArray[np.int64]) -> None:
    texts, soft = texts_of(truth, 5), soft_of(truth, 4)
    with pytest.raises(NothingToLearn, match="No row has a vote"):
        learned(texts, soft, np.zeros(len(truth)))
    with pytest.raises(NothingToLearn, match="one class only"):
        learned(texts, np.tile([1.0, 0.0], (len(truth), 1)), np.ones(len(truth)))
    with pytest.raises(NothingToLearn, match="share no words"):
        learned([chr(0x4E00 + number) for number in range(len(truth))], soft, np.ones(len(truth)))


def test_features_taught_by_some_rows_are_those_of_others_too() -> None:
    texts = [f"common words number{place % 3}" for place in range(30)]
    counts = word_counts([texts, texts])
    features = WordFeatures.of(counts)
    whole = features(counts)
    assert (features(word_counts([texts[:5], texts[:5]])) != whole[:5]).nnz == 0


def test_a_class_of_which_nothing_was_seen_is_never_made_likely(truth: npt.NDArray[np.int64]) -> None:
    voted = np.arange(len(truth)) < 400
    soft = np.column_stack([soft_of(truth, 4), np.zeros(len(truth))])
    counts, folds = word_counts([texts_of(truth, 5)]), folds_of(hashes_of([texts_of(truth, 5)]))
    reader = fit_reader(counts, folds, soft, voted.astype(float))
    assert reader.power.min() > 0.5
    added = reader.log_odds(counts, folds)
    assert np.array_equal(added[:, 2], added[:, :2].min(axis=1))
    both = normalized(np.log(np.full((len(truth), 3), 1 / 3)) + added)
    assert set(both[~voted].argmax(axis=1)) <= {0, 1}
