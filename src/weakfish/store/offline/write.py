"""Writing to the Parquet behind views and logs: rows are added whole or not at all, and stored types stay."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from weakfish.errors import TableError, UserError
from weakfish.store.offline.session import first_line
from weakfish.store.offline.source import files, resolved
from weakfish.tables import ROWS_IN_A_GROUP


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
    schema, partitioned = _stored(place, found)
    rows = _conforming(source, table, schema)
    if place.is_dir():
        _write_beside(place, rows, partitioned)
    elif place.is_file():
        _write_behind(place, rows)
    else:
        raise UserError(f"Source {source.name!r} is a pattern of paths; rows can be added to a folder or a file only.")


def append_logs(destination: Any, logs: pa.Table | Path, repo: Path | None) -> None:
    """Add logged features to the folder of a Feast ``FileLoggingDestination``; raises `TableError` for unreadable ones.

    ``logs`` is a table, or a path of Parquet; it is read and written batch by batch.
    """
    target = resolved(destination.path, repo)
    try:
        rows = ds.dataset(logs, format="parquet") if isinstance(logs, Path) else logs
        _write_dataset(rows, target, _partitioning(rows.schema, destination.partition_by or []))
    except (pa.ArrowInvalid, OSError) as error:
        raise TableError(f"The logs could not be written to {target} ({first_line(error)}); try again.") from error


def _stored(place: Path, found: list[Path]) -> tuple[pa.Schema, list[str]]:
    """The columns of a source with their types, and which of them are names of folders."""
    schema = ds.dataset(found, partitioning=ds.HivePartitioning.discover(), partition_base_dir=str(place)).schema
    inside = pq.read_schema(found[0])
    return schema, [name for name in schema.names if name not in inside.names]


def _conforming(source: Any, table: pa.Table, schema: pa.Schema) -> pa.Table:
    mapped = {new: old for old, new in (source.field_mapping or {}).items()}
    named = table.rename_columns(
        [name if name in schema.names else mapped.get(name, name) for name in table.column_names]
    )
    odd = sorted(set(named.column_names) ^ set(schema.names))
    if odd:
        raise UserError(
            f"Source {source.name!r} has the columns {', '.join(schema.names)}, and the rows to add differ in "
            f"{', '.join(odd)}; give just those columns."
        )
    try:
        return named.select(schema.names).cast(schema.remove_metadata())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise UserError(
            f"Rows to add to source {source.name!r} do not convert to its types ({first_line(error)}); correct them."
        ) from error


def _write_beside(place: Path, rows: pa.Table, partitioned: list[str]) -> None:
    _write_dataset(rows, place, _partitioning(rows.schema, partitioned))


def _write_dataset(rows: Any, target: Path, partitioning: Any) -> None:
    target.mkdir(parents=True, exist_ok=True)
    ds.write_dataset(
        rows,
        target,
        format="parquet",
        partitioning=partitioning,
        basename_template=f"{uuid.uuid4().hex}-{{i}}.parquet",
        existing_data_behavior="overwrite_or_ignore",
    )


def _partitioning(schema: pa.Schema, names: list[str]) -> Any:
    return ds.partitioning(pa.schema([schema.field(name) for name in names]), flavor="hive") if names else None


def _write_behind(file: Path, rows: pa.Table) -> None:
    """Write a file anew with rows at its end, one row group at a time."""
    part = file.with_name(f".{file.name}.{uuid.uuid4().hex}.part")
    old = pq.ParquetFile(file)
    try:
        with old, pq.ParquetWriter(part, old.schema_arrow, compression="zstd") as writer:
            for group in range(old.num_row_groups):
                writer.write_table(old.read_row_group(group))
            writer.write_table(rows.cast(old.schema_arrow), row_group_size=ROWS_IN_A_GROUP)
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)
