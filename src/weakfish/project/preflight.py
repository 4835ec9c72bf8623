"""What can be said of a project's settings and code before the first stage runs: read as text, nothing is imported.

A stage that comes late would say the same after minutes of work.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from weakfish.contracts.storage import storage_of
from weakfish.errors import ParamsError, UnknownName, UserError
from weakfish.project.params import Params, read_settings
from weakfish.project.paths import Project
from weakfish.project.stages import stages_of

FOLDERS = ("feature_repo", "labeling_functions", "sources", "validation")
"""The team's code, all of which some stage imports."""

DEFINITIONS = "feature_repo/definitions.py"


def check_configuration(project: Project, targets: Sequence[str] = ()) -> None:
    """Look for what would stop a later stage, of those that the pipeline has.

    Parameters
    ----------
    targets
        The stages that are asked for; what only later ones need is not looked for. By default all are.

    Raises
    ------
    ParamsError
        When ``params.yaml`` or ``dvc.yaml`` is malformed, or the reader is not there.
    UnknownName
        When a task has no feature service in the definitions, or a view or a labeling function that is listed is
        nowhere in the code.
    UserError
        When a file of the team's code is no Python, or the package that a storage needs is not installed.
    """
    params = project.params
    storage_of(project.root)
    read_settings(project.root / "dvc.yaml")
    trees = {file: _parsed(file, project.root) for file in _code(project.root)}
    repository = [tree for file, tree in trees.items() if file.is_relative_to(project.root / "feature_repo")]
    functions = {file: tree for file, tree in trees.items() if file.is_relative_to(project.root / "labeling_functions")}
    if any(_comes(stage, project.root, targets) for stage in ("fetch", "ingest")):
        _check_reader(project.root, params)
    _check_functions(params, functions)
    if repository and _comes("training_set", project.root, targets):
        _check_services(params, repository)
    if repository and _comes("features", project.root, targets):
        _check_views(params, repository)


def _comes(stage: str, root: Path, targets: Sequence[str]) -> bool:
    """Whether the pipeline has a stage, and one that is asked for may need it."""
    names = [name.partition("@")[0] for name in stages_of(root)]
    asked = [names.index(of) for target in targets if (of := target.partition("@")[0]) in names]
    return stage in names and (not asked or max(asked) >= names.index(stage))


def _code(root: Path) -> Iterator[Path]:
    for folder in FOLDERS:
        yield from sorted((root / folder).rglob("*.py"))


def _parsed(file: Path, root: Path) -> ast.Module:
    try:
        return ast.parse(file.read_bytes(), str(file))
    except (SyntaxError, ValueError) as error:
        line = f", line {error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
        said = error.msg if isinstance(error, SyntaxError) else str(error)
        raise UserError(f"{file.relative_to(root)}{line} is not Python: {said}; correct it there.") from error


def _check_reader(root: Path, params: Params) -> None:
    """A reader of the project's own folder must be there; others are looked for when they are imported."""
    module = params.source.reader.partition(":")[0]
    place = root.joinpath(*module.split("."))
    if module.partition(".")[0] != "sources" or place.with_suffix(".py").is_file() or (place / "__init__.py").is_file():
        return
    raise ParamsError(
        f"params.yaml: source.reader names the module {module}, and there is no "
        f"{place.with_suffix('.py').relative_to(root)}; add it, or correct the name."
    )


def _check_services(params: Params, repository: list[ast.Module]) -> None:
    """Each task needs its feature service, unless services are made in ways that a text does not show."""
    calls = [call for tree in repository for call in ast.walk(tree) if isinstance(call, ast.Call)]
    if any(_called(call) == "further_tasks" for call in calls):
        return  # it makes the services of all tasks
    names = [_name_of(call) for call in calls if _called(call) == "FeatureService"]
    if None in names:
        return
    for task, settings in params.tasks.items():
        name = settings.feature_service or f"{task}_v1"
        if name not in names:
            known = [known for known in names if known]
            what = f"feature service (feature_services.{task}, by default {task}_v1)"
            raise UnknownName(what, name, known, DEFINITIONS)


def _check_views(params: Params, repository: list[ast.Module]) -> None:
    """Each view that params.yaml lists must be named somewhere: by a function, or as a text."""
    named = _names(repository)
    for view in params.views or ():
        if named is not None and view not in named:
            nodes = (node for tree in repository for node in ast.walk(tree))
            known = [node.name for node in nodes if isinstance(node, ast.FunctionDef) and node.decorator_list]
            raise UnknownName("view (views)", view, known, "feature_repo/transforms.py")


def _check_functions(params: Params, modules: Mapping[Path, ast.Module]) -> None:
    """So must each labeling function that a task lists, and each module that it lists as ``module.*``."""
    named = _names(list(modules.values()))
    if named is not None:
        named |= {f"{file.stem}.*" for file in modules}
    for task, settings in params.tasks.items():
        for name in settings.functions if settings.functions != "all" else ():
            if named is not None and name not in named:
                raise UnknownName(f"labeling function (tasks.{task}.functions)", name, named, "labeling_functions/")


def _names(modules: list[ast.Module]) -> set[str] | None:
    """What modules call functions and variables, and all short texts in them; None where texts are put together."""
    found: set[str] = set()
    for node in (node for tree in modules for node in ast.walk(tree)):
        if isinstance(node, ast.JoinedStr):
            return None
        if isinstance(node, ast.FunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.Name):
            found.add(node.id)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.isidentifier():
            found.add(node.value)
    return found


def _called(call: ast.Call) -> str:
    """The last part of the name of what is called."""
    return ast.unparse(call.func).rpartition(".")[2]


def _name_of(call: ast.Call) -> str | None:
    """The ``name`` that a call is given as a text; None where it is put together."""
    given = [word.value for word in call.keywords if word.arg == "name"] or call.args[:1]
    value = given[0] if given else None
    return value.value if isinstance(value, ast.Constant) and isinstance(value.value, str) else None
