"""The short forms make functions that vote alike in a column, called on one row, and under Snorkel's appliers."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from ibis.expr.operations import InMemoryTable
from projects import command, tiny, write
from snorkel.labeling import LFAnalysis, PandasLFApplier

from weakfish.engine import duckdb as compute
from weakfish.errors import LabelingFunctionError
from weakfish.labeling.plan import VotePlan
from weakfish.rules import ABSTAIN, ColumnarLabelingFunction, keywords, lookup, patterns, threshold, votes

FINE, FRAUD = 0, 1
WHY = "It is a test."
ENGINE = compute.connect()

ROWS = pa.table(
    {
        "note": ["A gift\n card!", "gifts", None, "", "GIFT CARD", "50% off", "straße", "ſale", "x"],
        "customer": ["ann", "bob", None, "", "Ann", "cy", "ann ", "dan", "eve"],
        "number": pa.array([1, 2, None, 0, 7, 7, 8, 9, -1], pa.int64()),
        "amount": pa.array([10.0, 200.0, None, float("nan"), 200.5, -1.0, 0.0, 1e9, float("inf")]),
        "placed_at": pa.array([datetime(2024, 1, day, tzinfo=UTC) for day in range(1, 10)], pa.timestamp("us", "UTC")),
    }
)


def column_votes(function: ColumnarLabelingFunction, rows: pa.Table = ROWS) -> list[int]:
    table = ENGINE.from_arrow(rows.append_column("position", pa.array(range(rows.num_rows))))
    found = ENGINE.run(table.select(table.position, vote=function.votes(table))).sort_by("position")
    return list(found["vote"].to_pylist())


def positions(function: ColumnarLabelingFunction, label: int = FRAUD) -> list[int]:
    return [position for position, vote in enumerate(column_votes(function)) if vote == label]


GAZETTEER = pa.table({"customer": ["ann", "bob", "eve", None], "class": ["friend", "thief", "unknown", "thief"]})

FUNCTIONS = [
    keywords("sells", FRAUD, "note", ["gift card", "sale"], why=WHY),
    patterns("percents", FRAUD, "note", [r"\d+%", "^x$"], why=WHY),
    threshold("large", FRAUD, "amount", above=200, why=WHY),
    threshold("middling", FINE, "number", at_least=1, below=8, why=WHY),
    threshold("late", FINE, "placed_at", at_least=datetime(2024, 1, 8, tzinfo=UTC), why=WHY),
    lookup("listed", FRAUD, "customer", pa.table({"customer": ["ann", "dan"]}), why=WHY),
    lookup("known", {"friend": FINE, "thief": FRAUD, "unknown": ABSTAIN}, "customer", GAZETTEER, why=WHY),
    lookup("numbered", FRAUD, "number", pa.table({"number": ["7", "008", None]}), why=WHY),
]


@pytest.mark.filterwarnings("ignore:Input has data type int64")  # Snorkel's LFAnalysis on this SciPy
@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.name)
def test_a_column_one_row_and_snorkels_applier_give_the_same_votes(function: ColumnarLabelingFunction) -> None:
    expected = column_votes(function)
    assert {ABSTAIN} < set(expected) <= {ABSTAIN, FINE, FRAUD}
    function.schema = ROWS.schema
    assert [function(row) for row in ROWS.to_pylist()] == expected
    frame = pd.DataFrame({name: pd.Series(ROWS[name].to_pylist(), dtype=object) for name in ROWS.column_names})
    matrix = PandasLFApplier([function]).apply(frame, progress_bar=False)
    assert matrix[:, 0].tolist() == expected
    share = sum(vote != ABSTAIN for vote in expected) / len(expected)
    assert LFAnalysis(matrix, [function]).lf_summary().loc[function.name, "Coverage"] == pytest.approx(share)


def test_the_pass_over_the_events_gives_the_same_votes() -> None:
    words = keywords("words", FRAUD, "note", ["straße", "été", "$"], why=WHY)
    functions = [*FUNCTIONS, words]
    plan = VotePlan(ENGINE, functions, ROWS.schema)
    found = {name: column.tolist() for name, column in plan.votes(ROWS.select(plan.columns)).items()}
    assert found == {function.name: column_votes(function) for function in functions}
    assert {search.function for search in plan.searches if search.lifted} >= {"sells", "percents"}


def test_what_each_function_votes_for() -> None:
    found = {function.name: column_votes(function) for function in FUNCTIONS}
    assert found == {
        "sells": [1, -1, -1, -1, 1, -1, -1, -1, -1],
        "percents": [-1, -1, -1, -1, -1, 1, -1, -1, 1],
        "large": [-1, -1, -1, -1, 1, -1, -1, 1, 1],
        "middling": [0, 0, -1, -1, 0, 0, -1, -1, -1],
        "late": [-1, -1, -1, -1, -1, -1, -1, 0, 0],
        "listed": [1, -1, -1, -1, -1, -1, -1, 1, -1],
        "known": [0, 1, -1, -1, -1, -1, -1, -1, -1],
        "numbered": [-1, -1, -1, -1, 1, 1, 1, -1, -1],
    }


def test_keywords_are_words_and_ignore_case_unless_told_otherwise() -> None:
    assert positions(keywords("k", FRAUD, "note", ["gift"], why=WHY)) == [0, 4]
    assert positions(keywords("k", FRAUD, "note", ["gift"], why=WHY, whole_words=False)) == [0, 1, 4]
    assert positions(keywords("k", FRAUD, "note", ["gift"], why=WHY, ignore_case=False)) == [0]
    assert positions(keywords("k", FRAUD, "note", ["GIFT  CARD"], why=WHY, ignore_case=False)) == [4]


def test_a_word_that_ends_in_a_letter_outside_of_ascii_is_a_word_too() -> None:
    rows = pa.table({"note": ["naïveté!", "naïvetés", "été", "l’été fini", "étés", "pété", "ÉTÉ", "e été2"]})
    assert column_votes(keywords("k", FRAUD, "note", ["été", "naïveté"], why=WHY), rows) == [1, -1, 1, 1, -1, -1, 1, -1]


def test_a_word_is_found_anywhere_in_scripts_without_spaces_between_words() -> None:
    rows = pa.table({"note": ["配送が遅いです", "配送", "ช้ามาก", "AIが遅い", "BAIが"]})
    assert column_votes(keywords("k", FRAUD, "note", ["遅い", "ช้า"], why=WHY), rows) == [1, -1, 1, 1, -1]
    assert column_votes(keywords("k", FRAUD, "note", ["AIが"], why=WHY), rows) == [-1, -1, -1, 1, -1]


def test_punctuation_beside_a_keyword_asks_for_nothing() -> None:
    rows = pa.table({"note": ["50% off", "150% off", "a$$$b", "now!!"]})
    assert column_votes(keywords("k", FRAUD, "note", ["50%", "$$$", "!"], why=WHY), rows) == [1, -1, 1, 1]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1), min_size=1, max_size=4))
@example(["0\x0b0", "a\xa0b"])
@example([r"a.c|d\b", "[x-y]", "'; DROP TABLE t --", "%s {0} $1"])
@example(["\\", "\\\\E", "(?i)", "#", "~", "&&", "\x1f", "\u2028"])
def test_keywords_are_taken_literally(words: list[str]) -> None:
    words = [word for word in words if word.strip()] or ["x"]
    function = keywords("k", FRAUD, "note", words, why=WHY, whole_words=False, ignore_case=False)
    rows = pa.table({"note": [*(f"a{word}b" for word in words), "", "\x7f"]})
    assert column_votes(function, rows) == [FRAUD] * len(words) + [ABSTAIN] + [FRAUD if "\x7f" in words else ABSTAIN]


def test_flags_and_alternatives_of_one_pattern_do_not_reach_the_next() -> None:
    rows = pa.table({"note": ["AB", "ab", "cd", "CD", "bd", "x\ncd"]})
    function = patterns("p", FRAUD, "note", ["(?i)ab|zz", "(?m)^cd"], why=WHY)
    assert column_votes(function, rows) == [1, 1, 1, -1, -1, 1]
    assert column_votes(patterns("p", FRAUD, "note", ["cd"], why=WHY, ignore_case=True), rows) == [-1, -1, 1, 1, -1, 1]


def test_one_search_holds_all_words_of_a_function() -> None:
    table = ENGINE.from_arrow(ROWS)
    condition = keywords("k", FRAUD, "note", ["a", "b c", "d."], why=WHY).conditions(table)[FRAUD]
    assert condition.op().name.startswith("RegexSearch")


def test_a_function_belongs_to_the_module_that_makes_it_and_says_why() -> None:
    for function in FUNCTIONS:
        assert function.__module__ == function._f.__module__ == __name__
        assert function.__doc__ == WHY


def test_the_loader_takes_short_forms_and_votes_with_several_classes(tmp_path: Path) -> None:
    root = tiny(tmp_path / "orders")
    write(root / "labeling_functions/cards.csv", "customer,class\nann,thief\nbob,friend\n")
    write(
        root / "labeling_functions/short.py",
        """
        from weakfish.rules import keywords, lookup, threshold, votes

        sells = keywords("sells", 1, "note", ["gift card"], why="Cards are cash.")
        large = threshold("large", 1, "amount", above=100, why="Worth the trouble.")
        known = lookup("known", {"thief": 1, "friend": 0}, "customer", "cards.csv", why="We asked around.")


        @votes()
        def by_amount(order):
            '''Small orders are fine, large ones are not.'''
            return {1: order.amount > 100, 0: order.amount > 10}
        """,
    )
    (root / "data/events").mkdir(parents=True)
    pq.write_table(ROWS, root / "data/events/all.parquet")
    code = """if True:
        from test_builders import column_votes
        from weakfish.rules import load_functions
        from weakfish.project.paths import Project

        found = {function.name: function for function in load_functions(Project.find(), "fraud")}
        print([column_votes(found[name]) for name in ("sells", "large", "known", "by_amount")])
    """
    result = command(root, sys.executable, "-c", code, PYTHONPATH=str(Path(__file__).parent))
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout) == [
        [1, -1, -1, -1, 1, -1, -1, -1, -1],
        [-1, 1, -1, -1, 1, -1, -1, 1, 1],
        [1, 0, -1, -1, -1, -1, -1, -1, -1],
        [-1, 1, -1, 1, 1, -1, -1, 1, 1],  # NaN is larger than all numbers in the engine
    ]


def test_a_condition_that_holds_first_wins() -> None:
    @votes()
    def both(order):  # type: ignore[no-untyped-def]
        """Both hold for the number 7."""
        return {FRAUD: order.number == 7, FINE: order.number >= 7}

    assert column_votes(both) == [-1, -1, -1, -1, 1, 1, 0, 0, -1]


def test_files_of_both_kinds_are_looked_up_and_text_stays_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "__file__", str(tmp_path / "module.py"))
    write(tmp_path / "codes.csv", 'code,since\n007,1\n"a,b",2\nNA,3\n')
    pq.write_table(pa.table({"id": pa.array([7, 9], pa.int8())}), tmp_path / "ids.parquet")
    rows = pa.table({"code": ["7", "007", "a,b", "NA", None], "id": [9, 7, 1, None, 8]})
    assert column_votes(lookup("l", FRAUD, "code", "codes.csv", why=WHY), rows) == [-1, 1, 1, 1, -1]
    assert column_votes(lookup("l", FRAUD, "id", "ids.parquet", why=WHY), rows) == [1, 1, -1, -1, -1]
    assert column_votes(lookup("l", FRAUD, "id", "codes.csv", key="since", why=WHY), rows) == [-1, -1, 1, -1, -1]


def test_a_lookup_is_one_join_for_each_class_whatever_the_size_of_the_table() -> None:
    many = pa.table({"number": pa.array(range(200_000)), "class": ["even", "odd"] * 100_000})
    function = lookup("many", {"even": FINE, "odd": FRAUD}, "number", many, why=WHY)
    assert column_votes(function) == [1, 0, -1, 0, 1, 1, 0, 1, -1]
    table = ENGINE.from_arrow(ROWS)
    assert [type(found.op()).__name__ for found in function.conditions(table).values()] == ["InSubquery"] * 2


def test_the_same_table_makes_the_same_expression_and_another_one_another() -> None:
    events = ENGINE.from_arrow(ROWS)

    def made(*keys: str) -> str:
        function = lookup("l", FRAUD, "customer", pa.table({"customer": list(keys)}), why=WHY)
        return str(next(iter(function.conditions(events).values())).op().find(InMemoryTable)[0].name)

    assert made("ann", "bob") == made("bob", "ann", "ann") != made("ann")


def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "__file__", str(tmp_path / "labeling_functions/module.py"))
    write(tmp_path / "labeling_functions/twice.csv", "customer,class\nann,thief\nbob,friend\nann,friend\n")
    write(tmp_path / "labeling_functions/odd.csv", "customer,class\nann,ghost\n")
    write(tmp_path / "labeling_functions/words.csv", "number\nseven\n")
    write(tmp_path / "labeling_functions/list.txt", "ann\n")
    write(tmp_path / "labeling_functions/headless.csv", "ann\nbob\n")
    write(tmp_path / "outside.csv", "customer\nann\n")
    (tmp_path / "labeling_functions/link.csv").symlink_to(tmp_path / "outside.csv")


CLASSES = {"thief": FRAUD, "friend": FINE}


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: keywords("k", FRAUD, "note", [], why=WHY), "words must be a list of texts"),
        (lambda: keywords("k", FRAUD, "note", "gift", why=WHY), "words must be a list of texts"),
        (lambda: patterns("p", FRAUD, "note", ["a", " "], why=WHY), "regexes must be a list of texts"),
        (lambda: keywords("k", FRAUD, "note", ["gift"], why=" "), "does not say why"),
        (lambda: threshold("t", FRAUD, "amount", why=WHY), "a threshold has one of"),
        (lambda: threshold("t", FRAUD, "amount", above=1, at_least=2, why=WHY), "a threshold has one of"),
        (lambda: threshold("t", FRAUD, "amount", above=1, at_most=1, why=WHY), "no value lies between 1 and 1"),
        (lambda: threshold("t", FRAUD, "amount", at_least=3, below=2, why=WHY), "no value lies between 3 and 2"),
        (lambda: lookup("l", FRAUD, "customer", "../outside.csv", why=WHY), "lies outside of .*labeling_functions"),
        (lambda: lookup("l", FRAUD, "customer", "link.csv", why=WHY), "lies outside of .*labeling_functions"),
        (lambda: lookup("l", FRAUD, "customer", "/etc/hosts", why=WHY), "lies outside of .*labeling_functions"),
        (lambda: lookup("l", FRAUD, "customer", "none.csv", why=WHY), "There is no none.csv"),
        (lambda: lookup("l", FRAUD, "customer", "list.txt", why=WHY), "neither .csv nor .parquet"),
        (lambda: lookup("l", FRAUD, "customer", "headless.csv", why=WHY), "'l': headless.csv has no column customer"),
        (lambda: lookup("l", CLASSES, "customer", "outside.csv", why=WHY), "There is no outside.csv"),
        (lambda: lookup("l", CLASSES, "customer", "twice.csv", why=WHY), "twice.csv has 'ann' with two classes"),
        (lambda: lookup("l", CLASSES, "customer", "odd.csv", why=WHY), "odd.csv has the class 'ghost', for which no"),
        (
            lambda: lookup("l", FRAUD, "number", "words.csv", why=WHY).votes(ENGINE.from_arrow(ROWS)),
            "words.csv has keys that are not int64",
        ),
    ],
)
def test_what_cannot_work_is_one_sentence(
    make: Callable[[], object], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_folder(tmp_path, monkeypatch)
    with pytest.raises(LabelingFunctionError, match=sentence) as raised:
        make()
    assert "\n" not in str(raised.value)
    assert re.search(r"[.]$", str(raised.value))


def test_a_key_that_is_one_number_in_two_spellings_has_one_class() -> None:
    spelled = pa.table({"number": ["7", "07"], "class": ["thief", "friend"]})
    function = lookup("l", CLASSES, "number", spelled, why=WHY)
    with pytest.raises(LabelingFunctionError, match="has 7 with two classes"):
        function.votes(ENGINE.from_arrow(ROWS))
    assert column_votes(function, pa.table({"number": ["07", "7", "007"]})) == [0, 1, -1]
