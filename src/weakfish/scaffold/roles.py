"""What each column is for: proposed by what was inferred, corrected by flags and by answers on a terminal."""

from __future__ import annotations

import keyword
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, cast, get_args

from pydantic import ValidationError

from weakfish.contracts.record import UNITS
from weakfish.errors import UnknownName, UserError
from weakfish.project.params import MOST_CLASSES
from weakfish.sources.tabular import Inferred
from weakfish.sources.tabular.formats import TimeFormat
from weakfish.sources.tabular.guess import Choice, SampledColumn
from weakfish.sources.tabular.settings import MADE_KEY, MADE_TIME, Kind, TabularSettings, plain
from weakfish.sources.tabular.times import pattern

Partition = Literal["day", "month", "year"]

EXAMPLE = "example"
"""The task where there are neither labels nor names of classes."""


@dataclass(frozen=True)
class Wishes:
    """What a person said of the parts; None where nothing was said, empty where none is wanted.

    ``labels``, ``classes``, ``nulls`` and ``time_formats`` are as on the command line: ``task=column`` or ``column``,
    ``task=a,b`` or ``a,b``, ``column=text`` or ``text``, ``column=format`` or ``format``.
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
    time_formats: Sequence[str] = ()
    partition: Partition | None = None

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
    if not 2 <= len(classes) <= MOST_CLASSES:
        raise UserError(f"A task has 2 to {MOST_CLASSES} classes, not {len(classes)}; name them as --classes a,b.")


def project_name(wish: str) -> str:
    """A project's name, as Feast and SQL take it; raises `UserError` when nothing of it can be kept."""
    name = re.sub(r"[^a-z0-9]+", "_", wish.lower()).strip("_")
    if not name:
        raise UserError(f"No project can be named {wish!r}; say --name, of letters and digits.")
    return name if name[0].isalpha() else f"p_{name}"


class DayOrMonth(UserError):
    """A column of times in which nothing tells day from month."""

    def __init__(self, column: str, found: TimeFormat) -> None:
        self.column, self.found = column, found
        flags = " or ".join(f"--time-format '{column}={form}'" for form in (found.form, found.other))
        super().__init__(
            f"Column {column!r} has times such as {found.sample}, and no value tells day from month; say {flags}."
        )


MOST_ENTITIES, MOST_TEXTS = 2, 3
"""How many of the candidates are taken where nobody names any."""

ASKED = "as asked"
_TAKEN = ("event_timestamp", "created")
"""Names that tables of features give to their own columns."""


@dataclass(frozen=True)
class Roles:
    """The parts of columns. ``labels`` are gold columns by task, ``classes`` those that were named, by task.

    ``nulls`` are texts that stand for null: in all columns, or by column. ``formats`` are those of times, by column.
    ``identifiers`` are columns that tell rows apart beside the key. ``fixed`` are those whose type was asked for,
    ``without`` those that are to be left out. ``guessed_key`` says that neither a person nor its name made it the key.
    ``maybe`` are columns that may hold classes, too. ``why`` says of a column, with ``id`` or ``time`` before it where
    it has that part, why it has its part.
    """

    key: str | None
    time: str | None
    entities: tuple[str, ...]
    texts: tuple[str, ...]
    labels: Mapping[str, str]
    classes: Mapping[str, tuple[str, ...]]
    kinds: Mapping[str, Kind]
    time_zone: str
    nulls: tuple[str, ...] | Mapping[str, tuple[str, ...]] = ("",)
    formats: Mapping[str, str] = field(default_factory=dict)
    partition: Partition | None = None
    identifiers: tuple[str, ...] = ()
    fixed: frozenset[str] = frozenset()
    without: frozenset[str] = frozenset()
    guessed_key: bool = False
    maybe: tuple[str, ...] = ()
    why: Mapping[str, str] = field(default_factory=dict)

    @property
    def tasks(self) -> tuple[str, ...]:
        """All tasks: those with labels, then those with classes only, or one as an example."""
        return tuple(dict.fromkeys((*self.labels, *self.classes))) or (EXAMPLE,)


