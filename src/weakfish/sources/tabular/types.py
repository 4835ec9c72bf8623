"""Columns as the types that the settings give them.

Times are ISO 8601 with or without a zone, dates, and seconds since 1970, as UTC in microseconds. Columns of one form
are read by Arrow; the others part by part, which gives the same and takes mixed forms. A time without a zone is of the
column's; where clocks are set back it is the first of the two times that it can mean, where they are set forward it is
the time at which they were.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from weakfish.contracts.tables import TIME
from weakfish.sources.tabular import pieces as sizes
from weakfish.sources.tabular.settings import ARROW, TabularSettings

_LOCAL = pa.timestamp("us")
_ISO = (
    r"^(?P<y>\d{4})[-/](?P<m>\d{2})[-/](?P<d>\d{2})"
    r"(?:[T ](?P<h>\d{2}):(?P<i>\d{2})(?::(?P<s>\d{2})(?:[.,](?P<f>\d{1,9}))?)?"
    r" ?(?P<z>Z|z|UTC|GMT|[+-]\d{2}:?(?:\d{2})?)?)?$"
)
_PLAIN = r"^\d{4}-\d{2}-\d{2}(?:[T ]\d{2}:\d{2}(?::\d{2}(?:\.\d{1,6})?)?)?$"
_ZONED = r"^\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(?::\d{2}(?:\.\d{1,6})?)?(?:Z|[+-]\d{2}:?\d{2})$"
_EPOCH = r"^-?\d{9,10}(?:\.\d{1,9})?$|^-?\d{12,13}$|^-?\d{15,16}$"
_FIRST, _LAST = np.datetime64("1678-01-01", "us").astype(np.int64), np.datetime64("2262-01-01", "us").astype(np.int64)

Micros = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


def to_times(texts: pa.Array, zone: str) -> pa.Array:
    """Trimmed texts as times; null where a text is none, or lies outside of 1678 to 2261 (as nanoseconds can)."""
    times = None
    for form, kind in ((_PLAIN, _LOCAL), (_ZONED, TIME)):
        if pc.all(pc.match_substring_regex(texts, form), min_count=0).as_py():
            with suppress(pa.ArrowInvalid):
                found = pc.cast(texts, kind)
                times = localised(found, zone) if kind == _LOCAL else found
            break
    if times is None:
        times = _mixed(texts, zone)
    micros = pc.cast(times, pa.int64())
    return _null_where(pc.or_(pc.less(micros, int(_FIRST)), pc.greater_equal(micros, int(_LAST))), times)


def of_timestamps(stamps: pa.Array, zone: str) -> pa.Array:
    """Timestamps of any unit as UTC in microseconds; null outside of 1678 to 2261."""
    unit = {"s": 1_000_000, "ms": 1000, "us": 1}.get(stamps.type.unit)
    if unit is not None:  # before they are multiplied: what is far outside would come back as another time
        counts = pc.cast(stamps, pa.int64())
        early, late = pc.less(counts, int(_FIRST) // unit), pc.greater_equal(counts, int(_LAST) // unit)
        stamps = _null_where(pc.or_(early, late), stamps)
    return pc.cast(stamps, TIME, safe=False) if stamps.type.tz else localised(stamps, zone)


def localised(times: pa.Array, zone: str) -> pa.Array:
    """Times without a zone as UTC."""
    there = pc.assume_timezone(pc.cast(times, _LOCAL, safe=False), zone, ambiguous="earliest", nonexistent="latest")
    return pc.cast(there, TIME)


def to_dates(texts: pa.Array) -> pa.Array:
    """Trimmed texts as dates; null where a text is none. A time at midnight is a date."""
    form = r"^\d{4}[-/]\d{2}[-/]\d{2}(?:[T ]00:00(?::00(?:\.0+)?)?)?$"
    micros, known = _from_parts(_matching(texts, form), "UTC")
    return pc.cast(pa.array(micros, _LOCAL, mask=~known), pa.date32())


def _mixed(texts: pa.Array, zone: str) -> pa.Array:
    micros, known = _from_parts(texts, zone)
    seconds = pc.match_substring_regex(texts, _EPOCH)
    if pc.any(seconds, min_count=0).as_py():
        chosen = pc.fill_null(seconds, False).to_numpy(zero_copy_only=False)
        micros[chosen] = [_epoch(text) for text in texts.filter(pa.array(chosen)).to_pylist()]
        known |= chosen
    return pa.array(micros, TIME, mask=~known)


def _epoch(text: str) -> int:
    """Seconds, milliseconds or microseconds since 1970, told apart by their digits, in microseconds."""
    whole, _, fraction = text.partition(".")
    digits = len(whole.lstrip("-"))
    if digits > 10:
        return int(whole) * (1000 if digits < 15 else 1)
    part = int(fraction[:6].ljust(6, "0"))
    return int(whole) * 1_000_000 + (-part if whole.startswith("-") else part)


def _from_parts(texts: pa.Array, zone: str) -> tuple[Micros, Mask]:
    """Microseconds of each text, and which texts are times."""
    parts = pc.extract_regex(texts, _ISO)
    known = np.asarray(pc.is_valid(parts))
    year, month, day, hour, minute, second = (_numbers(parts, name) for name in "ymdhis")
    fraction = pc.utf8_slice_codeunits(pc.utf8_rpad(pc.fill_null(_field(parts, "f"), ""), 6, "0"), 0, 6)
    known &= (month >= 1) & (month <= 12) & (day >= 1) & (hour <= 23) & (minute <= 59) & (second <= 59) & (year >= 1)
    months = ((year - 1970) * 12 + np.where(known, month, 1) - 1).astype("M8[M]")
    known &= months.astype("M8[D]") + (day - 1).astype("m8[D]") < (months + 1).astype("M8[D]")
    days = (months.astype("M8[D]").astype(np.int64)) + day - 1
    seconds = ((days * 24 + hour) * 60 + minute) * 60 + second
    micros = np.where(known, seconds * 1_000_000 + np.asarray(pc.cast(fraction, pa.int64())), 0)
    shift, zoned, right = _offsets(_field(parts, "z"))
    local = localised(pa.array(micros, _LOCAL), zone) if zone != "UTC" else pa.array(micros, TIME)
    return np.where(zoned, micros - shift, np.asarray(pc.cast(local, pa.int64()))), known & right


def _field(parts: pa.Array, name: str) -> pa.Array:
    """A part of each text, empty where there is none."""
    return pc.fill_null(pc.struct_field(parts, name), "")


def _numbers(parts: pa.Array, name: str) -> Micros:
    texts = _field(parts, name)
    return np.array(pc.cast(pc.if_else(pc.equal(texts, ""), "0", texts), pa.int64()), np.int64)


def _offsets(zones: pa.Array) -> tuple[Micros, Mask, Mask]:
    """How far each zone is ahead of UTC in microseconds, where there is one, and where it is one that can be."""
    codes = zones.dictionary_encode()
    found = [_offset(text) for text in codes.dictionary.to_pylist()]
    shifts = np.array([shift or 0 for shift in found] or [0], np.int64)
    zoned = np.array([text != "" for text in codes.dictionary.to_pylist()] or [False])
    right = np.array([shift is not None for shift in found] or [True])
    places = np.asarray(codes.indices)
    return shifts[places], zoned[places], right[places]


def _offset(text: str) -> int | None:
    if text[:1] not in ("+", "-"):
        return 0
    digits = text[1:].replace(":", "").ljust(4, "0")
    hours, minutes = int(digits[:2]), int(digits[2:])
    shift = (hours * 60 + minutes) * 60_000_000
    return None if hours > 23 or minutes > 59 else -shift if text[0] == "-" else shift


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


def convert(given: pa.Array, kind: str, settings: TabularSettings) -> Converted:
    """Convert a column; where a value is bad it is null."""
    texts, values = given, _typed(given, kind, settings)
    if values is None:
        nulls = pa.array(settings.null_values, pa.string())
        texts = as_text(given)
        texts = trimmed = _null_where(pc.is_in(texts, nulls), texts)
        if kind != "string":
            trimmed = pc.utf8_trim_whitespace(texts)
            trimmed = _null_where(pc.is_in(trimmed, nulls), trimmed)
            texts = _null_where(pc.is_null(trimmed), texts)
        values = _CONVERTERS[kind](trimmed, settings)
    return Converted(values, texts, pc.and_(pc.is_valid(texts), pc.is_null(values)))


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
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        made = _decoded
    elif pa.types.is_nested(kind):
        made = partial(json.dumps, ensure_ascii=False, default=str)
    else:
        with suppress(pa.ArrowInvalid, pa.ArrowNotImplementedError):
            return pc.cast(values, pa.string())
    return pa.array([None if value is None else made(value) for value in values.to_pylist()], pa.string())


def _typed(values: pa.Array, kind: str, settings: TabularSettings) -> pa.Array | None:
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
        return pc.cast(values, pa.date32(), safe=False)
    if kind == "time" and pa.types.is_timestamp(have):
        return of_timestamps(values, settings.time_zone)
    return None


def _strings(texts: pa.Array, _: TabularSettings) -> pa.Array:
    return _null_where(
        pc.or_(pc.match_substring(texts, "\0"), pc.greater(pc.binary_length(texts), sizes.LONGEST)), texts
    )


def _integers(texts: pa.Array, _: TabularSettings) -> pa.Array:
    whole = _matching(texts, _INTEGER)
    digits = pc.replace_substring_regex(whole, r"^\+|\.0*$", "")
    try:
        return pc.cast(digits, pa.int64())
    except pa.ArrowInvalid:  # nineteen digits may be too many
        values = [None if text is None else int(text) for text in digits.to_pylist()]
        return pa.array([v if v is not None and -(1 << 63) <= v < 1 << 63 else None for v in values], pa.int64())


def _floats(texts: pa.Array, _: TabularSettings) -> pa.Array:
    plain = pc.replace_substring_regex(_matching(texts, _NUMBER), r"^\+", "")
    try:
        numbers = pc.cast(plain, pa.float64())
    except pa.ArrowInvalid:  # forms that Arrow does not take: `.5`, `5.`
        numbers = pa.array([None if text is None else float(text) for text in plain.to_pylist()], pa.float64())
    return _null_where(pc.invert(pc.is_finite(numbers)), numbers)


def _booleans(texts: pa.Array, _: TabularSettings) -> pa.Array:
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
        return "\0" + value[:1000].decode("utf-8", "backslashreplace")


_CONVERTERS: dict[str, Callable[[pa.Array, TabularSettings], pa.Array]] = {
    "string": _strings,
    "integer": _integers,
    "number": _floats,
    "boolean": _booleans,
    "time": lambda texts, settings: to_times(texts, settings.time_zone),
    "date": lambda texts, _: to_dates(texts),
}
