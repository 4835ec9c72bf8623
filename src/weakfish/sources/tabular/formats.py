"""How a column writes times, dates and decimals, told from its texts; day and month are told apart by evidence."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from weakfish.sources.tabular.times import to_dates, to_times

GOOD = 0.99
"""The share of a column's values that have to be of a type."""

MOSTLY = 0.9
"""The share of a column's values that have a form of which a person is told."""

_NUMERIC = (
    r"^(?P<first>\d{1,2})(?P<mark>[./-])(?P<second>\d{1,2})(?P<again>[./-])(?P<year>\d{4}|\d{2})"
    r"(?:(?P<gap>,? +|T)(?P<hour>\d{1,2}):\d{2}(?P<seconds>:\d{2}(?:[.,]\d{1,9})?)?(?P<half> ?[AaPp]\.?[Mm]\.?)?"
    r"(?P<zone> ?(?:Z|UTC|GMT|[+-]\d{2}:?\d{2}))?)?$"
)
_NAMED = (
    "%d/%b/%Y:%H:%M:%S %z",
    "%a %b %d %H:%M:%S %z %Y",
    "%a %b %d %H:%M:%S %Y",
    "%a, %d %b %Y %H:%M:%S %z",
    "%a, %d %b %Y %H:%M:%S",
    "%d %b %Y %H:%M:%S",
    "%d %b %Y, %H:%M:%S",
    "%d %b %Y %I:%M:%S %p",
    "%d-%b-%Y %H:%M:%S",
    "%d-%b-%Y %I:%M:%S %p",
    "%d-%b-%y %H:%M:%S",
    "%d-%b-%y %I:%M:%S %p",
    "%b %d, %Y %H:%M:%S",
    "%b %d, %Y %I:%M:%S %p",
    "%b %d, %Y, %I:%M:%S %p",
    "%b %d %Y %H:%M:%S",
    "%b %d %Y %I:%M:%S%p",
)
_PACKED = {8: "%Y%m%d", 14: "%Y%m%d%H%M%S"}
_FEW = 50


@dataclass(frozen=True)
class TimeFormat:
    """The format of a column, as of ``strftime``, and whether it holds times or dates.

    ``other`` is the format with day and month swapped, where no text tells which comes first; then ``sample`` is one
    that can be either. ``conflict`` says that texts of both orders are there; they are no times then.
    """

    form: str
    kind: Literal["time", "date"]
    other: str | None = None
    sample: str = ""
    conflict: bool = False

    @property
    def usual(self) -> bool:
        """Whether day and month have one order only wherever such dates are written: with dots, the day is first."""
        return self.form.startswith("%d.")


@dataclass
class Order:
    """How many texts only a day in the first place can explain, and how many only a month."""

    day_first: int = 0
    month_first: int = 0

    def add(self, texts: pa.Array) -> None:
        """Count in more texts."""
        parts = pc.extract_regex(pc.utf8_trim(texts.drop_null(), " \t\"'[]"), _NUMERIC).drop_null()
        first, second = (np.asarray(pc.cast(pc.struct_field(parts, name), pa.int64())) for name in ("first", "second"))
        self.day_first += int(np.count_nonzero((first > 12) & (second <= 12)))
        self.month_first += int(np.count_nonzero((second > 12) & (first <= 12)))

    @property
    def known(self) -> bool:
        """Whether there is any evidence."""
        return self.day_first + self.month_first > 0


def told(texts: pa.Array, *, named: bool) -> TimeFormat | None:
    """The format of trimmed texts; None where they are of none, or of one that needs no telling.

    ``named`` says that the column's name is one of times: then numbers such as 20240531 may be dates.
    """
    texts = pc.utf8_trim(texts, " \t\"'[]")
    some = texts.slice(0, _FEW)
    if pc.sum(pc.match_substring_regex(some, _NUMERIC), min_count=0).as_py() * 2 > len(some):
        return _numeric(texts)
    candidates: Iterable[str] = _NAMED
    if named and pc.all(pc.match_substring_regex(some, r"^(?:19|20)\d{6}(?:\d{6})?$")).as_py():
        candidates = [_PACKED[len(some[0].as_py())]]
    for form in candidates:
        if _misfits(some, form, "time") * 2 < len(some) and (found := _fitting(texts, form)):
            return found
    return None


