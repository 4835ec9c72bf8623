"""Ibis on an in-memory DuckDB: Parquet and Arrow in, Arrow out."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import duckdb
import ibis
import ibis.expr.operations as ops
import ibis.expr.types as ir
import pyarrow as pa

from weakfish.compute.contract import Fold
from weakfish.compute.duckdb.accumulate import accumulated
from weakfish.errors import TableError, WeakfishError


class DuckDBEngine:
    """One in-memory database; its session runs in UTC."""

    def __init__(self) -> None:
        self.connection = ibis.duckdb.connect()
        self.connection.raw_sql("SET TimeZone = 'UTC'")
        self._kept = 0

    def read(self, files: Sequence[Path]) -> ir.Table:
        """See `Engine.read`."""
        try:
            with _quiet():
                return cast(ir.Table, self.connection.read_parquet([str(file) for file in files]))
        except (duckdb.Error, FileNotFoundError) as error:
            names = ", ".join(file.name for file in files)
            raise TableError(
                f"Parquet cannot be read from {names}: {first_line(error)}; run the stage again."
            ) from error

    def from_arrow(self, table: pa.Table) -> ir.Table:
        """See `Engine.from_arrow`."""
        return ibis.memtable(table)

    def keep(self, expression: ir.Table) -> ir.Table:
        """See `Engine.keep`."""
        self._kept += 1
        try:
            with _quiet():
                return self.connection.create_table(f"weakfish_kept_{self._kept}", expression, temp=True)
        except duckdb.Error as error:
            raise WeakfishError(f"DuckDB could not run an expression: {first_line(error)}.") from error

    def accumulate(self, changes: Sequence[ir.Table], group: str, order: str, folds: Mapping[str, Fold]) -> ir.Table:
        """See `Engine.accumulate`."""
        names = [f"weakfish_change_{number}" for number in range(len(changes))]
        self._kept += 1
        name = f"weakfish_kept_{self._kept}"
        try:
            with _quiet():
                for view, change in zip(names, changes, strict=True):
                    self.connection.create_view(view, change, overwrite=True)
            batches = accumulated(self.connection.con, names, group, order, folds)
            for number, batch in enumerate(batches):
                self.connection.con.register("weakfish_batch", batch)
                start = f"INSERT INTO {name}" if number else f"CREATE TEMP TABLE {name} AS"
                self.connection.con.execute(f"{start} FROM weakfish_batch")
            self.connection.con.unregister("weakfish_batch")
        except duckdb.Error as error:
            raise WeakfishError(f"DuckDB could not run an expression: {first_line(error)}.") from error
        with _quiet():
            return self.connection.table(name)

    def prepare(self, schema: pa.Schema, build: Callable[[ir.Table], ir.Table]) -> Callable[[pa.Table], pa.Table]:
        """See `Engine.prepare`."""
        self._kept += 1
        name = f"weakfish_given_{self._kept}"
        expression = build(ibis.table(ibis.Schema.from_pyarrow(schema), name=name))
        in_memory = {table: self.keep(table.to_expr()).op() for table in expression.op().find(ops.InMemoryTable)}
        query = self.connection.compile(expression.op().replace(in_memory).to_expr())
        con = self.connection.con

        def run(table: pa.Table) -> pa.Table:
            con.register(name, table)
            try:
                return con.sql(query).to_arrow_table()
            except duckdb.Error as error:
                raise WeakfishError(f"DuckDB could not run an expression: {first_line(error)}.") from error
            finally:
                con.unregister(name)

        return run

    def run(self, expression: ir.Table) -> pa.Table:
        """See `Engine.run`."""
        try:
            return self.connection.to_pyarrow(expression)
        except duckdb.Error as error:
            raise WeakfishError(f"DuckDB could not run an expression: {first_line(error)}.") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Ibis 12 itself calls what DuckDB 2 deprecates."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"fetch_arrow_table\(\) is deprecated", category=DeprecationWarning)
        yield


def first_line(error: Exception) -> str:
    """The engine's message without the query that it repeats."""
    return str(error).strip().splitlines()[0].rstrip(".")
