"""Votes beside the events that they are about; samples of events, and hashes that tell which of them changed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from weakfish.contracts.hashes import FolderMemory
from weakfish.contracts.pointers import local
from weakfish.contracts.tables import open_partition, partitions, read_partition, schema_of
from weakfish.contracts.votes_file import ABSTAIN, Votes, about_others, fingerprint, print_of, read_votes, votes_file
from weakfish.errors import TableError
from weakfish.project.paths import Project
from weakfish.rules.loading import load_functions

PART = 1 << 22
"""Bytes that are read at a time."""


class EventHashes:
    """Hashes of the columns of the events' partitions, and of their keys; what was hashed before is remembered.

    The hash of a column is that of its chunks as they lie in the Parquet file: nothing is decoded.
    """

    def __init__(self, project: Project) -> None:
        self._memory = FolderMemory(project.table("events"))

    def of(self, file: Path, columns: Sequence[str]) -> list[str]:
        """One hash per column."""
        known = self._memory.of(file).setdefault("columns", {})
        missing = [name for name in columns if name not in known]
        if missing:
            known.update(_column_hashes(file, missing))
        return [known[name] for name in columns]

    def keys(self, file: Path, key: str) -> str:
        """The fingerprint of a partition's keys."""
        known = self._memory.of(file).setdefault("keys", {})
        if key not in known:
            known[key] = fingerprint(read_partition(file, [key])[key])
        return str(known[key])

    def save(self) -> None:
        """Remember what is known of the files that are there."""
        self._memory.save()


def _column_hashes(file: Path, names: Sequence[str]) -> dict[str, str]:
    parquet = open_partition(file)
    metadata = parquet.metadata
    if missing := [name for name in names if name not in parquet.schema_arrow.names]:
        raise TableError(f"{file} has no column {', '.join(missing)}; it has {', '.join(parquet.schema_arrow.names)}.")
    digests = {name: hashlib.sha256(str(parquet.schema_arrow.field(name).type).encode()) for name in names}
    with local(file).open("rb") as stream:
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
        Of the events' keys.
    file : pathlib.Path
    """

    votes: Votes
    faults: list[int]
    fingerprint: str
    file: Path

    def check(self, expected: str) -> None:
        """Raise `TableError` unless these are votes on events whose keys have the fingerprint ``expected``."""
        if self.fingerprint != expected:
            raise about_others(self.file)


def read_label_matrix(project: Project, task: str) -> LabelMatrix:
    """All partitions of a task's label matrix, rows as in ``data/events``."""
    matrices = [matrix for _, matrix in label_matrices(project, task)]
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


def label_matrix(project: Project, task: str, names: Sequence[str], partition: str) -> LabelMatrix:
    """The label matrix of one partition.

    Raises
    ------
    TableError
        When votes are missing, cut off, or about other events than those that lie in ``data/events``.
    """
    key, time = project.params.events.key, project.params.events.time
    rows = read_partition(project.table("events") / f"{partition}.parquet", [key, time])
    part = votes_of(project, task, names, partition)
    part.check(fingerprint(rows[key]))
    return LabelMatrix(rows[key], rows[time], list(names), part.votes)


def votes_of(project: Project, task: str, names: Sequence[str], partition: str) -> VotesOfPartition:
    """The votes of functions on one partition, without a look at the events.

    Raises
    ------
    TableError
        When votes are missing or cut off.
    """
    file = votes_file(project, task, partition)
    table = read_votes(file, names)
    votes, faults = np.empty((len(names), table.num_rows), np.int8), []
    for number, column in enumerate(table.columns):
        faults.append(column.null_count)
        votes[number] = (pc.fill_null(column, ABSTAIN) if faults[-1] else column).to_numpy()
    return VotesOfPartition(votes.T, faults, print_of(table), file)


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


def take_sample(project: Project, columns: Sequence[str], rows: int) -> EventSample:
    """``rows`` of the events with ``columns``, or all events where there are fewer.

    The rows are spread evenly; in many events they stand close together at the start of each row group, so that the
    time it takes depends on ``rows`` alone.

    Raises
    ------
    TableError
        When there are no events, or a file is cut off.
    """
    files = partitions(project.table("events"))
    sizes = {name: group_sizes(open_partition(file)) for name, file in files.items()}
    of = sum(map(sum, sizes.values()))
    chosen = evenly(of, rows)
    schema = schema_of(project.table("events"))
    parts, places = [pa.schema([schema.field(name) for name in columns]).empty_table()], {}
    for name, file in files.items():
        found, first = [np.empty(0, np.int64)], 0
        for size in sizes[name]:
            inside, chosen = chosen[chosen < size], chosen[chosen >= size] - size
            if of > SPAN * rows:
                inside = evenly(min(size, SPAN * len(inside)), len(inside))
            found.append(first + inside)
            first += size
        at = np.concatenate(found)
        if len(at):
            places[name] = at
            parts += [part.replace_schema_metadata(None) for part in rows_at(file, columns, at)]
    return EventSample(pa.concat_tables(parts), places, of)


def evenly(of: int, number: int) -> Places:
    """``number`` of the places 0 to ``of`` - 1, evenly spread; all where there are no more."""
    number = min(of, number)
    steps: Places = (2 * np.arange(number, dtype=np.int64) + 1) * of // max(1, 2 * number)
    return steps


def rows_at(file: Path, columns: Sequence[str], places: Places) -> Iterator[pa.Table]:
    """The rows of a partition at ``places``, in order, batch by batch; no more of the file is read than holds them."""
    parquet, names = open_partition(file), list(columns)
    for group, size in enumerate(group_sizes(parquet)):
        inside, places = places[places < size], places[places >= size] - size
        first, end = 0, int(inside.max(initial=-1)) + 1
        try:
            for batch in parquet.iter_batches(min(EVENTS_BATCH, end), [group], names) if end else ():
                if first >= end:
                    break
                here = inside[(inside >= first) & (inside < first + batch.num_rows)] - first
                if len(here):
                    yield pa.Table.from_batches([batch]).select(names).take(pa.array(here))
                first += batch.num_rows
        except (pa.ArrowInvalid, OSError) as error:
            reason = str(error).splitlines()[0].rstrip(".")
            raise TableError(f"{file} is not readable Parquet ({reason}); run `dvc repro`, which makes it.") from error


def group_sizes(parquet: pq.ParquetFile) -> list[int]:
    """The rows of each row group."""
    return [parquet.metadata.row_group(group).num_rows for group in range(parquet.num_row_groups)]
