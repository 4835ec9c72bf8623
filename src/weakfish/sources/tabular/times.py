"""Times and dates: ISO 8601, the format of a column, and counts since 1970, as UTC in microseconds.

Columns of one ISO form are read by Arrow; the others part by part, which gives the same and takes mixed forms. A time
without a zone is of the column's. Where clocks are set back it is the first of the two times that it can mean, which
`twice` tells of; what they skip where they are set forward is no time. `finer` tells of digits that microseconds lose.
"""

from __future__ import annotations

import re
from contextlib import suppress
from functools import cache

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from weakfish.contracts.record import UNITS
from weakfish.contracts.tables import TIME

_PER_UNIT = {"s": 1_000_000, "ms": 1_000, "us": 1}
_LOCAL = pa.timestamp("us")
_ZONE = r"(?P<z>Z|z|UTC|GMT|[+-]\d{2}:?(?:\d{2})?)"
_ISO_DATE = r"^(?P<y>\d{4})[-/](?P<m>\d{1,2})[-/](?P<d>\d{1,2})"
_ISO = _ISO_DATE + r"(?:[T ](?P<h>\d{1,2}):(?P<i>\d{2})(?::(?P<s>\d{2})(?:[.,](?P<f>\d{1,9}))?)? ?" + _ZONE + r"?)?$"
_MIDNIGHT = _ISO_DATE + r"(?:[T ]00:00(?::00(?:\.0+)?)?)?$"
_PLAIN = r"^\d{4}-\d{2}-\d{2}(?:[T ]\d{2}:\d{2}(?::\d{2}(?:\.\d{1,6})?)?)?$"
_ZONED = r"^\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(?::\d{2}(?:\.\d{1,6})?)?(?:Z|[+-]\d{2}:?\d{2})$"
_COUNTS = {
    "s": r"^-?\d{9,10}(?:\.\d{1,9})?$",
    "ms": r"^-?\d{12,13}(?:\.\d{1,9})?$",
    "us": r"^-?\d{15,16}(?:\.\d{1,9})?$",
    "ns": r"^-?\d{18,19}$",
}
_COUNT = r"^(?P<n>-?\d{1,19})(?:\.(?P<f>\d{1,9}))?$"
_FINER = {"s": r"[.,]\d{6}\d*[1-9]", "ms": r"\.\d{3}\d*[1-9]", "us": r"\.\d*[1-9]", "ns": r"[1-9]0{0,2}$"}
_ANY_FINER = (
    rf"{_FINER['s']}|^-?(?:\d{{12,13}}{_FINER['ms']}|\d{{15,16}}{_FINER['us']}"
    r"|\d{17,18}[1-9]$|\d{16,17}[1-9]0$|\d{15,16}[1-9]00$)"
)
_FIRST, _LAST = np.datetime64("1678-01-01", "us").astype(np.int64), np.datetime64("2262-01-01", "us").astype(np.int64)
_DAY = 86_400_000_000
_QUOTES = " \t\"'[]"

Micros = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTH = (
    r"(?i:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sep(?:t(?:ember)?)?|oct(?:ober)?"
    r"|nov(?:ember)?|dec(?:ember)?)"
)
_WEEKDAY = r"(?i:mon(?:day)?|tue(?:sday)?|wed(?:nesday)?|thu(?:rsday)?|fri(?:day)?|sat(?:urday)?|sun(?:day)?)"
_PARTS = {
    "Y": r"(?P<y>\d{4})",
    "y": r"(?P<c>\d{2})",
    "m": r"(?P<m>\d{1,2})",
    "b": rf"(?P<b>{_MONTH})",
    "d": r"(?P<d>\d{1,2})",
    "a": _WEEKDAY,
    "H": r"(?P<h>\d{1,2})",
    "I": r"(?P<h>\d{1,2})",
    "M": r"(?P<i>\d{2})",
    "S": r"(?P<s>\d{2})(?:[.,](?P<f>\d{1,9}))?",
    "p": r"(?P<p>[AaPp]\.?[Mm]\.?)",
    "z": _ZONE,
    "%": "%",
}
_SHORT = {"%T": "%H:%M:%S", "%R": "%H:%M", "%D": "%m/%d/%y", "%F": "%Y-%m-%d", "%B": "%b", "%A": "%a", "%e": "%d"}
_ONE_OF = {"y": "Y", "b": "m", "I": "H"}


