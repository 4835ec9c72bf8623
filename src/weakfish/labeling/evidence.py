"""What one function's votes are worth beside those of others: votes and gold labels in, counts out.

Shares are left to whoever prints: every figure is a count of rows, or a list of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from scipy.sparse import csc_matrix  # type: ignore[import-untyped]

from weakfish.contracts.tables import GOLD_LABEL, folder, open_partition, partitions, read_partition, read_table
from weakfish.contracts.votes_file import ABSTAIN, Votes
from weakfish.errors import TableError
from weakfish.files import read_json
from weakfish.labeling.candidates import Candidate, Finder, Incidence, Role, role_of
from weakfish.labeling.label_model import majority
from weakfish.labeling.matrix import EVENTS_BATCH, EventHashes, Places, evenly, take_sample, votes_of
from weakfish.project.paths import Project
from weakfish.project.runs import Progress

UNKNOWN = -1
"""The gold label of a row that has none, and the majority's class where there is none."""

Z = 1.959964
"""Of the 95 % interval."""

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Compared:
    """Rows are those of the sample in every array.

    Attributes
    ----------
    votes : numpy.ndarray, int8, (rows,)
        The function's own; -1 abstains.
    others : numpy.ndarray, int8, (rows, functions)
        Votes of all others; no columns where there are none to compare with.
    gold : numpy.ndarray, int64, (rows,)
        The dev gold label, `UNKNOWN` where there is none.
    classes : list of str
    """

    votes: Votes
    others: Votes
    gold: Ints
    classes: list[str]

    @cached_property
    def fires(self) -> Bools:
        """Where it votes."""
        found: Bools = self.votes != ABSTAIN
        return found

    @cached_property
    def adds(self) -> Bools:
        """Where it votes and no other function does."""
        found: Bools = self.fires & ~(self.others != ABSTAIN).any(axis=1)
        return found

    @cached_property
    def conflicts(self) -> Bools:
        """Where some other function votes otherwise."""
        differ = (self.others != ABSTAIN) & (self.others != self.votes[:, None])
        found: Bools = self.fires & differ.any(axis=1)
        return found

    @cached_property
    def majority(self) -> Ints:
        """The class that most others vote for; `UNKNOWN` where none votes, or where classes tie."""
        won = majority(self.others, len(self.classes)) == 1
        found: Ints = np.where(won.any(axis=1), won.argmax(axis=1), UNKNOWN)
        return found

    @cached_property
    def against_majority(self) -> Bools:
        """Where the others have a majority, and it votes otherwise."""
        most = self.majority
        found: Bools = self.fires & (most != UNKNOWN) & (most != self.votes)
        return found

    @cached_property
    def wrong(self) -> Bools:
        """Where dev gold says otherwise."""
        found: Bools = self.fires & (self.gold != UNKNOWN) & (self.gold != self.votes)
        return found

    @cached_property
    def contradicted(self) -> Bools:
        """Where dev gold or the others' majority says otherwise."""
        found: Bools = self.wrong | self.against_majority
        return found

    def by_class(self, rows: Bools) -> dict[str, int]:
        """How many of ``rows`` it gives to each class that it gives any."""
        counts = {name: int((self.votes[rows] == label).sum()) for label, name in enumerate(self.classes)}
        return {name: count for name, count in counts.items() if count}

    def right(self, rows: Bools) -> dict[str, int]:
        """Of ``rows``, on which it votes, those that have dev gold: how many, and on how many it is right."""
        known = rows & (self.gold != UNKNOWN)
        return {"votes": int(known.sum()), "correct": int((self.votes[known] == self.gold[known]).sum())}


def against_gold(compared: Compared) -> dict[str, Any] | None:
    """How often it is right on dev gold, in all and by class, beside the others' majority; None without gold.

    ``accuracy`` and ``interval`` (95 %, Wilson's) are null where it votes on no row with gold.
    """
    if not (compared.gold != UNKNOWN).any():
        return None
    found = compared.right(compared.fires)
    both = compared.fires & (compared.gold != UNKNOWN) & (compared.majority != UNKNOWN)
    by_class = {
        name: compared.right(compared.votes == label)
        for label, name in enumerate(compared.classes)
        if (compared.votes == label).any()
    }
    return {
        "rows": int((compared.gold != UNKNOWN).sum()),
        **found,
        "accuracy": found["correct"] / found["votes"] if found["votes"] else None,
        "interval": wilson(found["correct"], found["votes"]),
        "by_class": by_class,
        "majority": {
            "rows": int(both.sum()),
            "correct": int((compared.majority[both] == compared.gold[both]).sum()),
            "own_correct": int((compared.votes[both] == compared.gold[both]).sum()),
        },
    }


