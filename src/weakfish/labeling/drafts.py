"""Labeling functions by name: those of ``labeling_functions/``, and drafts in a file that no task uses yet."""

from __future__ import annotations

import os
import re
import sys
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import CodeType, ModuleType
from typing import cast

import ibis
import pyarrow as pa

from weakfish.errors import LabelingFunctionError, UnknownName, UserError, WeakfishError, reason
from weakfish.project.paths import Project
from weakfish.rules.columnar import ColumnarLabelingFunction
from weakfish.rules.loading import FOLDER, check_vote, classes_of, load_functions, module_of
from weakfish.rules.slices import is_slice
from weakfish.rules.snorkel_functions import LabelingFunction

AS_TRIED = "__as_tried"
"""What the name of a draft's module ends in, so that it takes no other module's place."""


def find_function(project: Project, task: str, name: str, schema: pa.Schema) -> tuple[LabelingFunction, str]:
    """The function that ``name`` (NAME or FILE:FUNCTION) stands for, and its module in ``labeling_functions/`` or file.

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
        return known[name], module_of(known[name])
    functions, where, module = drafts_of(project, path)
    if inside not in functions and callable(vars(module).get(inside)):
        raise LabelingFunctionError(
            f"{inside!r} in {where} is a plain function; make it a labeling function with @votes(CLASS) or Snorkel's "
            "@labeling_function()."
        )
    if inside not in functions:
        raise UnknownName("labeling function", inside, functions, where)
    return checked(project, task, functions[inside], where, schema), where


def drafts_of(project: Project, path: str) -> tuple[dict[str, LabelingFunction], str, ModuleType]:
    """The labeling functions of a file, by their names and those under which they stand there; what names it; it."""
    file = _inside(project, path)
    where = str(file.relative_to(project.root.resolve()))
    module = _imported(project, file, where)
    functions = {
        key: item for key, item in vars(module).items() if isinstance(item, LabelingFunction) and not is_slice(item)
    }
    return {function.name: function for function in functions.values()} | functions, where, module


def checked(project: Project, task: str, function: LabelingFunction, where: str, schema: pa.Schema) -> LabelingFunction:
    """The function, which votes for classes of the task on events of the schema."""
    if isinstance(function, ColumnarLabelingFunction):
        function.schema = schema
        for label in function.conditions(ibis.table(ibis.Schema.from_pyarrow(schema))):
            check_vote(label, function.name, f"{where}, @votes", classes_of(project, task))
    return function


def _inside(project: Project, path: str) -> Path:
    """The file, by its path from the working directory or from the project's root; symbolic links are followed."""
    root = project.root.resolve()
    files = (Path.cwd() / path, root / path)
    found = [file.resolve() for file in files if os.path.isfile(file)]  # noqa: PTH113  Path's raises on names too long
    within = [file for file in found if file.is_relative_to(root)]
    if found and not within:
        raise UserError(f"{path} lies outside of the project ({root}); copy it into the project to try it.")
    if not within or within[0].suffix != ".py":
        raise UserError(f"There is no Python file {path!r} in {root}; a draft is tried as FILE:FUNCTION.")
    return within[0]


def _imported(project: Project, file: Path, where: str) -> ModuleType:
    """The draft as a module that takes no other's place, in its own package so that relative imports work."""
    if str(project.root) not in sys.path:
        sys.path.insert(0, str(project.root))
    *folders, stem = Path(where).with_suffix("").parts
    package = folders if all(folder.isidentifier() for folder in folders) else []
    name = ".".join([*package, re.sub(r"\W", "_", stem) + AS_TRIED])
    loader = _Fresh(name, str(file))
    module = sys.modules[name] = module_from_spec(cast(ModuleSpec, spec_from_file_location(name, file, loader=loader)))
    try:
        loader.exec_module(module)
    except WeakfishError:
        raise
    except SyntaxError as error:
        raise UserError(f"{where} is not Python: line {error.lineno}, {error.msg}; correct it there.") from error
    except (Exception, SystemExit) as error:
        raise UserError(f"{where} cannot be imported: {reason(error)}; correct it there.") from error
    return module


class _Fresh(SourceFileLoader):
    """Reads the source each time: a draft is edited faster than the clock of compiled files ticks."""

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        code: CodeType = self.source_to_code(self.get_data(path), path)
        return code