@cache
def pattern(form: str) -> str:
    """The regular expression of a format as of ``strftime``, or of a unit of `UNITS`.

    A time of day at the end may be missing, and so may its seconds; fractions of seconds may follow them.

    Raises
    ------
    ValueError
        When the format has not a year, a month and a day once each, or has a part that is not known.
    """
    form = form.strip(_QUOTES)  # as the texts are
    if form in UNITS:
        return _COUNT
    for short, long in _SHORT.items():
        form = form.replace(short, long)
    form = re.sub(r"[.,]%f", "", form)
    letters = re.findall(r"%(.?)", form.replace("%%", ""))
    if strange := [letter for letter in letters if letter not in _PARTS]:
        known = " ".join(f"%{letter}" for letter in _PARTS)
        raise ValueError(f"%{strange[0]} is not a part that can be read; there are {known}")
    parts = [_ONE_OF.get(letter, letter) for letter in letters]
    if not {"Y", "m", "d"} <= set(parts) or len(set(parts)) < len(parts):
        raise ValueError("a format has a year, a month and a day, and each part once, as %d.%m.%Y %H:%M has")
    ends = re.fullmatch(r"(?P<date>.*%[YymbdB])(?P<time>[^%]+%[HI].*)", form)
    found = _expression(ends["date"]) + f"(?:{_expression(ends['time'])})?" if ends else _expression(form)
    packed = re.search(r"%[Yymd]%[mdHI]", form) is not None  # `20240105`: only as many digits tell the parts apart
    return f"^{found.replace('{1,2}', '{2}') if packed else found}$"


def swapped(form: str) -> str | None:
    """A format of numbers with day and month in the other order; None where another order is not usual."""
    return form.translate({100: "m", 109: "d"}) if re.match(r"%d[./-]%m|%m[./-]%d", form) else None


def _expression(form: str) -> str:
    found = ""
    for part in re.findall(r":%S|%.| +|[^%]", form):
        if part == ":%S":
            found += f"(?::{_PARTS['S']})?"
        elif part[0] == "%":
            found += _PARTS[part[1]]
        else:
            found += " +" if part[0] == " " else re.escape(part)
    return found


def to_times(texts: pa.Array, zone: str, form: str | None = None) -> pa.Array:
    """Trimmed texts as times; null where a text is none, or lies outside of 1678 to 2261 (as nanoseconds can).

    What has not the form of ``form`` may still be ISO 8601 or a count since 1970.
    """
    times = None
    for plain, kind in () if form else ((_PLAIN, _LOCAL), (_ZONED, TIME)):
        if pc.all(pc.match_substring_regex(texts, plain), min_count=0).as_py():
            with suppress(pa.ArrowInvalid):
                found = pc.cast(texts, kind)
                times = localised(found, zone) if kind == _LOCAL else found
            break
    if times is None:
        times = _mixed(pc.utf8_trim(texts, _QUOTES), zone, form)
    micros = pc.cast(times, pa.int64())
    return _known(pc.and_(pc.greater_equal(micros, int(_FIRST)), pc.less(micros, int(_LAST))), times)


