"""A votes file: the votes of one labeling function on one partition of the events, ``data/votes/<task>/<function>``.

It has one column, ``vote`` (int8), row by row as the events partition of the same name; null where the function failed
on the row. Its metadata hold a fingerprint of that partition's keys.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from weakfish.errors import TableError
from weakfish.tables import read_partition

VOTE = pa.int8()
"""The Arrow type of a vote: -1 abstains, others are positions in the task's ``classes``."""

FINGERPRINT = b"weakfish.keys"
"""Metadata of a votes file: `fingerprint` of the keys of the events that it votes on."""

Votes = npt.NDArray[np.int8]


def fingerprint(keys: pa.ChunkedArray) -> str:
    """The SHA-256 of keys in order; of the lengths of their texts, then of the texts."""
    texts = pc.fill_null(keys.cast(pa.large_string()), "").combine_chunks()
    digest = hashlib.sha256(pc.binary_length(texts).to_numpy().tobytes())
    _, offsets, data = texts.buffers()
    ends = np.frombuffer(offsets, np.int64)[texts.offset : texts.offset + len(texts) + 1]
    if data is not None and len(texts):
        digest.update(memoryview(data)[ends[0] : ends[-1]])
    return digest.hexdigest()


def write_votes(file: Path, votes: pa.Array, keys: str) -> None:
    """Write votes (int8, null where the function failed); ``keys`` is the `fingerprint` of the events' keys."""
    file.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table({"vote": votes.cast(VOTE)}, metadata={FINGERPRINT: keys})
    pq.write_table(table, file, compression="zstd")


def read_votes(file: Path, keys: str) -> pa.Array:
    """The votes in ``file``, int8, null where the function failed.

    Raises
    ------
    TableError
        When the file is missing, cut off, or about other events than those with the fingerprint ``keys``.
    """
    votes = read_partition(file, ["vote"])
    if (votes.schema.metadata or {}).get(FINGERPRINT, b"").decode() != keys:
        raise TableError(f"{file} holds votes on other events than data/events/{file.name}; run `dvc repro vote`.")
    return votes["vote"].combine_chunks()
