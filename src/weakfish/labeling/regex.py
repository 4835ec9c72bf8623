"""Patterns that mean the same to the engine and to the automaton: read, judged and written anew."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from string import ascii_letters
from typing import Literal

LAST = 0x10FFFF
FIRST_BEYOND_ASCII = 0x80
LAST_BYTE = 0xFF

Range = tuple[int, int]


@dataclass(frozen=True)
class Characters:
    """A set of characters: ranges of code points, both ends included, sorted and apart from each other."""

    ranges: tuple[Range, ...]

    @classmethod
    def of(cls, ranges: Iterable[Range]) -> Characters:
        """The union of ``ranges``, in any order, overlapping or not."""
        merged: list[Range] = []
        for low, high in sorted(ranges):
            if merged and low <= merged[-1][1] + 1:
                merged[-1] = (merged[-1][0], max(high, merged[-1][1]))
            else:
                merged.append((low, high))
        return cls(tuple(merged))

    @classmethod
    def these(cls, text: str) -> Characters:
        """The characters of ``text``."""
        return cls.of((ord(character), ord(character)) for character in text)

    def __contains__(self, character: str) -> bool:
        return any(low <= ord(character) <= high for low, high in self.ranges)

    def __or__(self, other: Characters) -> Characters:
        return Characters.of(self.ranges + other.ranges)

    def __invert__(self) -> Characters:
        edges = [-1, *(end for low, high in self.ranges for end in (low, high)), LAST + 1]
        gaps = zip(edges[::2], edges[1::2], strict=True)
        return Characters(tuple((before + 1, after - 1) for before, after in gaps if before + 1 < after))

    @property
    def is_ascii(self) -> bool:
        """Whether no character lies beyond ASCII."""
        return not self.ranges or self.ranges[-1][1] < FIRST_BEYOND_ASCII

    @property
    def treats_all_beyond_ascii_alike(self) -> bool:
        """Whether all characters beyond ASCII belong to the set, or none: then only ASCII has case to fold."""
        low, high = self.ranges[-1] if self.ranges else (0, 0)
        return self.is_ascii or (low <= FIRST_BEYOND_ASCII and high == LAST)

    def before(self, change: Callable[[str], str]) -> Characters:
        """The characters that ``lower``, ``upper`` or ``swapcase`` turns into one of these, as far as ASCII goes."""
        return _before(self, change)

    def as_bytes(self) -> Characters:
        """The bytes that the set's characters can consist of, and others beyond ASCII."""
        ascii_only = ((low, min(high, FIRST_BEYOND_ASCII - 1)) for low, high in self.ranges if low < FIRST_BEYOND_ASCII)
        return Characters.of([*ascii_only, (FIRST_BEYOND_ASCII, LAST_BYTE)])

    def as_pattern(self) -> str:
        """The set in the syntax of the automaton; it must not be empty."""
        if len(self.ranges) == 1 and self.ranges[0][0] == self.ranges[0][1]:
            return _escaped(self.ranges[0][0])
        return "[" + "".join(_escaped(low) + ("-" + _escaped(high)) * (low < high) for low, high in self.ranges) + "]"


@cache  # a pattern has the same letters over and over
def _before(found: Characters, change: Callable[[str], str]) -> Characters:
    moved = [letter for letter in ascii_letters if change(letter) != letter]
    kept = ~(~found | Characters.these("".join(moved)))
    return kept | Characters.these("".join(letter for letter in moved if change(letter) in found))


def _escaped(code: int) -> str:
    if chr(code).isascii() and chr(code).isalnum():
        return chr(code)
    return f"\\x{code:02x}" if code <= LAST_BYTE else f"\\x{{{code:x}}}"


DIGIT = Characters.of([(ord("0"), ord("9"))])
WORD = DIGIT | Characters.these(ascii_letters + "_")
SPACE = Characters.these("\t\n\f\r ")
NEWLINE = Characters.these("\n")
ANY = Characters(((0, LAST),))


class Unlifted(Exception):
    """Why a search stays with the engine: a clause without a subject."""


@dataclass(frozen=True)
class Edge:
    """A place between characters: ``\\b``, ``\\B``, ``\\A``, ``\\z``, or the start or end of a line."""

    written: str


@dataclass(frozen=True)
class Repeat:
    """``part``, at least ``low`` and at most ``high`` times; None is any number."""

    part: Node
    low: int
    high: int | None


@dataclass(frozen=True)
class Sequence:
    """Parts one after the other."""

    parts: tuple[Node, ...]


@dataclass(frozen=True)
class Alternation:
    """One of the parts."""

    parts: tuple[Node, ...]


