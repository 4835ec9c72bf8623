"""Labels as they were known: the lagged relation, the only way by which features get at labels.

The labels of a month come from a label model that was fitted on the covered rows of earlier months alone, and are known
a delay after their event. Written to ``data/known_labels/<task>``, a partition per partition of the events.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from weakfish.features.rows import KNOWN_AT
from weakfish.labeling.matrix import LabelMatrix, label_matrices
from weakfish.labeling.modeling.choice import choose
from weakfish.labeling.modeling.model import covered
from weakfish.labeling.modeling.refit import MIN_HISTORY
from weakfish.labeling.modeling.tally import Tally
from weakfish.project import Project
from weakfish.tables import TIME, UNDATED, write_partition


def write_known_labels(project: Project, task: str, folder: Path) -> int:
    """Write the known labels of ``task`` and return how many there are.

    Columns: the events' key and time, ``known_at`` (event time plus ``features.labeling_delay_hours``; UTC,
    microseconds), ``p_<class>`` (float64), ``fitted_through`` (the last partition whose votes the model had). Rows are
    the events on which a function voted, in months before which at least `MIN_HISTORY` such events lie; other
    partitions are empty.
    """
    classes = len(project.task(task).classes)
    earlier: Tally | None = None
    through, rows = "", 0
    for partition, matrix in label_matrices(project, task):
        if partition == UNDATED:
            continue
        earlier = earlier or Tally.none(len(matrix.names), classes)
        known = _known(project, task, matrix, earlier, through)
        write_partition(folder, partition, known)
        earlier += Tally.of(matrix.votes, classes)
        through, rows = partition, rows + known.num_rows
    return rows


def _known(project: Project, task: str, matrix: LabelMatrix, earlier: Tally, through: str) -> pa.Table:
    settings = project.task(task)
    voted = covered(matrix.votes) & matrix.times.is_valid().to_numpy()
    if earlier.sums.covered < MIN_HISTORY:
        voted[:] = False
    posterior = np.empty((0, len(settings.classes)))
    if voted.any():
        of_covered = replace(earlier.sums, rows=earlier.sums.covered)
        posterior = choose(of_covered, earlier.patterns, settings, through=through).probabilities(matrix.votes[voted])
    keep = pa.array(voted)
    times = matrix.times.filter(keep).cast(TIME)
    delay = pa.scalar(project.params.features.labeling_delay, pa.duration("us"))
    columns = {project.params.events.key: matrix.keys.filter(keep), project.params.events.time: times}
    columns[KNOWN_AT] = pc.add(times, delay)
    columns |= {f"p_{name}": pa.array(posterior[:, number]) for number, name in enumerate(settings.classes)}
    columns["fitted_through"] = pa.array([through] * len(posterior), pa.string())
    return pa.table(columns)
