"""A view's past regrouped by entity: what enters at each boundary, on disk, and rows made of it bucket by bucket.

A bucket holds all that there is of some entities. Stretches of time follow each other: what a stretch leaves behind is
the `State` from which the next one goes on. No row depends on the number of buckets, batches or stretches.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, cast

import ibis
import ibis.expr.types as ir
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from weakfish.engine import fleet
from weakfish.engine.duckdb import Engine, Fold, connect, group_starts
from weakfish.features.changes import (
    BOUNDARY,
    ENTITY,
    SLOT,
    SLOTS,
    VALUE,
    Inflow,
    Relations,
    Span,
    neighbours,
    on,
    slotted,
)
from weakfish.features.views import View, declared_views, finite
from weakfish.files import whole_file
from weakfish.project.paths import Project

NUMBER = "__boundary"
"""The column of boundary numbers, beside an author's columns."""

GROUP_ROWS = 1 << 14
"""Rows of a row group of what lies on disk for a while: few, so that a bucket reads little besides its own."""


WORKS = {"regrouped": "batches of events", "bucket": "buckets"}
"""What workers do, for people."""


@dataclass(frozen=True)
class Limits:
    """How much is worked on at a time; no result depends on it.

    Attributes
    ----------
    batch : int
        Events that are regrouped at a time.
    cells : int
        Changes times measures of a bucket, about.
    values : int
        Values of a column whose different ones are counted, of a bucket: about, if no value has most of them.
    rows : int
        Feature rows that are put in order at a time.
    history : int
        Entries from which on stretches of time are computed apart, so that a later run can go on from them.
    """

    batch: int = 1 << 19
    cells: int = 1 << 23
    values: int = 1 << 22
    rows: int = 1 << 19
    history: int = 1 << 17


State = dict[str, list[Path]]
"""What is known of entities just before a boundary: ``totals`` of all measures, and by column whose different values
are counted the latest occurrence of each."""

TOTALS = "totals"


