"""The Parquet behind a Feast source, and the DuckDB session that reads it.

Times are compared as whole micro- or nanoseconds since 1970, so that zones cannot differ.
"""

from __future__ import annotations

import glob
import re
import tempfile
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import weakfish.feast.adapter  # noqa: F401 - first: it makes the import of Feast cheap

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from feast import FileSource
from feast.data_format import ParquetFormat

from weakfish.contracts.pointers import SUFFIX as POINTER
from weakfish.contracts.pointers import all_local, exists, named, pointer_file
from weakfish.contracts.tables import ROWS_IN_A_GROUP
from weakfish.engine.duckdb import first_line
from weakfish.errors import StoreError, TableError, UserError
from weakfish.files import whole_file
from weakfish.project.paths import MARKS, Project
from weakfish.project.runs import temporary_folder

SUFFIXES = (".parquet", ".parq", ".pq", POINTER)
SCHEMES = ("s3://", "gs://", "hdfs://", "abfs://", "http://", "https://")
HIDDEN = re.compile(r"/[._][^=/]*(/|$)")
"""Files and folders that are not read; a folder such as ``_part=3`` is one of a partition."""

VIRTUAL = ("file_index", "file_row_number")
"""Columns by which DuckDB tells where a row stands."""

NANOSECOND = 1000
"""How many make a microsecond."""

SETUP = """
SET GLOBAL TimeZone = 'UTC'; SET parquet_metadata_cache = true;
CREATE MACRO floor_us(ns) AS (ns - ((ns % 1000 + 1000) % 1000)) // 1000;
CREATE MACRO saturated_ns(us) AS CASE
    WHEN us > 9223372036854775 THEN 9223372036854775807
    WHEN us < -9223372036854775 THEN -9223372036854775807 ELSE us * 1000 END;
"""
"""What is set for the whole database holds in its cursors too. DuckDB divides towards zero, and times before 1970 are
negative; times that nanoseconds cannot hold become their last or first one."""


class Session:
    """An empty DuckDB that works in UTC: the one place where the offline store's SQL is run.

    Attributes
    ----------
    spill : Path
        The folder of its spill files, which goes away with it.
    repo : Path or None
        The Feast repository, from which relative paths start.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection, spill: Path, repo: Path | None) -> None:
        self.connection, self.spill, self.repo = connection, spill, repo

    def run(self, sql: str, what: str) -> list[tuple[Any, ...]]:
        """Run SQL and return its rows; raises `StoreError`, which says ``what`` failed."""
        with explained(what, sql):
            found: list[tuple[Any, ...]] = self.connection.execute(sql).fetchall()
            return found

    def stream(self, sql: str, rows: int, what: str) -> pa.RecordBatchReader:
        """The rows of a query in batches, beside those of other streams; raises `StoreError`."""
        with explained(what, sql):
            return self.connection.cursor().sql(sql).to_arrow_reader(rows)

    def types(self, rows_sql: str, what: str) -> dict[str, str]:
        """DuckDB's types of the columns of ``FROM ...``, by name; raises `StoreError`."""
        return {str(name): str(kind) for name, kind, *_ in self.run(f"DESCRIBE {rows_sql}", what)}

    def holds(self, rows_sql: str, what: str) -> bool:
        """Whether ``FROM ...`` has any row; raises `StoreError`."""
        return bool(self.run(f"SELECT EXISTS (SELECT 1 {rows_sql})", what)[0][0])


@contextmanager
def session(config: Any) -> Iterator[Session]:
    """A session whose memory, threads and spill files are bounded; all of it is gone afterwards.

    ``config`` are Feast's settings. Those below ``offline_store`` bound the session (see `AsOfOfflineStoreConfig`);
    DuckDB's own defaults hold for what is not set, and for other offline stores.

    Raises
    ------
    StoreError
        When DuckDB refuses a setting, or the folder cannot be made.
    """
    store, repo = config.offline_store, None if config.repo_path is None else Path(config.repo_path)
    limits = {name: getattr(store, name, None) for name in ("memory_limit", "threads")}
    with ExitStack() as stack:
        try:
            spill = stack.enter_context(temporary_folder(_spill_home(store, repo), "weakfish-offline"))
        except OSError as error:
            raise StoreError(
                f"offline_store.temp_directory in feature_store.yaml cannot be used ({error}); name a writable folder."
            ) from error
        said = {name: value for name, value in limits.items() if value is not None}
        try:
            connection = duckdb.connect(config={**said, "temp_directory": str(spill)})
        except (duckdb.Error, TypeError, ValueError) as error:
            raise StoreError(
                f"DuckDB refuses offline_store's settings in feature_store.yaml ({first_line(error)}); correct them."
            ) from error
        with connection:
            connection.execute(SETUP)
            yield Session(connection, spill, repo)


