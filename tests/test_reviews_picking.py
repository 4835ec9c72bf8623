"""Which rows are worth an answer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from weakfish.contracts.votes_file import Votes
from weakfish.reviews.picking import AnsweredSoFar, PickableRows, Picked, audit, learn

CLASSES, FUNCTIONS = ["ham", "spam", "news"], ["shouts", "offers", "greets"]


def posterior_of(votes: Votes) -> np.ndarray:
    """Each vote counts threefold for its class."""
    counts = np.stack([(votes == label).sum(axis=1) for label in range(3)], axis=1)
    found = 3.0**counts
    return found / found.sum(axis=1, keepdims=True)


def made(*patterns: tuple[list[int], int], dev: float = 1.0) -> PickableRows:
    """Rows with these votes, so many of each."""
    votes = np.concatenate([np.tile(np.array(votes, np.int8), (rows, 1)) for votes, rows in patterns])
    size = len(votes)
    sides = np.arange(size) < dev * size
    return PickableRows(CLASSES, FUNCTIONS, votes, posterior_of(votes), sides, ["2002-08"], np.zeros(size, np.int64))


def share(rows: PickableRows, picked: list[Picked], votes: list[int]) -> float:
    return float(np.mean([(rows.votes[each.row] == votes).all() for each in picked]))


SURE, TORN, ALONE = [0, 0, 0], [0, 1, -1], [-1, -1, 1]


def nothing(rows: PickableRows) -> AnsweredSoFar:
    return AnsweredSoFar.nothing(len(rows.votes))


def test_rows_that_functions_contradict_each_other_on_are_asked_about_more_than_sure_ones() -> None:
    rows = made((SURE, 900), (TORN, 100))
    picked = learn(rows, nothing(rows), 50, seed=1)
    assert share(rows, picked, TORN) > 0.6
    torn = next(each for each in picked if (rows.votes[each.row] == TORN).all())
    assert torn.reason.startswith("functions contradict each other (1 ham, 1 spam); unsure: ham 0.43, spam 0.43")


def test_of_two_patterns_that_are_doubted_alike_the_more_frequent_has_more_questions() -> None:
    rows = made((TORN, 800), ([1, 0, -1], 200))
    assert share(rows, learn(rows, nothing(rows), 100, seed=1), TORN) > 0.65


def test_only_dev_rows_are_asked_about_and_none_twice() -> None:
    rows = made((TORN, 200), dev=0.5)
    so_far = nothing(rows)
    for _ in range(4):
        picked = [each.row for each in learn(rows, so_far, 30, seed=2)]
        assert rows.dev[picked].all()
        assert not so_far.shown[picked].any()
        so_far.shown[picked] = True
    assert so_far.shown.sum() == 100
    assert learn(rows, so_far, 30, seed=2) == []


def test_answers_settle_a_pattern_so_that_others_are_asked_about() -> None:
    rows = made((TORN, 500), ([-1, 1, 0], 500))
    before = share(rows, learn(rows, nothing(rows), 100, seed=3), TORN)
    so_far = nothing(rows)
    so_far.shown[:8], so_far.classes[:8] = True, 1
    assert share(rows, learn(rows, so_far, 100, seed=3), TORN) < before / 3
    so_far.classes[:8] = [0, 1] * 4  # who contradicts himself settles nothing
    assert share(rows, learn(rows, so_far, 100, seed=3), TORN) > before / 2


def test_a_rare_class_is_asked_about_more_than_its_share_and_the_reason_says_so() -> None:
    rows = made(([0, 0, -1], 450), ([1, 1, -1], 450), ([2, 2, -1], 20))
    batches = [learn(rows, nothing(rows), 50, seed) for seed in range(40)]
    assert np.mean([share(rows, picked, [2, 2, -1]) for picked in batches]) > 1.3 * 20 / 920
    rare = [each for picked in batches for each in picked if each.row >= 900]
    assert all("class news is rare" in each.reason for each in rare)


def test_a_partition_without_answers_is_asked_about_first() -> None:
    rows = replace(made((TORN, 400)), periods=["2002-08", "2002-09"], partition=np.arange(400) // 200)
    so_far = nothing(rows)
    so_far.shown[:2], so_far.classes[:2] = True, [0, 1]
    picked = learn(rows, so_far, 100, seed=1)
    new = [each for each in picked if each.row >= 200]
    assert len(new) > 58
    assert all("2002-09 has no answers yet" in each.reason for each in new)
    assert not any("no answers yet" in each.reason for each in learn(rows, nothing(rows), 20, seed=1))


def test_rows_on_which_no_function_votes_are_asked_about() -> None:
    rows = made((SURE, 50), ([-1, -1, -1], 50))
    reasons = {each.reason for each in learn(rows, nothing(rows), 30, seed=1)}
    assert any(reason.startswith("no function votes; unsure: ham 0.33") for reason in reasons)


def test_the_same_state_asks_about_the_same_rows_and_another_seed_about_others() -> None:
    rows = made((TORN, 300), (SURE, 300))
    assert learn(rows, nothing(rows), 20, seed=5) == learn(rows, nothing(rows), 20, seed=5)
    assert learn(rows, nothing(rows), 20, seed=5) != learn(rows, nothing(rows), 20, seed=6)


def test_an_audit_asks_about_rows_whose_label_a_function_alone_decides() -> None:
    rows = made((SURE, 50), (TORN, 50), (ALONE, 50), ([0, 1, 1], 50), ([1, 0, 0], 50), dev=0.9)
    picked = audit(rows, 2, posterior_of, nothing(rows), 1000, seed=1)
    found = {tuple(rows.votes[each.row].tolist()): each.reason for each in picked}
    assert found == {
        (-1, -1, 1): "only greets says spam; without it undecided",
        (0, 1, 1): "only greets says spam; without it undecided",
        (1, 0, 0): "only greets says ham; without it undecided",
    }
    assert len(picked) == 50 + 50 + 25
    assert {each.purpose for each in picked} == {"audit"}
    assert [each.row for each in picked] != sorted(each.row for each in picked)


def test_an_audit_names_the_label_that_there_would_be_without_the_function() -> None:
    def weighed(votes: Votes) -> np.ndarray:
        """The last function counts twice."""
        return posterior_of(np.concatenate([votes, votes[:, 2:]], axis=1))

    rows = made(([1, -1, 0], 20))
    rows = replace(rows, posterior=weighed(rows.votes))
    (picked, *_) = audit(rows, 2, weighed, nothing(rows), 5, seed=1)
    assert picked.reason == "only greets says ham; without it spam"


def test_where_a_reader_knows_the_row_a_function_decides_less() -> None:
    votes = np.tile(np.array(ALONE, np.int8), (20, 1))
    read = np.array([True] * 10 + [False] * 10)
    posterior = posterior_of(votes)
    posterior[:5] *= [1, 9, 1]  # the reader says the same
    posterior[5:10] *= [2, 1, 1]  # the reader says otherwise, less loudly
    rows = replace(made((ALONE, 20)), posterior=posterior / posterior.sum(axis=1, keepdims=True))
    found = {each.row: each.reason for each in audit(rows, 2, posterior_of, nothing(rows), 20, seed=1, read=read)}
    assert sorted(found) == list(range(5, 20))
    assert found[5] == "only greets says spam; without it ham"
    assert found[10] == "only greets says spam; without it undecided"


def test_rows_that_were_shown_are_not_audited_again() -> None:
    rows = made((ALONE, 10))
    so_far = nothing(rows)
    so_far.shown[:7] = True
    assert sorted(each.row for each in audit(rows, 2, posterior_of, so_far, 10, seed=1)) == [7, 8, 9]
    assert audit(rows, 0, posterior_of, so_far, 10, seed=1) == []
