"""Tables are folders of Parquet, one file per partition; this is how they are named, read, checked and written.

A partition is a period of event time, such as a month, or a part of one that has many rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import reduce
from operator import add
from pathlib import Path
from typing import Literal, Protocol, TypeVar

import mmh3
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from weakfish.contracts.pointers import listed, local, pointer_of
from weakfish.contracts.record import Rooted
from weakfish.errors import TableError
from weakfish.files import whole_file

T = TypeVar("T")

TIME = pa.timestamp("us", tz="UTC")
"""The type of every time column."""

UNDATED = "undated"
"""The partition of rows whose event time is not known."""

PARTED = "~"
"""In the name of a part of a period that is too large for one file: ``2002-08~0001``; no period has it in its own."""

NAMES = {"day": "%Y-%m-%d", "month": "%Y-%m", "year": "%Y"}
"""What partitions are named after, by how much of time each holds."""

ROWS_IN_A_GROUP = 131_072
"""Rows of a row group in a partition's file: what one process works on at a time."""

BYTES_IN_A_GROUP = 1 << 25
"""Bytes of texts of a row group, where a period has so many rows that it comes in parts."""


@dataclass(frozen=True)
class Contract:
    """What a table promises: its name, columns, key, time column (UTC, microseconds), and how it is partitioned."""

    name: str
    schema: pa.Schema
    key: str
    time: str
    partition: str = "month"

    def __post_init__(self) -> None:
        for column, kind in ((self.key, "key"), (self.time, "event time")):
            if column not in self.schema.names:
                raise TableError(
                    f"The {kind} of {self.name} is {column!r} in params.yaml, which is not among its columns "
                    f"({', '.join(self.schema.names)}); correct events.{'key' if kind == 'key' else 'time'}."
                )
        if self.schema.field(self.time).type != TIME:
            raise TableError(
                f"Column {self.time} of {self.name} is {self.schema.field(self.time).type}, not {TIME}; "
                "convert it in the source."
            )

    def check(self, table: pa.Table | pa.RecordBatch, where: str) -> None:
        """Raise `TableError` unless ``table`` has exactly these columns and types, in this order."""
        if table.schema.equals(self.schema):
            return
        expected = {field.name: field.type for field in self.schema}
        found = {field.name: field.type for field in table.schema}
        wrong = [f"{name} is missing" for name in expected if name not in found]
        wrong += [f"{name} is not expected" for name in found if name not in expected]
        wrong += [
            f"{name} is {found[name]} instead of {kind}"
            for name, kind in expected.items()
            if found.get(name, kind) != kind
        ]
        raise TableError(
            f"{where} breaks the contract of {self.name}: {'; '.join(wrong) or 'the order of columns differs'}."
        )

    def partition_of(self, times: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
        """The partition of each time: ``2002-08``, or `UNDATED` where it is null."""
        return partition_names(times, self.partition)

    def in_order(self, table: pa.Table) -> pa.Table:
        """The rows by event time, then key; rows alike in both stay as they come."""
        return table.sort_by([(self.time, "ascending"), (self.key, "ascending")])


def partition_names(times: pa.Array | pa.ChunkedArray, partition: str) -> pa.Array | pa.ChunkedArray:
    """The name of the partition of each time, by what `NAMES` has; `UNDATED` where it is null."""
    return pc.fill_null(pc.strftime(times, format=NAMES[partition], locale="C"), UNDATED)


def partition_span(name: str, partition: str) -> tuple[datetime, datetime]:
    """When the period of the partition of this name begins and when the next does, UTC; it is not `UNDATED`."""
    start = datetime.strptime(period_of(name), NAMES[partition]).replace(tzinfo=UTC)
    longest = {"day": 1, "month": 31, "year": 366}[partition]
    later = start + timedelta(days=longest)
    return start, datetime.strptime(later.strftime(NAMES[partition]), NAMES[partition]).replace(tzinfo=UTC)


def period_of(name: str) -> str:
    """The period of a partition, of which it holds all rows or a part: ``2002-08`` of ``2002-08~0001``."""
    return name.partition(PARTED)[0]


def is_dated(name: str) -> bool:
    """Whether the rows of a partition have event times."""
    return period_of(name) != UNDATED


def by_period(of: Mapping[str, T]) -> dict[str, list[T]]:
    """What goes by partition, in their order, as lists by period."""
    found: dict[str, list[T]] = {}
    for name in sorted(of):
        found.setdefault(period_of(name), []).append(of[name])
    return found


def totals(of: Mapping[str, T]) -> dict[str, T]:
    """What goes by partition, added up by period."""
    return {period: reduce(add, parts) for period, parts in by_period(of).items()}


def partitions(folder: Path) -> dict[str, Path]:
    """Partition names and files of a table, by name; raises `TableError` when there are none.

    A period with many rows has several, each a part of it, in the order of time and key: see `period_of`. Where their
    bytes lie in storage that machines share, there are pointers instead of files, which `open_partition` follows.
    """
    files = listed(folder)
    if not files:
        raise TableError(f"Table {folder} holds no partition; run `dvc repro`, which makes it.")
    return {file.stem: file for file in files}


def schema_of(folder: Path) -> pa.Schema:
    """The columns and types of a table, as its first partition has them; raises `TableError` when there is none."""
    return open_partition(next(iter(partitions(folder).values()))).schema_arrow.remove_metadata()


def open_partition(file: Path, buffer: int = 0) -> pq.ParquetFile:
    """A partition's Parquet file, its schema and metadata read; raises `TableError` when it is missing or cut off.

    One that lies in storage is fetched. With a ``buffer`` (bytes) columns are read through it, as they are decoded, and
    not each row group's at once.
    """
    try:
        return pq.ParquetFile(local(file), page_checksum_verification=True, buffer_size=buffer)
    except FileNotFoundError as error:
        raise TableError(f"{file} does not exist; run `dvc repro`, which makes it.") from error
    except (pa.ArrowInvalid, OSError) as error:
        raise _unreadable(file, error) from error


def row_count(file: Path) -> int:
    """The rows of a partition, by its footer, or by its pointer where its bytes lie in storage; raises `TableError`."""
    pointer = pointer_of(file)
    return pointer.rows if pointer else int(open_partition(file).metadata.num_rows)


def read_partition(file: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """One partition; raises `TableError` when the file is missing, cut off, or lacks a column."""
    parquet = open_partition(file)
    present = parquet.schema_arrow.names
    missing = [column for column in columns or () if column not in present]
    if missing:
        raise TableError(f"{file} has no column {', '.join(missing)}; it has {', '.join(present)}.")
    try:
        return parquet.read(columns=columns)
    except (pa.ArrowInvalid, OSError) as error:
        raise _unreadable(file, error) from error


def pieces_of(file: Path) -> Iterator[pa.Table]:
    """All rows of a partition, those of a part row group by row group; raises `TableError` as `read_partition` does."""
    if PARTED not in file.stem:
        yield read_partition(file)
        return
    parquet = open_partition(file)
    for group in range(parquet.num_row_groups):
        try:
            yield parquet.read_row_group(group)
        except (pa.ArrowInvalid, OSError) as error:
            raise _unreadable(file, error) from error


def read_table(folder: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """All partitions of a table, in the order of their names."""
    return pa.concat_tables([read_partition(file, columns) for file in partitions(folder).values()])


def write_partition(folder: Path, name: str, table: pa.Table) -> None:
    """Write one partition; the same rows in the same order give the same bytes."""
    with partition_writer(folder, name, table.schema) as write:
        write(table)


@contextmanager
def partition_writer(folder: Path, name: str, schema: pa.Schema) -> Iterator[Callable[[pa.Table], None]]:
    """Yield what writes the rows of one partition, some at a time, each time in row groups of their own."""
    with (
        whole_file(folder / f"{name}.parquet") as part,
        pq.ParquetWriter(part, schema, compression="zstd") as writer,
    ):

        def write(table: pa.Table) -> None:
            rows = _rows_in_a_group(table) if PARTED in name else ROWS_IN_A_GROUP
            writer.write_table(table.combine_chunks(), rows)

        yield write


def _rows_in_a_group(table: pa.Table) -> int:
    """How many rows of a part make a row group, so that one has about `BYTES_IN_A_GROUP` of texts at most."""
    texts = (pc.sum(pc.binary_length(column)) for column in table.columns if _has_length(column.type))
    size = sum(total.as_py() or 0 for total in texts)
    return int(min(ROWS_IN_A_GROUP, max(1, BYTES_IN_A_GROUP * table.num_rows // max(1, size))))


def _has_length(kind: pa.DataType) -> bool:
    types = pa.types
    return any(test(kind) for test in (types.is_string, types.is_large_string, types.is_binary, types.is_large_binary))


def _unreadable(file: Path, error: Exception) -> TableError:
    reason, read = str(error).splitlines()[0].rstrip("."), local(file)
    if read != file:
        return TableError(
            f"{read}, this machine's copy of {file.name}, is not readable Parquet ({reason}); delete it and run this "
            "again, which fetches it from the storage."
        )
    return TableError(f"{file} is not readable Parquet ({reason}); delete it and run `dvc repro`.")


GOLD_LABEL = "label"
"""The label column of a table of gold labels, beside the events' key."""

KNOWN_AT = "known_at"
"""The column of a table of gold labels that says since when each is known, UTC, where the source tells; and that of
the labels that features see."""

Part = Literal["dev", "test", "undated"]
"""``undated`` rows are those that a split by time can put on neither side."""

HASHES = 1 << 32


class Split(Protocol):
    """How gold labels are split: by a time, or where it is None by the share of rows that are test."""

    @property
    def split_time(self) -> datetime | None:
        """The first time of the test part, UTC."""
        ...

    @property
    def share_of_test(self) -> float:
        """The share of rows that are test where time does not split."""
        ...


def folder(project: Rooted, task: str, part: Part) -> Path:
    """The folder of a part of a task's gold labels; it need not exist."""
    return project.root / "data" / "gold" / part / task


def reviewed(project: Rooted, task: str, part: Literal["dev", "test"]) -> Path:
    """The folder of what reviewers answered about a task's rows of a part, as gold labels; it need not exist."""
    return project.root / "data" / "reviews" / part / task


def in_test(settings: Split, keys: pa.ChunkedArray, times: pa.ChunkedArray) -> pa.ChunkedArray:
    """Whether each row lies in the test part.

    By ``split``, rows from that time on do, and rows without a time are null: they belong to neither part. Without it,
    the share ``test_share`` of rows does, chosen by a hash of the key, which depends on nothing else.

    Parameters
    ----------
    keys : strings
    times : timestamps, UTC, microseconds
    """
    if settings.split_time is not None:
        return pc.greater_equal(times, pa.scalar(settings.split_time, times.type))
    below = settings.share_of_test * HASHES
    chunks = [
        pa.array([mmh3.hash(key, signed=False) < below for key in chunk.to_pylist()], pa.bool_())
        for chunk in pa.chunked_array(keys).chunks
    ]
    return pa.chunked_array(chunks, pa.bool_())
