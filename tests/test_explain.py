"""An explanation adds up to the stored probability, and says what made it."""

from __future__ import annotations

import json
import math
import re
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from in_process import run_here
from labelled import labelled
from made_votes import revote
from projects import replace, weakfish

from weakfish.cli.labels import _setting, print_explanation, task_of
from weakfish.contracts.tables import read_partition, read_table
from weakfish.contracts.votes_file import FAILED
from weakfish.errors import TableError, UnknownName, UserError
from weakfish.files import sha256
from weakfish.labeling.explain import explain, from_log_odds, log_odds
from weakfish.labeling.label_model import FittedModel
from weakfish.project.paths import Project


def model(classes: int, functions: int, seed: int, balance: list[float] | None = None) -> FittedModel:
    generator = np.random.default_rng(seed)
    mu = generator.uniform(0.001, 0.999, (functions * classes, classes)).astype(np.float32)
    shares = np.array(balance) if balance else generator.dirichlet(np.ones(classes))
    return FittedModel(mu, shares, [0.5] * functions, rows=1000)


@settings(max_examples=100, deadline=None)
@given(st.integers(2, 5), st.integers(3, 60), st.integers(0, 2**16))
def test_the_parts_add_up_to_the_probability(classes: int, functions: int, seed: int) -> None:
    made = model(classes, functions, seed)
    votes = np.random.default_rng(seed).integers(-1, classes, (20, functions)).astype(np.int8)
    expected = made.probabilities(votes)
    found = np.array([from_log_odds(log_odds(made, row)) for row in votes])
    assert np.abs(found - expected).max() < 1e-12


def test_two_classes_have_one_number_for_each_vote() -> None:
    made = model(2, 3, seed=7, balance=[0.8, 0.2])
    parts = log_odds(made, np.array([1, -1, 0], np.int8))
    mu = made.mu.astype(float)
    assert parts[:, 0].tolist() == [0, 0, 0, 0]
    expected = [math.log(0.2 / 0.8), math.log(mu[1, 1] / mu[1, 0]), 0, math.log(mu[4, 1] / mu[4, 0])]
    assert parts[:, 1].tolist() == pytest.approx(expected, abs=1e-6)  # logarithms of float32, as Snorkel takes them


def test_more_classes_are_each_held_against_the_first() -> None:
    made = model(3, 3, seed=8, balance=[0.5, 0.3, 0.2])
    parts = log_odds(made, np.array([2, -1, -1], np.int8))
    mu = made.mu.astype(float)
    assert parts[0].tolist() == pytest.approx([0, math.log(0.3 / 0.5), math.log(0.2 / 0.5)])
    assert parts[1].tolist() == pytest.approx([0, *(math.log(mu[2, label] / mu[2, 0]) for label in (1, 2))], abs=1e-6)
    probability = made.probabilities(np.array([[2, -1, -1]], np.int8))[0]
    assert parts[:2].sum(axis=0).tolist() == pytest.approx([math.log(p / probability[0]) for p in probability])


def test_the_parts_add_up_to_what_snorkel_predicts() -> None:
    from snorkel.labeling.model import LabelModel

    votes = np.random.default_rng(3).integers(-1, 3, (200, 6))
    theirs = LabelModel(cardinality=3, verbose=False)
    theirs.fit(votes, class_balance=[0.6, 0.3, 0.1], n_epochs=50, seed=1, progress_bar=False)
    mu = theirs.mu.detach().numpy().copy()
    made = FittedModel(mu, np.array(theirs.p), [], rows=200, rounded=np.log(mu))
    found = np.array([from_log_odds(log_odds(made, row)) for row in votes.astype(np.int8)])
    assert np.abs(found - theirs.predict_proba(votes)).max() < 1e-12


def test_estimates_at_snorkels_bound_are_told() -> None:
    mu = np.full((6, 2), 0.5, np.float32)
    mu[1, 0], mu[4, 1] = 0.001, np.float32(1) - np.float32(0.001)
    made = FittedModel(mu, np.array([0.5, 0.5]), [], rows=1000)
    assert made.at_bound().tolist() == [[False, True], [False, False], [True, False]]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return labelled(tmp_path_factory.mktemp("explained") / "orders")


def explained(root: Path, key: str) -> dict[str, Any]:
    return explain(Project(root), "fraud", key)


def printed(found: dict[str, Any]) -> str:
    text = StringIO()
    print_explanation(found, text)
    return " ".join(text.getvalue().split())


