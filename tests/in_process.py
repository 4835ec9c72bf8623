"""Runs commands of `weakfish` in this process, whose libraries are loaded already, on any project.

A test in which the process itself matters, its imports, its hash seed, its exit code, starts one: `projects.weakfish`.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType

from weakfish.cli.main import cli

OWN = ("feature_repo", "labeling_functions", "sources", "validation")
"""Packages of a project: tests of other projects in this process have imported others of these names."""


def run_here(root: Path, *commands: Sequence[str]) -> None:
    """Run commands from ``root``, one after the other; raises what the first of them raises that fails."""
    with own_modules(root), contextlib.chdir(root), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # third parties' own deprecations
        for arguments in commands:
            cli.main(list(arguments), prog_name="weakfish", standalone_mode=False)


@contextlib.contextmanager
def own_modules(root: Path | None = None) -> Iterator[None]:
    """Import a project's packages from ``root``, or from where it puts itself, whatever was imported before."""
    path, others = list(sys.path), _taken_away()
    elsewhere = [entry for entry in path if not any((Path(entry) / name).is_dir() for name in OWN)]  # no project
    sys.path[:] = [str(root), *elsewhere] if root else elsewhere
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path[:] = path
        _taken_away()
        sys.modules.update(others)


def _taken_away() -> dict[str, ModuleType]:
    for name in OWN:  # `inspect` remembers files of modules, and fails on one of the same name that has no file
        vars(inspect).get("_filesbymodname", {}).pop(name, None)
    return {name: sys.modules.pop(name) for name in [*sys.modules] if name.split(".")[0] in OWN}
