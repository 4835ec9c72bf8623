"""The table that a suite runs over, and facts about its partitions: all found in one pass, and remembered.

A partition may lack a column, or have one of a narrower type; it is read as if it had the table's own.
"""

from __future__ import annotations

import glob
import platform
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import ibis
import ibis.expr.operations as ops
import ibis.expr.types as ir
import numpy as np
import pyarrow as pa
from ibis.common.exceptions import IbisError

from weakfish.checks.expectations.python_regex import PYTHON_SEARCH, search_by_python
from weakfish.contracts.hashes import hashes_of
from weakfish.contracts.pointers import local
from weakfish.contracts.tables import open_partition, read_partition
from weakfish.errors import TableError
from weakfish.project.cache import Cache, key_of
from weakfish.project.runs import Progress

ROW = "file_row_number"
"""The position of a row within its partition, as DuckDB calls it."""

VIEW = "weakfish_partition"
"""The name by which compiled queries know a partition."""

_VERSIONS = (1, platform.python_version(), pa.__version__, duckdb.__version__, np.__version__)
"""What facts follow from besides rows and question; the first is raised whenever they change their meaning."""


class Unsure(Exception):
    """The engine does not surely say what Great Expectations would, which is then asked itself, over pandas."""


@dataclass(frozen=True)
class PartitionFact:
    """What is to be known of each partition.

    Attributes
    ----------
    name
        What it follows from, besides the rows.
    columns
        The columns that are read.
    of
        The aggregate, of a partition's rows.
    then
        What is made of its value, where DuckDB cannot; it may raise `Unsure`.
    """

    name: str
    columns: Sequence[str]
    of: Callable[[ir.Table], ir.Value]
    then: Callable[[pa.Scalar], Any] = lambda value: value

    @property
    def identity(self) -> tuple[str, ...]:
        """What tells it from other facts of the table."""
        return self.name, *self.columns


Found = dict[tuple[str, ...], dict[str, Any]]
"""The values of facts, by their identity and partition; an `Unsure` stands where there is none."""


