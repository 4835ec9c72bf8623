"""Try labeling functions on a sample of the events: what one votes, adds and contradicts, or a table of a module."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from weakfish.contracts.manifests import VotesManifest, manifest_file, read_manifest
from weakfish.contracts.pointers import listed
from weakfish.contracts.tables import GOLD_LABEL, by_period, folder, read_table
from weakfish.contracts.votes_file import ABSTAIN, FAILED, Votes
from weakfish.engine import duckdb as compute
from weakfish.errors import TableError, UnknownName, UserError
from weakfish.labeling.drafts import checked, drafts_of, find_function
from weakfish.labeling.label_model import majority
from weakfish.labeling.matrix import EventHashes, EventSample, Places, evenly, take_sample, votes_of
from weakfish.labeling.plan import Search
from weakfish.labeling.workers import ROWS_AT_ONCE, Applied, Outcome, joined
from weakfish.project.paths import Project
from weakfish.project.runs import Progress
from weakfish.rules.loading import classes_of, events_schema, module_of
from weakfish.rules.snorkel_functions import wrapped

UNKNOWN = -1
"""The gold label of a row that has none, and the majority's class where there is none."""

Z = 1.959964
"""Of the 95 % interval."""

BATCH = 1_000
"""Rows that a row function gets at a time, between two reports of progress."""

MOST_COLUMNS = 6
"""Columns that are shown unless asked for."""

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]


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
    searches : list of Search
        What the function looks for in text.
    exception : str
        The first that it failed with, ``Type: message``.
    """

    figures: dict[str, Any]
    shown: pa.Table
    doc: str
    searches: list[Search]
    exception: str


def try_function(
    project: Project, task: str, name: str, rows: int, examples: int, columns: Sequence[str] | None = None
) -> Trial:
    """Apply NAME or FILE:FUNCTION to ``rows`` of the events, and pick ``examples`` of each kind.

    A function can be tried without the others, as long as they have no votes or cannot make any.

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
    schema, key, time = _schema(project), project.params.events.key, project.params.events.time
    function, where = find_function(project, task, name, schema)
    applied = Applied(compute.connect(), [function], schema, key, {function.name: classes_of(project, task)})
    reads = applied.plan.columns if applied.plan else [name for name in applied.columns if name != key]
    for asked in columns or ():
        if asked not in schema.names:
            raise UnknownName("column", asked, schema.names, "data/events")
    wanted = [time, *reads][: MOST_COLUMNS + 1] if columns is None else columns
    shown = [name for name in dict.fromkeys(wanted) if name != key]  # the key names each example in any case
    sample = take_sample(project, list(dict.fromkeys([key, *applied.columns, *shown])), rows)
    votes, faults = _votes(applied, [function.name], sample)[function.name]
    classes, notes, others = project.task(task).classes, [], None
    try:
        others = others_votes(project, task, sample.places, function.name)
    except TableError as error:
        notes.append(f"Not compared with other functions: {error}")
    gold = _dev_gold(project, task, sample.rows[key], notes)
    compared = Compared(votes, others.votes if others else np.empty((len(votes), 0), np.int8), gold, classes)
    picked = {
        "fires": _some(compared.fires, examples),
        "disagrees": _disagreeing(compared, examples),
    }
    figures = {
        "task": task,
        "function": function.name,
        "where": where,
        "kind": "columns" if applied.plan else "rows",
        "reads": list(reads),
        "sample": {"rows": len(votes), "of": sample.of, "partitions": len(by_period(sample.places))},
        "faults": {"rows": faults.count, "exception": faults.exception.partition(":")[0] or None, "keys": faults.rows},
        "classes": classes,
        "coverage": {"rows": int(compared.fires.sum()), "by_class": compared.by_class(compared.fires)},
        "gold": _against_gold(compared),
        "others": _against_others(compared, others.names) if others else None,
        "contradicted": int(compared.contradicted.sum()),
        "changed": None if others is None or others.own is None else int((votes != others.own).sum()),
        "notes": notes,
        "examples": {
            kind: [_example(compared, sample.rows[key], int(row)) for row in rows] for kind, rows in picked.items()
        },
    }
    values = sample.rows.select(shown).take(pa.array(np.concatenate(list(picked.values()))))
    searches = applied.plan.searches if applied.plan else []
    return Trial(figures, values, wrapped(function).__doc__ or "", searches, faults.exception)


