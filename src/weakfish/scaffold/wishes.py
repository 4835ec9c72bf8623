"""What a person says of a project before it is made, in flags or answers, and whether it can be.

`Wishes` in; names of columns, tasks and classes out, or one sentence on what is wrong.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from weakfish.errors import UnknownName, UserError
from weakfish.sources.tabular.guesses import Choice
from weakfish.sources.tabular.settings import TabularSettings, plain

EXAMPLE = "example"
"""The task where there are neither labels nor names of classes."""


@dataclass(frozen=True)
class Wishes:
    """What a person said of the parts; None where nothing was said, empty where none is wanted.

    ``labels`` and ``classes`` are as on the command line: ``task=column`` or ``column``, ``task=a,b`` or ``a,b``.
    """

    key: str | None = None
    time: str | None = None
    entities: Sequence[str] | None = None
    texts: Sequence[str] | None = None
    labels: Sequence[str] | None = None
    classes: Sequence[str] = ()
    kinds: Sequence[str] = ()
    nulls: Sequence[str] = ()
    without: Sequence[str] = ()
    time_zone: str = "UTC"

    @property
    def open(self) -> tuple[str, ...]:
        """The flags of the parts of which nothing was said."""
        parts = {"id": self.key, "time": self.time, "entity": self.entities, "text": self.texts, "label": self.labels}
        return tuple(f"--{part} or --no-{part}" for part, said in parts.items() if said is None)


def named_column(columns: Iterable[str], name: str) -> str:
    """The column that a person means: by its name, or by its header in the files."""
    known = list(columns)
    for form in (name, plain(name)):
        if form in known:
            return form
    raise UnknownName("column", name, known, "the files")


def labels_of(columns: Iterable[str], wishes: Wishes, proposed: Sequence[Choice], taken: set[str]) -> dict[str, str]:
    """The gold column of each task: as asked, else the likely one, if it is of a task that was named or none was."""
    if wishes.labels is None:
        tasks = [wish.rpartition("=")[0] for wish in wishes.classes]
        likely = [c.column for c in proposed if c.sure and c.column in columns and c.column not in taken]
        return {_task_of(column): column for column in likely[:1] if column in tasks or "" in tasks or not tasks}
    found: dict[str, str] = {}
    for wish in wishes.labels:
        task, sign, column = wish.partition("=")
        named = named_column(columns, column if sign else task)
        task = task if sign else _task_of(named)
        if task in found:
            raise UserError(f"--label names task {task!r} twice; give each task one column.")
        found[task] = named
    return found


def _task_of(column: str) -> str:
    """A task named after a column."""
    return f"task_{column.lstrip('_')}" if column.startswith("_") or keyword.iskeyword(column) else column


def classes_of_tasks(wishes: Sequence[str], labels: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """The classes of each task that was given any."""
    found: dict[str, tuple[str, ...]] = {}
    for wish in wishes:
        task, sign, names = wish.rpartition("=")
        if not sign and len(labels) > 1:
            raise UserError(f"--classes {wish} does not say of which task ({', '.join(labels)}); write TASK=a,b.")
        task = task if sign else next(iter(labels), EXAMPLE)
        classes = tuple(name.strip() for name in names.split(","))
        check_classes(classes)
        if task in found:
            raise UserError(f"--classes names task {task!r} twice; name its classes once.")
        found[task] = classes
    return found


def check_classes(classes: Sequence[str]) -> None:
    """Raise `UserError` unless these can be the classes of a task."""
    wrong = [name for name in classes if not name.isidentifier()]
    if wrong:
        raise UserError(
            f"A class cannot be named {wrong[0]!r}: columns are named after it; use letters, digits and underscores."
        )
    if len({name.casefold() for name in classes}) != len(classes):
        raise UserError(f"The classes {', '.join(classes)} do not differ, or only in case; rename one.")
    if not 2 <= len(classes) <= 50:
        raise UserError(f"A task has two to fifty classes, not {len(classes)}; name them as --classes a,b.")


def check_task(name: str) -> None:
    """Raise `UserError` unless files and columns can be named after a task."""
    if not name.isidentifier() or name.startswith("_") or keyword.iskeyword(name):
        raise UserError(
            f"A task cannot be named {name!r}: files and tables are named after it; "
            "use letters, digits and underscores, the first of them a letter."
        )


def check_zone(name: str) -> None:
    """Raise `UserError` unless this is the name of a time zone."""
    try:
        TabularSettings(path=".", columns={"any": "string"}, time_zone=name)
    except ValidationError as error:
        raise UserError(f"--time-zone {name} is no time zone; name one such as UTC or Europe/Berlin.") from error


def project_name(wish: str) -> str:
    """A project's name, as Feast and SQL take it; raises `UserError` when nothing of it can be kept."""
    name = re.sub(r"[^a-z0-9]+", "_", wish.lower()).strip("_")
    if not name:
        raise UserError(f"No project can be named {wish!r}; say --name, of letters and digits.")
    return name if name[0].isalpha() else f"p_{name}"
