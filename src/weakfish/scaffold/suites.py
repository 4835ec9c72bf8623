"""What to expect of the events, proposed from what all rows hold: numbers and values as data, code in a template.

Bounds hold for the rows that they were proposed from and leave room for more; what may well change only warns.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from weakfish.project.params import Name, Section
from weakfish.scaffold.survey import ColumnFacts

EARLIEST, LATEST = 1971, 2100
"""Years; event times outside are those of a clock that was not set, or of another unit."""

FIRST, LAST = 1678, 2262
"""Years that a time can have at all: the bounds where events are so old, or so far ahead."""

FEW = 0.05
"""The share of rows outside of bounds up to which these rows are wrong, and not the bounds."""

FEW_VALUES = 30
"""Different values up to which a column of short texts is one of categories."""

SHORT = 60
"""Characters of a category."""

HUGE = 1 << 62
"""Whole numbers from which on a bound would have no place in 64 bits."""


class ColumnSuite(Section):
    """What to expect of a column; what is null is not expected.

    ``present`` is the share of rows with a value, ``least`` and ``greatest`` bound numbers, ``values`` are categories,
    ``longest`` bounds the characters of a text.
    """

    name: Name
    present: float | None = None
    least: int | float | None = None
    greatest: int | float | None = None
    values: tuple[str, ...] | None = None
    longest: int | None = None


class Suite(Section):
    """What to expect of the events.

    ``earliest`` and ``latest`` bound event times and are null where there are none. ``key_length`` bounds the
    characters of a key. ``max_quarantined_share`` lets the rows through that are known to fail critical checks, and
    some more.
    """

    rows: int
    earliest: str | None
    latest: str | None
    key_length: int | None
    max_quarantined_share: float
    columns: tuple[ColumnSuite, ...]


def measure(
    sample: pa.Table, *, key: str, time: str | None, facts: Sequence[ColumnFacts], key_repeats: int = 0
) -> Suite:
    """Propose what to expect.

    Parameters
    ----------
    sample
        Rows spread over all; only values that are looked up by share come from it.
    key, time
        Columns of the events; ``time`` is None where no column holds times.
    facts
        What each column holds, in all rows; the made ones are not among them.
    key_repeats
        Rows whose key stood before.
    """
    by_name = {column.name: column for column in facts}
    rows = max((column.rows for column in facts), default=sample.num_rows)
    earliest, latest, strange = _times(sample, time)
    undated = by_name[time].nulls if time in by_name else 0
    keyless = by_name[key].nulls if key in by_name else 0
    longest = by_name[key].longest if key in by_name else None
    return Suite(
        rows=rows,
        earliest=earliest,
        latest=latest,
        key_length=2 * longest if longest else None,
        max_quarantined_share=_quarantined((undated + keyless + 2 * key_repeats) / max(rows, 1) + strange),
        columns=tuple(_column(column, sample.num_rows) for column in facts if column.name not in (key, time)),
    )


def _times(sample: pa.Table, time: str | None) -> tuple[str | None, str | None, float]:
    """Bounds of event times, and the share of rows outside; wider ones where more than a few rows are outside."""
    if time is None:
        return None, None, 0.0
    years = pc.year(sample[time].drop_null())
    rows = max(sample.num_rows, 1)
    early = (pc.sum(pc.less(years, EARLIEST)).as_py() or 0) / rows
    late = (pc.sum(pc.greater_equal(years, LATEST)).as_py() or 0) / rows
    first = FIRST if early > FEW else EARLIEST
    last = LAST if late > FEW else LATEST
    strange = sum(share for share in (early, late) if share <= FEW)
    return f"{first}-01-01T00:00:00+00:00", f"{last}-01-01T00:00:00+00:00", strange


def _quarantined(failing: float) -> float:
    """The usual limit, or the share of rows that fail today and a quarter more."""
    return 0.05 if failing <= 0.04 else min(1.0, math.ceil(125 * failing + 1) / 100)


def _column(column: ColumnFacts, sampled: int) -> ColumnSuite:
    share = 1 - column.null_share
    present = 0.99 if not column.nulls else math.floor(100 * (share - max(0.05, 0.1 * share))) / 100
    least, greatest = _bounds(column)
    values = _values(column, sampled)
    longest = None if values or not column.longest else _outwards(2 * column.longest)
    return ColumnSuite(
        name=column.name,
        present=present if present > 0 else None,
        least=least,
        greatest=greatest,
        values=values,
        longest=None if longest is None else int(longest),
    )


def _bounds(column: ColumnFacts) -> tuple[int | float | None, int | float | None]:
    """Half as far again as the numbers go; nothing below 0 where there is nothing."""
    least, greatest = column.least, column.greatest
    if not isinstance(least, int | float) or not isinstance(greatest, int | float):  # those of times are texts
        return None, None
    room = (greatest - least) / 2 or abs(greatest) or 1
    low, high = (0 if least >= 0 else -_outwards(room - least)), _outwards(greatest + room)
    if column.kind == "number":
        return float(low), float(high)
    return (int(low) if -low < HUGE else None), (int(high) if high < HUGE else None)


def _outwards(number: float) -> float:
    """The next number of two digits away from 0, or towards it where the number is below."""
    if not number:
        return number
    step = 10.0 ** (math.floor(math.log10(abs(number))) - 1)
    return float(f"{math.ceil(number / step) * step:.3g}")


def _values(column: ColumnFacts, sampled: int) -> tuple[str, ...] | None:
    """The categories of a column that has few, in the order of letters."""
    known = [value for value, _ in column.frequent]
    few = column.distinct == len(known) <= min(FEW_VALUES, sampled / 10)
    if column.kind != "string" or not known or not few or (column.longest or 0) > SHORT:
        return None
    return tuple(sorted(known))
