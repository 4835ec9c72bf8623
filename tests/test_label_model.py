"""The label model from sums: Snorkel's on the whole matrix, probabilities within 1e-12; sums, patterns and ties."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from snorkel.labeling.model import LabelModel, MajorityLabelVoter

from weakfish.contracts.votes_file import Votes
from weakfish.errors import LabelingFunctionError
from weakfish.labeling import choice as choice_module
from weakfish.labeling import label_model as patterns_module
from weakfish.labeling import tally as tally_module
from weakfish.labeling.choice import alone, learn
from weakfish.labeling.label_model import BATCH, FittedModel, Patterns, Sums, decide, draws, fit, indicators, majority
from weakfish.labeling.learning import Floats
from weakfish.labeling.tally import VoteTally
from weakfish.project.params import TaskParams

BALANCES = {2: [0.5, 0.5], -2: [0.97, 0.03], 3: [0.2, 0.3, 0.5], 5: [0.1, 0.4, 0.05, 0.25, 0.2]}


def task(balance: list[float], epochs: int = 60, l2: float = 0.0) -> TaskParams:
    classes = [f"class_{number}" for number in range(len(balance))]
    model = {"class_balance": balance, "n_epochs": epochs, "lr": 0.01, "l2": l2, "seed": 7}
    return TaskParams.model_validate({"classes": classes, "label_model": model})


def votes_of(rows: int, functions: int, classes: int, seed: int = 0, coverage: float = 0.6) -> Votes:
    """Votes of functions of many coverages and accuracies; the first row has none."""
    random = np.random.default_rng([seed, rows, functions, classes])
    gold = random.integers(classes, size=rows)
    found = np.full((rows, functions), -1, np.int8)
    for column in range(functions):
        right = random.random(rows) < random.uniform(0.4, 0.95)
        votes = np.where(right, gold, random.integers(classes, size=rows))
        found[:, column] = np.where(random.random(rows) < coverage * random.uniform(0.2, 1.5), votes, -1)
    found[0] = -1
    return found


def snorkel(votes: Votes, settings: TaskParams) -> LabelModel:
    given = settings.label_model
    model = LabelModel(cardinality=len(settings.classes), verbose=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(
            votes,
            class_balance=given.class_balance,
            n_epochs=given.n_epochs,
            lr=given.lr,
            l2=given.l2,
            seed=given.seed,
            log_freq=given.n_epochs,
            progress_bar=False,
        )
    return model


def assert_close(found: Floats, expected: Floats) -> None:
    """Exponentials here round the same on every processor, NumPy's, which Snorkel takes, do not."""
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads, level = torch.get_num_threads(), logging.getLogger().level
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    logging.getLogger().setLevel(level)


@pytest.mark.parametrize("functions", [3, 4, 11, 20, 40, 45])
@pytest.mark.parametrize("balance", BALANCES.values(), ids=str)
def test_a_fit_equals_snorkels_to_the_bit_and_predicts_as_it_does(functions: int, balance: list[float]) -> None:
    settings = task(balance)
    votes = votes_of(700, functions, len(balance))
    expected = snorkel(votes, settings)
    model = fit(Sums.of(votes, len(balance)), settings)
    assert np.array_equal(model.mu, expected.mu.detach().numpy())
    assert_close(model.probabilities(votes), expected.predict_proba(votes))
    assert model.weights == [float(weight) for weight in expected.get_weights()]


@pytest.mark.parametrize(("classes", "functions"), [(6, 3), (6, 12), (50, 4)])
def test_six_and_fifty_classes_are_as_in_snorkel_though_no_function_votes_for_the_first(
    classes: int, functions: int
) -> None:
    settings = task([1 / classes] * classes, epochs=30, l2=0.1)
    votes = votes_of(900, functions, classes)
    votes[votes == 0] = -1
    expected = snorkel(votes, settings)
    model = fit(Sums.of(votes[:400], classes) + Sums.of(votes[400:], classes), settings)
    assert np.array_equal(model.mu, expected.mu.detach().numpy())
    found = model.probabilities(votes)
    assert_close(found, expected.predict_proba(votes))
    assert (found[(votes >= 0).any(axis=1), 0] < 1 / classes).all()


@pytest.mark.parametrize(("rows", "l2"), [(3, 0.0), (101, 1.0), (1000, 0.3), (10_001, 0.0)])
def test_equal_with_any_number_of_rows_and_regularization(rows: int, l2: float) -> None:
    settings = task([0.3, 0.7], l2=l2)
    votes = votes_of(rows, 6, 2, coverage=0.8)
    expected = snorkel(votes, settings)
    model = fit(Sums.of(votes, 2), settings)
    assert_close(model.probabilities(votes), expected.predict_proba(votes))


