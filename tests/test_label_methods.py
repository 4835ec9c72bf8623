"""The Hyper model, Dawid and Skene's, and every method where votes are few, many, one-sided or absent."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from in_process import run_here
from made_tasks import Made, labelled, project

from benchmarks.label_model_choice import METHODS, task, unipolar, voter, with_method
from weakfish.contracts.tables import read_table
from weakfish.contracts.votes_file import Votes
from weakfish.errors import LabelingFunctionError
from weakfish.files import read_json
from weakfish.labeling import dawid_skene, hyper
from weakfish.labeling import label_model as label_model_module
from weakfish.labeling import vote_pairs as pairs_module
from weakfish.labeling.choice import DAWID_SKENE, HYPER, MAJORITY, SNORKEL, Chosen, Maker, choose, learn
from weakfish.labeling.flips import Cause, Edits, causes
from weakfish.labeling.hyper import HyperModel
from weakfish.labeling.kinship import Kinship
from weakfish.labeling.label_model import FittedModel, Patterns, Sums, majority
from weakfish.labeling.signals import held_out, unexplained_where_both
from weakfish.labeling.tally import VoteTally

EVERY = (*METHODS, "auto")

TWO = np.array(
    [
        [0, 0, 1, -1],
        [1, 1, 1, -1],
        [-1, 1, 0, 0],
        [0, 1, 0, -1],
        [1, -1, -1, -1],
        [0, 0, -1, 1],
        [1, 1, 0, 1],
        [0, 0, 1, -1],
    ],
    np.int8,
)
OF_TWO = [0.4838977, 0.5316693, 0.4838552, 0.4839079, 0.5278168, 0.4837781, 0.5210627, 0.4838977]
"""What ``predict_prob`` of hyperlm 0.0.5 gives the second class on the votes of `TWO`."""

FOUR = np.array(
    [
        [0, 1, -1, 3],
        [2, 2, 1, -1],
        [3, -1, 3, 3],
        [0, 0, 1, -1],
        [-1, 1, 1, 2],
        [2, -1, -1, -1],
        [0, 1, 2, 3],
        [3, 3, -1, 0],
    ],
    np.int8,
)
OF_FOUR = [
    [0.2535539, 0.2528582, 0.2430469, 0.2505409],
    [0.2417193, 0.251111, 0.2660611, 0.2411087],
    [0.2435572, 0.2409481, 0.2443212, 0.2711734],
    [0.2681374, 0.2503177, 0.2411979, 0.240347],
    [0.2400305, 0.2688216, 0.2514646, 0.2396833],
    [0.2438427, 0.2407358, 0.2723209, 0.2431006],
    [0.2512192, 0.2488958, 0.2516325, 0.2482526],
    [0.2539105, 0.2392802, 0.2433063, 0.263503],
]
"""The same for `FOUR`."""


def even(classes: int) -> np.ndarray:
    return np.full(classes, 1 / classes)


def patterns(votes: Votes, classes: int) -> Patterns:
    return VoteTally.of(votes, classes).patterns


def learned(votes: Votes, classes: int, method: str, l2: float = 0.1) -> Chosen:
    return learn(votes, with_method(task(even(classes).tolist(), l2), method))


def votes_of(rows: int, functions: int, classes: int, seed: int = 0, accuracy: float = 0.8) -> tuple[Votes, np.ndarray]:
    random = np.random.default_rng([seed, rows, functions])
    gold = random.integers(classes, size=rows)
    return np.stack([voter(random, gold, classes, 0.5, accuracy) for _ in range(functions)], axis=1), gold


# --- The Hyper model -------------------------------------------------------------------------------------------------


def test_the_hyper_model_gives_what_its_authors_package_gives() -> None:
    two = hyper.fit(patterns(TWO, 2), even(2), len(TWO))
    assert two.shares(TWO)[:, 1] == pytest.approx(OF_TWO, abs=1e-6)
    four = hyper.fit(patterns(FOUR, 4), even(4), len(FOUR))
    assert four.shares(FOUR) == pytest.approx(np.array(OF_FOUR), abs=1e-6)
    raised = np.array(OF_FOUR) ** 32
    assert four.posterior(FOUR) == pytest.approx(raised / raised.sum(axis=1, keepdims=True), abs=1e-4)


def test_a_pretrained_file_of_another_version_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    hyper.network.cache_clear()
    monkeypatch.setattr(hyper, "SHA256", "0" * 64)
    with pytest.raises(LabelingFunctionError, match=r"hyper\.npz is not the file of this version"):
        hyper.network()
    monkeypatch.undo()
    assert len(hyper.network().layers) == 4


def test_a_row_has_the_same_posterior_alone_and_among_others_and_in_any_order() -> None:
    votes, _ = votes_of(400, 6, 3)
    votes[0] = -1
    model = hyper.fit(patterns(votes, 3), np.array([0.2, 0.3, 0.5]), len(votes))
    whole = model.probabilities(votes)
    assert whole[0].tolist() == [0.2, 0.3, 0.5]
    for row in (0, 5, 399):
        assert model.posterior(votes[[row]])[0] == pytest.approx(whole[row], abs=1e-13)
    order = np.random.default_rng(1).permutation(len(votes))
    again = hyper.fit(patterns(votes[order], 3), np.array([0.2, 0.3, 0.5]), len(votes))
    assert again.to_json() == model.to_json()


def test_the_hyper_model_survives_json_exactly() -> None:
    votes, _ = votes_of(300, 5, 3)
    model = learned(votes, 3, HYPER).model.through("2024-02")
    assert isinstance(model, HyperModel)
    again = HyperModel.from_json(json.loads(json.dumps(model.to_json() | {"partitions": []})))
    assert again.to_json() == model.to_json()
    assert np.array_equal(again.probabilities(votes), model.probabilities(votes))


def test_a_sample_of_patterns_stands_for_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    votes, _ = votes_of(20_000, 12, 2)
    whole = hyper.fit(patterns(votes, 2), even(2), len(votes))
    monkeypatch.setattr(hyper, "MOST", 20_000)
    sampled = hyper.fit(patterns(votes, 2), even(2), len(votes))
    assert not np.array_equal(sampled.means, whole.means)
    assert sampled.means == pytest.approx(whole.means, abs=0.1)
    assert (sampled.posterior(votes).argmax(axis=1) == whole.posterior(votes).argmax(axis=1)).mean() > 0.99


def test_a_priority_sample_keeps_common_patterns_and_estimates_the_rest() -> None:
    votes, _ = votes_of(3000, 8, 2)
    common = np.repeat(votes[:1], 5000, axis=0)
    found = patterns(np.concatenate([votes, common]), 2)
    kept, rows = found.sampled(np.ones(len(found.counts), np.int64), 500)
    assert len(kept) == 500
    assert rows.max() == found.counts.max()
    assert rows.sum() == pytest.approx(8000, rel=0.1)


def test_a_function_that_no_fit_has_seen_counts_as_an_average_one() -> None:
    votes, _ = votes_of(300, 4, 2)
    votes[:, 3] = -1
    model = hyper.fit(patterns(votes, 2), even(2), 300)
    found = model.posterior(np.array([[-1, -1, -1, 1], [-1, -1, -1, 0]], np.int8))
    assert found[0, 1] > 0.6
    assert found[1, 0] > 0.6


# --- Dawid and Skene's -----------------------------------------------------------------------------------------------


def oracle(votes: Votes, classes: int, balance: np.ndarray, steps: int) -> np.ndarray:
    """The posterior after some steps, row by row and without logarithms."""
    share = majority(votes, classes)
    for _ in range(steps):
        counts = np.full((votes.shape[1], classes, classes), 0.01) + 0.5 * np.eye(classes)
        for row, of_row in zip(votes, share, strict=True):
            for function, vote in enumerate(row):
                if vote >= 0:
                    counts[function, vote] += of_row
        mu = counts / counts.sum(axis=1, keepdims=True)
        share = np.tile(balance, (len(votes), 1))
        for place, row in enumerate(votes):
            for function, vote in enumerate(row):
                if vote >= 0:
                    share[place] *= mu[function, vote]
        share /= share.sum(axis=1, keepdims=True)
    return share


def test_dawid_and_skenes_model_equals_expectation_maximization_row_by_row() -> None:
    votes, _ = votes_of(150, 5, 3)
    voted = votes[(votes >= 0).any(axis=1)]
    balance = np.array([0.2, 0.3, 0.5])
    model = dawid_skene.fit(patterns(votes, 3), balance, len(votes))
    assert model.posterior(voted) == pytest.approx(oracle(voted, 3, balance, len(model.losses)), abs=1e-5)


def test_dawid_and_skenes_model_finds_out_how_good_functions_are() -> None:
    random = np.random.default_rng(3)
    gold = random.integers(2, size=20_000)
    accuracies = (0.95, 0.8, 0.65, 0.6, 0.55)
    votes = np.stack([voter(random, gold, 2, 0.6, accuracy) for accuracy in accuracies], axis=1)
    assert learned(votes, 2, DAWID_SKENE).model.weights == pytest.approx(accuracies, abs=0.03)


# --- What auto goes by -----------------------------------------------------------------------------------------------


def test_held_out_votes_are_named_from_the_others_and_ties_count_their_share() -> None:
    votes = np.array([[0, 0, 1], [1, 1, -1], [0, -1, -1], [0, 1, -1]], np.int8)
    # of the first row 0|01: tie, 0|01: tie, 1|00: wrong; of the second both right; of the last both wrong
    assert held_out(lambda rows: majority(rows, 2), patterns(votes, 2), 2) == (0.5 + 0.5 + 0 + 1 + 1 + 0 + 0) / 7
    assert held_out(lambda rows: majority(rows, 2), patterns(votes[2:3], 2), 2) is None


def test_one_sided_functions_leave_nothing_to_explain_and_dependent_ones_too_much() -> None:
    random = np.random.default_rng(4)
    gold = random.integers(2, size=8000)
    hidden = np.where(random.random(8000) < 0.6, gold, 1 - gold)
    both = [voter(random, gold, 2, 0.6, accuracy) for accuracy in (0.9, 0.8, 0.7, 0.6)]
    follow = [voter(random, hidden, 2, 0.6, 0.9) for _ in range(3)]
    one_sided = [unipolar(random, gold, number % 2, 0.5, 0.1) for number in range(6)]
    found = []
    for votes in (both, [*both, *follow], one_sided):
        tally = VoteTally.of(np.stack(votes, axis=1), 2)
        found.append(unexplained_where_both(dawid_skene.fit(tally.patterns, even(2), 8000), tally.sums))
    independent, dependent, nothing = found
    assert independent is not None
    assert independent < 0.01
    assert dependent is not None
    assert dependent > 0.05
    assert nothing is None


# --- Few, many and strange votes -------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", EVERY)
@pytest.mark.parametrize("functions", [1, 2])
def test_one_or_two_functions_get_a_majority_vote_and_a_sentence(functions: int, method: str) -> None:
    votes, _ = votes_of(300, functions, 3)
    chosen = learned(votes, 3, method)
    there = "There is 1 labeling function;" if functions == 1 else "There are 2 labeling functions;"
    assert chosen.method == MAJORITY
    assert chosen.why[0].startswith(f"{there} with fewer than 3 nothing shows which is right")
    voted = (votes >= 0).any(axis=1)
    assert np.array_equal(chosen.probabilities(votes)[voted], majority(votes, 3)[voted])
    assert len(chosen.model.weights) == functions
    assert chosen.signals.voting == functions


@pytest.mark.parametrize("method", EVERY)
def test_no_vote_at_all_is_one_sentence(method: str) -> None:
    with pytest.raises(LabelingFunctionError, match="No labeling function votes on any row"):
        learned(np.full((50, 4), -1, np.int8), 2, method)


@pytest.mark.parametrize("method", EVERY)
@pytest.mark.parametrize(("classes", "never"), [(2, 0), (2, 1), (5, 0), (5, 4)])
def test_a_class_that_nobody_votes_for_is_never_the_label(classes: int, never: int, method: str) -> None:
    votes, _ = votes_of(600, 6, classes, accuracy=0.9)
    votes[votes == never] = -1
    found = learned(votes, classes, method).probabilities(votes)
    assert found.shape == (600, classes)
    assert found.sum(axis=1) == pytest.approx(1)
    voted = (votes >= 0).any(axis=1)
    assert (found[voted].argmax(axis=1) != never).all()
    assert found[~voted] == pytest.approx(1 / classes)


@pytest.mark.parametrize("method", EVERY)
@pytest.mark.parametrize("label", [0, 1])
def test_rows_on_which_all_functions_agree_have_that_class(label: int, method: str) -> None:
    votes = np.full((200, 5), label, np.int8)
    votes[np.random.default_rng(1).random(votes.shape) < 0.3] = -1
    votes[0] = -1
    found = learned(votes, 2, method).probabilities(votes)
    voted = (votes >= 0).any(axis=1)
    assert (found[voted, label] > 0.5).all()
    assert found[0].tolist() == [0.5, 0.5]


@pytest.mark.parametrize("method", EVERY)
def test_five_hundred_functions_on_one_row_are_right(method: str) -> None:
    """Of rare functions Snorkel's own product of probabilities is no number on such a row."""
    random = np.random.default_rng(2)
    gold = random.integers(2, size=3000)
    votes = np.full((3000, 500), -1, np.int8)
    for column in range(500):
        rows = random.choice(2999, 6, replace=False) + 1
        votes[rows, column] = np.where(random.random(6) < 0.9, gold[rows], 1 - gold[rows])
    votes[0] = np.where(np.arange(500) < 420, 1, 0)
    chosen = learned(votes, 2, method)
    found = chosen.probabilities(votes)
    assert np.isfinite(found).all()
    assert found.sum(axis=1) == pytest.approx(1)
    assert found[0, 1] > 0.5


