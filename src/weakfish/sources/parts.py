"""Rows on their way into partitions: they wait on disk by period, and come out in parts that fit into memory."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from weakfish.contracts.tables import BYTES_IN_A_GROUP, PARTED, ROWS_IN_A_GROUP, Contract
from weakfish.sources.tabular.types import least_bytes

ROWS_IN_A_PART = 1_000_000
"""Rows of a period up to which it is one partition."""

BYTES_IN_A_PART = 1 << 28
"""Bytes of a period's values, uncompressed, up to which it is one partition, unless one row has more."""

WIDTH = 8
"""What a value of a type counts of which nothing else is known."""

Sizes = npt.NDArray[np.int64]


class PartitionRows(NamedTuple):
    """Rows of a partition in the order of time and key: all of them, or a row group of a part.

    ``goes_on`` says that the first row has the time and key of the one before, which only happens where these have more
    rows than a piece.
    """

    partition: str
    rows: pa.Table
    goes_on: bool = False


@dataclass
class _Streams:
    """Rows by name on disk: a file of Arrow streams for each."""

    folder: Path
    rows: dict[str, int] = field(default_factory=dict)
    bytes: dict[str, int] = field(default_factory=dict)

    def add(self, name: str, rows: pa.Table, size: int) -> None:
        """Keep rows that have so many bytes."""
        with self._file(name).open("ab") as end, pa.ipc.new_stream(end, rows.schema) as stream:
            stream.write_table(rows)  # the file is open no longer than needed: there may be more days than open files
        self.rows[name] = self.rows.get(name, 0) + rows.num_rows
        self.bytes[name] = self.bytes.get(name, 0) + size

    def read(self, name: str) -> Iterator[pa.Table]:
        """The rows of a name, as they were added."""
        with pa.OSFile(str(self._file(name))) as file:
            while file.tell() < file.size():
                yield pa.ipc.open_stream(file).read_all()

    def take(self, name: str) -> pa.Table:
        """All rows of a name, which are let go."""
        rows = pa.concat_tables(self.read(name))
        self.drop(name)
        return rows

    def drop(self, name: str) -> None:
        """Let the rows of a name go."""
        self._file(name).unlink()

    def _file(self, name: str) -> Path:
        return self.folder / f"{name}.arrow"


