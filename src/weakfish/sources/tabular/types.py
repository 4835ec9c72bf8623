"""Columns as the types that the settings give them; a value that its type cannot hold exactly is bad, never another."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from weakfish.sources.tabular.formats import ungrouped
from weakfish.sources.tabular.settings import ARROW, Conversion
from weakfish.sources.tabular.times import of_timestamps, to_dates, to_times

_NUMBER = r"^[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,4})?$"
_INTEGER = r"^[+-]?0*\d{1,19}(?:\.0*)?$"
_LONG = r"^[+-]?0*[1-9]\d{15,}(?:\.\d*)?$"
"""Numbers written out in so many digits that a float may hold another."""

_LONGEST_EXACT = 15
_FIRST_DAY, _LAST_DAY = pa.scalar(date.min, pa.date32()), pa.scalar(date.max, pa.date32())
"""Those beyond are how some databases hold infinity."""

_TRUE = pa.array(["true", "t", "yes", "y", "1"])
_FALSE = pa.array(["false", "f", "no", "n", "0"])

NOT_TEXT = "\0"
"""What bytes that are no text begin with where texts are asked for, so that no type takes them."""

WHY = {
    "string": "is no text that a table can hold: it has a NUL character",
    "integer": "is not an integer of 64 bits",
    "number": "is not a finite number, or has more digits than a number can hold (then make the column a string)",
    "boolean": "is neither true nor false",
    "time": "is not a time as 2024-05-31T12:00:00Z, between 1678 and 2261",
    "date": "is not a date as 2024-05-31",
}


def why(kind: str, how: Conversion) -> str:
    """Why a value is bad."""
    if kind in ("time", "date") and how.time_format:
        return f"is not a {kind} as {how.time_format}{', between 1678 and 2261' if kind == 'time' else ''}"
    return WHY[kind]


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


def convert(given: pa.Array, kind: str, how: Conversion) -> Converted:
    """Convert a column; where a value is bad it is null."""
    texts, values = given, _typed(given, kind, how)
    if values is None:
        nulls = pa.array(how.nulls, pa.string())
        texts = as_text(given)
        texts = trimmed = _null_where(pc.is_in(texts, nulls), texts)
        if kind != "string":
            trimmed = pc.utf8_trim_whitespace(texts)
            trimmed = _null_where(pc.is_in(trimmed, nulls), trimmed)
            texts = _null_where(pc.is_null(trimmed), texts)
        values = _CONVERTERS[kind](trimmed, how)
    elif pa.types.is_floating(given.type) and "nan" in how.nulls:
        texts = _null_where(pc.is_nan(given), given)
    return Converted(values, texts, pc.and_(pc.is_valid(texts), pc.is_null(values)))


def leads_with_zero(texts: pa.Array) -> pa.Array:
    """Which texts are whole numbers that begin with a zero, which an integer would lose."""
    return pc.match_substring_regex(texts, r"^\s*[+-]?0\d+\s*$")


def inexact(texts: pa.Array, kind: str) -> pa.Array:
    """Which texts are numbers of so many digits that a column of this kind, integer or number, would hold others."""
    texts = pc.utf8_trim_whitespace(texts)
    if (pc.max(pc.binary_length(texts)).as_py() or 0) <= _LONGEST_EXACT:
        return pa.repeat(False, len(texts))
    long = pc.fill_null(pc.match_substring_regex(texts, _LONG), False)
    wrong = iter([not _held(text, kind) for text in texts.filter(long).to_pylist()])
    return pa.array([each and next(wrong) for each in long.to_pylist()], pa.bool_())


def _held(text: str, kind: str) -> bool:
    exact = Decimal(text)
    if kind == "integer":
        return exact == int(exact) and -(1 << 63) <= exact < 1 << 63
    return Decimal(repr(float(text))) == exact


def _null_where(wrong: pa.Array, values: pa.Array) -> pa.Array:
    """Values, null where they are wrong; what is unknown is not wrong."""
    if not pc.any(wrong, min_count=0).as_py():
        return values
    return pc.if_else(pc.fill_null(wrong, False), pa.scalar(None, values.type), values)


def as_text(values: pa.Array) -> pa.Array:
    """Values of any type as text; lists and structures as JSON."""
    kind = values.type
    if pa.types.is_string(kind):
        return values
    if pa.types.is_dictionary(kind):
        return as_text(values.cast(kind.value_type))
    made: Callable[[Any], str] = str
    if is_bytes(kind):
        made = _decoded
    elif pa.types.is_nested(kind):
        made = partial(json.dumps, ensure_ascii=False, default=str)
    else:
        with suppress(pa.ArrowInvalid, pa.ArrowNotImplementedError):
            return pc.cast(values, pa.string())
    return pa.array([None if value is None else made(value) for value in values.to_pylist()], pa.string())


def is_bytes(kind: pa.DataType) -> bool:
    """Whether a type is that of bytes."""
    return any(test(kind) for test in (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary))


def least_bytes(values: pa.Array) -> npt.NDArray[np.int64] | None:
    """How many bytes each value has as text at least; None where it may be one, as of numbers."""
    kind = values.type
    if pa.types.is_dictionary(kind):
        sizes = least_bytes(values.dictionary)
        places = np.asarray(pc.fill_null(pc.cast(values.indices, pa.int64()), -1))  # of the zero at the end, for null
        return None if sizes is None else np.take(np.append(sizes, 0), places)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or is_bytes(kind):
        return np.asarray(pc.fill_null(pc.binary_length(values), 0), np.int64)
    if pa.types.is_struct(kind):
        fields = [sizes for field in values.flatten() if (sizes := least_bytes(field)) is not None]
        return np.sum(fields, axis=0, dtype=np.int64) if fields else None
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_map(kind):
        ends, items = np.asarray(values.offsets), least_bytes(values.values)
        if items is None:
            return np.diff(ends).astype(np.int64) * len("0, ")
        return np.asarray(np.diff(np.append(0, np.cumsum(items + len('"", ')))[ends]), np.int64)
    return None


def too_long(longest: int) -> str:
    """Why a value is bad that is longer than one may be."""
    return f"is longer than {longest:,} bytes (source.max_value_bytes)"


def _typed(values: pa.Array, kind: str, how: Conversion) -> pa.Array | None:
    """Values that have their type already, or one that is as good; None for all others, which go through text."""
    have = values.type
    if pa.types.is_null(have):
        return pa.nulls(len(values), ARROW[kind])
    if kind == "number" and (pa.types.is_floating(have) or (pa.types.is_integer(have) and have.bit_width <= 32)):
        numbers = pc.cast(values, pa.float64())
        return _null_where(pc.invert(pc.is_finite(numbers)), numbers)
    if kind == "integer" and (pa.types.is_signed_integer(have) or (pa.types.is_integer(have) and have.bit_width < 64)):
        return pc.cast(values, pa.int64())
    if kind == "boolean" and pa.types.is_boolean(have):
        return values
    if kind == "date" and pa.types.is_date(have):
        days = pc.cast(values, pa.date32(), safe=False)
        return _null_where(pc.or_(pc.less(days, _FIRST_DAY), pc.greater(days, _LAST_DAY)), days)
    if kind == "time" and pa.types.is_timestamp(have):
        return of_timestamps(values, how.time_zone)
    return None


def _strings(texts: pa.Array, how: Conversion) -> pa.Array:
    return _null_where(pc.or_(pc.match_substring(texts, "\0"), is_long(texts, how)), texts)


def is_long(texts: pa.Array, how: Conversion) -> pa.Array:
    """Which texts have more bytes than a value may have."""
    return pc.greater(pc.binary_length(texts), how.longest)


def _integers(texts: pa.Array, how: Conversion) -> pa.Array:
    whole = _matching(ungrouped(texts, how.thousands), _INTEGER)
    digits = pc.replace_substring_regex(whole, r"^\+|\.0*$", "")
    try:
        return pc.cast(digits, pa.int64())
    except pa.ArrowInvalid:  # nineteen digits may be too many
        values = [None if text is None else int(text) for text in digits.to_pylist()]
        return pa.array([v if v is not None and -(1 << 63) <= v < 1 << 63 else None for v in values], pa.int64())


def _floats(texts: pa.Array, how: Conversion) -> pa.Array:
    plain = pc.replace_substring_regex(_matching(ungrouped(texts, how.thousands), _NUMBER), r"^\+", "")
    try:
        numbers = pc.cast(plain, pa.float64())
    except pa.ArrowInvalid:  # forms that Arrow does not take: `.5`, `5.`
        numbers = pa.array([None if text is None else float(text) for text in plain.to_pylist()], pa.float64())
    return _null_where(pc.or_(pc.invert(pc.is_finite(numbers)), inexact(plain, "number")), numbers)


def _booleans(texts: pa.Array, _: Conversion) -> pa.Array:
    lower = pc.utf8_lower(texts)
    true = pc.is_in(lower, _TRUE)
    return _null_where(pc.invert(pc.or_(true, pc.is_in(lower, _FALSE))), true)


def _matching(texts: pa.Array, form: str) -> pa.Array:
    return _null_where(pc.invert(pc.match_substring_regex(texts, form)), texts)


def _decoded(value: bytes) -> str:
    """Bytes as text; what is not UTF-8 gets a NUL, so that no type takes it."""
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return NOT_TEXT + value[:1000].decode("utf-8", "backslashreplace")


_CONVERTERS: dict[str, Callable[[pa.Array, Conversion], pa.Array]] = {
    "string": _strings,
    "integer": _integers,
    "number": _floats,
    "boolean": _booleans,
    "time": lambda texts, how: to_times(texts, how.time_zone, how.time_format),
    "date": lambda texts, how: to_dates(texts, how.time_format),
}
