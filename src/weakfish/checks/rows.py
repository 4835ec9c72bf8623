"""Rows that checks speak of: what names a row to people, and the mask that lists the bad ones."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from weakfish.checks.check import Check, Rows, Status
from weakfish.files import whole_file
from weakfish.project import Project
from weakfish.tables import open_partition, read_partition

MASK = pa.schema(
    [
        ("partition", pa.string()),
        ("row", pa.int64()),
        ("key", pa.string()),
        ("check", pa.string()),
        ("why", pa.string()),
    ]
)
"""A row mask: one line per bad row and critical check; ``row`` counts from 0 within the partition, ``key`` names it."""

NAMELESS = "~"
"""What the name of a row without a key begins with; a hash of the row follows."""


def names_of(project: Project, file: Path, rows: Rows) -> list[str]:
    """What names these rows of a partition: the events' key, or in tables that have none, as features, both of the
    first two columns; a hash of the whole row where the key is null."""
    key = project.params.events.key
    columns = open_partition(file).schema_arrow.names
    if key not in columns:
        parts = read_partition(file, columns[:2]).take(rows)
        texts = [parts[name].cast(pa.string()).to_pylist() for name in columns[:2]]
        return ["@".join(map(str, pair)) for pair in zip(*texts, strict=True)]
    keys: list[str] = read_partition(file, [key])[key].take(rows).cast(pa.string()).to_pylist()
    if None not in keys:
        return keys
    whole = read_partition(file).take(rows).to_pylist()
    return [name if name is not None else _hashed(row) for name, row in zip(keys, whole, strict=True)]


def write_mask(file: Path, checks: Iterable[Check], names: Mapping[tuple[str, int], str]) -> None:
    """Write the mask of all bad rows of critical checks; ``names`` has the name of each by partition and position."""
    lines = sorted(
        (partition, row, names[partition, row], check.check, check.why)
        for check in checks
        if check.severity == "critical" and check.status in (Status.QUARANTINED, Status.FAILED)
        for partition, rows in check.rows.items()
        for row in rows.tolist()
    )
    columns = zip(*lines, strict=True) if lines else [[] for _ in MASK]
    content = pa.table(dict(zip(MASK.names, map(list, columns), strict=True)), schema=MASK)
    with whole_file(file) as part:
        pq.write_table(content, part, compression="zstd")


def _hashed(row: dict[str, object]) -> str:
    return NAMELESS + hashlib.sha256(repr(sorted(row.items())).encode()).hexdigest()[:12]
