"""Columnar labeling functions compiled together: each text is read once for all of them, then one query votes.

A batch of events goes in as Arrow, the votes come out as NumPy, in the order of the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import ibis
import ibis.expr.types as ir
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from weakfish.compute import Engine
from weakfish.errors import LabelingFunctionError, WeakfishError
from weakfish.labeling.functions import ColumnarLabelingFunction
from weakfish.labeling.votes_file import ABSTAIN
from weakfish.labeling.voting.lifting import Lifting
from weakfish.labeling.voting.originals import Originals, columns_of
from weakfish.labeling.voting.recheck import ROW
from weakfish.labeling.voting.searches import Search, rewritten

__all__ = ["Search", "VotePlan", "compile_plan"]


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
    _searching: Mapping[str, tuple[str, int]]
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
        columns = {name: batch[name] for name in self._read_by_engine}
        try:
            answers = self._lifting.answers(batch)
            found = self._query(pa.table({**columns, **answers, ROW: np.arange(batch.num_rows)}))
        except WeakfishError as error:
            raise self._originals.culprit(batch.select(self.columns), error) from error
        if found.num_rows != batch.num_rows:
            raise LabelingFunctionError(
                f"A columnar labeling function made {found.num_rows} votes of {batch.num_rows} rows; "
                "conditions keep the rows of their table."
            )
        order = np.argsort(found[ROW].to_numpy())
        votes = {name: found[name].to_numpy()[order] for name in found.column_names if name != ROW}
        return votes | {name: _where(answers[hit], label) for name, (hit, label) in self._searching.items()}


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
    lifting = Lifting(engine, votes, originals.events)
    searching = _nothing_but_a_search(originals, lifting)
    computed = {name: vote for name, vote in votes.items() if name not in searching}
    answers = [pa.field(name, pa.bool_()) for name in lifting.names]
    wide = pa.schema([*schema, *answers, pa.field(ROW, pa.int64())])
    table = ibis.table(ibis.Schema.from_pyarrow(wide), name="weakfish_wide")

    def placed(given: ir.Table) -> dict[str, ir.Value]:
        return {name: rewritten(vote, originals.events.op(), given, lifting.hits) for name, vote in computed.items()}

    used = columns_of(list(placed(table).values()), table)
    narrow = pa.schema([field for field in wide if field.name in used or field.name == ROW or field in answers])
    query = engine.prepare(narrow, lambda given: given.select(given[ROW], **placed(given)))
    read_by_engine = [name for name in originals.columns if name in used]
    return VotePlan(originals.columns, lifting.searches, originals, lifting, searching, read_by_engine, query)


def _nothing_but_a_search(originals: Originals, lifting: Lifting) -> dict[str, tuple[str, int]]:
    """The functions whose condition is a lifted search and no more: the column that answers it, and their vote."""
    found = {}
    for function in originals.functions:
        conditions = function.conditions(originals.events)
        (label, condition), *others = conditions.items()
        if not others and condition.op() in lifting.hits:
            found[function.name] = (lifting.hits[condition.op()], label)
    return found


def _where(answers: pa.Array, label: int) -> npt.NDArray[np.int8]:
    """``label`` where the answer is yes, else `ABSTAIN`."""
    yes = pc.fill_null(answers, False).to_numpy(zero_copy_only=False)
    return np.where(yes, np.int8(label), np.int8(ABSTAIN))
