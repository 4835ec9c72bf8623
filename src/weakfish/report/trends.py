"""Small pictures of a check: its trend as a line, and its value beside its limit as a bar. Data in, markup out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING

from markupsafe import Markup

from weakfish.contracts.tables import UNDATED
from weakfish.contracts.verdicts import Check
from weakfish.report.charts import Scale, el, line, linear, path, picture, rect, text
from weakfish.report.findings import bad_above, tolerated
from weakfish.report.words import count, figure, percent

if TYPE_CHECKING:
    from weakfish.checks.baseline import Accepted, AcceptedCheck


LAST, LAST_SMALL = 60, 36
"""Points that a trend goes back, at most: large, and in a row of a table."""

TALL, LONG = 84, 340
LOW, THIN = 20, 96


def trend(title: str, shown: Trend) -> Markup:
    """A trend with its extremes, its first and last name, and its limit as a dashed line; bad points stand out."""
    points = shown.points[-LAST:]
    left, right, top, bottom = 4.0, LONG - 76.0, 8.0, TALL - 24.0
    x, y = linear(0, max(len(points) - 1, 1), left, right), _height(points, shown.limit, bottom, top)
    drawn = [line(left, bottom, right, bottom, "base")]
    if shown.limit is not None:
        drawn.append(line(left, y(shown.limit), right, y(shown.limit), "limit"))
    drawn.append(path([(x(place), y(point.value)) for place, point in enumerate(points)], "line s1 solid"))
    for place, point in enumerate(points):
        says = f"{point.name}: {shown.say(point.value)}{', does not hold' if point.bad else ''}"
        class_ = "point bad" if point.bad else "point"
        drawn.append(el("circle", el("title", says), cx=x(place), cy=y(point.value), r=3, class_=class_))
    last = points[-1]
    drawn.append(text(right + 10, _beside(y(last.value)), shown.say(last.value), "value"))
    if shown.limit is not None and abs(y(shown.limit) - y(last.value)) > 14:
        drawn.append(text(right + 10, _beside(y(shown.limit)), f"limit {shown.say(shown.limit)}", "axis"))
    drawn.append(text(left, TALL - 6, points[0].name, "axis"))
    if len(points) > 1:
        drawn.append(text(right, TALL - 6, last.name, "axis", "end"))
    return picture(f"{title}, {shown.sentence}", LONG, TALL, *drawn, class_="spark large")


def small(title: str, shown: Trend) -> Markup:
    """A trend for a row of a table: a line, bad points on it, and the limit."""
    points = shown.points[-LAST_SMALL:]
    x, y = linear(0, max(len(points) - 1, 1), 3, THIN - 3), _height(points, shown.limit, LOW - 3, 3)
    drawn = [] if shown.limit is None else [line(0, y(shown.limit), THIN, y(shown.limit), "limit")]
    drawn.append(path([(x(place), y(point.value)) for place, point in enumerate(points)], "line"))
    alone = len(points) == 1
    bad = [(x(place), y(point.value)) for place, point in enumerate(points) if point.bad]
    drawn += [_marks(bad, "marks bad")] if bad else [_marks([(x(0), y(points[0].value))], "marks")] if alone else []
    label = f"{title}, {shown.sentence}"
    # The name alone says it: a title as well would double the bytes of a page with hundreds of these.
    return el("svg", *drawn, viewBox=f"0 0 {THIN} {LOW}", role="img", aria_label=label, class_="spark")


def against(value: float, limit: float, most: float, bad: bool) -> Markup:
    """A value as a bar up to ``most``, and a tick at its limit; beside the number, so hidden from screen readers."""
    x = linear(0, max(most, 2 * limit), 0, 120)
    parts = rect(0, 2, 120, 6, "track"), rect(0, 2, x(value), 6, f"fill {'warned' if bad else ''}".strip())
    tick = line(x(limit), 0, x(limit), 10, "tick")
    return el("svg", *parts, tick, viewBox="0 0 120 10", preserveAspectRatio="none", class_="bar", aria_hidden="true")


def _marks(points: Sequence[tuple[float, float]], class_: str) -> Markup:
    """Dots as one path of lines without length, whose round ends show: a tenth of the bytes of as many circles."""
    return el("path", d="".join(f"M{x:.1f} {y:.1f}h0" for x, y in points), class_=class_)


def _height(points: Sequence[Point], limit: float | None, bottom: float, top: float) -> Scale:
    """From zero, or from the lowest value where zero is far off, to the highest; the limit is within."""
    values = [point.value for point in points] + ([] if limit is None else [limit])
    low, high = min(values), max(values)
    if low >= 0 and (low < high / 2 or low == high):
        low = 0.0
    return linear(low, high if high > low else low + 1, bottom, top)


def _beside(y: float) -> float:
    """The baseline of a text beside a point, within the picture."""
    return min(max(y + 4, 12), TALL - 24)


NAMED = 4
"""Partitions in which a check did not hold that are named; of more, the first and the last."""

NOW = "now"
"""The name of the last point of a trend over revisions."""


@dataclass(frozen=True)
class Point:
    """The check's value in one partition or revision; ``bad``: it did not hold there."""

    name: str
    value: float
    bad: bool


