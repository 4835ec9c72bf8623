"""`weakfish lf suggest` on made-up orders: what is planted is found, what is noise is not, and estimates are honest."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from click.testing import CliRunner
from made_votes import own_functions
from projects import write
from scipy.sparse import csc_matrix

from benchmarks import lf_suggest
from weakfish.cli.lf import lf
from weakfish.contracts.tables import TIME, read_partition, read_table, write_partition
from weakfish.errors import UnknownName
from weakfish.files import write_json
from weakfish.labeling import estimates
from weakfish.labeling.candidates import Candidate, Examined, Labelled, words_of
from weakfish.labeling.label import label
from weakfish.labeling.matrix import read_label_matrix
from weakfish.labeling.suggest import Suggestions, choose, suggest
from weakfish.labeling.vote import vote
from weakfish.project.paths import Project
from weakfish.rules.rule import Rule

PARAMS = """
    events: {key: order_id, time: placed_at}
    source: {reader: "sources.orders:Orders"}
    gold: {split: "2024-03-01"}
    tasks:
      fraud:
        classes: [fine, fraud]
        label_model: {class_balance: [0.5, 0.5], n_epochs: 200, lr: 0.01, l2: 0.1, seed: 1}
    evaluate: {text: [note], seeds: [1], bootstrap: 10}
    """

RULES = 6
FUNCTIONS = "from weakfish.rules import votes\n" + "".join(
    f"""

@votes()
def rule_{number}(order):
    return {{0: order.said_{number} == 0, 1: order.said_{number} == 1}}
