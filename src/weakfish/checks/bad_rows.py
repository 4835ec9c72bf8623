"""Rows that checks speak of: what names a row to people, and the mask that lists the bad ones.

Bad rows come in as positions within partitions; they leave as names, or as lines of a mask.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from weakfish.contracts.tables import open_partition, read_partition
from weakfish.contracts.verdicts import MASK, Check, Rows, Status, mask_writer
from weakfish.files import read_json, write_json
from weakfish.project.paths import Project

NAMELESS = "~"
"""What the name of a row without a key begins with; a hash of the row follows."""


def names_of(project: Project, file: Path, rows: Rows) -> pa.StringArray:
    """What names these rows of a partition: the events' key, or in tables that have none, as features, both of the
    first two columns; a hash of the whole row where the key is null."""
    key = project.params.events.key
    columns = open_partition(file).schema_arrow.names
    if key not in columns:
        parts = read_partition(file, columns[:2]).take(rows)
        texts = [pc.fill_null(parts[name].cast(pa.string()), "None") for name in columns[:2]]
        return pc.binary_join_element_wise(*texts, "@").combine_chunks()
    keys = read_partition(file, [key])[key].take(rows).cast(pa.string()).combine_chunks()
    if not keys.null_count:
        return keys
    missing = pc.is_null(keys)
    hashes = hashes_of(file, rows[missing.to_numpy(zero_copy_only=False)])
    return pc.replace_with_mask(keys, missing, pa.array(hashes, pa.string()))


def hashes_of(file: Path, rows: Rows) -> list[str]:
    """`NAMELESS` and a hash of what stands in each of these rows, in its staged form where a patch repaired it."""
    before = _names_before(file)
    given = read_json(before) if before.exists() else {}
    new = [row for row in rows.tolist() if str(row) not in given]
    made = dict(zip(new, hashed(read_partition(file).take(pa.array(new, pa.int64()))), strict=True)) if new else {}
    return [given.get(str(row)) or made[row] for row in rows.tolist()]


def hashed(rows: pa.Table) -> list[str]:
    """The hash of each row: of its columns that are not null, whatever their order and that of the rows."""
    return [_hash({name: value for name, value in row.items() if value is not None}) for row in rows.to_pylist()]


def _hash(row: Mapping[str, Any]) -> str:
    text = json.dumps(row, sort_keys=True, default=_text)
    return NAMELESS + hashlib.sha256(text.encode()).hexdigest()[:12]


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.hex()
    return str(value.isoformat()) if hasattr(value, "isoformat") else str(value)


def keep_names(file: Path, hashes: Mapping[int, str]) -> None:
    """Keep, beside a partition's file, the hashes that rows had before they were repaired, by position."""
    write_json(_names_before(file), {str(row): name for row, name in hashes.items()})


def _names_before(file: Path) -> Path:
    return file.with_suffix(".names.json")


def write_mask(
    project: Project,
    table: str,
    checks: Iterable[Check],
    files: Mapping[str, Path],
    notes: Mapping[str, Any] | None = None,
) -> None:
    """Write the mask of all bad rows of critical checks; ``notes`` (JSON) go with it."""
    aside = sorted((check for check in checks if sets_aside(check)), key=lambda check: (check.check, check.why))
    with mask_writer(project, table, notes or {}) as writer:
        for partition in sorted({name for check in aside for name in check.rows}):
            writer.write_table(_lines(project, partition, files[partition], aside).cast(writer.schema))


def sets_aside(check: Check) -> bool:
    """Whether the check's bad rows go into the mask."""
    return check.severity == "critical" and check.status in (Status.QUARANTINED, Status.FAILED)


def together(rows: Iterable[Rows]) -> Rows:
    """Rows that are among any of these."""
    found = np.sort(np.concatenate([np.empty(0, np.int64), *rows]))
    return found[np.append(True, found[1:] != found[:-1])] if len(found) else found  # np.unique hashes, which is slow


def _lines(project: Project, partition: str, file: Path, checks: Sequence[Check]) -> pa.Table:
    of = [check.rows.get(partition, np.empty(0, np.int64)) for check in checks]
    rows, number = np.concatenate(of), np.repeat(np.arange(len(of)), [len(found) for found in of])
    order = np.lexsort((number, rows))
    rows, number = rows[order], number[order]
    bad, place = np.unique(rows, return_inverse=True)
    columns = [
        pa.repeat(partition, len(rows)),
        rows,
        names_of(project, file, bad).take(pa.array(place)),
        _repeated([check.check for check in checks], number),
        _repeated([check.why for check in checks], number),
    ]
    return pa.table(dict(zip(MASK.names, columns, strict=True)))


def _repeated(texts: Sequence[str], number: npt.NDArray[np.int64]) -> pa.Array:
    return pa.array(texts, pa.string()).take(pa.array(number))
