"""What a column of a sample holds and which part it may have, each with a reason."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.compute as pc

from weakfish.contracts.record import UNITS
from weakfish.project.params import MOST_CLASSES
from weakfish.sources.tabular.formats import GOOD, Order, TimeFormat, decimal_mark, form_of, told
from weakfish.sources.tabular.settings import Conversion, Kind
from weakfish.sources.tabular.times import unit_of
from weakfish.sources.tabular.types import NOT_TEXT, convert, inexact, leads_with_zero

NULLS = ("NULL", "null", "NA", "N/A", "n/a", "NaN", "nan", "None", "none", "\\N", "#N/A", "-", "?")
"""Texts that often stand for null; they are taken so in a column whose other values have a type, and nowhere else."""

NO_LABELS = tuple(word for word in NULLS if word.casefold() != "none")
"""Those that are no class in a column of labels; ``none`` may well be one."""

_KEY = re.compile(r"(^|_)(id|uuid|guid|key|number|no)$|id$")
_TIME = re.compile(r"(^|_)(at|time|timestamp|date|datetime|created|when|ts|day)($|_)|^(time|date)|(time|date|stamp)$")
_LABEL = re.compile(r"(^|_)(label|class|category|target|outcome|verdict|gold|truth|y)($|_)|^is_")
_ENTITY = re.compile(
    r"(^|_)(id|user|customer|account|client|device|host|ip|merchant|card|seller|author|domain|key)$|id$"
)
_KINDS: tuple[Kind, ...] = ("integer", "number", "date", "time")
PLAIN = Conversion()
_UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
_WORD = rf"[{_UNSPACED}]{{1,3}}|[^\s{_UNSPACED}]+"
"""A word; of scripts that put no spaces between words, as much as a word of theirs usually has."""

_ID_LIKE = r"^[\w:./@#+-]+$"

FEW = 20
"""Rows below which nothing follows from values that differ, unless the column's name or place says that it is an id."""

COLLISIONS = 5
"""Rows that random numbers of the column's range would be expected to share, from which on unique ones are ids."""


NAME, LONG_NAME = 5, 60
"""The most words and characters, on average, of texts that name something."""


@dataclass(frozen=True)
class SampledColumn:
    """A column of the sample.

    ``header`` is its name in the files, ``distinct`` counts values in the sample, ``null_values`` are the texts that
    stand for null in it, ``null_words`` those that might. ``format`` is that of times and dates which need one.
    ``identifies`` says that its values tell rows apart, and nothing else. ``shape`` is the form of texts that are no
    words, as in `formats.FORMS`. ``notes`` tell of values that its kind changes, or does not read.
    """

    name: str
    header: str
    kind: Kind
    values: int
    nulls: int
    distinct: int
    length: float
    words: float
    null_values: tuple[str, ...]
    reason: str
    null_words: tuple[str, ...] = ()
    format: TimeFormat | None = None
    identifies: bool = False
    shape: str | None = None
    notes: tuple[str, ...] = ()

    def ordered(self, order: Order) -> SampledColumn:
        """The column with day and month in the order that other rows tell."""
        if self.format is None or self.format.other is None:
            return self
        form = self.format.other if order.month_first > order.day_first else self.format.form
        reason = self.reason.replace(self.format.form, form)
        return replace(self, format=TimeFormat(form, self.format.kind), reason=reason)


@dataclass(frozen=True)
class Choice:
    """A column for a role, and why; ``sure`` says that its name suggests the role, too."""

    column: str
    reason: str
    sure: bool = False


def describe(name: str, header: str, texts: pa.Array, stated: Kind | None = None) -> SampledColumn:
    """Judge a column of texts; ``stated`` is what the files themselves say of its kind."""
    readable = texts.drop_null()
    given = readable.filter(pc.invert(pc.match_substring(readable, NOT_TEXT)))
    known = given.filter(pc.invert(pc.is_in(pc.utf8_trim_whitespace(given), pa.array(["", *NULLS]))))
    kind, reason, form = _kind(name, pc.utf8_trim_whitespace(known))
    shape, sample = form_of(pc.utf8_trim_whitespace(known))
    remarks = list(_remarks(name, kind, stated, known, shape, sample))
    if stated == "string" and kind in ("integer", "number"):
        kind, reason, form = stated, "it is text in the files themselves", None
    elif stated not in (None, "string") and kind != stated:
        kind, reason, form = stated, f"its type is that of {_PLURAL.get(stated, stated)}", None
    present = set(pc.unique(pc.utf8_trim_whitespace(given)).to_pylist())
    words = tuple(text for text in NULLS if text in present)
    if kind == "string":
        known = given.filter(pc.not_equal(given, ""))
    found = SampledColumn(
        name=name,
        header=header,
        kind=kind,
        values=len(known),
        nulls=len(texts) - len(known),
        distinct=pc.count_distinct(known).as_py(),
        length=pc.mean(pc.utf8_length(known)).as_py() or 0.0,
        words=pc.mean(pc.count_substring_regex(known, _WORD)).as_py() or 0.0,
        null_values=() if kind == "string" else words,
        null_words=words,
        reason=reason,
        format=form,
        shape=shape if kind == "string" else None,
        notes=(*_changes(name, kind, known, words, len(readable) - len(given)), *remarks),
    )
    return replace(found, identifies=_identifies(found, known))


