"""Iceberg tables, by `pyiceberg`: at a snapshot, a tag or the end of a branch."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import pyarrow as pa

from weakfish.errors import SourceError, UserError
from weakfish.sources.lake.snapshot import TableAt, TableSnapshot, library, refused


def snapshot(at: TableAt) -> TableSnapshot:
    """The table at a snapshot's number or a ref's; of ``catalog.namespace.table``, pyiceberg knows the catalog."""
    library("pyiceberg", "iceberg")
    table = _found(at)
    number = _number(table, at)
    if number is None:
        raise SourceError(f"Iceberg table {at.path} has no snapshot yet; write rows into it.")
    scan = table.scan(snapshot_id=number)
    return TableSnapshot(
        {"table": at.path, "version": number}, scan.projection().as_arrow(), partial(_read, table, scan)
    )


def _found(at: TableAt) -> Any:
    """The table of a catalog, or the one that a file of metadata describes, or a folder whose hint names that file."""
    from pyiceberg.catalog import load_catalog
    from pyiceberg.table import StaticTable

    try:
        if "/" in at.path:
            return StaticTable.from_metadata(at.address)
        catalog, _, name = at.path.partition(".")
        if "." not in name:
            raise UserError(
                f"source.path {at.path!r} in params.yaml is no Iceberg table; give catalog.namespace.table, or the "
                "path of its *.metadata.json."
            )
        return load_catalog(catalog).load_table(name)
    except UserError:
        raise
    except Exception as error:  # catalogs raise what their servers' and databases' libraries do
        raise refused(
            f"Iceberg table {at.path}", error, "correct source.path in params.yaml, or pyiceberg's configuration"
        ) from error


def _number(table: Any, at: TableAt) -> int | None:
    """The number of the snapshot that is meant."""
    if at.version is None:
        current = table.current_snapshot()
        return None if current is None else int(current.snapshot_id)
    refs = table.metadata.refs
    number = refs[at.version].snapshot_id if at.version in refs else at.version
    if not isinstance(number, int) or table.snapshot_by_id(number) is None:
        known = ", ".join(sorted(refs)) or "none"
        raise SourceError(
            f"Iceberg table {at.path} has neither a snapshot nor a ref {at.version!r} (refs: {known}); correct "
            "source.version in params.yaml."
        )
    return number


def _read(table: Any, scan: Any) -> Iterator[pa.RecordBatch]:
    """The rows of all files in the order of their names, without those that are deleted.

    What pyiceberg makes public holds all rows of a file at once.
    """
    from pyiceberg.io.pyarrow import ArrowScan, _read_all_delete_files

    reader = ArrowScan(table.metadata, table.io, scan.projection(), scan.row_filter)
    for task in sorted(scan.plan_files(), key=lambda task: task.file.file_path):
        deletes = _read_all_delete_files(table.io, [task])
        yield from reader._record_batches_from_scan_tasks_and_deletes([task], deletes)
