"""`weakfish lf` with several tasks, many classes, gold for one task and some rows only, and events without times."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner
from made_votes import own_functions
from projects import write
from scipy.sparse import csc_matrix

from weakfish.cli.main import cli
from weakfish.contracts.tables import TIME, read_table, write_partition
from weakfish.labeling.candidates import Candidate, Examined, Labelled
from weakfish.labeling.label import label
from weakfish.labeling.suggest import choose
from weakfish.labeling.vote import vote
from weakfish.project.paths import Project

TOPICS = ("billing", "delivery", "login", "refund", "returns", "other")
WORDS = ("invoice", "courier", "password", "chargeback", "exchange", "compliment")
"""A word that tells each topic, in two of five of its tickets."""

RULES = 5
ROWS = 1800
PARAMS = f"""
    events: {{key: ticket_id, time: opened_at}}
    source: {{reader: "sources.tickets:Tickets"}}
    tasks:
      urgency:
        classes: [calm, urgent]
        functions: [urgency.*]
        label_model: {{class_balance: [0.5, 0.5], n_epochs: 50, lr: 0.01, l2: 0.1, seed: 1}}
      topic:
        classes: [{", ".join(TOPICS)}]
        functions: [topics.*]
        label_model: {{class_balance: {[1 / 6] * 6}, n_epochs: 200, lr: 0.01, l2: 0.1, seed: 1}}
    evaluate: {{text: [note], seeds: [1], bootstrap: 10}}
    """

TOPIC_RULES = "from weakfish.rules import votes\n" + "".join(
    f"""

@votes()
def topic_{number}(ticket):
    return {{label: ticket.said_{number} == label for label in range({len(TOPICS)})}}
