"""The `label` verb: votes into a label model, ``data/labels/<task>``, a manifest, and a summary of each function."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from weakfish.errors import WeakfishError
from weakfish.files import sha256, whole_folder, write_json
from weakfish.labeling.functions import ABSTAIN, ColumnarLabelingFunction
from weakfish.labeling.load import load_functions, module_of, source_hash
from weakfish.labeling.matrix import LabelMatrix, label_matrices, read_label_matrix
from weakfish.labeling.modeling.model import covered, fit, majority, probabilities
from weakfish.labeling.votes_file import Votes
from weakfish.project import Project
from weakfish.runs import write_ledger
from weakfish.tables import TIME, partitions, write_partition

if TYPE_CHECKING:
    from snorkel.labeling.model import LabelModel

PACKAGES = ("duckdb", "ibis-framework", "numpy", "snorkel", "torch")
"""Packages on whose version the labels depend."""


def label(project: Project) -> None:
    """Fit a label model per task and write its labels.

    ``data/labels/<task>``: the events' key and time, per class ``p_<class>`` (label model) and ``majority_<class>``
    (majority vote), ``covered`` (any function voted) and ``n_votes``. A row without votes has the class balance as
    its probabilities, and ``covered`` false.
    """
    summaries = {}
    rows = 0
    with whole_folder(project.data / "labels") as folder:
        for task in project.params.tasks:
            matrix = read_label_matrix(project, task)
            model = fit(matrix.votes, project.task(task))
            by_partition = []
            for partition, part in label_matrices(project, task):
                labels = _labels(project, task, model, part)
                write_partition(folder / task, partition, labels)
                by_partition.append(_partition_summary(partition, labels, project.task(task).classes))
            write_json(folder / f"{task}.manifest.json", manifest(project, task, model))
            summaries[task] = _summary(project, task, model, matrix.votes) | {"by_partition": by_partition}
            rows = matrix.votes.shape[0]
            if sum(part["rows"] for part in by_partition) != rows:
                raise WeakfishError(
                    f"Task {task} has labels for other rows than {rows} events; this is a defect of Weakfish."
                )
    write_json(project.reports / "labeling_functions.json", {"tasks": summaries})
    write_ledger(project, "label", rows_in=rows, rows_out=rows)


def _labels(project: Project, task: str, model: LabelModel, matrix: LabelMatrix) -> pa.Table:
    classes = project.task(task).classes
    posterior, most = probabilities(model, matrix.votes), majority(matrix.votes, len(classes))
    columns = {project.params.events.key: matrix.keys, project.params.events.time: matrix.times.cast(TIME)}
    columns |= {f"p_{name}": pa.array(posterior[:, number]) for number, name in enumerate(classes)}
    columns |= {f"majority_{name}": pa.array(most[:, number]) for number, name in enumerate(classes)}
    columns["covered"] = pa.array(covered(matrix.votes))
    columns["n_votes"] = pa.array((matrix.votes != ABSTAIN).sum(axis=1), pa.int32())
    return pa.table(columns)


def manifest(project: Project, task: str, model: LabelModel) -> dict[str, Any]:
    """What made the labels: functions, data, settings, versions, and the fitted parameters."""
    functions = load_functions(project, task)
    return {
        "task": task,
        "functions": {
            function.name: {"module": module_of(function), "source_sha256": source_hash(function)}
            for function in functions
        },
        "events": {name: sha256(file) for name, file in partitions(project.table("events")).items()},
        "settings": project.task(task).model_dump(mode="json"),
        "versions": {package: version(package) for package in PACKAGES},
        "weights": dict(zip([function.name for function in functions], _weights(model), strict=True)),
    }


def _weights(model: LabelModel) -> list[float]:
    return [float(weight) for weight in model.get_weights()]


def _summary(project: Project, task: str, model: LabelModel, votes: Votes) -> dict[str, Any]:
    """Coverage, overlaps, conflicts (shares of all rows, as Snorkel's ``LFAnalysis`` has them), polarity and weight."""
    classes = project.task(task).classes
    voted = votes != ABSTAIN
    number_of_votes = voted.sum(axis=1)
    functions = []
    for column, (function, weight) in enumerate(zip(load_functions(project, task), _weights(model), strict=True)):
        own, mine = votes[:, column], voted[:, column]
        disagree = (voted & (votes != own[:, None])).any(axis=1)
        functions.append(
            {
                "name": function.name,
                "module": module_of(function),
                "kind": "columnar" if isinstance(function, ColumnarLabelingFunction) else "row",
                "doc": " ".join((function._f.__doc__ or "").split()),
                "polarity": [classes[label] for label in sorted(set(own[mine].tolist()))],
                "coverage": _share(mine),
                "overlaps": _share(mine & (number_of_votes > 1)),
                "conflicts": _share(mine & disagree),
                "weight": weight,
            }
        )
    balance = dict(zip(classes, project.task(task).label_model.class_balance, strict=True))
    return {
        "classes": classes,
        "class_balance": balance,
        "rows": len(votes),
        "covered": int(covered(votes).sum()),
        "functions": functions,
    }


def _share(rows: Any) -> float:
    return float(np.mean(rows))


def _partition_summary(partition: str, labels: pa.Table, classes: list[str]) -> dict[str, Any]:
    seen = labels["covered"].to_numpy()
    mean = {name: float(labels[f"p_{name}"].to_numpy()[seen].mean()) if seen.any() else None for name in classes}
    return {"partition": partition, "rows": labels.num_rows, "covered": int(seen.sum()), "mean": mean}
