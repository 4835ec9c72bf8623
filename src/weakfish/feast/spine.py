"""Queries that people give as entity rows: checked, and their relative paths made to start at the Feast repository.

DuckDB would look in the working directory; so the query is parsed, what names a file is resolved, and it is written
out again. A query comes in and goes out as text.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from weakfish.errors import UserError
from weakfish.feast.parquet import Source, explained, files, first_line, literal, open_files, quoted, spill_folder

SUFFIXES = (".parquet", ".parq", ".pq", ".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".gz", ".zst")


def from_repository(connection: duckdb.DuckDBPyConnection, query: str, repo: Path | None) -> str:
    """The query with paths that are relative starting at ``repo``; raises `UserError` unless it is one that reads."""
    parsed = json.loads(connection.execute(f"SELECT json_serialize_sql({literal(query)})").fetchall()[0][0])
    if parsed["error"] or len(parsed["statements"]) != 1:
        said = parsed.get("error_message", "there is more than one statement")
        raise UserError(f"The query of the entity rows is no SELECT that DuckDB reads ({said}); correct it.")
    _resolve(parsed, (repo or Path()).absolute())
    text = literal(json.dumps(parsed))
    written: str = connection.execute(f"SELECT json_deserialize_sql({text})").fetchall()[0][0]
    return written


def columns_of_query(connection: duckdb.DuckDBPyConnection, query: str) -> dict[str, str]:
    """The columns of a query and DuckDB's types of them; raises `UserError` when it cannot be run."""
    try:
        described = connection.execute(f"DESCRIBE {query}").fetchall()
    except duckdb.Error as error:
        raise UserError(f"The query of the entity rows cannot be run: {first_line(error)}; correct it.") from error
    return {str(name): str(kind) for name, kind, *_ in described}


def _resolve(node: Any, repo: Path) -> None:
    """Rewrite the names of files in a parsed query, wherever they stand."""
    if isinstance(node, list):
        for part in node:
            _resolve(part, repo)
    elif isinstance(node, dict):
        if node.get("type") == "BASE_TABLE" and node["table_name"].lower().endswith(SUFFIXES):
            node["table_name"] = _absolute(node["table_name"], repo)
            node["qualified_name"]["path"] = [node["table_name"]]
        elif node.get("type") == "TABLE_FUNCTION":
            for argument in node["function"]["arguments"][:1]:
                _resolve_texts(argument["expression"], repo)
        for part in node.values():
            _resolve(part, repo)


def _resolve_texts(node: Any, repo: Path) -> None:
    if isinstance(node, list):
        for part in node:
            _resolve_texts(part, repo)
    elif isinstance(node, dict):
        if node.get("kind") == "STRING" and node["text"].lower().endswith(SUFFIXES):
            node["text"] = _absolute(node["text"], repo)
        for part in node.values():
            _resolve_texts(part, repo)


def _absolute(path: str, repo: Path) -> str:
    return path if "://" in path else str(repo / path)


TIMESTAMP = "event_timestamp"
"""The time column, unless a spine has just one other."""

READING = "Reading the entity rows"


@dataclass(frozen=True)
class Numbered:
    """What joins need of a spine: a relation with the columns ``row`` (from 0), ``t`` and one per key.

    Attributes
    ----------
    rows : int
    unit : str
        Of ``t``, a whole number since 1970: ``us`` or ``ns``.
    first, last : int or None
        The least and greatest ``t``; None where no row has a time.
    keys : dict of str to tuple
        The relation's column and DuckDB's type of it, by the spine's column.
    """

    rows: int
    unit: str
    first: int | None
    last: int | None
    keys: Mapping[str, tuple[str, str]]
    relation: str = "spine"


class Spine(Protocol):
    """Rows in a fixed order; ``time`` is the column of their times."""

    names: Sequence[str]
    time: str

    def number(self, connection: duckdb.DuckDBPyConnection, keys: Sequence[str]) -> Numbered:
        """Make the relation of row numbers, times and keys."""
        ...

    def batches(self, connection: duckdb.DuckDBPyConnection, rows: int) -> tuple[pa.Schema, Iterator[pa.Table]]:
        """All columns of all rows, in order, in pieces of about ``rows`` rows; and their schema."""
        ...


