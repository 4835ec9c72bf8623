"""Features as of the times of a spine: every row of it once, in its order, its columns first, then the features.

Views are joined one after the other; then their rows, which DuckDB brings into the spine's order (on disk, if they are
many), run beside the spine's own in batches, so that nothing but a batch is held here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from weakfish.errors import StoreError
from weakfish.store.offline.asof import Join, View, columns_of
from weakfish.store.offline.latest import held_reader
from weakfish.store.offline.session import Limits, explained, session
from weakfish.store.offline.source import FUNCTIONS, open_source
from weakfish.store.offline.spine import Spine

Open = Callable[[duckdb.DuckDBPyConnection], Spine]


@dataclass(frozen=True)
class Retrieval:
    """What is to be retrieved; nothing is read before `reader`.

    Attributes
    ----------
    limits : Limits
    spine : callable
        Opens the spine in a session.
    views : sequence of tuple
        Each view with the Feast source behind it.
    """

    limits: Limits
    spine: Open
    views: Sequence[tuple[View, Any]]

    def reader(self, rows: int) -> pa.RecordBatchReader:
        """The result in batches of at most ``rows`` rows.

        Raises
        ------
        TableError, UserError
            When Parquet is missing or unreadable, lacks a column, or does not go with the spine.
        StoreError
            When DuckDB fails.
        """
        with ExitStack() as stack:
            connection = stack.enter_context(session(self.limits))
            with explained("The as-of join"):
                connection.execute(FUNCTIONS)
                spine = self.spine(connection)
                numbered = spine.number(connection, columns_of([view for view, _ in self.views]))
                joins = []
                for number, (view, source) in enumerate(self.views):
                    opened = open_source(connection, source, self.limits.repo, mapped=True)
                    joins.append(Join(view, opened, numbered, number))
                found = [_in_order(connection, join, rows) for join in joins]
                schema, asked = spine.batches(connection, rows)
            held = stack.pop_all()
        for features in found:
            for field in features.schema:
                schema = schema.append(field)
        return held_reader(schema, _beside(schema, asked, found), held, "The as-of join")


class InOrder:
    """The rows of a stream that is sorted by its first column, the row's number, as they stand beside a spine's."""

    def __init__(self, reader: pa.RecordBatchReader, view: str) -> None:
        self.schema = reader.schema.remove(0)
        self._reader, self._view = reader, view
        self._rest = reader.schema.empty_table()

    def rows(self, start: int, count: int) -> pa.Table:
        """The features of ``count`` rows from ``start`` on, null where there are none; raises `StoreError`."""
        parts = [self._rest]
        while not parts[-1].num_rows or parts[-1][0][-1].as_py() < start + count:
            try:
                parts.append(pa.Table.from_batches([self._reader.read_next_batch()]))
            except StopIteration:
                break
        table = pa.concat_tables(parts)
        numbers = table[0].to_numpy()
        cut = int(np.searchsorted(numbers, start + count))
        self._rest, mine = table.slice(cut), numbers[:cut]
        if len(mine) and (mine[0] < start or (np.diff(mine) <= 0).any()):
            raise StoreError(f"The as-of join of view {self._view!r} gave a row twice; its Parquet changed meanwhile.")
        found = table.slice(0, cut).remove_column(0)
        if cut == count:
            return found
        places = np.full(count, -1)
        places[mine - start] = np.arange(cut)
        return found.combine_chunks().take(pa.array(places, mask=places < 0))


def _in_order(connection: duckdb.DuckDBPyConnection, join: Join, rows: int) -> InOrder:
    what = f"The as-of join of view {join.view.name!r}"
    with explained(what):
        join.match(connection)
        return InOrder(connection.cursor().sql(join.features()).to_arrow_reader(rows), join.view.name)


def _beside(schema: pa.Schema, asked: Iterator[pa.Table], found: Sequence[InOrder]) -> Iterator[pa.RecordBatch]:
    start = 0
    for spine in asked:
        columns = list(spine.columns)
        for features in found:
            columns += features.rows(start, spine.num_rows).columns
        start += spine.num_rows
        yield from pa.table(columns, schema=schema).combine_chunks().to_batches()
