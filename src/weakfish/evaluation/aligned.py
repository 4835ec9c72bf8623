"""What an evaluation reads, row by row: votes, published labels, text, features, gold labels of dev and test."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from weakfish.contracts.gold import UNKNOWN, gold_labels
from weakfish.contracts.pointers import listed
from weakfish.contracts.tables import (
    folder,
    in_test,
    open_partition,
    partition_names,
    partitions,
    read_table,
    schema_of,
)
from weakfish.contracts.votes_file import Votes
from weakfish.errors import TableError
from weakfish.evaluation.measures import Bools, Floats, Ints, Predictions
from weakfish.labeling.dev_gold import known_labels, microseconds
from weakfish.labeling.known import KnownVotes
from weakfish.labeling.matrix import LabelMatrix, read_label_matrix, rows_at
from weakfish.labeling.reading import TaskReader, parts_of
from weakfish.labeling.row_texts import Readable
from weakfish.labeling.slice_counts import Slices
from weakfish.project.paths import Project

MICROSECONDS = 86_400_000_000
"""Of a day."""


ReadTexts = Callable[[Bools], list[list[str]]]
"""Gives a list per column of text, with the texts of the rows (rows,) that are asked for; missing text is empty."""


@dataclass(frozen=True)
class KnownOfAll:
    """The known class of each row, `UNKNOWN` where it is not, and the part of the rows that each belongs to (rows,)."""

    classes: Ints
    parts: Ints

    def of(self, votes: Votes, rows: Bools) -> KnownVotes:
        """What votes of some rows learn from; all are of all rows."""
        known = rows & (self.classes != UNKNOWN)
        return KnownVotes(votes[known], self.classes[known], self.parts[known])


@dataclass(frozen=True)
class Aligned:
    """Rows are events, in the order of ``data/events``, in every array.

    Attributes
    ----------
    classes, functions : list of str
    votes : numpy.ndarray, int8, (rows, functions)
    published : Predictions
        The labels, as they stand in ``data/labels``; rows that have one count as covered.
    dev, test : numpy.ndarray, int64, (rows,)
        Gold labels of either part, `UNKNOWN` for all other rows.
    earlier : numpy.ndarray, bool, (rows,)
        Events that are not in the test part, labelled or not.
    days : numpy.ndarray, float64, (rows,)
        Event times, in days since 1970; of events without a time the mean of the others, 0 where all are.
    partitions : list of str
        The partition of each event.
    texts : ReadTexts or None
        Reads the text of some events; None without columns of text.
    features : numpy.ndarray, float64, (rows, features), or None
        The task's training set as numbers, see `numbers`; None where there is none, or none with features.
    read : Readable or None
        What the reader of the labels reads, left where it lies; None without one.
    slices : dict of numpy.ndarray, bool, (rows,)
        Which events are in each slice.
    known : KnownOfAll or None
        The labels that are known of rows before the split, and were by then; None in a task without.
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
    texts: ReadTexts | None
    features: Floats | None = None
    read: Readable | None = None
    slices: Mapping[str, Bools] = field(default_factory=dict)
    known: KnownOfAll | None = None


def read_inputs(project: Project, task: str) -> Aligned:
    """Read everything that the evaluation of a task needs.

    Raises
    ------
    TableError
        When a table is missing or cut off, labels or training set are of other events than votes, or gold labels are
        of no class.
    """
    params, classes = project.params, project.task(task).classes
    key, shares = params.events.key, [f"p_{name}" for name in classes]
    matrix = read_label_matrix(project, task)
    reads = project.task(task).label_model
    rests = reads.origins
    names = [key, "covered", *shares, *rests]
    labels = _of_same_events(project, f"labels/{task}", matrix.keys, "label", names)
    known_of = pc.is_valid(labels["rests_on"]) if rests else labels["covered"]
    probabilities: Floats = np.stack([labels[name].to_numpy() for name in shares], axis=1)
    features = None
    if any(listed(project.table(f"training/{task}"))):
        _of_same_events(project, f"training/{task}", matrix.keys, "training_set", [key])
        training = project.table(f"training/{task}")
        others = {key, params.events.time, *shares, "covered", "n_votes", *rests}
        past = pa.schema([each for each in schema_of(training) if each.name not in others])
        if past.names:
            features = numbers(past, len(matrix.keys), lambda name: read_table(training, [name])[name])
    late = in_test(params.gold, matrix.keys, matrix.times)
    since_1970 = matrix.times.cast(pa.int64())
    usual = float(pc.mean(since_1970).as_py() or 0)
    return Aligned(
        classes=classes,
        functions=matrix.names,
        votes=matrix.votes,
        published=Predictions(probabilities, known_of.to_numpy()),
        dev=gold_labels(folder(project, task, "dev"), key, matrix.keys, classes),
        test=gold_labels(folder(project, task, "test"), key, matrix.keys, classes),
        earlier=pc.equal(late, False).fill_null(False).to_numpy(),
        days=pc.fill_null(since_1970.cast(pa.float64()), usual).to_numpy() / MICROSECONDS,
        partitions=_shared(partition_names(matrix.times, params.events.partition)),
        texts=texts_of(project) if params.evaluate.text else None,
        features=features,
        slices=Slices(project).everywhere(),
        read=None if reads.reader == "off" else TaskReader(project, task).whole(),
        known=_known(project, task, matrix),
    )