def test_the_posterior_of_a_row_that_underflows_is_that_of_its_log_odds() -> None:
    mu = np.full((400, 2), 1e-6, np.float32)
    mu[:, 1] = 1.01e-6
    model = FittedModel(mu, np.array([0.5, 0.5]), [1.0] * 200, rows=10**6)
    votes = np.ones((1, 200), np.int8)
    with np.errstate(all="raise", under="ignore"):
        found = model.posterior(votes)[0]
    odds = 200 * float(np.log(np.float64(mu[1, 1])) - np.log(np.float64(mu[1, 0])))
    assert found[1] == pytest.approx(1 / (1 + np.exp(-odds)), rel=1e-5)


@pytest.mark.parametrize("method", EVERY)
def test_eighty_classes_and_five_hundred_functions_fit_in_memory(method: str) -> None:
    """Dense, pairs of their votes alone would take 12.8 GB."""
    random = np.random.default_rng(5)
    gold = random.integers(80, size=2000)
    votes = np.stack([unipolar(random, gold, number % 80, 0.6, 0.001) for number in range(500)], axis=1)
    tally = VoteTally.of(votes, 80)
    assert tally.sums.voted.counts is not None
    assert tally.sums.voted.counts.shape == (500, 500)
    settings = with_method(task(even(80).tolist()), method)
    if method == SNORKEL:
        with pytest.raises(LabelingFunctionError, match="500 labeling functions and 80 classes does not fit in memory"):
            choose(tally.sums, tally.patterns, settings)
        return
    chosen = choose(tally.sums, tally.patterns, settings)
    voted = (votes >= 0).any(axis=1)
    assert (chosen.probabilities(votes)[voted].argmax(axis=1) == gold[voted]).mean() > 0.95


