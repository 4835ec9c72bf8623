"""A labeling function tried on a sample: figures as counted row by row, gold labels of the test part untouched."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from io import StringIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from made_votes import own_functions
from projects import contents, replace, tiny, write
from scipy.stats import binomtest

from weakfish.cli.lf import WIDEST, excerpt, print_trial
from weakfish.cli.main import cli
from weakfish.contracts.figures import percent
from weakfish.contracts.tables import TIME, write_partition
from weakfish.errors import LabelingFunctionError, TableError, UnknownName, UserError
from weakfish.labeling.matrix import SPAN, evenly, take_sample
from weakfish.labeling.plan import Search
from weakfish.labeling.trial import Compared, Trial, try_function, try_module, wilson
from weakfish.labeling.vote import vote
from weakfish.project.paths import Project

CLASSES = ["fine", "fraud"]
START = datetime(2024, 1, 1, tzinfo=UTC)
ORDERS = 500

DRAFTS = '''
    import ibis
    from snorkel.labeling import labeling_function

    from weakfish.rules import keywords, votes


    @votes()
    def by_amount(order):
        """Large is fraud,
        small is fine."""
        return {1: order.amount > 150, 0: order.amount < 60}


    @labeling_function()
    def by_amount_in_python(order):
        """The same, row by row."""
        if order.amount is None:
            return -1
        return 1 if order.amount > 150 else 0 if order.amount < 60 else -1


    @labeling_function()
    def trips(order):
        """Knows no missing amount."""
        return 1 if order.amount > 150 else -1


    @labeling_function()
    def votes_seven(order):
        return 7


    says_gift = keywords("says_gift_in_notes", 1, "note", ["gift"], why="They cannot be taken back.")
    votes_for_a_third = keywords("votes_for_a_third", 2, "note", ["gift"], why="There are two classes.")


    @votes(1)
    def names_no_column(order):
        return order.amont > 200


    @votes(0)
    def never(order):
        return order.amount < 0


    @votes(0)
    def always(order):
        return order.order_id.notnull()


    @votes(0)
    def constant(order):
        return ibis.literal(True)


    @votes(1)
    def is_large(order):
        """Another limit than that of labeling_functions/."""
        return order.amount > 150


    def plain(order):
        return 1
    '''

Order = dict[str, Any]
Rule = Callable[[Order], int]


def by_amount(order: Order) -> int:
    amount = order["amount"]
    return -1 if amount is None else 1 if amount > 150 else 0 if amount < 60 else -1


RULES: dict[str, Rule] = {
    "buys_gift_cards": lambda order: 1 if order["note"] is not None and "gift" in order["note"] else -1,
    "is_large": lambda order: 1 if order["amount"] is not None and order["amount"] > 200 else -1,
    "is_small": lambda order: 0 if order["amount"] is not None and order["amount"] < 100 else -1,
    "is_a_book": lambda order: 0 if order["note"] == "book" else -1,
}
"""The functions of the tiny project, as Python has them."""


def made() -> list[Order]:
    """Orders of four months; no function but the drafts votes on some."""
    chance = np.random.default_rng(7)
    notes = ["gift card", "book", "tea", "tea", None, "a toy\x1b[2J\nand more"]
    return [
        {
            "order_id": f"o{number:03}",
            "placed_at": START + timedelta(hours=6 * number),
            "amount": None if number % 41 == 0 else int(chance.integers(300)),
            "note": notes[chance.integers(len(notes))],
        }
        for number in range(ORDERS)
    ]


def dev_gold(order: Order) -> str | None:
    """A gold label of some orders of January."""
    number = int(order["order_id"][1:])
    return CLASSES[number % 5 < 2] if number < 120 and number % 3 else None


@pytest.fixture(scope="module")
def voted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The tiny project with more orders, which have votes and gold labels."""
    root = tiny(tmp_path_factory.mktemp("lf") / "orders")
    (root / "validation/events.py").unlink()  # nobody judges these events
    schema = pa.schema([("order_id", pa.string()), ("placed_at", TIME), ("amount", pa.int64()), ("note", pa.string())])
    months: dict[str, list[Order]] = {}
    for order in made():
        months.setdefault(order["placed_at"].strftime("%Y-%m"), []).append(order)
    for month, orders in months.items():
        write_partition(root / "data/events", month, pa.Table.from_pylist(orders, schema))
    known = [(order["order_id"], label) for order in made() if (label := dev_gold(order))]
    write_gold(root, "dev", known)
    write_gold(root, "test", [(order["order_id"], "fine") for order in made() if order["order_id"] > "o200"])
    write(root / "drafts/amounts.py", DRAFTS)
    with own_functions():
        vote(Project(root))
        yield root


