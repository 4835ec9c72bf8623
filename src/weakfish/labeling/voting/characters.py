"""Sets of characters, as ranges of code points, and what folding the case of ASCII letters makes of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

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

    def folded(self) -> Characters:
        """With each ASCII letter its other case."""
        return self | Characters.these("".join(letter.swapcase() for letter in _LETTERS if letter in self))

    def before_lower(self) -> Characters:
        """The characters that ``lower()`` turns into one of these, as far as ASCII goes."""
        kept = ~(~self | _UPPER)
        return kept | Characters.these("".join(letter.upper() for letter in _LOWER_LETTERS if letter in self))

    def before_upper(self) -> Characters:
        """The characters that ``upper()`` turns into one of these, as far as ASCII goes."""
        kept = ~(~self | _LOWER)
        return kept | Characters.these("".join(letter.lower() for letter in _UPPER_LETTERS if letter in self))

    def as_bytes(self) -> Characters:
        """The bytes that the set's characters can consist of, and others beyond ASCII."""
        ascii_only = ((low, min(high, FIRST_BEYOND_ASCII - 1)) for low, high in self.ranges if low < FIRST_BEYOND_ASCII)
        return Characters.of([*ascii_only, (FIRST_BEYOND_ASCII, LAST_BYTE)])

    def as_pattern(self) -> str:
        """The set in the syntax of the automaton; it must not be empty."""
        if len(self.ranges) == 1 and self.ranges[0][0] == self.ranges[0][1]:
            return _escaped(self.ranges[0][0])
        return "[" + "".join(_escaped(low) + ("-" + _escaped(high)) * (low < high) for low, high in self.ranges) + "]"


def _escaped(code: int) -> str:
    if chr(code).isascii() and chr(code).isalnum():
        return chr(code)
    return f"\\x{code:02x}" if code <= LAST_BYTE else f"\\x{{{code:x}}}"


_LOWER_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_UPPER_LETTERS = _LOWER_LETTERS.upper()
_LETTERS = _LOWER_LETTERS + _UPPER_LETTERS
_LOWER, _UPPER = Characters.these(_LOWER_LETTERS), Characters.these(_UPPER_LETTERS)

DIGIT = Characters.of([(ord("0"), ord("9"))])
WORD = DIGIT | _LOWER | _UPPER | Characters.these("_")
SPACE = Characters.these("\t\n\f\r ")
NEWLINE = Characters.these("\n")
ANY = Characters(((0, LAST),))
