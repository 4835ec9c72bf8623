"""Labels as they were known: the lagged relation, the only way by which features get at labels.

The labels of a month come from a label model that was fitted on the covered rows of earlier months alone, and are known
a delay after their event. Written to ``data/known_labels/<task>``, a partition per partition of the events.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import ibis.expr.types as ir
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from weakfish import engine as compute
from weakfish.contracts.gate import EVENTS, data_version, require_open
from weakfish.contracts.ledgers import write_ledger
from weakfish.contracts.manifests import FeaturesManifest, write_manifest
from weakfish.contracts.tables import TIME, UNDATED, partitions, write_partition
from weakfish.errors import FeatureError, TableError, WeakfishError
from weakfish.features.rows import KNOWN_AT, NUMBER, Relations, feature_rows, with_times
from weakfish.features.views import View, declared_views
from weakfish.files import sha256, whole_folder
from weakfish.labeling.choice import VoteTally, choose
from weakfish.labeling.label import MIN_HISTORY
from weakfish.labeling.label_model import covered
from weakfish.labeling.matrix import LabelMatrix, label_matrices
from weakfish.project.paths import Project
from weakfish.project.runs import Progress


def write_known_labels(project: Project, task: str, folder: Path) -> int:
    """Write the known labels of ``task`` and return how many there are.

    Columns: the events' key and time, ``known_at`` (event time plus ``features.labeling_delay_hours``; UTC,
    microseconds), ``p_<class>`` (float64), ``fitted_through`` (the last partition whose votes the model had). Rows are
    the events on which a function voted, in months before which at least `MIN_HISTORY` such events lie; other
    partitions are empty.
    """
    classes = len(project.task(task).classes)
    earlier: VoteTally | None = None
    through, rows = "", 0
    for partition, matrix in label_matrices(project, task):
        if partition == UNDATED:
            continue
        earlier = earlier or VoteTally.none(len(matrix.names), classes)
        known = _known(project, task, matrix, earlier, through)
        write_partition(folder, partition, known)
        earlier += VoteTally.of(matrix.votes, classes)
        through, rows = partition, rows + known.num_rows
    return rows


def _known(project: Project, task: str, matrix: LabelMatrix, earlier: VoteTally, through: str) -> pa.Table:
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


EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def build_features(project: Project) -> None:
    """Write ``data/known_labels``, and the rows and manifest of every view under ``data/features``.

    Both appear whole or not at all. Rows end at ``as_of``, the time of the last event: what a later boundary would
    state is not known yet.

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
        for task in project.params.tasks:
            write_known_labels(project, task, known / task)
        engine = compute.connect()
        relations = _relations(project, engine, known)
        total, as_of = _extent(engine, relations)
        rows = 0
        for view in views.values():
            counts = write_view(engine, view, relations, as_of, folder / view.name)
            write_manifest(folder, view.name, _manifest(project, view, folder, known, as_of, counts))
            rows += sum(counts.values())
    write_ledger(project, "features", rows_in=total, rows_out=rows)


def _event_files(project: Project) -> list[Path]:
    dated = [file for name, file in partitions(project.table("events")).items() if name != UNDATED]
    if not dated:
        raise TableError("No event in data/events has a time, so there is no past to make features of.")
    return dated


def _relations(project: Project, engine: compute.Engine, known: Path) -> Relations:
    params = project.params
    return Relations(
        engine.read(_event_files(project)),
        {task: engine.read(list(partitions(known / task).values())) for task in params.tasks},
        params.events.key,
        params.events.time,
        params.features.boundary_hours,
    )


def _extent(engine: compute.Engine, relations: Relations) -> tuple[int, datetime]:
    """How many events there are, and the time of the last one."""
    events = relations.events
    found = engine.run(events.aggregate(rows=events.count(), last=events[relations.time].max())).to_pylist()[0]
    return found["rows"], found["last"].astimezone(UTC)


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