class CheckedTable:
    """A table by its partitions, in order."""

    def __init__(self, files: Mapping[str, Path], cache: Cache, schema: pa.Schema | None = None) -> None:
        """Read the files' footers; raises `TableError` when one is missing, cut off, or of types that do not fit.

        A ``schema`` is that of a table of which these are some partitions.
        """
        self.files, self.cache, self.schema = files, cache, schema or pa.schema([])
        self.sizes: dict[str, int] = {}
        self._types: dict[str, str] = {}
        self._queries: dict[tuple[Any, ...], str] = {}
        for part, file in files.items():
            opened = open_partition(file)
            self.sizes[part] = opened.metadata.num_rows
            try:
                schema = opened.schema_arrow.remove_metadata()
                self._types[part] = sys.intern(schema.to_string())
                self.schema = pa.unify_schemas([self.schema, schema], promote_options="permissive")
            except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
                reason = str(error).splitlines()[0].rstrip(".")
                raise TableError(
                    f"{file} has other types than the partitions before it ({reason}); make it again."
                ) from error
        self.rows = sum(self.sizes.values())
        self.starts = dict(zip(files, np.cumsum([0, *self.sizes.values()]).tolist(), strict=False))
        self.hashes = hashes_of(files)

    @contextmanager
    def opened(self) -> Iterator[CheckedTable]:
        """The table with a DuckDB session; at the end the cache is rid of what was not asked for."""
        with self.session():
            yield self
        self.cache.drop_unused()

    @contextmanager
    def session(self) -> Iterator[None]:
        """A DuckDB session."""
        self.engine = ibis.duckdb.connect()
        session = self.engine.con
        session.execute("SET TimeZone = 'UTC'")
        session.create_function(PYTHON_SEARCH, search_by_python, ["VARCHAR", "VARCHAR"], "BOOLEAN", type="arrow")
        try:
            yield
        finally:
            session.remove_function(PYTHON_SEARCH)  # else DuckDB complains of a leak when Python ends
            self.engine.disconnect()

    def lacking(self, wanted: Sequence[PartitionFact]) -> list[str]:
        """The partitions of which the cache lacks facts."""
        return [
            part for part in self.files if not all(self.cache.file(self._key(part, fact)).exists() for fact in wanted)
        ]

    def facts(self, wanted: Sequence[PartitionFact]) -> Found:
        """The facts of each partition: from the cache, or in one pass over the partition."""
        facts = {fact.identity: fact for fact in wanted}
        found: Found = {identity: {} for identity in facts}
        progress = Progress("Rows checked", self.rows)
        for part in self.files:
            missing = {}
            for identity, fact in facts.items():
                kept = self.cache.get(self._key(part, fact))
                if kept is None:
                    missing[identity] = fact
                else:
                    found[identity][part] = _read(kept)
            for identity, value in self._computed(part, list(missing.values())) if missing else ():
                found[identity][part] = value
            progress.add(self.sizes[part])
        return found

    def part(self, part: str, columns: Sequence[str]) -> ir.Table:
        """Some columns of a partition, with null for NaN as pandas sees them, and `ROW`."""
        file = glob.escape(str(local(self.files[part])))
        return self._of(self.engine.read_parquet(file, file_row_number=True, hive_partitioning=False), columns)

    def _of(self, table: ir.Table, columns: Sequence[str]) -> ir.Table:
        return table.select(**{name: self._column(table, name) for name in columns}, **{ROW: table[ROW]})

    def run(self, query: ir.Table) -> pa.Table:
        """The rows of a query; raises `duckdb.Error`."""
        self._register(query)
        return self.engine.con.sql(self.engine.compile(query)).to_arrow_table()

    def _register(self, query: ir.Table) -> None:
        for memory in query.op().find(ops.InMemoryTable):
            self.engine.con.register(memory.name, memory.data.to_pyarrow(memory.schema))

    def read(self, columns: Sequence[str]) -> pa.Table:
        """Whole columns of all partitions."""
        wanted = [name for name in self.schema.names if name in columns]
        return pa.concat_tables([self._whole(part, wanted) for part in self.files])

    def _column(self, table: ir.Table, name: str) -> ir.Value:
        kind = ibis.Schema.from_pyarrow(pa.schema([self.schema.field(name)]))[name]
        if name not in table.columns:
            return ibis.null(kind)
        column = table[name] if table[name].type() == kind else table[name].cast(kind)
        return column.isnan().ifelse(ibis.null(kind), column) if kind.is_floating() else column

    def _computed(self, part: str, facts: Sequence[PartitionFact]) -> Iterator[tuple[tuple[str, ...], Any]]:
        columns = sorted({name for fact in facts for name in fact.columns})
        try:
            values = self._aggregated(part, columns, facts)
        except (duckdb.Error, IbisError) as error:
            self._whole(part, columns)  # says so if the file is damaged; else the rows are such as DuckDB cannot take
            yield from ((fact.identity, Unsure(str(error).splitlines()[0])) for fact in facts)
            return
        for place, fact in enumerate(facts):
            try:
                value = fact.then(values.column(place)[0])
            except Unsure as why:
                yield fact.identity, why
                continue
            content = _written(value)
            self.cache.put(self._key(part, fact), content)
            yield fact.identity, _read(content)

    def _aggregated(self, part: str, columns: Sequence[str], facts: Sequence[PartitionFact]) -> pa.Table:
        """The aggregates of facts, one row; compiled once for all partitions that have the same columns."""
        session, file = self.engine.con, str(local(self.files[part]))
        session.execute(
            f"CREATE OR REPLACE TEMP VIEW {VIEW} AS SELECT * FROM read_parquet("  # noqa: S608
            f"'{glob.escape(file).replace(chr(39), chr(39) * 2)}', file_row_number = true, hive_partitioning = false)"
        )
        asked = (self._types[part], *(fact.identity for fact in facts))
        if asked not in self._queries:
            rows = self._of(self.engine.table(VIEW), columns)
            query = rows.aggregate([fact.of(rows).name(f"f{place}") for place, fact in enumerate(facts)])
            self._register(query)
            self._queries[asked] = self.engine.compile(query)
        return session.sql(self._queries[asked]).to_arrow_table()

    def _key(self, part: str, fact: PartitionFact) -> str:
        types = [str(self.schema.field(name).type) for name in fact.columns]
        return key_of(_VERSIONS, self.hashes[part], fact.identity, types)

    def _whole(self, part: str, columns: Sequence[str]) -> pa.Table:
        schema, file = pa.schema([self.schema.field(name) for name in columns]), self.files[part]
        have = [name for name in columns if name in open_partition(file).schema_arrow.names]
        found = read_partition(file, have)
        arrays = [
            found[of.name].cast(of.type, safe=False) if of.name in have else pa.nulls(self.sizes[part], of.type)
            for of in schema
        ]
        return pa.Table.from_arrays(arrays, schema=schema)


def _written(value: Any) -> pa.Buffer:
    """A fact's value, a scalar or an array, as an Arrow stream."""
    array = pa.array(value) if isinstance(value, np.ndarray) else pa.repeat(value, 1)
    batch = pa.record_batch({"array" if isinstance(value, np.ndarray) else "scalar": array})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return sink.getvalue()


def _read(content: pa.Buffer) -> Any:
    batch = pa.ipc.open_stream(content).read_next_batch()
    return batch.column(0).to_numpy() if batch.schema.names == ["array"] else batch.column(0)[0]
