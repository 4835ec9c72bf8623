"""Ibis on an in-memory DuckDB: Parquet and Arrow in, Arrow out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import duckdb
import ibis
import ibis.expr.types as ir
import pyarrow as pa

from weakfish.errors import TableError, WeakfishError


class DuckDBEngine:
    """One in-memory database; its session runs in UTC."""

    def __init__(self) -> None:
        self.connection = ibis.duckdb.connect()
        self.connection.raw_sql("SET TimeZone = 'UTC'")

    def read(self, files: Sequence[Path]) -> ir.Table:
        """See `Engine.read`."""
        try:
            return cast(ir.Table, self.connection.read_parquet([str(file) for file in files]))
        except (duckdb.Error, FileNotFoundError) as error:
            names = ", ".join(file.name for file in files)
            raise TableError(
                f"Parquet cannot be read from {names}: {first_line(error)}; run the stage again."
            ) from error

    def from_arrow(self, table: pa.Table) -> ir.Table:
        """See `Engine.from_arrow`."""
        return ibis.memtable(table)

    def run(self, expression: ir.Table) -> pa.Table:
        """See `Engine.run`."""
        try:
            return self.connection.to_pyarrow(expression)
        except duckdb.Error as error:
            raise WeakfishError(f"DuckDB could not run an expression: {first_line(error)}.") from error


def first_line(error: Exception) -> str:
    """The engine's message without the query that it repeats."""
    return str(error).strip().splitlines()[0].rstrip(".")
