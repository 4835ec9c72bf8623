"""Functions that say the same count once under `auto`, and the report says which these are."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from in_process import run_here
from projects import replace, tiny

from benchmarks.label_model_choice import copy, task, unipolar, voter
from weakfish.contracts.figures import percent
from weakfish.contracts.tables import TIME, write_partition
from weakfish.contracts.votes_file import Votes
from weakfish.files import read_json
from weakfish.labeling.choice import MAJORITY, Chosen, learn
from weakfish.labeling.kinship import Kinship
from weakfish.labeling.label_model import covered, decide, fit, once
from weakfish.labeling.tally import VoteTally

ROWS = 20_000
EVEN = [0.5, 0.5]


def independent(seed: int, accuracies: tuple[float, ...], coverage: float = 0.7) -> tuple[np.ndarray, list[Votes]]:
    random = np.random.default_rng(seed)
    gold = random.integers(2, size=ROWS)
    return gold, [voter(random, gold, 2, coverage, accuracy) for accuracy in accuracies]


def kinship(*votes: Votes) -> Kinship:
    return Kinship.of(VoteTally.of(np.stack(votes, axis=1), 2).sums, 2)


def kinds(found: Kinship) -> set[tuple[str, int, int]]:
    return {(each.kind, each.first, each.second) for each in found.kin}


def auto(*votes: Votes, **settings: object) -> Chosen:
    asked = task(EVEN)
    model = asked.label_model.model_copy(update=settings)
    return learn(np.stack(votes, axis=1), asked.model_copy(update={"label_model": model}))


def accuracy(chosen: Chosen, gold: np.ndarray, *votes: Votes) -> float:
    matrix = np.stack(votes, axis=1)
    seen = covered(matrix)
    won = decide(chosen.probabilities(matrix), pa.array(map(str, range(len(gold)))), 1)
    return float((won == gold)[seen].mean())


def test_five_copies_count_as_one_function_whatever_auto_chooses() -> None:
    for accuracies, one_sided in (((0.8,) * 5, True), ((0.95, 0.9, 0.6, 0.58, 0.56, 0.55), False)):
        gold, votes = independent(3, accuracies)
        if one_sided:  # of which Dawid and Skene's model learns nothing
            votes = [np.where(each == place % 2, each, -1).astype(np.int8) for place, each in enumerate(votes)]
        method = "majority" if one_sided else "dawid-skene"
        weak = independent(3, (0.6,))[1][0][::-1].copy()
        if one_sided:
            weak[weak == 0] = -1
        alone, copied = auto(*votes, weak), auto(*votes, *[weak] * 5)
        assert (alone.method, copied.method) == (method, method)
        assert np.array_equal(
            copied.probabilities(np.stack([*votes, *[weak] * 5], axis=1)),
            alone.probabilities(np.stack([*votes, weak], axis=1)),
        )
        assert copied.signals.voting == len(votes) + 1
        first = len(votes) + 1
        assert copied.why[-1] == (
            f"function {first}, function {first + 1}, function {first + 2} and 2 more vote alike; "
            "they count as one function."
        )
        assert copied.model.weights[first:] == [alone.model.weights[-1]] * 4, "each is as good as the one"
    assert accuracy(copied, gold, *votes, *[weak] * 5) == accuracy(alone, gold, *votes, weak)


def test_five_copies_outvote_the_others_where_each_is_asked_to_count_and_it_says_so() -> None:
    gold, votes = independent(4, (0.8,) * 5)
    weak = independent(5, (0.5,))[1][0]
    every = [*votes, *[weak] * 5]
    asked = auto(*every, method="majority")
    assert accuracy(asked, gold, *every) < accuracy(auto(*every), gold, *every) - 0.1
    assert asked.why[1].endswith("vote alike; each counts, which `method: auto` avoids.")
    assert [(each.first, each.second, each.residual) for each in asked.signals.copies[:4]] == [
        (5, second, 1.0) for second in range(6, 10)
    ]


def test_what_only_the_copy_votes_on_is_labelled_by_it() -> None:
    random = np.random.default_rng(8)
    _, votes = independent(8, (0.9, 0.8, 0.7, 0.75))
    first, second = votes[0].copy(), votes[0].copy()
    voted = np.flatnonzero(votes[0] >= 0)
    first[random.choice(voted, len(voted) // 50, replace=False)] = -1
    only = first < 0
    for other in votes[1:]:
        only &= other < 0
    only &= second >= 0
    assert only.sum() > 5
    chosen = auto(first, second, *votes[1:])
    assert kinds(chosen.kinship) == {("copy", 0, 1)}
    made = chosen.probabilities(np.stack([first, second, *votes[1:]], axis=1))
    assert np.array_equal(made[only].argmax(axis=1), second[only])


def test_of_fewer_than_three_different_functions_the_majority_counts_each_once() -> None:
    _, (one, other) = independent(9, (0.8, 0.7))
    chosen = auto(one, *[other] * 4)
    assert (chosen.method, chosen.signals.voting) == (MAJORITY, 2)
    made = chosen.probabilities(np.stack([one, *[other] * 4], axis=1))
    both = (one >= 0) & (other >= 0) & (one != other)
    assert np.array_equal(made[both], np.full((both.sum(), 2), 0.5)), "one against one is a tie"


def test_the_halves_of_a_question_are_one_function() -> None:
    _, votes = independent(10, (0.9, 0.75, 0.7, 0.65, 0.6))
    asked = independent(11, (0.6,), coverage=0.98)[1][0]
    halves = [np.where(asked == side, side, -1).astype(np.int8) for side in (0, 1)]
    found = kinship(*votes, *halves)
    assert kinds(found) == {("halves", 5, 6)}
    whole, split = auto(*votes, asked), auto(*votes, *halves)
    assert (whole.method, split.method) == ("dawid-skene", "dawid-skene")
    assert np.array_equal(
        split.probabilities(np.stack([*votes, *halves], axis=1)), whole.probabilities(np.stack([*votes, asked], axis=1))
    )
    share = (asked >= 0).mean()
    assert split.why[-1] == (
        f"function 6 and function 7 are halves of one question: together they vote on {percent(share)} of rows, hardly "
        "ever on the same; they count as one function."
    )


def test_a_function_within_another_and_one_against_another_are_told_of_and_count() -> None:
    random = np.random.default_rng(12)
    _, votes = independent(12, (0.9, 0.75, 0.7))
    inside = np.where(random.random(ROWS) < 0.3, votes[0], -1).astype(np.int8)
    against = np.where(votes[1] >= 0, 1 - votes[1], -1).astype(np.int8)
    chosen = auto(*votes, inside, against)
    assert kinds(chosen.kinship) == {("within", 3, 0), ("against", 1, 4)}
    assert not chosen.model.as_one
    assert chosen.why[-2:] == [
        "function 4 votes only where function 1 votes the same, so on its rows they say one thing twice.",
        "function 2 and function 5 vote on the same rows for different classes, so they cancel each other out.",
    ]


@pytest.mark.parametrize("accuracies", [(0.95,) * 6, (0.6,) * 6, (0.99, 0.98, 0.55, 0.5, 0.5)])
def test_functions_that_judge_on_their_own_are_no_kin(accuracies: tuple[float, ...]) -> None:
    gold, votes = independent(13, accuracies)
    random = np.random.default_rng(13)
    votes += [unipolar(random, gold, 1, 0.6, 0.02), unipolar(random, gold, 0, 0.7, 0.05)]
    votes += [copy(random, votes[0], 0.1, 2)]  # a tenth differs: the residual tells of it
    assert kinds(kinship(*votes)) == set()


def test_too_few_votes_are_no_reason() -> None:
    rare = np.full(ROWS, -1, np.int8)
    rare[:19] = 1
    assert kinds(kinship(rare, rare)) == set()
    rare[19] = 1
    assert kinds(kinship(rare, rare)) == {("copy", 0, 1)}


def test_a_model_that_is_asked_for_by_name_sees_all_votes() -> None:
    _, votes = independent(14, (0.9, 0.75, 0.7, 0.65))
    matrix = np.stack([*votes, votes[3]], axis=1)
    expected = fit(VoteTally.of(matrix, 2).sums, task(EVEN)).probabilities(matrix)
    assert np.array_equal(auto(*votes, votes[3], method="snorkel").probabilities(matrix), expected)


def test_once_keeps_the_first_vote_of_a_set() -> None:
    votes = np.array([[0, 1, 1], [-1, 1, 0], [-1, -1, 0], [1, -1, -1]], np.int8)
    assert once(votes, [(0, 2)]).tolist() == [[0, 1, -1], [-1, 1, 0], [-1, -1, 0], [1, -1, -1]]
    assert once(votes, [(0, 1, 2)]).tolist() == [[0, -1, -1], [-1, 1, -1], [-1, -1, 0], [1, -1, -1]]
    assert votes[0].tolist() == [0, 1, 1]


COPIES = """

