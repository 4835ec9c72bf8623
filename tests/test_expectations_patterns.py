"""Python's regular expressions on another engine: found where Python finds them, or left to Python."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from typing import Any

import ibis
import pyarrow as pa
import pytest

from weakfish.checks.expectations import python_regex
from weakfish.checks.expectations.python_regex import PYTHON_SEARCH, search, search_by_python, written

PATTERNS = [
    *(
        r"^a",
        r"b$",
        r"^\d{2}$",
        r"\w+@\w+\.com",
        r"(?i)abc",
        r"(?i)k",
        r"(?i)ſ",
        r"[^\s]x",
        r"a.c",
        r"\bfoo\b",
        r"\Bfoo",
    ),
    *(r"(a|b$)c?", r"(foo|bar$)", r"\Aq\Z", r"x{2,}", r"", r"[\W_]+", r"(?=a)b", r"(a)\1", "é", "[à-ü]+$", "a{1001}"),
    *(r"(?m)^b$", r"(?s)a.c", r"\S\D", "[a-z]*$", r"(a$|b)$", r"a$b", "[^a]", "^[0-9a-f]{32}$", "$", "^$", "a??b"),
    *(
        r"\x00",
        "(?:(?:x{100}){100})",
        "[]a]",
        r"[\d-]",
        r"\.",
        "(?P<name>a)+?b",
        "(?:a|)b",
        "a*?$",
        r"[^\W\d]",
        "a|",
        "x*+x",
    ),
]
CHARACTERS = "abcxfo ob\n\t\x1c\x0b19_é²٣ſKİ@.com\x00-]qü\u2028\U0001f600"


def texts() -> list[str | None]:
    draw = random.Random(1)  # noqa: S311
    made = ["".join(draw.choice(CHARACTERS) for _ in range(draw.randint(0, 7))) for _ in range(1500)]
    special = ["", "foo", "a\n", "b\n", "12", "12\n", "٣٣", "ABC", "q\n", "x" * 1001, "a" * 1001, "deadbeef" * 4 + "\n"]
    return [*made, *special, None]


TEXTS = texts()


@pytest.fixture(scope="module")
def session() -> Iterator[Any]:
    engine = ibis.duckdb.connect()
    engine.con.create_function(PYTHON_SEARCH, search_by_python, ["VARCHAR", "VARCHAR"], "BOOLEAN", type="arrow")
    yield engine
    engine.con.remove_function(PYTHON_SEARCH)
    engine.disconnect()


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_pattern_is_found_where_python_finds_it(pattern: str, session: Any) -> None:
    texts = ibis.memtable(pa.table({"place": range(len(TEXTS)), "text": TEXTS}))
    query = texts.select(texts.place, found=search(texts.text, pattern)).order_by("place")
    found = session.to_pyarrow(query)["found"].to_pylist()
    expected = [None if text is None else re.search(pattern, text) is not None for text in TEXTS]
    assert [text for text, ours, theirs in zip(TEXTS, found, expected, strict=True) if ours != theirs] == []


def test_what_re2_lacks_or_understands_otherwise_is_left_to_python() -> None:
    left = {
        "(?i)ſ",
        "(a|b$)c?",
        "(?=a)b",
        r"(a)\1",
        "a{1001}",
        "(?m)^b$",
        "(?s)a.c",
        "(a$|b)$",
        "a$b",
        "x*+x",
        r"\Bfoo",
        "(?:(?:x{100}){100})",
    }
    assert {pattern for pattern in PATTERNS if written(pattern) is None} == left


def test_the_names_that_pythons_parser_keeps_private_are_there() -> None:
    """The one place that reads them is `python_regex`; a Python that renames them is noticed here."""
    tree = python_regex.parser.parse(r"(?i)^a[b-c\d]{2,}?(xy|z)\b$")
    assert tree.state.flags & re.IGNORECASE
    kinds = [str(what) for what, _ in tree]
    assert kinds == ["AT", "LITERAL", "MIN_REPEAT", "SUBPATTERN", "AT", "AT"]
    assert written(r"(?i)^a[b-c\d]{2,}?(?:x|y)$") is not None
