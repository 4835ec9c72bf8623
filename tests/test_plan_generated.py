"""Searches that the automaton answers, against the engine's own answers, on generated patterns and texts."""

from __future__ import annotations

from collections.abc import Callable

import ibis.expr.types as ir
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from plans import engines_votes

from weakfish.engine import duckdb as compute
from weakfish.labeling.plan import VotePlan
from weakfish.rules import votes
from weakfish.rules.columnar import ColumnarLabelingFunction

NASTY = "abkKsSxXiI019_ -!é\n\r\t\v\0\fſKİıßẞ日\u00a0\u2028😀\x7f\x80"
PLAIN = "abkKsSxXiI019_ "

texts = st.lists(
    st.none() | st.text(NASTY, max_size=8) | st.text("abkK \n", max_size=6) | st.text("sSſxé\n", max_size=6),
    min_size=30,
    max_size=30,
)
literals = st.sampled_from([*PLAIN, *PLAIN, "é", "日", "ß", r"\n", r"\v", r"\x00", r"\.", r"\$", r"\x{e9}", "!", "\t"])
perl = st.sampled_from([r"\w", r"\W", r"\s", r"\S", r"\d", r"\D"])
ranges = st.sampled_from(["a-k", "A-Z", "0-5", r"\t-\r", "!-x", r"\x00-a", "é-日", "r-t"])
classes = st.builds(
    lambda negated, members: f"[{negated}{''.join(members)}]",
    st.sampled_from(["", "", "^"]),
    st.lists(literals.filter(lambda text: text != "-") | perl | ranges, min_size=1, max_size=3),
)
edges = st.sampled_from(["^", "$", r"\b", r"\B", r"\A", r"\z"])
quantifiers = st.sampled_from(["", "", "", "*", "+", "?", "*?", "+?", "??", "{2}", "{1,2}", "{2,}", "{0,70}"])
groups = st.sampled_from(["(", "(?:", "(?i:", "(?s:", "(?m:", "(?-i:"])
flags = st.sampled_from(["", "", "(?i)", "(?m)", "(?s)", "(?im)", "(?is)"])


def _one_of_several(parts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    sequences = st.lists(parts, min_size=1, max_size=4).map("".join)
    return st.lists(sequences, min_size=1, max_size=3).map("|".join)


atoms = st.builds(str.__add__, literals | literals | classes | perl | st.just("."), quantifiers)
pieces = st.recursive(
    atoms | atoms | edges,
    lambda inner: st.builds(
        lambda opens, body, times: f"{opens}{body}){times}",
        groups,
        _one_of_several(inner),
        st.sampled_from(["", "", "?", "*", "+"]),
    ),
    max_leaves=6,
)
patterns = st.builds(str.__add__, flags, _one_of_several(pieces))
needles = st.text(PLAIN + "éſ日\n", min_size=1, max_size=3)

BRINGS_INTO_CASE: dict[str, Callable[[ir.StringColumn], ir.StringValue]] = {
    "as it is": lambda text: text,
    "lower": lambda text: text.lower(),
    "upper": lambda text: text.upper(),
}
cases = st.sampled_from(list(BRINGS_INTO_CASE))
conditions = st.builds(lambda case, pattern: ("regex", case, pattern), cases, patterns) | st.builds(
    lambda case, pattern: ("contains", case, pattern), cases, needles
)


def function_of(number: int, kind: str, case: str, pattern: str) -> ColumnarLabelingFunction:
    """Votes 1 where the text is searched in vain, so that a null that became false would be seen."""

    def condition(events: ir.Table) -> ir.BooleanValue:
        text = BRINGS_INTO_CASE[case](events.text)
        return ~(text.re_search(pattern) if kind == "regex" else text.contains(pattern))

    condition.__name__ = f"search_{number}"
    return votes(1)(condition)


@pytest.fixture(scope="module")
def engine() -> compute.Engine:
    return compute.connect()


@pytest.fixture(scope="module")
def lifted() -> list[bool]:
    """Of each search that was tried, whether it was lifted."""
    return []


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.lists(conditions, min_size=8, max_size=8), texts)
def test_lifted_searches_answer_as_the_engine_does(
    engine: compute.Engine, lifted: list[bool], searches: list[tuple[str, str, str]], values: list[str | None]
) -> None:
    rows = pa.table({"text": pa.array(values, pa.string())})
    functions = [function_of(number, *search) for number, search in enumerate(searches)]
    plan = VotePlan(engine, functions, rows.schema)
    expected, found = engines_votes(engine, functions, rows), plan.votes(rows)
    for search, name in zip(searches, expected, strict=True):
        assert found[name].tolist() == expected[name], (search, values)
    lifted += [search.lifted for search in plan.searches]


def test_a_good_share_of_the_generated_searches_was_lifted(lifted: list[bool]) -> None:
    assert len(lifted) > 300
    assert sum(lifted) / len(lifted) > 0.25