@dataclass(frozen=True)
class Trend:
    """A check's values, oldest first.

    ``limit`` is from where on it does not hold, None where it has none; ``as_shares`` says that values are shares.
    """

    points: Sequence[Point]
    limit: float | None
    as_shares: bool

    def say(self, value: float) -> str:
        """A value of it in words."""
        return percent(value) if self.as_shares else figure(value)

    @property
    def sentence(self) -> str:
        """What the picture of it shows, for those who do not see it."""
        first, last = self.points[0], self.points[-1]
        low, high = (pick(self.points, key=lambda point: point.value) for pick in (min, max))
        if first is last:
            return f"{first.name}: {self.say(first.value)}"
        extent = f"{first.name} to {last.name}: {self.say(first.value)} to {self.say(last.value)}"
        return f"{extent}, lowest {self.say(low.value)} in {low.name}, highest {self.say(high.value)} in {high.name}"


def over_partitions(check: Check) -> Trend | None:
    """The trend over partitions; None where the verdict has none."""
    values = [(name, value) for name, value in sorted(check.by_partition.items()) if value is not None]
    if check.against_baseline and len(values) > 1:  # rows without a time are no point in time, whatever came of them
        values = [(name, value) for name, value in values if name != UNDATED]
    return _trend(check, [Point(name, value, _bad(check, value)) for name, value in values])


def over_revisions(table: str, check: Check, history: Sequence[Accepted]) -> Trend | None:
    """The trend over accepted revisions until now; None where none knew the check."""
    known = [(revision.commit, of) for revision, of in _known(table, check, history)]
    points = [Point(name, of.value, of.status != "passed") for name, of in known if of.value is not None]
    if not points:
        return None
    now = [] if check.value is None else [Point(NOW, check.value, check.status != "passed")]
    return _trend(check, points + now)


def since(table: str, check: Check, history: Sequence[Accepted]) -> list[str]:
    """Since when a check does not hold, by partition and by accepted revision, in sentences without full stops."""
    partitions = over_partitions(check)
    said = _in_partitions(partitions) if partitions else None
    return [sentence for sentence in (said, _in_revisions(table, check, history)) if sentence]


def _in_partitions(trend: Trend) -> str | None:
    bad = [point.name for point in trend.points if point.bad]
    if not bad:
        return None
    held = [place for place, point in enumerate(trend.points) if not point.bad]
    what = "Bad rows" if trend.as_shares else "Beyond the limit"
    if not held:
        return f"{what} in every partition" if len(bad) > 1 else f"{what} in {bad[0]}, the only partition"
    if held[-1] + len(bad) + 1 == len(trend.points) and len(bad) > 1:
        return f"{what} in every partition since {bad[0]}"
    named = ", ".join(bad) if len(bad) <= NAMED else f"first {bad[0]}, last {bad[-1]}"
    return f"{what} in {len(bad):,} of {count(len(trend.points), 'partition')}: {named}"


def _in_revisions(table: str, check: Check, history: Sequence[Accepted]) -> str | None:
    known = _known(table, check, history)
    if not known:
        return None
    bad = list(takewhile(lambda pair: pair[1].status != "passed", reversed(known)))
    if not bad:
        last = known[-1][0]
        return f"Held at the last accepted revision, {last.commit} of {last.date[:10]}"
    first = bad[-1][0]
    return f"Does not hold since the accepted revision {first.commit} of {first.date[:10]}"


def _known(table: str, check: Check, history: Sequence[Accepted]) -> list[tuple[Accepted, AcceptedCheck]]:
    """The revisions that knew a check, and what it found then."""
    checks = [(revision, revision.tables[table].checks) for revision in history if table in revision.tables]
    return [(revision, of[check.check]) for revision, of in checks if check.check in of]


def _bad(check: Check, value: float) -> bool:
    if check.unexpected is not None:
        return value > tolerated(check)
    if check.threshold is None:
        return False
    return value > check.threshold if bad_above(check) else value < check.threshold


def _trend(check: Check, points: list[Point]) -> Trend | None:
    limit = (tolerated(check) or None) if check.unexpected is not None else check.threshold
    return Trend(points, limit, check.unexpected is not None) if points else None
