"""Columnar labeling functions compiled together: one scan of each text, and the engine's own votes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from itertools import cycle, islice

import duckdb
import ibis
import ibis.expr.types as ir
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from plans import engines_votes, plan_that_agrees

from weakfish.engine import duckdb as compute
from weakfish.errors import LabelingFunctionError, WeakfishError
from weakfish.labeling import automaton
from weakfish.labeling.plan import VotePlan
from weakfish.labeling.regex import TWINS
from weakfish.rules import votes
from weakfish.rules.columnar import ColumnarLabelingFunction

Condition = Callable[[ir.Table], ir.BooleanValue]

MODULES = ("subject", "body", "envelope", "format", "pitch", "conversation")
TEXTS = [
    *("", None, "free money", "FREE Money", "so\u017ft", "SOFT", "\u212aernel", "kernel", "KERNEL", "\u0130stanbul"),
    *(
        "istanbul",
        "Istanbul",
        "d\u0131\u015f",
        "DI\u015e",
        "caf\u00e9",
        "CAF\u00c9",
        "stra\u00dfe",
        "STRASSE",
        "\u65e5\u672c",
    ),
    *(
        "a\nfree\n",
        "free\n",
        "\n",
        "a\x0bb",
        "a b",
        "nul\x00free",
        "free-range",
        "carefree",
        "dear\n friend",
        "x" * 5000,
    ),
]
ROWS = pa.table({"text": TEXTS, "n": range(len(TEXTS))})


def function(condition: Condition, name: str = "searches") -> ColumnarLabelingFunction:
    """A labeling function that votes 1 where ``condition`` holds."""
    made = ColumnarLabelingFunction(name, condition, 1)
    made.__module__ = __name__
    return made


def demo_functions() -> list[ColumnarLabelingFunction]:
    """All columnar functions of this repository's labeling_functions/."""
    modules = [import_module(f"labeling_functions.{name}") for name in MODULES]
    return [item for module in modules for item in vars(module).values() if isinstance(item, ColumnarLabelingFunction)]


def test_the_demos_functions_vote_on_the_real_corpus_as_the_engine_does(events: pa.Table) -> None:
    plan = plan_that_agrees(demo_functions(), events)
    assert sum(search.lifted for search in plan.searches) >= 25


LIFTED: dict[str, Condition] = {
    "keyword": lambda t: t.text.contains("free"),
    "keyword beyond ASCII": lambda t: t.text.contains("\u65e5"),
    "twin as keyword": lambda t: t.text.contains("\u017f"),
    "keyword in lower text": lambda t: t.text.lower().contains("kernel"),
    "i in lower text": lambda t: t.text.lower().contains("istanbul"),
    "keyword in upper text": lambda t: t.text.upper().contains("SOFT"),
    "upper-case needle in lower text": lambda t: t.text.lower().contains("FREE"),
    "upper-case needle in lower text, negated": lambda t: ~t.text.lower().contains("FREE"),
    "pattern in lower text": lambda t: t.text.lower().re_search(r"\bfree\b|[^a-z]k"),
    "alternatives": lambda t: t.text.re_search(r"free|kernel|caf\x{e9}"),
    "any case": lambda t: t.text.re_search(r"(?i)\b(kernel|soft|free)\b"),
    "any case of a part": lambda t: t.text.re_search(r"(?i:K)ernel"),
    "all but k": lambda t: t.text.re_search(r"(?i)^[^k]e"),
    "negation": lambda t: ~t.text.re_search(r"(?i)free"),
    "null kept": lambda t: t.text.contains("free").isnull(),
    "null filled": lambda t: t.text.contains("free").fill_null(True),
    "word edges": lambda t: t.text.re_search(r"\bfree\b"),
    "space without vertical tab": lambda t: t.text.re_search(r"a\sb"),
    "no space": lambda t: t.text.re_search(r"a\Sb|a[^\s]b"),
    "end of text": lambda t: t.text.re_search(r"free$"),
    "end of line": lambda t: t.text.re_search(r"(?m)free$"),
    "start of line": lambda t: t.text.re_search(r"(?m)^free"),
    "dot without newline": lambda t: t.text.re_search(r"a.free"),
    "dot with newline": lambda t: t.text.re_search(r"(?s)a.free"),
    "NUL": lambda t: t.text.re_search(r"\x00"),
    "character beyond ASCII": lambda t: t.text.re_search(r"^\W\W$"),
    "two of a function": lambda t: t.text.contains("free") & ~t.text.re_search(r"\d"),
}