def test_patterns_that_do_not_collapse_give_the_same_as_those_that_do() -> None:
    settings = task([0.5, 0.5])
    scattered = votes_of(2 * BATCH // 10, 30, 2)
    assert len(Patterns.of(scattered).counts) == len(scattered)
    repeated = np.repeat(votes_of(9, 30, 2), 3000, axis=0)
    assert len(Patterns.of(repeated).counts) == 9
    for votes in (scattered, repeated):
        expected = snorkel(votes, settings)
        model = fit(Sums.of(votes, 2), settings)
        assert_close(model.probabilities(votes), expected.predict_proba(votes))


def test_a_class_or_function_without_any_vote_is_as_in_snorkel() -> None:
    votes = votes_of(300, 5, 3)
    votes[:, 1], votes[votes == 2] = -1, 0
    settings = task([0.4, 0.3, 0.3])
    with np.errstate(divide="ignore"):
        expected = snorkel(votes, settings)
        weights = [float(weight) for weight in expected.get_weights()]
    model = fit(Sums.of(votes, 3), settings)
    assert_close(model.probabilities(votes), expected.predict_proba(votes))
    assert model.weights == weights


def test_a_row_without_votes_has_the_class_balance() -> None:
    votes = votes_of(300, 5, 3)
    model = fit(Sums.of(votes, 3), task([0.2, 0.3, 0.5]))
    assert model.probabilities(votes)[0] == pytest.approx([0.2, 0.3, 0.5], abs=1e-15)


def test_a_model_survives_json_exactly() -> None:
    votes = votes_of(300, 5, 3)
    model = fit(Sums.of(votes, 3), task([0.2, 0.3, 0.5])).through("2024-02")
    again = FittedModel.from_json(json.loads(json.dumps(model.to_json() | {"partitions": []})))
    assert again.to_json() == model.to_json()
    assert np.array_equal(again.mu, model.mu)
    assert again.mu.dtype == np.float32
    assert np.array_equal(again.probabilities(votes), model.probabilities(votes))


def test_losses_fall_and_hold_the_first_and_the_last_epoch() -> None:
    model = fit(Sums.of(votes_of(300, 5, 2), 2), task([0.5, 0.5], epochs=130))
    epochs = [epoch for epoch, _ in model.losses]
    assert (epochs[0], epochs[-1]) == (0, 129)
    assert 50 <= len(epochs) <= 67
    assert model.losses[-1][1] < model.losses[0][1]


@pytest.mark.parametrize(("functions", "voted", "says"), [(2, True, "at least 3"), (4, False, "No labeling function")])
def test_too_few_functions_and_no_votes_are_errors(functions: int, voted: bool, says: str) -> None:
    votes = votes_of(50, functions, 2) if voted else np.full((50, functions), -1, np.int8)
    with pytest.raises(LabelingFunctionError, match=says):
        fit(Sums.of(votes, 2), task([0.5, 0.5]))


label_matrices = st.tuples(st.integers(0, 40), st.integers(1, 50), st.integers(2, 4), st.integers(0, 10**6))


@settings(max_examples=60, deadline=None)
@given(label_matrices, st.randoms())
def test_sums_are_those_of_the_matrix_whatever_the_shards_and_their_order(
    shape: tuple[int, int, int, int], order: object
) -> None:
    rows, functions, classes, seed = shape
    votes = votes_of(rows + 1, functions, classes, seed)
    ones = indicators(votes, classes)
    whole = Sums.of(votes, classes)
    assert np.array_equal(whole.pairs, (ones.T @ ones).toarray())
    assert (whole.rows, whole.covered) == (len(votes), int((votes >= 0).any(axis=1).sum()))
    shards = [VoteTally.of(part, classes) for part in np.array_split(votes, 4)]
    order.shuffle(shards)  # type: ignore[attr-defined]
    total = VoteTally.total(shards, functions, classes)
    assert total.sums == whole
    assert total.sums == shards[0].sums + VoteTally.total(shards[1:], functions, classes).sums
    expanded = np.repeat(total.patterns.votes, total.patterns.counts, axis=0)
    assert Sums.of(expanded, classes) == whole


@pytest.mark.parametrize("functions", [1, 7, 40, 41, 90])
@pytest.mark.parametrize("fortran", [False, True])
def test_patterns_stand_for_each_row(functions: int, fortran: bool) -> None:
    votes = np.repeat(votes_of(70, functions, 3), 200, axis=0)[np.random.default_rng(1).permutation(14_000)]
    found = Patterns.of(np.asfortranarray(votes) if fortran else votes)
    assert np.array_equal(found.votes[found.inverse], votes)
    assert len(found.votes) == len(np.unique(votes, axis=0))
    assert np.array_equal(found.counts, np.bincount(found.inverse))


def test_a_sample_of_very_many_patterns_does_not_depend_on_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patterns_module, "LIMIT", 50)
    parts = [Patterns.of(part) for part in np.array_split(votes_of(600, 12, 2), 5)]
    nothing = Patterns(np.empty((0, 12), np.int8), np.zeros(0, np.int64))
    forward, backward = sum(parts, nothing), sum(reversed(parts), nothing)
    assert len(forward.counts) == 50
    assert {row.tobytes() for row in forward.votes} == {row.tobytes() for row in backward.votes}


@pytest.mark.parametrize("classes", [2, 4])
def test_majority_vote_equals_snorkels(classes: int) -> None:
    votes = votes_of(300, 7, classes)
    assert np.array_equal(majority(votes, classes), MajorityLabelVoter(classes).predict_proba(votes))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text(max_size=8), min_size=1, max_size=60, unique=True), st.integers(0, 2**31), st.randoms())