Node = Characters | Edge | Repeat | Sequence | Alternation

TEXT = {"^": Edge(r"\A"), "$": Edge(r"\z")}
LINE = {"^": Edge("(?m:^)"), "$": Edge("(?m:$)")}

_QUANTIFIER = re.compile(r"(?:([*+?])|\{(\d{1,4})(,?)(\d{0,4})\})(\??)")
_GROUP = re.compile(r"\((?:\?(?:P<[A-Za-z_][A-Za-z0-9_]*>|([imsU]*)(-[imsU]+)?([:)])))?")
_HEX = re.compile(r"x(?:([0-9A-Fa-f]{2})|\{([0-9A-Fa-f]{1,6})\})")
_CLASSES = {"d": DIGIT, "D": ~DIGIT, "w": WORD, "W": ~WORD, "s": SPACE, "S": ~SPACE}
_ESCAPES = _CLASSES | dict(zip("ntrfva", map(Characters.these, "\n\t\r\f\v\a"), strict=True))
_EDGES = {"b": Edge(r"\b"), "B": Edge(r"\B"), "A": TEXT["^"], "z": TEXT["$"]}


class _Reader:
    """Reads one pattern from left to right; ``flags`` are those in force at ``position``.

    Of these, U swaps greedy and lazy, which changes what is matched, but not whether.
    """

    def __init__(self, pattern: str) -> None:
        self.pattern, self.position, self.flags = pattern, 0, frozenset[str]()
        self.folds = False

    def choice(self) -> Node:
        """As far as the group or the pattern goes; flags set inside hold to its end, across alternatives."""
        before, parts = self.flags, [self._sequence()]
        while self._take("|"):
            parts.append(self._sequence())
        self.flags = before
        return parts[0] if len(parts) == 1 else Alternation(tuple(parts))

    def _sequence(self) -> Node:
        parts: list[Node] = []
        while self.position < len(self.pattern) and self.pattern[self.position] not in "|)":
            part = self._atom()
            if part is not None:
                parts.append(self._repeated(part))
        return Sequence(tuple(parts))

    def _atom(self) -> Node | None:
        character = self.pattern[self.position]
        if character == "(":
            return self._group()
        self.position += 1
        if character == "[":
            return self._class()
        if character == "\\":
            return self._escape()
        if character == ".":
            return ANY if "s" in self.flags else ~NEWLINE
        if character in "^$":
            return (LINE if "m" in self.flags else TEXT)[character]
        if character in "*+?{":
            raise Unlifted(f"has {character!r} where nothing can be repeated")
        return self._folded(Characters.these(character))

    def _group(self) -> Node | None:
        found = self._match(_GROUP)
        if not found:
            raise Unlifted("has a group of a kind that is not known")
        on, off, end = found.groups()
        flags = (self.flags | set(on or "")) - set(off or "")
        if end == ")":
            self.flags = flags
            return None
        before, self.flags = self.flags, flags
        inside = self.choice()
        self.flags = before
        if not self._take(")"):
            raise Unlifted("has a group without end")
        if inside == Sequence(()):
            # DuckDB 2.0 takes "a(?:)" for "a$".
            raise Unlifted("has an empty group")
        return inside

    def _repeated(self, part: Node) -> Node:
        found = self._match(_QUANTIFIER)
        if not found:
            return part
        sign, low, comma, high, _ = found.groups()
        if self._match(_QUANTIFIER):
            raise Unlifted("repeats a repetition")
        if isinstance(part, Edge):
            raise Unlifted("repeats a place between characters")
        if high == "0" or (low == "0" and not comma):
            raise Unlifted("repeats something no times")
        if sign:
            return Repeat(part, int(sign == "+"), 1 if sign == "?" else None)
        return Repeat(part, int(low), int(high) if high else None if comma else int(low))

    def _escape(self) -> Node:
        character = self.pattern[self.position : self.position + 1]
        if character in _EDGES:
            self.position += 1
            return _EDGES[character]
        return self._folded(self._class_escape())

    def _class_escape(self) -> Characters:
        """What stands after a backslash, inside a class or outside, its case not yet folded."""
        found = self._match(_HEX)
        if found:
            code = int(found[1] or found[2], 16)
            if code > LAST:
                raise Unlifted("names a character that does not exist")
            return Characters(((code, code),))
        character = self.pattern[self.position : self.position + 1]
        self.position += 1
        if character in _ESCAPES:
            return _ESCAPES[character]
        if not character.isascii() or not character or character.isalnum() or character == "_":
            raise Unlifted(rf"has the escape \{character}")
        return Characters.these(character)

    def _class(self) -> Characters:
        negated, members, first = self._take("^"), Characters(()), True
        while first or not self._take("]"):
            members |= self._member(first)
            first = False
        return ~members if negated else members

    def _member(self, first: bool) -> Characters:
        """One character, range or escape of a class; ranges between plain characters only."""
        start = self.position
        if self.pattern.startswith("[:", start):
            raise Unlifted("has a named class")
        low = self._single()
        if self.pattern[start] == "-" and not first and not self.pattern.startswith("]", self.position):
            raise Unlifted("has a hyphen inside a class")
        if not self.pattern.startswith("-", self.position) or self.pattern.startswith("-]", self.position):
            return self._folded(low)
        self.position += 1
        high = self._single()
        ends = (*low.ranges, *high.ranges)
        if len(ends) != 2 or any(a != b for a, b in ends) or ends[0] > ends[1]:
            raise Unlifted("has a range with no plain ends")
        return self._folded(Characters(((ends[0][0], ends[1][0]),)))

    def _single(self) -> Characters:
        if self.position >= len(self.pattern):
            raise Unlifted("has a class without end")
        self.position += 1
        character = self.pattern[self.position - 1]
        if character != "\\":
            return Characters.these(character)
        return self._class_escape()

    def _folded(self, found: Characters) -> Characters:
        """Under ``(?i)`` both cases; only for ASCII is it known what they are."""
        if "i" not in self.flags:
            return found
        if not found.is_ascii and found not in _CLASSES.values():
            raise Unlifted("ignores the case of letters beyond ASCII")
        self.folds = self.folds or any((letter in found) == found.is_ascii for letter in "kKsS")
        return found | found.before(str.swapcase)

    def _take(self, character: str) -> bool:
        taken = self.pattern.startswith(character, self.position)
        self.position += taken
        return taken

    def _match(self, kind: re.Pattern[str]) -> re.Match[str] | None:
        found = kind.match(self.pattern, self.position)
        self.position = found.end() if found else self.position
        return found


