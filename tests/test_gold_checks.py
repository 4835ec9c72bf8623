"""Labels judged by gold: what is worth nothing warns, what is rare or has few rows raises no alarm."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_votes import RULES, Votes, labelled, own_functions, project, vote

from reports import good_run
from weakfish.checks.gold_checks import checks_on_dev, checks_on_test, function_quality, label_quality
from weakfish.contracts.gold import Confusion
from weakfish.contracts.record import parse
from weakfish.contracts.reports import Empirical, TaskMetrics
from weakfish.contracts.verdicts import Check, Verdict, write_verdict
from weakfish.project.paths import Project
from weakfish.report.overall import overall

CLASSES = ["ham", "spam"]


def judged(counts: list[list[int]], classes: list[str] | None = None) -> dict[str, Check]:
    found = label_quality("labels", Confusion(classes or CLASSES, counts), "dev", 0.01)
    return {check.check: check for check in found}


def warned(found: dict[str, Check]) -> set[str]:
    return {name for name, check in found.items() if check.status == "warned"}


def test_good_labels_pass_every_check() -> None:
    found = judged([[900, 60, 40], [50, 420, 30]])
    assert set(found) == {"recall(ham)", "recall(spam)", "better_than_chance", "better_than_majority"}
    assert warned(found) == set()
    assert found["better_than_majority"].observed == pytest.approx(1320 / 1430, abs=1e-6)
    assert found["better_than_majority"].threshold == pytest.approx(960 / 1430, abs=1e-6)


def test_labels_that_say_the_opposite_are_worse_than_chance_and_say_so() -> None:
    check = judged([[100, 500, 0], [280, 20, 0]])["better_than_chance"]
    assert (check.status, check.observed < 0) == ("warned", True)
    assert str(check.found).endswith("They say the opposite of the gold labels.")


def test_labels_that_never_say_a_class_have_no_recall_of_it_and_are_no_better_than_chance_or_the_majority() -> None:
    found = judged([[700, 0, 0], [494, 0, 0]])
    assert warned(found) == {"recall(spam)", "better_than_chance", "better_than_majority"}
    assert found["recall(spam)"].found == "The labels find 0 of 494 dev rows of spam."


def test_labels_that_are_drawn_by_lot_are_no_better_than_chance() -> None:
    random = np.random.default_rng(3)
    counts = [np.bincount(random.integers(2, size=size), minlength=3).tolist() for size in (600, 400)]
    found = judged(counts)
    assert "better_than_chance" in warned(found)
    assert "They say the opposite" not in str(found["better_than_chance"].found)


def test_labels_that_beat_chance_and_not_the_majority_say_what_a_constant_answer_would() -> None:
    found = judged([[385, 315, 0], [120, 180, 0]])
    assert warned(found) == {"better_than_majority"}
    assert "always answering ham would be right on 70.0 %" in str(found["better_than_majority"].found)


def test_a_rare_class_that_is_found_raises_no_alarm_though_never_saying_it_would_be_right_more_often() -> None:
    """2 % are fraud; the labels find 80 of 100 at a precision of 0.4: right less often than "never fraud"."""
    found = judged([[4780, 120, 0], [20, 80, 0]])
    assert found["better_than_majority"].observed < found["better_than_majority"].threshold
    assert warned(found) == set()


@pytest.mark.parametrize("counts", [[[2, 17, 0], [9, 1, 0]], [[0, 60, 0], [9, 0, 0]]])
def test_too_few_rows_or_too_few_of_a_class_raise_no_alarm_about_it(counts: list[list[int]]) -> None:
    found = judged(counts)
    assert not any("spam" in name or name.startswith("better") for name in found)


def test_labels_that_few_rows_cannot_tell_from_chance_raise_no_alarm() -> None:
    assert warned(judged([[12, 8, 0], [7, 9, 0]])) == set()


def test_rows_that_no_function_votes_on_do_not_count_against_the_labels_that_there_are() -> None:
    found = judged([[300, 10, 700], [10, 180, 300]])
    assert warned(found) == set()
    assert found["better_than_chance"].arguments["rows"] == 500


def test_of_three_classes_the_one_that_is_never_found_is_named() -> None:
    assert warned(judged([[90, 5, 0, 5], [8, 80, 0, 2], [30, 10, 0, 0]], ["a", "b", "c"])) == {"recall(c)"}


def test_a_function_that_is_right_on_none_of_its_rows_warns_and_says_what_chance_would_be() -> None:
    check = function_quality("is_cheap", Empirical(votes=1194, correct=0, by_chance=668.6), 0.001)
    assert check is not None
    assert (check.check, check.status) == ("rule_right(is_cheap)", "warned")
    assert check.found == "It is right on none of the 1,194 dev rows on which it votes; chance would be right on 669."


@pytest.mark.parametrize(
    ("votes", "correct", "by_chance", "status"),
    [(40, 0, 0.8, None), (100, 46, 50.0, "passed"), (1000, 980, 982.0, "passed"), (100, 20, 50.0, "warned")],
)
def test_a_function_is_judged_where_chance_would_be_right_often_enough(
    votes: int, correct: int, by_chance: float, status: str | None
) -> None:
    check = function_quality("rule", Empirical(votes=votes, correct=correct, by_chance=by_chance), 0.001)
    assert (check.status if check else None) == status


def flipped(votes: Votes, _: Any) -> Votes:
    return np.where(votes < 0, votes, 1 - votes)


def on_dev(at: Project) -> dict[str, Check]:
    return {check.check: check for check in checks_on_dev(labelled(at), "fraud")}


def test_labels_of_functions_that_are_all_turned_around_warn_and_so_does_each_function(tmp_path: Path) -> None:
    good, bad = project(tmp_path / "good"), project(tmp_path / "bad")
    vote(good, "2024-01", gold_in="dev")
    assert warned(on_dev(good)) == set()
    vote(bad, "2024-01", gold_in="dev", bends=dict.fromkeys(RULES, flipped))
    found = warned(on_dev(bad))
    assert found == {"better_than_chance", "better_than_majority", *(f"rule_right({rule})" for rule in RULES)}


def test_without_dev_gold_nothing_is_judged_by_it(tmp_path: Path) -> None:
    at = project(tmp_path)
    with own_functions():
        vote(at, "2024-01", gold_in="test")
        assert on_dev(at) == {}


def measured(rows: int, auc: float | None, interval: list[float] | None = None, **more: Any) -> dict[str, Any]:
    return {"test_rows": rows, "models": {"label_model": {"auc": {"value": auc, "interval": interval}}}, **more}


def on_test(at: Project, metrics: dict[str, Any]) -> dict[str, Check]:
    return {check.check: check for check in checks_on_test(at, "fraud", parse(TaskMetrics, metrics, "here"))}


def test_an_auc_of_0_233_and_an_f1_of_0_warn(tmp_path: Path) -> None:
    metrics = measured(900, 0.233, [0.21, 0.26], confusion=[[600, 0, 0], [300, 0, 0]])
    found = on_test(project(tmp_path), metrics)
    assert warned(found) == {"better_than_chance(auc)", "better_than_chance", "better_than_majority", "recall(fraud)"}
    assert "0.233 on 900 test rows" in str(found["better_than_chance(auc)"].found)
    assert {check.kind for check in found.values()} == {"evaluation"}


@pytest.mark.parametrize(
    ("auc", "interval", "status"),
    [
        (0.9, [0.85, 0.94], "passed"),
        (0.47, [0.3, 0.66], "passed"),  # too few rows to tell
        (0.49, [0.46, 0.52], "warned"),
        (0.52, [0.46, 0.58], "passed"),
    ],
)
def test_an_auc_near_one_half_warns_only_where_rows_are_enough_to_tell(
    auc: float, interval: list[float], status: str, tmp_path: Path
) -> None:
    assert on_test(project(tmp_path), measured(500, auc, interval))["better_than_chance(auc)"].status == status


@pytest.mark.parametrize(("rows", "said"), [(0, "No test row has a gold label"), (12, "Only 12 test rows have gold")])
def test_without_enough_gold_it_is_said_that_nobody_knows(rows: int, said: str, tmp_path: Path) -> None:
    found = on_test(project(tmp_path), measured(rows, None))
    assert found.keys() == {"gold"}
    assert found["gold"].status == "noted"
    assert str(found["gold"].found).startswith(said)
    assert "nobody knows how good the labels of fraud are" in str(found["gold"].found)


def test_no_verdict_says_that_all_is_well_over_labels_that_are_worth_nothing(tmp_path: Path) -> None:
    root = good_run(tmp_path)
    assert overall(root).headline == "Passed"
    found = [*on_test(project(tmp_path / "other"), measured(900, 0.233, [0.21, 0.26])).values()]
    found += label_quality("evaluation", Confusion(["fine", "fraud"], [[600, 0, 0], [300, 0, 0]]), "test", 0.01)
    write_verdict(Project(root), Verdict("evaluation/fraud", "warned", rows=900, checks=found))
    judged_now = overall(root)
    assert judged_now.verdict == "warned"
    assert judged_now.headline == "The labels of fraud are no better than chance"
    assert any("0.233" in sentence or "right on 66.7" in sentence for sentence in judged_now.what)
    assert any("weakfish lf try" in sentence for sentence in judged_now.todo)
    assert "Nothing to do" not in " ".join(judged_now.sentences)