def _changes(name: str, kind: Kind, known: pa.Array, words: Sequence[str], unreadable: int) -> Iterator[str]:
    """What to say of values of a column that are not kept as they are written."""
    if unreadable:
        yield f"Column {name} has {unreadable:,} values that are no text; they become null (--leave-out {name})."
    if kind != "string" and words:
        means = "mean" if len(words) > 1 else "means"
        yield f"In column {name} {', '.join(map(repr, words))} {means} null."
    if kind == "number":
        numbers = convert(known, kind, PLAIN).values
        first: dict[float, str] = {}
        for text, number in zip(known.to_pylist(), numbers.to_pylist(), strict=True):
            if number is not None and first.setdefault(number, text).strip() != text.strip():
                yield (
                    f"In column {name} {first[number]!r} and {text!r} become the same number; --type {name}=string "
                    "keeps them apart."
                )
                return


def _remarks(
    name: str, kind: Kind, stated: Kind | None, known: pa.Array, shape: str | None, sample: str
) -> Iterator[str]:
    """What to say of texts that a person may take for numbers."""
    if stated == "string" and kind in ("integer", "number"):
        yield (
            f"Column {name} is text in the files and stays text, as {known[0].as_py()[:40]!r}; --type {name}={kind} "
            "reads numbers."
        )
    elif shape == "grouped":
        mark = next(mark for mark in ",' \xa0\u202f" if mark in sample)
        flag = f"--thousands {mark if mark in ',' else chr(34) + mark + chr(34) if mark == chr(39) else 'space'}"
        yield f"Column {name} has numbers with separators, such as {sample[:40]!r}; {flag} reads them as numbers."
    elif shape == "signed":
        comma = decimal_mark([pc.replace_substring_regex(known, "[^0-9.,+-]", "")]) == ","
        digits = "re_replace('[^0-9,-]', '').replace(',', '.')" if comma else "re_replace('[^0-9.-]', '')"
        yield (
            f"Column {name} stays text, for values such as {sample[:40]!r} are no plain numbers; take their signs off "
            f"in the files, or in functions: events.{name}.{digits}.try_cast('float64')."
        )


def _kind(name: str, known: pa.Array) -> tuple[Kind, str, TimeFormat | None]:
    if not len(known):
        return "string", "it has no values in the sample", None
    distinct = set(pc.unique(pc.utf8_lower(known)).to_pylist())
    if distinct <= {"true", "false", "t", "f", "yes", "no", "y", "n"}:
        return "boolean", f"its values are {', '.join(sorted(distinct))}", None
    named = bool(_TIME.search(name))
    for kind in _KINDS:
        bad = _misfits(known, kind)
        if bad > (1 - GOOD) * len(known):
            continue
        if kind in ("integer", "number"):
            if named and (unit := unit_of(known, GOOD)):
                return "time", f"its values are {UNITS[unit]} since 1970", TimeFormat(unit, "time")
            if named and (form := told(known, named=True)):
                return form.kind, f"its values are {_PLURAL[form.kind]} as {form.form}", form
            if pc.any(leads_with_zero(known)).as_py():
                return "string", "some of its values begin with a zero, which a number would lose", None
            if pc.any(inexact(known, kind)).as_py():
                return "string", "some of its values have more digits than a number can hold", None
        but = f", {bad} of {len(known):,} are not and become null" if bad else ""
        return kind, f"its values are {_PLURAL[kind]}{but}", None
    return _of_format(known, named)


_PLURAL = {"integer": "whole numbers", "number": "numbers", "date": "dates", "time": "times"}


def _of_format(known: pa.Array, named: bool) -> tuple[Kind, str, TimeFormat | None]:
    """Times or dates of a format of their own, perhaps beside ISO ones; else text."""
    others = known.filter(convert(known, "time", PLAIN).bad)
    form = told(others, named=named)
    if form is not None and form.conflict:
        return "string", "day and month stand in both orders, so no format fits; correct the files", None
    if form is not None:
        kind = form.kind if len(others) == len(known) else "time"
        bad = pc.sum(convert(known, kind, Conversion(time_format=form.form)).bad).as_py()
        but = f", {bad} of {len(known):,} are not and become null" if bad else ""
        if bad <= (1 - GOOD) * len(known):
            return kind, f"its values are {_PLURAL[kind]} as {form.form}{but}", replace(form, kind=kind)
    counts = pc.value_counts(known)
    often = min(zip(pc.negate(counts.field(1)).to_pylist(), counts.field(0).to_pylist(), strict=True))
    return "string", f"its values are of no other type, as {often[1][:40]!r}", None


def _misfits(known: pa.Array, kind: Kind) -> int:
    """How many values are not of a kind."""
    bad: int = pc.sum(convert(known, kind, PLAIN).bad).as_py()
    return bad


