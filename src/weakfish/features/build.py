"""The features verb: known labels and feature rows, as running sums of what enters and leaves each window."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

import ibis
import ibis.expr.operations as ops
import ibis.expr.types as ir
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from weakfish import engine as compute
from weakfish.contracts.gate import EVENTS, data_version, require_open
from weakfish.contracts.gold import UNKNOWN
from weakfish.contracts.ledgers import write_ledger
from weakfish.contracts.manifests import FeaturesManifest, write_manifest
from weakfish.contracts.record import CREATED, EPOCH, EVENT_TIMESTAMP
from weakfish.contracts.tables import KNOWN_AT, TIME, is_dated, partition_span, partitions, period_of, write_partition
from weakfish.engine import Engine, Fold
from weakfish.engine.clock import last_plausible
from weakfish.errors import FeatureError, TableError, WeakfishError
from weakfish.features.views import View, declared_views, finite
from weakfish.files import sha256, whole_folder
from weakfish.labeling.choice import choose
from weakfish.labeling.dev_gold import known_labels, microseconds
from weakfish.labeling.known_rows import TaskEvidence
from weakfish.labeling.label import MIN_HISTORY
from weakfish.labeling.label_model import covered
from weakfish.labeling.matrix import label_matrices
from weakfish.labeling.tally import VoteTally
from weakfish.project.paths import Project
from weakfish.project.runs import Progress

ENTITY, BOUNDARY = "entity", "boundary"
NUMBER = "__boundary"
"""The column of boundary numbers, beside an author's columns."""


@dataclass(frozen=True)
class Relations:
    """What rows are computed from.

    Attributes
    ----------
    events : ibis.expr.types.Table
        The events, with ``key`` and ``time``.
    labels : dict of str to ibis.expr.types.Table
        Known labels by task: ``key``, ``known_at`` and a probability per class.
    """

    events: ir.Table
    labels: Mapping[str, ir.Table]
    key: str
    time: str
    boundary_hours: int