def choose(inferred: Inferred, wishes: Wishes) -> Roles:
    """Give parts to columns.

    Raises
    ------
    UnknownName
        When a wish names a column that there is not.
    UserError
        When a column cannot have the part, or has two.
    """
    try:
        TabularSettings(path=".", columns={"any": "string"}, time_zone=wishes.time_zone)
    except ValidationError as error:
        raise UserError(
            f"--time-zone {wishes.time_zone} is not a time zone; name one such as UTC or Europe/Berlin."
        ) from error
    columns = _columns(inferred, wishes)
    key, time = _one(columns, wishes.key, inferred.key), _one(columns, wishes.time, inferred.time)
    taken = {column for column in (key, time) if column}
    labels = labels_of(columns, wishes, inferred.labels, taken)
    taken |= set(labels.values())
    classes = classes_of_tasks(wishes.classes, labels)
    texts = _some(columns, wishes.texts, inferred.texts, taken, MOST_TEXTS)
    usable = [c for c in inferred.entities if c.column not in (*texts, *_TAKEN)]
    entities = _some(columns, wishes.entities, usable, taken, MOST_ENTITIES)
    _check(key, time, labels, texts, entities)
    if key is None and not set(columns) - {*labels.values()}:
        raise UserError(
            "All columns are labels, so nothing tells rows apart or what to label them by; bring others too."
        )
    kinds: dict[str, Kind] = {column.name: column.kind for column in columns.values()}
    for column in (*([key] if key else ()), *labels.values(), *entities, *texts):
        kinds[column] = "string"
    if time:
        kinds[time] = "time"
    formats = _formats(columns, kinds)
    for part, column, made in (("id", key, MADE_KEY), ("time", time, MADE_TIME)):
        if column is None and made in kinds:
            raise UserError(
                f"The {part} that is made is named {made!r}, as a column is; use --{part} {made} or --leave-out {made}."
            )
    why = {choice.column: choice.reason for choice in [*inferred.texts, *inferred.entities, *inferred.labels][::-1]}
    why |= {f"id {choice.column}": choice.reason for choice in [inferred.key] if choice}
    why |= {f"time {choice.column}": choice.reason for choice in [inferred.time] if choice}
    found = Roles(
        key=key,
        time=time,
        entities=entities,
        texts=texts,
        labels=labels,
        classes=classes,
        kinds=kinds,
        time_zone=wishes.time_zone,
        nulls=_nulls(columns, kinds, wishes.nulls),
        formats=formats,
        partition=wishes.partition,
        identifiers=tuple(
            name
            for name, column in columns.items()
            if column.identifies and name not in {key, time, *labels.values(), *entities, *texts}
        ),
        fixed=frozenset(name for name, column in columns.items() if column.reason == ASKED),
        without=frozenset(column.name for column in inferred.columns) - set(columns),
        guessed_key=wishes.key is None
        and inferred.key is not None
        and key == inferred.key.column
        and not inferred.key.sure,
        maybe=tuple(
            choice.column for choice in inferred.labels if choice.column not in taken and choice.column in columns
        ),
        why=why,
    )
    for task in found.tasks:
        if not task.isidentifier() or task.startswith("_") or keyword.iskeyword(task):
            raise UserError(
                f"A task cannot be named {task!r}: files and tables are named after it; "
                "use letters, digits and underscores, the first of them a letter."
            )
    return found


def settings(inferred: Inferred, roles: Roles, path: str) -> dict[str, Any]:
    """The ``source`` section for these roles, whose gold names columns only."""
    key, time = (Choice(column, ASKED) if column else None for column in (roles.key, roles.time))
    found = replace(inferred, key=key, time=time).settings(path, roles.labels)
    found.pop("time_formats", None)
    zone = {"time_zone": roles.time_zone} if roles.time_zone != "UTC" else {}
    formats = {"time_formats": dict(roles.formats)} if roles.formats else {}
    if isinstance(roles.nulls, Mapping):
        nulls: Any = {column: list(texts) for column, texts in roles.nulls.items()}
    else:
        nulls = list(roles.nulls)
    return {**found, "columns": dict(roles.kinds), **zone, **formats, "null_values": nulls}


def _columns(inferred: Inferred, wishes: Wishes) -> dict[str, SampledColumn]:
    """The columns that are left, with the types that were asked for."""
    columns = {column.name: column for column in inferred.columns}
    for name in wishes.without:
        del columns[named_column(columns, name)]
    for wish in wishes.kinds:
        name, _, kind = wish.partition("=")
        if kind not in get_args(Kind):
            raise UserError(f"--type {wish} names no type; write COLUMN=TYPE, with one of {', '.join(get_args(Kind))}.")
        name = named_column(columns, name)
        columns[name] = replace(columns[name], kind=cast(Kind, kind), reason=ASKED)
    for wish in wishes.time_formats:
        for name, form in _formats_asked(columns, wish, wishes.time):
            kind = columns[name].kind if columns[name].kind in ("time", "date") else form.kind
            columns[name] = replace(columns[name], kind=kind, format=form, reason=ASKED)
    if not columns:
        raise UserError("No column is left; leave fewer out.")
    return columns