class TableSpine:
    """A spine in memory."""

    def __init__(self, table: pa.Table) -> None:
        self.names: Sequence[str] = table.column_names
        self.time = time_column({field.name: pa.types.is_timestamp(field.type) for field in table.schema})
        position = self.names.index(self.time)
        times = utc(table[self.time])
        self.table = table.set_column(position, self.time, times).replace_schema_metadata(None)

    def number(self, connection: duckdb.DuckDBPyConnection, keys: Sequence[str]) -> Numbered:
        """See `Spine`."""
        times, unit = _whole(self.table[self.time])
        columns = {"row": pa.array(np.arange(self.table.num_rows)), "t": times}
        columns |= {f"c{number}": self.table[key] for number, key in enumerate(keys)}
        connection.register("spine_in_memory", pa.table(columns))
        connection.execute("CREATE OR REPLACE TABLE spine AS FROM spine_in_memory")
        connection.unregister("spine_in_memory")
        range_ = pc.min_max(times)
        kinds = {name: '"NULL"' if pa.types.is_null(column.type) else None for name, column in columns.items()}
        found = _described(connection, keys)
        typed = {key: (column, kinds[column] or kind) for key, (column, kind) in found.items()}
        return Numbered(self.table.num_rows, unit, range_["min"].as_py(), range_["max"].as_py(), typed)

    def batches(self, connection: duckdb.DuckDBPyConnection, rows: int) -> tuple[pa.Schema, Iterator[pa.Table]]:
        """See `Spine`."""
        starts = range(0, self.table.num_rows, rows)
        return self.table.schema, (self.table.slice(start, rows) for start in starts)


class FileSpine:
    """A spine of Parquet, which is never in memory as a whole; its order is that of the files' names and their rows."""

    def __init__(self, source: Source, found: Sequence[Path]) -> None:
        self.names: Sequence[str] = list(source.types)
        self.time = time_column({name: kind.startswith("TIMESTAMP") for name, kind in source.types.items()})
        self.source = source
        counts = [pq.read_metadata(file).num_rows for file in found]
        self.rows = sum(counts)
        self._starts = np.cumsum([0, *counts[:-1]]).tolist()

    def number(self, connection: duckdb.DuckDBPyConnection, keys: Sequence[str]) -> Numbered:
        """See `Spine`."""
        time = self.source.instant(self.time)
        columns = "".join(f", {self.source.column(key)} AS c{number}" for number, key in enumerate(keys))
        connection.execute(
            f"CREATE OR REPLACE VIEW spine AS SELECT {self._row} AS row, {time.sql} AS t{columns} "  # noqa: S608
            f"FROM {self.source.scan} f"
        )
        first, last = connection.execute("SELECT min(t), max(t) FROM spine").fetchall()[0]
        return Numbered(self.rows, time.unit, first, last, _described(connection, keys))

    def batches(self, connection: duckdb.DuckDBPyConnection, rows: int) -> tuple[pa.Schema, Iterator[pa.Table]]:
        """See `Spine`."""
        columns = {name: self.source.column(name) for name in self.names}
        if self.source.type(self.time) == "VARCHAR":
            columns[self.time] = f"CAST({columns[self.time]} AS TIMESTAMPTZ)"
        selected = ", ".join(f"{column} AS {quoted(name)}" for name, column in columns.items())
        query = f"SELECT {self._row}, {selected} FROM {self.source.scan} f"  # noqa: S608
        reader = connection.cursor().sql(query).to_arrow_reader(rows)
        schema = self._in_utc(reader.schema.empty_table()).schema
        return schema, self._checked(reader)

    @property
    def _row(self) -> str:
        return f"CAST({self._starts} AS BIGINT[])[CAST(f.file_index AS BIGINT) + 1] + f.file_row_number"

    def _checked(self, reader: pa.RecordBatchReader) -> Iterator[pa.Table]:
        next_row = 0
        for batch in reader:
            table = pa.Table.from_batches([batch])
            if table.num_rows and table[0][0].as_py() != next_row:
                raise UserError("The Parquet of the entity rows changed while it was read; ask again.")
            next_row += table.num_rows
            yield self._in_utc(table)

    def _in_utc(self, table: pa.Table) -> pa.Table:
        table = table.remove_column(0)
        return table.set_column(table.column_names.index(self.time), self.time, utc(table[self.time]))


