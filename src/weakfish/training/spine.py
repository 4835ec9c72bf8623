"""The spine: a task's labels joined to their events by key, one partition at a time, in the order of the events."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from weakfish.errors import TableError, TrainingError
from weakfish.project import Project
from weakfish.tables import TIME, open_partition, partitions, read_partition

TIMESTAMP = "event_timestamp"
"""What Feast calls the time of a row."""

BATCH = 20_000
"""Rows for which features are asked at once; a partition that has more is asked for alone."""


@dataclass(frozen=True)
class Spine:
    """One partition of the spine; both tables have the same rows in the order of ``data/events``.

    Attributes
    ----------
    labels : pyarrow.Table
        The events' key and time, ``p_<class>`` per class, ``covered`` and ``n_votes``.
    asked : pyarrow.Table
        ``event_timestamp`` (UTC, microseconds), entity keys and request-time columns: what features are asked for.
    """

    partition: str
    labels: pa.Table
    asked: pa.Table


def read_spine(project: Project, task: str, partition: str, columns: Sequence[str]) -> Spine:
    """Labels of one partition, and ``columns`` of the same events.

    Raises
    ------
    TableError
        When labels and events are not of the same keys.
    TrainingError
        When a column is none of the events'.
    """
    key, time = project.params.events.key, project.params.events.time
    wanted = [key, time, *(f"p_{name}" for name in project.task(task).classes), "covered", "n_votes"]
    labels = read_partition(project.table(f"labels/{task}") / f"{partition}.parquet", wanted)
    file = project.table("events") / f"{partition}.parquet"
    there = open_partition(file).schema_arrow.names
    missing = [name for name in columns if name not in there]
    if missing:
        raise TrainingError(
            f"Features of task {task} need {missing[0]!r}, which is no column of the events; correct the entity or the "
            f"request source in feature_repo/definitions.py, there are: {', '.join(there)}."
        )
    events = read_partition(file, list(dict.fromkeys([key, time, *columns])))
    if not labels[key].equals(events[key]):
        raise TableError(
            f"data/labels/{task}/{partition}.parquet holds labels of other events than "
            f"data/events/{partition}.parquet; run `dvc repro label`."
        )
    times = events[time].cast(TIME)
    return Spine(partition, labels, events.select(columns).append_column(TIMESTAMP, times))


def batches(spines: Iterable[Spine]) -> Iterator[list[Spine]]:
    """Partitions that follow each other, together as long as they have no more than `BATCH` rows."""
    batch: list[Spine] = []
    for spine in spines:
        if batch and sum(one.labels.num_rows for one in [*batch, spine]) > BATCH:
            yield batch
            batch = []
        batch.append(spine)
    if batch:
        yield batch


def spine_partitions(project: Project, task: str) -> list[str]:
    """The partitions of a task's spine, in order; raises `TableError` unless labels and events have the same."""
    labels, events = (list(partitions(project.table(table))) for table in (f"labels/{task}", "events"))
    if labels != events:
        odd = sorted(set(labels) ^ set(events))
        raise TableError(
            f"data/labels/{task} and data/events differ in their partitions ({', '.join(odd)}); run `dvc repro label`."
        )
    return events
