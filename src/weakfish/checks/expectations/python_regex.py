"""Python's regular expressions in DuckDB: on RE2 where both surely agree, by Python itself elsewhere.

A pattern is read by Python's own parser and written out for RE2 with each set of characters in full. What is about
letters, digits, spaces or case in general is written for ASCII only, and texts with other characters go to Python.
"""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from functools import cache
from re import _constants as kind  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any

import ibis
import ibis.expr.types as ir
import pyarrow as pa
import pyarrow.compute as pc

PYTHON_SEARCH = "weakfish_python_search"
"""The name under which `search_by_python` has to be registered with DuckDB."""

_LAST = 0x10FFFF
_MOST_REPEATS = 1000
"""What RE2 repeats at most."""

_ASCII = {
    kind.CATEGORY_DIGIT: [(0x30, 0x39)],
    kind.CATEGORY_SPACE: [(0x09, 0x0D), (0x1C, 0x20)],
    kind.CATEGORY_WORD: [(0x30, 0x39), (0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A)],
}
_OTHERWISE = {
    kind.CATEGORY_NOT_DIGIT: kind.CATEGORY_DIGIT,
    kind.CATEGORY_NOT_SPACE: kind.CATEGORY_SPACE,
    kind.CATEGORY_NOT_WORD: kind.CATEGORY_WORD,
}


class _Unlike(Exception):
    """A construct that RE2 lacks, or understands otherwise."""


@dataclass
class Written:
    """A pattern for RE2, and whether it is right for texts of ASCII only."""

    text: str
    ascii_only: bool


@ibis.udf.scalar.builtin(name=PYTHON_SEARCH)
def _python_search(text: str, pattern: str) -> bool: ...  # type: ignore[empty-body]


@ibis.udf.scalar.builtin
def strlen(text: str) -> int: ...  # type: ignore[empty-body]


def search_by_python(texts: pa.ChunkedArray, patterns: pa.ChunkedArray) -> pa.Array:
    """Whether Python's ``re.search`` finds a pattern, the same on each row, in each text."""
    compiled = re.compile(patterns[0].as_py())
    return pa.array((compiled.search(text) is not None for text in texts.to_pylist()), pa.bool_())


def search(text: ir.Value, pattern: str) -> ir.BooleanValue:
    """Whether Python's ``re.search`` finds ``pattern`` in a text; raises `re.error`."""
    by_python = _python_search(text, pattern)
    translated = written(pattern)
    if translated is None:
        return by_python
    found = text.re_search(translated.text)
    if not translated.ascii_only:
        return found
    return ibis.cases((strlen(text) != text.length(), by_python), else_=found)


@cache
def written(pattern: str) -> Written | None:
    """``pattern`` for RE2; None where it is left to Python."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tree = parser.parse(pattern)
    ignore_case = bool(tree.state.flags & re.IGNORECASE)
    if tree.state.flags & ~(re.UNICODE | re.IGNORECASE) or (ignore_case and not pattern.isascii()):
        return None
    try:
        writer = _Writer(ascii_only=ignore_case)
        text = writer.sequence(tree, last=True)
    except _Unlike:
        return None
    text = f"(?i:{text})" if ignore_case else text
    try:
        pc.match_substring_regex("", text)
    except pa.ArrowInvalid:  # too large for RE2
        return None
    return Written(text, writer.ascii_only)


@dataclass
class _Writer:
    ascii_only: bool

    def sequence(self, parts: Any, last: bool) -> str:
        """``last`` says that nothing follows, where ``$`` is the end or a newline at the end."""
        items = list(parts)
        return "".join(
            self.part(what, value, last and place == len(items) - 1) for place, (what, value) in enumerate(items)
        )

    def part(self, what: Any, value: Any, last: bool) -> str:
        if what is kind.LITERAL:
            return _characters([(value, value)])
        if what is kind.NOT_LITERAL:
            return _characters([(value, value)], negate=True)
        if what is kind.ANY:
            return _characters([(0x0A, 0x0A)], negate=True)
        if what is kind.IN:
            return self.one_of(value)
        if what is kind.AT:
            return self.place(value, last)
        if what in (kind.MAX_REPEAT, kind.MIN_REPEAT):
            return self.repeat(*value)
        if what is kind.SUBPATTERN:
            _, add, drop, inner = value
            if add or drop:
                raise _Unlike
            return f"(?:{self.sequence(inner, last)})"
        if what is kind.BRANCH:
            return f"(?:{'|'.join(self.sequence(branch, last) for branch in value[1])})"
        raise _Unlike

    def place(self, value: Any, last: bool) -> str:
        if value in (kind.AT_BEGINNING, kind.AT_BEGINNING_STRING):
            return r"\A"
        if value is kind.AT_END_STRING:
            return r"\z"
        if value is kind.AT_END and last:
            return r"\n?\z"
        if value is kind.AT_BOUNDARY:
            self.ascii_only = True
            return r"\b"
        raise _Unlike

    def repeat(self, low: int, high: Any, inner: Any) -> str:
        unlimited = high is kind.MAXREPEAT
        if low > _MOST_REPEATS or (not unlimited and high > _MOST_REPEATS):
            raise _Unlike
        return f"(?:{self.sequence(inner, last=False)}){{{low},{'' if unlimited else high}}}"

    def one_of(self, items: Any) -> str:
        ranges: list[tuple[int, int]] = []
        negate = False
        for what, value in items:
            if what is kind.NEGATE:
                negate = True
            elif what is kind.LITERAL:
                ranges.append((value, value))
            elif what is kind.RANGE:
                ranges.append(value)
            elif what is kind.CATEGORY:
                self.ascii_only = True
                ranges += _ASCII[value] if value in _ASCII else _complement(_ASCII[_OTHERWISE[value]])
            else:
                raise _Unlike
        return _characters(ranges, negate)


def _complement(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    found, start = [], 0
    for low, high in sorted(ranges):
        if low > start:
            found.append((start, low - 1))
        start = max(start, high + 1)
    return [*found, *([(start, _LAST)] if start <= _LAST else [])]


def _characters(ranges: list[tuple[int, int]], negate: bool = False) -> str:
    if any(low <= 0xDFFF and high >= 0xD800 and (low, high) != (0, _LAST) for low, high in ranges if high < _LAST):
        raise _Unlike  # surrogates, which stand in no text here
    inside = "".join(rf"\x{{{low:x}}}-\x{{{high:x}}}" for low, high in ranges)
    return f"[{'^' if negate else ''}{inside}]"
