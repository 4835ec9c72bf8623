"""Keys for rows without one: a hash of what a row says, and which of the rows that say the same it is.

The same rows get the same keys, in whatever files and order they come. What is held in memory is eight bytes per row.
"""

from __future__ import annotations

import hashlib
from collections import Counter

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from weakfish.tables import TIME

Hashes = npt.NDArray[np.uint64]


class Keys:
    """Makes the keys of the batches of one reading."""

    def __init__(self) -> None:
        self._runs: list[Hashes] = []  # sorted, each longer than the next: hashes that have been seen
        self._again: Counter[int] = Counter()  # of those seen more than once, how often before

    def of(self, columns: list[pa.Array]) -> pa.Array:
        """The keys of rows: 32 hexadecimal digits, from the second of equal rows on with their number behind them."""
        digests = [hashlib.blake2b(row, digest_size=16).digest() for row in _contents(columns)]
        hashes = np.frombuffer(b"".join(digests), np.uint64)[::2]
        again = self._seen_before(hashes)
        keys = [digest.hex() for digest in digests]
        for place in np.flatnonzero(again):
            self._again[int(hashes[place])] += 1
            keys[place] += f"-{self._again[int(hashes[place])] + 1}"
        return pa.array(keys, pa.string())

    def _seen_before(self, hashes: Hashes) -> npt.NDArray[np.bool_]:
        distinct, first = np.unique(hashes, return_index=True)
        again = np.ones(len(hashes), np.bool_)
        again[first] = False
        new = np.ones(len(distinct), np.bool_)
        for run in self._runs:
            places = np.minimum(np.searchsorted(run, distinct), len(run) - 1)
            new &= run[places] != distinct
        again[first[~new]] = True
        self._add(distinct[new])
        return again

    def _add(self, run: Hashes) -> None:
        while self._runs and len(self._runs[-1]) <= 2 * len(run):
            run = np.sort(np.concatenate([self._runs.pop(), run]))
        if len(run):
            self._runs.append(run)


def _contents(columns: list[pa.Array]) -> list[bytes]:
    """Each row as bytes that differ when a value does: texts go with their length, null is a sign of its own."""
    parts = []
    for column in columns:
        texts = pc.cast(pc.cast(column, pa.int64()) if column.type == TIME else column, pa.string())
        if pa.types.is_string(column.type):
            lengths = pc.cast(pc.binary_length(texts), pa.string())
            texts = pc.binary_join_element_wise(lengths, texts, ":")
        parts.append(pc.fill_null(texts, "~"))
    joined = pc.binary_join_element_wise(*parts, "|") if len(parts) > 1 else parts[0]
    found: list[bytes] = pc.cast(joined, pa.binary()).to_pylist()
    return found