def test_with_too_many_different_votes_pairs_are_not_counted_and_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairs_module, "MOST", 11)
    votes, _ = votes_of(500, 4, 3)
    parts = [Sums.of(part, 3) for part in (votes[:3], votes[3:])]
    tally = VoteTally.of(votes, 3)
    assert tally.sums.voted.counts is None
    assert (parts[0] + parts[1]).voted == tally.sums.voted
    assert tally.sums.votes.tolist() == [int((votes[:, f] == c).sum()) for f in range(4) for c in range(3)]
    assert not Kinship.of(tally.sums, 3).compared
    chosen = choose(tally.sums, tally.patterns, with_method(task(even(3).tolist()), "auto"))
    assert chosen.method in (HYPER, MAJORITY)
    assert chosen.why[-1] == "There are too many functions and classes to look for copies among them."


def test_snorkels_model_is_refused_where_its_matrices_do_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(label_model_module, "LARGEST", 11)
    votes, _ = votes_of(100, 4, 3)
    with pytest.raises(LabelingFunctionError, match="method to auto, hyper or dawid-skene"):
        learned(votes, 3, SNORKEL)
    assert learned(votes, 3, "auto").method != SNORKEL


@pytest.mark.parametrize("method", EVERY)
def test_an_added_function_is_the_cause_of_the_labels_that_it_brings(method: str) -> None:
    votes, _ = votes_of(600, 5, 3)
    names = ["a", "b", "c", "d", "e"]
    before, after = learned(votes[:, :4], 3, method), learned(votes, 3, method)
    old = Maker(before.model, names[:4], before.method, ["all"], seed=1)
    new = Maker(after.model, names, after.method, ["all"], seed=1)
    rows = np.flatnonzero((votes[:, :4] < 0).all(axis=1) & (votes[:, 4] >= 0))
    keys = pa.chunked_array([[f"k{row}" for row in rows]])
    labels = new.labels(votes[rows], keys)
    assert (labels == votes[rows, 4]).all()
    edits = Edits([], ["e"], [])
    found = causes(old, new, (votes[rows, :4], votes[rows]), keys, labels, edits)
    assert set(found) == {Cause("function", ("e",))}
    other = learned(votes[:, :4], 3, SNORKEL if method == HYPER else HYPER)
    unlike = Maker(other.model, names[:4], other.method, ["all"], seed=1)
    told = causes(unlike, new, (votes[rows, :4], votes[rows]), keys, labels, edits)
    assert {each.kind for each in told} <= {"function", "several", "refit"}


