"""Iceberg tables, by `pyiceberg`: files are put to the table's data and registered, without being rewritten."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa

from weakfish.contracts.pointers import local
from weakfish.errors import UserError, WeakfishError
from weakfish.exports.exporting import VERSION, Exported, OurTable, cannot, not_ours
from weakfish.exports.placing import local_folder, place
from weakfish.sources.lake.snapshot import library

NAMESPACE, CATALOG = "weakfish", "catalog.db"
"""In a folder: the namespace of the tables, and the file of the catalog."""


def write(ours: OurTable, address: str) -> Exported:
    """Bring the table ``<namespace>.<kind>_<name>`` up to date in one commit; raises `UserError`."""
    library("pyiceberg", "iceberg")
    logging.getLogger("pyiceberg").setLevel(logging.ERROR)  # it warns of each column without statistics, by file
    try:
        with _catalog(address) as (catalog, namespace):
            name = f"{namespace}.{ours.plain_name}"
            where = f"{catalog.name}.{name}" if namespace != NAMESPACE else f"{address} {name}"
            return _written(catalog, name, ours, where)
    except WeakfishError:
        raise
    except Exception as error:  # catalogs raise what their servers' and databases' libraries do
        raise cannot(f"{address} (Iceberg, {ours.plain_name})", error) from error


@contextmanager
def _catalog(address: str) -> Iterator[tuple[Any, str]]:
    """The catalog in a folder, which is made where it is missing, or one that pyiceberg knows; and the namespace."""
    from pyiceberg.catalog import load_catalog
    from pyiceberg.catalog.sql import SqlCatalog

    folder = local_folder(address)
    if "/" not in address and "." in address.strip("."):
        name, _, namespace = address.partition(".")
        catalog = load_catalog(name)
    elif "/" not in address and address.strip("."):
        raise UserError(
            f"{address!r} is neither a folder nor catalog.namespace of a catalog that pyiceberg knows; write "
            f"./{address} for a folder of that name."
        )
    elif folder is None:
        raise UserError(
            f"{address} is not a folder, and a catalog in a file cannot lie there; name catalog.namespace of a catalog "
            "that pyiceberg knows."
        )
    else:
        folder.mkdir(parents=True, exist_ok=True)
        where = {"uri": f"sqlite:///{folder / CATALOG}", "warehouse": folder.as_uri()}
        catalog, namespace = SqlCatalog("weakfish", **where), NAMESPACE
    try:
        catalog.create_namespace_if_not_exists(namespace)
        yield catalog, namespace
    finally:
        catalog.close()


def _written(catalog: Any, name: str, ours: OurTable, where: str) -> Exported:
    table = catalog.load_table(name) if catalog.table_exists(name) else catalog.create_table(name, ours.schema)
    if table.current_snapshot() is not None and VERSION not in table.properties:
        raise not_ours(where)
    _check_types(table.schema().as_arrow(), ours.schema, where)
    known = {} if table.current_snapshot() is None else {task.file.file_path: task.file for task in _files(table)}
    home = f"{table.location()}/data"
    wanted = {f"{home}/{name}": file for name, file in ours.files.items()}
    new = {target: local(file) for target, file in wanted.items() if target not in known}
    gone = [file for path, file in known.items() if path not in wanted]
    if new or gone:
        for target, file in new.items():
            _put(table, file, target)
        with table.transaction() as change:
            _commit(change, table, ours, list(new), gone)
    version = table.current_snapshot().snapshot_id
    return Exported(ours.name, where, version, len(new), len(gone), ours.properties[VERSION])


def _check_types(there: pa.Schema, ours: pa.Schema, where: str) -> None:
    """Refuse a column whose type changed, which rows of earlier versions have."""
    for name in filter(set(there.names).__contains__, ours.names):
        kinds = [_kind(schema.field(name).type) for schema in (there, ours)]
        if kinds[0] != kinds[1]:
            raise UserError(
                f"Column {name} of {where} is {kinds[0]} there and {kinds[1]} here; drop that table, or name another "
                "address."
            )


def _kind(kind: pa.DataType) -> pa.DataType:
    """The type as Iceberg has it: texts are of one kind, and small integers have 32 bits."""
    if pa.types.is_large_string(kind):
        return pa.string()
    return pa.int32() if pa.types.is_integer(kind) and kind.bit_width < 32 else kind


def _files(table: Any) -> list[Any]:
    return list(table.scan().plan_files())


def _put(table: Any, file: Path, target: str) -> None:
    folder = local_folder(target)
    if folder is not None:
        place(file, folder)
        return
    with file.open("rb") as source, table.io.new_output(target).create(overwrite=True) as sink:
        shutil.copyfileobj(source, sink, 1 << 22)


def _commit(change: Any, table: Any, ours: OurTable, new: list[str], gone: list[Any]) -> None:
    """Add and remove files in one commit, with the columns as they are now."""
    from pyiceberg.io.pyarrow import parquet_file_to_data_file

    properties = dict(ours.properties)
    _columns(change, table, ours.schema)
    change.set_properties(properties)
    if not gone:
        change.add_files(new, properties, check_duplicate_files=False)
        return
    with change.update_snapshot(snapshot_properties=properties).overwrite() as files:
        for path in new:
            files.append_data_file(parquet_file_to_data_file(table.io, change.table_metadata, path))
        for file in gone:
            files.delete_data_file(file)


def _columns(change: Any, table: Any, schema: pa.Schema) -> None:
    """Columns that are new are added, those that are gone deleted; a type that changed raises."""
    lost = [name for name in table.schema().column_names if name not in schema.names]
    if not lost and set(schema.names) == set(table.schema().column_names):
        return
    with change.update_schema(allow_incompatible_changes=True) as columns:
        for name in lost:
            columns.delete_column(name)
        columns.union_by_name(schema)
