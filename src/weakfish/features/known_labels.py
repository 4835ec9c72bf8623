"""Labels as they were known at the time: by votes on earlier periods, and a delay after their events."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from weakfish.contracts.gold import UNKNOWN
from weakfish.contracts.tables import (
    KNOWN_AT,
    TIME,
    is_dated,
    partition_span,
    partitions,
    period_of,
    write_partition,
)
from weakfish.engine import fleet
from weakfish.labeling.choice import Chosen, choose
from weakfish.labeling.dev_gold import known_labels, microseconds
from weakfish.labeling.histories import TOGETHER, WORTH_PROCESSES, VoteHistory, delete
from weakfish.labeling.known_rows import KnownRows, TaskEvidence
from weakfish.labeling.label import MIN_HISTORY
from weakfish.labeling.label_model import covered
from weakfish.labeling.matrix import LabelMatrix, label_matrix
from weakfish.labeling.tally import VoteTally
from weakfish.project.cache import Cache
from weakfish.project.paths import Project
from weakfish.project.runs import temporary_folder
from weakfish.project.versioned import Versioned
from weakfish.rules.loading import load_functions


def write_known_labels(project: Project, task: str, folder: Path, worth: float = WORTH_PROCESSES) -> int:
    """Write the known labels of ``task`` and return how many there are.

    Columns: the events' key and time, ``known_at`` (event time plus ``features.labeling_delay_hours``; UTC,
    microseconds), ``p_<class>`` (float64), ``fitted_through`` (the last period whose votes the model had). Rows are
    the events on which a function voted, in months before which at least `MIN_HISTORY` such events lie; other
    partitions are empty.

    Dev gold that is evidence counts in models of periods that begin after it was known, and where it is known as
    early as the event's own row here, that has its class for certain.

    Models are cached by what they were fitted on, and outs too, ``<task>.fits`` beside the folder. Where making those
    that are missing will take ``worth`` seconds or more, several processes do.
    """
    walk, rows = _Walk(project, task), 0
    cache, left, chosen, of = walk.cache, len(walk.periods), None, ""
    for partition, matrix, history in walk.forward():
        if period_of(partition) != of:
            of, left, begun = period_of(partition), left - 1, time.monotonic()
            chosen = _chosen(history, project, task, cache) if history.tally.sums.covered >= MIN_HISTORY else None
            if (time.monotonic() - begun) * left >= worth and chosen and left:
                _fit_ahead(project, task, of)
                worth = float("inf")
        rows += walk.write(folder, partition, matrix, chosen, history.through)
    cache.drop_unused()
    cache.write(folder.with_name(f"{task}.fits"))
    return rows


class _Walk:
    """The partitions of a task in the order of time, each with what was known before its period."""

    def __init__(self, project: Project, task: str) -> None:
        self.project, self.task, self.settings = project, task, project.task(task)
        self.cache = _fits_of(project, task)
        self.names = [name for name in partitions(project.table("events")) if is_dated(name)]
        self.periods = list(dict.fromkeys(map(period_of, self.names)))
        self.functions = [function.name for function in load_functions(project, task)]

    def forward(self) -> Iterator[tuple[str, LabelMatrix, VoteHistory]]:
        """Each partition with its votes; models never see other parts of its period."""
        evidence = None if self.settings.label_model.known == "none" else TaskEvidence(self.project, self.task)
        none = VoteTally.none(len(self.functions), len(self.settings.classes))
        history, same, period = VoteHistory("", none, None), none, ""
        for partition in self.names:
            matrix = label_matrix(self.project, self.task, self.functions, partition)
            if period_of(partition) != period:
                begins = microseconds(partition_span(partition, self.project.params.events.partition)[0])
                known = evidence.by(begins, list(evidence.of)) if evidence else None
                history = VoteHistory(period, history.tally + same, known)
                same, period = none, period_of(partition)
            yield partition, matrix, history
            same += VoteTally.of(matrix.votes, len(self.settings.classes))
            if evidence:
                evidence.add(partition, KnownRows.of(self.project, self.task, partition, matrix, partition))

    def write(self, folder: Path, partition: str, matrix: LabelMatrix, chosen: Chosen | None, through: str) -> int:
        """Write the labels of a partition; none without a model."""
        params, voted = self.project.params, covered(matrix.votes) & matrix.times.is_valid().to_numpy()
        if chosen is None:
            voted[:] = False
        delay = pa.scalar(params.features.labeling_delay, pa.duration("us"))
        posterior = np.empty((0, len(self.settings.classes)))
        if chosen is not None and voted.any():
            posterior = chosen.probabilities(matrix.votes[voted])
            classes, since = known_labels(self.project, self.task, partition, matrix.keys, matrix.times)
            at = pc.add(matrix.times.cast(TIME), delay).cast(pa.int64()).fill_null(0).to_numpy()
            certain = ((classes != UNKNOWN) & (since <= at))[voted]
            posterior[certain] = np.eye(len(self.settings.classes))[classes[voted][certain]]
        keys, times = (column.filter(pa.array(voted)) for column in (matrix.keys, matrix.times.cast(TIME)))
        columns = {params.events.key: keys, params.events.time: times, KNOWN_AT: pc.add(times, delay)}
        columns |= {f"p_{name}": pa.array(posterior[:, place]) for place, name in enumerate(self.settings.classes)}
        columns["fitted_through"] = pa.array([through] * len(posterior), pa.string())
        write_partition(folder, partition, pa.table(columns))
        return len(posterior)


def _fit_ahead(project: Project, task: str, after: str, together: int = TOGETHER) -> None:
    """Put the models of all periods after one into the cache, as many at once as there are workers."""
    with temporary_folder(project.temporary, "fits") as folder:
        waiting: list[fleet.Item] = []
        size = 0
        for partition, _, history in _Walk(project, task).forward():
            if period_of(partition) > after:
                after = period_of(partition)
                waiting.append({"task": task, **history.write(project, folder / after)})
                size += history.tally.nbytes
            if size >= together:
                _fit_all(project, waiting)
                waiting, size = [], 0
        _fit_all(project, waiting)


def _fit_all(project: Project, items: Sequence[fleet.Item]) -> None:
    fleet.receipts(project, f"{__name__}:fit", items, "features: label models of earlier months")
    delete(project, items)


def fit(project: Project, item: fleet.Item) -> fleet.Receipt:
    """Put the label model of a history that was written to a folder into the cache."""
    _chosen(VoteHistory.read(project, item), project, item["task"], _fits_of(project, item["task"]))
    return {}


def _chosen(history: VoteHistory, project: Project, task: str, cache: Cache) -> Chosen:
    """The label model of rows with votes, from the cache if it was fitted before."""
    tally, known = history.tally, history.known
    of_covered = replace(tally.sums, rows=tally.sums.covered)
    settings, through = project.task(task), history.through
    return choose(of_covered, tally.patterns, settings, through=through, cache=cache, known=known, apart=False)


def _fits_of(project: Project, task: str) -> Versioned:
    """The models of a task: outs beside its known labels."""
    return Versioned(project, f"known_fits/{task}", f"known_labels/{task}.fits")
