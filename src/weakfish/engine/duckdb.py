"""The engine: makes Ibis tables of files and of Arrow data, and runs expressions to Arrow, on DuckDB."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, cast

import duckdb
import ibis
import ibis.expr.operations as ops
import ibis.expr.types as ir
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from weakfish.contracts.pointers import all_local
from weakfish.errors import TableError, WeakfishError

Fold = Literal["sum", "first", "last"]
"""How a column runs up: the total of whole numbers, the group's first value, or the latest value that is not null."""


class Engine:
    """Runs Ibis expressions in one in-memory DuckDB, in UTC.

    Rows come out in any order unless the expression orders them, whatever the input.
    """

    def __init__(self) -> None:
        self.connection = ibis.duckdb.connect()
        self.connection.raw_sql("SET TimeZone = 'UTC'")
        self._kept = 0

    def _name(self, what: str) -> str:
        self._kept += 1
        return f"weakfish_{what}_{self._kept}"

    def read(self, files: Sequence[Path]) -> ir.Table:
        """A table of Parquet files of one schema, in the order given; raises `TableError` where one is unreadable."""
        try:
            with quiet():
                return cast(ir.Table, self.connection.read_parquet([str(file) for file in all_local(files)]))
        except (duckdb.Error, FileNotFoundError) as error:
            names = ", ".join(file.name for file in files)
            raise TableError(
                f"Parquet cannot be read from {names}: {first_line(error)}; run the stage again."
            ) from error

    def from_arrow(self, table: pa.Table) -> ir.Table:
        """A table of data in memory."""
        return ibis.memtable(table)

    def keep(self, expression: ir.Table) -> ir.Table:
        """The rows of ``expression``, computed once and kept in the engine; raises `WeakfishError` like `run`."""
        with _told(), quiet():
            return self.connection.create_table(self._name("kept"), expression, temp=True)

    def lend(self, table: pa.Table) -> ir.Table:
        """A table of data in memory, as `from_arrow`; the engine lets go of it at the end of a `scratch`."""
        name = self._name("lent")
        self.connection.con.register(name, table)
        with quiet():
            return self.connection.table(name)

    @contextmanager
    def scratch(self) -> Iterator[None]:
        """What is kept or lent within the block goes with it."""
        before = self._kept
        try:
            yield
        finally:
            for number in range(before + 1, self._kept + 1):
                self.connection.con.execute(f"DROP TABLE IF EXISTS weakfish_kept_{number}")
                self.connection.con.unregister(f"weakfish_lent_{number}")

    def write(self, expression: ir.Table, file: Path, group_rows: int) -> None:
        """Write the rows of ``expression`` as Parquet, ``group_rows`` to a row group; raises `WeakfishError`."""
        name, to = self._name("written"), str(file).replace("'", "''")
        # Sums of whole numbers have 128 bits in DuckDB, which Parquet has not: they would become doubles.
        quoted = {column.replace('"', '""'): kind.is_int64() for column, kind in expression.schema().items()}
        columns = ", ".join(
            f'CAST("{each}" AS BIGINT) AS "{each}"' if of else f'"{each}"' for each, of in quoted.items()
        )
        options = f"FORMAT parquet, COMPRESSION lz4_raw, ROW_GROUP_SIZE {group_rows}"
        with _told(), quiet():
            self.connection.create_view(name, expression)
            self.connection.con.execute(f"COPY (SELECT {columns} FROM {name}) TO '{to}' ({options})")  # noqa: S608
            self.connection.con.execute(f"DROP VIEW {name}")

    def accumulate(self, changes: Sequence[ir.Table], group: str, order: str, folds: Mapping[str, Fold]) -> pa.Table:
        """What changes add up to: one row per ``group`` and ``order`` (int64) that any change has, in their order.

        Each column of ``folds`` runs up over the rows of its group in their order, itself included. A change has
        ``group``, ``order`` (together unique in it) and some of the columns; the others it leaves as they are. Each
        group's first row has the ``first`` and ``last`` columns. Totals are exact.
        """
        names = [f"weakfish_change_{number}" for number in range(len(changes))]
        with _told(), quiet():
            for name, change in zip(names, changes, strict=True):
                self.connection.create_view(name, change, overwrite=True)
            try:
                return accumulated(self.connection.con, names, group, order, folds)
            finally:
                for name in names:
                    self.connection.con.execute(f"DROP VIEW {name}")

    def prepare(self, schema: pa.Schema, build: Callable[[ir.Table], ir.Table]) -> Callable[[pa.Table], pa.Table]:
        """A query over tables of ``schema``, compiled once: what it returns runs it on one table after the other.

        ``build`` makes the query of an unbound table with the columns of ``schema``; tables in memory that it refers to
        are loaded once. Running raises `WeakfishError` like `run`.
        """
        name = self._name("given")
        expression = build(ibis.table(ibis.Schema.from_pyarrow(schema), name=name))
        in_memory = {table: self.keep(table.to_expr()).op() for table in expression.op().find(ops.InMemoryTable)}
        query = self.connection.compile(expression.op().replace(in_memory).to_expr())
        con = self.connection.con

        def run(table: pa.Table) -> pa.Table:
            con.register(name, table)
            try:
                with _told():
                    return con.sql(query).to_arrow_table()
            finally:
                con.unregister(name)

        return run

    def run(self, expression: ir.Table) -> pa.Table:
        """The rows of ``expression``; raises `WeakfishError` with the engine's own message when it cannot be run."""
        with _told():
            return self.connection.to_pyarrow(expression)


