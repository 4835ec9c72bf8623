"""What made a value besides rows: code with file and line, the raw data of events, and versions."""

from __future__ import annotations

import ast
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from weakfish.errors import WeakfishError
from weakfish.project.git import git_output
from weakfish.project.paths import Project
from weakfish.sources import RawPlace
from weakfish.sources.declared import source


def code_place(root: Path, module: str, name: str) -> dict[str, Any]:
    """Where a module of the project defines a function, as ``module``, ``name``, ``file`` and ``line``.

    A function that a short form makes stands where its name is assigned, or first written as a text. ``line`` is None
    where the module does not say the name, and ``file`` where the project has no such module.
    """
    base = root.joinpath(*module.split("."))
    file = next((each for each in (base.with_suffix(".py"), base / "__init__.py") if each.is_file()), None)
    line = None if file is None else _line(file, name)
    place = None if file is None else file.relative_to(root).as_posix()
    return {"module": module, "name": name, "file": place, "line": line}


def _line(file: Path, name: str) -> int | None:
    try:
        tree = ast.parse(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, SyntaxError):
        return None
    found: dict[str, int] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == name:
            found.setdefault("function", node.lineno)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id == name:
            found.setdefault("assigned", node.lineno)
        elif isinstance(node, ast.Constant) and node.value == name:
            found.setdefault("written", node.lineno)
    return next((found[kind] for kind in ("function", "assigned", "written") if kind in found), None)


@dataclass(frozen=True)
class RawData:
    """Where events stand in the raw data, and what cannot be said of that, as a sentence, if anything.

    Attributes
    ----------
    places : dict of str to list of RawPlace
        By key; keys that were not found are left out.
    """

    places: Mapping[str, Sequence[RawPlace]]
    unknown: str | None = None

    def of(self, key: str) -> list[dict[str, Any]]:
        """The places of an event, of what JSON has."""
        return [{"file": place.file, "line": place.line} for place in self.places.get(key, ())]


def raw_data(project: Project, keys: Collection[str]) -> RawData:
    """Look events up in ``data/raw``, in one pass over it; tables do not hold where their rows came from."""
    if not keys:
        return RawData({})
    name, raw = project.params.source.reader, project.data / "raw"
    if not raw.is_dir():
        return RawData({}, "data/raw is not there, so file and line are not known; `dvc pull data/raw` brings it.")
    try:
        found = source(project).places(raw, set(keys))
    except WeakfishError as error:
        return RawData({}, f"File and line are not known: {error}")
    if found is None:
        return RawData({}, f"File and line are not known: {name} does not tell where rows stand; see docs/sources.md.")
    lost = len(set(keys) - found.keys())
    if lost:
        events = "event is" if lost == 1 else "events are"
        return RawData(found, f"{lost:,} {events} no longer in data/raw under {'its' if lost == 1 else 'their'} key.")
    return RawData(found)


def revision(project: Project) -> dict[str, Any]:
    """The git revision of the work tree, and whether tracked files differ from it; None where git does not tell."""
    commit = git_output(project.root, "rev-parse", "--verify", "--quiet", "HEAD")
    changes = git_output(project.root, "status", "--porcelain", "--untracked-files=no")
    return {"commit": commit and commit.strip(), "changed": None if changes is None else bool(changes.strip())}
