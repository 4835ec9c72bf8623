"""What an engine must do: make Ibis tables of files and of Arrow data, and run expressions to Arrow."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import ibis.expr.types as ir
import pyarrow as pa


class Engine(Protocol):
    """Runs Ibis expressions. Rows come out in any order unless the expression orders them, whatever the input."""

    def read(self, files: Sequence[Path]) -> ir.Table:
        """A table of Parquet files of one schema, in the order given; raises `TableError` where one is unreadable."""
        ...

    def from_arrow(self, table: pa.Table) -> ir.Table:
        """A table of data in memory."""
        ...

    def run(self, expression: ir.Table) -> pa.Table:
        """The rows of ``expression``; raises `WeakfishError` with the engine's own message when it cannot be run."""
        ...


def connect() -> Engine:
    """The engine of this machine: DuckDB."""
    from weakfish.compute.duckdb.engine import DuckDBEngine

    return DuckDBEngine()
