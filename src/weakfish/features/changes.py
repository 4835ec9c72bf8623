"""What enters windows and leaves them at each boundary, as expressions over events and known labels.

All of it is told per entity, so it can be worked out for some entities at a time: `SLOT` says which belong together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import cast

import ibis
import ibis.expr.operations as ops
import ibis.expr.types as ir

from weakfish.contracts.tables import KNOWN_AT
from weakfish.features.views import Measure, View

ENTITY, BOUNDARY, SLOT, VALUE = "entity", "boundary", "slot", "value"

SLOTS = 1 << 16
"""How many parts the entities fall into, by a hash; no result depends on it."""

FOLDED = {"first": "min", "last": "max", "sum": "sum"}
"""What makes one of several values at one boundary, by the kind of the measure."""


@dataclass(frozen=True)
class Relations:
    """What rows are computed from.

    Attributes
    ----------
    events : ibis.expr.types.Table
        The events, with ``key`` and ``time``.
    labels : dict of str to ibis.expr.types.Table
        Known labels by task: ``key``, ``known_at`` and a probability per class; their events are among ``events``.
    """

    events: ir.Table
    labels: Mapping[str, ir.Table]
    key: str
    time: str
    boundary_hours: int


@dataclass(frozen=True)
class Span:
    """Boundaries by their numbers: from ``first`` on, before ``end``."""

    first: int
    end: int

    def of(self, rows: ir.Table, later: int = 0) -> ir.Table:
        """The rows whose boundary is in the span when it is put off by so many boundaries."""
        at = cast(ir.IntegerColumn, rows[BOUNDARY])
        return rows.filter((at >= self.first - later) & (at < self.end - later))


@dataclass(frozen=True)
class Inflow:
    """What one source, the events or the known labels of ``task``, adds to the measures of a view."""

    view: View
    task: str | None
    hours: int

    @cached_property
    def measures(self) -> list[Measure]:
        """Those of this source."""
        return [measure for measure in self.view.measures if measure.task == self.task]

    @cached_property
    def folded(self) -> dict[str, str]:
        """Measures that one number per boundary tells, with what makes it of several."""
        return {each.name: FOLDED[each.kind] for each in self.measures if each.kind != "distinct"}

    @cached_property
    def lengths(self) -> list[int]:
        """The windows, in boundaries."""
        return sorted({each.hours // self.hours for each in self.measures if each.hours is not None})

    @cached_property
    def columns(self) -> dict[ops.Value, str]:
        """The values that are measured, each once."""
        return {op: f"v{number}" for number, op in enumerate({each.value.op(): None for each in self.measures})}

    @cached_property
    def counted(self) -> dict[str, dict[str, int | None]]:
        """By column whose different values are counted, the measures that do, with their windows in boundaries."""
        found: dict[str, dict[str, int | None]] = {}
        for each in self.measures:
            if each.kind == "distinct":
                window = each.hours and each.hours // self.hours
                found.setdefault(self.columns[each.value.op()], {})[each.name] = window
        return found

    def rows(self, relations: Relations) -> ir.Table:
        """What is measured of each event or label: entity, first boundary, values."""
        source, time = relations.events, relations.time
        if self.task is not None:
            labels, entities = relations.labels[self.task], source.select(relations.key, self.view.entity)
            same = labels[relations.key] == entities[relations.key]
            source, time = labels.join(entities, same).select(labels, entities[self.view.entity]), KNOWN_AT
        rows = source.filter(source[self.view.entity].notnull() & source[time].notnull())
        return rows.select(
            rows[self.view.entity].name(ENTITY),
            boundary_after(rows[time], self.hours).name(BOUNDARY),
            **{name: on(rows, op.to_expr()) for op, name in self.columns.items()},
        )

    def entered(self, rows: ir.Table) -> ir.Table:
        """What enters at each boundary: entity, boundary, slot, measures."""
        values = {each.name: rows[self.columns[each.value.op()]] for each in self.measures if each.name in self.folded}
        return slotted(self._folded(rows, values))

    def together(self, entered: ir.Table) -> ir.Table:
        """The same of several such tables, which may have a boundary each."""
        return self._folded(entered, {name: entered[name] for name in self.folded})

    def _folded(self, rows: ir.Table, values: Mapping[str, ir.Value]) -> ir.Table:
        folds = {name: getattr(value, self.folded[name])() for name, value in values.items()}
        found = rows.group_by([ENTITY, BOUNDARY]).aggregate(**folds or {"rows": rows.count()})
        return found.select(ENTITY, BOUNDARY, *folds)

    def occurred(self, rows: ir.Table, column: str) -> ir.Table:
        """Which values of a column occur at each boundary: entity, boundary, value, slot."""
        there = rows.filter(rows[column].notnull())
        return slotted(there.select(ENTITY, BOUNDARY, there[column].name(VALUE)).distinct())

    def changes(self, entered: ir.Table, span: Span) -> list[ir.Table]:
        """What enters and leaves within a span: entity, boundary, some measures; ``entered`` begins a window before."""
        changes = [span.of(entered)]
        for length in self.lengths:
            mine = [each for each in self.measures if each.kind == "sum" and each.hours == length * self.hours]
            leaving = span.of(entered, length)
            gone = {each.name: -cast(ir.IntegerColumn, leaving[each.name]) for each in mine}
            changes.append(leaving.select(ENTITY, (leaving[BOUNDARY] + length).name(BOUNDARY), **gone))
        return changes

    def distinct_changes(self, column: str, pairs: ir.Table, span: Span) -> list[ir.Table]:
        """+1 where a value enters a window that did not hold it, -1 where its latest occurrence leaves.

        ``pairs`` are from `neighbours`: each value's occurrences in the span, and its latest one before.
        """
        changes = []
        for name, length in self.counted[column].items():
            first = pairs.since.isnull() if length is None else pairs.since.isnull() | (pairs.since >= length)
            enters = span.of(pairs.filter(first))
            changes.append(enters.select(ENTITY, BOUNDARY, ibis.literal(1, "int64").name(name)))
            if length is not None:
                leaves = span.of(pairs.filter(pairs.until.isnull() | (pairs.until >= length)), length)
                at = (leaves[BOUNDARY] + length).name(BOUNDARY)
                changes.append(leaves.select(ENTITY, at, ibis.literal(-1, "int64").name(name)))
        return [
            change.group_by([ENTITY, BOUNDARY]).aggregate(**{change.columns[2]: change[2].sum()}) for change in changes
        ]

    def remembered(self, column: str, occurred: ir.Table, end: int) -> ir.Table:
        """The latest occurrence of each value that still matters at boundary ``end``."""
        latest = occurred.group_by([ENTITY, VALUE]).aggregate(**{BOUNDARY: occurred[BOUNDARY].max()})
        windows = self.counted[column].values()
        if None not in windows:
            latest = latest.filter(latest[BOUNDARY] >= end - max(window or 0 for window in windows))
        return slotted(latest.select(ENTITY, BOUNDARY, VALUE))


def neighbours(occurred: ir.Table) -> ir.Table:
    """Occurrences with the number of boundaries since the one before and until the next one of the value."""
    seen = occurred.select(ENTITY, BOUNDARY, VALUE).distinct()
    in_turn = ibis.window(group_by=[seen[ENTITY], seen[VALUE]], order_by=seen[BOUNDARY])
    return seen.select(
        ENTITY,
        BOUNDARY,
        since=seen[BOUNDARY] - seen[BOUNDARY].lag().over(in_turn),
        until=seen[BOUNDARY].lead().over(in_turn) - seen[BOUNDARY],
    )


def boundary_after(time: ir.Value, hours: int) -> ir.IntegerValue:
    """The number of the first boundary later than ``time``."""
    seconds = cast(ir.TimestampValue, time).truncate("s").epoch_seconds()
    return cast(ir.IntegerValue, (seconds // (hours * 3600) + 1).cast("int64"))


def slotted(rows: ir.Table) -> ir.Table:
    """The rows with the slot of their entity."""
    return rows.mutate(**{SLOT: rows[ENTITY].hash() & (SLOTS - 1)})


def on(table: ir.Table, value: ir.Value) -> ir.Value:
    """``value`` with its columns taken from ``table``, which has columns of the same names."""

    def move(node: ops.Node, kwargs: dict[str, object]) -> ops.Node:
        if isinstance(node, ops.Field):
            return ops.Field(table.op(), node.name)
        return node.__recreate__(kwargs) if kwargs else node

    return value.op().replace(move, filter=ops.Value).to_expr()
