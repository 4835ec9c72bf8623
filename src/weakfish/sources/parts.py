"""Rows on their way into partitions: they wait on disk by period, and come out in parts that fit into memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Streams:
    """Rows by name on disk: a file of Arrow streams for each, in a folder that its owner deletes."""

    folder: Path

    def add(self, name: str, rows: pa.Table) -> None:
        """Keep rows behind those that the name has."""
        with self.file(name).open("ab") as end, pa.ipc.new_stream(end, rows.schema) as stream:
            stream.write_table(rows)  # the file is open no longer than needed: there may be more days than open files

    def file(self, name: str) -> Path:
        """Where the rows of a name are."""
        return self.folder / f"{name}.arrow"


def streamed(files: Iterable[Path]) -> Iterator[pa.Table]:
    """The rows of files of Arrow streams, as they were added."""
    for name in files:
        with pa.OSFile(str(name)) as file:
            while file.tell() < file.size():
                yield pa.ipc.open_stream(file).read_all()


class Size(NamedTuple):
    """How many rows there are, and how many bytes their values have."""

    rows: int = 0
    bytes: int = 0

    def and_of(self, other: Size) -> Size:
        """That of both."""
        return Size(self.rows + other.rows, self.bytes + other.bytes)

    @property
    def is_one_partition(self) -> bool:
        """Whether a period of this size is one partition, not several parts."""
        return self.rows <= ROWS_IN_A_PART and self.bytes <= BYTES_IN_A_PART


class Spill:
    """Puts rows on disk by period, in an empty folder."""

    def __init__(self, folder: Path, contract: Contract, *, makes_keys: bool = False) -> None:
        self._contract, self._makes_keys, self._streams = contract, makes_keys, Streams(folder)
        self.sizes: dict[str, Size] = {}

    def add(self, rows: pa.Table) -> None:
        """Keep rows."""
        periods = self._contract.partition_of(rows[self._contract.time])
        sizes = row_bytes(rows, self._contract.key if self._makes_keys else None)
        for period in pc.unique(periods).to_pylist():
            mine = pc.equal(periods, period)
            chosen = rows.filter(mine)
            self._streams.add(period, chosen)
            more = Size(chosen.num_rows, int(sizes[mine.to_numpy()].sum()))
            self.sizes[period] = self.sizes.get(period, Size()).and_of(more)

    def file(self, period: str) -> Path:
        """Where the rows of a period are."""
        return self._streams.file(period)


@dataclass(frozen=True)
class Period:
    """Rows of a period on disk, in the files of several spills, which are read in this order and stay.

    Attributes
    ----------
    makes_keys
        Whether keys are made, so that equal rows differ in the number behind them.
    numbered
        Whether these numbers count in all files; else in each alone, and they are counted anew.
    """

    contract: Contract
    name: str
    files: Sequence[Path]
    size: Size
    makes_keys: bool = False
    numbered: bool = True

    def pieces(self, scratch: Path) -> Iterator[PartitionRows]:
        """All rows, each once, in the order of their partitions; the same rows make the same pieces.

        Of a period that has several parts the keys, times and sizes of all rows are in memory at once, and of all else
        one row group; the others wait in ``scratch``, an empty folder.
        """
        if self.size.is_one_partition:
            rows = pa.concat_tables(self._read())
            if self._renumbers:
                rows = _with(rows, self.contract.key, numbered(rows[self.contract.key]))
            yield PartitionRows(self.name, self.contract.in_order(rows))
        else:
            yield from self._parts(Streams(scratch))

    @property
    def _renumbers(self) -> bool:
        return self.makes_keys and not self.numbered

    def _read(self) -> Iterator[pa.Table]:
        return streamed(self.files)

    def _parts(self, waiting: Streams) -> Iterator[PartitionRows]:
        keys, times, sizes = self._keys_times_sizes()
        numbers, parts, goes_on = self._places(keys, times, sizes)
        start = 0
        for rows in self._read():
            end = start + rows.num_rows
            own = numbers[start:end]
            if self._renumbers:
                rows = _with(rows, self.contract.key, keys.slice(start, rows.num_rows).cast(pa.string()))
            for number in np.unique(own):
                waiting.add(str(number), rows.filter(pa.array(own == number)))
            start = end
        for number, (part, again) in enumerate(zip(parts, goes_on, strict=True)):
            rows = self.contract.in_order(pa.concat_tables(streamed([waiting.file(str(number))])))
            waiting.file(str(number)).unlink()
            yield PartitionRows(f"{self.name}{PARTED}{part + 1:04}", rows, again)

    def _keys_times_sizes(self) -> tuple[pa.ChunkedArray, pa.ChunkedArray, Sizes]:
        """Those of all rows, as they were added."""
        key, time = self.contract.key, self.contract.time
        tables, sizes = [], []
        for rows in self._read():
            sizes.append(row_bytes(rows, key if self.makes_keys else None))
            # Taken, not selected: else each keeps all that was read with it.
            tables.append(rows.select([key, time]).take(pa.array(np.arange(rows.num_rows))))
        rows = pa.concat_tables(tables)
        keys = rows[key].cast(pa.large_string())
        return (numbered(keys) if self._renumbers else keys), rows[time], np.concatenate(sizes)

    def _places(self, keys: pa.ChunkedArray, times: pa.ChunkedArray, sizes: Sizes) -> tuple[Sizes, Sizes, list[bool]]:
        """The piece of each row, as they were added; of each piece its part, and whether it goes on."""
        rows = pa.table({"time": times, "key": keys}).combine_chunks()
        order = pc.sort_indices(rows, [("time", "ascending"), ("key", "ascending")])
        ordered = rows.take(order)
        begins = np.flatnonzero(_differ(ordered["time"]) | _differ(name_of_key(ordered["key"], made=self.makes_keys)))
        in_order = sizes[order.to_numpy()]
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


def numbered(keys: pa.ChunkedArray) -> pa.ChunkedArray:
    """Made keys with the numbers of equal ones counted through, from the second on: ``k``, ``k-2``, ``k-3``."""
    names = name_of_key(keys, made=True)
    codes = names.combine_chunks().dictionary_encode().indices.to_numpy()
    order = np.argsort(codes, kind="stable")
    again = np.flatnonzero(np.diff(codes[order], prepend=-1) == 0)
    if not len(again):
        return names
    starts = np.flatnonzero(np.diff(codes[order], prepend=-1))
    counts = again - starts[np.searchsorted(starts, again, "right") - 1] + 1
    places = order[again]
    found = pc.binary_join_element_wise(
        names.take(places), pa.array(counts.astype(str)).cast(keys.type), pa.scalar("-", keys.type)
    )
    mask = np.zeros(len(keys), np.bool_)
    mask[places] = True
    by_place = np.argsort(places)
    return pc.replace_with_mask(names.combine_chunks(), pa.array(mask), found.take(pa.array(by_place)).combine_chunks())


def _with(rows: pa.Table, column: str, values: pa.ChunkedArray | pa.Array) -> pa.Table:
    """Rows with other values of a column."""
    return rows.set_column(rows.column_names.index(column), rows.schema.field(column), values)


def row_bytes(rows: pa.Table, made_key: str | None = None) -> Sizes:
    """About how many bytes the values of each row take; it depends on the values alone, of a made key on its name."""
    if made_key:
        rows = _with(rows, made_key, name_of_key(rows[made_key], made=True))
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
