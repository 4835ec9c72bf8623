"""What the pages of a Parquet file say of themselves before they are unpacked: of how many bytes and values they are.

The footer says neither, and a page of some bytes may stand for gigabytes: Arrow unpacks it whole. Pages are found by
their headers, in Thrift's compact protocol (https://github.com/apache/thrift, thrift-compact-protocol.md).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import pyarrow.parquet as pq

HEAD = 1 << 16
"""How many bytes of a page's header are looked at; nothing is known of a page whose header is longer."""

_SIZE, _PACKED, _DATA, _DICTIONARY, _DATA_2 = 2, 3, 5, 7, 8
"""Fields of a page's header: how long it is unpacked and packed, and what only pages of a kind have."""

PAGE, PAGES = 1 << 28, 1 << 30
"""How many bytes a page may have unpacked, and the largest pages of all columns together: Arrow holds one of each."""

ITEMS, EXPANSION = 1 << 27, 1_000
"""How many items the lists of a column may have in a row group, unless the file has a thousandth of as many bytes.

A row of lists is held as a whole, and all items may be in one.
"""


def too_large(file: int, group: pq.RowGroupMetaData, schema: pq.ParquetSchema, places: Iterable[int]) -> str | None:
    """Why these columns of a row group, by their places among all, are not to be read, unless they are."""
    at_once = 0
    for place in places:
        chunk = group.column(place)
        pages = pages_of(file, chunk)
        at_once += pages.largest
        if pages.largest > PAGE:
            return f"has pages of {pages.largest >> 20:,} MiB in {chunk.path_in_schema}, and {PAGE >> 20} are the most"
        listed = schema.column(place).max_repetition_level > 0
        if listed and pages.values > max(ITEMS, EXPANSION * chunk.total_compressed_size):
            return f"has lists of {pages.values:,} items in {chunk.path_in_schema}, and {ITEMS:,} are the most"
    if at_once > PAGES:
        return f"has pages of {at_once >> 20:,} MiB in all its columns, and {PAGES >> 20:,} are the most"
    return None


class Pages(NamedTuple):
    """The pages of a column in a row group: bytes unpacked at once, and values altogether."""

    largest: int
    values: int


def pages_of(file: int, chunk: pq.ColumnChunkMetaData) -> Pages:
    """What the headers of a column's pages say, up to one that is none; ``file`` is the number of the open file."""
    starts = [chunk.data_page_offset, chunk.dictionary_page_offset if chunk.has_dictionary_page else None]
    place = min(start for start in starts if start is not None)
    dictionary = largest = values = 0
    for head in _heads(file, place, place + chunk.total_compressed_size):
        size = head.get(_SIZE, 0)
        if _DICTIONARY in head:
            dictionary = max(dictionary, size)
        else:
            largest = max(largest, size)
            values += head.get(_DATA, head.get(_DATA_2, {})).get(1, 0)
    return Pages(dictionary + largest, values)


def _heads(file: int, place: int, end: int) -> Iterator[dict[int, Any]]:
    while place < end:
        head = _Compact(os.pread(file, HEAD, place))
        try:
            found = head.structure()
        except (IndexError, RecursionError):
            return
        packed = found.get(_PACKED, -1)
        if head.place == 0 or not _is_head(found) or packed < 0:
            return
        yield found
        place += head.place + packed


def _is_head(found: dict[int, Any]) -> bool:
    """Whether the fields have the types of a page's header; damaged bytes may read as anything."""
    numbers = (found.get(_PACKED, 0), found.get(_SIZE, 0))
    parts = [found.get(part, {}) for part in (_DATA, _DATA_2, _DICTIONARY)]
    return all(isinstance(each, int) for each in numbers) and all(
        isinstance(part, dict) and isinstance(part.get(1, 0), int) for part in parts
    )


class _Compact:
    """Reads a structure of Thrift: its integers and structures by field; all else is skipped."""

    def __init__(self, data: bytes) -> None:
        self.data, self.place = data, 0

    def structure(self) -> dict[int, Any]:
        found: dict[int, Any] = {}
        field = 0
        while (head := self._byte()) != 0:
            field = field + (head >> 4) if head >> 4 else self._signed()
            value = self._value(head & 15)
            if value is not None:
                found[field] = value
        return found

    def _value(self, kind: int) -> Any:
        match kind:
            case 1 | 2:  # true and false have no bytes of their own
                return None
            case 3:
                self._byte()
            case 4 | 5 | 6:
                return self._signed()
            case 7:
                self.place += 8
            case 8:
                length = self._number()
                self.place += length
            case 12:
                return self.structure()
            case _:  # lists and maps, which no page's header has
                raise IndexError(kind)
        return None

    def _byte(self) -> int:
        self.place += 1
        return self.data[self.place - 1]

    def _number(self) -> int:
        found = shift = 0
        while True:
            part = self._byte()
            found |= (part & 127) << shift
            if part < 128:
                return found
            shift += 7

    def _signed(self) -> int:
        number = self._number()
        return (number >> 1) ^ -(number & 1)