"""
    for number in range(RULES)
)

MONTHS = ("2024-01", "2024-02", "2024-03")
ROWS = 900
"""Orders of a month; about an eighth have no vote."""


def orders(month: str, seed: int = 0, planted: bool = True, share: float = 0.5, uncovered: float = 0.12) -> pa.Table:
    """Orders with a class, rules that vote independently, and hints in ``note`` and ``amount`` if ``planted``."""
    random = np.random.default_rng([seed, *month.encode()])
    gold = (random.random(ROWS) < share).astype(np.int64)

    def among(fraud: float, fine: float) -> np.ndarray:
        return random.random(ROWS) < np.where(gold == 1, fraud, fine) if planted else random.random(ROWS) < fine

    start = datetime.fromisoformat(f"{month}-01").replace(tzinfo=UTC)
    columns = {
        "order_id": pa.array([f"{month}-{number}" for number in range(ROWS)]),
        "placed_at": pa.array([start + timedelta(minutes=number) for number in range(ROWS)], TIME),
        "customer": pa.array([f"c{number}" for number in random.integers(300, size=ROWS)]),
        "amount": pa.array(np.where(among(0.4, 0.01), random.integers(500, 900, ROWS), random.integers(1, 400, ROWS))),
        "note": pa.array(_notes(random, {"gift voucher": among(0.4, 0.01), "parcel": among(0.3, 0.25)})),
    }
    silent = random.random(ROWS) < uncovered
    for number in range(RULES):
        said = np.where(random.random(ROWS) < 0.92, gold, 1 - gold)
        speaks = (random.random(ROWS) < 0.5) | (np.arange(ROWS) % RULES == number)
        columns[f"said_{number}"] = pa.array(np.where(speaks & ~silent, said, -1))
    return pa.table({**columns, "gold": pa.array(np.where(gold == 1, "fraud", "fine"))})


def _notes(random: np.random.Generator, hints: dict[str, np.ndarray]) -> list[str]:
    filler = np.array(["please", "leave", "at", "door", "thanks", "call", "first", "blue", "size", "quick"])
    picked = filler[random.integers(len(filler), size=(ROWS, 3))]
    return [
        " ".join([*words, *(hint for hint, there in hints.items() if there[row])]).capitalize() + "."
        for row, words in enumerate(picked)
    ]


def made(root: Path, **how: float) -> Project:
    """The project, labelled, with dev gold for January and February and a test part that nobody may read."""
    write(root / "params.yaml", PARAMS)
    write(root / "dvc.yaml", "stages: {}\n")
    (root / "labeling_functions").mkdir()
    (root / "labeling_functions/rules.py").write_text(FUNCTIONS, encoding="utf-8")
    for month in MONTHS:
        table = orders(month, **how)  # type: ignore[arg-type]
        write_partition(root / "data/events", month, table.drop_columns(["gold"]))
        part = "dev" if month < "2024-03" else "test"
        named = table.select(["order_id", "gold"]).rename_columns(["order_id", "label"])
        write_partition(root / f"data/gold/{part}/fraud", month, named)
    write_json(
        root / "data/features/customer_activity.manifest.json",
        {"entity": "customer", "columns": {}, "features": [], "data_version": ""},
    )
    relabelled(root)
    return Project(root)


def relabelled(root: Path) -> None:
    with own_functions():
        vote(Project(root))
        label(Project(root))


def asked(root: Path, **how: object) -> Suggestions:
    with own_functions():
        return suggest(Project(root), "fraud", **how)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("planted") / "project").root


@pytest.fixture(scope="module")
def found(planted: Path) -> Suggestions:
    return asked(planted)


@pytest.fixture
def there(planted: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(planted)
    with own_functions():
        yield planted


def for_uncovered(found: Suggestions) -> dict[str, Rule]:
    return {each.rule.column: each.rule for each in found.suggestions if each.pick.kind == "uncovered"}


def test_a_planted_word_and_a_planted_threshold_are_found_with_their_class(found: Suggestions) -> None:
    rules = for_uncovered(found)
    assert set(rules) == {"note", "amount"}
    assert rules["note"].label == rules["amount"].label == 1
    assert set(rules["note"].words) & {"gift", "voucher", "gift voucher"}
    assert rules["amount"].form == "at_least"
    assert 350 <= float(rules["amount"].value or 0) <= 560


def test_words_that_say_nothing_are_not_suggested(found: Suggestions) -> None:
    words = {word for each in found.suggestions for word in each.rule.words if each.rule.form == "keywords"}
    assert not words - {"gift", "voucher", "gift voucher"}


def test_dev_gold_stands_beside_the_estimate_and_agrees_with_it(found: Suggestions) -> None:
    for each in (each for each in found.suggestions if each.pick.kind == "uncovered"):
        counts = each.counts
        assert each.pick.estimate >= each.pick.low >= 0.9
        assert counts["gold"] > 100
        assert counts["correct"] / counts["gold"] >= each.pick.low
        assert counts["gold_added"] <= counts["adds"] <= counts["votes"]


def test_pasted_code_votes_as_it_was_said_to(
    planted: Path, found: Suggestions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "pasted"
    shutil.copytree(planted, root, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.chdir(root)
    with own_functions():
        code = json.loads(CliRunner().invoke(lf, ["suggest", "--json"]).stdout)["code"]
    before = read_table(root / "data/labels/fraud", ["covered"])["covered"].to_numpy()
    (root / "labeling_functions/suggested.py").write_text(code, encoding="utf-8")
    relabelled(root)
    after = read_table(root / "data/labels/fraud", ["covered"])["covered"].to_numpy()
    fired = np.zeros(len(before), np.bool_)
    for each in found.suggestions:
        votes = read_table(root / "data/votes/fraud", [each.rule.name])[each.rule.name].to_numpy()
        assert set(np.unique(votes)) == {-1, each.rule.label}
        assert (votes >= 0).sum() == each.counts["votes"]
        new = (votes >= 0) & ~before & ~fired
        assert new.sum() == (each.counts["adds"] if each.pick.kind == "uncovered" else 0)
        fired |= votes >= 0
    assert (after & ~before).sum() == (fired & ~before).sum() > 50


def test_suggestions_that_were_pasted_are_not_named_again(planted: Path, found: Suggestions, tmp_path: Path) -> None:
    root = tmp_path / "again"
    shutil.copytree(planted, root, ignore=shutil.ignore_patterns("__pycache__"))
    names = [each.rule.name for each in found.suggestions]
    (root / "labeling_functions/later.py").write_text(f"# {' '.join(names)}\n", encoding="utf-8")
    assert not {each.rule.name for each in asked(root).suggestions} & set(names)


def test_without_a_hint_it_says_that_there_is_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = made(tmp_path / "none", planted=False).root
    monkeypatch.chdir(root)
    with own_functions():
        printed = CliRunner().invoke(lf, ["suggest", "--columns", "note,amount"])
    assert printed.exit_code == 0
    assert "Nothing to suggest for rows that no function votes on: no rule" in printed.stdout
    assert all(line.startswith("#") for line in printed.stdout.splitlines())


def test_where_every_row_is_covered_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = made(tmp_path / "all", uncovered=0.0).root
    monkeypatch.chdir(root)
    with own_functions():
        printed = CliRunner().invoke(lf, ["suggest"]).stdout
    assert "Nothing to suggest for rows that no function votes on: there are none." in printed


def test_gold_of_the_test_part_is_never_read(planted: Path, found: Suggestions, tmp_path: Path) -> None:
    root = tmp_path / "without"
    shutil.copytree(planted, root, ignore=shutil.ignore_patterns("__pycache__"))
    for file in (root / "data/gold/test/fraud").iterdir():
        file.write_bytes(b"not to be read")
    assert asked(root) == found


def test_dev_gold_has_no_part_in_what_is_suggested_but_to_refute_it(
    planted: Path, found: Suggestions, tmp_path: Path
) -> None:
    root = tmp_path / "no_gold"
    shutil.copytree(planted, root, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.rmtree(root / "data/gold")
    without = asked(root)
    assert [each.rule for each in without.suggestions] == [each.rule for each in found.suggestions]
    assert [each.pick.low for each in without.suggestions] == [each.pick.low for each in found.suggestions]
    assert not any(each.counts["gold"] for each in without.suggestions)


def test_what_dev_gold_refutes_is_not_suggested(planted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "refuted"
    shutil.copytree(planted, root, ignore=shutil.ignore_patterns("__pycache__"))
    for file in (root / "data/gold/dev/fraud").iterdir():  # the votes still say that gift vouchers are fraud
        events, gold = (read_partition(folder / file.name) for folder in (root / "data/events", file.parent))
        cheap = pc.less(events["amount"], 500)
        gift = pc.match_substring_regex(events["note"], "(?i)gift")
        label = pc.if_else(pc.and_(gift, cheap), "fine", gold["label"])
        write_partition(file.parent, file.stem, gold.set_column(1, "label", label))
    found = asked(root)
    assert {column: rule.label for column, rule in for_uncovered(found).items()} == {"amount": 1}
    assert found.refuted >= 3, "gift, voucher, and both"
    monkeypatch.chdir(root)
    with own_functions():
        printed = CliRunner().invoke(lf, ["suggest"]).stdout
    assert (
        f"# Left out since dev gold refutes them: {found.refuted} conditions that were estimated to reach 90 %."
        in printed
    )


def test_rules_for_a_class_never_cover_everything_together() -> None:
    random = np.random.default_rng(4)
    rows, targets = 4000, 400
    where = np.where(random.random(rows) < 0.3, 2, random.integers(2, size=rows))  # a third of rows have no amount
    likely = np.where(where == 2, 0.02, 0.99)
    votes = np.where(random.random((rows, 4)) < likely[:, None], 1, 0).astype(np.int8)
    votes[:, 2:] = -1
    holds = [np.arange(2) == where[:, None], np.arange(2) == random.integers(2, size=targets)[:, None]]
    covered, uncovered = (Examined(csc_matrix(each.astype(np.float32)), []) for each in holds)
    names = [Candidate("amount", "at_least", 5.0), Candidate("amount", "at_most", 4.0)]
    chances = np.stack([1 - likely, likely], axis=1)
    made = Labelled(names, uncovered, covered, chances, np.full(rows, 2), votes, np.zeros(rows, np.bool_), {})
    chosen = choose(made, "uncovered", 0.9, np.array([0.5, 0.5]), most=10)
    assert [(len(each.candidates), each.label) for each in chosen.chosen] == [(1, 1)]
    assert min(chosen.best[1:]) >= 0.9, "each of them alone is precise enough"


def test_the_benchmark_takes_functions_away_and_counts_what_came_back(
    planted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lf_suggest, "REMOVED", 3)  # of six, so that a label model remains
    with own_functions():
        matrix = read_label_matrix(Project(planted), "fraud")
        (_, first), (_, second), (_, by_chance) = lf_suggest.fours(matrix.votes, others=1, random=1, seed=11)
        root = lf_suggest.copied(planted, tmp_path / "copy")
    assert len(set(first) & set(second)) <= 1
    assert len(set(by_chance)) == 3
    assert not (root / "data/gold/test/fraud").exists(), "test gold stays where it is"
    covered = (matrix.votes >= 0).any(axis=1)
    kept = [place for place in range(RULES) if place not in first]
    lost = covered & ~(matrix.votes[:, kept] >= 0).any(axis=1)
    assert lost.sum() >= (covered & ~np.delete(matrix.votes >= 0, second, axis=1).any(axis=1)).sum() > 0
    names = [matrix.names[place] for place in kept]
    (line,) = lf_suggest.measure(root, "fraud", names, 1, covered)
    assert (line["lost"], line["uncovered"]) == (lost.sum(), (~(matrix.votes[:, kept] >= 0).any(axis=1)).sum())
    table = read_table(root / "data/events", ["note", "amount"])
    planted_there = np.array(["gift" in note.lower() for note in table["note"].to_pylist()])
    planted_there |= table["amount"].to_numpy() >= 500
    assert line["regained"] >= 0.8 * (lost & planted_there).sum()
    assert line["share"] == round(line["regained"] / line["lost"], 3)
    assert line["estimate"] >= line["low"] >= 0.9
    right, known = line["dev_gold"]
    assert right >= 0.9 * known > 50


def test_what_few_entities_share_is_not_quoted(planted: Path, found: Suggestions, tmp_path: Path) -> None:
    root = tmp_path / "quoted"
    shutil.copytree(planted, root, ignore=shutil.ignore_patterns("__pycache__"))
    for file in (root / "data/events").iterdir():
        table = read_table(root / "data/events").filter(
            pa.compute.starts_with(read_table(root / "data/events")["order_id"], file.stem)
        )
        gift = pa.compute.match_substring(table["note"], "gift")
        who = pa.compute.if_else(gift, "one customer", table["customer"])
        write_partition(file.parent, file.stem, table.set_column(table.column_names.index("customer"), "customer", who))
    words = {word for each in asked(root).suggestions for word in each.rule.words}
    assert not words & {"gift", "voucher", "gift voucher", "one customer"}
    assert "amount" in for_uncovered(asked(root))


def test_options_are_kept(there: Path) -> None:
    one = json.loads(CliRunner().invoke(lf, ["suggest", "--json", "--most", "1"]).stdout)
    assert len(one["suggestions"]) == 1
    amount = json.loads(CliRunner().invoke(lf, ["suggest", "--json", "--columns", "amount"]).stdout)
    assert {each["column"] for each in amount["suggestions"]} == {"amount"}
    with pytest.raises(UnknownName, match="did you mean 'amount'"):
        suggest(Project(there), "fraud", columns=["amuont"])


def test_what_is_printed_is_python_and_quotes_no_row(there: Path) -> None:
    printed = CliRunner().invoke(lf, ["suggest"]).stdout
    compile(printed, "printed", "exec")
    assert "2024-01-" not in printed
    assert "Please" not in printed


def test_words_are_those_that_stand_together() -> None:
    assert words_of("Gift  card,\nfree-ly 24 x a I'm") == {"gift", "card", "gift card", "free", "ly"}
    assert "card free" not in words_of("card 5 free")


def labelled(seed: int, rows: int = 4000, candidates: int = 120) -> tuple[Labelled, np.ndarray, csc_matrix]:
    """Labels by Bayes from independent rules, and candidates of all precisions; the truth of rows without votes."""
    random = np.random.default_rng(seed)
    gold = (random.random(rows) < 0.4).astype(np.int64)
    right, coverage = random.uniform(0.75, 0.95, 8), random.uniform(0.15, 0.45, 8)
    said = np.where(random.random((rows, 8)) < right, gold[:, None], 1 - gold[:, None])
    votes = np.where(random.random((rows, 8)) < coverage, said, -1)
    odds = (np.where(votes == 1, 1, np.where(votes == 0, -1, 0)) * np.log(right / (1 - right))).sum(axis=1)
    chance = 1 / (1 + np.exp(-odds))
    precise, often = random.uniform(0.3, 0.99, candidates), random.uniform(0.01, 0.1, candidates)
    rates = np.stack([often * (1 - precise) / 0.6, often * precise / 0.4]).clip(max=0.9)
    holds = random.random((rows, candidates)) < rates[gold]
    covered = (votes >= 0).any(axis=1)

    def group(where: np.ndarray) -> Examined:
        return Examined(csc_matrix(holds[where].astype(np.float32)), [])

    names = [Candidate(f"c{number}", "word", "x") for number in range(candidates)]
    probabilities, n_votes = np.stack([1 - chance, chance], axis=1)[covered], (votes >= 0).sum(axis=1)[covered]
    totals = {"all": rows, "uncovered": int((~covered).sum()), "undecided": int((n_votes == 1).sum())}
    made = Labelled(
        names,
        group(~covered),
        group(covered),
        probabilities,
        n_votes,
        votes[covered].astype(np.int8),
        n_votes == 1,
        totals,
    )
    return made, gold[~covered], rates


def test_a_rule_that_is_right_only_where_many_functions_say_so_is_not_suggested(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made, _, _ = labelled(1)
    sure, few = made.probabilities[:, 1] > 0.5, made.votes <= 2
    often = np.random.default_rng(5).random((2, len(few)))
    holds = np.where(few, ~sure & (often[0] < 0.03), sure & (often[1] < 0.9))[:, None]
    elsewhere = np.ones((made.totals["uncovered"], 1), np.float32)
    one = replace(
        made,
        candidates=made.candidates[:1],
        uncovered=Examined(csc_matrix(elsewhere), []),
        covered=Examined(csc_matrix(holds.astype(np.float32)), []),
    )
    balance = np.array([0.5, 0.5])
    assert not choose(one, "uncovered", 0.8, balance, most=10).chosen
    monkeypatch.setattr(estimates, "FEW_VOTES", 99)
    assert [each.label for each in choose(one, "uncovered", 0.8, balance, most=10).chosen] == [1]


def test_of_three_classes_each_candidate_gets_its_own() -> None:
    random = np.random.default_rng(3)
    gold = random.integers(3, size=6000)
    said = np.where(random.random((6000, 4)) < 0.85, gold[:, None], random.integers(3, size=(6000, 4)))
    votes = np.where(random.random((6000, 4)) < 0.6, said, -1).astype(np.int8)
    likely = np.prod([np.where(votes == label, 0.9, np.where(votes < 0, 1, 0.05)) for label in range(3)], axis=2).T
    holds = random.random((6000, 3)) < np.where(gold[:, None] == np.arange(3), 0.2, 0.002)
    covered = (votes >= 0).any(axis=1)
    groups = [Examined(csc_matrix(holds[where].astype(np.float32)), []) for where in (~covered, covered)]
    names = [Candidate(f"c{label}", "word", "x") for label in range(3)]
    chances = (likely / likely.sum(axis=1, keepdims=True))[covered]
    one = (votes >= 0).sum(axis=1)[covered]
    made = Labelled(names, groups[0], groups[1], chances, one, votes[covered], one == 1, {})
    chosen = choose(made, "uncovered", 0.9, np.full(3, 1 / 3), most=10).chosen
    assert {(each.candidates[0].column, each.label) for each in chosen} == {("c0", 0), ("c1", 1), ("c2", 2)}


def test_a_lower_bound_holds_in_at_least_nine_of_ten_projects() -> None:
    bounds, held, passed = 0, 0, 0
    for seed in range(12):
        made, _, rates = labelled(seed)
        chosen = choose(made, "uncovered", 0.8, np.array([0.5, 0.5]), most=10).chosen
        kept = []
        for each in chosen:
            rate = rates[:, int(each.candidates[0].column[1:])] * (0.6, 0.4)
            kept.append(each.low <= rate[each.label] / rate.sum())
        bounds, held, passed = bounds + len(kept), held + sum(kept), passed + (np.mean(kept or [1]) >= 0.9)
    assert bounds >= 60
    assert held / bounds >= 0.9
    assert passed >= 11
