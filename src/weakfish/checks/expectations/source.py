"""The table that a suite runs over: Parquet files in, batches of the columns that are asked for out.

A partition may lack a column, or have one of a narrower type; it is read as if it had the table's own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from weakfish.contracts.tables import open_partition
from weakfish.errors import TableError

BATCH_BYTES = 8 << 20
"""What a batch may take in memory, about; its rows follow from the columns read."""

MOST_ROWS, LEAST_ROWS = 131_072, 1_024
"""Rows of a batch, whatever they take."""

_STREAMED = {"buffer_size": 1 << 20}
"""Pages are read as they are needed, not a row group's whole column at once."""

Mask = npt.NDArray[np.bool_]


class Batch:
    """Some rows of a partition, by column; what several checks ask of a column is found once.

    ``start`` is the position of the first row within its partition.
    """

    def __init__(self, columns: Mapping[str, pa.Array], start: int, rows: int) -> None:
        self._columns, self.start, self.rows = columns, start, rows
        self._clean: dict[str, pa.Array] = {}
        self._present: dict[str, Mask] = {}

    def column(self, name: str) -> pa.Array:
        """The values, with null for NaN, as pandas sees them."""
        if name not in self._clean:
            found = self._columns[name]
            if pa.types.is_floating(found.type):
                found = pc.if_else(pc.is_nan(found), pa.scalar(None, found.type), found)
            self._clean[name] = found
        return self._clean[name]

    def present(self, name: str) -> Mask:
        """Whether the value is there."""
        if name not in self._present:
            self._present[name] = as_mask(pc.is_valid(self.column(name)))
        return self._present[name]

    def nulls(self, name: str) -> int:
        """How many values are missing."""
        return self.rows - int(self.present(name).sum())


@dataclass(frozen=True)
class Source:
    """A table by its partitions, in order."""

    files: Mapping[str, Path]
    schema: pa.Schema
    metadata: Mapping[str, pq.FileMetaData] = field(repr=False)

    @classmethod
    def open(cls, files: Mapping[str, Path]) -> Source:
        """Read the files' footers; raises `TableError` when one is missing, cut off, or of types that do not fit."""
        opened = {part: open_partition(file) for part, file in files.items()}
        schema = pa.schema([])
        for part, file in opened.items():
            try:
                schema = pa.unify_schemas([schema, file.schema_arrow.remove_metadata()], promote_options="permissive")
            except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
                reason = str(error).splitlines()[0].rstrip(".")
                raise TableError(
                    f"{files[part]} has other types than the partitions before it ({reason}); make it again."
                ) from error
        return cls(files, schema, {part: file.metadata for part, file in opened.items()})

    @cached_property
    def sizes(self) -> dict[str, int]:
        """Rows of each partition."""
        return {part: metadata.num_rows for part, metadata in self.metadata.items()}

    @cached_property
    def starts(self) -> dict[str, int]:
        """The position of each partition's first row within the table."""
        ends = np.cumsum([0, *self.sizes.values()]).tolist()
        return dict(zip(self.sizes, ends, strict=False))

    @property
    def rows(self) -> int:
        """Rows of the table."""
        return sum(self.sizes.values())

    def groups(self, part: str) -> list[int]:
        """The row groups of a partition, each what one thread works on at a time."""
        return list(range(self.metadata[part].num_row_groups))

    def batches(self, part: str, group: int, columns: Sequence[str]) -> Iterator[Batch]:
        """The rows of one row group."""
        metadata = self.metadata[part]
        start = sum(metadata.row_group(number).num_rows for number in range(group))
        with self._opened(part) as file:
            have = [name for name in columns if name in file.schema_arrow.names]
            size = _batch_rows(metadata.row_group(group), have)
            if not have:
                yield self._batch({}, columns, start, metadata.row_group(group).num_rows)
                return
            for batch in file.iter_batches(size, row_groups=[group], columns=have, use_threads=False):
                found = dict(zip(batch.schema.names, batch.columns, strict=True))
                yield self._batch(found, columns, start, batch.num_rows)
                start += batch.num_rows

    def read(self, columns: Sequence[str]) -> pa.Table:
        """Whole columns of all partitions."""
        return pa.concat_tables(
            [self._partition(part, [name for name in self.schema.names if name in columns]) for part in self.files]
        )

    @contextmanager
    def _opened(self, part: str) -> Iterator[pq.ParquetFile]:
        file = self.files[part]
        try:
            with pq.ParquetFile(
                file, metadata=self.metadata[part], page_checksum_verification=True, **_STREAMED
            ) as opened:
                yield opened
        except (pa.ArrowInvalid, OSError) as error:
            reason = str(error).splitlines()[0].rstrip(".")
            raise TableError(f"{file} is not readable Parquet ({reason}); delete it and run `dvc repro`.") from error

    def _partition(self, part: str, columns: Sequence[str]) -> pa.Table:
        schema = pa.schema([self.schema.field(name) for name in columns])
        with self._opened(part) as file:
            have = [name for name in columns if name in file.schema_arrow.names]
            found = file.read(columns=have)
        rows = self.sizes[part]
        arrays = [
            found[column.name].cast(column.type, safe=False) if column.name in have else pa.nulls(rows, column.type)
            for column in schema
        ]
        return pa.Table.from_arrays(arrays, schema=schema)

    def _batch(self, found: Mapping[str, pa.Array], columns: Sequence[str], start: int, rows: int) -> Batch:
        whole = {}
        for name in columns:
            kind = self.schema.field(name).type
            column = found.get(name, None)
            column = pa.nulls(rows, kind) if column is None else column
            whole[name] = column if column.type == kind else column.cast(kind, safe=False)
        return Batch(whole, start, rows)


def as_mask(found: pa.Array | pa.ChunkedArray) -> Mask:
    """A boolean Arrow array as NumPy's; null is False."""
    return np.asarray(pc.fill_null(found, False).to_numpy(zero_copy_only=False), np.bool_)


def _batch_rows(group: pq.RowGroupMetaData, columns: Sequence[str]) -> int:
    wanted = set(columns)
    chunks = [group.column(number) for number in range(group.num_columns)]
    size: int = sum(chunk.total_uncompressed_size for chunk in chunks if chunk.path_in_schema.split(".")[0] in wanted)
    rows: int = BATCH_BYTES * max(group.num_rows, 1) // max(size, 1)
    return min(max(rows, LEAST_ROWS), MOST_ROWS)
