"""Finds the labeling functions of a project in ``labeling_functions/``, by task, and its slices.

What a task's functions are, and their order, is what ``tasks.<task>.functions`` in ``params.yaml`` says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Literal, cast

import ibis
import pyarrow as pa

from weakfish.contracts.pointers import listed
from weakfish.contracts.tables import schema_of
from weakfish.errors import LabelingFunctionError, UnknownName
from weakfish.project.paths import Project
from weakfish.rules.columnar import ColumnarLabelingFunction
from weakfish.rules.slices import SLICES, is_slice
from weakfish.rules.snorkel_functions import LabelingFunction, wrapped

FOLDER = "labeling_functions"

ALL_OF = ".*"
"""What the name of a module ends in where ``params.yaml`` means all functions of it."""


@dataclass(frozen=True)
class Classes:
    """What a function may vote for in a task; ``others`` are the project's other tasks, which may explain a mistake."""

    task: str
    names: Sequence[str]
    others: Sequence[str] = ()


@dataclass(frozen=True)
class Voter:
    """A labeling function and the tasks in which it votes.

    Attributes
    ----------
    function : snorkel.labeling.LabelingFunction
    tasks : list of str
        In the order of ``params.yaml``.
    classes : Classes
        Of that of its tasks with the fewest: what is a vote there is one in all of them.
    """

    function: LabelingFunction
    tasks: list[str]
    classes: Classes


def load_functions(project: Project, task: str) -> list[LabelingFunction]:
    """The labeling functions of ``task``; columnar ones know the columns' types from ``data/events``, if it is there.

    Raises
    ------
    UnknownName
        When ``params.yaml`` names a function or a module that is not there.
    LabelingFunctionError
        When there are none, two share a name, a name cannot be that of a column, or one votes for what is no class
        of the task.
    UserError
        When a module cannot be imported.
    """
    modules = {
        stem: {name: function for name, function in of.items() if not is_slice(function)}
        for stem, of in _modules(project).items()
    }
    functions = _chosen(modules, project.task(task).functions, task)
    classes, schema = classes_of(project, task), events_schema(project)
    for function in functions.values():
        _prepare(function, classes, schema)
    return list(functions.values())


def load_slices(project: Project) -> dict[str, Voter]:
    """The project's slices by name, in the order of their modules; raises like `load_functions`, but there may be none.

    What they vote for does not matter, as long as it is a class of the task that has most.
    """
    classes = max((classes_of(project, task) for task in project.params.tasks), key=lambda each: len(each.names))
    functions = [each for of in _modules(project).values() for each in of.values() if is_slice(each)]
    schema = events_schema(project)
    for function in functions:
        _prepare(function, classes, schema)
    return {function.name: Voter(function, [SLICES], classes) for function in functions}


def _prepare(function: LabelingFunction, classes: Classes, schema: pa.Schema | None) -> None:
    """Tell a columnar function the columns' types, and check what it votes for."""
    if not isinstance(function, ColumnarLabelingFunction):
        return
    function.schema = schema
    labels = [function.label] if function.label is not None else []
    if schema and not labels:
        labels += function.conditions(ibis.table(ibis.Schema.from_pyarrow(schema)))
    for label in labels:
        check_vote(label, function.name, f"{function.__module__}, @votes", classes)


def load_voters(project: Project) -> dict[str, Voter]:
    """The labeling functions of all tasks by name, each once; raises like `load_functions`."""
    found: dict[str, Voter] = {}
    for task in project.params.tasks:
        classes = classes_of(project, task)
        for function in load_functions(project, task):
            known = found.get(function.name, Voter(function, [], classes))
            fewest = min(known.classes, classes, key=lambda each: len(each.names))
            found[function.name] = Voter(function, [*known.tasks, task], fewest)
    return found


def classes_of(project: Project, task: str) -> Classes:
    """What may be voted for in ``task``."""
    others = [name for name in project.params.tasks if name != task]
    return Classes(task, project.task(task).classes, others)