@votes(1)
def is_large_too(order: ir.Table) -> ir.BooleanValue:
    return order.amount > 200


@votes(1)
def is_large_again(order: ir.Table) -> ir.BooleanValue:
    return ~(order.amount <= 200)
"""


def test_the_report_and_explain_name_the_copies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tiny(tmp_path / "orders")
    (root / "validation/events.py").unlink()  # nobody judges these events
    replace(root / "params.yaml", "seed: 1", "seed: 1, method: auto")
    functions = root / "labeling_functions/orders.py"
    functions.write_text(functions.read_text(encoding="utf-8") + COPIES, encoding="utf-8")
    random, start = np.random.default_rng(2), datetime(2024, 1, 1, tzinfo=UTC)
    columns = {
        "order_id": [f"o{number:03}" for number in range(600)],
        "placed_at": pa.array([start + timedelta(hours=number) for number in range(600)], TIME),
        "amount": random.integers(300, size=600),
        "note": random.choice(["gift card", "book", "tea"], size=600),
    }
    write_partition(root / "data/events", "2024-01", pa.table(columns))
    run_here(root, ["vote"], ["label"])
    found = read_json(root / "reports/labeling_functions.json")["tasks"]["fraud"]
    said = "is_large, is_large_too and is_large_again vote alike; they count as one function."
    assert said in found["why"]
    names = [("is_large", "is_large_too"), ("is_large", "is_large_again")]
    assert [(each["kind"], tuple(each["functions"]), each["share"]) for each in found["related"]] == [
        ("copy", *[pair], 1.0) for pair in names
    ]
    assert {tuple(pair["functions"]) for pair in found["signals"]["copies"]} >= set(names)
    row = int(np.flatnonzero((columns["amount"] > 200) & (columns["note"] == "book"))[0])
    capsys.readouterr()
    run_here(root, ["explain", f"o{row:03}", "--json"])
    told = json.loads(capsys.readouterr().out)
    assert found["method"] == told["method"] == "hyper"
    assert told["probabilities"]["fine"] == pytest.approx(0.5, abs=0.05), "a large book: one vote against one"
    assert {each["name"] for each in told["functions"] if not each["counted"]} == {"is_large_too", "is_large_again"}
    run_here(root, ["explain", f"o{row:03}"])
    assert "Not counted, since a function with the same votes already counts: is_large_too, is_large_again." in (
        capsys.readouterr().out
    )