"""
    for number in range(RULES)
)

URGENCY_RULES = """
    from weakfish.rules import keywords, threshold

    says_still = keywords("says_still", 1, "note", ["still"], why="Who writes so has waited.")
    waits_long = threshold("waits_long", 1, "hours", at_least=40, why="Whoever waits long wants it now.")
    waits_little = threshold("waits_little", 0, "hours", at_most=10, why="They only just asked.")
    """


def tickets() -> tuple[pa.Table, np.ndarray]:
    """Tickets without times, and the topic of each; an eighth have no vote on their topic."""
    random = np.random.default_rng(3)
    topic = random.integers(len(TOPICS), size=ROWS)
    filler = np.array(["please", "hello", "thanks", "today", "still", "again"])
    told = random.random(ROWS) < 0.4
    notes = [
        " ".join([*filler[random.integers(len(filler), size=3)], *([WORDS[topic[row]]] if told[row] else [])])
        for row in range(ROWS)
    ]
    columns: dict[str, Any] = {
        "ticket_id": [f"t{number:04}" for number in range(ROWS)],
        "opened_at": pa.nulls(ROWS, TIME),
        "hours": random.integers(60, size=ROWS),
        "note": notes,
    }
    silent = random.random(ROWS) < 0.12
    for number in range(RULES):
        said = np.where(random.random(ROWS) < 0.93, topic, random.integers(len(TOPICS), size=ROWS))
        columns[f"said_{number}"] = np.where((random.random(ROWS) < 0.5) & ~silent, said, -1)
    return pa.table(columns), topic


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tickets") / "project"
    write(root / "params.yaml", PARAMS)
    write(root / "dvc.yaml", "stages: {}\n")
    write(root / "labeling_functions/topics.py", TOPIC_RULES)
    write(root / "labeling_functions/urgency.py", URGENCY_RULES)
    events, topic = tickets()
    write_partition(root / "data/events", "undated", events)
    names = pa.array([TOPICS[number] for number in topic])
    gold = pa.table({"ticket_id": events["ticket_id"], "label": names})
    write_partition(root / "data/gold/dev/topic", "undated", gold.slice(0, ROWS // 2))
    write_partition(root / "data/gold/test/topic", "undated", gold.slice(ROWS // 2))
    with own_functions():
        vote(Project(root))
        label(Project(root))
    return root


@pytest.fixture
def there(root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(root)
    with own_functions():
        yield root


def asked(*arguments: str) -> Any:
    """What a command of `weakfish lf` prints as JSON."""
    result = CliRunner().invoke(cli, ["lf", *arguments, "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_a_function_of_one_task_is_tried_in_that_task(there: Path) -> None:
    found, urgency = asked("try", "topic_0"), asked("try", "waits_long")
    assert (found["task"], urgency["task"]) == ("topic", "urgency")
    said = read_table(there / "data/events", ["said_0"])["said_0"].to_numpy()
    assert found["coverage"]["by_class"] == {name: int((said == number).sum()) for number, name in enumerate(TOPICS)}, (
        "of six classes"
    )
    assert found["others"]["functions"] == RULES - 1
    assert found["sample"]["partitions"] == 1
    assert CliRunner().invoke(cli, ["lf", "try", "topic_0"]).exit_code == 0


def test_gold_of_another_task_is_not_its_own_and_some_rows_have_none(there: Path) -> None:
    _, topic = tickets()
    said = read_table(there / "data/events", ["said_0"])["said_0"].to_numpy()[: ROWS // 2]
    gold = asked("try", "topic_0")["gold"]
    assert gold["rows"] == ROWS // 2
    assert (gold["votes"], gold["correct"]) == ((said >= 0).sum(), (said == topic[: ROWS // 2]).sum())
    assert asked("try", "waits_long")["gold"] is None
    printed = CliRunner().invoke(cli, ["lf", "try", "waits_long"]).stdout
    assert "dev gold   there is none for these rows" in printed
    assert "opened_at" in printed


def test_a_function_that_is_not_of_the_task_is_not_tried_in_it(there: Path) -> None:
    failed = CliRunner().invoke(cli, ["lf", "try", "waits_long", "--task", "topic"])
    assert "There is no labeling function 'waits_long' in labeling_functions/ for task topic" in str(failed.exception)
    unknown = CliRunner().invoke(cli, ["lf", "try", "waits_lon"])
    assert str(unknown.exception) == "There are several tasks (urgency, topic); say which with --task."


def test_a_draft_that_votes_for_a_class_of_the_other_task_is_refused(there: Path) -> None:
    write(
        there / "drafts/words.py",
        """
        from weakfish.rules import keywords

        says_exchange = keywords("says_exchange", 4, "note", ["exchange"], why="Who exchanges returns.")
        """,
    )
    found = asked("try", "drafts/words.py:says_exchange", "--task", "topic")
    assert set(found["coverage"]["by_class"]) == {"returns"}
    refused = CliRunner().invoke(cli, ["lf", "try", "drafts/words.py:says_exchange", "--task", "urgency"])
    assert "returned 4 (drafts/words.py, @votes), which is not a vote of task urgency" in str(refused.exception)


def test_a_word_for_each_of_six_classes_is_suggested_and_told_from_the_others(there: Path) -> None:
    found = asked("suggest", "--task", "topic", "--precision", "0.85")
    classes = {each["class"]: set(each["values"]) for each in found["suggestions"] if each["for"] == "uncovered"}
    assert len(classes) >= 5
    assert all(words <= {WORDS[TOPICS.index(name)]} for name, words in classes.items())
    for each in found["suggestions"]:
        assert each["correct"] >= 0.9 * each["gold"] > 0
    compile(found["code"], "code", "exec")
    for name in classes:
        assert f"{name.upper()} = {TOPICS.index(name)}" in found["code"]


def test_a_task_without_gold_gets_suggestions_without_figures_of_gold(there: Path) -> None:
    found = asked("suggest", "--task", "urgency")
    assert found["rows"]["uncovered"] > 0
    assert all(each["gold"] == each["correct"] == 0 for each in found["suggestions"])
    printed = CliRunner().invoke(cli, ["lf", "suggest", "--task", "urgency"]).stdout
    assert "dev gold agrees" not in printed
    compile(printed, "printed", "exec")


def test_of_fifty_classes_each_candidate_gets_its_own() -> None:
    classes, rows = 50, 12_000
    random = np.random.default_rng(5)
    gold = random.integers(classes, size=rows)
    votes = np.full((rows, classes), -1, np.int8)
    for number in range(classes):
        votes[random.random(rows) < np.where(gold == number, 0.9, 0.001), number] = number
    covered = (votes >= 0).any(axis=1)
    spoken = np.stack([(votes == number).any(axis=1) for number in range(classes)], axis=1)
    chances = np.where(spoken, 0.99, 0.01 / classes)[covered]
    candidates = random.random((rows, classes)) < np.where(gold[:, None] == np.arange(classes), 0.5, 0.0002)
    groups = [Examined(csc_matrix(candidates[where].astype(np.float32)), []) for where in (~covered, covered)]
    names = [Candidate(f"c{number}", "word", "x") for number in range(classes)]
    counts = (votes >= 0).sum(axis=1)[covered]
    made = Labelled(
        names,
        groups[0],
        groups[1],
        chances / chances.sum(axis=1, keepdims=True),
        counts,
        votes[covered],
        counts == 0,
        {},
    )
    chosen = choose(made, "uncovered", 0.8, np.full(classes, 1 / classes), most=20).chosen
    assert len(chosen) > 15
    assert all(each.candidates[0].column == f"c{each.label}" for each in chosen)