def _spill_home(store: Any, repo: Path | None) -> Path:
    """Where spill files go: where the settings say, else on the project's disk, else where the system has them."""
    named = getattr(store, "temp_directory", None)
    if named is not None:
        return (repo or Path()) / str(named)
    if repo is not None and all((repo.parent / mark).is_file() for mark in MARKS):
        return Project(repo.parent).temporary
    return Path(tempfile.gettempdir())


@contextmanager
def explained(what: str, sql: str | None = None) -> Iterator[None]:
    """Turn DuckDB's errors into one sentence about ``what`` was tried; `--debug` shows the query, which is a note.

    Raises
    ------
    StoreError
        When DuckDB fails, or runs out of memory or of room for spill files.
    """
    try:
        yield
    except duckdb.Error as error:
        failed = StoreError(f"{what} failed in DuckDB: {first_line(error)}.")
        if isinstance(error, duckdb.OutOfMemoryException):
            failed = StoreError(
                f"{what} needs more memory than it may use ({first_line(error)}); raise offline_store.memory_limit or "
                "free room in offline_store.temp_directory (feature_store.yaml)."
            )
        if sql is not None:
            failed.add_note(f"The query was: {sql}")
        raise failed from error


def quoted(name: str) -> str:
    """A name as an identifier of SQL."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text as a literal of SQL."""
    return "'" + text.replace("'", "''") + "'"


def selected(columns: Mapping[str, str]) -> str:
    """Expressions by the names that they get, for SELECT."""
    return ", ".join(f"{column} AS {quoted(name)}" for name, column in columns.items())


@dataclass(frozen=True)
class Instant:
    """An expression of SQL for a time: a whole number of ``unit`` (``us`` or ``ns``) since 1970, floored."""

    sql: str
    unit: str

    def to(self, unit: str) -> str:
        """The expression in another unit."""
        if unit == self.unit:
            return self.sql
        return f"floor_us({self.sql})" if unit == "us" else f"saturated_ns({self.sql})"


@dataclass(frozen=True)
class StoredRows:
    """Parquet files as one relation.

    Attributes
    ----------
    what : str
        What messages call it.
    files : list of Path
        In the order in which rows are numbered.
    scan : str
        SQL of its rows, for FROM.
    types : dict of str to str
        DuckDB's type of each column, as stored.
    stored : dict of str to str
        The stored name of a column by the name that Feast uses, where its field mapping renames it.
    """

    what: str
    files: list[Path]
    scan: str
    types: Mapping[str, str]
    stored: Mapping[str, str]

    def column(self, name: str) -> str:
        """A column, by Feast's name for it, as an expression; raises `UserError` where there is none."""
        return f"f.{quoted(self._stored(name))}"

    def type(self, name: str) -> str:
        """DuckDB's type of a column; raises `UserError` where there is none."""
        return self.types[self._stored(name)]

    def instant(self, name: str) -> Instant:
        """A time column as a number, UTC where it has no zone; raises `UserError` where it is no time."""
        column, kind = self.column(name), self.type(name)
        if kind in ("TIMESTAMP_NS", "TIMESTAMPTZ_NS"):
            return Instant(f"epoch_ns(CAST({column} AS TIMESTAMP_NS))", "ns")
        if kind.startswith("TIMESTAMP") or kind == "DATE":
            return Instant(f"epoch_us({column})", "us")
        if kind == "VARCHAR":
            return Instant(f"epoch_us(CAST({column} AS TIMESTAMPTZ))", "us")
        raise UserError(f"Column {name} of {self.what} is {kind}, which is no time; name a column of timestamps.")

    def bound(self, name: str, comparison: str, number: int, unit: str) -> str:
        """A condition: a time compared with a number of ``unit``, which is rounded down to the column's own unit."""
        column, kind, instant = self.column(name), self.type(name), self.instant(name)
        number = in_unit(number, unit, instant.unit)
        if kind in ("TIMESTAMP", "TIMESTAMP WITH TIME ZONE") and abs(number) < 2**62:
            # DuckDB skips whole row groups by their statistics for a bare column alone, not for a function of it.
            return f"{column} {comparison} CAST(make_timestamp({number}) AS {kind})"
        return f"{instant.sql} {comparison} {number}"

    def rest(self, besides: Iterable[str]) -> list[str]:
        """The stored columns, by name, without those of Feast's names ``besides``."""
        without = {self._stored(name) for name in besides}
        return [name for name in sorted(self.types) if name not in without]

    def _stored(self, name: str) -> str:
        stored = self.stored.get(name, name)
        if stored not in self.types:
            raise UserError(
                f"{self.what} has no column {stored!r}; it has {', '.join(self.types)}: correct its view or its source."
            )
        return stored


