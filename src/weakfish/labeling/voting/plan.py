"""Columnar labeling functions compiled together: each text is read once for all of them, then one query votes.

A batch of events goes in as Arrow, the votes come out as NumPy, in the order of the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import ibis
import ibis.expr.types as ir
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from weakfish.compute import Engine
from weakfish.errors import LabelingFunctionError, WeakfishError
from weakfish.labeling.functions import ColumnarLabelingFunction
from weakfish.labeling.voting.lifting import Lifting
from weakfish.labeling.voting.originals import Originals, columns_of
from weakfish.labeling.voting.searches import Search, rewritten

__all__ = ["Search", "VotePlan", "compile_plan"]

ROW = "weakfish_row"


@dataclass(frozen=True)
class VotePlan:
    """What `compile_plan` makes of labeling functions.

    Attributes
    ----------
    columns
        The columns of the events that the functions read, in the order of the schema.
    searches
        The searches of text in the functions, in their order, each once per function.
    """

    columns: list[str]
    searches: list[Search]
    _originals: Originals
    _lifting: Lifting
    _read_by_engine: list[str]
    _query: Callable[[pa.Table], pa.Table]

    def votes(self, batch: pa.Table) -> dict[str, npt.NDArray[np.int8]]:
        """The votes of each function by name, in the order of the batch's rows.

        Parameters
        ----------
        batch
            Events with at least ``columns``, of the types that the plan was compiled for.

        Raises
        ------
        LabelingFunctionError
            When a function cannot be computed; names it.
        """
        columns = {name: batch[name] for name in self._read_by_engine} | self._lifting.reading.answers(batch)
        try:
            found = self._query(pa.table({**columns, ROW: np.arange(batch.num_rows)}))
        except WeakfishError as error:
            raise self._originals.culprit(batch.select(self.columns), error) from error
        if found.num_rows != batch.num_rows:
            raise LabelingFunctionError(
                f"A columnar labeling function made {found.num_rows} votes of {batch.num_rows} rows; "
                "conditions keep the rows of their table."
            )
        order = np.argsort(found[ROW].to_numpy())
        return {name: found[name].to_numpy()[order] for name in found.column_names if name != ROW}


def compile_plan(engine: Engine, functions: Sequence[ColumnarLabelingFunction], schema: pa.Schema) -> VotePlan:
    """Compile the votes of ``functions``, which have different names, on events of ``schema``.

    Raises
    ------
    LabelingFunctionError
        When a function cannot be computed, or might not vote the same on the same row again; names it.
    """
    originals = Originals.of(engine, functions, schema)
    originals.check()
    votes = {function.name: vote for function, vote in zip(functions, originals.votes, strict=True)}
    lifting = Lifting(votes, originals.events.op())
    answers = [pa.field(name, pa.bool_()) for name in lifting.reading.names]
    wide = pa.schema([*schema, *answers, pa.field(ROW, pa.int64())])
    table = ibis.table(ibis.Schema.from_pyarrow(wide), name="weakfish_wide")
    used = columns_of(_placed(originals, lifting, table), table)
    narrow = pa.schema([field for field in wide if field.name in used or field.name == ROW or field in answers])

    def build(given: ir.Table) -> ir.Table:
        return given.select(given[ROW], **dict(zip(votes, _placed(originals, lifting, given), strict=True)))

    read_by_engine = [name for name in originals.columns if name in used]
    return VotePlan(
        originals.columns, lifting.searches, originals, lifting, read_by_engine, engine.prepare(narrow, build)
    )


def _placed(originals: Originals, lifting: Lifting, table: ir.Table) -> list[ir.Value]:
    """The votes over ``table``, which has the answers to searches."""
    events = originals.events.op()
    return [rewritten(vote, events, table, lifting.hits, lifting.judged) for vote in originals.votes]
