"""Entity keys by ranges of a stable hash, on disk where they are many: who looks at all of them holds some ranges only.

No need of Feast or NumPy, so that a probe stays fast.
"""

from __future__ import annotations

import os
import struct
import tempfile
import weakref
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import IO, Any

RANGES = 256
"""Ranges of the hash; of a billion keys each has four million."""

LIMIT = 1 << 22
"""Bytes that a `Spool` keeps in memory, and that are read back at once, unless one range has more."""

LENGTH = struct.Struct("<I")


def hashed(key: bytes) -> int:
    """A key by 64 bits, the same in every process and on every machine."""
    import mmh3

    return mmh3.hash64(key, signed=False)[0]


def range_of(number: Any) -> Any:
    """The range of a hash, or of each of an array of them: its upper bits."""
    return (number >> 32) * RANGES >> 32


class Spool:
    """Bytes by range, added in any order and read back some ranges at a time; what is too much for memory is on disk.

    The file lies in the system's folder for temporary files, without a name, so that it goes with the process.

    Attributes
    ----------
    sizes : collections.Counter of int
        How many bytes each range has.
    """

    def __init__(self) -> None:
        self.sizes: Counter[int] = Counter()
        self._waiting: dict[int, list[bytes]] = defaultdict(list)
        self._held = 0
        self._places: dict[int, list[tuple[int, int]]] = defaultdict(list)
        self._file: IO[bytes] | None = None

    def add(self, number: int, content: bytes) -> None:
        """Append to a range."""
        self._waiting[number].append(content)
        self.sizes[number] += len(content)
        self._held += len(content)
        if self._held > LIMIT:
            self._spill()

    def _spill(self) -> None:
        if self._file is None:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115 - for as long as the spool is used
            weakref.finalize(self, self._file.close)
        place = self._file.seek(0, os.SEEK_END)
        for number, parts in self._waiting.items():
            size = self._file.write(b"".join(parts))
            self._places[number].append((place, size))
            place += size
        self._waiting.clear()
        self._held = 0

    def read(self, numbers: Iterable[int]) -> bytes:
        """All that some ranges have, each range's in the order in which it came."""
        return b"".join(part for number in numbers for part in (*self._stored(number), *self._waiting.get(number, ())))

    def _stored(self, number: int) -> Iterator[bytes]:
        if self._file is not None:
            for place, size in self._places.get(number, ()):
                self._file.seek(place)
                yield self._file.read(size)

    def groups(self, limit: int | None = None) -> Iterator[list[int]]:
        """All ranges in order, as many together as a limit allows: `LIMIT`, if none is given."""
        limit = limit or LIMIT
        group, size = list[int](), 0
        for number in range(RANGES):
            if group and size + self.sizes[number] > limit:
                yield group
                group, size = [], 0
            group.append(number)
            size += self.sizes[number]
        yield group


class EntityKeys:
    """Keys, of which each comes back once, however often it was added."""

    def __init__(self, found: Iterable[bytes] = ()) -> None:
        self._spool = Spool()
        for key in found:
            self._spool.add(range_of(hashed(key)), LENGTH.pack(len(key)) + key)

    def groups(self) -> Iterator[tuple[list[int], Sequence[bytes]]]:
        """The keys of some ranges at a time, with the numbers of these."""
        for numbers, content in self.packed():
            yield numbers, unpacked(content)

    def packed(self, limit: int | None = None) -> Iterator[tuple[list[int], bytes]]:
        """The same for whoever unpacks it elsewhere, in groups of so many bytes."""
        for numbers in self._spool.groups(limit):
            yield numbers, self._spool.read(numbers)


def unpacked(content: bytes) -> list[bytes]:
    """The keys of a group, each once."""
    return list(dict.fromkeys(_unpacked(content)))


def _unpacked(content: bytes) -> Iterator[bytes]:
    place = 0
    while place < len(content):
        start = place + LENGTH.size
        place = start + LENGTH.unpack_from(content, place)[0]
        yield content[start:place]