KEPT: dict[str, Condition] = {
    "can match empty text": lambda t: t.text.re_search(r"^x*$"),
    "ignores the case of letters beyond ASCII": lambda t: t.text.re_search(r"(?i)caf\x{e9}"),
    "looks for letters beyond ASCII where their case was changed": lambda t: t.text.lower().contains("\u00e9"),
    "has a start of text or line after other characters": lambda t: t.text.re_search(r"(?m)\n^f"),
    r"has the escape \p": lambda t: t.text.re_search(r"\pL"),
    "has a named class": lambda t: t.text.re_search(r"[[:space:]]b"),
    "has an empty group": lambda t: t.text.re_search(r"free(?:)"),
    "does not search a plain column of the events": lambda t: t.text.strip().contains("free"),
    "has no literal pattern": lambda t: t.text.contains(t.text),
    "is quick enough in the engine": lambda t: t.text.startswith("free"),
    "repeats groups so often that the automaton would take long to compile": lambda t: t.text.re_search("(a|bc){999}"),
}


@pytest.mark.parametrize("what", LIFTED)
def test_what_is_lifted_votes_as_the_engine_does(what: str) -> None:
    plan = plan_that_agrees([function(LIFTED[what])], ROWS)
    assert [search.why for search in plan.searches if not search.lifted] == []


@pytest.mark.parametrize("why", KEPT)
def test_what_is_not_known_to_be_equal_stays_with_the_engine(why: str) -> None:
    plan = plan_that_agrees([function(KEPT[why])], ROWS)
    assert [(search.lifted, search.why) for search in plan.searches] == [(False, why)]


def test_what_the_automaton_refuses_stays_with_the_engine_and_the_others_are_lifted() -> None:
    functions = [function(lambda t: t.text.re_search(r"free\zx|\zy"), "never"), function(LIFTED["keyword"], "keyword")]
    never, keyword = plan_that_agrees(functions, ROWS).searches
    assert never.why.startswith("is refused by the automaton: ")
    assert keyword.lifted


def test_hits_of_roughly_known_patterns_are_judged_again() -> None:
    rows = pa.table(
        {"text": ["a" + "\u65e5" * 200 + "b", "a" + "\u65e5" * 201 + "b", "a" + "x" * 300 + "b", None, "k"]}
    )
    plan = plan_that_agrees(
        [
            function(lambda t: t.text.re_search(r"(?i)a.{0,200}b|\W{70}\w")),
        ],
        rows,
    )
    assert [(search.lifted, search.rechecked) for search in plan.searches] == [(True, True)]


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())])
def test_chunked_sliced_and_encoded_columns_are_read_in_order(kind: pa.DataType) -> None:
    text = pa.chunked_array([TEXTS[:7], TEXTS[7:7], TEXTS[7:]], pa.string()).cast(kind)
    rows = pa.table({"text": text})
    plan = plan_that_agrees([function(LIFTED["any case"])], rows)
    engine = compute.connect()
    for part in (rows.slice(5, 9), rows.slice(0, 0), rows.slice(1, 1), rows.take(pa.array([3, 3, 0]))):
        expected = engines_votes(engine, [function(LIFTED["any case"])], part)
        assert plan.votes(part)["searches"].tolist() == expected["searches"]


def test_votes_come_in_the_order_of_large_batches() -> None:
    rows = pa.table({"text": list(islice(cycle(["free", "no", None]), 300_000))})
    found = VotePlan(compute.connect(), [function(LIFTED["keyword"])], rows.schema).votes(rows)["searches"]
    assert (found.reshape(-1, 3) == [1, -1, -1]).all()


def test_only_the_characters_known_as_twins_have_an_ascii_letter_for_their_other_case() -> None:
    beyond = [chr(code) for code in range(0x80, 0x110000) if not 0xD800 <= code < 0xE000]
    others = pa.table({"c": beyond})  # noqa: F841
    letter = "'[[:alpha:]]'"
    folds = f"regexp_matches(lower(c), {letter}) OR regexp_matches(upper(c), {letter})"
    found = duckdb.sql(f"SELECT c FROM others WHERE {folds} OR regexp_matches(c, '(?i)[a-z]')").fetchall()  # noqa: S608
    assert "".join(sorted(c for (c,) in found)) == TWINS


