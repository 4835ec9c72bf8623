"""The label matrix: the votes of all functions of a task side by side, with the keys and times of the events."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from weakfish.errors import TableError
from weakfish.labeling.load import load_functions
from weakfish.labeling.vote import FINGERPRINT, fingerprint
from weakfish.project import Project
from weakfish.tables import partitions, read_partition

Votes = npt.NDArray[np.int8]


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
        -1 abstains; others are positions in the task's classes.
    """

    keys: pa.ChunkedArray
    times: pa.ChunkedArray
    names: list[str]
    votes: Votes


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
    """The label matrix of a task partition by partition, with the partition's name.

    Raises
    ------
    TableError
        When votes are missing, cut off, or about other events than those that lie in ``data/events``.
    """
    names = [function.name for function in load_functions(project, task)]
    key, time = project.params.events.key, project.params.events.time
    for partition, file in partitions(project.table("events")).items():
        rows = read_partition(file, [key, time])
        expected = fingerprint(rows[key])
        columns = [_column(project, f"votes/{task}/{name}", partition, expected) for name in names]
        yield partition, LabelMatrix(rows[key], rows[time], names, np.stack(columns, axis=1))


def _column(project: Project, table: str, partition: str, expected: str) -> Votes:
    file = project.table(table) / f"{partition}.parquet"
    votes = read_partition(file, ["vote"])
    if (votes.schema.metadata or {}).get(FINGERPRINT, b"").decode() != expected:
        raise TableError(
            f"{file} holds votes on other events than data/events/{partition}.parquet; run `dvc repro vote`."
        )
    column: Votes = votes["vote"].to_numpy()
    return column