def boundary_after(time: ir.Value, hours: int) -> ir.IntegerValue:
    """The number of the first boundary later than ``time``."""
    seconds = cast(ir.TimestampValue, time).truncate("s").epoch_seconds()
    return cast(ir.IntegerValue, (seconds // (hours * 3600) + 1).cast("int64"))


def feature_rows(view: View, relations: Relations, last: int, engine: Engine) -> ir.Table:
    """All rows of ``view`` up to boundary number ``last``: entity, boundary number, features; in no order."""
    sources = sorted({measure.task for measure in view.measures}, key=str)
    changes = [change for task in sources for change in _changes(view, task, relations, engine)]
    reached = [change.filter(change[BOUNDARY] <= last) for change in changes]
    folds: dict[str, Fold] = {m.name: m.kind if m.kind in ("first", "last") else "sum" for m in view.measures}
    running = engine.accumulate(reached, ENTITY, BOUNDARY, folds)
    values = {name: _on(running, value) for name, value in view.features.items()}
    values |= {name: finite(value) for name, value in values.items() if isinstance(value, ir.FloatingValue)}
    return running.select(running[ENTITY].name(view.entity), running[BOUNDARY].name(NUMBER), **values)


def with_times(view: View, rows: ir.Table, hours: int) -> ir.Table:
    """The rows as they are stored: boundaries as times, in the order of time and entity."""
    at = (rows[NUMBER] * (hours * 3600)).as_timestamp("s")
    timed = rows.order_by([rows[NUMBER], rows[view.entity]])
    return timed.select(view.entity, at.name(EVENT_TIMESTAMP), at.name(CREATED), *view.features)


def _changes(view: View, task: str | None, relations: Relations, engine: Engine) -> list[ir.Table]:
    """Entries and exits of one source, events or the known labels of a task: entity, boundary, some measures."""
    mine = [measure for measure in view.measures if measure.task == task]
    source, time, hours = relations.events, relations.time, relations.boundary_hours
    if task is not None:
        labels, entities = relations.labels[task], source.select(relations.key, view.entity)
        same = labels[relations.key] == entities[relations.key]
        source, time = labels.join(entities, same).select(labels, entities[view.entity]), KNOWN_AT
    rows = source.filter(source[view.entity].notnull() & source[time].notnull())
    columns = {op: f"v{number}" for number, op in enumerate({measure.value.op(): None for measure in mine})}
    base = rows.select(
        rows[view.entity].name(ENTITY),
        boundary_after(rows[time], hours).name(BOUNDARY),
        **{name: _on(rows, op.to_expr()) for op, name in columns.items()},
    )
    aggregate = {"first": "min", "last": "max", "sum": "sum"}
    folded = {m.name: getattr(base[columns[m.value.op()]], aggregate[m.kind])() for m in mine if m.kind != "distinct"}
    entered = engine.keep(base.group_by([ENTITY, BOUNDARY]).aggregate(**folded or {"rows": base.count()}))
    changes = [entered.select(ENTITY, BOUNDARY, *folded)]
    for length in sorted({measure.hours for measure in mine if measure.hours is not None}):
        gone = {m.name: -entered[m.name] for m in mine if m.hours == length and m.kind == "sum"}
        changes.append(entered.select(ENTITY, (entered[BOUNDARY] + length // hours).name(BOUNDARY), **gone))
    for op, column in columns.items():
        lengths = {m.name: m.hours and m.hours // hours for m in mine if m.kind == "distinct" and m.value.op() == op}
        if lengths:
            changes += _distinct_changes(base, column, lengths, engine)
    return changes


def _distinct_changes(base: ir.Table, column: str, lengths: Mapping[str, int | None], engine: Engine) -> list[ir.Table]:
    """+1 where a value enters a window that did not hold it, -1 where its latest occurrence leaves."""
    seen = base.filter(base[column].notnull()).select(ENTITY, BOUNDARY, column).distinct()
    in_turn = ibis.window(group_by=[seen[ENTITY], seen[column]], order_by=seen[BOUNDARY])
    pairs = engine.keep(
        seen.select(
            ENTITY,
            BOUNDARY,
            since=seen[BOUNDARY] - seen[BOUNDARY].lag().over(in_turn),
            until=seen[BOUNDARY].lead().over(in_turn) - seen[BOUNDARY],
        )
    )
    changes = []
    for name, length in lengths.items():
        enters = pairs.since.isnull() if length is None else pairs.since.isnull() | (pairs.since >= length)
        changes.append(pairs.filter(enters).select(ENTITY, BOUNDARY, ibis.literal(1, "int64").name(name)))
        if length is not None:
            leaves = pairs.filter(pairs.until.isnull() | (pairs.until >= length))
            at = (leaves[BOUNDARY] + length).name(BOUNDARY)
            changes.append(leaves.select(ENTITY, at, ibis.literal(-1, "int64").name(name)))
    return [
        engine.keep(change.group_by([ENTITY, BOUNDARY]).aggregate(**{change.columns[2]: change[2].sum()}))
        for change in changes
    ]


def _on(table: ir.Table, value: ir.Value) -> ir.Value:
    """``value`` with its columns taken from ``table``, which has columns of the same names."""

    def move(node: ops.Node, kwargs: dict[str, object]) -> ops.Node:
        if isinstance(node, ops.Field):
            return ops.Field(table.op(), node.name)
        return node.__recreate__(kwargs) if kwargs else node

    return value.op().replace(move, filter=ops.Value).to_expr()


def write_known_labels(project: Project, task: str, folder: Path) -> int:
    """Write the known labels of ``task`` and return how many there are.

    Columns: the events' key and time, ``known_at`` (event time plus ``features.labeling_delay_hours``; UTC,
    microseconds), ``p_<class>`` (float64), ``fitted_through`` (the last period whose votes the model had). Rows are
    the events on which a function voted, in months before which at least `MIN_HISTORY` such events lie; other
    partitions are empty.

    Dev gold that is evidence counts in models of periods that begin after it was known, and where it is known as
    early as the event's own row here, that has its class for certain.
    """
    settings, params = project.task(task), project.params
    delay = pa.scalar(params.features.labeling_delay, pa.duration("us"))
    earlier: VoteTally | None = None
    same: VoteTally | None = None
    through, period, rows, evidence = (
        "",
        "",
        0,
        None if settings.label_model.known == "none" else TaskEvidence(project, task),
    )
    for partition, matrix in label_matrices(project, task):
        if not is_dated(partition):
            continue
        if earlier is None or same is None:
            earlier = same = VoteTally.none(len(matrix.names), len(settings.classes))
        if period_of(partition) != period:  # models never see other parts of the same period
            through, period = period, period_of(partition)
            earlier, same = earlier + same, VoteTally.none(len(matrix.names), len(settings.classes))
        voted = covered(matrix.votes) & matrix.times.is_valid().to_numpy()
        if earlier.sums.covered < MIN_HISTORY:
            voted[:] = False
        posterior = np.empty((0, len(settings.classes)))
        classes, since = known_labels(project, task, partition, matrix.keys, matrix.times)
        if voted.any():
            of_covered = replace(earlier.sums, rows=earlier.sums.covered)
            begins = microseconds(partition_span(partition, params.events.partition)[0])
            known = evidence.by(begins, list(evidence.of)) if evidence else None
            model = choose(of_covered, earlier.patterns, settings, through=through, known=known)
            posterior = model.probabilities(matrix.votes[voted])
            at = pc.add(matrix.times.cast(TIME), delay).cast(pa.int64()).fill_null(0).to_numpy()
            certain = ((classes != UNKNOWN) & (since <= at))[voted]
            posterior[certain] = np.eye(len(settings.classes))[classes[voted][certain]]
        keys, times = (column.filter(pa.array(voted)) for column in (matrix.keys, matrix.times.cast(TIME)))
        columns = {params.events.key: keys, params.events.time: times, KNOWN_AT: pc.add(times, delay)}
        columns |= {f"p_{name}": pa.array(posterior[:, number]) for number, name in enumerate(settings.classes)}
        columns["fitted_through"] = pa.array([through] * len(posterior), pa.string())
        write_partition(folder, partition, pa.table(columns))
        same += VoteTally.of(matrix.votes, len(settings.classes))
        if evidence:
            evidence.read(partition, matrix.keys, matrix.times, matrix.votes)
        rows += len(posterior)
    return rows


def build_features(project: Project) -> None:
    """Write ``data/known_labels``, and the rows and manifest of every view under ``data/features``.

    Both appear whole or not at all. Rows end at ``as_of``, the time of the last event that is plausible: what a later
    boundary would state is not known yet.

    Raises
    ------
    CheckFailed
        When the gate of the events is shut.
    FeatureError
        When a transform is wrong; names view and column.
    TableError
        When events or votes are missing or do not fit each other.
    """
    require_open(project, [EVENTS])
    views = declared_views(project)
    with whole_folder(project.data / "known_labels") as known, whole_folder(project.data / "features") as folder:
        if not views:  # without times or entities there is no past
            write_ledger(project, "features", rows_in=0, rows_out=0)
            return
        params, engine = project.params, compute.connect()
        for task in params.tasks:
            write_known_labels(project, task, known / task)
        dated = [file for name, file in partitions(project.table("events")).items() if is_dated(name)]
        if not dated:
            raise TableError("No event in data/events has a time, so there is no past to make features of.")
        events, time = engine.read(dated), params.events.time
        labels = {task: engine.read(list(partitions(known / task).values())) for task in params.tasks}
        relations = Relations(events, labels, params.events.key, time, params.features.boundary_hours)
        extent = engine.run(events.aggregate(rows=events.count(), last=events[time].max())).to_pylist()[0]
        plausible = None if params.events.wrong_clocks == "allow" else last_plausible(engine, events, time)
        rows, as_of = 0, plausible or extent["last"].astimezone(UTC)
        for view in views.values():
            counts = write_view(engine, view, relations, as_of, folder / view.name)
            write_manifest(folder, view.name, _manifest(project, view, folder, known, as_of, counts))
            rows += sum(counts.values())
    write_ledger(project, "features", rows_in=extent["rows"], rows_out=rows)


def write_view(
    engine: compute.Engine, view: View, relations: Relations, as_of: datetime, folder: Path
) -> dict[str, int]:
    """Write the partitions of a view, rows in the order of time and entity; returns how many each has."""
    hours, counts, progress = relations.boundary_hours, {}, Progress(f"rows of {view.name}")
    last = (as_of - EPOCH) // timedelta(hours=hours)
    try:
        rows = feature_rows(view, relations, last, engine)
        for month, start, end in _months(engine, rows, hours):
            mine = rows.filter((rows[NUMBER] >= start) & (rows[NUMBER] < end))
            table = engine.run(with_times(view, mine, hours))
            if table.num_rows:
                write_partition(folder, month, table.cast(view.schema))
                counts[month] = table.num_rows
                progress.add(table.num_rows)
    except (WeakfishError, pa.ArrowInvalid) as error:
        raise FeatureError(f"View {view.name!r} could not be computed: {error}") from error
    if not counts:
        raise FeatureError(
            f"View {view.name!r} has no rows: no event before {as_of.isoformat()} has a {view.entity}; "
            "correct its entity."
        )
    return counts


def _months(engine: compute.Engine, rows: ir.Table, hours: int) -> Iterator[tuple[str, int, int]]:
    """Months that may hold rows, with the numbers of their first boundary and of the next month's."""
    at = rows[NUMBER]
    found = engine.run(rows.aggregate(first=at.min(), last=at.max())).to_pylist()[0]
    if found["first"] is None:
        return
    step = timedelta(hours=hours)
    start = (EPOCH + found["first"] * step).replace(day=1, hour=0)
    while start <= EPOCH + found["last"] * step:
        end = (start + timedelta(days=32)).replace(day=1)
        yield start.strftime("%Y-%m"), -((EPOCH - start) // step), -((EPOCH - end) // step)
        start = end


def _manifest(
    project: Project, view: View, folder: Path, known: Path, as_of: datetime, counts: dict[str, int]
) -> FeaturesManifest:
    files = partitions(folder / view.name)
    return FeaturesManifest(
        view=view.name,
        entity=view.entity,
        columns={field.name: str(field.type) for field in view.schema},
        features=list(view.features),
        rows=sum(counts.values()),
        partitions={name: {"rows": counts[name], "sha256": sha256(file)} for name, file in files.items()},
        data_version=data_version(folder / view.name),
        as_of=as_of,
        settings=project.params.features.model_dump(mode="json"),
        sources={
            "events": data_version(project.table("events")),
            "known_labels": {task: data_version(known / task) for task in project.params.tasks},
            "transforms_sha256": sha256(project.root / "feature_repo/transforms.py"),
        },
    )
