"""Features of entities, computed again from the rows that were picked for them: each statistic by what it says.

The engine keeps running totals of what enters and leaves windows. Here each window's rows are there, so its statistic
is one aggregate over them. What a transform asks of a row, and what it makes of statistics, are its own expressions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import ibis
import ibis.expr.types as ir
import pyarrow as pa
import pyarrow.compute as pc

from weakfish.engine.duckdb import Engine, connect
from weakfish.features.changes import on
from weakfish.features.views import Measure, View, finite
from weakfish.project.paths import Project
from weakfish.tracing.past import AT, QUESTION, WHEN, EntityAt, PastRows, measured, pick

MICROSECONDS = 3_600_000_000
"""Of an hour."""

_engine = cache(connect)


def recomputed(
    project: Project, view: View, questions: Sequence[EntityAt], features: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """The features of a view, all unless some are named, for each question, by the rows that the tables hold now.

    Thousands of questions take one pass over the tables. Raises `TableError` as `pick` does.
    """
    asked = list(features or view.features)
    picked = pick(project, view, measured(view, asked), questions)
    return from_rows(view, picked, len(questions), asked)


def from_rows(
    view: View, picked: Mapping[str | None, PastRows], questions: int, features: Sequence[str]
) -> list[dict[str, Any]]:
    """Features for each of so many questions, by the rows picked for them, as the view stores them."""
    engine, measures = _engine(), measured(view, features)
    with engine.scratch():
        columns: dict[str, pa.Array] = {QUESTION: pa.array(range(questions), pa.int64())}
        for task, of in picked.items():
            own = [measure for measure in measures if measure.task == task]
            columns |= _statistics(engine, own, of, questions)
        stood = engine.lend(pa.table(columns))
        values = {name: on(stood, view.features[name]) for name in features}
        values |= {name: finite(value) for name, value in values.items() if isinstance(value, ir.FloatingValue)}
        found = engine.run(stood.select(QUESTION, **values).order_by(QUESTION)).drop_columns(QUESTION)
    schema = pa.schema([view.schema.field(name) for name in features])
    rows: list[dict[str, Any]] = found.cast(schema).to_pylist()
    return rows


def _statistics(engine: Engine, measures: Sequence[Measure], of: PastRows, questions: int) -> dict[str, pa.Array]:
    """Each measure for each question; nothing counts 0."""
    rows = engine.lend(of.rows)
    found = {measure.name: _statistic(measure, rows) for measure in measures}
    table = engine.run(rows.group_by(QUESTION).aggregate(**found).order_by(QUESTION))
    places = pc.index_in(pa.array(range(questions), pa.int64()), table[QUESTION].combine_chunks())
    columns = {}
    for measure in measures:
        kind = ibis.Schema(measure.placeholder.schema()).to_pyarrow().field(measure.name).type
        column = table[measure.name].cast(kind).combine_chunks().take(places)
        columns[measure.name] = column.fill_null(0) if measure.kind in ("sum", "distinct") else column
    return columns


def _statistic(measure: Measure, rows: ir.Table) -> ir.Value:
    when, at = rows[WHEN], rows[AT]
    inside = when < at
    if measure.hours is not None:
        inside &= when >= at - measure.hours * MICROSECONDS
    value = on(rows, measure.value)
    kept = inside.ifelse(value, ibis.null(value.type()))
    if measure.kind == "distinct":
        return kept.nunique()
    return getattr(kept, {"sum": "sum", "first": "min", "last": "max"}[measure.kind])()
