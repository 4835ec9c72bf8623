"""The features verb: known labels and feature rows, as running sums of what enters and leaves each window."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

import ibis
import ibis.expr.operations as ops
import ibis.expr.types as ir
import pyarrow as pa

from weakfish.contracts.gate import EVENTS, data_version, partition_hashes, require_open
from weakfish.contracts.ledgers import write_ledger
from weakfish.contracts.manifests import FeaturesManifest, write_manifest
from weakfish.contracts.pointers import whole_tables
from weakfish.contracts.record import EPOCH
from weakfish.contracts.tables import is_dated, open_partition, partition_span, partitions
from weakfish.engine import duckdb as compute
from weakfish.engine.clock import last_plausible
from weakfish.errors import FeatureError, TableError, WeakfishError
from weakfish.features.changes import on
from weakfish.features.known_labels import write_known_labels
from weakfish.features.months import Basis, MonthRows, Months, Part
from weakfish.features.views import View, declared_views
from weakfish.files import sha256, sha256_of
from weakfish.project.cache import Cache, key_of
from weakfish.project.paths import Project
from weakfish.project.runs import temporary_folder
from weakfish.rules.identity import Dependencies

PACKAGES = ("duckdb", "ibis-framework", "pyarrow")
"""Packages on whose version the rows depend."""


def build_features(project: Project) -> None:
    """Write ``data/known_labels``, and the rows and manifest of every view under ``data/features``.

    Both appear whole or not at all. Rows end at ``as_of``, the time of the last event that is plausible: what a later
    boundary would state is not known yet. Months that cannot have changed are not computed again.

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
    with (
        whole_tables(project.data / "known_labels") as known,
        whole_tables(project.data / "features") as folder,
        temporary_folder(project.temporary, "features") as scratch,
    ):
        if not views:  # without times or entities there is no past
            write_ledger(project, "features", rows_in=0, rows_out=0)
            return
        params, engine = project.params, compute.connect()
        for task in params.tasks:
            write_known_labels(project, task, known / task)
        parts = _parts(project, known)
        if not parts:
            raise TableError("No event in data/events has a time, so there is no past to make features of.")
        events, time = engine.read([part.events for part in parts]), params.events.time
        plausible = None if params.events.wrong_clocks == "allow" else last_plausible(engine, events, time)
        last = engine.run(events.aggregate(last=events[time].max())).to_pylist()[0]["last"]
        rows, as_of = 0, plausible or last.astimezone(UTC)
        for view in views.values():
            basis = _basis(project, view, parts, as_of)
            cache = Cache(project, f"features/{view.name}")
            months = Months(engine, view, basis, cache, scratch / view.name, project=project)
            written = write_view(months, as_of, folder / view.name)
            write_manifest(folder, view.name, _manifest(project, view, folder, known, as_of, written))
            rows += sum(month.rows for month in written.values())
    write_ledger(project, "features", rows_in=sum(part.rows for part in parts), rows_out=rows)


def write_view(months: Months, as_of: datetime, folder: Path) -> dict[str, MonthRows]:
    """Write the partitions of a view, rows in the order of time and entity; raises `FeatureError`."""
    view = months.view
    try:
        written = months.write(folder)
    except (WeakfishError, pa.ArrowInvalid) as error:
        raise FeatureError(f"View {view.name!r} could not be computed: {error}") from error
    if not written:
        raise FeatureError(
            f"View {view.name!r} has no rows: no event before {as_of.isoformat()} has a {view.entity}; "
            "correct its entity."
        )
    return written


def _parts(project: Project, known: Path) -> list[Part]:
    """The events that have times, with the known labels on them."""
    params, hashes = project.params, partition_hashes(project, EVENTS)
    labels = {task: partitions(known / task) for task in params.tasks}
    of_labels = {task: sha256_of(files) for task, files in labels.items()}
    return [
        Part(
            file,
            {task: files[name] for task, files in labels.items()},
            *partition_span(name, params.events.partition),
            open_partition(file).metadata.num_rows,
            key_of(name, hashes[name], {task: found[name] for task, found in of_labels.items()}),
        )
        for name, file in partitions(project.table("events")).items()
        if is_dated(name)
    ]


def _basis(project: Project, view: View, parts: list[Part], as_of: datetime) -> Basis:
    events, settings = project.params.events, project.params.features
    last = (as_of - EPOCH) // timedelta(hours=settings.boundary_hours)
    made_by = key_of(
        identity(view, project.root),
        [events.key, events.time, events.partition, settings.model_dump(mode="json")],
        {name: version(name) for name in PACKAGES},
        _code(),
    )
    return Basis(parts, events.key, events.time, settings.boundary_hours, settings.labeling_delay, last, made_by)


def identity(view: View, root: Path) -> list[Any]:
    """What a view computes: its measures and features as SQL, and the code of functions of Python among them."""
    values = [measure.value for measure in view.measures] + list(view.features.values())
    code = Dependencies(root)
    for function in dict.fromkeys(each for value in values for each in value.op().find(ops.ScalarUDF)):
        code.add(getattr(function, "__func__", None))
    measures = [[each.name, each.kind, each.task, each.hours, _sql(each.value)] for each in view.measures]
    running = ibis.table({each.name: each.placeholder[each.name].type() for each in view.measures}, name="running")
    features = {name: _sql(on(running, value)) for name, value in view.features.items()}
    return [view.entity, str(view.schema), measures, features, code.parts]


def _sql(value: ir.Value) -> str:
    (relation,) = value.op().relations or (None,)
    table = relation.to_expr() if relation is not None else ibis.table({"nothing": "int64"}, name="nothing")
    return str(ibis.to_sql(table.select(value=value), dialect="duckdb"))


def _code() -> dict[str, str]:
    """The hashes of the modules that compute rows."""
    root = Path(__file__).parent.parent
    files = [*(root / "engine").glob("*.py"), *(root / "features").glob("*.py"), root / "contracts" / "tables.py"]
    return {file.relative_to(root).as_posix(): sha256(file) for file in files}


def _manifest(
    project: Project, view: View, folder: Path, known: Path, as_of: datetime, written: Mapping[str, MonthRows]
) -> FeaturesManifest:
    return FeaturesManifest(
        view=view.name,
        entity=view.entity,
        columns={field.name: str(field.type) for field in view.schema},
        features=list(view.features),
        rows=sum(month.rows for month in written.values()),
        partitions={name: {"rows": month.rows, "sha256": month.sha256} for name, month in written.items()},
        data_version=data_version(folder / view.name),
        as_of=as_of,
        settings=project.params.features.model_dump(mode="json"),
        sources={
            "events": data_version(project.table("events")),
            "known_labels": {task: data_version(known / task) for task in project.params.tasks},
            "transforms_sha256": sha256(project.root / "feature_repo/transforms.py"),
        },
    )
