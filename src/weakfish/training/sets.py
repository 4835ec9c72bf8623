"""The `training-set` verb: labels and features into ``data/training/<task>``, and a manifest of what made them."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import version as package_version

import pyarrow as pa

from weakfish.contracts.gate import EVENTS, data_version, require_open
from weakfish.contracts.ledgers import write_ledger
from weakfish.contracts.manifests import (
    LabelsManifest,
    TrainingManifest,
    feature_tables,
    manifest_file,
    read_manifest,
    write_manifest,
)
from weakfish.contracts.tables import write_partition
from weakfish.errors import TrainingError
from weakfish.files import sha256, whole_folder
from weakfish.project.paths import Project
from weakfish.project.runs import Progress
from weakfish.training.history import (
    Asked,
    Spine,
    batches,
    describe,
    feature_service,
    read_spine,
    retrieve,
    spine_partitions,
    table_of,
    version,
)

PACKAGES = ("duckdb", "feast", "ibis-framework", "pandas", "pyarrow")
"""Packages on whose version the training sets depend."""


def build_training_sets(project: Project) -> None:
    """Write the training set of every task.

    ``data/training/<task>``: the events' key and time, ``p_<class>`` (label model) per class, ``covered``, ``n_votes``,
    then the features as ``<view>__<feature>``, null where nothing was known of the entity at that time. One row per
    label, by time and key. ``data/training/<task>.manifest.json`` says what made it; see `manifest`.

    Raises
    ------
    CheckFailed
        When the gate of the events, of labels or of features is shut.
    TableError, TrainingError, UnknownName
        When labels, features and definitions do not fit together; nothing is written then.
    """
    labels = [f"labels/{task}" for task in project.params.tasks]
    require_open(project, [EVENTS, *labels, *feature_tables(project)])
    from weakfish.feast.registry import historical_store  # imports Feast, once the gates are open

    rows = {}
    order = [(project.params.events.time, "ascending"), (project.params.events.key, "ascending")]
    with whole_folder(project.data / "training") as folder, historical_store(project) as store:
        for task in project.params.tasks:
            service = project.task(task).feature_service or f"{task}_v1"
            asked = describe(store, feature_service(store, service, task))
            progress, rows[task] = Progress(f"training set of {task}"), 0
            nulls = dict.fromkeys(asked.schema.names, 0)
            spines = (read_spine(project, task, name, asked.columns) for name in spine_partitions(project, task))
            for batch in batches(spines):
                features = retrieve(store, asked, pa.concat_tables([spine.asked for spine in batch]))
                for spine, known in zip(batch, _apart(features, batch), strict=True):
                    table = _beside(spine.labels, known)
                    write_partition(folder / task, spine.partition, table.sort_by(order))
                progress.add(features.num_rows)
                rows[task] += features.num_rows
                nulls = {name: count + features[name].null_count for name, count in nulls.items()}
            write_manifest(folder, task, manifest(project, task, asked, rows[task], nulls))
    write_ledger(project, "training_set", rows_in=sum(rows.values()), rows_out=sum(rows.values()))


def manifest(project: Project, task: str, asked: Asked, rows: int, nulls: dict[str, int]) -> TrainingManifest:
    """What a training set holds and what made it: tables, labeling functions, settings, views, packages, by version."""
    labels = f"labels/{task}"
    tables = ["events", labels, *(table_of(view) for view in asked.views)]
    manifests = {name: manifest_file(project, name) for name in tables[1:]}
    voted = read_manifest(project, LabelsManifest, labels).functions
    return TrainingManifest(
        task=task,
        rows=rows,
        nulls=nulls,
        columns={field.name: str(field.type) for field in asked.schema},
        data={name: data_version(project.table(name)) for name in tables},
        manifests={name: sha256(file) for name, file in manifests.items() if file.is_file()},
        functions={name: made.identity for name, made in voted.items()},
        label_model=project.task(task).label_model.model_dump(mode="json"),
        feature_service=asked.service.name,
        views={view.name: version(view) for view in [*asked.views, *asked.on_demand]},
        versions={name: package_version(name) for name in PACKAGES},
    )


def _apart(features: pa.Table, batch: list[Spine]) -> Iterator[pa.Table]:
    """The features of each partition of a batch."""
    start = 0
    for spine in batch:
        yield features.slice(start, spine.labels.num_rows)
        start += spine.labels.num_rows


def _beside(labels: pa.Table, features: pa.Table) -> pa.Table:
    shared = sorted(set(labels.column_names) & set(features.column_names))
    if shared:
        raise TrainingError(f"Feature {shared[0]!r} has the name of a column of the labels; rename it in its view.")
    for field in features.schema:
        labels = labels.append_column(field, features[field.name])
    return labels
