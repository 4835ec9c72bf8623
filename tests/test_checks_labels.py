"""Checks of labels: each defect in votes is found by its own check, as severe as it is, by no other critical one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_votes import RULES, Bend, Gold, Votes, labelled, project, vote
from projects import replace, write

from weakfish.checks.label_checks import label_checks
from weakfish.checks.label_totals import rules_of, through
from weakfish.contracts.verdicts import Check
from weakfish.errors import TableError
from weakfish.files import read_json, write_json

OLD, NEW = ("2024-01", "2024-02"), "2024-03"

Found = dict[str, Check]


def silent(votes: Votes, _: Gold) -> Votes:
    return np.full_like(votes, -1)


def everywhere(votes: Votes, _: Gold) -> Votes:
    return np.full_like(votes, 1)


def flipped(votes: Votes, _: Gold) -> Votes:
    return np.where(votes < 0, votes, 1 - votes)


def negated(votes: Votes, _: Gold) -> Votes:
    """Votes for the first class where there was none, and none where there was."""
    return np.where(votes < 0, 0, -1)


def halved(votes: Votes, _: Gold) -> Votes:
    return np.where(np.arange(len(votes)) % 4 == 0, votes, -1)


@pytest.fixture(scope="module")
def accepted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What is remembered of two good months."""
    at = project(tmp_path_factory.mktemp("accepted"))
    for month in OLD:
        vote(at, month)
    return through(rules_of(labelled(at), "fraud"), None)


def checked(root: Path, accepted: dict[str, Any] | None, bends: dict[str, Bend], months: str, **more: Any) -> Found:
    """The checks after the votes of ``months`` (``all``, or the one ``new``) were bent; ``more`` goes to the new."""
    at = project(root)
    edited = more.pop("edited", ())
    for month in OLD:
        vote(at, month, bends=bends if months == "all" else None, edited=edited)
    vote(at, NEW, bends=bends, edited=edited, **more)
    return {check.check: check for check in label_checks(labelled(at), "fraud", accepted)}


def told(found: Found, *statuses: str) -> set[str]:
    return {name for name, check in found.items() if check.status in statuses}


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_another_month_of_the_same_kind_raises_no_alarm(seed: int, tmp_path: Path, accepted: dict[str, Any]) -> None:
    found = checked(tmp_path, accepted, {}, "new", seed=seed)
    assert told(found, "failed", "warned", "noted") == set()
    names = {"coverage", "conflicts", "rule_died", "rule_fires_everywhere", "rule_flipped"}
    assert {check.check for check in found.values() if check.check.endswith("(is_odd)")} == {
        f"{n}(is_odd)" for n in names
    }
    assert {"class_balance(fraud)", "uncovered", "label_model_degenerate(one_rule)"} <= found.keys()
    assert all(check.found and check.detects for check in found.values())


def test_a_rule_that_falls_silent_everywhere_though_its_code_is_the_same_is_critical(
    tmp_path: Path, accepted: dict[str, Any]
) -> None:
    found = checked(tmp_path, accepted, {"is_rushed": silent}, "all")
    assert told(found, "failed") == {"rule_died(is_rushed)"}
    assert found["rule_died(is_rushed)"].observed == 0
    assert found["coverage(is_rushed)"].status == "warned"


@pytest.mark.parametrize(("months", "edited"), [("all", ("is_rushed",)), ("new", ())])
def test_a_rule_that_was_edited_or_is_silent_in_new_months_alone_is_a_warning(
    months: str, edited: tuple[str, ...], tmp_path: Path, accepted: dict[str, Any]
) -> None:
    found = checked(tmp_path, accepted, {"is_rushed": silent}, months, edited=edited)
    assert told(found, "failed") == set()
    assert {"rule_died(is_rushed)", "coverage(is_rushed)"} <= told(found, "warned")
    for name in ("coverage(is_rushed)", "rule_died(is_rushed)"):
        assert found[name].arguments["edited"] is bool(edited)
        assert str(found[name].found).endswith("Its code was edited since.") is bool(edited)


def test_silence_on_too_few_rows_is_no_alarm(tmp_path: Path, accepted: dict[str, Any]) -> None:
    found = checked(tmp_path, accepted, {"is_rushed": silent}, "new", rows=40)
    assert found["rule_died(is_rushed)"].status == "passed"
    assert found["rule_died(is_rushed)"].arguments["expected"] < 20


def test_a_rule_that_fires_everywhere_is_critical_and_in_new_months_alone_a_warning(
    tmp_path: Path, accepted: dict[str, Any]
) -> None:
    name = "rule_fires_everywhere(buys_gift_cards)"
    found = checked(tmp_path / "all", accepted, {"buys_gift_cards": everywhere}, "all")
    assert told(found, "failed") == {name}
    found = checked(tmp_path / "new", accepted, {"buys_gift_cards": everywhere}, "new")
    assert told(found, "failed") == set()
    assert {name, "coverage(buys_gift_cards)", "conflicts(buys_gift_cards)"} <= told(found, "warned")


