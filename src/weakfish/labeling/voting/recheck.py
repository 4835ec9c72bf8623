"""The engine's own answers where the automaton's are in doubt: hits of a rough pattern, texts with rare letters."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from operator import or_

import ibis.expr.operations as ops
import ibis.expr.types as ir
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from weakfish.compute import Engine

ROW = "weakfish_row"


class Recheck:
    """Searches of one column that are in doubt on the same rows.

    Parameters
    ----------
    events
        The table that the searches refer to.
    column
        The column that they search.
    doubts
        The automaton's answers that cast doubt: the engine judges a row where any of them is yes.
    searches
        By the name of the column that is to hold the answers: the search, and the name of the automaton's answer.
    """

    def __init__(
        self,
        engine: Engine,
        events: ir.Table,
        column: str,
        doubts: Sequence[str],
        searches: Mapping[str, tuple[ops.Node, str]],
    ) -> None:
        self._column, self._doubts = column, doubts
        self._hits = {name: hit for name, (_, hit) in searches.items()}

        def build(given: ir.Table) -> ir.Table:
            placed = {
                name: search.replace({events.op(): given.op()}).to_expr() for name, (search, _) in searches.items()
            }
            return given.select(given[ROW], **placed)

        schema = events.select(column).schema().to_pyarrow().append(pa.field(ROW, pa.int64()))
        self._query: Callable[[pa.Table], pa.Table] = engine.prepare(schema, build)

    def answers(self, batch: pa.Table, hits: Mapping[str, pa.Array]) -> dict[str, pa.Array]:
        """The searches' answers on a batch, by name; ``hits`` are the automaton's."""
        rows = np.flatnonzero(reduce(or_, (_true(hits[name]) for name in self._doubts)))
        if not len(rows):
            return {name: hits[hit] for name, hit in self._hits.items()}
        found = self._query(pa.table({self._column: batch[self._column].take(rows), ROW: rows}))
        judged = found[ROW].to_numpy()
        return {name: _corrected(hits[hit], judged, found[name]) for name, hit in self._hits.items()}


def _true(answers: pa.Array) -> npt.NDArray[np.bool_]:
    found: npt.NDArray[np.bool_] = answers.fill_null(False).to_numpy(zero_copy_only=False)
    return found


def _corrected(hits: pa.Array, rows: npt.NDArray[np.int64], answers: pa.ChunkedArray) -> pa.Array:
    """``hits`` with ``answers`` at ``rows``, none of which is null: a text that is null is in no doubt."""
    values = _true(hits).copy()
    values[rows] = answers.to_numpy()
    missing = hits.is_null().to_numpy(zero_copy_only=False) if hits.null_count else None
    return pa.array(values, mask=missing)
