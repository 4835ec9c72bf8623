"""Finds the searches of text in Ibis expressions, and puts boolean columns in the place of those that are lifted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import ibis.expr.operations as ops
import ibis.expr.types as ir

from weakfish.labeling.voting.syntax import Unlifted
from weakfish.labeling.voting.translate import Case, Kind, Needle, needle

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