def try_module(project: Project, task: str, path: str, rows: int) -> dict[str, Any]:
    """Apply all functions of a Python file to ``rows`` of the events, and compare each with dev gold.

    Returns
    -------
    dict
        As `weakfish lf try FILE --json` prints it; docs/labeling.md has the fields.

    Raises
    ------
    UserError, LabelingFunctionError, TableError
        As `try_function` does; also when the file has no labeling function.
    """
    schema, key, classes = _schema(project), project.params.events.key, project.task(task).classes
    found, where, module = drafts_of(project, path)
    own = [function for function in found.values() if module_of(function) == module.__name__]
    functions = {function.name: checked(project, task, function, where, schema) for function in own}
    if not functions:
        raise UserError(f"There is no labeling function in {where}; make one with @votes(CLASS), or name another file.")
    kinds = dict.fromkeys(functions, classes_of(project, task))
    applied = Applied(compute.connect(), list(functions.values()), schema, key, kinds)
    sample, notes = take_sample(project, list(dict.fromkeys([key, *applied.columns])), rows), list[str]()
    gold = _dev_gold(project, task, sample.rows[key], notes)
    known = {name: int((gold == label).sum()) for label, name in enumerate(classes)}
    of, nothing, lines = sum(known.values()), np.empty((len(gold), 0), np.int8), []
    for name, (votes, faults) in _votes(applied, list(functions), sample).items():
        compared = Compared(votes, nothing, gold, classes)
        for voted, count in compared.by_class(compared.fires).items() or [(None, 0)]:
            right = compared.right(votes == classes.index(voted)) if voted else {"votes": 0, "correct": 0}
            base, precision = _share(known[voted], of) if voted else None, _share(right["correct"], right["votes"])
            line: dict[str, Any] = {
                "function": name,
                "class": voted,
                "rows": count,
                "faults": faults.count,
                "dev": right,
            }
            line |= {"coverage": count / max(1, len(votes)), "base_rate": base, "precision": precision}
            line["lift"] = precision / base if base and precision is not None else None
            line["recall"] = _share(right["correct"], known[voted]) if voted else None
            lines.append(line)
    return {
        "task": task,
        "where": where,
        "sample": {"rows": len(gold), "of": sample.of, "partitions": len(by_period(sample.places))},
        "dev": known,
        "notes": notes,
        "functions": lines,
    }


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _schema(project: Project) -> pa.Schema:
    schema = events_schema(project)
    if schema is None:
        raise TableError("There are no events in data/events to try it on; run `dvc repro accept`, which makes them.")
    return schema


def _dev_gold(project: Project, task: str, keys: pa.ChunkedArray, notes: list[str]) -> Ints:
    """The dev gold of rows; what is strange about it goes to ``notes``."""
    gold, strange = DevGold(project, task).of(keys)
    if strange:
        notes.append(f"{strange:,} label(s) in data/gold/dev/{task} are not classes of the task and were ignored.")
    return gold


def _votes(applied: Applied, names: Sequence[str], sample: EventSample) -> Outcome:
    """The votes of functions on a sample, by name; they abstain where they raised."""
    rows = sample.rows.select([name for name in sample.rows.column_names if name in applied.columns])
    progress, parts = Progress(f"lf try: votes of {', '.join(names)}", rows.num_rows), []
    step = BATCH if applied.by_row else ROWS_AT_ONCE
    for start in range(0, max(1, rows.num_rows), step):
        part = rows.slice(start, step)
        parts.append(applied.to(partial(iter, [part]), start))
        progress.add(part.num_rows)
    found = {name: joined([part[name] for part in parts]) for name in names}
    return {
        name: (np.where(votes == FAILED, np.int8(ABSTAIN), votes), faults) for name, (votes, faults) in found.items()
    }


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
    if not manifest_file(project, f"votes/{task}").is_file():
        raise TableError(f"There are no votes in data/votes/{task}; run `dvc repro vote`, which makes them.")
    names = list(read_manifest(project, VotesManifest, f"votes/{task}").functions)
    hashes, key = EventHashes(project), project.params.events.key
    parts = [np.empty((0, len(names)), np.int8)]
    for partition, chosen in places.items():
        found = votes_of(project, task, names, partition)
        found.check(hashes.keys(project.table("events") / f"{partition}.parquet", key))
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
        if not any(listed(dev)):
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


