"""What the automaton is to look for in place of the engine's search, and on which rows that is not the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from weakfish.labeling.voting.characters import Characters
from weakfish.labeling.voting.syntax import (
    LINE_START,
    TEXT_START,
    Choice,
    Edge,
    Node,
    Repeat,
    Sequence,
    Unlifted,
    literal,
    mapped,
    read,
)

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
    if isinstance(node, Choice):
        return any(_matches_nothing(part) for part in node.parts)
    return isinstance(node, Edge)


def _refuse_late_starts(node: Node, nothing_before: bool) -> None:
    """A line starts after the last newline too for RE2, not for the automaton, unless something must follow."""
    if node in (LINE_START, TEXT_START) and not nothing_before:
        raise Unlifted("has a start of text or line after other characters")
    if isinstance(node, Repeat):
        _refuse_late_starts(node.part, nothing_before and node.high == 1)
    elif isinstance(node, Choice):
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
    if isinstance(node, Choice):
        return f"(?:{'|'.join(possible)})" if possible else None
    return "".join(possible) if len(possible) == len(parts) else None


def _repeated(node: Repeat) -> str | None:
    inside = _written(node.part)
    if inside is None:
        return "" if node.low == 0 else None
    high = "" if node.high is None else str(node.high)
    times = {(0, None): "*", (1, None): "+", (0, 1): "?"}.get((node.low, node.high), f"{{{node.low},{high}}}")
    return (inside if isinstance(node.part, Characters) else f"(?:{inside})") + times
