"""Values of rows as a person reads them: on one line, long text cut around what the function looks for."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from weakfish.checks.quarantine.text import printable
from weakfish.labeling.voting.plan import Search

WIDEST = 150
"""How many characters of a value are shown."""

BEFORE = 50
"""How many of them stand before what was found."""

LITERAL = {"contains", "startswith", "endswith"}


def excerpt(column: str, value: Any, searches: Sequence[Search]) -> str:
    """``value`` without line breaks and control characters; of a long text, the part where a search finds something."""
    if value is None:
        return "-"
    if not isinstance(value, str):
        return _cut(value.hex() if isinstance(value, bytes) else str(value), 0)
    found = [place for search in searches if (place := _place(search, column, value)) is not None]
    return _cut(value, min(found, default=0))


def _cut(text: str, place: int) -> str:
    if len(text) <= WIDEST:
        return _plain(text)
    start = max(0, min(place - BEFORE, len(text) - WIDEST))
    part = text[start : start + WIDEST]
    before, after = "..." if start else "", "..." if start + WIDEST < len(text) else ""
    return f"{before}{_plain(part)}{after} ({len(text):,} characters)"


def _plain(text: str) -> str:
    return printable(re.sub(r"\s+", " ", text))


def _place(search: Search, column: str, text: str) -> int | None:
    """Where a search finds something in a column's text; RE2 looks, as in the engine. None where it finds nothing."""
    cases = {column: text, f"lower({column})": text.lower(), f"upper({column})": text.upper()}
    if search.column not in cases:
        return None
    haystack = cases[search.column]
    if search.kind in LITERAL:
        place = haystack.find(search.pattern)
        return place if place >= 0 else None
    if search.kind != "regex":
        return None
    try:
        place = pc.find_substring_regex(pa.array([haystack]), search.pattern)[0].as_py()
    except pa.ArrowInvalid:
        return None
    return len(haystack.encode()[:place].decode(errors="ignore")) if place >= 0 else None
