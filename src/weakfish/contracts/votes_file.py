"""A votes file: the votes of all functions of a task on one partition of the events, ``data/votes/<task>``.

It has one column (int8) per function, row by row as the events partition of the same name; null where the function
failed on the row. Its metadata hold a fingerprint of that partition's keys. It is put together from pieces, files of
one column that the cache keeps: so one edited function costs one column.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from weakfish.contracts.pointers import exists
from weakfish.contracts.record import Rooted
from weakfish.contracts.tables import open_partition, read_partition
from weakfish.errors import TableError

ABSTAIN = -1
"""The vote of a labeling function that does not know; the number is Snorkel's."""

VOTE = pa.int8()
"""The Arrow type of a vote: `ABSTAIN`, or the position of a class in the task's ``classes``."""

FINGERPRINT = b"weakfish.keys"
"""Metadata of votes files and pieces: `fingerprint` of the keys of the events that they vote on."""

FAULTS = b"weakfish.faults"
"""Metadata of a piece: the `Faults` as JSON; absent where there are none."""

VOTE_COLUMN = "vote"
"""The column of a piece, which tells nothing of the function: several that are alike share it."""

EXAMPLES = 5
"""How many failed rows of a function are kept by name."""

FAILED = -128
"""In arrays of votes, a row on which the function raised; null in files."""

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


def write_piece(file: Path, votes: Votes, keys: str, faults: Faults) -> None:
    """Write votes of one function, `FAILED` where it raised; ``keys`` is the `fingerprint` of the events' keys."""
    metadata = {FAULTS: json.dumps(asdict(faults)).encode()} if faults.count else {}
    _write(file, {VOTE_COLUMN: _column(votes)}, keys, metadata)


def read_faults(file: Path) -> Faults:
    """What the function of a piece failed with."""
    found = (open_partition(file).schema_arrow.metadata or {}).get(FAULTS)
    return Faults(**json.loads(found)) if found else Faults()


def read_piece(file: Path, keys: str) -> pa.ChunkedArray:
    """The votes of a piece, int8, null where the function failed; raises `TableError` as `read_votes` does."""
    return read_votes(file, [VOTE_COLUMN], keys)[VOTE_COLUMN]


def votes_file(project: Rooted, task: str, partition: str) -> Path:
    """Where the votes of a task on a partition lie."""
    return project.root / "data" / "votes" / task / f"{partition}.parquet"


def put_together(file: Path, pieces: Mapping[str, Path], keys: str) -> None:
    """Write a votes file from the pieces of its functions; raises `TableError` when one is damaged."""
    _write(file, {name: read_piece(piece, keys) for name, piece in pieces.items()}, keys)


def write_votes(file: Path, votes: Mapping[str, Votes], keys: str) -> None:
    """Write votes by function, `FAILED` where it raised; ``keys`` is the `fingerprint` of the events' keys."""
    _write(file, {name: _column(own) for name, own in votes.items()}, keys)


def read_votes(file: Path, names: Sequence[str], keys: str | None = None) -> pa.Table:
    """The votes of some functions, a column each, int8, null where the function failed; `print_of` says about what.

    Raises
    ------
    TableError
        When the file is missing, cut off, has no votes of a function, or is about other events than those with the
        fingerprint ``keys``.
    """
    if not exists(file) and any(child.is_dir() for child in file.parent.glob("*")):
        raise TableError(
            f"{file.parent} has a folder for each labeling function, as earlier versions of Weakfish wrote votes; run "
            "`weakfish upgrade`, then `dvc repro`."
        )
    present = open_partition(file).schema_arrow.names
    if missing := [name for name in names if name not in present]:
        raise TableError(f"{file} has no votes of {', '.join(missing)}; run `dvc repro vote`.")
    votes = read_partition(file, names).select(list(names))
    if keys is not None and print_of(votes) != keys:
        raise about_others(file)
    return votes


def print_of(votes: pa.Table) -> str:
    """The fingerprint of the keys that the votes of a file are about."""
    return str((votes.schema.metadata or {}).get(FINGERPRINT, b"").decode())


def about_others(file: Path) -> TableError:
    """What is raised where votes do not fit the events that lie there."""
    return TableError(f"{file} holds votes on other events than data/events/{file.name}; run `dvc repro vote`.")


def _column(votes: Votes) -> pa.Array:
    return pa.array(votes, VOTE, mask=votes == FAILED)


def _write(
    file: Path,
    columns: Mapping[str, pa.Array | pa.ChunkedArray],
    keys: str,
    metadata: Mapping[bytes, bytes] = MappingProxyType({}),
) -> None:
    """Columns in the order of their names: which of several functions comes first changes no byte."""
    file.parent.mkdir(parents=True, exist_ok=True)
    ordered = dict(sorted(columns.items()))
    # one that cannot be null is read in half the time
    fields = [pa.field(name, VOTE, nullable=column.null_count > 0) for name, column in ordered.items()]
    schema = pa.schema(fields, {FINGERPRINT: keys.encode(), **metadata})
    table = pa.table(list(ordered.values()), schema)
    pq.write_table(table, file, compression="zstd", write_page_checksum=True)


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
