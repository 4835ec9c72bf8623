"""The label matrix: the votes of all functions of a task side by side, with the keys and times of the events."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from weakfish.errors import TableError
from weakfish.labeling.load import load_functions
from weakfish.labeling.votes_file import ABSTAIN, FINGERPRINT, Votes, fingerprint
from weakfish.project import Project
from weakfish.tables import partitions, read_partition


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