# --- In a project ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", EVERY)
def test_a_project_of_eighty_classes_is_labelled_and_explained(
    method: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = Made(80, 6, votes_for=6, method=method)
    at = labelled(project(tmp_path, {"topic": made}, rows=200))
    labels = read_table(at.table("labels/topic"))
    assert labels["covered"].to_numpy().sum() > 10
    assert set(labels["label"].to_pylist()) <= {*made.names[:6], None}
    row = next(row for row in labels.to_pylist() if row["covered"])
    run_here(at.root, ["explain", row["ticket_id"], "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["label"] == row["label"]
    if found["prior"] is not None:
        parts = [found["together"]] if found["together"] else [each["log_odds"] for each in found["functions"]]
        assert (found["together"] is not None) == (found["method"] == HYPER)
        for name in made.names[1:]:
            total = found["prior"][name] + sum(part[name] for part in parts)
            expected = np.log(found["probabilities"][name] / found["probabilities"][made.names[0]])
            assert total == pytest.approx(expected, abs=1e-9)
    run_here(at.root, ["explain", row["ticket_id"]])
    assert ("(the votes together)" in capsys.readouterr().out) == (found["method"] == HYPER)


@pytest.mark.parametrize("refit", ["always", "monthly"])
@pytest.mark.parametrize("method", EVERY)
def test_a_month_without_any_vote_is_uncovered(method: str, refit: str, tmp_path: Path) -> None:
    made = Made(3, 5, method=method)
    at = project(tmp_path, {"topic": made}, rows=200)
    params = at.root / "params.yaml"
    params.write_text(params.read_text().replace("seed: 1", f"seed: 1\n      refit: {refit}"))
    for file in at.table("votes").glob("topic/2024-02.parquet"):
        _silence(file)
    labelled(type(at)(at.root))
    labels = read_table(at.table("labels/topic")).to_pylist()
    silent = [row for row in labels if row["opened_at"].month == 2]
    assert silent
    assert not any(row["covered"] or row["label"] for row in silent)
    assert all(row["p_kind_01"] == pytest.approx(1 / 3) for row in silent)
    assert sum(row["covered"] for row in labels) > 50
    found = read_json(at.reports / "labeling_functions.json")["tasks"]["topic"]["by_partition"]
    assert [part["covered"] > 0 for part in found] == [True, False, True]


def _silence(file: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(file)
    silent = pa.array([-1] * len(table), pa.int8())
    pq.write_table(pa.table([silent] * table.num_columns, schema=table.schema), file)