def read(pattern: str) -> tuple[Node, bool]:
    """The tree of ``pattern``, and whether it ignores the case of a letter that has a twin beyond ASCII (k and s).

    Raises
    ------
    Unlifted
        When a construct is not known to mean the same in the engine and in the automaton.
    """
    reader = _Reader(pattern)
    tree = reader.choice()
    if reader.position < len(pattern):
        raise Unlifted("closes a group that is not open")
    return tree, reader.folds


def literal(text: str) -> Node:
    """The tree of ``text`` itself."""
    return Sequence(tuple(Characters.these(character) for character in text))


def mapped(node: Node, change: Callable[[Characters], Characters]) -> Node:
    """The tree with each set of characters changed."""
    if isinstance(node, Characters):
        return change(node)
    if isinstance(node, Repeat):
        return replace(node, part=mapped(node.part, change))
    if isinstance(node, Sequence | Alternation):
        return type(node)(tuple(mapped(part, change) for part in node.parts))
    return node


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


TWINS_NEEDLE = Needle("(?:" + "|".join(f"\\x{{{ord(twin):x}}}" for twin in TWINS) + ")", utf8=True)


def needle_of(pattern: str, case: Case, is_regex: bool) -> Needle:
    """The needle that finds what ``pattern`` finds in a text, or in the text brought into ``case``.

    Raises
    ------
    Unlifted
        When it is not known how to say the same to the automaton.
    """
    tree, folds = read(pattern) if is_regex else (literal(pattern), False)
    if case != "as it is":
        if not all(each.treats_all_beyond_ascii_alike for each in _nodes(tree) if isinstance(each, Characters)):
            raise Unlifted("looks for letters beyond ASCII where their case was changed")
        tree = mapped(tree, lambda found: found.before(str.lower if case == "lower" else str.upper))
    if _matches_nothing(tree):
        raise Unlifted("can match empty text")
    _refuse_late_starts(tree, nothing_before=True)
    if _length(tree) > LONGEST_WRITTEN_OUT:
        raise Unlifted("repeats groups so often that the automaton would take long to compile")
    twins = folds or case != "as it is"
    if _width(tree) > WIDEST:
        return Needle(_written(_rough(tree)), twins=twins, doubtful=True)
    return Needle(_written(tree), utf8=_width(tree) > 0, twins=twins)


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


def _nodes(node: Node) -> Iterator[Node]:
    yield node
    parts = node.parts if isinstance(node, Sequence | Alternation) else (node.part,) if isinstance(node, Repeat) else ()
    for part in parts:
        yield from _nodes(part)


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
    if node in (LINE["^"], TEXT["^"]) and not nothing_before:
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
