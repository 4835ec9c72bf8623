"""What rules could look for in rows that the functions leave open, and on which rows each candidate holds.

Words and phrases of two words in columns of text, values of columns that have few, bounds of numbers, yes or no, and
whether there is a value at all. Only what several target rows share becomes a candidate; texts are not kept.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from scipy.sparse import csc_matrix, csr_matrix  # type: ignore[import-untyped]
from scipy.special import bdtr  # type: ignore[import-untyped]

from weakfish.contracts.manifests import FeaturesManifest, feature_tables, read_manifest
from weakfish.contracts.tables import partitions, read_partition, schema_of
from weakfish.contracts.votes_file import Votes
from weakfish.errors import TableError
from weakfish.labeling.matrix import Places, evenly, rows_at, take_sample
from weakfish.labeling.trial import UNKNOWN, Bools, DevGold, Ints, others_votes
from weakfish.project.paths import Project
from weakfish.project.runs import Progress

Kind = Literal["word", "value", "at_least", "at_most", "holds", "holds_not", "missing", "present"]
Role = Literal["text", "values", "number", "flag", "other"]

TOKEN = re.compile(r"[^\W_]+|[^\w\s]+|_+")
"""Words, and what stands between them: a phrase has nothing but white space between its words."""

LONGEST = 30
"""Characters of a word; what is longer is no word."""

MOST_WORDS = 30_000
"""Words and phrases of a column that are looked at, those in most target rows."""

MOST_COUNTED = 2_000_000
"""Words and phrases that are counted at once; above it those seen only once are forgotten."""

FEW_VALUES = 0.1
"""Different texts, as a share of rows that have one, up to which a column is one of values and not of text."""

STEPS = 40
"""Of the quantiles of a number that can become bounds."""

FEW = 3
"""Target rows that a candidate holds on at least."""

UNDECIDED = 0.75
"""Probability of the most probable class below which a row counts as undecided."""

ROWS = 20_000
"""Uncovered rows, and covered ones, that are looked at."""

DOUBT = 0.025
"""The chance below which dev gold refutes a precision."""

ROWS_FOR_ROLES = 2_000
"""Rows that tell text from values."""


@dataclass(frozen=True, order=True)
class Candidate:
    """A condition on one column; ``value`` is the word, the value or the bound, None where the kind needs none."""

    column: str
    kind: Kind
    value: Any = None


def words_of(text: str) -> set[str]:
    """Words of two letters or more, in small letters, and phrases of two of them with only white space between."""
    found, before, end = set(), None, -1
    for match in TOKEN.finditer(text.lower()):
        token = match[0]
        if not (token[0].isalpha() and 2 <= len(token) <= LONGEST):
            before = None
            continue
        found.add(token)
        if before is not None and match.start() > end:
            found.add(f"{before} {token}")
        before, end = token, match.end()
    return found


def role_of(column: pa.ChunkedArray) -> Role:
    """What can be asked of a column, from some of its rows."""
    if pa.types.is_boolean(column.type):
        return "flag"
    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        return "number"
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        return "other"
    there = column.drop_null()
    spaced = pc.mean(pc.match_substring_regex(there, r"\S\s+\S").cast(pa.int8())).as_py() or 0
    few = pc.count_distinct(there).as_py() <= FEW_VALUES * len(there)
    return "text" if spaced > 0.5 and not few else "values"


class Finder:
    """Finds candidates in columns by their roles: shown all target rows (`look`), then asked what they share."""

    def __init__(self, roles: Mapping[str, Role]) -> None:
        self.roles = dict(roles)
        self.counts: dict[str, Counter[str]] = {name: Counter() for name in roles}
        self.numbers: dict[str, list[np.ndarray]] = {name: [] for name in roles}

    def look(self, rows: pa.Table) -> None:
        """Count what target rows have; memory is bounded by what is counted, see `MOST_COUNTED`."""
        for name, role in self.roles.items():
            column, counts = rows[name].drop_null(), self.counts[name]
            if role == "text":
                for text in column.to_pylist():
                    counts.update(words_of(text))
            elif role == "values":
                found = pc.value_counts(column)
                counts.update(dict(zip(*(found.field(at).to_pylist() for at in (0, 1)), strict=True)))
            elif role == "number":
                values = _numbers(column)
                self.numbers[name].append(values[np.isfinite(values)])
            if len(counts) > MOST_COUNTED:
                self.counts[name] = Counter({text: count for text, count in counts.items() if count > 1})

    def candidates(self) -> Iterator[Candidate]:
        """The candidates, in a fixed order."""
        for name, role in self.roles.items():
            kinds: list[Kind] = ["missing", "present", *(("holds", "holds_not") if role == "flag" else ())]
            yield from (Candidate(name, kind) for kind in kinds)
            often = [(-count, text) for text, count in self.counts[name].items() if count >= FEW and text.strip()]
            for _, text in sorted(often)[:MOST_WORDS]:
                yield Candidate(name, "word" if role == "text" else "value", text)
            for bound in _bounds(self.numbers[name]):
                yield Candidate(name, "at_least", bound)
                yield Candidate(name, "at_most", bound)


def _numbers(column: pa.ChunkedArray) -> np.ndarray:
    values: np.ndarray = pc.cast(column, pa.float64()).to_numpy()
    return values


def _bounds(parts: list[np.ndarray]) -> list[float]:
    """Quantiles, rounded to three digits so that a bound reads as one that a person would write."""
    values = np.concatenate([np.empty(0), *parts])
    if len(np.unique(values)) < 2:
        return []
    found = np.quantile(values, np.arange(1, STEPS) / STEPS)
    found = np.round(found) if (values == np.round(values)).all() else found
    return sorted({float(f"{bound:.3g}") for bound in found})


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


class _Incidence:
    """On which rows candidates hold, and whom these are about, added up batch by batch."""

    def __init__(self, candidates: Sequence[Candidate], entities: Sequence[str]) -> None:
        self._candidates = candidates
        self._texts: dict[tuple[str, Kind], dict[str, int]] = {}
        for place, candidate in enumerate(candidates):
            if candidate.kind in ("word", "value"):
                self._texts.setdefault((candidate.column, candidate.kind), {})[candidate.value] = place
        self._entities: dict[str, list[pa.ChunkedArray]] = {name: [] for name in entities}
        self._rows, self._places = [np.empty(0, np.int32)], [np.empty(0, np.int32)]
        self._count = 0

    def add(self, rows: pa.Table) -> None:
        for (name, kind), known in self._texts.items():
            for row, text in enumerate(rows[name].to_pylist(), self._count):
                held = () if text is None else words_of(text) if kind == "word" else (text,)
                places = [known[word] for word in held if word in known]
                self._places.append(np.array(places, np.int32))
                self._rows.append(np.full(len(places), row, np.int32))
        for place, candidate in enumerate(self._candidates):
            if candidate.kind not in ("word", "value"):
                at = np.flatnonzero(_holds(candidate, rows[candidate.column])).astype(np.int32)
                self._places.append(np.full(len(at), place, np.int32))
                self._rows.append(at + self._count)
        for name, values in self._entities.items():
            values.append(rows[name])
        self._count += rows.num_rows

    def examined(self) -> Examined:
        rows, places = np.concatenate(self._rows), np.concatenate(self._places)
        shape = (self._count, len(self._candidates))
        holds = csr_matrix((np.ones(len(rows), np.float32), (rows, places)), shape=shape).tocsc()
        return Examined(holds, [_numbered(values) for values in self._entities.values()])


def _holds(candidate: Candidate, column: pa.ChunkedArray) -> np.ndarray:
    if candidate.kind in ("missing", "present"):
        return np.asarray(column.is_null().to_numpy() == (candidate.kind == "missing"))
    if candidate.kind in ("holds", "holds_not"):
        return np.asarray(pc.fill_null(pc.equal(column, candidate.kind == "holds"), False).to_numpy())
    values = _numbers(column)
    return np.asarray(values >= candidate.value if candidate.kind == "at_least" else values <= candidate.value)


def _numbered(values: list[pa.ChunkedArray]) -> Places:
    if not values:
        return np.empty(0, np.int64)
    chunks = [chunk for column in values for chunk in column.chunks]
    encoded = pa.chunked_array(chunks, values[0].type).combine_chunks().dictionary_encode()
    return np.asarray(pc.fill_null(encoded.indices, -1).to_numpy(), np.int64)


@dataclass(frozen=True)
class LabelsOfPartition:
    """The labels of one partition, row by row as its events; undecided rows are covered ones, see `UNDECIDED`."""

    covered: Bools
    undecided: Bools
    probabilities: npt.NDArray[np.float64]
    votes: Places


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
    dev : Dev or None
        Rows with dev gold; None where nobody looked.
    """

    candidates: list[Candidate]
    uncovered: Examined
    covered: Examined
    probabilities: npt.NDArray[np.float64]
    votes: Places
    by_function: Votes
    undecided: Bools
    totals: dict[str, int]
    dev: Dev | None = None


