"""Several tasks over the same events: votes from one pass, a shared function once, and each task's own rules kept."""

from __future__ import annotations

import json
import re
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from made_votes import own_functions
from projects import contents, replace, write

from weakfish.cli.labels import print_plan
from weakfish.contracts.tables import TIME, read_table, write_partition
from weakfish.errors import LabelingFunctionError, UnknownName, WeakfishError
from weakfish.labeling.automaton import Automaton
from weakfish.labeling.matrix import read_label_matrix
from weakfish.labeling.vote import vote
from weakfish.labeling.workers import row_votes
from weakfish.project.paths import Project
from weakfish.rules.loading import load_functions

MODEL = "{{class_balance: {balance}, n_epochs: 5, lr: 0.1, l2: 0, seed: 1}}"
PARAMS = f"""
    events: {{key: order_id, time: placed_at}}
    source: {{reader: "sources.orders:Orders"}}
    tasks:
      fraud:
        classes: [fine, fraud]
        functions: [fraud.*, says_nothing]
        label_model: {MODEL.format(balance=[0.5, 0.5])}
      kind:
        classes: [book, gift, toy]
        functions: [says_nothing, kinds.*]
        label_model: {MODEL.format(balance=[0.4, 0.3, 0.3])}
    evaluate: {{text: [note], seeds: [1], bootstrap: 10}}
    """

FRAUD = """
    from weakfish.rules import keywords, threshold

    is_large = threshold("is_large", 1, "amount", above=60, why="Large orders are worth the trouble.")
    says_gift = keywords("says_gift", 1, "note", ["gift"], why="Gift cards cannot be taken back.")
    """

KINDS = """
    from snorkel.labeling import labeling_function

    from weakfish.rules import keywords

    says_toy = keywords("says_toy", 2, "note", ["toy", "gift"], why="It says so.")


    @labeling_function()
    def by_first_letter(order):
        return {"b": 0, "g": 1, "t": 2}.get((order.note or " ")[0], -1)
    """

SHARED = """
    from snorkel.labeling import labeling_function


    @labeling_function()
    def says_nothing(order):
        return 0 if order.note is None else -1
    """

NOTES = ("book", "gift card", "toy car", None)
MONTHS = ("2024-01", "2024-02")
ORDERS = 40
"""Of each month."""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write(tmp_path / "params.yaml", PARAMS)
    write(tmp_path / "dvc.yaml", "stages: {}\n")
    for name, text in (("fraud", FRAUD), ("kinds", KINDS), ("shared", SHARED)):
        write(tmp_path / f"labeling_functions/{name}.py", text)
    for month, name in enumerate(MONTHS, 1):
        start = datetime(2024, month, 1, tzinfo=UTC)
        columns = {
            "order_id": [f"{month}-{number}" for number in range(ORDERS)],
            "placed_at": pa.array([start + timedelta(hours=number) for number in range(ORDERS)], TIME),
            "amount": [7 * number % 100 for number in range(ORDERS)],
            "note": [NOTES[number % len(NOTES)] for number in range(ORDERS)],
        }
        write_partition(tmp_path / "data/events", name, pa.table(columns))
    return tmp_path


