"""What an evaluation reads, row by row: votes, published labels, text, features, gold labels of dev and test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from weakfish.contracts.tables import GOLD_LABEL, folder, in_test, partition_names, read_table
from weakfish.contracts.votes_file import Votes
from weakfish.errors import TableError
from weakfish.evaluation.measures import Bools, Floats, Ints, Predictions
from weakfish.labeling.matrix import read_label_matrix
from weakfish.project.paths import Project

UNKNOWN = -1
"""The gold label of a row that has none."""

MICROSECONDS = 86_400_000_000
"""Of a day."""


@dataclass(frozen=True)
class Inputs:
    """Rows are events, in the order of ``data/events``, in every array.

    Attributes
    ----------
    classes, functions : list of str
    votes : numpy.ndarray, int8, (rows, functions)
    published : Predictions
        The label model's, as they stand in ``data/labels``.
    dev, test : numpy.ndarray, int64, (rows,)
        Gold labels of either part, `UNKNOWN` for all other rows.
    earlier : numpy.ndarray, bool, (rows,)
        Events that are not in the test part, labelled or not.
    days : numpy.ndarray, float64, (rows,)
        Event times, in days since 1970; of events without a time the mean of the others, 0 where all are.
    partitions : list of str
        The partition of each event.
    texts : list of list of str
        One list per column of text, of which there may be none; missing text is empty.
    features : numpy.ndarray, float64, (rows, features), or None
        The task's training set as numbers, see `numbers`; None where there is none, or none with features.
    """

    classes: list[str]
    functions: list[str]
    votes: Votes
    published: Predictions
    dev: Ints
    test: Ints
    earlier: Bools
    days: Floats
    partitions: list[str]
    texts: list[list[str]]
    features: Floats | None = None


def read_inputs(project: Project, task: str) -> Inputs:
    """Read everything that the evaluation of a task needs.

    Raises
    ------
    TableError
        When a table is missing or cut off, labels or training set are of other events than votes, or gold labels are
        of no class.
    """
    classes = project.task(task).classes
    key = project.params.events.key
    matrix = read_label_matrix(project, task)
    texts = project.params.evaluate.text
    events = read_table(project.table("events"), texts) if texts else {}
    late = in_test(project.params.gold, matrix.keys, matrix.times)
    return Inputs(
        classes=classes,
        functions=matrix.names,
        votes=matrix.votes,
        published=_published(project.table(f"labels/{task}"), key, matrix.keys, classes),
        dev=gold_labels(folder(project, task, "dev"), key, matrix.keys, classes),
        test=gold_labels(folder(project, task, "test"), key, matrix.keys, classes),
        earlier=pc.equal(late, False).fill_null(False).to_numpy(),
        days=_days(matrix.times),
        partitions=partition_names(matrix.times, project.params.events.partition).to_pylist(),
        texts=[_text(events[column], column) for column in texts],
        features=_features(project, task, matrix.keys),
    )


def gold_labels(where: Path, key: str, keys: pa.ChunkedArray, classes: Sequence[str]) -> Ints:
    """The gold label of each key as a position in ``classes``; `UNKNOWN` where there is none, or no folder.

    Raises
    ------
    TableError
        When the table holds a label that is no class of the task.
    """
    if not any(where.glob("*.parquet")):
        return np.full(len(keys), UNKNOWN)
    gold = read_table(where, [key, GOLD_LABEL])
    strangers = sorted(set(pc.unique(gold[GOLD_LABEL]).to_pylist()) - {*classes, None})
    if strangers:
        raise TableError(
            f"{where} holds the label {strangers[0]!r}, which is none of the task's classes ({', '.join(classes)}); "
            "correct tasks.<task>.classes in params.yaml or what the source yields."
        )
    numbers = pc.index_in(gold[GOLD_LABEL], pa.array(classes))
    found = pc.take(numbers, pc.index_in(keys, gold[key].combine_chunks()))
    labels: Ints = pc.fill_null(found, UNKNOWN).to_numpy().astype(np.int64)
    return labels


def _days(times: pa.ChunkedArray) -> Floats:
    microseconds = times.cast(pa.int64())
    usual = pc.mean(microseconds).as_py() or 0
    found: Floats = pc.fill_null(microseconds.cast(pa.float64()), float(usual)).to_numpy() / MICROSECONDS
    return found


def _published(folder: Path, key: str, keys: pa.ChunkedArray, classes: Sequence[str]) -> Predictions:
    labels = read_table(folder, [key, "covered", *(f"p_{name}" for name in classes)])
    if not labels[key].equals(keys):
        raise TableError(f"{folder} holds labels of other events than data/votes; run `dvc repro label`.")
    probabilities: Floats = np.stack([labels[f"p_{name}"].to_numpy() for name in classes], axis=1)
    return Predictions(probabilities, labels["covered"].to_numpy())


def _features(project: Project, task: str, keys: pa.ChunkedArray) -> Floats | None:
    folder = project.table(f"training/{task}")
    if not any(folder.glob("*.parquet")):
        return None
    rows = read_table(folder)
    if not rows[project.params.events.key].equals(keys):
        raise TableError(f"{folder} holds other events than data/votes; run `dvc repro training_set`.")
    features = rows.drop_columns(_labels(project, task))
    return numbers(features) if features.num_columns else None


def _labels(project: Project, task: str) -> list[str]:
    """The columns of a training set that are no features."""
    contract = project.params.events
    return [contract.key, contract.time, *(f"p_{name}" for name in project.task(task).classes), "covered", "n_votes"]


def _text(column: pa.ChunkedArray, name: str) -> list[str]:
    if not pa.types.is_string(column.type):
        raise TableError(
            f"Column {name} of the events is {column.type}, not text; correct evaluate.text in params.yaml."
        )
    texts: list[str] = pc.fill_null(column, "").to_pylist()
    return texts


def numbers(features: pa.Table) -> Floats:
    """Features as numbers: (rows, features).

    A whole number that is null becomes 0: of what is not known, nothing was counted. Any other is NaN where null. Texts
    are left out, and times too: what they are good for is an age, which an on-demand view computes.
    """
    columns = [features[name] for name in features.column_names if _is_number(features[name].type)]
    return np.stack([_numbers(column) for column in columns], axis=1) if columns else np.zeros((features.num_rows, 0))


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind))


def _numbers(column: pa.ChunkedArray) -> Floats:
    missing = 0.0 if pa.types.is_integer(column.type) else float("nan")
    found: Floats = pc.fill_null(column.cast(pa.float64()), missing).to_numpy()
    return found
