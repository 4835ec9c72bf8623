"""What an engine must do: make Ibis tables of files and of Arrow data, and run expressions to Arrow."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal, Protocol

import ibis.expr.types as ir
import pyarrow as pa

Fold = Literal["sum", "first", "last"]
"""How a column runs up: the total of whole numbers, the group's first value, or the latest value that is not null."""


class Engine(Protocol):
    """Runs Ibis expressions. Rows come out in any order unless the expression orders them, whatever the input."""

    def read(self, files: Sequence[Path]) -> ir.Table:
        """A table of Parquet files of one schema, in the order given; raises `TableError` where one is unreadable."""
        ...

    def from_arrow(self, table: pa.Table) -> ir.Table:
        """A table of data in memory."""
        ...

    def keep(self, expression: ir.Table) -> ir.Table:
        """The rows of ``expression``, computed once and kept in the engine; raises `WeakfishError` like `run`."""
        ...

    def accumulate(self, changes: Sequence[ir.Table], group: str, order: str, folds: Mapping[str, Fold]) -> ir.Table:
        """What changes add up to: one row per ``group`` and ``order`` (int64) that any change has, in no order.

        Each column of ``folds`` runs up over the rows of its group in their order, itself included. A change has
        ``group``, ``order`` (together unique in it) and some of the columns; the others it leaves as they are. Each
        group's first row has the ``first`` and ``last`` columns. Totals are exact.
        """
        ...

    def prepare(self, schema: pa.Schema, build: Callable[[ir.Table], ir.Table]) -> Callable[[pa.Table], pa.Table]:
        """A query over tables of ``schema``, compiled once: what it returns runs it on one table after the other.

        ``build`` makes the query of an unbound table with the columns of ``schema``; tables in memory that it refers to
        are loaded once. Running raises `WeakfishError` like `run`.
        """
        ...

    def run(self, expression: ir.Table) -> pa.Table:
        """The rows of ``expression``; raises `WeakfishError` with the engine's own message when it cannot be run."""
        ...


def connect() -> Engine:
    """The engine of this machine: DuckDB."""
    from weakfish.compute.duckdb.engine import DuckDBEngine

    return DuckDBEngine()
