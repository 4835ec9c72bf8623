"""Spines: the rows for which features are asked, in memory, in Parquet, or from a query; read in their order."""

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

from weakfish.contracts.record import EVENT_TIMESTAMP
from weakfish.errors import UserError
from weakfish.feast.parquet import NANOSECOND, Parquet, Session, explained, first_line, literal, open_files, selected

READABLE = (".parquet", ".parq", ".pq", ".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".gz", ".zst")
"""How names end that DuckDB takes for files in a query."""

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

    def number(self, opened: Session, keys: Sequence[str]) -> Numbered:
        """Make the relation of row numbers, times and keys."""
        ...

    def batches(self, opened: Session, rows: int) -> tuple[pa.Schema, Iterator[pa.Table]]:
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

    def number(self, opened: Session, keys: Sequence[str]) -> Numbered:
        """See `Spine`."""
        times, unit = _whole(self.table[self.time])
        columns = {"row": pa.array(np.arange(self.table.num_rows)), "t": times}
        columns |= {f"c{number}": self.table[key] for number, key in enumerate(keys)}
        opened.connection.register("spine_in_memory", pa.table(columns))
        opened.run("CREATE OR REPLACE TABLE spine AS FROM spine_in_memory", READING)
        opened.connection.unregister("spine_in_memory")
        ends = pc.min_max(times)
        found = _keys(opened, keys)
        for key, (column, _) in found.items():
            if pa.types.is_null(columns[column].type):  # DuckDB calls them integers, which a text key is not
                found[key] = column, '"NULL"'
        return Numbered(self.table.num_rows, unit, ends["min"].as_py(), ends["max"].as_py(), found)

    def batches(self, opened: Session, rows: int) -> tuple[pa.Schema, Iterator[pa.Table]]:
        """See `Spine`."""
        starts = range(0, self.table.num_rows, rows)
        return self.table.schema, (self.table.slice(start, rows) for start in starts)


class FileSpine:
    """A spine of Parquet, which is never in memory as a whole; its order is that of the files' names and their rows."""

    def __init__(self, source: Parquet) -> None:
        self.names: Sequence[str] = list(source.types)
        self.time = time_column({name: kind.startswith("TIMESTAMP") for name, kind in source.types.items()})
        self.source = source
        counts = [pq.read_metadata(file).num_rows for file in source.files]
        self.rows = sum(counts)
        starts = np.cumsum([0, *counts[:-1]]).tolist()
        self._row = f"CAST({starts} AS BIGINT[])[CAST(f.file_index AS BIGINT) + 1] + f.file_row_number"

    def number(self, opened: Session, keys: Sequence[str]) -> Numbered:
        """See `Spine`."""
        time = self.source.instant(self.time)
        columns = "".join(f", {self.source.column(key)} AS c{number}" for number, key in enumerate(keys))
        opened.run(
            f"CREATE OR REPLACE VIEW spine AS SELECT {self._row} AS row, {time.sql} AS t{columns} "  # noqa: S608
            f"FROM {self.source.scan} f",
            READING,
        )
        first, last = opened.run("SELECT min(t), max(t) FROM spine", READING)[0]
        return Numbered(self.rows, time.unit, first, last, _keys(opened, keys))

    def batches(self, opened: Session, rows: int) -> tuple[pa.Schema, Iterator[pa.Table]]:
        """See `Spine`."""
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


def table_spine(rows: Any) -> TableSpine:
    """A spine of a pandas frame or an Arrow table; raises `UserError` when it is neither or its columns are mixed."""
    if isinstance(rows, pd.DataFrame):
        if EVENT_TIMESTAMP in rows.columns and not pd.api.types.is_datetime64_any_dtype(rows[EVENT_TIMESTAMP]):
            rows = rows.assign(**{EVENT_TIMESTAMP: _parsed(rows[EVENT_TIMESTAMP])})
        try:
            return TableSpine(pa.Table.from_pandas(rows, preserve_index=False))
        except (pa.ArrowInvalid, pa.ArrowTypeError, ValueError) as error:
            raise UserError(f"The entity rows cannot be used: {first_line(error)}; correct that column.") from error
    if isinstance(rows, pa.RecordBatch):
        return TableSpine(pa.Table.from_batches([rows]))
    if isinstance(rows, pa.Table):
        return TableSpine(rows)
    raise UserError(
        f"Entity rows come as a pandas frame, an Arrow table, a SQL query or a path of Parquet, not as a {type(rows)}."
    )


def file_spine(opened: Session, path: str) -> FileSpine:
    """A spine of the Parquet at a path; raises `TableError` when there is none."""
    return FileSpine(open_files(opened, path, "the entity rows"))


def query_spine(opened: Session, query: str) -> FileSpine:
    """A spine of a query's rows in the order they come, kept among the spill files; raises `StoreError`."""
    file = opened.spill / "spine.parquet"
    with explained("The query of the entity rows", query):
        reader = opened.connection.sql(query).to_arrow_reader(131_072)
        with pq.ParquetWriter(file, reader.schema, compression="lz4") as writer:
            for batch in reader:
                writer.write_batch(batch)
    return file_spine(opened, str(file))


def from_repository(opened: Session, query: str) -> str:
    """A query whose relative paths start at the Feast repository; raises `UserError` unless it is one that reads.

    DuckDB looks in the working directory first, whatever its ``file_search_path``. So the query is parsed, what names a
    file is made absolute, and the query is written out again.
    """
    parsed = json.loads(opened.connection.execute(f"SELECT json_serialize_sql({literal(query)})").fetchall()[0][0])
    if parsed["error"] or len(parsed["statements"]) != 1:
        said = parsed.get("error_message", "there is more than one statement")
        raise UserError(f"The query of the entity rows is no SELECT that DuckDB reads ({said}); correct it.")
    _resolve(parsed, (opened.repo or Path()).absolute())
    text = literal(json.dumps(parsed))
    written: str = opened.connection.execute(f"SELECT json_deserialize_sql({text})").fetchall()[0][0]
    return written


def columns_of_query(opened: Session, query: str) -> dict[str, str]:
    """The columns of a query and DuckDB's types of them; raises `UserError` when it cannot be run."""
    try:
        described = opened.connection.execute(f"DESCRIBE {query}").fetchall()
    except duckdb.Error as error:
        raise UserError(f"The query of the entity rows cannot be run: {first_line(error)}; correct it.") from error
    return {str(name): str(kind) for name, kind, *_ in described}


def _resolve(node: Any, repo: Path, *, texts: bool = False) -> None:
    """Make the names of files absolute in a parsed query: tables, and, below ``texts``, the texts of arguments."""
    if isinstance(node, dict):
        if node.get("type") == "BASE_TABLE" and node["table_name"].lower().endswith(READABLE):
            node["table_name"] = _absolute(node["table_name"], repo)
            node["qualified_name"]["path"] = [node["table_name"]]
        elif node.get("type") == "TABLE_FUNCTION":
            for argument in node["function"]["arguments"][:1]:
                _resolve(argument["expression"], repo, texts=True)
        elif texts and node.get("kind") == "STRING" and node["text"].lower().endswith(READABLE):
            node["text"] = _absolute(node["text"], repo)
    for part in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        _resolve(part, repo, texts=texts)


def _absolute(path: str, repo: Path) -> str:
    return path if "://" in path else str(repo / path)


def time_column(is_time: Mapping[str, bool]) -> str:
    """The column of the rows' times; raises `UserError` when none is called so and not just one is a time."""
    if EVENT_TIMESTAMP in is_time:
        return EVENT_TIMESTAMP
    times = [name for name, found in is_time.items() if found]
    if len(times) != 1:
        raise UserError(
            f"The entity rows have {', '.join(times) or 'no column'} of times; name the one that "
            f"counts {EVENT_TIMESTAMP!r}."
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
        raise UserError(
            f"The times of the entity rows cannot be parsed ({first_line(error)}); give timestamps."
        ) from error


def _whole(times: pa.ChunkedArray) -> tuple[pa.ChunkedArray, str]:
    """Times as whole numbers, in microseconds where that is exact."""
    numbers = times.cast(pa.int64())
    if times.type.unit == "us":
        return numbers, "us"
    micros = pc.divide(numbers, NANOSECOND)
    exact = pc.all(pc.equal(pc.multiply(micros, NANOSECOND), numbers)).as_py()
    return (numbers, "ns") if exact is False else (micros, "us")


def _keys(opened: Session, keys: Sequence[str]) -> dict[str, tuple[str, str]]:
    """The columns of the relation ``spine`` that hold keys, and DuckDB's types of them."""
    types = {name: str(kind) for name, kind, *_ in opened.run("DESCRIBE spine", READING)}
    return {key: (f"c{number}", types[f"c{number}"]) for number, key in enumerate(keys)}
