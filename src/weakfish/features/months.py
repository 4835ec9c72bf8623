"""The rows of a view month by month: those that cannot have changed come from the cache, the others are computed.

A month follows from what happened before its end. A chain of hashes of that finds the `Checkpoint` of a month: the
rows up to its end, and the state of all entities there, from which later months are computed.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import ibis.expr.types as ir
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from weakfish.contracts.record import CREATED, EPOCH, EVENT_TIMESTAMP
from weakfish.contracts.tables import ROWS_IN_A_GROUP
from weakfish.engine.duckdb import Engine
from weakfish.features.changes import Span
from weakfish.features.history import NUMBER, History, Limits, State
from weakfish.features.views import View
from weakfish.project.cache import Cache, key_of
from weakfish.project.paths import Project
from weakfish.project.runs import Progress


@dataclass(frozen=True)
class Part:
    """A partition of the events with the known labels on them.

    Attributes
    ----------
    labels : dict of str to pathlib.Path
        By task.
    begins, ends : datetime
        Between which its events are, UTC.
    rows : int
    version : str
        Changes whenever the events or labels do.
    """

    events: Path
    labels: Mapping[str, Path]
    begins: datetime
    ends: datetime
    rows: int
    version: str


@dataclass(frozen=True)
class Basis:
    """All that the rows of a view are made of.

    Attributes
    ----------
    parts : sequence of Part
        In the order of time.
    key, time : str
        Columns of the events.
    delay : timedelta
        After which labels are known.
    last : int
        The number of the last boundary that has rows.
    made_by : str
        Changes whenever the same past could give other rows.
    """

    parts: Sequence[Part]
    key: str
    time: str
    boundary_hours: int
    delay: timedelta
    last: int
    made_by: str

    @property
    def step(self) -> timedelta:
        """The time between boundaries."""
        return timedelta(hours=self.boundary_hours)


@dataclass(frozen=True)
class Month:
    """A month: its name, how many months after the year 0 it is, when it ends, and its boundaries up to the last."""

    name: str
    number: int
    ends: datetime
    span: Span


@dataclass(frozen=True)
class MonthRows:
    """What a month holds."""

    rows: int
    sha256: str


@dataclass(frozen=True)
class Checkpoint:
    """Rows up to the end of a month, and the state there, as files of the cache; no state where none is kept."""

    months: Mapping[str, MonthRows]
    state: dict[str, list[str]] | None


class Months:
    """The months of a view; workers of the fleet compute them where a project is given, and else this process.

    Attributes
    ----------
    computed : list of str
        Months whose rows were computed by `write`, and not found in the cache.
    """

    def __init__(
        self,
        engine: Engine,
        view: View,
        basis: Basis,
        cache: Cache,
        scratch: Path,
        limits: Limits | None = None,
        project: Project | None = None,
    ) -> None:
        self.engine, self.view, self.basis, self.cache, self.scratch = engine, view, basis, cache, scratch
        self.project = project
        self.limits = limits or Limits()
        self.months = list(_months(basis))
        self.keys = dict(zip((month.name for month in self.months), self._keys(), strict=True))
        self.computed: list[str] = []

    def write(self, folder: Path) -> dict[str, MonthRows]:
        """Write the partitions of the view, rows in the order of time and entity; returns what each holds."""
        if not self.months:
            return {}
        done, found = self._found()
        if done < len(self.months):
            found = self._computed(done, found)
        self._link(found.months, folder)
        for month in self._kept():
            self._checkpoint(month)  # so that what it names is not dropped
        self.cache.drop_unused()
        return dict(found.months)

    def _keys(self) -> Iterator[str]:
        """What the rows of each month, and the state at its end, were computed from."""
        seen, parts = self.basis.made_by, list(self.basis.parts)
        for month in self.months:
            while parts and parts[0].begins < month.ends:
                seen = key_of(seen, parts.pop(0).version)
            yield key_of(self.view.name, seen, month.name, month.span.end)

    def _kept(self) -> list[Month]:
        """The months whose ends have checkpoints: the last two, and the longer ago the fewer.

        Each was one of those when an earlier month was the last, so going on never has to make old ones.
        """
        last = self.months[-1].number
        return [month for month in self.months if last - month.number < 2 * (month.number & -month.number)]

    def _found(self) -> tuple[int, Checkpoint]:
        """The latest checkpoint that is whole, and how many months it covers."""
        for place, month in reversed(list(enumerate(self.months, 1))):
            found = self._checkpoint(month)
            if found is None or (found.state is None and place < len(self.months)):
                continue
            if all(self.cache.taken(digest) for digest in _files_of(found)):
                return place, found
        return 0, Checkpoint({}, None)

    def _checkpoint(self, month: Month) -> Checkpoint | None:
        content = self.cache.get(self.keys[month.name])
        if content is None:
            return None
        read = json.loads(content.to_pybytes())
        found = Checkpoint({name: MonthRows(**each) for name, each in read["months"].items()}, read["state"])
        for digest in _files_of(found):
            self.cache.file(digest)
        return found

    def _computed(self, done: int, found: Checkpoint) -> Checkpoint:
        """Go on from a checkpoint to the last month."""
        state = self._state(found)
        folder = self.scratch / "history"
        history = History(self.engine, self.view, self.basis.boundary_hours, folder, self.limits, self.project)
        since = self.months[done].span.first
        history.regroup(self._batches(since - history.longest), since)
        small = history.entries < self.limits.history and state is None
        progress, kept = Progress(f"rows of {self.view.name}"), {month.name for month in self._kept()}
        stretch: list[Month] = []
        for month in self.months[done:]:
            stretch.append(month)
            if month is self.months[-1] or (month.name in kept and not small):
                span = Span(stretch[0].span.first, month.span.end)
                files, after = history.rows(span, state, self.scratch / month.name, not small)
                written = self._ordered(stretch, files, progress)
                self.computed += [each.name for each in stretch]
                found = self._keep(month, {**found.months, **written}, after)
                state = self._state(found)
                shutil.rmtree(self.scratch / month.name)
                stretch = []
        shutil.rmtree(history.folder)
        return found

    def _keep(self, month: Month, months: Mapping[str, MonthRows], state: State | None) -> Checkpoint:
        digests = None
        if state is not None:
            digests = {kind: [self.cache.take(file) for file in files] for kind, files in state.items()}
        found = Checkpoint(months, digests)
        self.cache.put(self.keys[month.name], json.dumps(asdict(found)).encode())
        return found

    def _state(self, found: Checkpoint) -> State | None:
        if found.state is None:
            return None
        return {kind: [self.cache.file(digest) for digest in files] for kind, files in found.state.items()}

    def _batches(self, since: int) -> Iterator[dict[str, Any]]:
        """Events and labels that tell of boundaries from ``since`` on, some partitions at a time."""
        batch: list[Part] = []
        for part in self.basis.parts:
            last = (part.ends + self.basis.delay - EPOCH) // self.basis.step + 1
            if last < since or part.begins >= self.months[-1].ends:
                continue
            if batch and sum(each.rows for each in batch) + part.rows > self.limits.batch:
                yield self._named(batch)
                batch = []
            batch.append(part)
        if batch:
            yield self._named(batch)

    def _named(self, batch: Sequence[Part]) -> dict[str, Any]:
        root = self.project.root if self.project else Path(self.scratch.anchor)
        labels = {task: [part.labels[task].relative_to(root).as_posix() for part in batch] for task in batch[0].labels}
        events = [part.events.relative_to(root).as_posix() for part in batch]
        return {"events": events, "labels": labels, "key": self.basis.key, "time": self.basis.time}

    def _ordered(self, months: Sequence[Month], files: Sequence[Path], progress: Progress) -> dict[str, MonthRows]:
        """Put the rows of months in order, and into the cache."""
        rows, written = self.engine.read(files), {}
        counts = self.engine.run(rows.group_by(NUMBER).aggregate(rows=rows.count()).order_by(NUMBER))
        numbers, sizes = counts[NUMBER].to_numpy(), counts["rows"].to_numpy()
        for month in months:
            here = (numbers >= month.span.first) & (numbers < month.span.end)
            if here.any():
                file = self.scratch / f"{month.name}.parquet"
                spans = _spans(numbers[here], sizes[here], self.limits.rows)
                tables = (self.engine.run(self._timed(rows, span)).cast(self.view.schema) for span in spans)
                write_in_groups(file, self.view.schema, tables)
                written[month.name] = MonthRows(int(sizes[here].sum()), self.cache.take(file))
                progress.add(written[month.name].rows)
        return written

    def _timed(self, rows: ir.Table, span: Span) -> ir.Table:
        """The rows as they are stored: boundaries as times, in the order of time and entity."""
        mine = rows.filter((rows[NUMBER] >= span.first) & (rows[NUMBER] < span.end))
        at = (mine[NUMBER] * (self.basis.boundary_hours * 3600)).as_timestamp("s")
        in_order = mine.order_by([mine[NUMBER], mine[self.view.entity]])
        return in_order.select(self.view.entity, at.name(EVENT_TIMESTAMP), at.name(CREATED), *self.view.features)

    def _link(self, months: Mapping[str, MonthRows], folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for name, written in months.items():
            piece, file = self.cache.file(written.sha256), folder / f"{name}.parquet"
            with suppress(OSError):
                os.link(piece, file)
                continue
            shutil.copyfile(piece, file)


def _files_of(found: Checkpoint) -> list[str]:
    states = (found.state or {}).values()
    return [*(each.sha256 for each in found.months.values()), *(digest for files in states for digest in files)]


def _months(basis: Basis) -> Iterator[Month]:
    """All months from that of the first events to that of the last boundary."""
    start, until = basis.parts[0].begins.replace(day=1), EPOCH + basis.last * basis.step
    while start <= until:
        end = (start + timedelta(days=32)).replace(day=1)
        first, after = (-((EPOCH - at) // basis.step) for at in (start, end))
        yield Month(
            start.strftime("%Y-%m"), start.year * 12 + start.month, end, Span(first, min(after, basis.last + 1))
        )
        start = end


def _spans(numbers: np.ndarray[Any, Any], sizes: np.ndarray[Any, Any], most: int) -> Iterator[Span]:
    """Spans of boundaries of which each has at most so many rows, or is one boundary."""
    first, held = int(numbers[0]), 0
    for number, size in zip(numbers.tolist(), sizes.tolist(), strict=True):
        if held and held + size > most:
            yield Span(first, number)
            first, held = number, 0
        held += size
    yield Span(first, int(numbers[-1]) + 1)


def write_in_groups(file: Path, schema: pa.Schema, tables: Iterator[pa.Table]) -> None:
    """Write rows that come in several tables, with the bytes of one."""
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        rest = schema.empty_table()
        for table in tables:
            table = pa.concat_tables([rest, table])
            whole = table.num_rows - table.num_rows % ROWS_IN_A_GROUP
            if whole:
                writer.write_table(table.slice(0, whole).combine_chunks(), row_group_size=ROWS_IN_A_GROUP)
            rest = table.slice(whole)
        if rest.num_rows:
            writer.write_table(rest.combine_chunks(), row_group_size=ROWS_IN_A_GROUP)
