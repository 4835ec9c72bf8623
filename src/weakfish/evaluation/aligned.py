"""What an evaluation reads, row by row: votes, published labels, text, features, gold labels of dev and test."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from weakfish.contracts.gold import UNKNOWN, gold_labels
from weakfish.contracts.pointers import listed
from weakfish.contracts.tables import (
    UNDATED,
    folder,
    in_test,
    partition_names,
    partitions,
    read_partition,
    reviewed,
    row_count,
    schema_of,
)
from weakfish.contracts.votes_file import Votes
from weakfish.errors import TableError
from weakfish.evaluation.measures import Bools, Floats, Ints, Predictions
from weakfish.labeling.dev_gold import corrected, gold_place, known_labels, microseconds
from weakfish.labeling.known import KnownVotes
from weakfish.labeling.matrix import LabelMatrix, label_matrix, rows_at
from weakfish.labeling.reading import TaskReader, parts_of
from weakfish.labeling.row_texts import Readable
from weakfish.labeling.slice_counts import Slices
from weakfish.project.paths import Project
from weakfish.rules.loading import load_functions

MICROSECONDS = 86_400_000_000
"""Of a day."""


ReadTexts = Callable[[Bools], list[list[str]]]
"""Gives a list per column of text, with the texts of the rows (rows,) that are asked for; missing text is empty."""


ReadNumbers = Callable[[Bools], Floats]
"""Gives the features (rows asked for, features) of the rows (rows,) that are asked for."""


@dataclass(frozen=True)
class Periods:
    """The period of each row: one of ``names``, which are in order, by its place among them, ``codes`` (rows,)."""

    names: list[str]
    codes: npt.NDArray[np.int32]

    @staticmethod
    def of(names: Sequence[str]) -> Periods:
        """Those of rows, given the name of each."""
        distinct, codes = np.unique(np.asarray(names, str), return_inverse=True)
        return Periods(distinct.tolist(), codes.astype(np.int32))

    @staticmethod
    def together(parts: Sequence[Periods]) -> Periods:
        """Those of all parts, in their order."""
        names = sorted({name for part in parts for name in part.names})
        codes = [np.searchsorted(names, part.names).astype(np.int32)[part.codes] for part in parts if part.names]
        return Periods(names, np.concatenate([np.zeros(0, np.int32), *codes]))

    def of_rows(self) -> list[str]:
        """The name of each row's period."""
        return [self.names[code] for code in self.codes]

    def is_dated(self) -> Bools:
        """Which rows have a time, (rows,)."""
        return np.array([name != UNDATED for name in self.names], bool)[self.codes]

    def rows(self) -> list[tuple[str, Ints]]:
        """The rows of each period, in the order of their names."""
        order = np.argsort(self.codes, kind="stable")
        ends = np.cumsum(np.bincount(self.codes, minlength=len(self.names)))
        return list(zip(self.names, np.split(order, ends[:-1]), strict=True)) if self.names else []


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
    periods : Periods
        Of the events' times.
    texts : ReadTexts or None
        Reads the text of some events; None without columns of text.
    features : ReadNumbers or None
        Reads the task's training set as `numbers`; None where there is none, or none with features.
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
    periods: Periods
    texts: ReadTexts | None
    features: ReadNumbers | None = None
    read: Readable | None = None
    slices: Mapping[str, Bools] = field(default_factory=dict)
    known: KnownOfAll | None = None


def read_inputs(project: Project, task: str) -> Aligned:
    """Read everything that the evaluation of a task needs, partition by partition.

    Of each event stay some numbers; texts and features are read of the rows that are asked for, later.

    Raises
    ------
    TableError
        When a table is missing or cut off, labels or training set are of other events than votes, or gold labels are
        of no class.
    """
    functions = [function.name for function in load_functions(project, task)]
    has_set, reads = any(listed(project.table(f"training/{task}"))), project.task(task).label_model
    _refuse_other_partitions(project, f"labels/{task}", "label")
    if has_set:
        _refuse_other_partitions(project, f"training/{task}", "training_set")
    found: dict[str, list[Any]] = {}
    for name in partitions(project.table("events")):
        for column, values in _read(project, task, functions, name, has_set).items():
            found.setdefault(column, []).append(values)
    votes, published, since, *rest = (_joined(found, name) for name in ("votes", "published", "since", *ROWS))
    covered, dev, test, earlier, classes, parts = rest
    usual = float(np.nanmean(since)) if not np.isnan(since).all() else 0.0
    since[np.isnan(since)] = usual
    since /= MICROSECONDS
    return Aligned(
        classes=project.task(task).classes,
        functions=functions,
        votes=votes,
        published=Predictions(published, covered),
        dev=dev,
        test=test,
        earlier=earlier,
        days=since,
        periods=Periods.together(found.pop("periods")),
        texts=texts_of(project) if project.params.evaluate.text else None,
        features=features_of(project, task) if has_set else None,
        slices=Slices(project).everywhere(),
        read=None if reads.reader == "off" else TaskReader(project, task).whole(),
        known=None if reads.known == "none" else KnownOfAll(classes, parts),
    )


ROWS = ("covered", "dev", "test", "earlier", "classes", "parts")
"""What is read of each row of a partition, beside votes, probabilities and times; the last two are of known rows."""


SIDES: tuple[Literal["dev", "test"], ...] = ("dev", "test")
"""Of gold, and of reviews."""