def write_gold(root: Path, part: str, labels: list[tuple[str, str]]) -> None:
    keys, names = zip(*labels, strict=True)
    labels_of = pa.table({"order_id": list(keys), "label": list(names)})
    write_partition(root / "data/gold" / part / "fraud", "2024-01", labels_of)


@pytest.fixture
def project(voted: Path, tmp_path: Path) -> Project:
    """A copy to change."""
    return Project(Path(shutil.copytree(voted, tmp_path / "orders")))


def trial(root: Path, name: str, rows: int = 20_000, examples: int = 10, **options: Any) -> Trial:
    return try_function(Project(root), "fraud", name, rows, examples, **options)


def printed(found: Trial) -> str:
    file = StringIO()
    print_trial(found, file)
    return file.getvalue()


def majority(votes: list[int]) -> int:
    """The class that most vote for, -1 where there is no such."""
    counts = Counter(vote for vote in votes if vote != -1).most_common()
    return counts[0][0] if counts and (len(counts) == 1 or counts[0][1] > counts[1][1]) else -1


def counted(rule: Rule, others: dict[str, Rule]) -> dict[str, Any]:
    """What `try` should say of a rule, by going through all orders one by one."""
    found: Counter[str] = Counter()
    keys: dict[str, set[str]] = {"keys": set(), "contradicted": set()}
    for order in made():
        vote, gold = rule(order), dev_gold(order)
        if vote == -1:
            continue
        beside = {name: other(order) for name, other in others.items()}
        most = majority(list(beside.values()))
        keys["keys"].add(order["order_id"])
        found["fires"] += 1
        found[f"fires {CLASSES[vote]}"] += 1
        found["adds"] += set(beside.values()) == {-1}
        found["conflicts"] += 1 - vote in beside.values()
        found["against"] += most == 1 - vote
        found["gold"] += gold is not None
        found["correct"] += gold == CLASSES[vote]
        found["adds gold"] += gold is not None and set(beside.values()) == {-1}
        found["both majority"] += gold is not None and most != -1
        found["majority correct"] += gold is not None and most != -1 and CLASSES[most] == gold
        if most == 1 - vote or gold == CLASSES[1 - vote]:
            keys["contradicted"].add(order["order_id"])
        for name, other in beside.items():
            found[f"{name} both"] += other != -1
            found[f"{name} agree"] += other == vote
    return {**found, **keys}


@pytest.mark.parametrize(
    ("name", "rule", "others"),
    [
        ("drafts/amounts.py:by_amount", by_amount, RULES),
        ("drafts/amounts.py:by_amount_in_python", by_amount, RULES),
        ("is_large", RULES["is_large"], {name: rule for name, rule in RULES.items() if name != "is_large"}),
        ("is_a_book", RULES["is_a_book"], {name: rule for name, rule in RULES.items() if name != "is_a_book"}),
    ],
)
def test_figures_are_those_of_a_count_row_by_row(voted: Path, name: str, rule: Rule, others: dict[str, Rule]) -> None:
    expected, found = counted(rule, others), trial(voted, name).figures
    assert found["sample"]["rows"] == found["sample"]["of"] == ORDERS
    assert found["coverage"]["rows"] == expected["fires"]
    assert found["coverage"]["by_class"] == {c: expected[f"fires {c}"] for c in CLASSES if expected.get(f"fires {c}")}
    assert (found["gold"]["votes"], found["gold"]["correct"]) == (expected["gold"], expected["correct"])
    assert found["gold"]["accuracy"] == expected["correct"] / expected["gold"]
    assert sum(each["votes"] for each in found["gold"]["by_class"].values()) == expected["gold"]
    beside = found["gold"]["majority"]
    assert (beside["rows"], beside["correct"]) == (expected["both majority"], expected["majority correct"])
    assert found["others"]["functions"] == len(others)
    assert found["others"]["adds"]["rows"] == expected["adds"]
    assert found["others"]["adds"]["gold"]["votes"] == expected["adds gold"]
    assert found["others"]["conflicts"] == expected["conflicts"]
    assert found["others"]["against_majority"] == expected["against"]
    assert found["contradicted"] == len(expected["contradicted"])
    pairs = {each["name"]: (each["both"], each["agree"], each["conflict"]) for each in found["others"]["by_function"]}
    for other in others:
        both, agree = expected[f"{other} both"], expected[f"{other} agree"]
        assert pairs[other] == (both, agree, both - agree)
    low, high = found["gold"]["interval"]
    assert low < found["gold"]["accuracy"] < high