@pytest.mark.parametrize("months", ["all", "new"])
@pytest.mark.parametrize("rule", ["is_large", "is_a_book"])
def test_a_flipped_rule_is_critical(rule: str, months: str, tmp_path: Path, accepted: dict[str, Any]) -> None:
    found = checked(tmp_path, accepted, {rule: flipped}, months)
    assert told(found, "failed") == {f"rule_flipped({rule})"}
    assert found[f"conflicts({rule})"].status == "warned"


def test_a_rule_for_a_frequent_class_that_says_the_opposite_is_critical_though_it_meets_its_majority(
    tmp_path: Path, accepted: dict[str, Any]
) -> None:
    found = checked(tmp_path, accepted, {"is_a_book": negated}, "new", fraud=0.2)
    check = found["rule_flipped(is_a_book)"]
    assert told(found, "failed") == {check.check}
    assert check.observed > 0.5
    assert check.found is not None
    assert "It votes for fine on " in check.found


def test_votes_for_a_class_that_became_rare_meet_another_majority_and_are_no_flip(
    tmp_path: Path, accepted: dict[str, Any]
) -> None:
    found = checked(tmp_path, accepted, {}, "new", fraud=0.01, rows=2500)
    assert found["rule_flipped(buys_gift_cards)"].status == "warned"
    assert told(found, "failed") == set()


def test_a_rule_of_one_class_that_votes_for_the_other_alone_says_so(tmp_path: Path, accepted: dict[str, Any]) -> None:
    check = checked(tmp_path, accepted, {"is_a_book": flipped}, "new")["rule_flipped(is_a_book)"]
    assert check.found == "It votes for fraud alone; in the accepted baseline it voted for fine."
    assert (check.arguments["votes_for"], check.arguments["voted_for"]) == (["fraud"], ["fine"])


def test_a_rule_that_votes_on_a_quarter_of_what_it_did_is_a_warning_where_it_happened(
    tmp_path: Path, accepted: dict[str, Any]
) -> None:
    found = checked(tmp_path, accepted, {"is_large": halved}, "new")
    assert "coverage(is_large)" in told(found, "warned")
    check = found["coverage(is_large)"]
    assert check.arguments["where"] == "rows after 2024-02"
    assert check.observed < check.threshold < check.arguments["accepted"]
    assert check.by_partition[NEW] == check.observed < check.by_partition[OLD[0]]
    assert told(found, "failed") == set()


def test_a_shifted_class_balance_is_a_warning(tmp_path: Path, accepted: dict[str, Any]) -> None:
    found = checked(tmp_path, accepted, {}, "new", fraud=0.1)
    assert "class_balance(fraud)" in told(found, "warned")
    assert told(found, "failed") == set()
    check = found["class_balance(fraud)"]
    assert check.observed < check.threshold < check.arguments["accepted"]
    assert check.against_baseline


def test_more_uncovered_rows_are_a_warning(tmp_path: Path, accepted: dict[str, Any]) -> None:
    bends: dict[str, Bend] = dict.fromkeys(RULES, halved)
    found = checked(tmp_path, accepted, bends, "new")
    assert "uncovered" in told(found, "warned")
    assert told(found, "failed") == set()


def test_the_smallest_shift_that_a_check_names_is_the_smallest_that_it_tells_of(
    tmp_path: Path, accepted: dict[str, Any]
) -> None:
    """A class balance a little within the named bounds passes, one a little beyond does not."""
    bound = checked(tmp_path, accepted, {}, "new")["class_balance(fraud)"].threshold
    assert bound is not None
    for beyond in (-0.004, 0.004):
        moved = {**accepted, "mean": {"fine": 1 - accepted["mean"]["fraud"], "fraud": accepted["mean"]["fraud"]}}
        at = project(tmp_path)
        summary = read_json(at.reports / "labeling_functions.json")
        outwards = beyond if bound > accepted["mean"]["fraud"] else -beyond
        share = bound + outwards
        summary["tasks"]["fraud"]["by_partition"][-1]["mean"] = {"fine": 1 - share, "fraud": share}
        write_json(at.reports / "labeling_functions.json", summary)
        found = {check.check: check for check in label_checks(at, "fraud", moved)}
        assert found["class_balance(fraud)"].status == ("warned" if beyond > 0 else "passed")


def test_a_label_model_that_one_rule_decides_is_a_warning_without_any_baseline(tmp_path: Path) -> None:
    others: dict[str, Bend] = {
        rule: lambda votes, _: np.where(np.arange(len(votes)) % 8 == 0, votes, -1) for rule in RULES
    }
    others["is_large"] = lambda _, gold: gold.astype(np.int8)
    found = checked(tmp_path, None, others, "all")
    assert told(found, "warned", "failed") >= {"label_model_degenerate(one_rule)"}
    check = found["label_model_degenerate(one_rule)"]
    assert check.found is not None
    assert check.found.startswith("is_large settles the class of ")
    assert not check.against_baseline
    assert {check.expectation for check in found.values()} == {"label_model_degenerate"}


