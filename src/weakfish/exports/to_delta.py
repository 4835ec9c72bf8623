"""Delta tables, by `deltalake`: files are put into the table's folder and committed, without being rewritten."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from weakfish.contracts.pointers import local
from weakfish.exports.exporting import VERSION, Exported, OurTable, cannot, not_ours
from weakfish.exports.placing import local_folder, place
from weakfish.sources.lake.snapshot import library


def write(ours: OurTable, address: str) -> Exported:
    """Bring the table ``address/<kind>/<name>`` up to date in one commit; raises `UserError`."""
    delta = library("deltalake", "delta")
    where = f"{address.rstrip('/')}/{ours.name}"
    try:
        return _written(delta, ours, where)
    except (delta.exceptions.DeltaError, pa.ArrowException, OSError, ValueError) as error:
        raise cannot(where, error) from error


def _written(delta: Any, ours: OurTable, where: str) -> Exported:
    folder = local_folder(where)
    target = str(folder or where)
    table = delta.DeltaTable(target) if delta.DeltaTable.is_deltatable(target) else None
    if table and table.metadata().name != ours.plain_name and not any(VERSION in said for said in table.history()):
        raise not_ours(where)
    known = set(pa.table(table.get_add_actions())["path"].to_pylist()) if table else set()
    new = {name: local(file) for name, file in ours.files.items() if name not in known}
    gone = sorted(known - set(ours.files))
    if table is None or new or gone:
        for name, file in new.items():
            _put(file, name, folder, target)
        _commit(delta, table, ours, new, gone, target)
        table = delta.DeltaTable(target)
    return Exported(ours.name, where, table.version(), len(new), len(gone), ours.properties[VERSION])


def _put(file: Path, name: str, folder: Path | None, target: str) -> None:
    if folder is not None:
        place(file, folder / name)
    else:
        pafs.copy_files(str(file), f"{target}/{name}")


def _commit(delta: Any, table: Any, ours: OurTable, new: dict[str, Path], gone: Iterable[str], target: str) -> None:
    """Add and remove files in one commit; with other columns than before, all files are new ones."""
    from deltalake import transaction

    now = int(time.time() * 1000)
    adds = [_add(transaction, name, file, now) for name, file in new.items()]
    said = delta.CommitProperties(custom_metadata=dict(ours.properties))
    schema = delta.Schema.from_arrow(ours.schema)
    if table is None:
        transaction.create_table_with_add_actions(target, schema, adds, name=ours.plain_name, commit_properties=said)
    elif table.schema() != schema:
        table.create_write_transaction(adds, "overwrite", schema, commit_properties=said)
    else:
        removes = [transaction.RemoveAction(path, True, now) for path in gone]
        table.create_write_transaction([*adds, *removes], "append", schema, commit_properties=said)


def _add(transaction: Any, name: str, file: Path, now: int) -> Any:
    stats = json.dumps({"numRecords": pq.read_metadata(file).num_rows})
    return transaction.AddAction(name, file.stat().st_size, {}, now, True, stats)
