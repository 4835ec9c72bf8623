"""Words into regular expressions of the engine (RE2) that find them literally."""

from __future__ import annotations

import re

EDGE = r"[^\pL\pM\pN_]"
"""What may stand beside a word that ends in a letter outside of ASCII, of which the engine's ``\\b`` knows nothing."""


def literal(word: str) -> str:
    """A pattern that finds ``word`` anywhere; where it has spaces, any run of white space is found."""
    return r"\s+".join(map(re.escape, _parts(word)))


def _parts(phrase: str) -> list[str]:
    """Split where the engine's ``\\s`` matches, which is in fewer places than Python splits at."""
    return [part for part in re.split(r"[ \t\n\r\f]+", phrase) if part]


def whole(word: str) -> str:
    """A pattern that finds ``word`` where it stands alone."""
    first, last = _parts(word)[0][0], _parts(word)[-1][-1]
    return _edge(first, f"(?:^|{EDGE})") + literal(word) + _edge(last, f"(?:$|{EDGE})")


def _edge(character: str, beyond_ascii: str) -> str:
    """What must stand beside a word's first or last character; nothing is asked of punctuation."""
    if not (character.isalnum() or character == "_"):
        return ""
    return r"\b" if character.isascii() else beyond_ascii