def _formats_asked(columns: Mapping[str, SampledColumn], wish: str, time: str | None) -> list[tuple[str, TimeFormat]]:
    """The columns that a wish is about, and the format it gives them.

    Without a column it is about the event time where that was named, else about all columns of times and dates.
    """
    column, sign, form = wish.partition("=")
    if not sign or "%" in column:
        column, form = time or "", wish
    try:
        pattern(form)
    except ValueError as error:
        raise UserError(f"--time-format {wish} cannot be used: {error}.") from error
    dated = [name for name, each in columns.items() if each.kind in ("time", "date")]
    names = [named_column(columns, column)] if column else dated
    if not names:
        raise UserError(f"--time-format {wish} names no column, and none holds times; write COLUMN=FORMAT.")
    found = TimeFormat(form, "time" if form in UNITS or "%H" in form or "%I" in form else "date")
    return [(name, found) for name in names]


def _formats(columns: Mapping[str, SampledColumn], kinds: Mapping[str, Kind]) -> dict[str, str]:
    """The formats of times and dates that need one; raises `DayOrMonth` where that depends on who wrote them."""
    found = {}
    for name, column in columns.items():
        if column.format is None or kinds[name] not in ("time", "date"):
            continue
        if column.format.other and not column.format.usual:
            raise DayOrMonth(name, column.format)
        found[name] = column.format.form
    return found


def _nulls(
    columns: Mapping[str, SampledColumn], kinds: Mapping[str, Kind], wishes: Sequence[str]
) -> tuple[str, ...] | dict[str, tuple[str, ...]]:
    """Texts that stand for null: as asked, of all columns or of one, else those found in columns that are no text."""
    if not wishes:
        found = {
            name: each.null_values for name, each in columns.items() if each.null_values and kinds[name] != "string"
        }
        return {name: ("", *texts) for name, texts in found.items()} or ("",)
    everywhere: dict[str, None] = {"": None}
    own: dict[str, list[str]] = {}
    for wish in wishes:
        name, sign, text = wish.partition("=")
        column = next((form for form in (name, plain(name)) if form in columns), None) if sign and name else None
        if column is None:
            everywhere[wish] = None
        else:
            own.setdefault(column, []).append(text)
    if not own:
        return tuple(everywhere)
    names = columns if len(everywhere) > 1 else own
    return {name: tuple(dict.fromkeys([*everywhere, *own.get(name, ())])) for name in names}


def _one(columns: Mapping[str, SampledColumn], wish: str | None, proposed: Choice | None) -> str | None:
    wishes = None if wish is None else [wish] if wish else []
    return next(iter(_some(columns, wishes, [proposed] if proposed else [])), None)


def _some(
    columns: Mapping[str, SampledColumn],
    wishes: Sequence[str] | None,
    proposed: Sequence[Choice],
    taken: Collection[str] = (),
    most: int = 1,
) -> tuple[str, ...]:
    if wishes is not None:
        return tuple(dict.fromkeys(named_column(columns, name) for name in wishes))
    free = [choice.column for choice in proposed if choice.column in columns and choice.column not in taken]
    return tuple(free[:most])


def _check(
    key: str | None, time: str | None, labels: Mapping[str, str], texts: Sequence[str], entities: Sequence[str]
) -> None:
    """No column has two parts that exclude each other."""
    parts = [(key, "id"), (time, "event time"), *((column, f"label of {task}") for task, column in labels.items())]
    parts += [(column, "text") for column in texts]
    seen: dict[str, str] = {}
    for column, part in [*parts, *((column, "entity") for column in entities)]:
        if column is None:
            continue
        if column in seen and not {part, seen[column]} <= {"text", "entity"}:
            raise UserError(f"Column {column!r} cannot be {part} and {seen[column]} at once; name another for one.")
        seen.setdefault(column, part)
    for column in entities:
        if column in _TAKEN:
            raise UserError(f"Column {column!r} cannot be an entity: tables of features have one of that name already.")