def texts_of(project: Project) -> ReadTexts:
    """What reads the columns of ``evaluate.text``; raises `TableError` where one is missing, or no text."""
    columns, events = project.params.evaluate.text, project.table("events")
    kinds = {field.name: field.type for field in schema_of(events)}
    for name in columns:
        if not pa.types.is_string(kinds.get(name, pa.null())):
            found = f"is {kinds[name]}, not text" if name in kinds else f"does not exist, there are {', '.join(kinds)}"
            raise TableError(f"Column {name} of the events {found}; correct evaluate.text in params.yaml.")

    def read(rows: Bools) -> list[list[str]]:
        texts: list[list[str]] = [[] for _ in columns]
        start = 0
        for file in partitions(events).values():
            size = open_partition(file).metadata.num_rows
            for part in rows_at(file, columns, np.flatnonzero(rows[start : start + size])):
                for column, name in zip(texts, columns, strict=True):
                    column += pc.fill_null(part[name], "").to_pylist()
            start += size
        return texts

    return read


def _known(project: Project, task: str, matrix: LabelMatrix) -> KnownOfAll | None:
    if (settings := project.task(task).label_model).known == "none":
        return None
    classes, since = known_labels(project, task, None, matrix.keys, matrix.times)
    split = project.params.gold.split_time
    if split is not None:  # what is tested begins then, and may know nothing that came later
        classes[since >= microseconds(split)] = UNKNOWN
    parts, places, start = np.zeros(len(classes), np.int64), np.flatnonzero(classes != UNKNOWN), 0
    for name, file in partitions(project.table("events")).items():
        rows = open_partition(file).metadata.num_rows
        mine = places[(places >= start) & (places < start + rows)]
        parts[mine] = parts_of(project, settings, name, matrix.keys.slice(start, rows), mine - start)
        start += rows
    return KnownOfAll(classes, parts)


def _of_same_events(
    project: Project, table: str, keys: pa.ChunkedArray, stage: str, columns: Sequence[str] | None = None
) -> pa.Table:
    """A table that has a row for each event that was voted on, in their order; raises `TableError`."""
    rows = read_table(project.table(table), columns)
    if not rows[project.params.events.key].equals(keys):
        raise TableError(f"data/{table} holds other events than data/votes; run `dvc repro {stage}`.")
    return rows


def numbers(schema: pa.Schema, rows: int, read: Callable[[str], pa.ChunkedArray]) -> Floats:
    """Features as numbers: (rows, features); ``read`` reads one column, so that no other is in memory beside it.

    A whole number that is null becomes 0: of what is not known, nothing was counted. Any other is NaN where null. Texts
    are left out, and times too: what they are good for is an age, which an on-demand view computes.
    """
    types = pa.types
    kinds = (types.is_integer, types.is_floating, types.is_boolean)
    numeric = [each for each in schema if any(is_one(each.type) for is_one in kinds)]
    found: Floats = np.empty((rows, len(numeric)))
    for place, each in enumerate(numeric):
        missing = 0.0 if types.is_integer(each.type) else float("nan")
        found[:, place] = pc.fill_null(read(each.name).cast(pa.float64()), missing).to_numpy()
    return found


def _shared(names: pa.ChunkedArray) -> list[str]:
    """Texts as a list in which those that are alike are one object."""
    encoded = names.combine_chunks().dictionary_encode()
    texts = np.array(encoded.dictionary.to_pylist(), object)
    found: list[str] = texts[encoded.indices.to_numpy()].tolist() if len(texts) else []
    return found
