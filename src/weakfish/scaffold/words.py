"""Words of a column of text, by the share of rows that have them, and those that a class's own name suggests."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

import pyarrow as pa

LONGEST = 2_000
"""Characters of a text that are looked at."""

_COMMON = """
about after again also because been before being could does each even every from have having here hello into
just like made make many more most much need only other over please regards same should some still such thank
thanks than that their them then there these they this those through very want well were what when where which
while will with would your yours
"""
COMMON = frozenset(_COMMON.split())
"""Words of any text, which tell nothing of what it is about."""

_WORD = re.compile(r"[^\W\d_]{3,30}")
_PARTS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[^\W\d_A-Za-z]+")
_ENDINGS = ("ations", "ation", "ments", "ment", "ings", "ing", "ions", "ion", "ers", "er", "ed", "es", "s", "e", "y")


def counted(column: pa.ChunkedArray) -> Counter[str]:
    """In how many rows each word of three letters or more stands, in small letters."""
    found: Counter[str] = Counter()
    for text in column.to_pylist():
        found.update({match[0] for match in _WORD.finditer((text or "")[:LONGEST].lower())})
    return found


def stems(classes: Sequence[str]) -> list[tuple[str, ...]]:
    """Of each class the beginnings of words that its name suggests and that no other class's name has."""
    tokens = [{part.lower() for part in _PARTS.findall(name) if len(part) >= 3} - COMMON for name in classes]
    often = Counter(token for each in tokens for token in each)
    return [tuple(sorted(_stem(token) for token in each if often[token] == 1)) for each in tokens]


def begun(words: Mapping[str, int], beginnings: Sequence[str], most: int = 4) -> tuple[str, ...]:
    """Words that begin so, the most frequent first."""
    found = [word for word in words if any(word.startswith(beginning) for beginning in beginnings)]
    return tuple(sorted(found, key=lambda word: (-words[word], word))[:most])


def _stem(token: str) -> str:
    """A word without its ending, four letters at least."""
    return next(
        (token.removesuffix(end) for end in _ENDINGS if token.endswith(end) and len(token) - len(end) >= 4), token
    )
