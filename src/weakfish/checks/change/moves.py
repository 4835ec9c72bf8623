"""What moves when a table is accepted: its rows, the columns that differ most from before, checks that changed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from weakfish.checks.change.baseline import Entry
from weakfish.checks.change.bins import bins_of
from weakfish.checks.change.compare import rounded
from weakfish.checks.change.statistics import shift

COLUMNS_SHOWN, CHECKS_SHOWN = 5, 8
"""How many are told to people; JSON has all."""

MOVED = 0.01
"""PSI of a column from where on it is said to have moved."""


@dataclass(frozen=True)
class Move:
    """What became of one table's entry.

    Attributes
    ----------
    state
        ``new``, ``moved``, ``same``, or ``left``: then the entry stays as it was, for a reason.
    columns
        PSI between what is accepted now and what was, the largest first.
    checks
        Status before (None: there was no such check) and now (None: there is none any more).
    """

    table: str
    state: str
    through: str | None = None
    rows: int | None = None
    rows_before: int | None = None
    columns: Sequence[tuple[str, float]] = ()
    checks: Sequence[tuple[str, str | None, str | None]] = ()
    reason: str | None = None

    def as_json(self) -> dict[str, Any]:
        """The move as JSON."""
        columns = [{"column": column, "psi": psi} for column, psi in self.columns]
        checks = [{"check": check, "before": before, "now": now} for check, before, now in self.checks]
        return {**asdict(self), "columns": columns, "checks": checks}


def moved(table: str, before: Entry | None, now: Entry | None, reason: str | None) -> Move:
    """Compare a table's entry with the one before; without a new one, the reason says why."""
    if now is None:
        return Move(table, "left", reason=reason)
    state = "new" if before is None else "same" if before.as_json() == now.as_json() else "moved"
    rows = sum(now.rows.values()) if now.rows else None
    rows_before = sum(before.rows.values()) if before and before.rows else None
    columns, checks = _columns(before, now), list(_checks(before, now))
    return Move(table, state, now.through, rows, rows_before, columns, checks)


def _columns(before: Entry | None, now: Entry) -> list[tuple[str, float]]:
    found: list[tuple[str, float]] = []
    for name, column in now.columns.items():
        earlier = before.columns.get(name) if before else None
        bins = bins_of(column, earlier) if earlier and earlier.type == column.type else None
        psi = shift(bins.now, bins.accepted).psi if bins else 0.0
        if psi >= MOVED:
            found.append((name, rounded(psi)))
    return sorted(found, key=lambda item: (-item[1], item[0]))


def _checks(before: Entry | None, now: Entry) -> Iterator[tuple[str, str | None, str | None]]:
    if before is None:
        return
    for name in sorted({*before.checks, *now.checks}):
        statuses = [entry.checks[name]["status"] if name in entry.checks else None for entry in (before, now)]
        if statuses[0] != statuses[1]:
            yield name, statuses[0], statuses[1]


def sentences(moves: Sequence[Move]) -> Iterator[str]:
    """The moves as lines for people."""
    for move in moves:
        yield _headline(move)
        if move.columns:
            columns = [f"{column} (PSI {psi:.2g})" for column, psi in move.columns]
            yield f"  moved most: {_listed(columns, COLUMNS_SHOWN)}"
        changed = [f"{check} {now or 'gone'} (was {was or 'not there'})" for check, was, now in move.checks]
        if changed:
            yield f"  checks: {_listed(changed, CHECKS_SHOWN)}"


def _headline(move: Move) -> str:
    if move.state == "left":
        return f"{move.table}: stays as it was: {move.reason}."
    if move.state == "same":
        return f"{move.table}: as accepted before."
    until = f" through {move.through}" if move.through else ""
    if move.rows is None:
        return f"{move.table}: accepted."
    was = "" if move.rows_before is None else f", {move.rows_before:,} before"
    return f"{move.table}: accepted{until}, {move.rows:,} rows{was}."


def _listed(items: Sequence[str], shown: int) -> str:
    more = f"; {len(items) - shown} more" if len(items) > shown else ""
    return "; ".join(items[:shown]) + more
