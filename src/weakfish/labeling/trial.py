"""Try one labeling function on a sample of the events: what it votes, adds and contradicts."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import module_from_spec
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, Literal

import ibis
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from scipy.sparse import csc_matrix

from weakfish import engine as compute
from weakfish.contracts.tables import GOLD_LABEL, folder, open_partition, partitions, read_partition, read_table
from weakfish.contracts.votes_file import ABSTAIN, FAILED, Faults, Votes
from weakfish.errors import LabelingFunctionError, TableError, UnknownName, UserError, WeakfishError
from weakfish.files import read_json
from weakfish.labeling.candidates import Candidate, Finder, Incidence, Role, role_of
from weakfish.labeling.label_model import majority
from weakfish.labeling.matrix import EVENTS_BATCH, EventHashes, EventSample, Places, evenly, take_sample, votes_of
from weakfish.labeling.regex import Search
from weakfish.labeling.workers import LEAST_ROWS, Applied, joined
from weakfish.project.paths import Project
from weakfish.project.runs import Progress
from weakfish.rules.columnar import ColumnarLabelingFunction
from weakfish.rules.loading import FOLDER, check_vote, classes_of, events_schema, load_functions, module_of
from weakfish.rules.snorkel_functions import LabelingFunction, wrapped

# type: ignore[import-untyped]


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


AS_TRIED = "__as_tried"
"""What the name of a draft's module ends in, so that it takes no other module's place."""


@dataclass(frozen=True)
class FoundFunction:
    """A labeling function and where it stands: a module of ``labeling_functions/``, or a file from the root."""

    function: LabelingFunction
    where: str


def find_function(project: Project, task: str, name: str, schema: pa.Schema) -> FoundFunction:
    """The function that ``name``, NAME or FILE:FUNCTION, stands for, ready for events of ``schema``.

    Raises
    ------
    UnknownName
        When there is no such function.
    UserError
        When the file is not there, lies outside of the project or cannot be imported, or what it holds under the name
        is no labeling function.
    LabelingFunctionError
        When it is no condition on columns of the events, or votes for what is no class.
    """
    path, colon, inside = name.rpartition(":")
    if not colon:
        known = {function.name: function for function in load_functions(project, task)}
        if name not in known:
            here = f"{FOLDER}/ for task {task}" if len(project.params.tasks) > 1 else f"{FOLDER}/"
            raise UnknownName("labeling function", name, known, f"{here} (a draft is tried as FILE:FUNCTION)")
        return FoundFunction(known[name], module_of(known[name]))
    file = _inside(project, path)
    where = str(file.relative_to(project.root.resolve()))
    function = _named(_imported(project, file, where), inside, where)
    if isinstance(function, ColumnarLabelingFunction):
        function.schema = schema
        for label in function.conditions(ibis.table(ibis.Schema.from_pyarrow(schema))):
            check_vote(label, function.name, f"{where}, @votes", classes_of(project, task))
    return FoundFunction(function, where)


def _inside(project: Project, path: str) -> Path:
    """The file, by its path from the working directory or from the project's root; symbolic links are followed."""
    root = project.root.resolve()
    found = [file.resolve() for file in (Path.cwd() / path, root / path) if _is_file(file)]
    within = [file for file in found if file.is_relative_to(root)]
    if found and not within:
        raise UserError(f"{path} lies outside of the project ({root}); copy it into the project to try it.")
    if not within or within[0].suffix != ".py":
        raise UserError(f"There is no Python file {path!r} in {root}; a draft is tried as FILE:FUNCTION.")
    return within[0]


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that no file can have
        return False


def _imported(project: Project, file: Path, where: str) -> ModuleType:
    if str(project.root) not in sys.path:
        sys.path.insert(0, str(project.root))
    name = _module_name(where)
    loader = _Fresh(name, str(file))
    module = module_from_spec(ModuleSpec(name, loader, origin=str(file)))
    module.__file__ = str(file)
    sys.modules[name] = module
    try:
        loader.exec_module(module)
    except WeakfishError:
        raise
    except SyntaxError as error:
        raise UserError(f"{where} is not Python: line {error.lineno}, {error.msg}; correct it there.") from error
    except (Exception, SystemExit) as error:
        raise UserError(f"{where} cannot be imported: {type(error).__name__}: {error}; correct it there.") from error
    return module


