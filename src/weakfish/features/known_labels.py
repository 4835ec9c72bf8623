"""Labels as they were known: the lagged relation, the only way by which features get at labels.

The labels of a month come from a label model that was fitted on the votes on earlier months alone, and are known a
delay after their event. Written to ``data/known_labels/<task>``, a partition per partition of the events.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from weakfish.features.rows import KNOWN_AT
from weakfish.labeling.matrix import LabelMatrix, label_matrices
from weakfish.labeling.modeling.model import covered, fit, probabilities
from weakfish.labeling.votes_file import Votes
from weakfish.project import Project
from weakfish.tables import TIME, UNDATED, write_partition

MIN_HISTORY = 100
"""Covered earlier events below which no label model is fitted, so that a month's labels stay unknown."""


def write_known_labels(project: Project, task: str, folder: Path) -> int:
    """Write the known labels of ``task`` and return how many there are.

    Columns: the events' key and time, ``known_at`` (event time plus ``features.labeling_delay_hours``; UTC,
    microseconds), ``p_<class>`` (float64), ``fitted_through`` (the last partition whose votes the model had). Rows are
    the events on which a function voted, in months before which at least `MIN_HISTORY` such events lie; other
    partitions are empty.
    """
    earlier: list[Votes] = []
    through, rows = "", 0
    for partition, matrix in label_matrices(project, task):
        if partition == UNDATED:
            continue
        known = _known(project, task, matrix, earlier, through)
        write_partition(folder, partition, known)
        earlier.append(matrix.votes[covered(matrix.votes)])
        through, rows = partition, rows + known.num_rows
    return rows


def _known(project: Project, task: str, matrix: LabelMatrix, earlier: list[Votes], through: str) -> pa.Table:
    settings = project.task(task)
    voted = covered(matrix.votes) & matrix.times.is_valid().to_numpy()
    if sum(len(votes) for votes in earlier) < MIN_HISTORY:
        voted[:] = False
    posterior = np.empty((0, len(settings.classes)))
    if voted.any():
        posterior = probabilities(fit(np.concatenate(earlier), settings), matrix.votes[voted])
    keep = pa.array(voted)
    times = matrix.times.filter(keep).cast(TIME)
    delay = pa.scalar(project.params.features.labeling_delay, pa.duration("us"))
    columns = {project.params.events.key: matrix.keys.filter(keep), project.params.events.time: times}
    columns[KNOWN_AT] = pc.add(times, delay)
    columns |= {f"p_{name}": pa.array(posterior[:, number]) for number, name in enumerate(settings.classes)}
    columns["fitted_through"] = pa.array([through] * len(posterior), pa.string())
    return pa.table(columns)