class Compared:
    """A function's votes on a sample beside those of others and dev gold; rows are those of the sample in every array.

    Parameters
    ----------
    votes : numpy.ndarray, int8, (rows,)
        The function's own; -1 abstains.
    others : numpy.ndarray, int8, (rows, functions)
        Votes of all others; no columns where there are none to compare with.
    gold : numpy.ndarray, int64, (rows,)
        The dev gold label, `UNKNOWN` where there is none.
    classes : list of str

    Attributes
    ----------
    fires, adds : numpy.ndarray, bool, (rows,)
        Where it votes; where it does and no other function does.
    conflicts : numpy.ndarray, bool, (rows,)
        Where some other function votes otherwise.
    majority : numpy.ndarray, int64, (rows,)
        The class that most others vote for; `UNKNOWN` where none votes, or where classes tie.
    against_majority, wrong : numpy.ndarray, bool, (rows,)
        Where the others have a majority, and it votes otherwise; where dev gold says otherwise.
    contradicted : numpy.ndarray, bool, (rows,)
        Where either does.
    """

    def __init__(self, votes: Votes, others: Votes, gold: Ints, classes: list[str]) -> None:
        self.votes, self.others, self.gold, self.classes = votes, others, gold, classes
        said, won = others != ABSTAIN, majority(others, len(classes)) == 1
        self.fires: Bools = votes != ABSTAIN
        self.adds: Bools = self.fires & ~said.any(axis=1)
        self.conflicts: Bools = self.fires & (said & (others != votes[:, None])).any(axis=1)
        self.majority: Ints = np.where(won.any(axis=1), won.argmax(axis=1), UNKNOWN)
        self.against_majority: Bools = self.fires & (self.majority != UNKNOWN) & (self.majority != votes)
        self.wrong: Bools = self.fires & (gold != UNKNOWN) & (gold != votes)
        self.contradicted: Bools = self.wrong | self.against_majority

    def by_class(self, rows: Bools) -> dict[str, int]:
        """How many of ``rows`` it gives to each class that it gives any."""
        return _by_class(self.votes[rows], self.classes)

    def right(self, rows: Bools) -> dict[str, int]:
        """Of ``rows``, on which it votes, those that have dev gold: how many, and on how many it is right."""
        known = rows & (self.gold != UNKNOWN)
        return {"votes": int(known.sum()), "correct": int((self.votes[known] == self.gold[known]).sum())}


def _by_class(votes: Votes, classes: Sequence[str]) -> dict[str, int]:
    counts = {name: int((votes == label).sum()) for label, name in enumerate(classes)}
    return {name: count for name, count in counts.items() if count}


def _against_gold(compared: Compared) -> dict[str, Any] | None:
    """How often it is right on dev gold, in all and by class, beside the others' majority; None without gold.

    ``accuracy`` and ``interval`` (95 %, Wilson's) are null where it votes on no row with gold.
    """
    known = compared.gold != UNKNOWN
    if not known.any():
        return None
    found = compared.right(compared.fires)
    both = compared.fires & known & (compared.majority != UNKNOWN)
    return {
        "rows": int(known.sum()),
        **found,
        "accuracy": found["correct"] / found["votes"] if found["votes"] else None,
        "interval": wilson(found["correct"], found["votes"]),
        "by_class": {
            name: compared.right(compared.votes == compared.classes.index(name))
            for name in compared.by_class(compared.fires)
        },
        "majority": {
            "rows": int(both.sum()),
            "correct": int((compared.majority[both] == compared.gold[both]).sum()),
            "own_correct": compared.right(both)["correct"],
        },
    }


def _against_others(compared: Compared, names: Sequence[str]) -> dict[str, Any]:
    """What it adds and with whom it agrees; ``names`` are the functions of the columns of ``others``."""
    by_function = []
    for name, other in zip(names, compared.others.T, strict=True):
        both = compared.fires & (other != ABSTAIN)
        agree = int((both & (other == compared.votes)).sum())
        by_function.append({"name": name, "both": int(both.sum()), "agree": agree, "conflict": int(both.sum()) - agree})
    adds = compared.adds
    return {
        "functions": len(names),
        "adds": {"rows": int(adds.sum()), "by_class": compared.by_class(adds), "gold": compared.right(adds)},
        "conflicts": int(compared.conflicts.sum()),
        "against_majority": int(compared.against_majority.sum()),
        "by_function": sorted(by_function, key=lambda each: (-each["conflict"], -each["both"], each["name"])),
    }


def wilson(correct: int, votes: int) -> list[float] | None:
    """Wilson's 95 % interval of a share (Wilson 1927); None of no votes."""
    if not votes:
        return None
    share, square = correct / votes, Z * Z
    middle = (share + square / (2 * votes)) / (1 + square / votes)
    half = Z / (1 + square / votes) * (share * (1 - share) / votes + square / (4 * votes * votes)) ** 0.5
    return [max(0.0, middle - half), min(1.0, middle + half)]


def _disagreeing(compared: Compared, number: int) -> Places:
    """``number`` rows where it is contradicted: half by dev gold, half by the others' majority alone, if there are."""
    wrong, against = compared.wrong, compared.against_majority & ~compared.wrong
    by_gold = min(int(wrong.sum()), max(number - number // 2, number - int(against.sum())))
    return np.sort(np.concatenate([_some(wrong, by_gold), _some(against, number - by_gold)]))


def _some(rows: Bools, number: int) -> Places:
    found = np.flatnonzero(rows).astype(np.int64)
    return found[evenly(len(found), number)]


def _example(compared: Compared, keys: pa.ChunkedArray, row: int) -> dict[str, Any]:
    """What is said of a row: its key, the vote, how many others vote for each class, its dev gold label."""
    classes, vote, gold = compared.classes, int(compared.votes[row]), int(compared.gold[row])
    key = keys[row].as_py()
    return {
        "key": key if isinstance(key, str | int) else str(key),
        "vote": None if vote == ABSTAIN else classes[vote],
        "others": _by_class(compared.others[row], classes),
        "gold": None if gold == UNKNOWN else classes[gold],
    }