def in_unit(number: int, unit: str, wanted: str) -> int:
    """A number of a unit in another one, floored, and as 64 bits can hold it."""
    if unit == wanted:
        return number
    if wanted == "us":
        return number // NANOSECOND
    return max(-(2**63) + 1, min(2**63 - 1, number * NANOSECOND))


def open_source(opened: Session, source: Any, *, mapped: bool) -> StoredRows:
    """The Parquet of a Feast source.

    Parameters
    ----------
    mapped
        Whether columns will be named as Feast's field mapping renames them, or as they are stored.

    Raises
    ------
    TableError
        When there is no Parquet, or it cannot be read.
    UserError
        When the source is none of local Parquet.
    """
    stored = names_of(source)
    return open_files(opened, source.path, f"source {source.name!r}", stored if mapped else {})


def names_of(source: Any) -> dict[str, str]:
    """The stored names of columns by those that Feast uses; raises `UserError` where a source is none of Parquet."""
    if not isinstance(source, FileSource):
        raise UserError(
            f"Source {source.name!r} is a {type(source).__name__}; this offline store reads FileSource only."
        )
    if source.file_format is not None and not isinstance(source.file_format, ParquetFormat):
        raise UserError(f"Source {source.name!r} is not of Parquet; this offline store reads nothing else.")
    return {new: old for old, new in (source.field_mapping or {}).items()}


def open_files(opened: Session, path: str, what: str, stored: Mapping[str, str] | None = None) -> StoredRows:
    """The Parquet below a path; raises `TableError` or `UserError` as `open_source` does."""
    return open_listed(opened, files(path, opened.repo, what), what, stored, resolved(path, opened.repo))


def open_listed(
    opened: Session,
    found: Sequence[Path],
    what: str,
    stored: Mapping[str, str] | None = None,
    root: Path | None = None,
) -> StoredRows:
    """Files of Parquet, below ``root`` in folders that may be columns; raises as `open_source` does."""
    there = all_local(found)
    scan = _scan(there, root or there[0])
    try:
        described = opened.connection.execute(f"DESCRIBE SELECT * FROM {scan}").fetchall()  # noqa: S608
    except duckdb.Error as error:
        where = root or found[0].parent
        raise TableError(f"{what} at {where} is not readable Parquet ({first_line(error)}); write it again.") from error
    types = {str(name): str(kind) for name, kind, *_ in described}
    for name in VIRTUAL:
        if name in types:
            raise UserError(f"Column {name!r} of {what} has a name that DuckDB keeps for itself; rename it.")
    return StoredRows(what, there, scan, types, stored or {})


def resolved(path: str, repo: Path | None) -> Path:
    """A local path, from the Feast repository if relative; raises `UserError` for one that is not local."""
    if path.startswith(SCHEMES):
        raise UserError(f"{path} is not a local path; this offline store reads Parquet from local folders.")
    return (repo or Path()).absolute() / path.removeprefix("file://")


def files(path: str, repo: Path | None, what: str) -> list[Path]:
    """The Parquet files of a path, which is one of them, a folder of them at any depth, or a glob; in a fixed order.

    Those that lie in storage are fetched.
    """
    return all_local(map(named, as_they_lie(path, repo, what)))


