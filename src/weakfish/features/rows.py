"""A checked view into its rows: every statistic is a running sum of what enters a window and what leaves it.

Time counts in boundaries since the epoch. An event at t becomes known at boundary ``floor(t / H) + 1``, the first after
it, and leaves a window of w boundaries w boundaries later, so that the window holds ``b - w*H <= t < b``. Running sums
of whole numbers over these entries and exits are exact, in any order of the rows, and cost no more for long windows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import ibis
import ibis.expr.operations as ops
import ibis.expr.types as ir

from weakfish.contracts.record import CREATED, EVENT_TIMESTAMP
from weakfish.engine import Engine, Fold
from weakfish.features.views import View

ENTITY, BOUNDARY = "entity", "boundary"
NUMBER = "__boundary"
"""The column of boundary numbers, beside an author's columns."""
KNOWN_AT = "known_at"
"""The time column of known labels, UTC."""


@dataclass(frozen=True)
class Relations:
    """What rows are computed from.

    Attributes
    ----------
    events : ibis.expr.types.Table
        The events, with ``key`` and ``time``.
    labels : dict of str to ibis.expr.types.Table
        Known labels by task: ``key``, ``known_at`` and a probability per class.
    """

    events: ir.Table
    labels: Mapping[str, ir.Table]
    key: str
    time: str
    boundary_hours: int


def boundary_after(time: ir.Value, hours: int) -> ir.IntegerValue:
    """The number of the first boundary later than ``time``."""
    seconds = cast(ir.TimestampValue, time).truncate("s").epoch_seconds()
    return cast(ir.IntegerValue, (seconds // (hours * 3600) + 1).cast("int64"))


def feature_rows(view: View, relations: Relations, last: int, engine: Engine) -> ir.Table:
    """All rows of ``view`` up to boundary number ``last``: entity, boundary number, features; in no order."""
    sources = sorted({measure.task for measure in view.measures}, key=str)
    changes = [change for task in sources for change in _changes(view, task, relations, engine)]
    reached = [change.filter(change[BOUNDARY] <= last) for change in changes]
    folds: dict[str, Fold] = {m.name: m.kind if m.kind in ("first", "last") else "sum" for m in view.measures}
    running = engine.accumulate(reached, ENTITY, BOUNDARY, folds)
    values = {name: _finite(_on(running, value)) for name, value in view.features.items()}
    return running.select(running[ENTITY].name(view.entity), running[BOUNDARY].name(NUMBER), **values)


def with_times(view: View, rows: ir.Table, hours: int) -> ir.Table:
    """The rows as they are stored: boundaries as times, in the order of time and entity."""
    at = (rows[NUMBER] * (hours * 3600)).as_timestamp("s")
    timed = rows.order_by([rows[NUMBER], rows[view.entity]])
    return timed.select(view.entity, at.name(EVENT_TIMESTAMP), at.name(CREATED), *view.features)


def _changes(view: View, task: str | None, relations: Relations, engine: Engine) -> list[ir.Table]:
    """Entries and exits of one source, events or the known labels of a task: entity, boundary, some measures."""
    mine = [measure for measure in view.measures if measure.task == task]
    hours = relations.boundary_hours
    source, time = _source(view, task, relations)
    rows = source.filter(source[view.entity].notnull() & source[time].notnull())
    columns = {op: f"v{number}" for number, op in enumerate({measure.value.op(): None for measure in mine})}
    base = rows.select(
        rows[view.entity].name(ENTITY),
        boundary_after(rows[time], hours).name(BOUNDARY),
        **{name: _on(rows, op.to_expr()) for op, name in columns.items()},
    )
    folded = {m.name: _fold(base[columns[m.value.op()]], m.kind) for m in mine if m.kind != "distinct"}
    entered = engine.keep(base.group_by([ENTITY, BOUNDARY]).aggregate(**folded or {"rows": base.count()}))
    changes = [entered.select(ENTITY, BOUNDARY, *folded)]
    for length in sorted({measure.hours for measure in mine if measure.hours is not None}):
        gone = {m.name: -entered[m.name] for m in mine if m.hours == length and m.kind == "sum"}
        changes.append(entered.select(ENTITY, (entered[BOUNDARY] + length // hours).name(BOUNDARY), **gone))
    for op, column in columns.items():
        lengths = {m.name: m.hours and m.hours // hours for m in mine if m.kind == "distinct" and m.value.op() == op}
        if lengths:
            changes += _distinct_changes(base, column, lengths, engine)
    return changes


def _source(view: View, task: str | None, relations: Relations) -> tuple[ir.Table, str]:
    if task is None:
        return relations.events, relations.time
    events, key = relations.events, relations.key
    entities = events.select(key, view.entity)
    labels = relations.labels[task]
    return labels.join(entities, labels[key] == entities[key]).select(labels, entities[view.entity]), KNOWN_AT


def _distinct_changes(base: ir.Table, column: str, lengths: Mapping[str, int | None], engine: Engine) -> list[ir.Table]:
    """+1 where a value enters a window that did not hold it, -1 where its latest occurrence leaves."""
    seen = base.filter(base[column].notnull()).select(ENTITY, BOUNDARY, column).distinct()
    in_turn = ibis.window(group_by=[seen[ENTITY], seen[column]], order_by=seen[BOUNDARY])
    pairs = engine.keep(
        seen.select(
            ENTITY,
            BOUNDARY,
            since=seen[BOUNDARY] - seen[BOUNDARY].lag().over(in_turn),
            until=seen[BOUNDARY].lead().over(in_turn) - seen[BOUNDARY],
        )
    )
    changes = []
    for name, length in lengths.items():
        enters = pairs.since.isnull() if length is None else pairs.since.isnull() | (pairs.since >= length)
        changes.append(pairs.filter(enters).select(ENTITY, BOUNDARY, ibis.literal(1, "int64").name(name)))
        if length is not None:
            leaves = pairs.filter(pairs.until.isnull() | (pairs.until >= length))
            at = (leaves[BOUNDARY] + length).name(BOUNDARY)
            changes.append(leaves.select(ENTITY, at, ibis.literal(-1, "int64").name(name)))
    return [
        engine.keep(change.group_by([ENTITY, BOUNDARY]).aggregate(**{change.columns[2]: change[2].sum()}))
        for change in changes
    ]


def _fold(column: ir.Value, kind: str) -> ir.Value:
    if kind in ("first", "last"):
        return column.min() if kind == "first" else column.max()
    return cast(ir.IntegerColumn, column).sum()


def _on(table: ir.Table, value: ir.Value) -> ir.Value:
    """``value`` with its columns taken from ``table``, which has columns of the same names."""

    def move(node: ops.Node, kwargs: dict[str, object]) -> ops.Node:
        if isinstance(node, ops.Field):
            return ops.Field(table.op(), node.name)
        return node.__recreate__(kwargs) if kwargs else node

    return value.op().replace(move, filter=ops.Value).to_expr()


def _finite(value: ir.Value) -> ir.Value:
    if not isinstance(value, ir.FloatingValue):
        return value
    value = value.cast("float64")
    return ibis.ifelse(value.isnan() | value.isinf(), ibis.null("float64"), value)
