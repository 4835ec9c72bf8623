"""What a worker does, wherever it is: work on items of one job, with what can be prepared once prepared once."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

from weakfish.project.paths import Project

T = TypeVar("T")

Item = Mapping[str, Any]
Receipt = dict[str, Any]
Work = Callable[[Project, Any], Receipt]


@dataclass(frozen=True)
class Job:
    """A call of `run`, as workers know it: what to call, and for the project in which folder."""

    work: str
    root: Path
    id: str = field(default_factory=lambda: uuid.uuid4().hex)


class _Worker:
    """What this process knows as a worker; all of it goes with the job."""

    job = ""
    work: Work
    project: Project
    prepared: dict[Any, Any] = {}  # noqa: RUF012


def prepared(make: Callable[[Project], T], project: Project) -> T:
    """What ``make`` returns for the project, made once by each worker and kept for its later items of a job."""
    if make not in _Worker.prepared:
        _Worker.prepared[make] = make(project)
    found: T = _Worker.prepared[make]
    return found


def begin(job: Job) -> None:
    """Make this process a worker of a job, if it is not; what was prepared for others goes."""
    if _Worker.job != job.id:
        end()
        module, _, name = job.work.partition(":")
        _Worker.project = Project(job.root)
        own = module.startswith("weakfish.")
        found = import_module(module) if own else _Worker.project.import_module(module)
        _Worker.work, _Worker.job = staticmethod(getattr(found, name)), job.id


def end() -> None:
    """Let go of what was prepared."""
    _Worker.job = ""
    _Worker.prepared = {}


def answer(job: Job, text: str) -> str:
    """The receipt of an item, both as JSON."""
    begin(job)
    return json.dumps(_Worker.work(_Worker.project, json.loads(text)))
