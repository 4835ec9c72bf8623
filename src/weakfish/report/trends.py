"""How a check went over partitions and over accepted revisions: points to draw, and since when it does not hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING

from weakfish.report.found import bad_above, tolerated
from weakfish.report.records import Check
from weakfish.report.words import count, figure, percent
from weakfish.tables import UNDATED

if TYPE_CHECKING:
    from weakfish.checks.change.history import Accepted, AcceptedCheck

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
    now = [] if check.number is None else [Point(NOW, check.number, check.status != "passed")]
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
