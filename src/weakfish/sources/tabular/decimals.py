"""Numbers with a decimal comma: `1.234,5` as `1234.5`."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa
import pyarrow.compute as pc

_COMMA = r"^\s*[+-]?(?:\d{1,3}(?:[. '\x{a0}\x{202f}]\d{3})+|\d+)(?:,\d*)?\s*$"
_POINT = r"^\s*[+-]?\d+(?:\.\d*)?\s*$"
_SURE = r"{}(?:\d{{1,2}}|\d{{4,}})\s*$"
"""Three digits may be thousands."""

GOOD = 0.99


def with_point(texts: pa.Array) -> pa.Array:
    """Texts, those of numbers with a decimal comma with a point instead, and without marks between thousands."""
    pointed = pc.replace_substring(pc.replace_substring_regex(texts, r"[. '\x{a0}\x{202f}]", ""), ",", ".")
    return pc.if_else(pc.fill_null(pc.match_substring_regex(texts, _COMMA), False), pointed, texts)


def decimal_mark(columns: Iterable[pa.Array]) -> str | None:
    """The mark before the decimals of numbers in columns of text; None where they have both, or none."""
    found = dict.fromkeys(",.", 0)
    for texts in columns:
        known = texts.filter(pc.not_equal(texts, ""))
        for mark, form in ((",", _COMMA), (".", _POINT)):
            sure = pc.any(pc.match_substring_regex(known, _SURE.format(rf"\{mark}"))).as_py()
            fits = pc.sum(pc.match_substring_regex(known, form)).as_py() or 0
            found[mark] += bool(sure) and fits >= GOOD * len(known)
    marks = [mark for mark, number in found.items() if number]
    return marks[0] if len(marks) == 1 else None