def _numeric(texts: pa.Array) -> TimeFormat | None:
    parts = pc.extract_regex(texts, _NUMERIC).drop_null()
    if len(parts) < GOOD * len(texts):
        return None
    seen = {name: pc.struct_field(parts, name) for name in ("mark", "year", "gap", "seconds", "half", "zone")}
    mark = _usual(seen["mark"])
    year = "%Y" if len(_usual(seen["year"])) == 4 else "%y"
    form = f"%d{mark}%m{mark}{year}"
    if gap := _usual(seen["gap"]):
        hour, half = ("%I", "%p") if (said := _usual(seen["half"])) else ("%H", "")
        seconds = ":%S" if _usual(seen["seconds"]) else ""
        zone = " %z" if (there := _usual(seen["zone"])).startswith(" ") else "%z" if there else ""
        form += f"{gap}{hour}:%M{seconds}{' ' * said.startswith(' ')}{half}{zone}"
    swapped = f"%m{mark}%d{form[5:]}"
    order = Order()
    order.add(texts)
    if min(order.day_first, order.month_first) > (1 - GOOD) * len(texts):
        return TimeFormat(form, "time", swapped, conflict=True)
    chosen = swapped if order.month_first > order.day_first else form
    found = _fitting(texts, chosen)
    if found is None or order.known:
        return found
    return TimeFormat(
        found.form, found.kind, swapped if found.kind == "time" else f"%m{mark}%d{mark}{year}", texts[0].as_py()
    )


def _usual(texts: pa.Array) -> str:
    """The most frequent text that is not empty."""
    counts = pc.value_counts(texts.filter(pc.not_equal(texts, "")))
    return min(counts.to_pylist(), key=lambda each: (-each["counts"], each["values"]))["values"] if len(counts) else ""


def _fitting(texts: pa.Array, form: str) -> TimeFormat | None:
    """The format, as one of times or dates, if the texts have it."""
    if not pc.any(pc.match_substring_regex(texts, r"\d:\d{2}|^\d{14}$")).as_py():
        date = re.sub(r"(%[YymbdB])[^%]+%[HI].*", r"\1", form)
        if _misfits(texts, date, "date") <= (1 - GOOD) * len(texts):
            return TimeFormat(date, "date")
    return TimeFormat(form, "time") if _misfits(texts, form, "time") <= (1 - GOOD) * len(texts) else None


def _misfits(texts: pa.Array, form: str, kind: str) -> int:
    found = to_dates(texts, form) if kind == "date" else to_times(texts, "UTC", form)
    return int(found.null_count)


_COMMA = r"^\s*[+-]?(?:\d{1,3}(?:[. '\x{a0}\x{202f}]\d{3})+|\d+)(?:,\d*)?\s*$"
_POINT = r"^\s*[+-]?\d+(?:\.\d*)?\s*$"
_SURE = r"{}(?:\d{{1,2}}|\d{{4,}})\s*$"
"""Three digits may be thousands."""


def with_point(texts: pa.Array) -> pa.Array:
    """Texts, those of numbers with a decimal comma with a point instead, and without marks between thousands."""
    pointed = pc.replace_substring(pc.replace_substring_regex(texts, r"[. '\x{a0}\x{202f}]", ""), ",", ".")
    return pc.if_else(pc.fill_null(pc.match_substring_regex(texts, _COMMA), False), pointed, texts)


def ungrouped(texts: pa.Array, mark: str | None) -> pa.Array:
    """Texts, those of numbers with a mark before each three digits (with a point before decimals) without it."""
    if mark is None:
        return texts
    marks = r"[ \x{a0}\x{202f}]" if mark == " " else mark
    whole = pc.match_substring_regex(texts, rf"^\s*[+-]?\d{{1,3}}(?:{marks}\d{{3}})+(?:\.\d*)?\s*$")
    if not pc.any(whole, min_count=0).as_py():
        return texts
    return pc.if_else(pc.fill_null(whole, False), pc.replace_substring_regex(texts, marks, ""), texts)


_PLAIN_NUMBER = r"[+-]?\d+(?:\.\d+)?"
_GROUPED = r"[+-]?\d{1,3}(?:(?:,\d{3})+|(?:'\d{3})+|(?:[ \x{a0}\x{202f}]\d{3})+)(?:\.\d+)?"
_SIGN = r"(?:\p{Sc}|USD|EUR|GBP|CHF|JPY|CNY|INR|RUB|KZT)"
_AMOUNT = r"[+-]?\d[\d.,' \x{a0}\x{202f}]*"
_WITH_SIGN = rf"[+-]?{_SIGN} ?{_AMOUNT}|{_AMOUNT}(?:%|{_SIGN})"
FORMS = {
    "grouped": rf"^(?:{_PLAIN_NUMBER}|{_GROUPED})$",
    "signed": rf"^(?:{_PLAIN_NUMBER}|{_WITH_SIGN})$",
    "nested": r"(?s)^[\[{].*[\]}]$",
    "digits": r"^\+?\d[\d ]*$",
}
"""Forms of texts that are no words: numbers with separators, with signs of percent or money; lists and maps; digits."""


def form_of(texts: pa.Array) -> tuple[str | None, str]:
    """The form of trimmed texts, as in `FORMS`, and a text that is of it; None where they are of none."""
    for name, form in FORMS.items():
        telling = {"grouped": f"^{_GROUPED}$", "signed": f"^(?:{_WITH_SIGN})$"}.get(name, form)
        found = texts.filter(pc.match_substring_regex(texts, telling))
        if len(found) and pc.sum(pc.match_substring_regex(texts, form)).as_py() >= MOSTLY * len(texts):
            return name, found[0].as_py()
    return None, ""


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
