"""The rows that a feature of an entity rests on, picked from the tables by the rules of time alone.

Nothing here knows how features are computed: a row counts at a boundary when its time lies before it, and not longer
before it than the longest window that was asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import ibis.expr.operations as ops
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from weakfish.contracts.record import microseconds
from weakfish.contracts.tables import KNOWN_AT, TIME, is_dated, open_partition, partition_span, partitions
from weakfish.errors import TableError, reason
from weakfish.features.views import Measure, View
from weakfish.project.paths import Project

QUESTION, AT, WHEN = "__question", "__at", "__when"
"""Columns beside a row's own: the question that it was picked for, its boundary, and the time that windows look at,
both in microseconds since 1970."""

PARTITION, POSITION = "__partition", "__position"
"""Where the event stands in ``data/events``, from 0."""


@dataclass(frozen=True)
class EntityAt:
    """What some features of an entity are at a boundary: windows end before it."""

    entity: Any
    at: datetime


@dataclass(frozen=True)
class PastRows:
    """Rows of events, or of the known labels of a task on them, one for each question that a row is picked for.

    Attributes
    ----------
    rows : pyarrow.Table
        Key and time of the event, what measures read, and `QUESTION`, `AT`, `WHEN`, `PARTITION` and `POSITION`.
    time : str
        The column that windows look at.
    """

    rows: pa.Table
    time: str


def measured(view: View, features: Sequence[str]) -> list[Measure]:
    """The measures that some features of a view stand on."""
    names = {field.name for name in features for field in view.features[name].op().find(ops.Field)}
    return [measure for measure in view.measures if measure.name in names]


def pick(
    project: Project, view: View, measures: Sequence[Measure], questions: Sequence[EntityAt]
) -> dict[str | None, PastRows]:
    """The rows behind measures at each question, by the task whose known labels they are; None for the events.

    Read are the partitions and row groups that hold such times, of these first the entity and the time, and the other
    columns only where the entity is.

    Raises
    ------
    TableError
        When a table is missing or unreadable.
    """
    found: dict[str | None, PastRows] = {}
    for task in dict.fromkeys(measure.task for measure in measures):
        own = [measure for measure in measures if measure.task == task]
        hours = [measure.hours for measure in own]
        longest = None if None in hours else timedelta(hours=max(hour or 0 for hour in hours))
        delay = project.params.features.labeling_delay if task else timedelta(0)
        picking = _Picking(project, view.entity, questions, longest, delay)
        key, time = project.params.events.key, project.params.events.time
        if task is None:
            read = {field.name for each in own for field in each.value.op().find(ops.Field)}
            found[task] = PastRows(picking.events([*dict.fromkeys([key, time, *sorted(read)])]), time)
        else:
            found[task] = PastRows(picking.labels(task, [key, time]), KNOWN_AT)
    return found


@dataclass(frozen=True)
class _Picking:
    """The rows of some entities that lie at most so long before the boundaries of questions, and a delay."""

    project: Project
    entity: str
    questions: Sequence[EntityAt]
    longest: timedelta | None
    delay: timedelta

    @property
    def since(self) -> datetime | None:
        """The earliest time of an event that any question can rest on; None where there is no bound."""
        earliest = min(question.at for question in self.questions)
        return None if self.longest is None else earliest - self.longest - self.delay

    @property
    def until(self) -> datetime:
        """The time before which all of them lie."""
        return max(question.at for question in self.questions)

    def events(self, columns: Sequence[str]) -> pa.Table:
        """The events of the entities in the order of time, with these columns, for each question that they are for."""
        time = self.project.params.events.time
        return pa.concat_tables(self._asked(rows, time) for _, rows in self._of_entities(columns))

    def labels(self, task: str, columns: Sequence[str]) -> pa.Table:
        """The known labels on such events."""
        files, parts = partitions(self.project.data / "known_labels" / task), []
        for partition, rows in self._of_entities(columns):
            if partition not in files:
                raise TableError(
                    f"data/known_labels/{task} has no partition {partition}, which data/events has; run "
                    "`dvc repro features`."
                )
            with _readable(files[partition]):
                known = self._known(rows, open_partition(files[partition]))
            parts.append(self._asked(known, KNOWN_AT))
        return pa.concat_tables(parts)

    def _known(self, rows: pa.Table, labels: pq.ParquetFile) -> pa.Table:
        """Events with their labels, as far as these are known."""
        own = [name for name in labels.schema_arrow.names if name not in rows.column_names]
        places = pa.nulls(0, pa.int32())
        if rows.num_rows:
            key = self.project.params.events.key
            places = pc.index_in(rows[key], labels.read([key])[key].combine_chunks()).combine_chunks()
        known = labels.read(own).take(places.drop_null()) if len(places) else labels.schema_arrow.empty_table()
        found = rows.filter(pc.is_valid(places)) if len(places) else rows
        for name in own:
            found = found.append_column(name, known[name])
        return found

    def _of_entities(self, columns: Sequence[str]) -> Iterator[tuple[str, pa.Table]]:
        """By partition, the events of the entities that any question may rest on; of the first one, if empty, too."""
        named = [*dict.fromkeys([*columns, self.entity])]
        for place, (name, file) in enumerate(self._in_time().items()):
            parquet = open_partition(file)
            with _readable(file):
                rows = list(self._groups(name, parquet, named))
            if rows or place == 0:
                empty = _placed(parquet.schema_arrow.remove_metadata().empty_table().select(named), name, [])
                yield name, pa.concat_tables([empty, *rows])

    def _in_time(self) -> dict[str, Path]:
        """The partitions that may hold such events; the first of all where none does."""
        dated, found = _dated(self.project), dict[str, Path]()
        for name, file in dated.items():
            begins, ends = partition_span(name, self.project.params.events.partition)
            if begins < self.until and (self.since is None or ends > self.since):
                found[name] = file
        return found or dict([next(iter(dated.items()))])

    def _groups(self, partition: str, parquet: pq.ParquetFile, columns: Sequence[str]) -> Iterator[pa.Table]:
        """The rows of each row group that has any."""
        time, before = self.project.params.events.time, 0
        wanted = pa.array([question.entity for question in self.questions]).unique()
        for number in range(parquet.num_row_groups):
            group, position = parquet.metadata.row_group(number), before
            before += group.num_rows
            if _apart(group, time, self.since, self.until):
                continue
            looked = parquet.read_row_group(number, [self.entity, time])
            kind = looked.schema.field(self.entity).type
            mine = pc.and_(pc.is_in(looked[self.entity], wanted.cast(kind)), self._in_reach(looked[time]))
            places = pc.indices_nonzero(pc.fill_null(mine, False)).to_numpy().astype(np.int64)
            if len(places):
                rows = parquet.read_row_group(number, columns).select(columns).take(places)
                yield _placed(rows.replace_schema_metadata(None), partition, position + places)

    def _in_reach(self, times: pa.ChunkedArray) -> pa.ChunkedArray:
        early = pc.less(times, pa.scalar(self.until, TIME))
        return early if self.since is None else pc.and_(early, pc.greater_equal(times, pa.scalar(self.since, TIME)))

    def _asked(self, rows: pa.Table, time: str) -> pa.Table:
        """Each row once for every question on its entity at whose boundary it lies in the longest window."""
        at = np.array([microseconds(question.at) for question in self.questions], np.int64)
        asked = pa.array([question.entity for question in self.questions]).cast(rows.schema.field(self.entity).type)
        of_entity: dict[Any, list[int]] = {}
        for number, entity in enumerate(asked.to_pylist()):
            of_entity.setdefault(entity, []).append(number)
        numbers = [of_entity.get(entity, []) for entity in rows[self.entity].to_pylist()]
        repeated = np.repeat(np.arange(len(rows)), [len(each) for each in numbers])
        question = np.array([number for each in numbers for number in each], np.int64)
        times = rows[time].cast(TIME).cast(pa.int64()).to_numpy()[repeated]
        inside = times < at[question]
        if self.longest is not None:
            inside &= times >= at[question] - self.longest // timedelta(microseconds=1)
        found = rows.take(repeated[inside])
        found = found.append_column(QUESTION, pa.array(question[inside]))
        found = found.append_column(AT, pa.array(at[question[inside]]))
        return found.append_column(WHEN, pa.array(times[inside]))


def _dated(project: Project) -> dict[str, Path]:
    """The partitions of the events that have times; raises `TableError` where there are none."""
    dated = {name: file for name, file in partitions(project.table("events")).items() if is_dated(name)}
    if not dated:
        raise TableError("No event in data/events has a time, so no feature has a past.")
    return dated


@contextmanager
def _readable(file: Path) -> Iterator[None]:
    """What Arrow says of a damaged file becomes a `TableError`."""
    try:
        yield
    except (pa.ArrowInvalid, OSError) as error:
        raise TableError(f"{file} is not readable Parquet ({reason(error)}); delete it and run `dvc repro`.") from error


def _placed(rows: pa.Table, partition: str, positions: Any) -> pa.Table:
    """Rows with where they stand among the events."""
    rows = rows.append_column(PARTITION, pa.repeat(pa.scalar(partition), len(rows)))
    return rows.append_column(POSITION, pa.array(positions, pa.int64()))


def _apart(group: Any, time: str, since: datetime | None, until: datetime) -> bool:
    """Whether a row group's statistics say that none of its times lies within these."""
    for number in range(group.num_columns):
        column = group.column(number)
        if column.path_in_schema == time and column.statistics is not None and column.statistics.has_min_max:
            least, most = column.statistics.min, column.statistics.max
            return bool(least >= until or (since is not None and most < since))
    return False
