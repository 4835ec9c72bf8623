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
            with _quiet():
                return cast(ir.Table, self.connection.read_parquet([str(file) for file in files]))
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
        with _told(), _quiet():
            return self.connection.create_table(self._name("kept"), expression, temp=True)

    def accumulate(self, changes: Sequence[ir.Table], group: str, order: str, folds: Mapping[str, Fold]) -> ir.Table:
        """What changes add up to: one row per ``group`` and ``order`` (int64) that any change has, in no order.

        Each column of ``folds`` runs up over the rows of its group in their order, itself included. A change has
        ``group``, ``order`` (together unique in it) and some of the columns; the others it leaves as they are. Each
        group's first row has the ``first`` and ``last`` columns. Totals are exact.
        """
        names = [f"weakfish_change_{number}" for number in range(len(changes))]
        name, con = self._name("kept"), self.connection.con
        with _told(), _quiet():
            for view, change in zip(names, changes, strict=True):
                self.connection.create_view(view, change, overwrite=True)
            for number, batch in enumerate(accumulated(con, names, group, order, folds)):
                con.register("weakfish_batch", batch)
                start = f"INSERT INTO {name}" if number else f"CREATE TEMP TABLE {name} AS"
                con.execute(f"{start} FROM weakfish_batch")
            con.unregister("weakfish_batch")
            return self.connection.table(name)

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
def _quiet() -> Iterator[None]:
    """Ibis 12 itself calls what DuckDB 2 deprecates."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"fetch_arrow_table\(\) is deprecated", category=DeprecationWarning)
        yield


def first_line(error: Exception) -> str:
    """The engine's message without the query that it repeats."""
    return str(error).strip().splitlines()[0].rstrip(".")


Integers = npt.NDArray[np.int64]

BATCH_CHANGES = 5_000_000
"""About how many changes are worked on at a time."""

KEYS = "weakfish_keys"
MISSING = np.iinfo(np.int64).min


def accumulated(
    connection: duckdb.DuckDBPyConnection, changes: Sequence[str], group: str, order: str, folds: Mapping[str, Fold]
) -> Iterator[pa.Table]:
    """Yield the result of `Engine.accumulate` in batches of whole groups; at least one, which may be empty.

    ``changes`` are names of tables in ``connection``.
    """
    counts = [connection.execute(f"SELECT count(*) FROM {name}").fetchall()[0][0] for name in changes]  # noqa: S608
    batches = sum(counts) // BATCH_CHANGES + 1
    for batch in range(batches):
        mine = f'hash("{group}") % {batches} = {batch}'
        rows = " UNION ".join(
            f'SELECT "{group}", "{order}" FROM {name} WHERE {mine}'  # noqa: S608
            for name in changes
        )
        numbered = f'SELECT *, row_number() OVER (ORDER BY "{group}", "{order}") - 1 AS weakfish_row FROM ({rows})'  # noqa: S608
        connection.execute(f"CREATE OR REPLACE TEMP TABLE {KEYS} AS {numbered}")
        yield _batch(connection, changes, group, order, folds)
    connection.execute(f"DROP TABLE {KEYS}")


def _batch(
    connection: duckdb.DuckDBPyConnection, changes: Sequence[str], group: str, order: str, folds: Mapping[str, Fold]
) -> pa.Table:
    keys = connection.table(KEYS).order("weakfish_row").to_arrow_table().drop_columns("weakfish_row")
    totals = {name: np.full(len(keys), 0 if fold == "sum" else MISSING) for name, fold in folds.items()}
    types: dict[str, pa.DataType] = dict.fromkeys(folds, pa.int64())
    for change in changes:
        found = connection.sql(
            f'SELECT weakfish_row, c.* EXCLUDE ("{group}", "{order}") FROM {change} c '  # noqa: S608
            f'JOIN {KEYS} USING ("{group}", "{order}")'
        ).to_arrow_table()
        rows = found["weakfish_row"].to_numpy()
        for name in found.column_names[1:]:
            values = found[name].cast(pa.int64()).to_numpy()
            if folds[name] == "sum":
                totals[name][rows] += values
            else:
                totals[name][rows] = values
                types[name] = found[name].type
    starts = _starts(keys[group])
    for name, fold in folds.items():
        column = pa.array(_run_up(totals.pop(name), starts, fold)).cast(types[name])
        keys = keys.append_column(name, column)
    return keys


def _starts(group: pa.ChunkedArray) -> Integers:
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