def as_they_lie(path: str, repo: Path | None, what: str) -> list[Path]:
    """The same files, of those that lie in storage the pointers."""
    place = resolved(path, repo)
    if exists(place):
        return [place if place.is_file() else pointer_file(place)]
    if place.is_dir():
        inside = sorted(file for file in place.rglob("*") if file.suffix in SUFFIXES and file.is_file())
        found = [file for file in inside if not HIDDEN.search(f"/{file.relative_to(place).as_posix()}")]
    else:
        patterns = (str(place), str(pointer_file(place)))
        matching = (glob.glob(of, recursive=True) for of in patterns)  # noqa: PTH207 - absolute, and may hold `**`
        found = sorted({file for of in matching for file in map(Path, of) if file.is_file()})
    if not found:
        raise TableError(f"There is no Parquet of {what} at {place}; make it, or correct the path.")
    return found


def _scan(found: list[Path], root: Path) -> str:
    """SQL that reads files as one relation, columns by name; ``name=value`` folders below ``root`` are columns."""
    while root.is_file() or glob.has_magic(str(root)):
        root = root.parent
    below = (file.relative_to(root) if file.is_relative_to(root) else file for file in found)
    hive = any("=" in part for file in below for part in file.parts[:-1])
    names = ", ".join(literal(glob.escape(str(file))) for file in found)
    union = ", union_by_name = true" if len(found) > 1 else ""
    return f"read_parquet([{names}], hive_partitioning = {str(hive).lower()}{union})"


def append(source: Any, table: pa.Table, repo: Path | None) -> None:
    """Add rows to the Parquet of a Feast source: a file of its folder, or the end of its file.

    Parameters
    ----------
    table
        The columns of the source, in any order, by their stored names or those of its field mapping.

    Raises
    ------
    UserError
        When columns are missing, are more, or do not convert to the types that are stored.
    TableError
        When there is no Parquet yet whose types could be kept.
    """
    place = resolved(source.path, repo)
    found = files(source.path, repo, f"source {source.name!r}")
    schema = ds.dataset(found, partitioning=ds.HivePartitioning.discover(), partition_base_dir=str(place)).schema
    mapped = {new: old for old, new in (source.field_mapping or {}).items()}
    names = [name if name in schema.names else mapped.get(name, name) for name in table.column_names]
    if odd := sorted(set(names) ^ set(schema.names)):
        raise UserError(
            f"Source {source.name!r} has the columns {', '.join(schema.names)}, and the rows to add differ in "
            f"{', '.join(odd)}; give just those columns."
        )
    try:
        rows = table.rename_columns(names).select(schema.names).cast(schema.remove_metadata())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise UserError(
            f"Rows to add to source {source.name!r} do not convert to its types ({first_line(error)}); correct them."
        ) from error
    if place.is_dir():
        inside = pq.read_schema(found[0]).names
        _write_dataset(rows, place, [name for name in schema.names if name not in inside])
    elif place.is_file():
        with (
            whole_file(place) as part,
            pq.ParquetFile(place) as old,
            pq.ParquetWriter(part, old.schema_arrow, compression="zstd") as writer,
        ):
            for group in range(old.num_row_groups):  # one at a time, however large the file
                writer.write_table(old.read_row_group(group))
            writer.write_table(rows.cast(old.schema_arrow), row_group_size=ROWS_IN_A_GROUP)
    else:
        raise UserError(f"Source {source.name!r} is a pattern of paths; rows can be added to a folder or a file only.")


def append_logs(destination: Any, logs: pa.Table | Path, repo: Path | None) -> None:
    """Add logged features to the folder of a Feast ``FileLoggingDestination``; raises `TableError` for unreadable ones.

    ``logs`` is a table, or a path of Parquet; it is read and written batch by batch.
    """
    target = resolved(destination.path, repo)
    try:
        rows = ds.dataset(logs, format="parquet") if isinstance(logs, Path) else logs
        _write_dataset(rows, target, destination.partition_by or [])
    except (pa.ArrowInvalid, OSError) as error:
        raise TableError(f"The logs could not be written to {target} ({first_line(error)}); try again.") from error


def _write_dataset(rows: Any, target: Path, partitioned_by: list[str]) -> None:
    target.mkdir(parents=True, exist_ok=True)
    by = pa.schema([rows.schema.field(name) for name in partitioned_by])
    ds.write_dataset(
        rows,
        target,
        format="parquet",
        partitioning=ds.partitioning(by, flavor="hive") if partitioned_by else None,
        basename_template=f"{uuid.uuid4().hex}-{{i}}.parquet",
        existing_data_behavior="overwrite_or_ignore",
    )
