"""Finds the labeling functions of a project: those of every module in ``labeling_functions/``, in a fixed order."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral

import ibis
import pyarrow as pa
from snorkel.labeling import LabelingFunction

from weakfish.errors import LabelingFunctionError, UnknownName
from weakfish.labeling.functions import ColumnarLabelingFunction
from weakfish.project import Project
from weakfish.tables import schema_of

FOLDER = "labeling_functions"


def load_functions(project: Project, task: str) -> list[LabelingFunction]:
    """The labeling functions of ``task``; columnar ones know the columns' types from ``data/events``, if it is there.

    Raises
    ------
    UnknownName
        When ``params.yaml`` names a function that is not there.
    LabelingFunctionError
        When there are none, two share a name, or a name cannot be the name of a folder.
    UserError
        When a module cannot be imported.
    """
    found = _all(project)
    wanted = project.task(task).functions
    if wanted != "all":
        for name in wanted:
            if name not in found:
                raise UnknownName("labeling function", name, found, f"{FOLDER}/ (params.yaml: tasks.{task}.functions)")
        found = {name: found[name] for name in wanted}
    classes, schema = project.task(task).classes, events_schema(project)
    for function in found.values():
        if isinstance(function, ColumnarLabelingFunction):
            function.schema = schema
            for label in _labels(function, schema):
                check_vote(label, function.name, f"{function.__module__}, @votes", classes)
    if not found:
        raise LabelingFunctionError(f"There are no labeling functions in {FOLDER}/; add one, see docs/labeling.md.")
    return list(found.values())


def check_vote(vote: object, function: str, where: str, classes: Sequence[str]) -> int:
    """``vote`` as a number, or `LabelingFunctionError`: -1 abstains, the others are positions in ``classes``."""
    if isinstance(vote, bool) or not isinstance(vote, Integral) or not -1 <= int(vote) < len(classes):
        numbers = ", ".join(f"{number} ({name})" for number, name in enumerate(classes))
        raise LabelingFunctionError(
            f"Labeling function {function!r} returned {vote!r} ({where}), which is not a vote; "
            f"a vote is -1 (abstain), {numbers}."
        )
    return int(vote)


def _labels(function: ColumnarLabelingFunction, schema: pa.Schema | None) -> list[int]:
    if function.label is not None:
        return [function.label]
    return list(function.conditions(ibis.table(ibis.Schema.from_pyarrow(schema)))) if schema else []


def module_of(function: LabelingFunction) -> str:
    """The name of the module that defines ``function``."""
    return str(function._f.__module__)


def events_schema(project: Project) -> pa.Schema | None:
    """The columns and types of ``data/events``; None where there is none."""
    folder = project.table("events")
    return schema_of(folder) if any(folder.glob("*.parquet")) else None


def _all(project: Project) -> dict[str, LabelingFunction]:
    folder = project.root / FOLDER
    names = [FOLDER] + [f"{FOLDER}.{file.stem}" for file in sorted(folder.glob("*.py")) if file.stem != "__init__"]
    found: dict[str, LabelingFunction] = {}
    for module_name in names:
        module = project.import_module(module_name)
        defined = [
            item
            for item in vars(module).values()
            if isinstance(item, LabelingFunction) and module_of(item) == module_name
        ]
        for function in defined:
            if not function.name.isidentifier():
                raise LabelingFunctionError(
                    f"Labeling function {function.name!r} in {module_name} cannot be stored under its name; "
                    "use letters, digits and underscores."
                )
            if function.name in found and found[function.name] is not function:
                raise LabelingFunctionError(
                    f"Labeling function {function.name!r} is defined in {module_of(found[function.name])} "
                    f"and in {module_name}; rename one."
                )
            found[function.name] = function
    return found
