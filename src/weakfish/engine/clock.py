"""Which event times are plausible: neither later than now nor far beyond the rest, as those of a wrong clock are."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import ibis.expr.types as ir
import numpy as np
import numpy.typing as npt

from weakfish.contracts.record import microseconds, moment
from weakfish.contracts.tables import TIME
from weakfish.engine.duckdb import Engine

SKEW = timedelta(minutes=5)
"""How far clocks may be ahead of this one."""

FEW = 0.01
"""The largest share of rows, at either end, that may be those of wrong clocks; one row always may."""

ENOUGH = 30
"""Rows that it takes to say what is far beyond them."""

GAP = timedelta(days=30)
"""The least time without events behind which a few rows are far beyond the rest."""

TIMES_USUAL = 10
"""How many times the longest such time among the rest it must be, too."""

Micros = npt.NDArray[np.int64]


def last_plausible(engine: Engine, events: ir.Table, time: str, now: datetime | None = None) -> datetime | None:
    """The last event time that is plausible; None where no event has one.

    Not plausible are times later than ``now``, and those of a few rows that come after a gap which is longer than half
    the time that all other rows span, than `GAP`, and than any usual gap. Only days are looked at, so memory does not
    depend on the number of rows.
    """
    until = moment(microseconds(now or datetime.now(UTC)) + SKEW // timedelta(microseconds=1))
    past = events.filter(events[time] <= until)
    at = past[time]
    days = past.group_by(day=at.truncate("D")).aggregate(first=at.min(), last=at.max(), rows=past.count())
    found = engine.run(days.order_by("day"))
    if not found.num_rows:
        return None
    firsts, lasts = (found[name].cast(TIME).cast("int64").to_numpy() for name in ("first", "last"))
    return moment(int(lasts[_end(firsts, lasts, found["rows"].to_numpy()) - 1]))


def _end(firsts: Micros, lasts: Micros, rows: Micros) -> int:
    """How many of the days, in order, are not far beyond those before them."""
    until = np.cumsum(rows)
    total = int(until[-1])
    few = max(1, int(FEW * total))
    gaps = firsts[1:] - lasts[:-1]
    start = int(np.searchsorted(until, few, "right"))  # the first rows may be those of a clock that was not set
    for end in range(max(start, int(np.searchsorted(until, total - few))) + 1, len(rows)):
        usual = int(gaps[start : end - 1].max(initial=0))
        span = int(lasts[end - 1] - firsts[start])
        least = max(GAP // timedelta(microseconds=1), span // 2, TIMES_USUAL * usual)
        if until[end - 1] >= ENOUGH and gaps[end - 1] > least:
            return end
    return len(rows)