def test_the_counts_above_are_of_something(voted: Path) -> None:
    expected = counted(by_amount, RULES)
    for what in ("adds", "adds gold", "conflicts", "against", "correct", "majority correct"):
        assert 0 < expected[what] < expected["fires"], what


def test_figures_of_three_classes_are_those_of_a_count_row_by_row() -> None:
    chance = np.random.default_rng(3)
    own, gold = chance.integers(-1, 3, 400).astype(np.int8), chance.integers(-1, 3, 400)
    others = np.where(chance.random((400, 4)) < 0.5, -1, chance.integers(0, 3, (400, 4))).astype(np.int8)
    compared = Compared(own, others, gold, ["a", "b", "c"])
    for row in range(400):
        vote, most = int(own[row]), majority(others[row].tolist())
        fires, said = vote != -1, set(others[row].tolist()) - {-1}
        assert compared.majority[row] == most
        assert compared.adds[row] == (fires and not said)
        assert compared.conflicts[row] == (fires and bool(said - {vote}))
        assert compared.against_majority[row] == (fires and most not in (-1, vote))
        assert compared.wrong[row] == (fires and gold[row] not in (-1, vote))


@pytest.mark.parametrize(("correct", "votes"), [(0, 1), (1, 1), (3, 7), (98, 100), (500, 1000)])
def test_the_interval_is_wilsons(correct: int, votes: int) -> None:
    expected = binomtest(correct, votes).proportion_ci(method="wilson")
    assert wilson(correct, votes) == pytest.approx([expected.low, expected.high], abs=1e-6)


def test_examples_are_rows_where_it_votes_and_where_it_is_contradicted(voted: Path) -> None:
    expected, found = counted(by_amount, RULES), trial(voted, "drafts/amounts.py:by_amount")
    orders = {order["order_id"]: order for order in made()}
    fires, disagrees = found.figures["examples"]["fires"], found.figures["examples"]["disagrees"]
    assert len(fires) == len({row["key"] for row in fires}) == 10
    assert len(disagrees) == len({row["key"] for row in disagrees}) == 10
    assert {row["key"] for row in fires} <= expected["keys"]
    assert {row["key"] for row in disagrees} <= expected["contradicted"]
    assert any(row["gold"] not in (None, row["vote"]) for row in disagrees)
    assert any(row["gold"] is None for row in disagrees), "not all of them by gold"
    for place, row in enumerate(fires + disagrees):
        order = orders[row["key"]]
        votes = Counter(CLASSES[rule(order)] for rule in RULES.values() if rule(order) != -1)
        assert (row["vote"], row["gold"]) == (CLASSES[by_amount(order)], dev_gold(order))
        assert row["others"] == dict(votes)
        assert found.shown["amount"][place].as_py() == order["amount"]
    assert found.shown.column_names == ["placed_at", "amount"]


def test_as_many_examples_as_there_are_and_no_more_than_asked_for(voted: Path) -> None:
    expected = counted(by_amount, RULES)
    found = trial(voted, "drafts/amounts.py:by_amount", examples=ORDERS).figures["examples"]
    assert {row["key"] for row in found["fires"]} == expected["keys"]
    assert {row["key"] for row in found["disagrees"]} == expected["contradicted"]
    none = trial(voted, "drafts/amounts.py:by_amount", examples=0).figures["examples"]
    assert none == {"fires": [], "disagrees": []}


def test_a_function_that_votes_nowhere_or_everywhere_has_its_figures(voted: Path) -> None:
    never, always = (trial(voted, f"drafts/amounts.py:{name}") for name in ("never", "always"))
    assert never.figures["coverage"] == {"rows": 0, "by_class": {}}
    assert (never.figures["gold"]["accuracy"], never.figures["gold"]["interval"]) == (None, None)
    assert never.figures["examples"] == {"fires": [], "disagrees": []}
    assert "it votes on none of the" in printed(never)
    assert always.figures["coverage"] == {"rows": ORDERS, "by_class": {"fine": ORDERS}}
    assert always.figures["reads"] == ["order_id"]
    assert always.shown.column_names == ["placed_at"]