def _module_name(where: str) -> str:
    """A name that no other module has; within the file's own package, so that its relative imports find their way."""
    *folders, stem = Path(where).with_suffix("").parts
    package = folders if all(folder.isidentifier() for folder in folders) else []
    return ".".join([*package, re.sub(r"\W", "_", stem) + AS_TRIED])


class _Fresh(SourceFileLoader):
    """Reads the source each time: a draft is edited faster than the clock of compiled files ticks."""

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        code: CodeType = self.source_to_code(self.get_data(path), path)
        return code


def _named(module: ModuleType, name: str, where: str) -> LabelingFunction:
    items = vars(module)
    functions = {key: item for key, item in items.items() if isinstance(item, LabelingFunction)}
    functions = {function.name: function for function in functions.values()} | functions
    if name in functions:
        return functions[name]
    if callable(items.get(name)):
        raise LabelingFunctionError(
            f"{name!r} in {where} is a plain function; make it a labeling function with @votes(CLASS) or Snorkel's "
            "@labeling_function()."
        )
    raise UnknownName("labeling function", name, functions, where)


def firing(compared: Compared, number: int) -> Places:
    """``number`` rows where it votes."""
    return _some(compared.fires, number)


def disagreeing(compared: Compared, number: int) -> Places:
    """``number`` rows where it is contradicted: half by dev gold, half by the others' majority alone, if there are."""
    wrong, against = compared.wrong, compared.against_majority & ~compared.wrong
    by_gold = min(int(wrong.sum()), max(number - number // 2, number - int(against.sum())))
    return np.sort(np.concatenate([_some(wrong, by_gold), _some(against, number - by_gold)]))


def account(compared: Compared, keys: pa.ChunkedArray, row: int) -> dict[str, Any]:
    """What is said of a row: its key, the vote, how many others vote for each class, its dev gold label."""
    classes, others = compared.classes, compared.others[row]
    counts = {name: int((others == label).sum()) for label, name in enumerate(classes)}
    vote, gold = int(compared.votes[row]), int(compared.gold[row])
    key = keys[row].as_py()
    return {
        "key": key if isinstance(key, str | int) else str(key),
        "vote": None if vote == ABSTAIN else classes[vote],
        "others": {name: count for name, count in counts.items() if count},
        "gold": None if gold == UNKNOWN else classes[gold],
    }


def _some(rows: Bools, number: int) -> Places:
    found = np.flatnonzero(rows).astype(np.int64)
    return found[evenly(len(found), number)]


BATCH = 1_000
"""Rows that a row function gets at a time: after each, progress is said."""

MOST_COLUMNS = 6
"""Columns that are shown unless asked for."""


@dataclass(frozen=True)
class Trial:
    """What a function does on a sample.

    Attributes
    ----------
    figures : dict
        Numbers and keys, as `weakfish lf try --json` prints them; docs/labeling.md has the fields.
    shown : pyarrow.Table
        The values of the example rows, firing ones first, in the order of ``figures["examples"]``.
    doc : str
        What the function says of itself.
    columns : list of str
        The columns of ``shown``.
    searches : list of Search
        What the function looks for in text.
    exception : str
        The first that it failed with, ``Type: message``.
    """

    figures: dict[str, Any]
    shown: pa.Table
    doc: str
    columns: list[str]
    searches: list[Search]
    exception: str


def try_function(
    project: Project, task: str, name: str, rows: int, examples: int, columns: Sequence[str] | None = None
) -> Trial:
    """Apply NAME or FILE:FUNCTION to ``rows`` of the events, and pick ``examples`` of each kind.

    Parameters
    ----------
    columns
        What to keep of the examples; None for the time and the columns that the function reads.

    Raises
    ------
    UserError
        When there is no such function, file or column, or the file cannot be imported.
    LabelingFunctionError
        When the function cannot be computed, or returns what is not a vote.
    TableError
        When there are no events, or a table is cut off.
    """
    schema = events_schema(project)
    if schema is None:
        raise TableError("There are no events in data/events to try it on; run `dvc repro accept`, which makes them.")
    key = project.params.events.key
    candidate = find_function(project, task, name, schema)
    function = candidate.function
    classes = {function.name: classes_of(project, task)}
    applied = Applied(compute.connect(), [function], schema, key, classes)
    shown = _shown(project, schema, applied, columns)
    sample = take_sample(project, list(dict.fromkeys([key, *applied.columns, *shown])), rows)
    votes, faults = _votes(function, applied, sample)
    compared, others, notes = _compared(project, task, sample, votes, function.name)
    places = [firing(compared, examples), disagreeing(compared, examples)]
    fires, disagrees = ([account(compared, sample.rows[key], int(row)) for row in each] for each in places)
    figures = {
        "task": task,
        "function": function.name,
        "where": candidate.where,
        "kind": "columns" if applied.plan else "rows",
        "reads": _reads(applied, key),
        "sample": {"rows": len(votes), "of": sample.of, "partitions": len(sample.places)},
        "faults": {"rows": faults.count, "exception": faults.exception.partition(":")[0] or None, "keys": faults.rows},
        **_figures(compared, others),
        "notes": notes,
        "examples": {"fires": fires, "disagrees": disagrees},
    }
    values = sample.rows.select(shown).take(pa.array(np.concatenate(places)))
    searches = applied.plan.searches if applied.plan else []
    return Trial(figures, values, wrapped(function).__doc__ or "", shown, searches, faults.exception)


def _figures(compared: Compared, others: Others | None) -> dict[str, Any]:
    own = others.own if others else None
    return {
        "classes": compared.classes,
        "coverage": {"rows": int(compared.fires.sum()), "by_class": compared.by_class(compared.fires)},
        "gold": against_gold(compared),
        "others": against_others(compared, others.names) if others else None,
        "contradicted": int(compared.contradicted.sum()),
        "changed": None if own is None else int((compared.votes != own).sum()),
    }


def _shown(project: Project, schema: pa.Schema, applied: Applied, asked: Sequence[str] | None) -> list[str]:
    """The columns of examples, without the key, which names them in any case."""
    key, time = project.params.events.key, project.params.events.time
    for name in asked or ():
        if name not in schema.names:
            raise UnknownName("column", name, schema.names, "data/events")
    wanted = [time, *_reads(applied, key)][: MOST_COLUMNS + 1] if asked is None else asked
    return [name for name in dict.fromkeys(wanted) if name != key]


def _reads(applied: Applied, key: str) -> list[str]:
    """The columns that the function reads, as far as can be told."""
    if applied.plan:
        return list(applied.plan.columns)
    return [name for name in applied.columns if name != key]


def _votes(function: LabelingFunction, applied: Applied, sample: EventSample) -> tuple[Votes, Faults]:
    """The votes on a sample; it abstains where the function raised."""
    rows = sample.rows.select([name for name in sample.rows.column_names if name in applied.columns])
    progress, parts = Progress(f"lf try: votes of {function.name}", rows.num_rows), []
    step = LEAST_ROWS if applied.plan else BATCH
    for start in range(0, max(1, rows.num_rows), step):
        part = rows.slice(start, step)
        parts.append(applied.to(part, start)[function.name])
        progress.add(part.num_rows)
    votes, faults = joined(parts)
    return np.where(votes == FAILED, np.int8(ABSTAIN), votes), faults


def _compared(
    project: Project, task: str, sample: EventSample, votes: Votes, tried: str
) -> tuple[Compared, Others | None, list[str]]:
    """The votes beside those of others and dev gold, and what is to be said of these.

    A function can be tried without the others, as long as they have no votes or cannot make any.
    """
    classes, notes = project.task(task).classes, []
    others, silent = None, np.empty((len(votes), 0), np.int8)
    try:
        others = others_votes(project, task, sample.places, tried)
    except TableError as error:
        notes.append(f"Not compared with other functions: {error}")
    gold, strange = DevGold(project, task).of(sample.rows[project.params.events.key])
    if strange:
        notes.append(
            f"Labels in data/gold/{task}/dev that are no classes of the task are passed over: {strange:,} here."
        )
    return Compared(votes, others.votes if others else silent, gold, classes), others, notes