def test_an_explanation_adds_up_and_says_what_made_it(project: Path) -> None:
    found = explained(project, "f00")
    labels = read_table(project / "data/labels/fraud")
    stored = labels.filter(pc.equal(labels["order_id"], "f00")).to_pylist()[0]
    total = found["prior"]["fraud"] + sum(function["log_odds"]["fraud"] for function in found["functions"])
    assert abs(1 / (1 + math.exp(-total)) - stored["p_fraud"]) < 1e-12
    assert found["probabilities"] == {"fine": stored["p_fine"], "fraud": stored["p_fraud"]}
    assert (found["label"], found["covered"], found["method"]) == ("fraud", True, "snorkel")
    assert found["time"] == "2024-02-01T00:00:00+00:00"
    votes = {function["name"]: function["vote"] for function in found["functions"]}
    assert votes == {"buys_gift_cards": "fraud", "is_large": "fraud", "is_small": None, "is_a_book": None}
    assert found["events"] == {"partition": "2024-02", "sha256": sha256(project / "data/events/2024-02.parquet")}
    manifest = json.loads((project / "data/labels/fraud.manifest.json").read_text())
    for function in found["functions"]:
        assert {name: function[name] for name in ("module", "identity")} == manifest["functions"][function["name"]]
    assert found["model"] == {"fitted_through": "2024-02", "rows": 31}
    assert found["settings"] == manifest["settings"]
    assert "torch" in found["versions"]


def test_people_get_a_table_with_the_heaviest_votes_first_and_programs_get_json(project: Path) -> None:
    result = weakfish(project, "explain", "f00", "--json")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout) == explained(project, "f00")
    text = weakfish(project, "explain", "f00").stdout
    assert text.startswith("f00 (2024-02-01T00:00:00+00:00), task fraud: fraud (")
    for part in ("(class balance)", "together", "Abstained: ", "labeling_functions.orders", "fitted through 2024-02"):
        assert part in text
    assert "is_small" in text.split("Abstained")[1]
    shown = [float(odds) for odds in re.findall(r"fraud +([+-]\d+\.\d+)", text)]
    assert len(shown) == 2
    assert abs(shown[0]) >= abs(shown[1])


def test_an_uncovered_event_says_so(project: Path) -> None:
    found = explained(project, "uncovered")
    assert (found["label"], found["covered"]) == (None, False)
    assert found["probabilities"] == found["class_balance"]
    text = printed(found)
    assert "uncovered, no labeling function votes on it" in text
    assert "is_large" not in text


def test_an_unknown_key_is_one_sentence_and_exit_code_2(project: Path) -> None:
    result = weakfish(project, "explain", "nobody")
    assert result.returncode == 2
    sentence = "There is no event 'nobody' in data/labels/fraud; a key in its column order_id looks like 'uncovered'."
    assert result.stderr.strip() == f"weakfish: {sentence}"


def test_a_task_is_asked_for_where_there_are_several(project: Path) -> None:
    assert task_of(Project(project), None) == task_of(Project(project), "fraud") == "fraud"
    with pytest.raises(UnknownName, match="did you mean 'fraud'"):
        task_of(Project(project), "frau")
    two = Project(project)
    other = two.params.model_copy(update={"tasks": {**two.params.tasks, "theft": two.params.tasks["fraud"]}})
    two.__dict__["params"] = other
    with pytest.raises(UserError, match=r"several tasks \(fraud, theft\)"):
        task_of(two, None)


def test_a_majority_vote_is_explained_by_its_counts(project: Path) -> None:
    replace(project / "params.yaml", "method: snorkel", "method: majority")
    run_here(project, ["label"])
    found = explained(project, "f00")
    assert found["votes"] == {"fine": 0, "fraud": 2}
    assert found["probabilities"] == {"fine": 0.0, "fraud": 1.0}
    assert found["prior"] is None
    assert {function["log_odds"] for function in found["functions"]} == {None}
    assert "Majority vote: 0 for fine, 2 for fraud" in printed(found)


def test_a_function_that_failed_is_told_apart_from_one_that_abstained(project: Path) -> None:
    overwrite(project, "is_small", FAILED)
    found = explained(project, "f00")
    failed = {function["name"]: function["failed"] for function in found["functions"]}
    assert failed == {"buys_gift_cards": False, "is_large": False, "is_small": True, "is_a_book": False}
    assert "Failed on it, which counts as an abstain: is_small." in printed(found)


def test_labels_of_other_votes_are_not_explained(project: Path) -> None:
    for name in ("is_large", "buys_gift_cards"):
        overwrite(project, name, 0)
    with pytest.raises(TableError, match="are not those that data/votes and the manifest make; run `dvc repro label`"):
        explained(project, "f00")


def overwrite(root: Path, function: str, vote: int) -> None:
    """Make a function vote alike on all orders of February."""
    file = root / "data/votes/fraud/2024-02.parquet"
    revote(file, {function: np.full(read_partition(file).num_rows, vote, np.int8)})


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (["a", "b", "c", "d", "e", "f"], "a, b, c, d, e, f"),
        ([0.1] * 10, "0.1 for each of 10 classes"),
        ([0.1, 0.2] * 5, "0.1 to 0.2 for each of 10 classes"),
        ([0.5, 0.5], "[0.5, 0.5]"),
    ],
)
def test_a_setting_of_many_values_is_told_shortly_whatever_they_are(value: list[object], says: str) -> None:
    assert _setting(value) == says
