"""Encoded rows to calls of a script: keys, and all contents of some rows as one string.

A call blocks the server for about a millisecond, and on a cluster stays in one slot. Calls come in windows of bounded
size, each to be sent in one pipeline.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from redis.crc import key_slot

from weakfish.store.online import wire
from weakfish.store.online.encode import Encoded
from weakfish.store.online.script import PART

ROWS, CONTENTS, BYTES = 100, 2_048, 65_536
"""Of one call, at most; but one row at least."""

WINDOW_ROWS, WINDOW_BYTES = 10_000, 8 * 2**20
"""Of one pipeline."""

Argument = bytes | memoryview | str | int


@dataclass(frozen=True)
class Call:
    """One call of a script."""

    keys: Sequence[bytes]
    arguments: Sequence[Argument]

    def command(self, *script: str) -> tuple[Argument, ...]:
        """The whole command, given its name and its script or the script's digest."""
        return (*script, len(self.keys), *self.keys, *self.arguments)


def windows(encoded: Encoded, settings: Sequence[Argument], *, by_slot: bool) -> Iterator[list[Call]]:
    """Calls that write rows, with ``settings`` as their arguments after names and contents."""
    columns = list(encoded.fields().values())
    names = packed(list(encoded.fields()))
    size = max(1, sum(column.nbytes for column in columns) // max(1, len(encoded)))
    most = max(1, min(WINDOW_ROWS, WINDOW_BYTES // size))
    at_once = max(1, min(ROWS, CONTENTS // len(columns), BYTES // size))
    for start in range(0, len(encoded), most):
        keys = encoded.keys[start : start + most].to_pylist()
        rows, formats = _rows([column[start : start + most] for column in columns])
        ends = _ends(len(keys), at_once)
        if by_slot:
            slots = np.array([key_slot(key) for key in keys])
            order = np.argsort(slots, kind="stable")
            keys, rows = [keys[place] for place in order], rows.take(pa.array(order))
            ends = sorted({*ends, *(np.flatnonzero(np.diff(slots[order])) + 1).tolist()})
        yield list(_calls(keys, rows, ends, (names, formats), settings))


def key_windows(keys: Sequence[bytes], arguments: Sequence[Argument], *, by_slot: bool) -> Iterator[list[Call]]:
    """Calls that take keys and the same arguments each."""
    found = iter(keys)
    while window := list(islice(found, WINDOW_ROWS)):
        if by_slot:
            window.sort(key=key_slot)
        calls: list[list[bytes]] = []
        for key in window:
            if not calls or len(calls[-1]) == ROWS or (by_slot and key_slot(key) != key_slot(calls[-1][0])):
                calls.append([])
            calls[-1].append(key)
        yield [Call(call, arguments) for call in calls]


def packed(texts: Sequence[bytes]) -> bytes:
    """A MessagePack array of byte strings."""
    return (
        b"\xdd"
        + struct.pack(">I", len(texts))
        + b"".join(b"\xdb" + struct.pack(">I", len(text)) + text for text in texts)
    )


def _calls(
    keys: Sequence[bytes],
    rows: pa.Array,
    ends: Sequence[int],
    layout: tuple[bytes, bytes],
    settings: Sequence[Argument],
) -> Iterator[Call]:
    _, offsets, data = rows.buffers()
    places = np.frombuffer(offsets, np.int32)[rows.offset : rows.offset + len(rows) + 1]
    contents, start = memoryview(data or b""), 0
    names, formats = layout
    for end in ends:
        yield Call(keys[start:end], (names, contents[places[start] : places[end]].tobytes(), formats, *settings))
        start = end


def _ends(count: int, at_once: int) -> list[int]:
    return [*range(at_once, count, at_once), count]


def _rows(columns: Sequence[pa.Array]) -> tuple[pa.Array, bytes]:
    """The contents of each row one after another, and how Lua's ``struct`` reads them: a format for every `PART`.

    Where the strings of a column have one length, it stands in the format, else before each of them.
    """
    pieces: list[Any] = []
    kinds: list[str] = []
    for column in columns:
        lengths = pc.binary_length(column).to_numpy(zero_copy_only=False)
        size = int(lengths[0])
        if size and (lengths == size).all():
            pieces.append(column)
            kinds.append(f"c{size}")
        else:
            pieces += [wire.binary(wire.fixed(lengths.astype("<u4"))), column]
            kinds.append("I4c0")
    formats = ["<" + "".join(kinds[start : start + PART]) for start in range(0, len(kinds), PART)]
    rows = pc.binary_join_element_wise(*pieces, pa.scalar(b"", pa.binary()))
    return rows, packed([one.encode() for one in formats])
