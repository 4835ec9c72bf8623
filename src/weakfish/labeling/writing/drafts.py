"""Finds the labeling function to try: one of ``labeling_functions/`` by its name, or a draft in a file by its path."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import module_from_spec
from pathlib import Path
from types import CodeType, ModuleType

import ibis
import pyarrow as pa
from snorkel.labeling import LabelingFunction

from weakfish.errors import LabelingFunctionError, UnknownName, UserError, WeakfishError
from weakfish.labeling.functions import ColumnarLabelingFunction
from weakfish.labeling.load import FOLDER, check_vote, classes_of, load_functions, module_of
from weakfish.project import Project

AS_TRIED = "__as_tried"
"""What the name of a draft's module ends in, so that it takes no other module's place."""


@dataclass(frozen=True)
class Candidate:
    """A labeling function and where it stands: a module of ``labeling_functions/``, or a file from the root."""

    function: LabelingFunction
    where: str


def find_function(project: Project, task: str, name: str, schema: pa.Schema) -> Candidate:
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
        return Candidate(known[name], module_of(known[name]))
    file = _inside(project, path)
    where = str(file.relative_to(project.root.resolve()))
    function = _named(_imported(project, file, where), inside, where)
    if isinstance(function, ColumnarLabelingFunction):
        function.schema = schema
        for label in function.conditions(ibis.table(ibis.Schema.from_pyarrow(schema))):
            check_vote(label, function.name, f"{where}, @votes", classes_of(project, task))
    return Candidate(function, where)


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