def check_vote(vote: object, function: str, where: str, classes: Classes) -> int:
    """``vote`` as a number, or `LabelingFunctionError`: -1 abstains, the others are positions in ``classes``."""
    is_number = isinstance(vote, Integral) and not isinstance(vote, bool)
    if is_number and -1 <= (number := int(cast(int, vote))) < len(classes.names):
        return number
    numbers = ", ".join(f"{number} ({name})" for number, name in enumerate(classes.names))
    task, advice = f" of task {classes.task}" if classes.others else "", ""
    if classes.others and is_number:  # it may be a class of another task
        advice = (
            f" If it is a function for {' or '.join(classes.others)}, name the functions of {classes.task} in "
            f"params.yaml: tasks.{classes.task}.functions."
        )
    raise LabelingFunctionError(
        f"Labeling function {function!r} returned {vote!r} ({where}), which is not a vote{task}; "
        f"a vote is -1 (abstain), {numbers}.{advice}"
    )


def module_of(function: LabelingFunction) -> str:
    """The name of the module that defines ``function``."""
    return str(wrapped(function).__module__)


def events_schema(project: Project) -> pa.Schema | None:
    """The columns and types of ``data/events``; None where there is none."""
    folder = project.table("events")
    return schema_of(folder) if any(listed(folder)) else None


def _chosen(
    modules: dict[str, dict[str, LabelingFunction]], wanted: Literal["all"] | Sequence[str], task: str
) -> dict[str, LabelingFunction]:
    """The functions that ``wanted`` stands for, ``all`` or names of functions and modules, each in its first place."""
    known = {name: function for functions in modules.values() for name, function in functions.items()}
    if not known:
        raise LabelingFunctionError(f"There are no labeling functions in {FOLDER}/; add one, see docs/labeling.md.")
    if wanted == "all":
        return known
    if not wanted:
        raise LabelingFunctionError(f"params.yaml: tasks.{task}.functions names none; name some, or say `all`.")
    chosen: dict[str, LabelingFunction] = {}
    where, modules_named = f"{FOLDER}/ (params.yaml: tasks.{task}.functions)", [f"{each}{ALL_OF}" for each in modules]
    for name in wanted:
        module = name.removesuffix(ALL_OF)
        if module == name:
            if name not in known:
                raise UnknownName("labeling function", name, [*known, *modules_named], where)
            chosen[name] = known[name]
        elif module not in modules:
            raise UnknownName("module of labeling functions", name, modules_named, where)
        elif not modules[module]:
            raise LabelingFunctionError(
                f"There are no labeling functions in {FOLDER}/{module}.py; add one, or take {name!r} out of "
                f"params.yaml: tasks.{task}.functions."
            )
        else:
            chosen |= modules[module]
    return chosen


def _modules(project: Project) -> dict[str, dict[str, LabelingFunction]]:
    """The functions of each module by name, in their order; those of the folder's ``__init__`` under ``__init__``."""
    files = sorted((project.root / FOLDER).glob("*.py"))
    modules = {"__init__": FOLDER} | {file.stem: f"{FOLDER}.{file.stem}" for file in files if file.stem != "__init__"}
    found: dict[str, dict[str, LabelingFunction]] = {}
    known: dict[str, LabelingFunction] = {}
    for stem, name in modules.items():
        found[stem] = {}
        for function in vars(project.import_module(name)).values():
            if not isinstance(function, LabelingFunction) or module_of(function) != name:
                continue
            if not function.name.isidentifier():
                raise LabelingFunctionError(
                    f"Labeling function {function.name!r} in {name} cannot be stored under its name; "
                    "use letters, digits and underscores."
                )
            if known.setdefault(function.name, function) is not function:
                raise LabelingFunctionError(
                    f"Labeling function {function.name!r} is defined in {module_of(known[function.name])} "
                    f"and in {name}; rename one."
                )
            found[stem][function.name] = function
    if not (found["__init__"] or (project.root / FOLDER / "__init__.py").exists()):
        del found["__init__"]
    return found
