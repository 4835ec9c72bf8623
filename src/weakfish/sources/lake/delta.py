"""Delta tables, by `deltalake`: at a version, or as they were at a time."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pyarrow as pa

from weakfish.errors import SourceError
from weakfish.sources.lake.snapshot import TableAt, TableSnapshot, library, refused

ROWS = 1 << 14
"""How many rows of a file are read at once."""


def snapshot(at: TableAt) -> TableSnapshot:
    """The table at the version, or at the last one that was there at a time (ISO 8601, UTC unless it names a zone)."""
    delta = library("deltalake", "delta")
    try:
        table = delta.DeltaTable(at.address)
        if at.version is not None:
            _go_to(table, at)
        dataset = table.to_pyarrow_dataset()
    except (delta.exceptions.DeltaError, pa.ArrowException, OSError, ValueError) as error:
        raise refused(
            f"Delta table {at.path}", error, "correct source.path and source.version in params.yaml, or the table"
        ) from error
    return TableSnapshot({"table": at.path, "version": table.version()}, dataset.schema, partial(_read, dataset))


def _go_to(table: Any, at: TableAt) -> None:
    if isinstance(at.version, int):
        if not 0 <= at.version < 1 << 63:
            raise SourceError(
                f"source.version {at.version} in params.yaml is no version of a Delta table, which count from 0; "
                "correct it."
            )
        table.load_as_version(at.version)
        return
    try:
        time = datetime.fromisoformat(str(at.version))
    except ValueError as error:
        raise SourceError(
            f"source.version {at.version!r} in params.yaml is neither a version of a Delta table nor a time; "
            "give a number, or a time as 2024-05-31T12:00:00Z."
        ) from error
    time = time if time.tzinfo else time.replace(tzinfo=UTC)
    first = table.history()[-1]["timestamp"]
    if time.timestamp() * 1000 < first:
        raise SourceError(
            f"Delta table {at.path} was not there at {at.version}: its first version that is known is of "
            f"{datetime.fromtimestamp(first / 1000, UTC).isoformat()}; correct source.version in params.yaml."
        )
    table.load_as_version(time)


def _read(dataset: Any) -> Iterator[pa.RecordBatch]:
    """The rows of all files in the order of their names: the log names them in no order."""
    from pyarrow.dataset import ParquetFragmentScanOptions

    options = ParquetFragmentScanOptions(use_buffered_stream=True, pre_buffer=False)
    for fragment in sorted(dataset.get_fragments(), key=lambda fragment: fragment.path):
        yield from fragment.to_batches(
            schema=dataset.schema,
            batch_size=ROWS,
            batch_readahead=1,
            fragment_readahead=1,
            fragment_scan_options=options,
        )
