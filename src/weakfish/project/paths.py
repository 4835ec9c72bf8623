"""Where things are: every path of a project, from its root, whatever the working directory."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from weakfish.errors import ParamsError, UnknownName, UserError, WeakfishError, reason

if TYPE_CHECKING:
    from weakfish.project.params import Params, TaskParams


MARKS = ("params.yaml", "dvc.yaml")


@dataclass(frozen=True)
class Project:
    """A folder with a ``dvc.yaml`` and a ``params.yaml``.

    A table's name is its path below ``data/``, its suite's below ``validation/`` and its verdict's below
    ``reports/validation/``: ``events``, ``labels/<task>``.
    """

    root: Path

    @classmethod
    def find(cls, start: Path | None = None) -> Project:
        """The project that holds ``start`` (default: the working directory); raises `UserError` outside of one."""
        start = (start or Path.cwd()).resolve()
        for folder in (start, *start.parents):
            if all((folder / mark).is_file() for mark in MARKS):
                return cls(folder)
        raise UserError(
            f"{start} is not in a Weakfish project: no folder above it holds {' and '.join(MARKS)}; go to one first."
        )

    @cached_property
    def params(self) -> Params:
        """The settings; raises `ParamsError` when they are malformed."""
        from weakfish.project import params

        return params.load(self.root)

    def task(self, name: str) -> TaskParams:
        """The settings of a task; raises `UnknownName`."""
        if name not in self.params.tasks:
            raise UnknownName("task", name, self.params.tasks, "params.yaml")
        return self.params.tasks[name]

    @property
    def data(self) -> Path:
        """The folder of all that the pipeline makes."""
        return self.root / "data"

    @property
    def reports(self) -> Path:
        """The folder of all that people read."""
        return self.root / "reports"

    @property
    def temporary(self) -> Path:
        """The folder of temporary folders: on the disk of the tables, out of reach of DVC."""
        return self.root / ".weakfish" / "tmp"

    def table(self, name: str) -> Path:
        """The folder of a table's partitions."""
        return self.data / name

    def staged(self, name: str) -> Path:
        """The folder that a table's checks read: ``data/staged`` for the events, which are accepted later."""
        return self.data / "staged" if name == "events" else self.table(name)

    def profile(self, name: str) -> Path:
        """The file of a table's columns in numbers, by partition."""
        return self.data / "profiles" / f"{name}.json"

    @property
    def baseline(self) -> Path:
        """The file of what was last accepted as good, in git."""
        return self.root / "validation" / "baseline.json"

    @property
    def patches(self) -> Path:
        """The folder of patches that let quarantined rows in, in git."""
        return self.root / "validation" / "patches"

    def suites(self) -> dict[str, str]:
        """Tables that have a suite, and the module of each."""
        folder = self.root / "validation"
        files = sorted(file for file in folder.rglob("*.py") if not file.name.startswith("_"))
        names = [file.relative_to(folder).with_suffix("").as_posix() for file in files]
        return {name: f"validation.{name.replace('/', '.')}" for name in names}

    def import_module(self, name: str) -> ModuleType:
        """Import a module of the project's own folders; raises `UserError` with the reason when it cannot be."""
        if str(self.root) not in sys.path:
            sys.path.insert(0, str(self.root))
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            what = (
                f"a package that is not installed ({error.name})"
                if error.name and not name.startswith(error.name)
                else "no such file"
            )
            raise UserError(f"Module {name} cannot be imported: {what}; add it, or correct the name.") from error
        except WeakfishError:
            raise
        except Exception as error:
            raise UserError(f"Module {name} cannot be imported: {reason(error)}; correct it there.") from error

    def import_object(self, reference: str, setting: str) -> Callable[..., object]:
        """Import what ``module:name`` refers to; ``setting`` says where the reference stands."""
        module_name, _, name = reference.partition(":")
        module = self.import_module(module_name)
        if not callable(getattr(module, name, None)):
            raise ParamsError(
                f"params.yaml: {setting} names {reference!r}, but {module_name} defines no {name!r}; correct it."
            )
        found: Callable[..., object] = getattr(module, name)
        return found