def _read(project: Project, task: str, functions: Sequence[str], partition: str, has_set: bool) -> dict[str, Any]:
    """What stands in a partition, by row."""
    params, classes = project.params, project.task(task).classes
    matrix, settings = label_matrix(project, task, functions, partition), project.task(task).label_model
    key, shares, rests = params.events.key, [f"p_{name}" for name in classes], settings.origins
    columns = [key, "covered", *shares, *rests]
    labels = _of_same_events(project, f"labels/{task}", partition, matrix.keys, "label", columns)
    if has_set:
        _of_same_events(project, f"training/{task}", partition, matrix.keys, "training_set", [key])
    late = in_test(params.gold, matrix.keys, matrix.times)
    since = pc.fill_null(matrix.times.cast(pa.int64()).cast(pa.float64()), float("nan")).to_numpy()
    gold = gold_place(project, partition)
    found = {"votes": matrix.votes, "since": since}
    found["published"] = np.stack([labels[name].to_numpy() for name in shares], axis=1)
    found["covered"] = (pc.is_valid(labels["rests_on"]) if rests else labels["covered"]).to_numpy()
    reviews = [gold_labels(reviewed(project, task, side), key, matrix.keys, classes, partition) for side in SIDES]
    for part in SIDES:
        labels = gold_labels(folder(project, task, part), key, matrix.keys, classes, gold)
        for said in reviews:  # a review's side is not that of gold
            labels = corrected(labels, said)
        found[part] = labels
    if settings.known != "none":
        found["test"][reviews[0] != UNKNOWN] = UNKNOWN  # what teaches measures nothing
    found["earlier"] = pc.equal(late, False).fill_null(False).to_numpy()
    found["periods"] = Periods.of(partition_names(matrix.times, params.events.partition).to_pylist())
    if settings.known != "none":
        found["classes"], found["parts"] = _known(project, task, partition, matrix)
    return found


def _joined(found: dict[str, list[Any]], name: str) -> Any:
    """A column of all partitions, whose parts are let go; None where it was not read."""
    return np.concatenate(found.pop(name)) if name in found else None


def _known(project: Project, task: str, partition: str, matrix: LabelMatrix) -> tuple[Ints, Ints]:
    """The known class of each row of a partition, and the part of the rows to which known rows belong."""
    classes, since = known_labels(project, task, gold_place(project, partition), matrix.keys, matrix.times)
    split = project.params.gold.split_time
    if split is not None:  # what is tested begins then, and may know nothing that came later
        classes[since >= microseconds(split)] = UNKNOWN
    parts, places = np.zeros(len(classes), np.int64), np.flatnonzero(classes != UNKNOWN)
    parts[places] = parts_of(project, project.task(task).label_model, partition, matrix.keys, places)
    return classes, parts


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
            size = row_count(file)
            for part in rows_at(file, columns, np.flatnonzero(rows[start : start + size])):
                for column, name in zip(texts, columns, strict=True):
                    column += pc.fill_null(part[name], "").to_pylist()
            start += size
        return texts

    return read


def features_of(project: Project, task: str) -> ReadNumbers | None:
    """What reads the features of a task's training set as numbers; None where it has none."""
    table, key, time = project.table(f"training/{task}"), project.params.events.key, project.params.events.time
    settings = project.task(task)
    others = {key, time, *(f"p_{name}" for name in settings.classes), "covered", "n_votes"}
    past = [each for each in schema_of(table) if each.name not in others | set(settings.label_model.origins)]
    columns = [each.name for each in past if is_numeric(each.type)]

    def read(rows: Bools) -> Floats:
        found, start, done = np.empty((int(rows.sum()), len(columns))), 0, 0
        for file in partitions(table).values() if columns else ():
            size = row_count(file)
            for part in rows_at(file, columns, np.flatnonzero(rows[start : start + size])):
                found[done : done + part.num_rows] = numbers(part)
                done += part.num_rows
            start += size
        return found

    return read if past else None


def _refuse_other_partitions(project: Project, table: str, stage: str) -> None:
    if partitions(project.table(table)).keys() != partitions(project.table("events")).keys():
        raise _other_events(table, stage)


def _of_same_events(
    project: Project, table: str, partition: str, keys: pa.ChunkedArray, stage: str, columns: Sequence[str]
) -> pa.Table:
    """A partition that has a row for each event that was voted on, in their order; raises `TableError`."""
    rows = read_partition(project.table(table) / f"{partition}.parquet", columns)
    if not rows[project.params.events.key].equals(keys):
        raise _other_events(table, stage)
    return rows


def _other_events(table: str, stage: str) -> TableError:
    return TableError(f"data/{table} holds other events than data/votes; run `dvc repro {stage}`.")


def is_numeric(kind: pa.DataType) -> bool:
    """Whether `numbers` has a column of this type."""
    types = pa.types
    return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind))


def numbers(table: pa.Table) -> Floats:
    """Features as numbers: (rows, features).

    A whole number that is null becomes 0: of what is not known, nothing was counted. Any other is NaN where null. Texts
    are left out, and times too: what they are good for is an age, which an on-demand view computes.
    """
    numeric = [each for each in table.schema if is_numeric(each.type)]
    found: Floats = np.empty((table.num_rows, len(numeric)))
    for place, each in enumerate(numeric):
        missing = 0.0 if pa.types.is_integer(each.type) else float("nan")
        found[:, place] = pc.fill_null(table[each.name].cast(pa.float64()), missing).to_numpy()
    return found
