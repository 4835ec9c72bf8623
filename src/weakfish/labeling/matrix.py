"""The label matrix: the votes of all functions of a task side by side, with the keys and times of the events."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from weakfish.labeling.functions import ABSTAIN
from weakfish.labeling.load import load_functions
from weakfish.labeling.votes_file import Votes, fingerprint, read_votes
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
        columns = [_column(project.table(f"votes/{task}/{name}") / file.name, expected) for name in names]
        yield partition, LabelMatrix(rows[key], rows[time], names, np.stack(columns, axis=1))


def _column(file: Path, keys: str) -> Votes:
    column: Votes = pc.fill_null(read_votes(file, keys), ABSTAIN).to_numpy()
    return column
