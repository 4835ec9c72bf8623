"""Entity rows: from memory, Parquet or a query, with the numbers and the times by which features are joined to them."""

from __future__ import annotations

import json
import os
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from weakfish.contracts.record import EVENT_TIMESTAMP, UNITS
from weakfish.engine.duckdb import first_line
from weakfish.errors import UserError
from weakfish.feast.asof import Numbered
from weakfish.feast.source_files import Session, StoredRows, explained, literal, open_files, selected, session

READABLE = (".parquet", ".parq", ".pq", ".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".gz", ".zst")
"""How names end that DuckDB takes for files in a query."""

READING = "Reading the entity rows"

QUERY = re.compile(r"(\s|--[^\n]*\n|/\*.*?\*/)*(select|with|from|values|table|pivot|unpivot|\()[\s(*]", re.I | re.S)
"""How a query begins; any other text is a path."""


class TableSpine:
    """Entity rows in memory, in their order; ``time`` is the column of their times."""

    def __init__(self, rows: Any) -> None:
        table = _table(rows)
        self.names: Sequence[str] = table.column_names
        self.time = time_column({field.name: pa.types.is_timestamp(field.type) for field in table.schema})
        times = utc(table[self.time])
        self.table = table.set_column(self.names.index(self.time), self.time, times).replace_schema_metadata(None)

    def number(self, opened: Session, keys: Sequence[str]) -> Numbered:
        """Make the relation of row numbers, times and keys."""
        stored = {key: f"c{number}" for number, key in enumerate(keys)}
        try:
            times = self.table[self.time].cast(pa.timestamp("us"))
        except pa.ArrowInvalid:  # there are nanoseconds, which take longer to join
            times = self.table[self.time].cast(pa.timestamp("ns"))
        columns = {"row": pa.array(np.arange(self.table.num_rows)), "t": times}
        columns |= {column: self.table[key] for key, column in stored.items()}
        opened.connection.register("entity_rows", pa.table(columns))
        types = opened.types("FROM entity_rows", READING)
        source = StoredRows("the entity rows", [], "entity_rows", types, {**stored, self.time: "t"})
        return spine_of_files(opened, source, "f.row", self.time, keys)

    def batches(self, opened: Session, rows: int) -> tuple[pa.Schema, Iterator[pa.Table]]:
        """All columns of all rows, in order, in pieces of about ``rows`` rows; and their schema."""
        starts = range(0, self.table.num_rows, rows)
        return self.table.schema, (self.table.slice(start, rows) for start in starts)


class FileSpine:
    """Entity rows of Parquet, which are never in memory as a whole; their order is that of files by name."""

    def __init__(self, source: StoredRows) -> None:
        self.names: Sequence[str] = list(source.types)
        self.time = time_column({name: kind.startswith("TIMESTAMP") for name, kind in source.types.items()})
        self.source = source
        starts = np.cumsum([0, *(pq.read_metadata(file).num_rows for file in source.files[:-1])]).tolist()
        self._row = row_number(starts)

    def number(self, opened: Session, keys: Sequence[str]) -> Numbered:
        """See `TableSpine`."""
        return spine_of_files(opened, self.source, self._row, self.time, keys)

    def batches(self, opened: Session, rows: int) -> tuple[pa.Schema, Iterator[pa.Table]]:
        """See `TableSpine`."""
        columns = {name: self.source.column(name) for name in self.names}
        if self.source.type(self.time) == "VARCHAR":
            columns[self.time] = f"CAST({columns[self.time]} AS TIMESTAMPTZ)"
        query = f"SELECT {self._row}, {selected(columns)} FROM {self.source.scan} f"  # noqa: S608
        reader = opened.stream(query, rows, READING)
        return self._in_utc(reader.schema.empty_table()).schema, self._checked(reader)

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


def row_number(starts: Sequence[int]) -> str:
    """The SQL of the numbers of rows ``f`` of files, given those of the first rows of each."""
    return f"CAST({list(starts)} AS BIGINT[])[CAST(f.file_index AS BIGINT) + 1] + f.file_row_number"


Spine = TableSpine | FileSpine
Open = Callable[[Session], Spine]


def spine_of_files(opened: Session, source: StoredRows, row: str, time: str, keys: Sequence[str]) -> Numbered:
    """The relation ``spine`` over rows, given the SQL of their numbers."""
    instant = source.instant(time)
    columns = "".join(f", {source.column(key)} AS c{number}" for number, key in enumerate(keys))
    made = f"SELECT {row} AS row, {instant.sql} AS t{columns} FROM {source.scan} f"  # noqa: S608
    return numbered(opened, made, instant.unit, keys)


def numbered(opened: Session, made: str, unit: str, keys: Sequence[str]) -> Numbered:
    """The relation ``spine`` of rows that are made with its columns."""
    opened.run(f"CREATE OR REPLACE VIEW spine AS {made}", READING)
    rows, first, last = opened.run("SELECT count(*), min(t), max(t) FROM spine", READING)[0]
    types = opened.types("FROM spine", READING)
    found = {key: (f"c{number}", types[f"c{number}"]) for number, key in enumerate(keys)}
    return Numbered(rows, unit, first, last, found)


def file_spine(opened: Session, path: str) -> FileSpine:
    """Entity rows of the Parquet at a path; raises `TableError` when there is none."""
    return FileSpine(open_files(opened, path, "the entity rows"))


def query_spine(opened: Session, query: str) -> FileSpine:
    """Entity rows of a query in the order they come, kept among the spill files; raises `StoreError`."""
    file = opened.spill / "spine.parquet"
    with explained("The query of the entity rows", query):
        reader = opened.connection.sql(query).to_arrow_reader(131_072)
        with pq.ParquetWriter(file, reader.schema, compression="lz4") as writer:
            for batch in reader:
                writer.write_batch(batch)
    return file_spine(opened, str(file))


def spine_of(rows: Any, config: Any) -> tuple[Sequence[str], str, Open]:
    """The columns of entity rows, the one of their times, and how they are opened in a session.

    Raises
    ------
    TableError, UserError
        When they cannot be read.
    """
    if not isinstance(rows, str | os.PathLike):
        table = TableSpine(rows)
        return table.names, table.time, lambda opened: table
    text = str(rows)
    with session(config) as opened:
        if not isinstance(rows, str) or not QUERY.match(text):
            spine = file_spine(opened, text)
            return spine.names, spine.time, lambda opened: file_spine(opened, text)
        query = _from_repository(opened, text)
        try:
            described = opened.connection.execute(f"DESCRIBE {query}").fetchall()
        except duckdb.Error as error:
            raise UserError(f"The query of the entity rows cannot be run: {first_line(error)}; correct it.") from error
        time = time_column({name: str(kind).startswith("TIMESTAMP") for name, kind, *_ in described})
        return [name for name, *_ in described], time, lambda opened: query_spine(opened, query)


def _from_repository(opened: Session, query: str) -> str:
    """A query whose relative paths start at the Feast repository; raises `UserError` unless it is one that reads.

    DuckDB looks in the working directory first, whatever its ``file_search_path``. So the query is parsed, what names a
    file is made absolute, and the query is written out again.
    """
    repo = (opened.repo or Path()).absolute()

    def absolute(path: str) -> str:
        return path if "://" in path or not path.lower().endswith(READABLE) else str(repo / path)

    def resolve(node: Any, texts: bool = False) -> None:
        """Make names of files absolute: those of tables, and, below ``texts``, texts that are arguments."""
        if isinstance(node, dict):
            if node.get("type") == "BASE_TABLE" and node["table_name"].lower().endswith(READABLE):
                node["table_name"] = absolute(node["table_name"])
                node["qualified_name"]["path"] = [node["table_name"]]
            elif node.get("type") == "TABLE_FUNCTION":
                for argument in node["function"]["arguments"][:1]:
                    resolve(argument["expression"], texts=True)
            elif texts and node.get("kind") == "STRING":
                node["text"] = absolute(node["text"])
        for part in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
            resolve(part, texts)

    parsed = json.loads(opened.connection.execute(f"SELECT json_serialize_sql({literal(query)})").fetchall()[0][0])
    if parsed["error"] or len(parsed["statements"]) != 1:
        said = parsed.get("error_message", "there is more than one statement")
        raise UserError(f"The query of the entity rows is no SELECT that DuckDB reads ({said}); correct it.")
    resolve(parsed)
    text = literal(json.dumps(parsed))
    written: str = opened.connection.execute(f"SELECT json_deserialize_sql({text})").fetchall()[0][0]
    return written


def _table(rows: Any) -> pa.Table:
    """Entity rows in memory as a table; raises `UserError` when they are none or their columns are mixed."""
    if isinstance(rows, pa.Table):
        return rows
    if isinstance(rows, pa.RecordBatch):
        return pa.Table.from_batches([rows])
    if not isinstance(rows, pd.DataFrame):
        raise UserError(
            "Entity rows must be a pandas frame, an Arrow table, a SQL query or a path of Parquet, not a "
            f"{type(rows).__name__}."
        )
    if EVENT_TIMESTAMP in rows.columns and not pd.api.types.is_datetime64_any_dtype(rows[EVENT_TIMESTAMP]):
        times = rows[EVENT_TIMESTAMP]
        if pd.api.types.infer_dtype(times) in _NUMBERS:
            times = _since_1970(pa.chunked_array([pa.Array.from_pandas(times)])).to_pandas().set_axis(rows.index)
        else:
            times = _parsed(times)
        rows = rows.assign(**{EVENT_TIMESTAMP: times})
    try:
        return pa.Table.from_pandas(rows, preserve_index=False)
    except (pa.ArrowInvalid, pa.ArrowTypeError, ValueError) as error:
        raise UserError(f"The entity rows cannot be used: {first_line(error)}; correct that column.") from error


def time_column(is_time: Mapping[str, bool]) -> str:
    """The column of the rows' times; raises `UserError` when none is called so and not just one is a time."""
    if EVENT_TIMESTAMP in is_time:
        return EVENT_TIMESTAMP
    times = [name for name, found in is_time.items() if found]
    if len(times) != 1:
        raise UserError(
            f"The entity rows have {', '.join(times) or 'no column'} of times; call the one that counts "
            f"{EVENT_TIMESTAMP!r}."
        )
    return times[0]


def utc(times: pa.ChunkedArray) -> pa.ChunkedArray:
    """Times in UTC, those without a zone being UTC; raises `UserError` for what is no time."""
    kind = times.type
    unit = kind.unit if pa.types.is_timestamp(kind) else "us"
    try:
        if pa.types.is_string(kind) or pa.types.is_large_string(kind):
            return pa.chunked_array([pa.array(_parsed(times.to_pandas()), pa.timestamp("us", "UTC"))])
        if pa.types.is_integer(kind) or pa.types.is_floating(kind):
            return _since_1970(times)
        return times.cast(pa.timestamp("us" if unit in ("s", "ms") else unit, "UTC"))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise UserError(f"The times of the entity rows are {kind}, which is not a time; give timestamps.") from error


_NUMBERS = ("integer", "floating", "mixed-integer-float")
_LEAST = {"s": 10**8, "ms": 10**11, "us": 10**14, "ns": 10**17}
"""The least number that counts since 1970 in each unit, from 1973 on: the ranges do not overlap until 5138."""


def _since_1970(counts: pa.ChunkedArray) -> pa.ChunkedArray:
    """Numbers as times, with a warning that says of which unit; raises `UserError` where they are not of one."""
    ends = pc.min_max(counts)
    found = {_unit(end.as_py()) for end in (ends["min"], ends["max"]) if end.is_valid} or {"us"}
    unit = found.pop()
    if unit is None or found:
        raise UserError(
            f"The times of the entity rows are numbers from {ends['min']} to {ends['max']}, which do not count "
            "seconds, milliseconds, microseconds or nanoseconds since 1970; give timestamps."
        )
    if pa.types.is_floating(counts.type):
        per = {"s": 1e6, "ms": 1e3, "us": 1.0, "ns": 1e-3}[unit]
        times = pc.round(pc.multiply(counts, per)).cast(pa.int64()).cast(pa.timestamp("us", "UTC"))
    else:
        times = counts.cast(pa.int64()).cast(pa.timestamp(unit, "UTC"))
        times = times if unit == "ns" else times.cast(pa.timestamp("us", "UTC"))
    first = pc.min(times).as_py()
    warnings.warn(
        f"The times of the entity rows are numbers; they are read as {UNITS[unit]} since 1970, the first is {first}.",
        stacklevel=2,
    )
    return times


def _unit(count: float) -> str | None:
    return next((unit for unit, least in reversed(_LEAST.items()) if abs(count) >= least), None)


def _parsed(times: pd.Series[Any]) -> pd.Series[Any]:
    try:
        return pd.to_datetime(times, utc=True)
    except (ValueError, TypeError) as error:
        raise UserError(
            f"The times of the entity rows cannot be parsed ({first_line(error)}); give timestamps."
        ) from error