class History:
    """What entered at each boundary from ``since`` on, or a window before it, as far as a view asks for it.

    Attributes
    ----------
    entries : int
        How many there are.
    """

    def __init__(
        self, engine: Engine, view: View, hours: int, folder: Path, limits: Limits, project: Project | None = None
    ) -> None:
        self.engine, self.view, self.hours, self.folder, self.limits = engine, view, hours, folder, limits
        self.root = project.root if project else Path(folder.anchor)
        self.spread = partial(_on_fleet, project, view) if project else self._here
        tasks = sorted({measure.task for measure in view.measures}, key=str)
        self.inflows = [Inflow(view, task, hours) for task in tasks]
        self.entries = 0
        self._files: dict[str, list[Path]] = {}

    @cached_property
    def longest(self) -> int:
        """The longest window, in boundaries."""
        return max((length for inflow in self.inflows for length in inflow.lengths), default=0)

    def regroup(self, batches: Iterable[Mapping[str, Any]], since: int) -> None:
        """Read events and labels, batch by batch, and put what matters from boundary ``since`` on in order of slot.

        A batch has the files of ``events`` and by task of ``labels``, and the ``key`` and ``time`` of the events.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        shared = {"view": self.view.name, "hours": self.hours, "since": since, "to": self._name(self.folder)}
        items = [{**shared, **batch, "number": number} for number, batch in enumerate(batches)]
        for number, receipt in enumerate(self.spread("regrouped", items)):
            self.entries += receipt["entries"]
            for kind in receipt["kinds"]:
                self._files.setdefault(kind, []).append(self.folder / f"{kind}.{number}.parquet")

    def regrouped(self, item: fleet.Item) -> fleet.Receipt:
        """Regroup a batch; the receipt says how many entries there are, and of which kinds."""
        to: Path = self.root / item["to"]
        since, kinds, entries = item["since"], list[str](), 0

        def keep(kind: str, rows: ir.Table) -> Path:
            file = to / f"{kind}.{item['number']}.parquet"
            self._write(rows.order_by(SLOT), file)
            kinds.append(kind)
            return file

        labels = {task: self.engine.read(self._paths(files)) for task, files in item["labels"].items()}
        events = self.engine.read(self._paths(item["events"]))
        relations = Relations(events, labels, item["key"], item["time"], self.hours)
        for place, inflow in enumerate(self.inflows):
            rows = inflow.rows(relations)
            entered = inflow.entered(rows)
            first = since - max(inflow.lengths, default=0)
            file = keep(f"entered_{place}", entered.filter(entered[BOUNDARY] >= first))
            entries += pq.read_metadata(file).num_rows
            for column in inflow.counted:
                occurred = inflow.occurred(rows, column)
                keep(f"occurred_{column}", occurred.filter(occurred[BOUNDARY] >= since))
        return {"entries": entries, "kinds": kinds}

    def _buckets(self, span: Span) -> Iterator[tuple[int, int]]:
        """Ranges of slots; the entities of each are worked on together."""
        cells, size = 0, SLOTS
        for place, inflow in enumerate(self.inflows):
            entered = self._within(span, place, inflow)
            entries = self.engine.run(entered.aggregate(rows=entered.count()))["rows"][0].as_py()
            cells += entries * (1 + len(inflow.lengths)) * len(self.view.measures)
        while size > 1 and cells * size > self.limits.cells * SLOTS:
            size //= 2
        return ((start, start + size) for start in range(0, SLOTS, size))

    def _within(self, span: Span, place: int, inflow: Inflow) -> ir.Table:
        """What entered in a span, or a window before it."""
        first = span.first - max(inflow.lengths, default=0)
        return Span(first, span.end).of(self.engine.read(self._files[f"entered_{place}"]))

    def rows(self, span: Span, before: State | None, to: Path, goes_on: bool) -> tuple[list[Path], State | None]:
        """Compute the rows of a span bucket by bucket; their files below ``to``, and the state after it if asked to."""
        to.mkdir(parents=True)
        shared = {
            "view": self.view.name,
            "hours": self.hours,
            "span": [span.first, span.end],
            "files": self._named(self._files),
            "before": None if before is None else self._named(before),
            "to": self._name(to),
            "goes_on": goes_on,
        }
        items = [{**shared, "number": number, "slots": slots} for number, slots in enumerate(self._buckets(span))]
        kinds = [receipt["left"] for receipt in self.spread("bucket", items)]
        files = [to / f"rows.{number}.parquet" for number in range(len(items))]
        after: State = {}
        for number, left in enumerate(kinds):
            for kind in left:
                after.setdefault(kind, []).append(to / f"{kind}.{number}.parquet")
        return files, after if goes_on else None

    def _here(self, work: str, items: Sequence[fleet.Item]) -> list[fleet.Receipt]:
        return [getattr(self, work)(item) for item in items]

    def _paths(self, files: Sequence[str]) -> list[Path]:
        return [self.root / file for file in files]

    def _named(self, state: State) -> dict[str, list[str]]:
        return {kind: [self._name(file) for file in files] for kind, files in state.items()}

    def _name(self, file: Path) -> str:
        return file.relative_to(self.root).as_posix()

    def bucket(self, item: fleet.Item) -> fleet.Receipt:
        """Compute the rows of a bucket as `rows` asks for them; the receipt names the kinds of state that are left."""
        span, to, number = Span(*item["span"]), self.root / item["to"], item["number"]
        before = item["before"] and {kind: self._paths(files) for kind, files in item["before"].items()}
        self._files = {kind: self._paths(files) for kind, files in item["files"].items()}
        left: dict[str, ir.Table] = {}
        with self.engine.scratch():
            changes, remembered = self._changes(span, before, tuple(item["slots"]))
            table = self.engine.accumulate(changes, ENTITY, BOUNDARY, self._folds)
            self._write(self._features(table, span), to / f"rows.{number}.parquet")
            if item["goes_on"]:
                left = {**remembered, TOTALS: slotted(self.engine.lend(_ends(table).drop_columns(BOUNDARY)))}
                for kind, state in left.items():
                    self._write(state.order_by(SLOT), to / f"{kind}.{number}.parquet")
        return {"left": list(left)}

    def _write(self, rows: ir.Table, file: Path) -> None:
        with whole_file(file) as part:
            self.engine.write(rows, part, GROUP_ROWS)

    @property
    def _folds(self) -> dict[str, Fold]:
        return {m.name: m.kind if m.kind in ("first", "last") else "sum" for m in self.view.measures}

    def _changes(
        self, span: Span, before: State | None, slots: tuple[int, int]
    ) -> tuple[list[ir.Table], dict[str, ir.Table]]:
        """All changes of a bucket in a span, with what stood before it as those of the boundary before; and what of
        single values is to be remembered after it."""
        changes, remembered = [], {}
        if before is not None:
            stood = within(slots, self.engine.read(before[TOTALS]))
            at = ibis.literal(span.first - 1, "int64").name(BOUNDARY)
            changes.append(stood.select(ENTITY, at, *self._folds))
        for place, inflow in enumerate(self.inflows):
            entered = self.engine.keep(inflow.together(within(slots, self._within(span, place, inflow))))
            changes += inflow.changes(entered, span)
            for column in inflow.counted:
                occurred = span.of(within(slots, self.engine.read(self._files[f"occurred_{column}"])))
                if before is not None:
                    earlier = within(slots, self.engine.read(before[column]))
                    occurred = occurred.union(earlier.select(occurred.columns))
                for some in self._by_value(occurred):
                    with self.engine.scratch():
                        pairs = self.engine.keep(neighbours(some))
                        found = [self.engine.run(each) for each in inflow.distinct_changes(column, pairs, span)]
                    changes += map(self.engine.lend, found)
                remembered[column] = inflow.remembered(column, occurred, span.end)
        return changes, remembered

    def _by_value(self, occurred: ir.Table) -> Iterator[ir.Table]:
        """Occurrences in parts by their values, so that those of an entity that has most are not in memory at once."""
        count, parts = self.engine.run(occurred.aggregate(rows=occurred.count()))["rows"][0].as_py(), 1
        while count > parts * self.limits.values and parts < SLOTS:
            parts *= 2
        if parts == 1:
            yield occurred
            return
        part = occurred[VALUE].hash() & (parts - 1)
        yield from (occurred.filter(part == number) for number in range(parts))

    def _features(self, table: pa.Table, span: Span) -> ir.Table:
        """The features at each boundary of a span: entity, boundary, features, in the order of boundaries."""
        order = np.argsort(table[BOUNDARY].to_numpy(), kind="stable")
        running = span.of(self.engine.lend(table.take(pa.array(order))))
        values = {name: on(running, value) for name, value in self.view.features.items()}
        values |= {name: finite(value) for name, value in values.items() if isinstance(value, ir.FloatingValue)}
        return running.select(running[ENTITY].name(self.view.entity), running[BOUNDARY].name(NUMBER), **values)


def _on_fleet(project: Project, view: View, work: str, items: Sequence[fleet.Item]) -> list[fleet.Receipt]:
    def seconds(_: Project) -> float:
        return 0.0  # one process of DuckDB has all of this machine's processors at work

    return fleet.receipts(project, f"{__name__}:{work}", items, f"features: {WORKS[work]} of {view.name}", seconds)


def regrouped(project: Project, item: fleet.Item) -> fleet.Receipt:
    """The work of `History.regrouped`, wherever a worker is."""
    return _of_item(project, item).regrouped(item)


def bucket(project: Project, item: fleet.Item) -> fleet.Receipt:
    """The work of `History.bucket`, wherever a worker is."""
    return _of_item(project, item).bucket(item)


def _of_item(project: Project, item: fleet.Item) -> History:
    view, engine = fleet.prepared(declared_views, project)[item["view"]], fleet.prepared(_engine, project)
    return History(engine, view, item["hours"], project.root / item["to"], Limits(), project)


def _engine(_: Project) -> Engine:
    return connect()


def within(slots: tuple[int, int], rows: ir.Table) -> ir.Table:
    """The rows of a bucket."""
    at = cast(ir.IntegerColumn, rows[SLOT])
    return rows.filter((at >= slots[0]) & (at < slots[1]))


def _ends(table: pa.Table) -> pa.Table:
    """The last row of each entity."""
    starts = group_starts(table[ENTITY])
    return table.take(pa.array(np.append(starts[1:], table.num_rows)[: len(starts)] - 1))
