"""Values of a file as the types of the settings: text or typed Arrow columns in, the column and what is bad of it out.

Nothing is guessed: `1,234` is no number, `05/06/2024` no date. What cannot be converted is null, and is told of.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from weakfish.sources.tabular import piece as sizes
from weakfish.sources.tabular.settings import ARROW, TabularSettings
from weakfish.sources.tabular.times import of_timestamps, to_dates, to_times

_NUMBER = r"^[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,4})?$"
_INTEGER = r"^[+-]?0*\d{1,19}(?:\.0*)?$"
_TRUE = pa.array(["true", "t", "yes", "y", "1"])
_FALSE = pa.array(["false", "f", "no", "n", "0"])

WHY = {
    "string": "is no text that a table can hold: it has a NUL character or is too long",
    "integer": "is not an integer of 64 bits",
    "number": "is not a finite number",
    "boolean": "is neither true nor false",
    "time": "is not a time as 2024-05-31T12:00:00Z, between 1678 and 2261",
    "date": "is not a date as 2024-05-31",
}


@dataclass(frozen=True)
class Converted:
    """A column in its type, the texts that it came from, and which of them could not be converted."""

    values: pa.Array
    texts: pa.Array
    bad: pa.Array

    def text(self, row: int) -> str:
        """What a value was made from."""
        value = self.texts[row]
        try:
            return str(value.as_py())
        except (OverflowError, ValueError):  # times that Python cannot hold
            return f"{getattr(value, 'value', value)} {value.type}"


def convert(column: pa.Array | pa.ChunkedArray, kind: str, settings: TabularSettings) -> Converted:
    """Convert a column; where a value is bad it is null."""
    given = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    values = _typed(given, kind, settings)
    if values is not None:
        bad = pc.and_(pc.is_valid(given), pc.is_null(values))
        return Converted(values, given, bad)
    texts = _without_nulls(as_text(given), settings)
    trimmed = texts if kind == "string" else pc.utf8_trim_whitespace(texts)
    if kind != "string":
        trimmed = _without_nulls(trimmed, settings)
        texts = pc.if_else(pc.is_valid(trimmed), texts, pa.scalar(None, pa.string()))
    values = _CONVERTERS[kind](trimmed, settings)
    return Converted(values, texts, pc.and_(pc.is_valid(texts), pc.is_null(values)))


def as_text(values: pa.Array) -> pa.Array:
    """Values of any type as text; lists and structures as JSON."""
    kind = values.type
    if pa.types.is_dictionary(kind):
        return as_text(values.cast(kind.value_type))
    if pa.types.is_string(kind):
        return values
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        return pa.array([_decoded(value) for value in values.to_pylist()], pa.string())
    if pa.types.is_nested(kind):
        return pa.array([None if value is None else _json(value) for value in values.to_pylist()], pa.string())
    try:
        return pc.cast(values, pa.string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return pa.array([None if value is None else str(value) for value in values.to_pylist()], pa.string())


def _typed(values: pa.Array, kind: str, settings: TabularSettings) -> pa.Array | None:
    """Values that have their type already, or one that is as good; None for all others, which go through text."""
    have = values.type
    if pa.types.is_null(have):
        return pa.nulls(len(values), ARROW[kind])
    if kind == "number" and (pa.types.is_floating(have) or (pa.types.is_integer(have) and have.bit_width <= 32)):
        numbers = pc.cast(values, pa.float64())
        return pc.if_else(pc.is_finite(numbers), numbers, pa.scalar(None, pa.float64()))
    if kind == "integer" and (pa.types.is_signed_integer(have) or (pa.types.is_integer(have) and have.bit_width < 64)):
        return pc.cast(values, pa.int64())
    if kind == "boolean" and pa.types.is_boolean(have):
        return values
    if kind == "date" and pa.types.is_date(have):
        return pc.cast(values, pa.date32(), safe=False)
    if kind == "time" and pa.types.is_timestamp(have):
        return of_timestamps(values, settings.time_zone)
    return None


def _without_nulls(texts: pa.Array, settings: TabularSettings) -> pa.Array:
    null = pc.is_in(texts, pa.array(settings.null_values, pa.string()))
    return pc.if_else(null, pa.scalar(None, pa.string()), texts) if pc.any(null, min_count=0).as_py() else texts


def _strings(texts: pa.Array, _: TabularSettings) -> pa.Array:
    bad = pc.or_(pc.match_substring(texts, "\0"), pc.greater(pc.binary_length(texts), sizes.LONGEST))
    return pc.if_else(bad, pa.scalar(None, pa.string()), texts) if pc.any(bad, min_count=0).as_py() else texts


def _integers(texts: pa.Array, _: TabularSettings) -> pa.Array:
    whole = _matching(texts, _INTEGER)
    digits = pc.replace_substring_regex(whole, r"^\+|\.0*$", "")
    try:
        return pc.cast(digits, pa.int64())
    except pa.ArrowInvalid:  # nineteen digits may be too many
        return pa.array([None if text is None else _bounded(int(text)) for text in digits.to_pylist()], pa.int64())


def _bounded(value: int) -> int | None:
    return value if -(1 << 63) <= value < 1 << 63 else None


def _numbers(texts: pa.Array, _: TabularSettings) -> pa.Array:
    plain = pc.replace_substring_regex(_matching(texts, _NUMBER), r"^\+", "")
    try:
        numbers = pc.cast(plain, pa.float64())
    except pa.ArrowInvalid:  # forms that Arrow does not take: `.5`, `5.`
        numbers = pa.array([None if text is None else float(text) for text in plain.to_pylist()], pa.float64())
    return pc.if_else(pc.is_finite(numbers), numbers, pa.scalar(None, pa.float64()))


def _booleans(texts: pa.Array, _: TabularSettings) -> pa.Array:
    lower = pc.utf8_lower(texts)
    true, known = pc.is_in(lower, _TRUE), pc.is_in(lower, pa.chunked_array([_TRUE, _FALSE]).combine_chunks())
    return pc.if_else(known, true, pa.scalar(None, pa.bool_()))


def _matching(texts: pa.Array, form: str) -> pa.Array:
    return pc.if_else(pc.match_substring_regex(texts, form), texts, pa.scalar(None, pa.string()))


def _decoded(value: bytes | None) -> str | None:
    """Bytes as text; what is not UTF-8 gets a NUL, so that no type takes it."""
    if value is None:
        return None
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return "\0" + value[:1000].decode("utf-8", "backslashreplace")


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


_CONVERTERS: dict[str, Callable[[pa.Array, TabularSettings], pa.Array]] = {
    "string": _strings,
    "integer": _integers,
    "number": _numbers,
    "boolean": _booleans,
    "time": lambda texts, settings: to_times(texts, settings.time_zone),
    "date": lambda texts, _: to_dates(texts),
}
