"""Agreement of reviewers, against values that were published and scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from weakfish.contracts.gold import UNKNOWN
from weakfish.reviews.agreement import Agreement, cohen, counts_of, fleiss, krippendorff

FLEISS = [
    [0, 0, 0, 0, 14],
    [0, 2, 6, 4, 2],
    [0, 0, 3, 5, 6],
    [0, 3, 9, 2, 0],
    [2, 2, 8, 1, 1],
    [7, 7, 0, 0, 0],
    [3, 2, 6, 3, 0],
    [2, 5, 3, 2, 2],
    [6, 5, 2, 1, 0],
    [0, 2, 2, 3, 7],
]
"""Ten rows with fourteen answers each, of which Fleiss' kappa is 0.210 (the example of Wikipedia's article)."""

KRIPPENDORFF = """
1 2 3 3 2 1 4 1 2 . . .
1 2 3 3 2 2 4 1 2 5 . 3
. 3 3 3 2 3 4 2 2 5 1 .
1 2 3 3 2 4 4 1 2 5 1 .
"""
"""Four observers, twelve units, some without an answer: section C of Krippendorff's "Computing Krippendorff's
Alpha-Reliability" (2011), whose alpha is 0.743."""


def read(text: str) -> np.ndarray:
    """Answers (rows, reviewers) of a line per reviewer."""
    lines = [[UNKNOWN if word == "." else int(word) for word in line.split()] for line in text.strip().splitlines()]
    return np.array(lines).T


def test_cohens_kappa_is_that_of_the_textbook() -> None:
    one, other = np.repeat([0, 0, 1, 1], [20, 5, 10, 15]), np.repeat([0, 1, 0, 1], [20, 5, 10, 15])
    assert cohen(one, other, 2) == pytest.approx(0.4)


def test_cohens_kappa_is_scikit_learns() -> None:
    made = np.random.default_rng(4)
    one = made.integers(0, 5, 400)
    other = np.where(made.random(400) < 0.6, one, made.integers(0, 5, 400))
    assert cohen(one, other, 5) == pytest.approx(cohen_kappa_score(one, other))


def test_fleiss_kappa_is_the_published_one() -> None:
    assert fleiss(np.array(FLEISS)) == pytest.approx(0.210, abs=5e-4)


def test_krippendorffs_alpha_is_the_published_one() -> None:
    assert krippendorff(counts_of(read(KRIPPENDORFF), 6)) == pytest.approx(0.743, abs=5e-4)
    binary = read("0 1 0 0 0 0 0 0 1 0\n1 1 1 0 0 1 0 0 0 0")
    assert krippendorff(counts_of(binary, 2)) == pytest.approx(0.095, abs=5e-4)
    letters = read("0 0 1 1 3 2 2 2 4 3 3 0\n1 0 1 1 1 2 2 2 4 3 3 3")
    assert krippendorff(counts_of(letters, 5)) == pytest.approx(0.692, abs=5e-4)


def test_rows_that_reviewers_answer_differently_are_named_by_their_place() -> None:
    answers = np.array([[0, UNKNOWN, UNKNOWN], [1, 1, 2], [2, UNKNOWN, 2], [0, 1, UNKNOWN], [UNKNOWN] * 3])
    found = Agreement.of(answers, 3)
    assert (found.reviewers, found.rows, found.disputed) == (3, 3, (1, 3))
    assert found.same == pytest.approx((1 + 1) / (3 + 1 + 1))
    assert found.kappa is None  # rows have two or three answers
    assert found.alpha == pytest.approx(krippendorff(counts_of(answers[1:4], 3)))


def test_two_of_many_reviewers_who_share_rows_have_cohens_kappa() -> None:
    answers = np.array([[0, 0, UNKNOWN], [1, 0, UNKNOWN], [1, 1, UNKNOWN], [UNKNOWN, UNKNOWN, 1]])
    found = Agreement.of(answers, 2)
    assert found.reviewers == 2
    assert found.kappa == pytest.approx(cohen_kappa_score([0, 1, 1], [0, 0, 1]))


def test_three_reviewers_who_answered_all_rows_have_fleiss_kappa() -> None:
    answers = np.array([[0, 0, 1], [1, 1, 1], [0, 1, 0], [0, 0, 0]])
    assert Agreement.of(answers, 2).kappa == fleiss(counts_of(answers, 2))


def test_what_chance_alone_would_give_is_no_agreement() -> None:
    same = np.zeros((5, 2), np.int64)
    found = Agreement.of(same, 3)
    assert (found.same, found.kappa, found.alpha, found.disputed) == (1.0, None, None, ())
    assert found.to_json() == {"reviewers": 2, "rows": 5, "same": 1.0, "kappa": None, "alpha": None, "disputed": 0}


def test_nobody_agrees_alone() -> None:
    assert Agreement.of(np.array([[0, UNKNOWN], [UNKNOWN, 1]]), 2) is None
