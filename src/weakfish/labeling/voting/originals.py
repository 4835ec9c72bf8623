"""The votes as the functions express them: whether an engine can compute them, and which one cannot."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import ibis
import ibis.expr.operations as ops
import ibis.expr.types as ir
import numpy as np
import pyarrow as pa

from weakfish.compute import Engine
from weakfish.errors import LabelingFunctionError, WeakfishError
from weakfish.labeling.functions import ColumnarLabelingFunction
from weakfish.labeling.voting.recheck import ROW

CHANGES_BY_ITSELF = (ops.Impure, ops.TimestampNow, ops.DateNow)
LOOKS_AT_OTHER_ROWS = (ops.Reduction, ops.Analytic, ops.WindowFunction, ops.Relation)


@dataclass(frozen=True)
class Originals:
    """Labeling functions with their votes on ``events``, an unbound table of ``schema``."""

    engine: Engine
    functions: Sequence[ColumnarLabelingFunction]
    events: ir.Table
    schema: pa.Schema
    votes: Sequence[ir.Value]

    @classmethod
    def of(cls, engine: Engine, functions: Sequence[ColumnarLabelingFunction], schema: pa.Schema) -> Originals:
        """Ask the functions for their votes; raises `LabelingFunctionError` as they do, and where a vote may change."""
        events = ibis.table(ibis.Schema.from_pyarrow(schema), name="weakfish_events")
        votes = [function.votes(events) for function in functions]
        for function, vote in zip(functions, votes, strict=True):
            _refuse_what_may_change(function, vote.op(), events.op())
        return cls(engine, functions, events, schema, votes)

    @property
    def columns(self) -> list[str]:
        """The columns that the votes refer to, in the order of the schema."""
        used = columns_of(self.votes, self.events)
        return [name for name in self.schema.names if name in used]

    def check(self) -> None:
        """Raise `LabelingFunctionError` with the name of a function that the engine cannot run on no rows at all."""
        nothing = self._numbered(self.schema.empty_table().select(self.columns))
        try:
            self._query(nothing.schema, self.votes)(nothing)
        except WeakfishError as error:
            raise self.culprit(nothing, error) from error

    def culprit(self, batch: pa.Table, error: WeakfishError) -> WeakfishError:
        """``error`` with the name of the function that the engine cannot run on ``batch``."""
        rows = self._numbered(batch)
        for function, vote in zip(self.functions, self.votes, strict=True):
            try:
                self._query(rows.schema, [vote])(rows)
            except WeakfishError as own:
                return LabelingFunctionError(
                    f"Labeling function {function.name!r} ({function.__module__}) cannot be computed: {own} "
                    "Correct its condition."
                )
        return error

    @staticmethod
    def _numbered(batch: pa.Table) -> pa.Table:
        """The batch with a column more: functions may read none, but the engine wants one."""
        return batch if ROW in batch.column_names else batch.append_column(ROW, pa.array(np.arange(batch.num_rows)))

    def _query(self, schema: pa.Schema, votes: Sequence[ir.Value]) -> Callable[[pa.Table], pa.Table]:
        def build(table: ir.Table) -> ir.Table:
            placed = [vote.op().replace({self.events.op(): table.op()}).to_expr() for vote in votes]
            return table.select(**{f"vote_{number}": vote for number, vote in enumerate(placed)})

        return self.engine.prepare(schema, build)


def columns_of(votes: Sequence[ir.Value], table: ir.Table) -> set[str]:
    """The columns of ``table`` that ``votes`` refer to."""
    return {field.name for vote in votes for field in vote.op().find(ops.Field) if field.rel == table.op()}


def _refuse_what_may_change(function: ColumnarLabelingFunction, vote: ops.Node, events: ops.Node) -> None:
    if vote.find(CHANGES_BY_ITSELF):
        raise LabelingFunctionError(
            f"Labeling function {function.name!r} ({function.__module__}) uses the clock or chance, so its votes "
            "cannot be repeated; compare with a column instead."
        )
    others = [node for node in vote.find(LOOKS_AT_OTHER_ROWS) if node != events and _contains(node, events)]
    if others:
        raise LabelingFunctionError(
            f"Labeling function {function.name!r} ({function.__module__}) compares rows with each other "
            f"({type(others[0]).__name__}), but events are voted on in batches; make a feature of it instead."
        )


def _contains(node: ops.Node, events: ops.Node) -> bool:
    return any(found == events for found in node.find(ops.UnboundTable))
