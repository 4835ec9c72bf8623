"""Checks and quarantined rows as the page shows them: what did not hold first, with trends and since when."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import takewhile
from typing import TYPE_CHECKING

from weakfish.contracts.ledgers import Ledger, RejectedLines
from weakfish.contracts.tables import UNDATED
from weakfish.contracts.verdicts import Check, Verdict
from weakfish.report.inputs import BaselineTable, RunRecords, validating
from weakfish.report.wording import bad_above, beyond, count, figure, percent, tolerated

if TYPE_CHECKING:
    from weakfish.checks.baseline import AcceptedCheck, AcceptedRevision


BADNESS = ("failed", "quarantined", "warned", "noted", "passed")
SEVERITIES = ("critical", "warning", "info")

NAMED = 4
"""Partitions in which a check did not hold that are named; of more, the first and the last."""


@dataclass(frozen=True)
class Point:
    """A check's value in one partition or revision; ``bad``: it did not hold there."""

    name: str
    value: float
    bad: bool


@dataclass(frozen=True)
class Trend:
    """A check's values, oldest first.

    ``limit`` is the value beyond which it does not hold, None where it has none; ``as_shares`` says that values are
    shares.
    """

    points: Sequence[Point]
    limit: float | None
    as_shares: bool

    @property
    def tells(self) -> bool:
        """Whether it shows more than bad rows without a time, which have a partition of their own."""
        return any(point.bad and point.name != UNDATED for point in self.points)

    def say(self, value: float) -> str:
        """One of its values in words."""
        return percent(value) if self.as_shares else figure(value)

    def placed(
        self, most: int, left: float, right: float, bottom: float, top: float
    ) -> tuple[list[tuple[float, float, Point]], float | None]:
        """Its last points in a box, with where each lies, and the height of its limit.

        Heights start at zero, or at the lowest value where zero is far off.
        """
        points = self.points[-most:]
        values = [point.value for point in points] + ([] if self.limit is None else [self.limit])
        low, high = min(values), max(values)
        if low >= 0 and (low < high / 2 or low == high):
            low = 0.0
        step, unit = (right - left) / max(len(points) - 1, 1), (top - bottom) / ((high - low) or 1)
        placed = [
            (round(left + place * step, 1), round(bottom + (point.value - low) * unit, 1), point)
            for place, point in enumerate(points)
        ]
        return placed, None if self.limit is None else round(bottom + (self.limit - low) * unit, 1)

    @property
    def sentence(self) -> str:
        """What its picture shows, for those who do not see it."""
        first, last = self.points[0], self.points[-1]
        low, high = (pick(self.points, key=lambda point: point.value) for pick in (min, max))
        if first is last:
            return f"{first.name}: {self.say(first.value)}"
        extent = f"{first.name} to {last.name}: {self.say(first.value)} to {self.say(last.value)}"
        return f"{extent}, lowest {self.say(low.value)} in {low.name}, highest {self.say(high.value)} in {high.name}"


def over_partitions(check: Check) -> Trend | None:
    """The trend over partitions; None where the verdict has none."""
    values = [(name, value) for name, value in sorted(check.by_partition.items()) if value is not None]
    if check.against_baseline and len(values) > 1:  # rows without a time belong to no point in time
        values = [(name, value) for name, value in values if name != UNDATED]
    return _trend(check, [Point(name, value, _bad(check, value)) for name, value in values])


def over_revisions(table: str, check: Check, history: Sequence[AcceptedRevision]) -> Trend | None:
    """The trend over accepted revisions until now; None where none knew the check."""
    known = [(revision.commit, of.value, of.status) for revision, of in _known(table, check, history)]
    points = [Point(name, value, status != "passed") for name, value, status in known if value is not None]
    if points and check.value is not None:
        points.append(Point("now", check.value, check.status != "passed"))
    return _trend(check, points)


def since(
    table: str, check: Check, history: Sequence[AcceptedRevision], accepted: BaselineTable | None = None
) -> list[str]:
    """Since when a check does not hold, by partition and by accepted revision, in sentences without full stops.

    What was accepted is no start of a change: where new partitions are beyond the limit, only these are named.
    """
    partitions, known = over_partitions(check), _known(table, check, history)
    if partitions and accepted and check.against_baseline:
        points = [replace(point, bad=point.bad and accepted.is_new(point.name)) for point in partitions.points]
        partitions = replace(partitions, points=points) if any(point.bad for point in points) else partitions
    said = _bad_partitions(partitions) if partitions else []
    bad = list(takewhile(lambda pair: pair[1].status != "passed", reversed(known)))
    if bad:
        first = bad[-1][0]
        said.append(f"Does not hold since the accepted revision {first.commit} of {first.date[:10]}")
    elif known:
        last = known[-1][0]
        said.append(f"Held at the last accepted revision, {last.commit} of {last.date[:10]}")
    return said


def _bad_partitions(trend: Trend) -> list[str]:
    bad = [point.name for point in trend.points if point.bad]
    if not bad:
        return []
    what = "Bad rows" if trend.as_shares else "Beyond the limit"
    held = [place for place, point in enumerate(trend.points) if not point.bad]
    if not held:
        return [f"{what} in every partition" if len(bad) > 1 else f"{what} in {bad[0]}, the only partition"]
    if held[-1] + len(bad) + 1 == len(trend.points) and len(bad) > 1:
        return [f"{what} in every partition since {bad[0]}"]
    named = ", ".join(bad) if len(bad) <= NAMED else f"first {bad[0]}, last {bad[-1]}"
    return [f"{what} in {len(bad):,} of {count(len(trend.points), 'partition')}: {named}"]


