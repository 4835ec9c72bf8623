"""Where heavy work runs: processes of this machine, or the executors of a Spark cluster.

Work is a function of a module, called by name with a project and an item; it reads and writes files itself and returns
a receipt. Items and receipts are small and plain (what JSON has), so that they travel anywhere, and results do not
depend on where work runs, in which order, how often an item was tried, or how many workers there are. The engine is
chosen by the environment and never by params.yaml: see `chosen`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from weakfish.engine import local, spark
from weakfish.engine.local import Seconds
from weakfish.engine.spark import SETTINGS
from weakfish.engine.worker import Item, Job, Receipt, prepared
from weakfish.errors import UserError
from weakfish.project.paths import Project
from weakfish.project.stages import read_yaml

__all__ = ["Item", "Receipt", "prepared", "receipts", "relative", "run"]

ENGINE = "WEAKFISH_ENGINE"
"""``local`` or ``spark``."""


@dataclass(frozen=True)
class EngineChoice:
    """The engine that was chosen, and its settings."""

    engine: str
    settings: Mapping[str, Any]


def chosen(project: Project) -> EngineChoice:
    """The engine by `ENGINE`, or else by `SETTINGS`; processes of this machine where neither names one.

    Raises
    ------
    UserError
        When it is neither ``local`` nor ``spark``.
    """
    file = project.root / SETTINGS
    settings = read_yaml(file)
    named, where = os.environ.get(ENGINE), f"The environment variable {ENGINE}"
    if not named:
        named, where = settings.get("engine", "local"), f"`engine` in {file}"
    if named not in ("local", "spark"):
        raise UserError(f"{where} is {named!r}; set it to local or spark.")
    return EngineChoice(named, settings)


def run(
    project: Project, work: str, items: Sequence[Item], what: str, seconds: Seconds | None = None
) -> Iterator[tuple[int, Receipt]]:
    """Do some work on each item; yields the place of each and its receipt, in whichever order they are done.

    Parameters
    ----------
    work
        ``module:function``, called with the project, as the worker has it, and an item. Paths in items and receipts
        are relative to the project's root (see `relative`); files appear whole or not at all, and the same item writes
        the same, since an item may be tried twice, even at once.
    items
        Mappings of what JSON has.
    what
        What is done, for people: ``vote: row groups``.
    seconds
        Says about how long one process would take, where that may be too little for others to be worth their start;
        may use what is `prepared`.

    Raises
    ------
    WeakfishError
        Of the kind that the work raised; or when a worker ended before its work.
    """
    if not items:
        return iter(())
    job, texts = Job(work, project.root), [json.dumps(item) for item in items]
    engine = chosen(project)
    if engine.engine == "spark":
        return _parsed(spark.run(job, texts, what, engine.settings))
    return _parsed(local.run(job, texts, seconds))


def receipts(
    project: Project, work: str, items: Sequence[Item], what: str, seconds: Seconds | None = None
) -> list[Receipt]:
    """As `run`, all receipts in the order of items."""
    found = dict(run(project, work, items, what, seconds))
    return [found[place] for place in range(len(items))]


def is_elsewhere(project: Project) -> bool:
    """Whether work runs on other machines, so that it is worth spreading what one process does here as fast."""
    return chosen(project).engine != "local"


def relative(project: Project, file: Path) -> str:
    """A path of a project as items and receipts name it."""
    return file.relative_to(project.root).as_posix()


def _parsed(found: Iterator[tuple[int, str]]) -> Iterator[tuple[int, Receipt]]:
    return ((place, json.loads(text)) for place, text in found)
