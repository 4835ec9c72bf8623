"""Masks: the rows of a table that failed critical checks, ``data/masks/<table>.parquet``."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from weakfish.contracts.record import Rooted
from weakfish.contracts.tables import open_partition
from weakfish.files import whole_file

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

_NOTES = b"weakfish"


@dataclass(frozen=True)
class Mask:
    """A mask as written: its lines, in the order of partition, row and check, and the notes that came with it."""

    lines: pa.Table
    notes: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, project: Rooted, table: str) -> Mask:
        """The mask of a table; raises `TableError` when it is missing or cut off."""
        file = mask_file(project, table)
        metadata = open_partition(file).schema_arrow.metadata or {}
        repeated = ["partition", "check", "why"]
        lines = pq.ParquetFile(file, read_dictionary=repeated).read()
        return cls(lines.replace_schema_metadata(None).unify_dictionaries(), json.loads(metadata.get(_NOTES, b"{}")))

    def of(self, partition: str) -> pa.Table:
        """The lines of one partition."""
        return self.lines.filter(pc.equal(self.lines["partition"], partition))


def mask_file(project: Rooted, table: str) -> Path:
    """The file of a table's mask."""
    return project.root / "data" / "masks" / f"{table}.parquet"


@contextmanager
def mask_writer(project: Rooted, table: str, notes: Mapping[str, Any]) -> Iterator[pq.ParquetWriter]:
    """Write a mask: the lines that the caller hands to the writer, and notes (JSON) that go with them."""
    schema = MASK.with_metadata({_NOTES: json.dumps(dict(notes), sort_keys=True).encode()})
    with (
        whole_file(mask_file(project, table)) as part,
        pq.ParquetWriter(part, schema, compression="zstd") as writer,
    ):
        yield writer