@pytest.fixture
def applied(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often texts were scanned, by ``scans``, and each row function was applied to a batch, by its name."""
    counts: Counter[str] = Counter()
    scan, rows = Automaton.hits, row_votes

    def counted_scan(self: Automaton, texts: Any) -> Any:
        counts["scans"] += 1
        return scan(self, texts)

    def counted_rows(functions: Any, *others: Any) -> Any:
        counts.update(function.name for function in functions)
        return rows(functions, *others)

    monkeypatch.setattr(Automaton, "hits", counted_scan)
    monkeypatch.setattr("weakfish.labeling.workers.row_votes", counted_rows)
    return counts


def voted(root: Path) -> None:
    with own_functions():
        vote(Project(root))


def chosen(root: Path, task: str = "fraud") -> list[str]:
    with own_functions():
        return [function.name for function in load_functions(Project(root), task)]


def select(root: Path, task: str, functions: str) -> None:
    """Set ``tasks.<task>.functions``."""
    file = root / "params.yaml"
    there = re.search(rf"{task}:\n.*\n.*functions: (.*)\n", file.read_text(encoding="utf-8"))
    assert there
    replace(file, f"functions: {there[1]}\n", f"functions: {functions}\n")


def of_task(lines: str, task: str) -> str:
    found = re.search(rf"^{task}: (.*) computed\.$", lines, re.MULTILINE)
    assert found, lines
    return found[1]


def test_votes_of_one_pass_are_those_of_each_task_alone(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    voted(root)
    together = contents(root / "data/votes")
    assert len(together) == 2 * len(MONTHS) + 2
    params = (root / "params.yaml").read_text(encoding="utf-8")
    fraud, kind = re.findall(r"  (?:fraud|kind):\n(?: {4}.*\n)+", params)
    alone: dict[str, bytes] = {}
    for other in (kind, fraud):
        (root / "params.yaml").write_text(params.replace(other, ""), encoding="utf-8")
        voted(root)
        alone |= contents(root / "data/votes")
    assert alone == together
    (root / "params.yaml").write_text(params, encoding="utf-8")
    with own_functions():
        matrix = read_label_matrix(Project(root), "kind")
    expected = {None: [0, -1, -1], "book": [-1, -1, 0], "gift card": [-1, 2, 1], "toy car": [-1, 2, 2]}
    assert matrix.names == ["says_nothing", "says_toy", "by_first_letter"]
    assert matrix.votes.tolist() == [expected[NOTES[number % len(NOTES)]] for number in range(ORDERS)] * 2


def test_text_is_scanned_once_for_all_tasks_and_a_shared_function_votes_once(
    root: Path, applied: Counter[str], capsys: pytest.CaptureFixture[str]
) -> None:
    voted(root)
    assert applied == {"scans": len(MONTHS), "says_nothing": len(MONTHS), "by_first_letter": len(MONTHS)}
    lines = capsys.readouterr().out
    assert of_task(lines, "fraud") == "3 of 3 labeling functions, 2 of 2 partitions: 6 of 6 pieces"
    assert of_task(lines, "kind") == "3 of 3 labeling functions, 2 of 2 partitions: 6 of 6 pieces"
    assert "10 pieces in all: a function of several tasks votes once for all of them." in lines
    pieces = list((root / ".weakfish/cache/votes").glob("*/*"))
    assert len(pieces) == 10


def test_an_edit_costs_the_pieces_of_its_function_alone(
    root: Path, applied: Counter[str], capsys: pytest.CaptureFixture[str]
) -> None:
    voted(root)
    applied.clear()
    replace(root / "labeling_functions/kinds.py", '["toy", "gift"]', '["toy"]')
    capsys.readouterr()
    voted(root)
    lines = capsys.readouterr().out
    assert applied == {"scans": len(MONTHS)}
    assert of_task(lines, "fraud") == "0 of 3 labeling functions, 0 of 2 partitions: 0 of 6 pieces"
    assert of_task(lines, "kind") == "1 of 3 labeling functions, 2 of 2 partitions: 2 of 6 pieces"
    assert "in all" not in lines
    replace(root / "labeling_functions/shared.py", "is None", "in (None, '')")
    voted(root)
    lines = capsys.readouterr().out
    assert [of_task(lines, task).split(",")[0] for task in ("fraud", "kind")] == ["1 of 3 labeling functions"] * 2
    assert applied == {"scans": len(MONTHS), "says_nothing": len(MONTHS)}


def test_a_function_that_joins_another_task_costs_nothing(
    root: Path, applied: Counter[str], capsys: pytest.CaptureFixture[str]
) -> None:
    voted(root)
    applied.clear()
    capsys.readouterr()
    select(root, "kind", "[says_nothing, kinds.*, is_large]")
    voted(root)
    assert of_task(capsys.readouterr().out, "kind") == "0 of 4 labeling functions, 0 of 2 partitions: 0 of 8 pieces"
    assert not applied
    of_fraud, of_kind = (read_table(root / "data/votes" / task, ["is_large"]) for task in ("fraud", "kind"))
    assert of_kind.equals(of_fraud)


def test_faults_are_counted_in_each_task_and_each_has_its_own_budget(root: Path) -> None:
    replace(root / "labeling_functions/shared.py", "order.note is None", "order.note[1] == 'x'")
    replace(root / "params.yaml", "functions: [fraud.*", "max_faults: 20\n    functions: [fraud.*")
    with pytest.raises(LabelingFunctionError, match=r"'says_nothing' .* on 20 rows .*tasks\.kind\.max_faults"):
        voted(root)
    reported = json.loads((root / "reports/votes.json").read_text(encoding="utf-8"))["tasks"]
    assert {task: found["faults"]["says_nothing"]["count"] for task, found in reported.items()} == {
        "fraud": 20,
        "kind": 20,
    }
    assert not (root / "data/votes").exists()
    replace(root / "params.yaml", "functions: [says", "max_faults: 20\n    functions: [says")
    voted(root)
    assert read_table(root / "data/votes/kind")["says_nothing"].null_count == 20


@pytest.mark.parametrize(("name", "where"), [("by_first_letter", "row '1-2'"), ("says_toy", "@votes")])
def test_a_vote_for_a_class_of_another_task_is_refused_and_says_what_to_name(root: Path, name: str, where: str) -> None:
    select(root, "fraud", f"[fraud.*, {name}]")
    advice = r"If it is a function for kind, name the functions of fraud in params\.yaml: tasks\.fraud\.functions\."
    found = (
        rf"'{name}' returned 2 \(labeling_functions\.kinds, {where}\), which is not a vote of task fraud; .*{advice}"
    )
    with pytest.raises(LabelingFunctionError, match=found):
        voted(root)


def test_cached_votes_are_held_against_the_classes_that_there_are_now(root: Path, applied: Counter[str]) -> None:
    replace(root / "labeling_functions/kinds.py", 'says_toy", 2', 'says_toy", 1')
    voted(root)
    applied.clear()
    file = root / "params.yaml"
    replace(file, "classes: [fine, fraud]", "classes: [fine, fraud, theft]")
    replace(file, "[0.5, 0.5]", "[0.5, 0.3, 0.2]")
    voted(root)
    assert not applied, "a class more changes no vote"
    replace(file, "classes: [book, gift, toy]", "classes: [book, gift]")
    replace(file, "[0.4, 0.3, 0.3]", "[0.5, 0.5]")
    with pytest.raises(LabelingFunctionError, match=r"'by_first_letter' returned 2 .* 0 \(book\), 1 \(gift\)"):
        voted(root)


def test_functions_are_named_one_by_one_or_by_module_and_each_counts_once(root: Path) -> None:
    assert chosen(root, "kind") == ["says_nothing", "says_toy", "by_first_letter"]
    for wanted, names in (
        ("[says_gift, fraud.*, says_gift]", ["says_gift", "is_large"]),
        ("[fraud.*, shared.*]", ["is_large", "says_gift", "says_nothing"]),
        ("[shared.*, is_large]", ["says_nothing", "is_large"]),
    ):
        select(root, "fraud", wanted)
        assert chosen(root) == names


@pytest.mark.parametrize(
    ("wanted", "error", "sentence"),
    [
        ("[says_gif]", UnknownName, "There is no labeling function 'says_gif' in .*; did you mean 'says_gift'"),
        ("[frauds.*]", UnknownName, "There is no module of labeling functions 'frauds.*'.*; did you mean 'fraud.*'"),
        ("[fraud]", UnknownName, r"tasks\.fraud\.functions\); did you mean 'fraud\.\*'"),
        ("[empty.*]", LabelingFunctionError, "no labeling functions in labeling_functions/empty.py"),
        ("[]", LabelingFunctionError, r"tasks\.fraud\.functions names none"),
        ("['*']", UnknownName, "There is no labeling function '\\*'"),
    ],
)
def test_what_names_no_function_is_one_sentence(
    root: Path, wanted: str, error: type[WeakfishError], sentence: str
) -> None:
    write(root / "labeling_functions/empty.py", "WORDS = []\n")
    select(root, "fraud", wanted)
    with pytest.raises(error, match=sentence):
        chosen(root)


def test_a_function_that_reads_no_column_votes_on_every_row(root: Path) -> None:
    write(
        root / "labeling_functions/always.py",
        """
        import ibis

        from weakfish.rules import votes


        @votes(1)
        def always(order):
            return ibis.literal(True)
        """,
    )
    for wanted in ("[always.*]", "[always.*, fraud.*]"):
        select(root, "fraud", wanted)
        voted(root)
        with own_functions():
            matrix = read_label_matrix(Project(root), "fraud")
        assert matrix.votes[:, 0].tolist() == [1] * 2 * ORDERS


def test_the_plan_of_all_tasks_is_explained_as_one(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    select(root, "kind", "[kinds.*, says_gift, says_nothing]")
    with own_functions():
        print_plan(Project(root))
    printed = capsys.readouterr().out
    assert "fraud, kind: searches of text" in printed
    lines = [line.split() for line in printed.splitlines()]
    tasks = {line[line.index("note") - 1]: line[: line.index("note") - 1] for line in lines if "note" in line}
    assert tasks == {"says_gift": ["fraud,", "kind"], "says_toy": ["kind"]}
    assert "2 of 2 searches are done in one scan per column of text; 3 of 5 labeling functions" in printed
    assert "2 of them vote in several tasks, once for all of these." in printed
