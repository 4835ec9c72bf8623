"""Hashes of the events' partitions and their columns, so that what did not change is known without reading it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from weakfish.contracts.tables import open_partition, partitions, read_partition
from weakfish.contracts.votes_file import ABSTAIN, FINGERPRINT, Votes, fingerprint
from weakfish.errors import TableError, WeakfishError
from weakfish.files import read_json, sha256, write_json
from weakfish.project.paths import Project
from weakfish.rules.loading import load_functions

PART = 1 << 22
"""Bytes that are read at a time."""


class EventHashes:
    """Hashes of partitions, remembered while a file's time and size stay what they were.

    The hash of a column is that of its chunks as they lie in the Parquet file: nothing is decoded.
    """

    def __init__(self, project: Project) -> None:
        self._file = project.root / ".weakfish" / "contents.json"
        try:
            self._known: dict[str, dict[str, Any]] = read_json(self._file)
        except WeakfishError:
            self._known = {}

    def of(self, file: Path, columns: Sequence[str]) -> list[str]:
        """One hash per column."""
        known = self._entry(file)["columns"]
        missing = [name for name in columns if name not in known]
        if missing:
            known.update(_column_hashes(file, missing))
        return [known[name] for name in columns]

    def file(self, file: Path) -> str:
        """The SHA-256 of a file."""
        entry = self._entry(file)
        if entry["file"] is None:
            entry["file"] = sha256(file)
        return str(entry["file"])

    def keys(self, file: Path, key: str) -> str:
        """The fingerprint of a partition's keys."""
        known = self._entry(file)["keys"]
        if key not in known:
            known[key] = fingerprint(read_partition(file, [key])[key])
        return str(known[key])

    def save(self, files: Sequence[Path]) -> None:
        """Remember what is known of these files, and nothing else."""
        write_json(self._file, {str(file): self._known[str(file)] for file in files if str(file) in self._known})

    def _entry(self, file: Path) -> dict[str, Any]:
        state = file.stat()
        stamp = [state.st_mtime_ns, state.st_size, state.st_ino]
        entry = self._known.get(str(file))
        if entry is None or entry["stamp"] != stamp:
            entry = self._known[str(file)] = {"stamp": stamp, "columns": {}, "keys": {}, "file": None}
        return entry


def _column_hashes(file: Path, names: Sequence[str]) -> dict[str, str]:
    parquet = open_partition(file)
    metadata = parquet.metadata
    digests = {name: hashlib.sha256(str(parquet.schema_arrow.field(name).type).encode()) for name in names}
    with file.open("rb") as stream:
        for group in range(metadata.num_row_groups):
            for number in range(metadata.num_columns):
                chunk = metadata.row_group(group).column(number)
                digest = digests.get(chunk.path_in_schema.partition(".")[0])
                if digest is None:
                    continue
                start = chunk.dictionary_page_offset if chunk.has_dictionary_page else chunk.data_page_offset
                digest.update(f"{group} {chunk.num_values}".encode())
                stream.seek(start)
                for done in range(0, chunk.total_compressed_size, PART):
                    digest.update(stream.read(min(PART, chunk.total_compressed_size - done)))
    return {name: digest.hexdigest() for name, digest in digests.items()}


@dataclass(frozen=True)
class LabelMatrix:
    """Votes on events.

    Attributes
    ----------
    keys, times : pyarrow.ChunkedArray
        Key and event time of each row.
    names : list of str
        The labeling functions, one per column.
    votes : numpy.ndarray, int8, (rows, functions)
        -1 abstains, as does a function that failed; others are positions in the task's classes.
    """

    keys: pa.ChunkedArray
    times: pa.ChunkedArray
    names: list[str]
    votes: Votes


@dataclass(frozen=True)
class VotesOfPartition:
    """The votes of a task's functions on one partition, which events they are about not yet checked.

    Attributes
    ----------
    votes : numpy.ndarray, int8, (rows, functions)
        Columns are contiguous in memory.
    faults : list of int
        Rows on which each function failed.
    fingerprint : str
        Of the events' keys, the same in all files.
    """

    votes: Votes
    faults: list[int]
    fingerprint: str


def read_label_matrix(project: Project, task: str) -> LabelMatrix:
    """All partitions of a task's label matrix, rows as in ``data/events``."""
    parts = dict(label_matrices(project, task))
    matrices = list(parts.values())
    return LabelMatrix(
        pa.chunked_array([chunk for matrix in matrices for chunk in matrix.keys.chunks]),
        pa.chunked_array([chunk for matrix in matrices for chunk in matrix.times.chunks]),
        matrices[0].names,
        np.concatenate([matrix.votes for matrix in matrices]),
    )


def label_matrices(project: Project, task: str) -> Iterator[tuple[str, LabelMatrix]]:
    """The label matrix of a task partition by partition, with the partition's name; raises as `label_matrix` does."""
    names = [function.name for function in load_functions(project, task)]
    for partition in partitions(project.table("events")):
        yield partition, label_matrix(project, task, names, partition)


def label_matrix(
    project: Project, task: str, names: Sequence[str], partition: str, part: VotesOfPartition | None = None
) -> LabelMatrix:
    """The label matrix of one partition; ``part`` has its votes where they were read before.

    Raises
    ------
    TableError
        When votes are missing, cut off, or about other events than those that lie in ``data/events``.
    """
    file = project.table("events") / f"{partition}.parquet"
    rows = read_partition(file, [project.params.events.key, project.params.events.time])
    keys = rows[project.params.events.key]
    part = part or votes_of(project, task, names, partition)
    if part.fingerprint != fingerprint(keys) or len(part.votes) != rows.num_rows:
        raise _about_others(project.table(f"votes/{task}/{names[0]}") / file.name)
    return LabelMatrix(keys, rows[project.params.events.time], list(names), part.votes)