def connect() -> Engine:
    """The engine of this machine: DuckDB."""
    return Engine()


@contextmanager
def _told() -> Iterator[None]:
    """What DuckDB says of an expression that it cannot run becomes a `WeakfishError`."""
    try:
        yield
    except duckdb.Error as error:
        raise WeakfishError(f"DuckDB could not run an expression: {first_line(error)}.") from error


@contextmanager
def quiet() -> Iterator[None]:
    """Ibis 12 itself calls what DuckDB 2 deprecates."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"fetch_arrow_table\(\) is deprecated", category=DeprecationWarning)
        yield


def first_line(error: Exception) -> str:
    """The engine's message without the query that it repeats."""
    return str(error).strip().splitlines()[0].rstrip(".")


Integers = npt.NDArray[np.int64]

MISSING = np.iinfo(np.int64).min


def accumulated(
    connection: duckdb.DuckDBPyConnection, changes: Sequence[str], group: str, order: str, folds: Mapping[str, Fold]
) -> pa.Table:
    """The result of `Engine.accumulate`; ``changes`` are names of tables in ``connection``."""
    one = {"sum": "CAST(coalesce(sum({0}), 0) AS BIGINT) AS {0}"}  # where only one change has a value, it is the max
    columns = ", ".join(one.get(fold, "max({0}) AS {0}").format(f'"{name}"') for name, fold in folds.items())
    every = " UNION ALL BY NAME ".join(f"SELECT * FROM {name}" for name in changes)  # noqa: S608
    keys = f'"{group}", "{order}"'
    table = connection.sql(f"SELECT {keys}, {columns} FROM ({every}) GROUP BY {keys} ORDER BY {keys}").to_arrow_table()  # noqa: S608
    starts = group_starts(table[group])
    for name, fold in folds.items():
        column = table[name]
        values = column.cast(pa.int64()).fill_null(MISSING).to_numpy()
        run_up = pa.array(_run_up(values, starts, fold)).cast(column.type)
        table = table.set_column(table.column_names.index(name), name, run_up)
    return table


def group_starts(group: pa.ChunkedArray) -> Integers:
    """The positions at which a new group starts."""
    if not len(group):
        return np.zeros(0, np.int64)
    changed = pc.not_equal(group[1:], group[:-1]).to_numpy()
    return np.concatenate([[0], np.flatnonzero(changed) + 1]).astype(np.int64)


def _run_up(values: Integers, starts: Integers, fold: Fold) -> Integers:
    if not len(values):
        return values
    lengths = np.diff(np.append(starts, len(values)))
    if fold == "sum":
        total = np.cumsum(values)
        return total - np.repeat(total[starts] - values[starts], lengths)
    if fold == "first":
        return np.repeat(values[starts], lengths)
    latest = np.maximum.accumulate(np.where(values == MISSING, 0, np.arange(len(values))))
    return values[latest]
