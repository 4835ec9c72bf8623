"""Finds the labeling functions of a project: modules in ``labeling_functions/`` come in, functions leave by task.

What a task's functions are, and their order, is what ``tasks.<task>.functions`` in ``params.yaml`` says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Literal

import ibis
import pyarrow as pa

from weakfish.contracts.tables import schema_of
from weakfish.errors import LabelingFunctionError, UnknownName
from weakfish.project.paths import Project
from weakfish.rules.columnar import ColumnarLabelingFunction
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
        When there are none, two share a name, a name cannot be the name of a folder, or one votes for what is no class
        of the task.
    UserError
        When a module cannot be imported.
    """
    modules = _modules(project)
    functions = _chosen(modules, project.task(task).functions, task)
    classes, schema = classes_of(project, task), events_schema(project)
    for function in functions.values():
        if isinstance(function, ColumnarLabelingFunction):
            function.schema = schema
            for label in _labels(function, schema):
                check_vote(label, function.name, f"{function.__module__}, @votes", classes)
    return list(functions.values())


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
    if isinstance(vote, bool) or not isinstance(vote, Integral) or not -1 <= int(vote) < len(classes.names):
        numbers = ", ".join(f"{number} ({name})" for number, name in enumerate(classes.names))
        task = f" of task {classes.task}" if classes.others else ""
        raise LabelingFunctionError(
            f"Labeling function {function!r} returned {vote!r} ({where}), which is not a vote{task}; "
            f"a vote is -1 (abstain), {numbers}.{_advice(vote, classes)}"
        )
    return int(vote)


def _advice(vote: object, classes: Classes) -> str:
    """What else may be wrong with a number: it is a class of another task."""
    if not classes.others or isinstance(vote, bool) or not isinstance(vote, Integral):
        return ""
    return (
        f" If it is a function for {' or '.join(classes.others)}, name the functions of {classes.task} in params.yaml: "
        f"tasks.{classes.task}.functions."
    )


def _labels(function: ColumnarLabelingFunction, schema: pa.Schema | None) -> list[int]:
    if function.label is not None:
        return [function.label]
    return list(function.conditions(ibis.table(ibis.Schema.from_pyarrow(schema)))) if schema else []


def module_of(function: LabelingFunction) -> str:
    """The name of the module that defines ``function``."""
    return str(wrapped(function).__module__)


def events_schema(project: Project) -> pa.Schema | None:
    """The columns and types of ``data/events``; None where there is none."""
    folder = project.table("events")
    return schema_of(folder) if any(folder.glob("*.parquet")) else None


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
    where = f"{FOLDER}/ (params.yaml: tasks.{task}.functions)"
    for name in wanted:
        if not name.endswith(ALL_OF):
            if name not in known:
                raise UnknownName("labeling function", name, [*known, *(f"{each}{ALL_OF}" for each in modules)], where)
            chosen[name] = known[name]
            continue
        module = name.removesuffix(ALL_OF)
        if module not in modules:
            raise UnknownName("module of labeling functions", name, [f"{each}{ALL_OF}" for each in modules], where)
        if not modules[module]:
            raise LabelingFunctionError(
                f"There are no labeling functions in {FOLDER}/{module}.py; add one, or take {name!r} out of "
                f"params.yaml: tasks.{task}.functions."
            )
        chosen |= modules[module]
    return chosen


def _modules(project: Project) -> dict[str, dict[str, LabelingFunction]]:
    """The functions of each module by name, in their order; those of the folder's ``__init__`` under ``__init__``."""
    files = sorted((project.root / FOLDER).glob("*.py"))
    modules = {"__init__": FOLDER} | {file.stem: f"{FOLDER}.{file.stem}" for file in files if file.stem != "__init__"}
    found: dict[str, dict[str, LabelingFunction]] = {}
    known: dict[str, LabelingFunction] = {}
    for stem, module_name in modules.items():
        module = project.import_module(module_name)
        defined = [
            item
            for item in vars(module).values()
            if isinstance(item, LabelingFunction) and module_of(item) == module_name
        ]
        for function in defined:
            _check_name(function, module_name, known)
            known[function.name] = function
        found[stem] = {function.name: function for function in defined}
    if not (found["__init__"] or (project.root / FOLDER / "__init__.py").exists()):
        del found["__init__"]
    return found


def _check_name(function: LabelingFunction, module: str, known: dict[str, LabelingFunction]) -> None:
    if not function.name.isidentifier():
        raise LabelingFunctionError(
            f"Labeling function {function.name!r} in {module} cannot be stored under its name; "
            "use letters, digits and underscores."
        )
    if known.get(function.name, function) is not function:
        raise LabelingFunctionError(
            f"Labeling function {function.name!r} is defined in {module_of(known[function.name])} "
            f"and in {module}; rename one."
        )