def votes_of(project: Project, task: str, names: Sequence[str], partition: str) -> VotesOfPartition:
    """The votes of functions on one partition, without a look at the events.

    Raises
    ------
    TableError
        When votes are missing, cut off, or about other events than each other.
    """
    files = [project.table(f"votes/{task}/{name}") / f"{partition}.parquet" for name in names]
    votes = np.empty((0, 0), np.int8)
    faults, prints = [], []
    for number, file in enumerate(files):
        table = read_partition(file, ["vote"])
        if not number:
            votes = np.empty((len(files), table.num_rows), np.int8)
        prints.append((table.schema.metadata or {}).get(FINGERPRINT, b"").decode())
        if prints[-1] != prints[0] or table.num_rows != votes.shape[1]:
            raise _about_others(_odd_one(project, partition, files, file))
        faults.append(table["vote"].null_count)
        column = pc.fill_null(table["vote"], ABSTAIN) if faults[-1] else table["vote"]
        votes[number] = column.to_numpy()
    return VotesOfPartition(votes.T, faults, prints[0])


def _odd_one(project: Project, partition: str, files: list[Path], differs: Path) -> Path:
    """Of two files about different events, the one that is not about those that lie in ``data/events``."""
    key = project.params.events.key
    expected = fingerprint(read_partition(project.table("events") / f"{partition}.parquet", [key])[key])
    first = (read_partition(files[0], ["vote"]).schema.metadata or {}).get(FINGERPRINT, b"").decode()
    return differs if first == expected else files[0]


def _about_others(file: Path) -> TableError:
    return TableError(f"{file} holds votes on other events than data/events/{file.name}; run `dvc repro vote`.")


SPAN = 4
"""Rows that are read for each row of the sample, at most."""

EVENTS_BATCH = 8_192
"""Rows that are read at a time."""

Places = npt.NDArray[np.int64]


@dataclass(frozen=True)
class EventSample:
    """Some of the events, in their order.

    Attributes
    ----------
    rows : pyarrow.Table
        The columns asked for.
    places : dict of numpy.ndarray, int64
        By partition: which rows of it are in the sample; only partitions that have some.
    of : int
        How many events there are.
    """

    rows: pa.Table
    places: dict[str, Places]
    of: int


@dataclass(frozen=True)
class Share:
    """What the sample takes from a row group; ``first`` is the number of the group's first row in its partition."""

    partition: str
    file: Path
    group: int
    first: int
    places: Places


def take_sample(project: Project, columns: Sequence[str], rows: int) -> EventSample:
    """``rows`` of the events with ``columns``, or all events where there are fewer.

    Raises
    ------
    TableError
        When there are no events, or a file is cut off.
    """
    files = partitions(project.table("events"))
    schema = open_partition(next(iter(files.values()))).schema_arrow.remove_metadata()
    of, shares = _shares(files, rows)
    parts: list[pa.Table] = []
    places: dict[str, list[Places]] = {}
    for share in shares:
        parts += _rows_of(share, columns)
        places.setdefault(share.partition, []).append(share.first + share.places)
    empty = pa.schema([schema.field(name) for name in columns]).empty_table()
    taken = pa.concat_tables([empty, *(part.replace_schema_metadata(None) for part in parts)])
    return EventSample(taken, {name: np.concatenate(each) for name, each in places.items()}, of)


def evenly(of: int, number: int) -> Places:
    """``number`` of the places 0 to ``of`` - 1, evenly spread; all where there are no more."""
    number = min(of, number)
    steps: Places = (2 * np.arange(number, dtype=np.int64) + 1) * of // max(1, 2 * number)
    return steps


def _shares(files: dict[str, Path], rows: int) -> tuple[int, list[Share]]:
    """How many events there are, and what each row group gives."""
    groups = []
    for partition, file in files.items():
        metadata = open_partition(file).metadata
        sizes = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
        firsts = accumulate(sizes, initial=0)
        groups += [
            (partition, file, group, first, size)
            for group, (first, size) in enumerate(zip(firsts, sizes, strict=False))
        ]
    of = sum(size for *_, size in groups)
    chosen, before, shares = evenly(of, rows), 0, []
    for partition, file, group, first, size in groups:
        places = chosen[(chosen >= before) & (chosen < before + size)] - before
        if of > SPAN * rows:
            places = evenly(min(size, SPAN * len(places)), len(places))
        if len(places):
            shares.append(Share(partition, file, group, first, places))
        before += size
    return of, shares


def _rows_of(share: Share, columns: Sequence[str]) -> list[pa.Table]:
    """The rows of a share, and no more of the file than up to its last one."""
    parts, first, last = [], 0, int(share.places[-1])
    try:
        for batch in open_partition(share.file).iter_batches(min(EVENTS_BATCH, last + 1), [share.group], list(columns)):
            wanted = share.places[(share.places >= first) & (share.places < first + batch.num_rows)] - first
            parts.append(pa.Table.from_batches([batch]).take(pa.array(wanted)))
            first += batch.num_rows
            if first > last:
                break
    except (pa.ArrowInvalid, OSError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise TableError(
            f"{share.file} is not readable Parquet ({reason}); run `dvc repro`, which makes it."
        ) from error
    return parts
