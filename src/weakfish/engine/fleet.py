"""Where heavy work runs: processes of this machine, or the executors of a Spark cluster.

Work is a function of a module, called by name with a project and an item; it reads and writes files itself and returns
a receipt. Items and receipts are small and plain (what JSON has), so that they travel anywhere, and results do not
depend on where work runs, in which order, how often an item was tried, or how many workers there are. The engine is
chosen by the environment and never by params.yaml: see `chosen`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from weakfish.engine import local, spark
from weakfish.engine.local import Seconds
from weakfish.engine.spark import SETTINGS
from weakfish.engine.worker import Item, Job, Receipt, prepared
from weakfish.errors import UserError, reason
from weakfish.project.paths import Project

__all__ = ["Item", "Receipt", "in_order", "prepared", "receipts", "relative", "run"]

ENGINE = "WEAKFISH_ENGINE"
"""``local`` or ``spark``."""


class EngineSettings(BaseModel):
    """What `SETTINGS` holds; closed to what nothing reads."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    engine: Literal["local", "spark"]
    remote: str | None = None
    master: str | None = None
    conf: dict[str, str | int | float | bool] = {}


WRONG = {
    "missing": "is missing",
    "extra_forbidden": "is no setting, there are engine, remote, master and conf",
    "literal_error": "has to be local or spark",
    "dict_type": "has to have settings of Spark by name",
    "string_type": "has to be a text",
    "int_type": "has to be a text, a number, true or false",
    "bool_type": "has to be a text, a number, true or false",
}
"""What is wrong with a setting, by the kind of error that Pydantic has."""


def chosen(project: Project) -> EngineSettings:
    """The engine by `ENGINE`, or else by `SETTINGS`; processes of this machine where neither names one.

    Raises
    ------
    UserError
        When it is neither ``local`` nor ``spark``, or the file is malformed.
    """
    file, named = project.root / SETTINGS, os.environ.get(ENGINE)
    if named not in (None, "", "local", "spark"):
        raise UserError(f"The environment variable {ENGINE} is {named!r}; set it to local or spark.")
    if not file.exists():
        return EngineSettings(engine="spark" if named == "spark" else "local")
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise UserError(f"{file} has no settings; let it say `engine: spark`, for instance, or delete it.")
        found = EngineSettings.model_validate({"engine": named, **content} if named else content)
    except ValidationError as error:
        wrong = error.errors()[0]
        where, what = ".".join(map(str, wrong["loc"][:2])), WRONG.get(wrong["type"], wrong["msg"])
        raise UserError(f"{file}: {where} {what}; correct it there (docs/scale.md), or delete it.") from None
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"{file} cannot be read ({reason(error)}); correct it (docs/scale.md), or delete it.") from None
    return found.model_copy(update={"engine": named}) if named else found


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
    engine = chosen(project)
    if not items:
        return iter(())
    job, texts = Job(work, project.root), [json.dumps(item) for item in items]
    if engine.engine == "spark":
        return _parsed(spark.run(job, texts, what, engine.model_dump()))
    return _parsed(local.run(job, texts, seconds))


def in_order(
    project: Project, work: str, items: Sequence[Item], what: str, seconds: Seconds | None = None
) -> Generator[Receipt, None, None]:
    """As `run`, the receipts in the order of items, each as soon as it and all before it are there.

    Who ends before the last closes it, so that the work that is left ends, too.
    """
    early: dict[int, Receipt] = {}
    following = 0
    for place, receipt in run(project, work, items, what, seconds):
        early[place] = receipt
        while following in early:
            yield early.pop(following)
            following += 1


def receipts(
    project: Project, work: str, items: Sequence[Item], what: str, seconds: Seconds | None = None
) -> list[Receipt]:
    """As `run`, all receipts in the order of items."""
    return list(in_order(project, work, items, what, seconds))


def is_elsewhere(project: Project) -> bool:
    """Whether work runs on other machines, so that it is worth spreading what one process does here as fast."""
    return chosen(project).engine != "local"


def relative(project: Project, file: Path) -> str:
    """A path of a project as items and receipts name it."""
    return file.relative_to(project.root).as_posix()


def _parsed(found: Iterator[tuple[int, str]]) -> Iterator[tuple[int, Receipt]]:
    return ((place, json.loads(text)) for place, text in found)
