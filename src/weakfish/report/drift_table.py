"""The drift section: what was accepted of each table, and how far each column is from it; biggest first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from weakfish.report.check_tables import NO_BASELINE, CheckRow, Table
from weakfish.report.findings import beyond, is_psi
from weakfish.report.inputs import Inputs, accepting
from weakfish.report.stage_table import position, validating

if TYPE_CHECKING:
    from weakfish.checks.baseline import Accepted


SHOWN = 8
"""Columns of a table that are shown at once; the others fold."""


@dataclass(frozen=True)
class TableDrift:
    """A table against what was accepted of it.

    Attributes
    ----------
    accepted
        What was accepted, in words; None when nothing was.
    columns
        The measured distances of columns that are shown at once; ``folded`` has the others.
    others
        Comparisons of other kinds that do not hold; ``held`` counts those that do.
    """

    table: Table
    accepted: str | None
    columns: list[CheckRow]
    folded: list[CheckRow]
    others: list[CheckRow]
    held: int

    @property
    def measured(self) -> list[CheckRow]:
        """All columns that were measured."""
        return [*self.columns, *self.folded]

    @property
    def beyond(self) -> int:
        """How many columns are beyond their limit."""
        return sum(not row.held for row in self.measured)

    @property
    def scale(self) -> float:
        """The largest distance that a bar shows."""
        return max([row.check.value or 0.0 for row in self.measured], default=0.0)


def drifts(inputs: Inputs, rows: Sequence[CheckRow], history: Sequence[Accepted]) -> list[TableDrift]:
    """The tables that were compared with what was accepted, in the order in which the pipeline makes them."""
    compared = [row for row in rows if row.check.against_baseline and row.check.check != NO_BASELINE]
    tables = list({row.name: row.table for row in compared}.values())
    found = [_of(inputs, table, [row for row in compared if row.table is table], history) for table in tables]
    return sorted(found, key=lambda one: position(inputs, validating(one.table.verdict.table)))


def unaccepted(inputs: Inputs) -> list[str]:
    """The tables with a verdict of which nothing was accepted."""
    return [name for name in inputs.verdicts if name not in inputs.accepted.tables]


def _of(inputs: Inputs, table: Table, rows: list[CheckRow], history: Sequence[Accepted]) -> TableDrift:
    measured = [row for row in rows if is_psi(row.check)]
    measured.sort(key=lambda row: (row.held, -beyond(row.check), row.check.check))
    others = [row for row in rows if row not in measured]
    return TableDrift(
        table,
        _accepted(inputs, table.verdict.table, history),
        measured[:SHOWN],
        measured[SHOWN:],
        [row for row in others if not row.held],
        sum(row.held for row in others),
    )


def _accepted(inputs: Inputs, table: str, history: Sequence[Accepted]) -> str | None:
    entry = inputs.accepted.tables.get(table)
    if entry is None:
        return None
    through = f"accepted through {entry.through}" if entry.through else "accepted with all its partitions"
    revision = accepting(table, history)
    if revision is None or revision.tables[table].data_version != entry.data_version:
        return f"{through}, in no git revision yet"
    return f"{through} at revision `{revision.commit}` of {revision.date[:10]}"
