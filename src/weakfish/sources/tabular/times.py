"""pa.Array as times: ISO 8601 with or without a zone, dates, and seconds since 1970, as UTC in microseconds.

Columns of one form are read by Arrow; the others part by part, which gives the same and takes mixed forms. A time
without a zone is of the column's; where clocks are set back it is the first of the two times that it can mean,
where they are set forward it is the time at which they were.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from weakfish.tables import TIME

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
    times = _uniform(texts, zone)
    if times is None:
        times = _mixed(texts, zone)
    micros = pc.cast(times, pa.int64())
    within = pc.and_(pc.greater_equal(micros, int(_FIRST)), pc.less(micros, int(_LAST)))
    return pc.if_else(within, times, pa.scalar(None, TIME))


def of_timestamps(stamps: pa.Array, zone: str) -> pa.Array:
    """Timestamps of any unit as UTC in microseconds; null outside of 1678 to 2261."""
    unit = {"s": 1_000_000, "ms": 1000, "us": 1}.get(stamps.type.unit)
    if unit is not None:  # before they are multiplied: what is far outside would come back as another time
        counts = pc.cast(stamps, pa.int64())
        within = pc.and_(pc.greater_equal(counts, int(_FIRST) // unit), pc.less(counts, int(_LAST) // unit))
        stamps = pc.if_else(within, stamps, pa.scalar(None, stamps.type))
    return pc.cast(stamps, TIME, safe=False) if stamps.type.tz else localised(stamps, zone)


def localised(times: pa.Array, zone: str) -> pa.Array:
    """Times without a zone as UTC."""
    there = pc.assume_timezone(pc.cast(times, _LOCAL, safe=False), zone, ambiguous="earliest", nonexistent="latest")
    return pc.cast(there, TIME)


def to_dates(texts: pa.Array) -> pa.Array:
    """Trimmed texts as dates; null where a text is none. A time at midnight is a date."""
    form = r"^\d{4}[-/]\d{2}[-/]\d{2}(?:[T ]00:00(?::00(?:\.0+)?)?)?$"
    dates = pc.if_else(pc.match_substring_regex(texts, form), texts, pa.scalar(None, pa.string()))
    micros, known = _from_parts(dates, "UTC")
    return pc.cast(pa.array(micros, _LOCAL, mask=~known), pa.date32())


def _uniform(texts: pa.Array, zone: str) -> pa.Array | None:
    """The times of texts that all have Arrow's form and all a zone, or all none."""
    for form, kind in ((_PLAIN, _LOCAL), (_ZONED, TIME)):
        if pc.all(pc.match_substring_regex(texts, form), min_count=0).as_py():
            try:
                found = pc.cast(texts, kind)
            except pa.ArrowInvalid:
                return None
            return localised(found, zone) if kind == _LOCAL else found
    return None


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