def _known(
    table: str, check: Check, history: Sequence[AcceptedRevision]
) -> list[tuple[AcceptedRevision, AcceptedCheck]]:
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


@dataclass(frozen=True)
class JudgedTable:
    """The verdict on one table; ``stale``: it is from an earlier run."""

    verdict: Verdict
    gate_open: bool
    stale: bool


@dataclass(frozen=True)
class CheckRow:
    """One check of a table, with the history of what was accepted."""

    table: JudgedTable
    check: Check
    history: Sequence[AcceptedRevision] = ()
    accepted: BaselineTable | None = None

    @property
    def name(self) -> str:
        """The table's name."""
        return self.table.verdict.table

    @property
    def held(self) -> bool:
        """Whether the check passed."""
        return self.check.status == "passed"

    @property
    def anchor(self) -> str:
        """An id for the check that is the same in every run."""
        return anchor(self.name, self.check.check)

    @cached_property
    def by_partition(self) -> Trend | None:
        """Its trend over partitions."""
        return over_partitions(self.check)

    @cached_property
    def by_revision(self) -> Trend | None:
        """Its trend over accepted revisions."""
        return over_revisions(self.name, self.check, self.history)

    @property
    def since(self) -> list[str]:
        """Since when it does not hold."""
        return since(self.name, self.check, self.history, self.accepted)


def anchor(table: str, check: str) -> str:
    """An id for a check that is the same in every run."""
    return "check-" + hashlib.sha256(f"{table} {check}".encode(errors="replace")).hexdigest()[:10]


def tables(records: RunRecords) -> list[JudgedTable]:
    """The tables that have a verdict, current ones first, failed before warned before passed."""
    found = [
        JudgedTable(verdict, name in records.gates, records.outdated(validating(name)))
        for name, verdict in records.verdicts.items()
    ]
    return sorted(found, key=lambda table: (table.stale, BADNESS.index(table.verdict.verdict), table.verdict.table))


def check_rows(records: RunRecords, history: Sequence[AcceptedRevision] = ()) -> list[CheckRow]:
    """All checks, worst first."""

    def badness(row: CheckRow) -> tuple[int, int, float]:
        check = row.check
        far = -beyond(check) if check.kind != "expectation" else 0.0
        return BADNESS.index(check.status), SEVERITIES.index(check.severity), far

    return sorted(
        (
            CheckRow(table, check, history, records.accepted.get(table.verdict.table))
            for table in tables(records)
            for check in table.verdict.checks
        ),
        key=badness,
    )


def by_rule(rows: Iterable[CheckRow]) -> dict[tuple[str, str], list[CheckRow]]:
    """Checks by the table and the labeling function that they are about, where they are about one."""
    found: dict[tuple[str, str], list[CheckRow]] = defaultdict(list)
    for row in rows:
        rule = row.check.arguments.get("rule")
        if isinstance(rule, str):
            found[row.name, rule].append(row)
    return found


@dataclass(frozen=True)
class Quarantine:
    """What one stage quarantined; ``stale``: in an earlier run.

    ``raw`` is what was counted of the raw lines that these rows were read from.
    """

    stage: str
    ledger: Ledger
    stale: bool
    raw: Ledger

    @property
    def rejected(self) -> int:
        """Raw lines that became no row."""
        return self.raw.rejected or 0

    @property
    def rows_read(self) -> int:
        """The rows that came in, and the lines that became none."""
        return (self.ledger.rows_in or 0) + self.rejected

    @property
    def rejects(self) -> Sequence[RejectedLines]:
        """Raw lines that became no row, by file and reason."""
        return self.raw.reading.rejected if self.raw.reading else ()

    @property
    def adds_up(self) -> bool:
        """Whether no row was lost: all that came in went on or were quarantined."""
        ledger = self.ledger
        return ledger.rows_in == (ledger.rows_out or 0) + (ledger.quarantined or 0)


def quarantines(records: RunRecords) -> list[Quarantine]:
    """The stages that quarantined rows, or could have."""
    raw = records.ledgers.get("ingest", Ledger())
    return [
        Quarantine(stage, ledger, records.outdated(stage), raw)
        for stage, ledger in records.ledgers.items()
        if ledger.quarantined is not None or ledger.reasons
    ]


def accepted(records: RunRecords, table: str, history: Sequence[AcceptedRevision]) -> str | None:
    """What was accepted of a table, in words; None when nothing was."""
    entry = records.accepted.get(table)
    if entry is None:
        return None
    through = f"Accepted through {entry.through}" if entry.through else "Accepted with all its partitions"
    # The revision that accepted this data, not a later one that only kept it.
    version = entry.data_version
    same = takewhile(
        lambda revision: table in revision.tables and revision.tables[table].data_version == version, reversed(history)
    )
    first = next(reversed(list(same)), None)
    return f"{through} at revision `{first.commit}` of {first.date[:10]}" if first else f"{through}, not committed yet"