def of_timestamps(stamps: pa.Array, zone: str) -> pa.Array:
    """Timestamps of any unit as UTC in microseconds; null outside of 1678 to 2261."""
    unit = _PER_UNIT.get(stamps.type.unit)
    if unit is not None:  # before they are multiplied: what is far outside would come back as another time
        counts = pc.cast(stamps, pa.int64())
        late = pc.greater_equal(counts, int(_LAST) // unit)
        stamps = _known(pc.invert(pc.or_(pc.less(counts, int(_FIRST) // unit), late)), stamps)
    return pc.cast(stamps, TIME, safe=False) if stamps.type.tz else localised(stamps, zone)


def localised(times: pa.Array, zone: str) -> pa.Array:
    """Times without a zone as UTC; null where clocks of the zone skip them."""
    times = pc.cast(times, _LOCAL, safe=False)
    try:
        there = pc.assume_timezone(times, zone, ambiguous="earliest", nonexistent="raise")
    except pa.ArrowInvalid:
        there = pc.assume_timezone(times, zone, ambiguous="earliest", nonexistent="latest")
        there = _known(pc.equal(pc.local_timestamp(there), times), there)
    return pc.cast(there, TIME)


def twice(times: pa.Array, given: pa.Array, zone: str, form: str | None = None) -> pa.Array:
    """Which times were given without a zone and can mean two, since clocks of the zone are set back."""
    none = pa.repeat(False, len(times))
    if zone == "UTC" or form in UNITS or (pa.types.is_timestamp(given.type) and given.type.tz):
        return none
    local = pc.local_timestamp(pc.cast(times, pa.timestamp("us", zone)))
    with suppress(pa.ArrowInvalid):
        pc.assume_timezone(local, zone)
        return none
    first, second = (pc.assume_timezone(local, zone, ambiguous=which) for which in ("earliest", "latest"))
    found = np.asarray(pc.fill_null(pc.not_equal(first, second), False)).copy()
    if pa.types.is_string(given.type):
        found[found] = _without_zone(pc.utf8_trim(given.filter(pa.array(found)), _QUOTES), form)
    return pa.array(found)


def _without_zone(texts: pa.Array, form: str | None) -> Mask:
    """Which texts are times of a format, or of ISO 8601, that say no zone."""
    found = np.zeros(len(texts), bool)
    for expression in (_ISO, *([pattern(form)] if form else ())):
        parts = pc.extract_regex(texts, expression)
        found |= np.asarray(pc.and_(pc.is_valid(parts), pc.equal(_field(parts, "z"), "")))
    return found


def finer(given: pa.Array, form: str | None = None) -> pa.Array:
    """Which times, as texts or timestamps, have digits that microseconds do not hold."""
    if pa.types.is_timestamp(given.type):
        if given.type.unit != "ns":
            return pa.repeat(False, len(given))
        counts = pc.cast(given, pa.int64())
        return pc.not_equal(pc.multiply(pc.divide(counts, 1000), 1000), counts)
    return pc.match_substring_regex(given, _ANY_FINER if form is None else _FINER.get(form, _FINER["s"]))


def to_dates(texts: pa.Array, form: str | None = None) -> pa.Array:
    """Trimmed texts as dates; null where a text is none. A time at midnight is a date."""
    texts = pc.utf8_trim(texts, _QUOTES)
    micros, known, formed = _by_format(texts, "UTC", form)
    whole, right = _from_parts(pc.extract_regex(texts, _MIDNIGHT), "UTC")
    micros = np.where(formed, micros, whole)
    known = np.where(formed, known & (micros % _DAY == 0), right)
    return pc.cast(pa.array(micros, _LOCAL, mask=~known), pa.date32())


def unit_of(texts: pa.Array, share: float) -> str | None:
    """The unit in which so many of the texts count since 1970, told by their number of digits; None where in none."""
    for unit, form in _COUNTS.items():
        if pc.sum(pc.match_substring_regex(texts, form), min_count=0).as_py() >= share * len(texts):
            return unit
    return None


def _known(right: pa.Array, times: pa.Array) -> pa.Array:
    """Times, null where they are not right."""
    if pc.all(right, min_count=0).as_py():
        return times
    return pc.if_else(pc.fill_null(right, True), times, pa.scalar(None, times.type))


def _mixed(texts: pa.Array, zone: str, form: str | None) -> pa.Array:
    micros, known, formed = _by_format(texts, zone, form)
    if formed.all():
        return pa.array(micros, TIME, mask=~known)
    whole, right = _from_parts(pc.extract_regex(texts, _ISO), zone)
    # never a second way to read what has the column's own form: day and month would be mixed
    micros, known = np.where(formed, micros, whole), np.where(formed, known, right)
    for unit, count in _COUNTS.items() if not np.all(known | np.asarray(pc.is_null(texts))) else ():
        chosen = np.asarray(pc.fill_null(pc.match_substring_regex(texts, count), False)) & ~formed
        if chosen.any():
            micros[chosen], known[chosen] = _counted(texts.filter(pa.array(chosen)), unit)
    return pa.array(micros, TIME, mask=~known)


def _by_format(texts: pa.Array, zone: str, form: str | None) -> tuple[Micros, Mask, Mask]:
    """Microseconds of each text, which are times, and which have the format at all."""
    if form is None:
        return np.zeros(len(texts), np.int64), np.zeros(len(texts), bool), np.zeros(len(texts), bool)
    if form in UNITS:
        formed = np.asarray(pc.fill_null(pc.match_substring_regex(texts, _COUNT), False))
        micros, known = np.zeros(len(texts), np.int64), formed.copy()
        micros[formed], known[formed] = _counted(texts.filter(pa.array(formed)), form)
        return micros, known, formed
    parts = pc.extract_regex(texts, pattern(form))
    micros, known = _from_parts(parts, zone)
    return micros, known, np.asarray(pc.is_valid(parts))


def _counted(texts: pa.Array, unit: str) -> tuple[Micros, Mask]:
    """Counts since 1970 in microseconds, rounded towards 1970, and which of them 64 bits can hold."""
    parts = pc.extract_regex(texts, _COUNT)
    whole = [int(text) for text in _field(parts, "n").to_pylist()]
    if unit == "ns":
        micros = [(abs(count) // 1000) * (-1 if count < 0 else 1) for count in whole]
    else:
        per, digits = _PER_UNIT[unit], len(str(_PER_UNIT[unit])) - 1
        fractions = [int(text[:digits].ljust(digits, "0") or "0") for text in _field(parts, "f").to_pylist()]
        signs = [text.startswith("-") for text in _field(parts, "n").to_pylist()]
        micros = [
            count * per + (-part if sign else part) for count, part, sign in zip(whole, fractions, signs, strict=True)
        ]
    held = np.array([-(1 << 63) <= count < 1 << 63 for count in micros], bool)
    return np.array([count if right else 0 for count, right in zip(micros, held, strict=True)], np.int64), held


def _from_parts(parts: pa.Array, zone: str) -> tuple[Micros, Mask]:
    """Microseconds of the parts of each text, and which texts are times."""
    known = np.asarray(pc.is_valid(parts))
    year, month, day, hour, minute, second = (_numbers(parts, name) for name in "ymdhis")
    if _has(parts, "c"):
        century = _numbers(parts, "c")
        year = century + np.where(century < 69, 2000, 1900)  # as POSIX has it
    if _has(parts, "b"):
        names = pc.utf8_lower(pc.utf8_slice_codeunits(_field(parts, "b"), 0, 3))
        month = np.asarray(pc.fill_null(pc.index_in(names, pa.array(MONTHS)), -1)).astype(np.int64) + 1
    if _has(parts, "p"):
        half = _field(parts, "p")
        halved = np.asarray(pc.not_equal(half, ""))
        known &= ~halved | ((hour >= 1) & (hour <= 12))
        later = np.asarray(pc.starts_with(half, "p", ignore_case=True))
        hour = np.where(halved, hour % 12 + 12 * later, hour)
    fraction = pc.utf8_slice_codeunits(pc.utf8_rpad(_field(parts, "f"), 6, "0"), 0, 6)
    known &= (month >= 1) & (month <= 12) & (day >= 1) & (hour <= 23) & (minute <= 59) & (second <= 59) & (year >= 1)
    months = ((year - 1970) * 12 + np.where(known, month, 1) - 1).astype("M8[M]")
    known &= months.astype("M8[D]") + (day - 1).astype("m8[D]") < (months + 1).astype("M8[D]")
    days = (months.astype("M8[D]").astype(np.int64)) + day - 1
    seconds = ((days * 24 + hour) * 60 + minute) * 60 + second
    micros = np.where(known, seconds * 1_000_000 + np.asarray(pc.cast(fraction, pa.int64())), 0)
    shift, zoned, right = _offsets(_field(parts, "z"))
    local = localised(pa.array(micros, _LOCAL), zone) if zone != "UTC" else pa.array(micros, TIME)
    known &= right & (zoned | np.asarray(pc.is_valid(local)))
    return np.where(zoned, micros - shift, np.asarray(pc.fill_null(pc.cast(local, pa.int64()), 0))), known


def _has(parts: pa.Array, name: str) -> bool:
    return bool(parts.type.get_field_index(name) >= 0)


def _field(parts: pa.Array, name: str) -> pa.Array:
    """A part of each text, empty where there is none."""
    return (
        pc.fill_null(pc.struct_field(parts, name), "")
        if _has(parts, name)
        else pa.array([""] * len(parts), pa.string())
    )


def _numbers(parts: pa.Array, name: str) -> Micros:
    if not _has(parts, name):
        return np.zeros(len(parts), np.int64)
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
