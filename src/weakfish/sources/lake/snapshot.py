"""A table that others keep, at one version; and its rows as Parquet, with bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from weakfish.errors import ServiceError, SourceError, UserError, WeakfishError, is_down, reason
from weakfish.project.runs import Progress

TableKind = Literal["delta", "iceberg", "warehouse"]

ROWS_IN_A_FILE = 1_000_000
ROWS_IN_A_GROUP, BYTES_IN_A_GROUP = 1 << 17, 1 << 25
"""Of a row group, whichever comes first; a batch is held beside it."""


@dataclass(frozen=True)
class TableAt:
    """Which table: its path or address, the ``version`` (the newest where it is None), and how to order its rows.

    ``root`` is the folder from which relative paths count. ``table`` is the table's name in a database, and ``columns``
    says which of its columns are wanted; Delta and Iceberg tables are read with all of them.
    """

    kind: TableKind
    path: str
    root: Path
    version: int | str | None = None
    table: str | None = None
    order: Sequence[str] = ()
    is_wanted: Callable[[str], bool] = lambda _: True

    @property
    def address(self) -> str:
        """The path, from the root unless it is absolute or has a scheme."""
        return self.path if "://" in self.path else str((self.root / self.path).absolute())


@dataclass(frozen=True)
class TableSnapshot:
    """The rows of a table at one version.

    Attributes
    ----------
    version
        What the ledger says of it: ``table``, as the settings name it, and what tells the version.
    read
        Yields all rows, in an order that repeats; one batch is in memory at a time.
    left_out
        Columns that are not read.
    """

    version: Mapping[str, str | int]
    schema: pa.Schema
    read: Callable[[], Iterator[pa.RecordBatch]]
    left_out: Sequence[str] = ()


def open_table(at: TableAt) -> TableSnapshot:
    """Find a table and its version; reads no rows.

    Raises
    ------
    SourceError
        When there is no such table or version, or it cannot be read; never names a password.
    ServiceError
        When what keeps it does not answer.
    UserError
        When the library that reads it is not installed.
    """
    found: TableSnapshot = import_module(f"weakfish.sources.lake.{at.kind}").snapshot(at)
    return found


def save(snapshot: TableSnapshot, folder: Path) -> int:
    """Write all rows as Parquet into a folder; the same rows give the same bytes.

    Returns
    -------
    int
        How many there are.
    """
    progress, number = Progress("fetch: rows"), 0
    schema = pa.schema([field.with_type(_plain(field.type)) for field in snapshot.schema])
    writer: pq.ParquetWriter | None = None
    try:
        for rows in _groups(snapshot.read(), schema):
            if writer is None or progress.done >= number * ROWS_IN_A_FILE:
                if writer is not None:
                    writer.close()
                number += 1
                writer = pq.ParquetWriter(folder / f"part-{number:05}.parquet", schema, compression="zstd")
            writer.write_table(rows, max(1, rows.num_rows))
            progress.add(rows.num_rows)
        if writer is None:
            writer = pq.ParquetWriter(folder / "part-00001.parquet", schema)
    except (pa.ArrowException, OSError, ValueError, NotImplementedError) as error:
        what = f"{snapshot.version['table']}"
        raise refused(what, error, "correct source in params.yaml, or the table") from error
    finally:
        if writer is not None:
            writer.close()
    return progress.done


def _groups(batches: Iterator[pa.RecordBatch], schema: pa.Schema) -> Iterator[pa.Table]:
    """Rows in row groups, where they allow it of an even size."""
    held: list[pa.RecordBatch] = []
    rows = size = 0
    for batch in batches:
        for start in range(0, batch.num_rows, ROWS_IN_A_GROUP):
            piece = batch.slice(start, ROWS_IN_A_GROUP).cast(schema)
            held.append(piece)
            rows, size = rows + piece.num_rows, size + piece.nbytes
            if rows >= ROWS_IN_A_GROUP or size >= BYTES_IN_A_GROUP:
                yield pa.Table.from_batches(held)
                held, rows, size = [], 0, 0
    if held:
        yield pa.Table.from_batches(held)


def _plain(kind: pa.DataType) -> pa.DataType:
    """The type as readers of Parquet know it best: texts and bytes are no views, and not of the large kind."""
    types = pa.types
    if types.is_string_view(kind) or types.is_large_string(kind):
        return pa.string()
    if types.is_binary_view(kind) or types.is_large_binary(kind):
        return pa.binary()
    return kind


def library(name: str, extra: str) -> ModuleType:
    """A library that an extra brings; raises `UserError` where it is not installed."""
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        raise UserError(
            f"{error.name} is not installed, without which this table cannot be used; "
            f"`pip install 'weakfish[{extra}]'` adds it."
        ) from error


def refused(what: str, error: Any, advice: str) -> WeakfishError:
    """What a library says of a table, as one sentence: of a service that does not answer, another kind."""
    if is_down(error):
        return ServiceError(
            f"{what} cannot be read, for its service does not answer ({reason(error)}); see that it runs and can be "
            "reached, and run this again."
        )
    return SourceError(f"{what} cannot be read ({reason(error)}); {advice}.")
