"""The choice between label model and majority vote: never far behind the majority, and for a reason."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.label_model_choice import (
    MATRICES,
    METHODS,
    REPORTED,
    TUNED,
    copy,
    line,
    task,
    unipolar,
    voter,
    with_method,
)
from weakfish.labeling.choice import DAWID_SKENE, HYPER, MAJORITY, NAIVE_BAYES, SNORKEL, choose, learn
from weakfish.labeling.label_model import majority
from weakfish.labeling.signals import copies
from weakfish.labeling.tally import VoteTally

RESULTS = Path(__file__).resolve().parent.parent / "benchmarks" / "label_model_choice.jsonl"
POINTS = 0.005
NOISE = 0.01
"""At the small size of these tests a sampled accuracy strays by this much."""


@pytest.mark.parametrize("name", MATRICES)
def test_auto_stays_with_the_majority_vote_or_beats_it(name: str) -> None:
    found = line(name, 21, MATRICES[name](np.random.default_rng([21, len(name)]), 4000))
    assert found["behind_majority"] <= POINTS + NOISE
    assert found["why"]


def test_auto_takes_dawid_and_skenes_model_where_it_explains_what_functions_have_in_common() -> None:
    for name in ("different_accuracies", "worse_than_chance", "three_classes"):
        found = line(name, 22, MATRICES[name](np.random.default_rng(22), 20_000))
        assert found["chose"] == DAWID_SKENE
        assert found["auto"] == found[DAWID_SKENE]
        assert found["auto"] > found["majority"] + 0.06


def test_the_committed_results_hold_the_promise_on_seeds_that_were_not_tuned_on() -> None:
    lines = [json.loads(text) for text in RESULTS.read_text(encoding="utf-8").splitlines()]
    assert {found["matrix"] for found in lines} >= {*MATRICES, "spam_all", "spam_10"}
    assert {found["seed"] for found in lines if found["matrix"] in MATRICES} == set(REPORTED)
    assert not set(REPORTED) & set(TUNED)
    assert max(found["behind_majority"] for found in lines) <= POINTS
    assert {found["chose"] for found in lines} == {MAJORITY, HYPER, NAIVE_BAYES, DAWID_SKENE}


def test_copies_are_found_and_named_worst_first() -> None:
    random = np.random.default_rng(5)
    gold = random.integers(2, size=8000)
    votes = [voter(random, gold, 2, 0.7, 0.8) for _ in range(6)]
    votes += [copy(random, votes[0], 0.06, 2), copy(random, votes[3], 0.1, 2)]
    matrix = np.stack(votes, axis=1)
    tally = VoteTally.of(matrix, 2)
    chosen = learn(matrix, with_method(task([0.5, 0.5]), SNORKEL))
    pairs = [(found.first, found.second) for found in copies(chosen.model, tally.sums)]
    assert pairs == [(0, 6), (3, 7)]
    assert learn(matrix, task([0.5, 0.5])).method in (HYPER, MAJORITY), "Dawid and Skene's model counts copies twice"


def test_independent_functions_have_no_copies_however_good_they_are() -> None:
    random = np.random.default_rng(6)
    gold = random.integers(2, size=8000)
    votes = [voter(random, gold, 2, 0.9, 0.95) for _ in range(5)] + [unipolar(random, gold, 1, 0.6, 0.02)]
    assert learn(np.stack(votes, axis=1), with_method(task([0.5, 0.5]), SNORKEL)).signals.copies == ()


def test_a_fit_of_few_epochs_has_not_converged() -> None:
    matrix = MATRICES["different_accuracies"](np.random.default_rng(1), 2000)
    settings = with_method(task(matrix.balance), SNORKEL)
    short = settings.model_copy(update={"label_model": settings.label_model.model_copy(update={"n_epochs": 15})})
    assert not learn(matrix.votes, short).signals.converged
    assert learn(matrix.votes, settings).signals.converged


@pytest.mark.parametrize("method", METHODS)
def test_a_method_that_is_asked_for_is_taken(method: str) -> None:
    matrix = MATRICES["copies"](np.random.default_rng(1), 2000)
    settings = task(matrix.balance)
    tally = VoteTally.of(matrix.votes, 2)
    chosen = choose(tally.sums, tally.patterns, with_method(settings, method))
    assert (chosen.method, chosen.why) == (method, [f"params.yaml asks for it: label_model.method is {method}."])
    voted = (matrix.votes >= 0).any(axis=1)
    expected = majority(matrix.votes, 2) if method == MAJORITY else chosen.model.probabilities(matrix.votes)
    assert np.array_equal(chosen.probabilities(matrix.votes)[voted], expected[voted])
    assert chosen.probabilities(matrix.votes)[~voted] == pytest.approx(0.5)


def test_signals_of_shards_do_not_depend_on_their_order() -> None:
    votes = MATRICES["unipolar_functions"](np.random.default_rng(1), 3000).votes
    shards = [VoteTally.of(part, 2) for part in np.array_split(votes, 5)]
    there, back = (VoteTally.total(parts, votes.shape[1], 2) for parts in (shards, shards[::-1]))
    for method in (*METHODS, "auto"):
        settings = with_method(task([0.5, 0.5]), method)
        first, second = (choose(tally.sums, tally.patterns, settings) for tally in (there, back))
        assert first.signals == second.signals
        assert first.model.to_json() == second.model.to_json()