class Spill:
    """Rows by period on disk, in a folder that lasts as long as the block.

    A period with more than `ROWS_IN_A_PART` or `BYTES_IN_A_PART` comes out in parts. Of such a period the keys, times
    and sizes of all rows are in memory at once, and of all else one row group.
    """

    def __init__(self, folder: Path, contract: Contract, *, makes_keys: bool = False) -> None:
        self._contract, self._makes_keys, self._streams = contract, makes_keys, _Streams(folder)

    def __enter__(self) -> Spill:
        self._streams.folder.mkdir()
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self._streams.folder)

    def add(self, rows: pa.Table) -> None:
        """Keep rows until `pieces`."""
        periods, sizes = self._contract.partition_of(rows[self._contract.time]), row_bytes(rows)
        for period in pc.unique(periods).to_pylist():
            mine = pc.equal(periods, period)
            self._streams.add(period, rows.filter(mine), int(sizes[mine.to_numpy()].sum()))

    def pieces(self) -> Iterator[PartitionRows]:
        """All rows, each once, in the order of their partitions; the same rows make the same pieces."""
        for period, rows in sorted(self._streams.rows.items()):
            if rows <= ROWS_IN_A_PART and self._streams.bytes[period] <= BYTES_IN_A_PART:
                yield PartitionRows(period, self._contract.in_order(self._streams.take(period)))
            else:
                yield from self._parts(period)

    def _parts(self, period: str) -> Iterator[PartitionRows]:
        numbers, parts, goes_on = self._places(period)
        pieces, start = _Streams(self._streams.folder), 0
        for rows in self._streams.read(period):
            own = numbers[start : start + rows.num_rows]
            for number in np.unique(own):
                pieces.add(f"{period}.{number}", rows.filter(pa.array(own == number)), 0)
            start += rows.num_rows
        self._streams.drop(period)
        for number, (part, again) in enumerate(zip(parts, goes_on, strict=True)):
            rows = self._contract.in_order(pieces.take(f"{period}.{number}"))
            yield PartitionRows(f"{period}{PARTED}{part + 1:04}", rows, again)

    def _places(self, period: str) -> tuple[Sizes, Sizes, list[bool]]:
        """The piece of each row of a period, as they were added; of each piece its part, and whether it goes on."""
        key, time = self._contract.key, self._contract.time
        tables, sizes = [], []
        for rows in self._streams.read(period):
            sizes.append(row_bytes(rows))
            # Taken, not selected: else each keeps all that was read with it.
            tables.append(rows.select([time, key]).take(pa.array(np.arange(rows.num_rows))))
        rows = pa.concat_tables(tables)
        rows = rows.set_column(1, key, rows[key].cast(pa.large_string())).combine_chunks()
        order = pc.sort_indices(rows, [(time, "ascending"), (key, "ascending")])
        ordered = rows.take(order)
        begins = np.flatnonzero(_differ(ordered[time]) | _differ(name_of_key(ordered[key], made=self._makes_keys)))
        in_order = np.concatenate(sizes)[order.to_numpy()]
        parts = list(_cuts(in_order, begins, ROWS_IN_A_PART, BYTES_IN_A_PART))
        cuts = [
            begin + cut
            for begin, end in pairwise([*parts, len(in_order)])
            for cut in _cuts(in_order[begin:end], begins - begin, ROWS_IN_A_GROUP, BYTES_IN_A_GROUP)
        ]
        numbers = np.empty(len(in_order), np.int64)
        numbers[order.to_numpy()] = np.searchsorted(cuts, np.arange(len(in_order)), "right") - 1
        return numbers, np.searchsorted(parts, cuts, "right") - 1, (~np.isin(cuts, begins)).tolist()


def name_of_key(keys: pa.ChunkedArray, *, made: bool) -> pa.ChunkedArray:
    """The keys, those that are ``made`` without the number that is behind the second of equal rows and on."""
    return pc.replace_substring_regex(keys, r"-\d+$", "") if made else keys


def row_bytes(rows: pa.Table) -> Sizes:
    """About how many bytes the values of each row take; it depends on the values alone."""
    total = np.zeros(rows.num_rows, np.int64)
    for column in rows.columns:
        if pa.types.is_primitive(column.type):
            total += max(1, column.type.bit_width // 8)
            continue
        start = 0
        for chunk in column.chunks:
            sizes = least_bytes(chunk)
            total[start : start + len(chunk)] += WIDTH if sizes is None else sizes
            start += len(chunk)
    return total


def _differ(values: pa.ChunkedArray) -> npt.NDArray[np.bool_]:
    """Whether each value differs from the one before; the first does."""
    codes = values.combine_chunks().dictionary_encode(null_encoding="encode").indices.to_numpy()
    return np.append(np.ones(min(1, len(codes)), np.bool_), np.diff(codes) != 0)


def _cuts(sizes: Sizes, begins: Sizes, rows: int, size: int) -> Iterator[int]:
    """Where to cut rows into as few stretches as may be, of so many ``rows`` and bytes (``size``) at most.

    A stretch begins at one of ``begins``; only where the next of these is too far does it begin elsewhere.
    """
    ends, begin = np.cumsum(sizes), 0
    begins = np.append(begins[begins < len(sizes)], len(sizes))
    while begin < len(sizes):
        yield begin
        before = ends[begin - 1] if begin else 0
        most = min(int(np.searchsorted(ends, before + size, "right")), begin + rows)
        last = int(begins[np.searchsorted(begins, most, "right") - 1])
        begin = last if last > begin else max(most, begin + 1)