@dataclass(frozen=True)
class Dev:
    """Rows with dev gold: where each candidate holds, (rows, candidates), the class, and whether they are of a kind."""

    holds: csc_matrix
    gold: Ints
    uncovered: Bools
    undecided: Bools

    def refutes(self, holds: csc_matrix, label: int, kind: str, wanted: float) -> Bools:
        """Whether conditions for the class ``label`` are right so seldom that their precision is below ``wanted``.

        They are judged on all rows, and on those of the ``kind`` that they are for: where the chance of so few right
        ones, were the precision ``wanted``, is below `DOUBT`. ``holds`` is (rows, conditions).
        """
        found: Bools = np.zeros(holds.shape[1], np.bool_)
        for rows in (np.ones(len(self.gold), np.bool_), getattr(self, kind)):
            right, known = (holds.T @ (rows & these) for these in (self.gold == label, self.gold != UNKNOWN))
            found |= bdtr(right, known.astype(np.int64), wanted) < DOUBT
        return found


def read_labelled(project: Project, task: str, columns: Sequence[str] | None) -> Labelled:
    """Find candidates in ``columns`` (None for all) and where they hold; entities and times are never spelled out.

    Labels are read three times, one partition at a time: to count rows, to find candidates, to see where these hold.

    Raises
    ------
    TableError
        When there are no labels, they are of other events, or a file is cut off.
    """
    files, totals = partitions(project.table("events")), Counter[str]()
    for name in files:
        labels = labels_of(project, task, name)
        kinds = {"all": labels.covered >= 0, "uncovered": ~labels.covered, "undecided": labels.undecided}
        totals.update({kind: int(rows.sum()) for kind, rows in kinds.items()})
    chosen = [evenly(of, ROWS) for of in (totals["uncovered"], totals["all"] - totals["uncovered"])]
    entities, roles = _roles(project, columns)
    wanted, finder = list(dict.fromkeys([*roles, *entities])), Finder(roles)
    progress = Progress("lf suggest: rows looked at", 2 * sum(map(len, chosen)))
    places: dict[str, list[Places]] = {}
    for name, file in files.items():
        labels = labels_of(project, task, name)
        groups = [np.flatnonzero(labels.covered == covered) for covered in (False, True)]
        places[name] = [rows[at[at < len(rows)]] for rows, at in zip(groups, chosen, strict=True)]
        chosen = [at[at >= len(rows)] - len(rows) for rows, at in zip(groups, chosen, strict=True)]
        targets = np.sort(np.concatenate(places[name]))
        for rows in rows_at(file, wanted, targets[~labels.covered[targets] | labels.undecided[targets]]):
            finder.look(rows)
            progress.add(rows.num_rows)
    candidates = list(finder.candidates())
    held = [_Incidence(candidates, entities) for _ in range(3)]
    said, of_dev = [], []
    dev = _dev_rows(project, task, files)
    for name, file in files.items():
        labels, covered, (known, gold) = labels_of(project, task, name), places[name][1], dev[name]
        said.append((labels.probabilities[covered], labels.votes[covered], labels.undecided[covered]))
        of_dev.append((gold, ~labels.covered[known], labels.undecided[known]))
        for incidence, at in zip(held, (*places[name], known), strict=True):
            for rows in rows_at(file, wanted, at):
                incidence.add(rows)
                progress.add(rows.num_rows)
    probabilities, votes, undecided = (np.concatenate(each) for each in zip(*said, strict=True))
    by_function = others_votes(project, task, {name: covered for name, (_, covered) in places.items()}, "").votes
    uncovered, covered_rows, on_dev = (incidence.examined() for incidence in held)
    with_gold = Dev(on_dev.holds, *(np.concatenate(each) for each in zip(*of_dev, strict=True)))
    return Labelled(
        candidates, uncovered, covered_rows, probabilities, votes, by_function, undecided, dict(totals), with_gold
    )