def test_a_tie_is_resolved_by_the_key_and_the_seed_alone(keys: list[str], seed: int, order: object) -> None:
    random = np.random.default_rng(len(keys))
    shares = random.choice([0.0, 0.2, 0.3, 0.5], size=(len(keys), 4))
    chosen = dict(zip(keys, decide(shares, pa.array(keys), seed).tolist(), strict=True))
    for key, row in zip(keys, shares, strict=True):
        assert row[chosen[key]] == row.max()
    turned = list(range(len(keys)))
    order.shuffle(turned)  # type: ignore[attr-defined]
    subset = turned[: max(1, len(turned) // 2)]
    again = decide(shares[subset], pa.chunked_array([[keys[place]] for place in subset]), seed)
    assert again.tolist() == [chosen[keys[place]] for place in subset]


def test_ties_fall_evenly_and_otherwise_with_another_seed() -> None:
    keys = pa.array([f"o{number}" for number in range(6000)])
    shares = np.tile([0.4, 0.2, 0.4, 0.0], (6000, 1))
    first, second = decide(shares, keys, 1), decide(shares, keys, 2)
    assert set(first.tolist()) == {0, 2}
    assert np.mean(first == 0) == pytest.approx(0.5, abs=0.03)
    assert np.mean(first == second) == pytest.approx(0.5, abs=0.03)
    assert np.array_equal(first, decide(shares, keys, 1))


def test_nearly_equal_probabilities_tie_as_in_snorkel() -> None:
    keys = pa.array([str(number) for number in range(200)])
    assert set(decide(np.tile([0.5 + 4e-6, 0.5 - 4e-6], (200, 1)), keys, 1).tolist()) == {0, 1}
    assert set(decide(np.tile([0.5 + 6e-6, 0.5 - 6e-6], (200, 1)), keys, 1).tolist()) == {0}


def test_draws_never_change_with_the_process_or_the_type_of_the_key() -> None:
    drawn = [8740245766005457648, 7686956441242194488, 1178151955198571137]
    assert draws(pa.array(["a", "ſ", "12"]), 1).tolist() == drawn
    assert draws(pa.array([12]), 1).tolist() == drawn[2:]
    assert draws(pa.array(["a"]), 2).tolist() != drawn[:1]


@pytest.mark.parametrize(("classes", "room"), [(2, tally_module.ROOM), (3, tally_module.ROOM), (3, 200)])
def test_votes_are_counted_against_the_majority_of_the_others(
    classes: int, room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tally_module, "ROOM", room)
    votes = votes_of(300, 5, classes)
    expected = np.zeros((5, classes + 1, classes), np.int64)
    for row in votes:
        for function, vote in enumerate(row):
            others = np.bincount([v for f, v in enumerate(row) if f != function and v >= 0], minlength=classes)
            if (others == others.max()).sum() == 1:
                expected[function, vote, others.argmax()] += 1
    whole = VoteTally.of(votes, classes)
    assert np.array_equal(whole.others, expected)
    assert np.array_equal((VoteTally.of(votes[:100], classes) + VoteTally.of(votes[100:], classes)).others, expected)


@pytest.mark.parametrize("balance", [[0.5, 0.5], [0.97, 0.03], [0.2, 0.3, 0.5]])
@pytest.mark.parametrize("room", [choice_module.ROOM, 100])
def test_a_vote_settles_a_class_alone_if_no_votes_of_the_others_could_change_it(
    balance: list[float], room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choice_module, "ROOM", room)
    votes = votes_of(400, 4, len(balance), coverage=0.4)
    chosen = learn(votes, task(balance))
    logs = np.log(chosen.model.mu).astype(float).reshape(4, len(balance), len(balance))
    expected = np.zeros(4, np.int64)
    for row in votes:
        for one in np.flatnonzero(row >= 0):
            wins = [
                all(
                    logs[one, row[one], label] - logs[one, row[one], other]
                    > abs(np.log(balance[label] / balance[other]))
                    + sum(
                        abs(logs[f, row[f], label] - logs[f, row[f], other])
                        for f in range(4)
                        if row[f] >= 0 and f != one
                    )
                    for other in range(len(balance))
                    if other != label
                )
                for label in range(len(balance))
            ]
            expected[one] += any(wins)
    found = alone(chosen, VoteTally.of(votes, len(balance)).patterns)
    assert expected.sum() > 0
    assert np.array_equal(found.settled, expected)
    assert found.rows == (votes >= 0).any(axis=1).sum()
    assert found.differing / found.rows == chosen.signals.disagreement


def test_under_a_majority_vote_only_lone_votes_settle_a_class() -> None:
    votes = votes_of(400, 4, 2, coverage=0.4)
    chosen = learn(votes, task([0.5, 0.5]))
    found = alone(replace(chosen, method="majority"), VoteTally.of(votes, 2).patterns)
    lone = (votes >= 0).sum(axis=1) == 1
    assert np.array_equal(found.settled, (votes[lone] >= 0).sum(axis=0))
