"""Try one labeling function on a sample of the events: what it votes, adds and contradicts."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import module_from_spec
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

import ibis
import numpy as np
import pyarrow as pa

from weakfish import engine as compute
from weakfish.contracts.votes_file import ABSTAIN, FAILED, Faults, Votes
from weakfish.errors import LabelingFunctionError, TableError, UnknownName, UserError, WeakfishError
from weakfish.labeling.evidence import (
    UNKNOWN,
    Bools,
    Compared,
    DevGold,
    Others,
    against_gold,
    against_others,
    others_votes,
)
from weakfish.labeling.matrix import EventSample, Places, evenly, take_sample
from weakfish.labeling.searches import Search
from weakfish.labeling.workers import LEAST_ROWS, Applied, joined
from weakfish.project.paths import Project
from weakfish.project.runs import Progress
from weakfish.rules.columnar import ColumnarLabelingFunction
from weakfish.rules.loading import FOLDER, check_vote, classes_of, events_schema, load_functions, module_of
from weakfish.rules.snorkel_functions import LabelingFunction, wrapped

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
