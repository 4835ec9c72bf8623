"""Events with their labels, as suggestions need them: on which rows candidates hold, and what the labels of these say.

Partitions are read batch by batch, texts are looked at and let go. Of very many rows, an even sample of uncovered ones
and one of covered ones is looked at.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from scipy.sparse import csc_matrix  # type: ignore[import-untyped]

from weakfish.errors import TableError
from weakfish.files import read_json
from weakfish.labeling.votes_file import Votes
from weakfish.labeling.writing.beside import others_votes
from weakfish.labeling.writing.candidates import Candidate, Finder, Incidence, Role, role_of
from weakfish.labeling.writing.sample import BATCH, Places, evenly, take_sample
from weakfish.project import Project
from weakfish.runs import Progress
from weakfish.tables import open_partition, partitions, read_partition

Kind = Literal["uncovered", "undecided"]
"""Rows without a vote; rows with a single one, or whose most probable class has less than `UNDECIDED`."""

UNDECIDED = 0.75

ROWS = 20_000
"""Uncovered rows, and covered ones, that are looked at."""

ROWS_FOR_ROLES = 2_000
"""Rows that tell text from values."""

FEW = 3
"""Target rows that a candidate holds on at least."""

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Group:
    """Rows that are looked at: where each candidate holds, (rows, candidates), and who each row is about.

    Attributes
    ----------
    entities : list of numpy.ndarray, int64, (rows,)
        A number for each value of an entity column, -1 where it has none.
    """

    holds: csc_matrix
    entities: list[Places]


@dataclass(frozen=True)
class Labelled:
    """What suggestions are made from.

    Attributes
    ----------
    uncovered, covered : Group
    probabilities : numpy.ndarray, float64, (covered rows, classes)
    votes : numpy.ndarray, int64, (covered rows,)
        How many functions vote.
    by_function : numpy.ndarray, int8, (covered rows, functions)
        Their votes, -1 where one abstains.
    undecided : numpy.ndarray, bool, (covered rows,)
    totals : dict
        How many rows there are: ``all``, ``uncovered``, ``undecided``.
    """

    candidates: list[Candidate]
    uncovered: Group
    covered: Group
    probabilities: npt.NDArray[np.float64]
    votes: Places
    by_function: Votes
    undecided: Bools
    totals: dict[str, int]


@dataclass(frozen=True)
class LabelsOfPartition:
    """The labels of one partition, row by row as its events."""

    covered: Bools
    undecided: Bools
    probabilities: npt.NDArray[np.float64]
    votes: Places


def read_labelled(project: Project, task: str, columns: Sequence[str] | None, entities: Sequence[str]) -> Labelled:
    """Find candidates in ``columns`` (None for all) and where they hold; entities and times are never spelled out.

    Raises
    ------
    TableError
        When there are no labels, they are of other events, or a file is cut off.
    """
    files = partitions(project.table("events"))
    places, totals = _places(project, task, files)
    roles = _roles(project, columns, entities)
    wanted = list(dict.fromkeys([*roles, *entities]))
    finder = Finder(roles, FEW)
    progress = Progress("lf suggest: rows looked at", 2 * sum(len(each) for pair in places.values() for each in pair))
    for name, file in files.items():
        labels = labels_of(project, task, name)
        at = np.concatenate(places[name])
        targets = np.sort(at[~labels.covered[at] | labels.undecided[at]])
        for rows in _read(file, wanted, targets):
            finder.look(rows)
            progress.add(rows.num_rows)
    candidates = finder.settle()
    held = [_Holding(candidates, entities), _Holding(candidates, entities)]
    said: list[tuple[np.ndarray, ...]] = []
    for name, file in files.items():
        labels, (_, covered) = labels_of(project, task, name), places[name]
        said.append((labels.probabilities[covered], labels.votes[covered], labels.undecided[covered]))
        for holding, at in zip(held, places[name], strict=True):
            for rows in _read(file, wanted, at):
                holding.add(rows)
                progress.add(rows.num_rows)
    probabilities, votes, undecided = (np.concatenate(each) for each in zip(*said, strict=True))
    by_function = others_votes(project, task, {name: covered for name, (_, covered) in places.items()}, "").votes
    return Labelled(candidates, held[0].group(), held[1].group(), probabilities, votes, by_function, undecided, totals)


def labels_of(project: Project, task: str, partition: str) -> LabelsOfPartition:
    """The labels of a partition; raises `TableError` when they are missing or of other events."""
    key = project.params.events.key
    names = [f"p_{name}" for name in project.task(task).classes]
    file = project.table(f"labels/{task}") / f"{partition}.parquet"
    labels = read_partition(file, [key, "covered", "n_votes", *names])
    if not labels[key].equals(read_partition(project.table("events") / file.name, [key])[key]):
        raise TableError(f"{file} holds labels of other events than data/events/{file.name}; run `dvc repro label`.")
    probabilities = np.stack([labels[name].to_numpy() for name in names], axis=1)
    covered, votes = labels["covered"].to_numpy(), labels["n_votes"].to_numpy().astype(np.int64)
    undecided = covered & ((votes == 1) | (probabilities.max(axis=1, initial=0) < UNDECIDED))
    return LabelsOfPartition(covered, undecided, probabilities, votes)


def entity_columns(project: Project) -> list[str]:
    """The columns of the events that are entities of features, as the manifests of ``data/features`` name them."""
    manifests = sorted(project.table("features").glob("*.manifest.json"))
    return list(dict.fromkeys(str(read_json(file)["entity"]) for file in manifests))


def _places(
    project: Project, task: str, files: dict[str, Path]
) -> tuple[dict[str, tuple[Places, Places]], dict[str, int]]:
    """Which rows of each partition are looked at, uncovered and covered ones, and how many there are in all."""
    sizes, undecided = {}, 0
    for name in files:
        labels = labels_of(project, task, name)
        sizes[name] = (int((~labels.covered).sum()), int(labels.covered.sum()))
        undecided += int(labels.undecided.sum())
    uncovered, covered = (sum(size[kind] for size in sizes.values()) for kind in (0, 1))
    chosen = (evenly(uncovered, ROWS), evenly(covered, ROWS))
    before, places = [0, 0], {}
    for name in files:
        held = labels_of(project, task, name).covered
        found = []
        for kind, rows in enumerate((np.flatnonzero(~held), np.flatnonzero(held))):
            inside = chosen[kind][(chosen[kind] >= before[kind]) & (chosen[kind] < before[kind] + len(rows))]
            found.append(rows[inside - before[kind]])
            before[kind] += len(rows)
        places[name] = (found[0], found[1])
    return places, {"all": uncovered + covered, "uncovered": uncovered, "undecided": undecided}


def _roles(project: Project, columns: Sequence[str] | None, entities: Sequence[str]) -> dict[str, Role]:
    """What can be asked of each column; of entities only whether there is one, for a value would name somebody."""
    schema = open_partition(next(iter(partitions(project.table("events")).values()))).schema_arrow
    contract = project.params.events
    names = [name for name in columns or schema.names if name not in (contract.key, contract.time)]
    sample = take_sample(project, names, ROWS_FOR_ROLES).rows
    return {name: "other" if name in entities else role_of(sample[name]) for name in names}


def _read(file: Path, columns: Sequence[str], places: Places) -> Iterator[pa.Table]:
    """The rows of a partition at ``places``, batch by batch."""
    first = 0
    if not len(places):
        return
    for batch in open_partition(file).iter_batches(BATCH, columns=list(columns)):
        inside = places[(places >= first) & (places < first + batch.num_rows)] - first
        if len(inside):
            yield pa.Table.from_batches([batch]).select(columns).take(pa.array(inside))
        first += batch.num_rows


class _Holding:
    """Where candidates hold, and who rows are about, added up."""

    def __init__(self, candidates: Sequence[Candidate], entities: Sequence[str]) -> None:
        self.incidence, self.names = Incidence(candidates), entities
        self.known: list[dict[object, int]] = [{} for _ in entities]
        self.numbers: list[list[int]] = [[] for _ in entities]

    def add(self, rows: pa.Table) -> None:
        self.incidence.add(rows)
        for name, known, numbers in zip(self.names, self.known, self.numbers, strict=True):
            values = pc.dictionary_encode(rows[name]).combine_chunks() if rows.num_rows else None
            if values is None:
                continue
            here = [known.setdefault(value, len(known)) for value in values.dictionary.to_pylist()]
            numbers += [-1 if place is None else here[place] for place in values.indices.to_pylist()]

    def group(self) -> Group:
        return Group(self.incidence.matrix(), [np.array(numbers, np.int64) for numbers in self.numbers])