def against_others(compared: Compared, names: Sequence[str]) -> dict[str, Any]:
    """What it adds and with whom it agrees; ``names`` are the functions of the columns of ``others``."""
    adds, gold = compared.adds, compared.right(compared.adds)
    by_function = [
        {"name": name, **_pair(compared.votes, compared.others[:, column])} for column, name in enumerate(names)
    ]
    return {
        "functions": len(names),
        "adds": {"rows": int(adds.sum()), "by_class": compared.by_class(adds), "gold": gold},
        "conflicts": int(compared.conflicts.sum()),
        "against_majority": int(compared.against_majority.sum()),
        "by_function": sorted(by_function, key=lambda each: (-each["conflict"], -each["both"], each["name"])),
    }


def _pair(own: Votes, other: Votes) -> dict[str, int]:
    both = (own != ABSTAIN) & (other != ABSTAIN)
    agree = int((own[both] == other[both]).sum())
    return {"both": int(both.sum()), "agree": agree, "conflict": int(both.sum()) - agree}


def wilson(correct: int, votes: int) -> list[float] | None:
    """Wilson's 95 % interval of a share (Wilson 1927); None of no votes."""
    if not votes:
        return None
    share, square = correct / votes, Z * Z
    middle = (share + square / (2 * votes)) / (1 + square / votes)
    half = Z / (1 + square / votes) * (share * (1 - share) / votes + square / (4 * votes * votes)) ** 0.5
    return [max(0.0, middle - half), min(1.0, middle + half)]


@dataclass(frozen=True)
class Others:
    """Votes that lie in ``data/votes``, on the rows of a sample.

    Attributes
    ----------
    names : list of str
    votes : numpy.ndarray, int8, (rows, functions)
        -1 abstains, as does a function that failed.
    own : numpy.ndarray, int8, (rows,), or None
        Those of the function of the same name as the one tried, which is not among the others.
    """

    names: list[str]
    votes: Votes
    own: Votes | None


def others_votes(project: Project, task: str, places: Mapping[str, Places], tried: str) -> Others:
    """The votes of all functions that voted last but the one ``tried``.

    Raises
    ------
    TableError
        When there are no votes, or they are about other events.
    """
    manifest = project.table("votes") / f"{task}.manifest.json"
    if not manifest.is_file():
        raise TableError(f"There are no votes in data/votes/{task}; run `dvc repro vote`, which makes them.")
    names, contents, key = list(read_json(manifest)["functions"]), EventHashes(project), project.params.events.key
    parts = [np.empty((0, len(names)), np.int8)]
    for partition, chosen in places.items():
        found = votes_of(project, task, names, partition)
        file = project.table("events") / f"{partition}.parquet"
        if found.fingerprint != contents.keys(file, key):
            raise TableError(
                f"Votes in data/votes/{task} are on other events than those of data/events/{file.name}; "
                "run `dvc repro vote`."
            )
        parts.append(found.votes[chosen])
    votes = np.concatenate(parts)
    others = [column for column, name in enumerate(names) if name != tried]
    own = votes[:, names.index(tried)] if tried in names else None
    return Others([names[column] for column in others], votes[:, others], own)


class DevGold:
    """The gold labels of a task's dev part, read once; those of the test part are for `evaluate` alone.

    Raises
    ------
    TableError
        When the table is cut off.
    """

    def __init__(self, project: Project, task: str) -> None:
        dev, key = folder(project, task, "dev"), project.params.events.key
        self._keys, self._labels, self._known = pd.Index([]), np.empty(0, np.int64), np.empty(0, np.bool_)
        if not any(dev.glob("*.parquet")):
            return
        gold = read_table(dev, [key, GOLD_LABEL])
        places = pc.index_in(gold[GOLD_LABEL], pa.array(project.task(task).classes))
        keys = pd.Index(gold[key].to_pandas())
        first = ~keys.duplicated()
        self._keys, self._known = keys[first], pc.is_valid(gold[GOLD_LABEL]).to_numpy()[first]
        self._labels = pc.fill_null(places, UNKNOWN).to_numpy().astype(np.int64)[first]

    def of(self, keys: pa.ChunkedArray) -> tuple[Ints, int]:
        """The label of each key as a position in the task's classes, and on how many it is none of these."""
        if not len(self._keys):
            return np.full(len(keys), UNKNOWN), 0
        places = self._keys.get_indexer(pd.Index(keys.to_pandas()))
        found: Ints = np.where(places < 0, UNKNOWN, self._labels[places])
        return found, int(((found == UNKNOWN) & (places >= 0) & self._known[places]).sum())


Kind = Literal["uncovered", "undecided"]
"""Rows without a vote; rows with a single one, or whose most probable class has less than `UNDECIDED`."""

UNDECIDED = 0.75

ROWS = 20_000
"""Uncovered rows, and covered ones, that are looked at."""

ROWS_FOR_ROLES = 2_000
"""Rows that tell text from values."""

FEW = 3
"""Target rows that a candidate holds on at least."""


@dataclass(frozen=True)
class Examined:
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
    uncovered, covered : Examined
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
    uncovered: Examined
    covered: Examined
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
    for batch in open_partition(file).iter_batches(EVENTS_BATCH, columns=list(columns)):
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

    def group(self) -> Examined:
        return Examined(self.incidence.matrix(), [np.array(numbers, np.int64) for numbers in self.numbers])