def _identifies(column: SampledColumn, known: pa.Array) -> bool:
    """Whether values that are all different are no measure and no text, but what tells rows apart."""
    if column.nulls or column.values < 2 or column.distinct < column.values or is_text(column):
        return False
    if _KEY.search(column.name):
        return column.kind in ("string", "integer")
    if column.values < FEW:
        return False
    if column.kind == "string":
        return bool(pc.all(pc.match_substring_regex(known, _ID_LIKE)).as_py())
    if column.kind != "integer":
        return False
    ends = pc.min_max(convert(known, "integer", PLAIN).values)
    least, greatest = ends["min"].as_py(), ends["max"].as_py()
    return bool(least >= 10**9 or column.values**2 >= 2 * COLLISIONS * (greatest - least + 1))


def key_choice(columns: list[SampledColumn]) -> Choice | None:
    """The column that tells rows apart: no nulls, (nearly) no value twice, and a name, place or form that says so."""
    found = []
    for place, column in enumerate(columns):
        twice, named = column.values - column.distinct, bool(_KEY.search(column.name))
        usable = column.kind in ("string", "integer") and column.values and not column.nulls and not is_text(column)
        said = named or place == 0 or column.identifies
        if usable and said and (not twice or (named and twice <= 0.01 * column.values)):
            found.append((bool(twice), not named, place, column.name, f"{twice} of {column.values:,}"))
    if not found:
        return None
    twice, unnamed, _, name, repeats = min(found)
    if twice:
        return Choice(name, f"none is missing; {repeats} stand there again, checks will tell", sure=True)
    return Choice(name, "no value is missing and none repeats", sure=not unnamed)


def time_choice(columns: list[SampledColumn]) -> Choice | None:
    """The column of event times: times before dates, names that say so first, fewer nulls before more."""
    found = [column for column in columns if column.kind in ("time", "date")]
    if not found:
        return None
    column = min(found, key=lambda each: (each.kind != "time", not _TIME.search(each.name), each.nulls))
    return Choice(column.name, f"{column.reason}, and {_share(column.values, column.nulls)}")


def _share(values: int, nulls: int) -> str:
    """How many rows have a value; neither 0 nor 100 % unless it is none or all."""
    if not nulls:
        return "all rows have one"
    share = values / (values + nulls)
    if share >= 0.995:
        return f"all rows but {nulls:,} have one"
    return f"{share:.0%} of rows have one" if share >= 0.005 else f"{values:,} rows have one"


def is_text(column: SampledColumn) -> bool:
    """Whether a column holds running text: the longer its texts, the more often they may come back."""
    return (
        column.kind == "string"
        and column.shape is None
        and column.words >= 3
        and column.distinct > max(50, 0.6 * column.values / column.words)
    )


def _is_name(column: SampledColumn, *, named: bool) -> bool:
    """Whether texts may name something: no list, amount or sentence, and digits only in a column of such a name."""
    plain = column.shape is None or (column.shape == "digits" and named)
    return column.kind == "string" and plain and column.words <= NAME and column.length <= LONG_NAME


def text_choices(columns: list[SampledColumn], taken: set[str]) -> tuple[Choice, ...]:
    """Columns of running text, the longest first."""
    found = [column for column in columns if column.name not in taken and is_text(column)]
    return tuple(
        Choice(c.name, f"{c.words:.0f} words and {c.length:.0f} characters on average, {c.distinct:,} texts")
        for c in sorted(found, key=lambda column: (-column.length, column.name))
    )


def label_choices(columns: list[SampledColumn], taken: set[str]) -> tuple[Choice, ...]:
    """Columns of two values or more that may be classes, those whose name says so first; others of at most fifty.

    What is named as a question may be any fact, and is surely a label only where it is not known of some rows.
    """
    found = []
    for column in columns:
        named = bool(_LABEL.search(column.name))
        right = column.kind == "boolean" or (column.kind == "integer" and named) or _is_name(column, named=named)
        if (
            column.name not in taken
            and right
            and 2 <= column.distinct <= min(MOST_CLASSES if named else 50, max(column.values // 2, 2))
        ):
            unknown = column.nulls > 0 or bool(column.null_words)
            sure = named and (unknown or not column.name.startswith("is_"))
            reason = f"it has {column.distinct} values" + (", and its name says so" if sure else "")
            found.append((not named, column.distinct, Choice(column.name, reason, sure)))
    return tuple(choice for *_, choice in sorted(found, key=lambda each: (*each[:2], each[2].column)))


def entity_choices(columns: list[SampledColumn], taken: set[str]) -> tuple[Choice, ...]:
    """Columns whose values come back and are many: what rows are about, those whose name says so first."""
    found: dict[bool, list[Choice]] = {True: [], False: []}
    for column in columns:
        named = bool(_ENTITY.search(column.name))
        right = (column.kind == "integer" and named) or _is_name(column, named=named)
        many = column.distinct >= (2 if named else 20)
        back = 1.05 if named else 1.5  # where there are many, few come back in a sample
        if column.name not in taken and right and many and column.values >= back * column.distinct:
            rows = column.values / column.distinct
            found[named].append(Choice(column.name, f"{column.distinct:,} values, each on {rows:.1f} rows on average"))
    return (*found[True], *found[False])