def table_spine(rows: Any) -> TableSpine:
    """A spine of a pandas frame or an Arrow table; raises `UserError` when it is neither or its columns are mixed."""
    if isinstance(rows, pd.DataFrame):
        frame = rows
        if TIMESTAMP in frame.columns and not pd.api.types.is_datetime64_any_dtype(frame[TIMESTAMP]):
            frame = frame.assign(**{TIMESTAMP: _parsed(frame[TIMESTAMP])})
        try:
            return TableSpine(pa.Table.from_pandas(frame, preserve_index=False))
        except (pa.ArrowInvalid, pa.ArrowTypeError, ValueError) as error:
            raise UserError(f"The entity rows cannot be used: {first_line(error)}; correct that column.") from error
    if isinstance(rows, pa.RecordBatch):
        return TableSpine(pa.Table.from_batches([rows]))
    if isinstance(rows, pa.Table):
        return TableSpine(rows)
    raise UserError(
        f"Entity rows come as a pandas frame, an Arrow table, a SQL query or a path of Parquet, not as a {type(rows)}."
    )


def file_spine(connection: duckdb.DuckDBPyConnection, path: str, repo: Path | None) -> FileSpine:
    """A spine of the Parquet at a path; raises `TableError` when there is none."""
    source = open_files(connection, path, repo, "the entity rows")
    return FileSpine(source, files(path, repo, "the entity rows"))


def query_spine(connection: duckdb.DuckDBPyConnection, query: str) -> FileSpine:
    """A spine of a query's rows in the order they come, kept among the spill files; raises `StoreError`."""
    file = spill_folder(connection) / "spine.parquet"
    with explained("The query of the entity rows"):
        reader = connection.sql(query).to_arrow_reader(131_072)
        with pq.ParquetWriter(file, reader.schema, compression="lz4") as writer:
            for batch in reader:
                writer.write_batch(batch)
    return file_spine(connection, str(file), None)


def time_column(is_time: Mapping[str, bool]) -> str:
    """The column of the rows' times; raises `UserError` when none is called so and not just one is a time."""
    if TIMESTAMP in is_time:
        return TIMESTAMP
    times = [name for name, found in is_time.items() if found]
    if len(times) != 1:
        raise UserError(
            f"The entity rows have {', '.join(times) or 'no column'} of times; name the one that counts {TIMESTAMP!r}."
        )
    return times[0]


def utc(times: pa.ChunkedArray) -> pa.ChunkedArray:
    """Times in UTC, those without a zone being UTC; raises `UserError` for what is no time."""
    kind = times.type
    unit = kind.unit if pa.types.is_timestamp(kind) else "us"
    try:
        if pa.types.is_string(kind) or pa.types.is_large_string(kind):
            return pa.chunked_array([pa.array(_parsed(times.to_pandas()), pa.timestamp("us", "UTC"))])
        return times.cast(pa.timestamp("us" if unit in ("s", "ms") else unit, "UTC"))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise UserError(f"The times of the entity rows are {kind}, which are no times; give timestamps.") from error


def _parsed(times: pd.Series[Any]) -> pd.Series[Any]:
    try:
        return pd.to_datetime(times, utc=True)
    except (ValueError, TypeError) as error:
        raise UserError(f"The times of the entity rows are no times ({first_line(error)}); give timestamps.") from error


def _whole(times: pa.ChunkedArray) -> tuple[pa.ChunkedArray, str]:
    """Times as whole numbers, in microseconds where that is exact."""
    numbers = times.cast(pa.int64())
    if times.type.unit == "us":
        return numbers, "us"
    micros = pc.divide(numbers, 1000)
    exact = pc.all(pc.equal(pc.multiply(micros, 1000), numbers)).as_py()
    return (numbers, "ns") if exact is False else (micros, "us")


def _described(connection: duckdb.DuckDBPyConnection, keys: Sequence[str]) -> dict[str, tuple[str, str]]:
    types = {name: str(kind) for name, kind, *_ in connection.execute("DESCRIBE spine").fetchall()}
    return {key: (f"c{number}", types[f"c{number}"]) for number, key in enumerate(keys)}