def test_rules_at_the_clamp_are_a_warning(tmp_path: Path) -> None:
    at = project(tmp_path)
    replace(at.root / "params.yaml", "n_epochs: 100, lr: 0.01, l2: 0.1", "n_epochs: 500, lr: 0.05, l2: 0.0")
    perfect: dict[str, Bend] = {rule: lambda _, gold: gold.astype(np.int8) for rule in RULES}
    for month in OLD:
        vote(at, month, bends=perfect)
    found = {check.check: check for check in label_checks(labelled(at), "fraud", None)}
    assert found["label_model_degenerate(at_clamp)"].status == "warned"
    assert found["label_model_degenerate(at_clamp)"].observed == 1.0


def noise(seed: int) -> Bend:
    return lambda votes, _: np.random.default_rng([seed, *votes[:9] + 1]).integers(2, size=len(votes)).astype(np.int8)


def test_a_label_model_that_drifts_from_the_majority_is_a_warning_against_what_was_accepted(
    tmp_path: Path, accepted: dict[str, Any]
) -> None:
    at = project(tmp_path)
    replace(at.root / "params.yaml", "l2: 0.1", "l2: 0.0")
    write(at.root / "params.yaml", at.root.joinpath("params.yaml").read_text() + "validation: {labels: {rise: 0.02}}\n")
    bends: dict[str, Bend] = {rule: noise(number) for number, rule in enumerate(RULES)}
    bends["is_large"] = bends["is_odd"] = lambda _, gold: gold.astype(np.int8)
    for month in OLD:
        vote(at, month, bends=bends, edited=RULES)
    check = {check.check: check for check in label_checks(labelled(at), "fraud", accepted)}[
        "label_model_degenerate(disagreement)"
    ]
    assert check.status == "warned"
    assert check.observed > check.arguments["accepted"] + 0.02


def test_rules_that_come_and_go_are_noted(tmp_path: Path, accepted: dict[str, Any]) -> None:
    before = {**accepted, "hashes": {**accepted["hashes"], "is_blue": "x"}}
    del before["hashes"]["is_odd"]
    before["functions"] = {name: of for name, of in accepted["functions"].items() if name != "is_odd"}
    before["functions"]["is_blue"] = accepted["functions"]["is_odd"]
    found = checked(tmp_path, before, {}, "new")
    assert told(found, "noted") == {"rule_came(is_odd)", "rule_went(is_blue)"}
    assert "coverage(is_odd)" not in found


def test_labels_of_other_classes_are_a_warning_and_not_compared(tmp_path: Path, accepted: dict[str, Any]) -> None:
    found = checked(tmp_path, {**accepted, "classes": ["fraud", "fine"]}, {}, "new")
    assert told(found, "warned") == {"classes"}
    assert not any(name.startswith(("coverage", "rule", "class_balance")) for name in found)


def test_of_several_that_flip_one_is_critical_and_the_others_point_to_it(
    tmp_path: Path, accepted: dict[str, Any]
) -> None:
    found = checked(tmp_path, accepted, dict.fromkeys(RULES[4:], flipped), "new")
    assert {name for name in told(found, "failed") if name.startswith("rule_flipped")} == {"rule_flipped(is_small)"}
    pointing = {name for name, check in found.items() if "Look at rule_flipped(is_small) first" in str(check.found)}
    assert pointing == {"rule_flipped(is_a_book)"}
    assert {str(found[name].status) for name in pointing} == {"warned"}


def test_what_is_accepted_through_a_month_is_the_sum_of_the_months_before(tmp_path: Path) -> None:
    at = project(tmp_path)
    for month in (*OLD, NEW):
        vote(at, month)
    rules = rules_of(labelled(at), "fraud")
    first = through(rules, OLD[1])
    assert list(first["partitions"].items()) == [(month, 600) for month in OLD]
    assert "by_partition" not in first
    total = through(rules, None)
    assert total["rows"] == 1800 == first["rows"] + rules["by_partition"][NEW]["rows"]
    for rule in RULES:
        votes = [part["functions"][rule]["votes"] for part in rules["by_partition"].values()]
        assert total["functions"][rule]["votes"] == np.sum(votes, axis=0).tolist()
    assert total["mean"]["fraud"] == pytest.approx(0.4, abs=0.1)


def test_reports_of_an_older_version_are_said_so(tmp_path: Path) -> None:
    at = project(tmp_path)
    vote(at, OLD[0])
    labelled(at)
    file = at.reports / "labeling_functions.json"
    content = read_json(file)
    del content["tasks"]["fraud"]["by_partition"][0]["settled"]
    write_json(file, content)
    with pytest.raises(TableError, match="older version; run `weakfish label`"):
        rules_of(at, "fraud")
