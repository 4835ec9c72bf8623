"""A votes file: the votes of one labeling function on one partition of the events, ``data/votes/<task>/<function>``.

It has one column, ``vote`` (int8), row by row as the events partition of the same name; null where the function failed
on the row. Its metadata hold a fingerprint of that partition's keys, and what the function failed with.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from weakfish.contracts.tables import open_partition, read_partition
from weakfish.errors import TableError

ABSTAIN = -1
"""The vote of a labeling function that does not know; the number is Snorkel's."""

VOTE = pa.int8()
"""The Arrow type of a vote: `ABSTAIN`, or the position of a class in the task's ``classes``."""

FINGERPRINT = b"weakfish.keys"
"""Metadata of a votes file: `fingerprint` of the keys of the events that it votes on."""

FAULTS = b"weakfish.faults"
"""Metadata of a votes file: the `Faults` as JSON; absent where there are none."""

EXAMPLES = 5
"""How many failed rows of a function are kept by name."""

FAILED = -128
"""In arrays of votes, a row on which the function raised; null in a votes file."""

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


@dataclass
class Faults:
    """Rows on which a function raised.

    Attributes
    ----------
    count : int
    exception : str
        The first, as ``Type: message``.
    rows : list of str
        Keys of the first rows, at most `EXAMPLES`.
    """

    count: int = 0
    exception: str = ""
    rows: list[str] = field(default_factory=list)

    def add(self, other: Faults) -> None:
        """Count the faults of later rows."""
        self.count += other.count
        self.exception = self.exception or other.exception
        self.rows = (self.rows + other.rows)[:EXAMPLES]


def write_votes(file: Path, votes: Votes, keys: str, faults: Faults) -> None:
    """Write votes, `FAILED` where the function raised; ``keys`` is the `fingerprint` of the events' keys."""
    file.parent.mkdir(parents=True, exist_ok=True)
    metadata = {FINGERPRINT: keys.encode()}
    if faults.count:
        metadata[FAULTS] = json.dumps(asdict(faults)).encode()
    column = pa.array(votes, VOTE, mask=votes == FAILED)
    field = pa.field("vote", VOTE, nullable=column.null_count > 0)  # one that cannot be null is read in half the time
    table = pa.table([column], pa.schema([field], metadata))
    pq.write_table(table, file, compression="zstd", write_page_checksum=True)


def read_faults(file: Path) -> Faults:
    """What the function failed with on the partition."""
    found = (open_partition(file).schema_arrow.metadata or {}).get(FAULTS)
    return Faults(**json.loads(found)) if found else Faults()


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


FEW_CLASSES = 12
"""Classes up to which the whole table is written: of fifty it would be 2,550 numbers per function and partition."""

Table = Sequence[Sequence[int]]


def table_json(table: Table) -> Any:
    """The table (rows, classes) for a file; see `parse_table`."""
    if not table or len(table[0]) <= FEW_CLASSES:
        return [list(row) for row in table]
    counts = [[one, other, count] for one, row in enumerate(table) for other, count in enumerate(row) if count]
    return {"shape": [len(table), len(table[0])], "counts": counts}


def parse_table(content: Any) -> tuple[tuple[int, ...], ...]:
    """The table of `table_json`."""
    if not isinstance(content, Mapping):
        return tuple(map(tuple, content))
    rows, classes = content["shape"]
    table = [[0] * classes for _ in range(rows)]
    for one, other, count in content["counts"]:
        table[one][other] = count
    return tuple(map(tuple, table))