def test_both_kinds_of_functions_are_tried_alike(voted: Path) -> None:
    kinds = [trial(voted, f"drafts/amounts.py:{name}").figures for name in ("by_amount", "by_amount_in_python")]
    assert [each.pop("kind") for each in kinds] == ["columns", "rows"]
    assert [each.pop("function") for each in kinds] == ["by_amount", "by_amount_in_python"]
    assert kinds[0] == kinds[1]
    assert kinds[0]["reads"] == ["amount"]


def test_gold_of_the_test_part_is_never_read(project: Project) -> None:
    before = printed(trial(project.root, "is_small"))
    (project.table("gold/test/fraud") / "2024-01.parquet").write_bytes(b"no Parquet at all")
    assert printed(trial(project.root, "is_small")) == before
    shutil.rmtree(project.table("gold/test/fraud"))
    assert printed(trial(project.root, "is_small")) == before
    write_gold(project.root, "dev", [(f"o{number:03}", "fraud") for number in range(100)])
    assert printed(trial(project.root, "is_small")) != before, "gold of the dev part is"


def test_without_dev_gold_there_is_no_accuracy(project: Project) -> None:
    shutil.rmtree(project.table("gold/dev/fraud"))
    found = trial(project.root, "drafts/amounts.py:by_amount")
    assert found.figures["gold"] is None
    assert {row["gold"] for row in found.figures["examples"]["disagrees"]} == {None}
    assert "dev gold   there is none for these rows" in printed(found)


def test_gold_labels_of_other_classes_are_passed_over_and_said_so(project: Project) -> None:
    write_gold(project.root, "dev", [("o001", "theft"), ("o002", "fine")])
    found = trial(project.root, "is_small").figures
    assert found["gold"]["rows"] == 1
    assert found["notes"] == ["1 label(s) in data/gold/dev/fraud are not classes of the task and were ignored."]


def test_a_function_that_raises_says_on_which_rows_and_votes_elsewhere(voted: Path) -> None:
    found = trial(voted, "drafts/amounts.py:trips")
    missing = [order["order_id"] for order in made() if order["amount"] is None]
    assert found.figures["faults"] == {"rows": len(missing), "exception": "TypeError", "keys": missing[:5]}
    assert found.figures["coverage"]["rows"] == sum((order["amount"] or 0) > 150 for order in made())
    text = printed(found)
    assert f"it raised on {len(missing)} rows, first TypeError: '>' not supported" in text
    assert "Traceback" not in text


def test_a_draft_replaces_the_function_of_its_name(voted: Path) -> None:
    found = trial(voted, "drafts/amounts.py:is_large").figures
    assert "is_large" not in {each["name"] for each in found["others"]["by_function"]}
    assert found["changed"] == sum(150 < (order["amount"] or 0) <= 200 for order in made()) > 0
    assert trial(voted, "is_large").figures["changed"] == 0
    assert trial(voted, "drafts/amounts.py:by_amount").figures["changed"] is None


