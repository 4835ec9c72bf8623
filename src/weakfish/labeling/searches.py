"""Finds the searches of text in Ibis expressions, and puts boolean columns in the place of those that are lifted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

import ibis.expr.operations as ops
import ibis.expr.types as ir

from weakfish.labeling.regex import (
    LINE_START,
    TEXT_START,
    Alternation,
    Characters,
    Edge,
    Node,
    Repeat,
    Sequence,
    Unlifted,
    literal,
    mapped,
    read,
)

KINDS: dict[type[ops.Node], str] = {
    ops.RegexSearch: "regex",
    ops.StringContains: "contains",
    ops.StringSQLLike: "like",
    ops.StringSQLILike: "ilike",
    ops.StartsWith: "startswith",
    ops.EndsWith: "endswith",
}


@dataclass(frozen=True)
class Search:
    """A search of text in a labeling function, and who answers it.

    Attributes
    ----------
    function, column, pattern, kind
        Where it stands, what it searches (``lower(column)`` where the case is changed first), for what, and how
        (``regex``, ``contains``, ``like``, ``ilike``, ``startswith``, ``endswith``).
    lifted
        Whether the automaton answers it.
    rechecked
        Whether the engine judges the automaton's hits again.
    why
        What keeps it with the engine, or which rows the engine judges; empty where there is nothing to say.
    """

    function: str
    column: str
    pattern: str
    kind: str
    lifted: bool
    rechecked: bool
    why: str


@dataclass(frozen=True)
class Lifted:
    """What the automaton of ``column`` is to look for."""

    column: str
    needle: Needle


def searches_in(expression: ir.Value) -> list[ops.Node]:
    """The operations that search text, each once, in the order of the expression."""
    return [node for node in expression.op().find(tuple(KINDS)) if type(node) in KINDS]


def kind_of(search: ops.Node) -> str:
    """The name of the kind of a search."""
    return KINDS[type(search)]


def haystack_and_pattern(search: Any) -> tuple[ops.Node, ops.Node]:
    """What is searched, and for what."""
    haystack = search.haystack if isinstance(search, ops.StringContains) else search.arg
    found = {ops.StringContains: "needle", ops.StartsWith: "start", ops.EndsWith: "end"}.get(type(search), "pattern")
    return haystack, getattr(search, found)


def named(search: Any) -> tuple[str, str]:
    """What is searched, and for what, for people to read."""
    haystack, pattern = haystack_and_pattern(search)
    column, case = plain_column(haystack)
    where = "an expression" if column is None else column.name if case == "as it is" else f"{case}({column.name})"
    return where, str(pattern.value) if isinstance(pattern, ops.Literal) else "an expression"


def plain_column(haystack: ops.Node) -> tuple[ops.Field | None, Case]:
    """The column itself, and the case into which it is brought before it is searched."""
    case: Case = "as it is"
    if isinstance(haystack, ops.Lowercase | ops.Uppercase):
        case = "lower" if isinstance(haystack, ops.Lowercase) else "upper"
        haystack = haystack.arg
    return (haystack if isinstance(haystack, ops.Field) else None), case


def lift(search: ops.Node, events: ops.Node) -> Lifted:
    """What the automaton is to look for in place of ``search``.

    Raises
    ------
    Unlifted
        When the search is not of a column of ``events`` for a literal pattern, or `needle` knows no equal pattern.
    """
    kind = kind_of(search)
    haystack, pattern = haystack_and_pattern(search)
    column, case = plain_column(haystack)
    if kind not in ("regex", "contains"):
        raise Unlifted("is quick enough in the engine")
    if column is None or column.rel != events or not column.dtype.is_string():
        raise Unlifted("does not search a plain column of the events")
    if not isinstance(pattern, ops.Literal) or not isinstance(pattern.value, str):
        raise Unlifted("has no literal pattern")
    if "\0" in pattern.value:
        raise Unlifted("has a NUL in its pattern")
    return Lifted(column.name, needle(cast(Kind, kind), pattern.value, case))


def rewritten(expression: ir.Value, events: ops.Node, table: ir.Table, hits: Mapping[ops.Node, str]) -> ir.Value:
    """``expression`` over ``table`` in place of ``events``; ``hits`` are the columns that answer searches."""

    def change(node: ops.Node, arguments: Mapping[str, Any]) -> ops.Node:
        if node == events:
            return table.op()
        if node in hits:
            return table[hits[node]].op()
        if isinstance(node, ops.Field) and node.rel == events and node.name not in table.columns:
            return node  # only lifted searches refer to it, and they go
        return node.__recreate__(arguments) if arguments else node

    return cast(ir.Value, expression.op().replace(change).to_expr())


Kind = Literal["regex", "contains"]
Case = Literal["as it is", "lower", "upper"]

TWINS = "\u0130\u0131\u017f\u212a"
"""The characters beyond ASCII with an ASCII letter for their other case (İ, ı, ſ, K), in the engine's ``lower`` and
``upper`` and in RE2's ``(?i)``; found by trying every code point, and a test tries them again."""

WIDEST = 64
"""Room for more characters beyond ASCII than this makes the automaton slow to compile: ``.{0,300}`` takes seconds."""

LONGEST_WRITTEN_OUT = 1000
"""Patterns with longer repeated groups can take seconds or hours to compile."""

LONGEST = 4
"""The bytes of the longest character in UTF-8."""

_BEFORE: dict[Case, Callable[[Characters], Characters]] = {
    "lower": Characters.before_lower,
    "upper": Characters.before_upper,
}