def _dev_rows(project: Project, task: str, files: Mapping[str, Path]) -> dict[str, tuple[Places, Ints]]:
    """By partition the places of rows with dev gold, and their classes; of very many an even sample."""
    known, key, found = DevGold(project, task), project.params.events.key, {}
    for name, file in files.items():
        gold, _ = known.of(read_partition(file, [key])[key])
        found[name] = (places := np.flatnonzero(gold != UNKNOWN), gold[places])
    chosen = evenly(sum(len(places) for places, _ in found.values()), ROWS)
    for name, (places, gold) in found.items():
        here, chosen = chosen[chosen < len(places)], chosen[chosen >= len(places)] - len(places)
        found[name] = (places[here], gold[here])
    return found


def _roles(project: Project, columns: Sequence[str] | None) -> tuple[list[str], dict[str, Role]]:
    """The entities of features, and what can be asked of each column.

    Of entities only whether there is one, for a value would name somebody.
    """
    schema, contract = schema_of(project.table("events")), project.params.events
    manifests = [read_manifest(project, FeaturesManifest, table) for table in feature_tables(project)]
    entities = [name for name in dict.fromkeys(each.entity for each in manifests) if name in schema.names]
    names = [name for name in columns or schema.names if name not in (contract.key, contract.time)]
    sample = take_sample(project, names, ROWS_FOR_ROLES).rows
    return entities, {name: "other" if name in entities else role_of(sample[name]) for name in names}