@pytest.fixture(autouse=True)
def _forget_the_automaton() -> Iterator[None]:
    yield
    automaton.is_usable.cache_clear()


def test_without_the_automaton_the_votes_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyperscan", None)
    automaton.is_usable.cache_clear()
    plan = plan_that_agrees([function(LIFTED["any case"])], ROWS)
    assert [search.why for search in plan.searches] == ["needs a pyperscan that passes the check at start"]


def test_an_automaton_that_misses_a_known_match_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    automaton.is_usable.cache_clear()
    assert automaton.is_usable()
    monkeypatch.setattr(automaton, "KNOWN_TEXT", b"nothing of the kind")
    automaton.is_usable.cache_clear()
    assert not automaton.is_usable()


def test_the_plan_names_the_columns_that_the_functions_read() -> None:
    plan = plan_that_agrees([function(LIFTED["keyword"])], ROWS)
    assert plan.columns == ["text"]
    assert plan.votes(ROWS.select(["text"]))["searches"].tolist() == plan.votes(ROWS)["searches"].tolist()


def test_functions_of_several_classes_and_lookups_are_one_plan() -> None:
    known = ibis.memtable({"text": ["kernel", "soft"]})

    @votes()
    def several(t: ir.Table) -> dict[int, ir.BooleanValue]:
        return {0: t.text.isin(known.text), 1: t.text.contains("free"), 2: t.n > 20}

    assert {0, 1, 2, -1} == set(plan_that_agrees([several], ROWS).votes(ROWS)["several"].tolist())


def test_votes_stand_in_the_order_of_the_rows_however_the_engine_joins() -> None:
    known = ibis.memtable({"text": [f"k{number}" for number in range(0, 50_000, 3)]})
    rows = pa.table({"text": [f"k{number % 50_000}" for number in range(600_000)]})
    plan = VotePlan(compute.connect(), [function(lambda t: t.text.isin(known.text))], rows.schema)
    expected = np.where(np.arange(600_000) % 50_000 % 3 == 0, 1, -1)
    assert np.array_equal(plan.votes(rows)["searches"], expected)


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        (lambda t: t.text.re_search("(a"), "cannot be computed"),
        (lambda t: ibis.random() > 0.5, "uses the clock or chance"),
        (lambda t: ibis.now().year() > t.n, "uses the clock or chance"),
        (lambda t: t.n > t.n.mean(), "compares rows with each other"),
    ],
)
def test_a_function_that_cannot_be_compiled_is_named(condition: Condition, message: str) -> None:
    functions = [function(LIFTED["keyword"], "fine"), function(condition, "broken")]
    with pytest.raises(LabelingFunctionError, match=f"'broken' .*{message}"):
        VotePlan(compute.connect(), functions, ROWS.schema)


def test_a_function_that_fails_on_a_row_is_named() -> None:
    functions = [function(LIFTED["keyword"], "fine"), function(lambda t: t.text.cast("int64") > 0, "broken")]
    plan = VotePlan(compute.connect(), functions, ROWS.schema)
    with pytest.raises(LabelingFunctionError, match=r"'broken' .*cannot be computed: .*Correct its condition"):
        plan.votes(ROWS)


def test_a_prepared_query_runs_on_one_table_after_the_other() -> None:
    wanted = ibis.memtable({"n": [1, 3]})
    query = compute.connect().prepare(ROWS.schema, lambda t: t.filter(t.n.isin(wanted.n)).select(t.n))
    assert [sorted(query(part)["n"].to_pylist()) for part in (ROWS, ROWS.slice(2), ROWS.slice(9))] == [[1, 3], [3], []]


def test_a_prepared_query_that_fails_says_so() -> None:
    query = compute.connect().prepare(ROWS.schema, lambda t: t.select(number=t.text.cast("int64")))
    with pytest.raises(WeakfishError, match="DuckDB could not run"):
        query(ROWS.filter(pc.equal(ROWS["text"], "free money")))