@dataclass(frozen=True)
class Needle:
    """A pattern for the automaton.

    ``written`` is None where no text can match. ``utf8`` says that characters rather than bytes are counted, ``twins``
    that the engine itself has to judge rows which hold one of `TWINS`, ``doubtful`` that it has to judge the hits.
    """

    written: str | None
    utf8: bool = False
    twins: bool = False
    doubtful: bool = False

    def doubted(self) -> Needle:
        """The needle with leave to find too much."""
        return replace(self, doubtful=True)


TWINS_NEEDLE = Needle("(?:" + "|".join(f"\\x{{{ord(twin):x}}}" for twin in TWINS) + ")", utf8=True)


def needle(kind: Kind, pattern: str, case: Case) -> Needle:
    """The needle that finds what ``pattern`` finds in a text, or in the text brought into ``case``.

    Raises
    ------
    Unlifted
        When it is not known how to say the same to the automaton.
    """
    tree, folds = read(pattern) if kind == "regex" else (literal(pattern), False)
    if case in _BEFORE:
        _refuse_partial_sets(tree)
        tree = mapped(tree, _BEFORE[case])
    if _matches_nothing(tree):
        raise Unlifted("can match empty text")
    _refuse_late_starts(tree, nothing_before=True)
    if _length(tree) > LONGEST_WRITTEN_OUT:
        raise Unlifted("repeats groups so often that the automaton would take long to compile")
    twins = folds or case in _BEFORE
    if _width(tree) > WIDEST:
        return Needle(_written(_rough(tree)), twins=twins, doubtful=True)
    return Needle(_written(tree), utf8=_width(tree) > 0, twins=twins)


def _refuse_partial_sets(tree: Node) -> None:
    if not all(each.treats_all_beyond_ascii_alike for each in _sets(tree)):
        raise Unlifted("looks for letters beyond ASCII where their case was changed")


def _width(node: Node) -> int:
    """How many characters beyond ASCII the pattern has room for, its repetitions written out."""
    if isinstance(node, Characters):
        return int(not node.is_ascii)
    if isinstance(node, Repeat):
        return _width(node.part) * (node.high or node.low or 1)
    return 0 if isinstance(node, Edge) else sum(map(_width, node.parts))


def _length(node: Node, repeated: bool = False) -> int:
    """How many characters long the pattern is with its repeated groups written out."""
    if isinstance(node, Repeat):
        again = node.high or max(node.low, 1)
        if isinstance(node.part, Characters):
            return again if repeated else 1
        return again * _length(node.part, repeated or again > 1)
    return 1 if isinstance(node, Characters | Edge) else sum(_length(part, repeated) for part in node.parts)


def _rough(node: Node) -> Node:
    """A tree over bytes that finds all that the tree over characters does, and more: a character has 1 to 4 bytes."""
    if isinstance(node, Characters):
        return node if node.is_ascii else Repeat(node.as_bytes(), 1, LONGEST)
    if isinstance(node, Repeat) and isinstance(node.part, Characters) and not node.part.is_ascii:
        return Repeat(node.part.as_bytes(), node.low, node.high and node.high * LONGEST)
    if isinstance(node, Repeat):
        return replace(node, part=_rough(node.part))
    return node if isinstance(node, Edge) else type(node)(tuple(map(_rough, node.parts)))


def _sets(node: Node) -> list[Characters]:
    if isinstance(node, Characters):
        return [node]
    if isinstance(node, Repeat):
        return _sets(node.part)
    return [] if isinstance(node, Edge) else [each for part in node.parts for each in _sets(part)]


def _matches_nothing(node: Node) -> bool:
    """Whether the empty text can match, places between characters taken as always given."""
    if isinstance(node, Repeat):
        return node.low == 0 or _matches_nothing(node.part)
    if isinstance(node, Sequence):
        return all(_matches_nothing(part) for part in node.parts)
    if isinstance(node, Alternation):
        return any(_matches_nothing(part) for part in node.parts)
    return isinstance(node, Edge)


def _refuse_late_starts(node: Node, nothing_before: bool) -> None:
    """A line starts after the last newline too for RE2, not for the automaton, unless something must follow."""
    if node in (LINE_START, TEXT_START) and not nothing_before:
        raise Unlifted("has a start of text or line after other characters")
    if isinstance(node, Repeat):
        _refuse_late_starts(node.part, nothing_before and node.high == 1)
    elif isinstance(node, Alternation):
        for part in node.parts:
            _refuse_late_starts(part, nothing_before)
    elif isinstance(node, Sequence):
        for part in node.parts:
            _refuse_late_starts(part, nothing_before)
            nothing_before = nothing_before and isinstance(part, Edge)


def _written(node: Node) -> str | None:
    """The automaton's syntax, or None where nothing can match."""
    if isinstance(node, Characters):
        return node.as_pattern() if node.ranges else None
    if isinstance(node, Edge):
        return node.written
    if isinstance(node, Repeat):
        return _repeated(node)
    parts = [_written(part) for part in node.parts]
    possible = [part for part in parts if part is not None]
    if isinstance(node, Alternation):
        return f"(?:{'|'.join(possible)})" if possible else None
    return "".join(possible) if len(possible) == len(parts) else None


def _repeated(node: Repeat) -> str | None:
    inside = _written(node.part)
    if inside is None:
        return "" if node.low == 0 else None
    high = "" if node.high is None else str(node.high)
    times = {(0, None): "*", (1, None): "+", (0, 1): "?"}.get((node.low, node.high), f"{{{node.low},{high}}}")
    return (inside if isinstance(node.part, Characters) else f"(?:{inside})") + times