def test_a_draft_is_found_by_either_of_its_names_and_as_it_is_now(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    names = [f"drafts/amounts.py:{name}" for name in ("says_gift", "says_gift_in_notes")]
    first, second = (trial(project.root, name).figures for name in names)
    assert first == second
    assert first["coverage"]["rows"] == sum("gift" in (order["note"] or "") for order in made())
    draft = project.root / "drafts/amounts.py"
    times = draft.stat().st_atime, draft.stat().st_mtime
    replace(draft, '"note", ["gift"], why="They', '"note", ["book"], why="They')
    os.utime(draft, times)  # as edits within one tick of the clock have
    edited = trial(project.root, names[0]).figures
    assert edited["coverage"]["rows"] == sum(order["note"] == "book" for order in made())


def test_a_draft_within_labeling_functions_finds_its_neighbours(project: Project) -> None:
    write(project.root / "labeling_functions/__init__.py", "FRAUD = 1\n")
    write(project.root / "labeling_functions/new.py", "from . import FRAUD\nfrom .orders import is_small, votes\n")
    with own_functions():
        assert trial(project.root, "labeling_functions/new.py:is_small").figures["function"] == "is_small"
        assert {name for name in sys.modules if name.startswith("labeling_functions.new")} == {
            "labeling_functions.new__as_tried"
        }


@pytest.mark.parametrize(
    ("name", "error", "sentence"),
    [
        ("is_larg", UnknownName, "There is no labeling function 'is_larg' in labeling_functions/"),
        ("drafts/amounts.py:by_amont", UnknownName, "did you mean 'by_amount'?"),
        ("drafts/amounts.py:plain", LabelingFunctionError, "is a plain function; make it a labeling function with"),
        ("drafts/amounts.py:votes_seven", LabelingFunctionError, "returned 7 ("),
        ("drafts/amounts.py:votes_for_a_third", LabelingFunctionError, "returned 2 (drafts/amounts.py, @votes)"),
        ("drafts/amounts.py:names_no_column", LabelingFunctionError, "raised AttributeError"),
        ("drafts/none.py:plain", UserError, "There is no Python file 'drafts/none.py'"),
        ("params.yaml:events", UserError, "There is no Python file 'params.yaml'"),
        (f"{'a' * 5000}.py:x", UserError, "There is no Python file"),
        (f"{__file__}:DRAFTS", UserError, "lies outside of the project"),
        ("drafts/link.py:anything", UserError, "lies outside of the project"),
        ("drafts/torn.py:anything", UserError, "drafts/torn.py is not Python: line 2, "),
        ("drafts/raising.py:anything", UserError, "drafts/raising.py cannot be imported: KeyError: 'x'"),
        ("drafts/leaving.py:anything", UserError, "drafts/leaving.py cannot be imported: SystemExit: 0"),
    ],
)
def test_what_cannot_be_tried_is_one_sentence(
    project: Project, name: str, error: type[Exception], sentence: str
) -> None:
    drafts = project.root / "drafts"
    (drafts / "link.py").symlink_to(__file__)
    write(drafts / "torn.py", "x = 1\ndef x(:\n")
    write(drafts / "raising.py", "{}['x']\n")
    write(drafts / "leaving.py", "import sys\nsys.exit(0)\n")
    with pytest.raises(error) as raised:
        trial(project.root, name)
    assert sentence in str(raised.value)


def test_without_events_it_says_what_to_run(project: Project) -> None:
    shutil.rmtree(project.table("events"))
    with pytest.raises(TableError, match="no events in data/events to try it on; run `dvc repro accept`"):
        trial(project.root, "is_small")


def test_without_votes_it_is_tried_alone_and_says_what_to_run(project: Project) -> None:
    expected = trial(project.root, "drafts/amounts.py:by_amount").figures
    shutil.rmtree(project.table("votes"))
    found = trial(project.root, "drafts/amounts.py:by_amount")
    assert found.figures["others"] is None
    assert found.figures["coverage"] == expected["coverage"]
    assert "run `dvc repro vote`" in found.figures["notes"][0]
    assert "none of" not in printed(found)


def test_votes_on_other_events_are_not_compared_with(project: Project) -> None:
    file = project.table("events") / "2024-02.parquet"
    pq.write_table(pq.read_table(file).slice(1), file)
    found = trial(project.root, "is_small").figures
    assert found["others"] is None
    assert "2024-02.parquet; run `dvc repro vote`" in found["notes"][0]


def test_rows_are_printed_without_what_would_steer_the_terminal(voted: Path) -> None:
    found = trial(voted, "drafts/amounts.py:by_amount", examples=300, columns=["note"])
    text = printed(found)
    assert "a toy\\x1b[2J and more" in text
    assert "\x1b" not in text
    for row in found.figures["examples"]["disagrees"]:
        others = ", ".join(f"{name} {count}" for name, count in row["others"].items()) or "none"
        gold = f"; dev gold {row['gold']}" if row["gold"] else ""
        assert f"\n{row['key']}  {row['vote']}; others {others}{gold}\n" in text
    assert "Large is fraud, small is fine." in text
    assert found.shown.column_names == ["note"]
    assert trial(voted, "is_small", columns=["order_id"]).shown.column_names == [], "the key is shown in any case"
    with pytest.raises(UnknownName, match="did you mean 'note'"):
        trial(voted, "is_small", columns=["not"])


def test_a_long_text_is_cut_around_what_was_found() -> None:
    search = Search("f", "lower(note)", "gift ?card", "regex", True, False, "")
    text = "é" * 500 + " a GIFT CARD " + "z" * 500
    cut = excerpt("note", text, [search])
    assert "GIFT CARD" in cut
    assert cut.startswith("...é")
    assert cut.endswith("zz... (1,013 characters)")
    assert "GIFT" not in excerpt("body", text, [search]), "another column is cut at its end"
    assert len(excerpt("body", "y" * WIDEST, [])) == WIDEST


@pytest.mark.parametrize(("of", "number"), [(0, 5), (1, 5), (5, 5), (7, 3), (1000, 7), (10, 1)])
def test_places_are_spread_evenly(of: int, number: int) -> None:
    places = evenly(of, number).tolist()
    assert len(places) == len(set(places)) == min(of, number)
    assert all(0 <= place < of for place in places)
    gaps = {later - place for place, later in pairwise(places)}
    assert not gaps or max(gaps) - min(gaps) <= 1


@pytest.mark.parametrize("rows", [1, 40, 300, 10_000])
def test_a_sample_is_of_all_partitions_and_its_places_name_its_rows(
    project: Project, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("weakfish.labeling.trial.BATCH", 16)
    events = project.table("events")
    for number in range(1, 6):  # many row groups
        file = events / f"2024-{number:02}.parquet"
        pq.write_table(pa.concat_tables([pq.read_table(file)] * 3), file, row_group_size=50)
    sample = take_sample(project, ["order_id", "note"], rows)
    assert sample.of == 3 * ORDERS
    assert sample.rows.num_rows == min(rows, 3 * ORDERS) == sum(map(len, sample.places.values()))
    assert sample.rows.column_names == ["order_id", "note"]
    there = [
        pq.read_table(events / f"{name}.parquet", columns=["order_id", "note"]).take(pa.array(places))
        for name, places in sample.places.items()
    ]
    assert sample.rows.to_pylist() == pa.concat_tables(there).to_pylist()
    if rows >= 40:
        shares = [len(sample.places[f"2024-{number:02}"]) / sample.rows.num_rows for number in range(1, 6)]
        expected = [
            pq.read_metadata(events / f"2024-{number:02}.parquet").num_rows / sample.of for number in range(1, 6)
        ]
        assert shares == pytest.approx(expected, abs=0.03)
    assert rows != 40 or sample.of > SPAN * rows, "one of the cases reads but the first rows of each row group"


def test_a_smaller_sample_is_compared_with_the_votes_on_its_own_rows(voted: Path) -> None:
    orders = {order["order_id"]: order for order in made()}
    found = trial(voted, "drafts/amounts.py:by_amount", rows=60, examples=60).figures
    assert found["sample"] == {"rows": 60, "of": ORDERS, "partitions": 5}
    for row in found["examples"]["fires"]:
        votes = [rule(orders[row["key"]]) for rule in RULES.values()]
        assert row["others"] == dict(Counter(CLASSES[vote] for vote in votes if vote != -1))
    assert found == trial(voted, "drafts/amounts.py:by_amount", rows=60, examples=60).figures


def test_the_command_prints_and_writes_nothing(voted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(voted / "drafts")
    before = contents(voted / "data") | contents(voted / "drafts") | contents(voted / ".weakfish")
    shown = CliRunner().invoke(
        cli, ["lf", "try", "amounts.py:by_amount", "--columns", "note,amount", "--examples", "3"]
    )
    assert shown.exit_code == 0, shown.output
    assert shown.output.startswith("fraud: by_amount (drafts/amounts.py)")
    assert shown.output.count("    note    ") == 6
    as_json = CliRunner().invoke(cli, ["lf", "try", "is_a_book", "--json", "--rows", "100"])
    found = json.loads(as_json.output)
    assert found["sample"]["rows"] == 100
    assert '"book"' not in as_json.output, "values of rows are for the terminal alone"
    assert contents(voted / "data") | contents(voted / "drafts") | contents(voted / ".weakfish") == before


def test_with_several_tasks_it_asks_for_one(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    model = "{class_balance: [0.5, 0.5], n_epochs: 5, lr: 0.1, l2: 0, seed: 1}"
    tasks, models = "  theft:\n    classes: [fine, fraud]\n", f"label_models:\n  theft: {model}\n"
    replace(project.root / "params.yaml", "label_models:\n", tasks + models)
    monkeypatch.chdir(project.root)
    asked = CliRunner().invoke(cli, ["lf", "try", "is_small"])
    assert str(asked.exception) == "There are several tasks (fraud, theft); say which with --task."
    assert CliRunner().invoke(cli, ["lf", "try", "is_small", "--task", "fraud"]).exit_code == 0


TABLE = """
    from snorkel.labeling import labeling_function

    from labeling_functions.orders import is_small
    from weakfish.rules import keywords, votes


    @votes()
    def by_amount(order):
        return {1: order.amount > 150, 0: order.amount < 60}


    says_gift = keywords("says_gift", 1, "note", ["gift"], why="They cannot be taken back.")


    @votes(0)
    def never(order):
        return order.amount < 0


    @labeling_function()
    def trips(order):
        return 1 if order.amount > 150 else -1
    """


def test_a_file_is_a_table_of_its_functions_with_lift_and_recall_on_dev(voted: Path) -> None:
    write(voted / "drafts/table.py", TABLE)
    found = try_module(Project(voted), "fraud", "drafts/table.py", 20_000)
    known = Counter(filter(None, map(dev_gold, made())))
    assert found["dev"] == {"fine": known["fine"], "fraud": known["fraud"]}
    rules: dict[str, Rule] = {
        "by_amount": by_amount,
        "says_gift": RULES["buys_gift_cards"],
        "trips": lambda order: 1 if by_amount(order) == 1 else -1,
    }
    lines = {(line["function"], line["class"]): line for line in found["functions"]}
    expected = [
        ("by_amount", "fine"),
        ("by_amount", "fraud"),
        ("says_gift", "fraud"),
        ("never", None),
        ("trips", "fraud"),
    ]
    assert list(lines) == expected, "in the order of the file, without what it imports"
    for name, label in expected:
        line = lines[name, label]
        if label is None:
            assert (line["rows"], line["precision"], line["lift"], line["recall"]) == (0, None, None, None)
            continue
        voting = [order for order in made() if rules[name](order) == CLASSES.index(label)]
        judged = [dev_gold(order) for order in voting if dev_gold(order)]
        right = judged.count(label)
        base = known[label] / known.total()
        assert (line["rows"], line["coverage"]) == (len(voting), len(voting) / ORDERS)
        assert line["dev"] == {"votes": len(judged), "correct": right}
        assert (line["base_rate"], line["precision"]) == (base, right / len(judged))
        assert line["lift"] == pytest.approx(right / len(judged) / base)
        assert line["recall"] == right / known[label]
    missing = sum(order["amount"] is None for order in made())
    assert (lines["trips", "fraud"]["faults"], lines["says_gift", "fraud"]["faults"]) == (missing, 0)


def test_the_table_of_a_file_is_printed_and_says_what_is_useless(voted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(voted / "drafts/table.py", TABLE)
    monkeypatch.chdir(voted)
    printed = CliRunner().invoke(cli, ["lf", "try", "drafts/table.py"]).stdout
    found = json.loads(CliRunner().invoke(cli, ["lf", "try", "drafts/table.py", "--json"]).stdout)
    assert printed.startswith("fraud: drafts/table.py, 4 labeling functions\nTried on all 500 events. ")
    header = next(line for line in printed.splitlines() if line.startswith(" function"))
    titles = "function class votes coverage precision right on dev base rate lift recall"
    assert " ".join(header.split()) == titles
    says = next(line for line in found["functions"] if line["function"] == "says_gift")
    row = next(line for line in printed.splitlines() if line.startswith(" says_gift"))
    shares = (percent(says[name]) for name in ("coverage", "precision"))
    assert row.replace(" %", "%").split()[1:5] == [
        "fraud",
        str(says["rows"]),
        *(share.replace(" ", "") for share in shares),
    ]
    useless = dict.fromkeys(line["function"] for line in found["functions"] if line["lift"] and line["lift"] <= 1)
    assert f"(lift up to 1): {', '.join(useless)}." in printed
    assert "Votes on no row: never." in printed
    assert "trips raised on 13 rows; there it has no vote." in printed


def test_a_file_without_functions_or_with_one_that_cannot_run_says_so(voted: Path) -> None:
    write(voted / "drafts/empty.py", "from labeling_functions.orders import is_small")
    with pytest.raises(UserError, match=r"no labeling function in drafts/empty\.py"):
        try_module(Project(voted), "fraud", "drafts/empty.py", 100)
    with pytest.raises(LabelingFunctionError, match=r"names_no_column|votes_for_a_third"):
        try_module(Project(voted), "fraud", "drafts/amounts.py", 100)
