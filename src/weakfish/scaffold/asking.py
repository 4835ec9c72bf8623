"""The proposal as a table for people, and the questions on a terminal that change it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace

import click

from weakfish.errors import UserError
from weakfish.scaffold.literals import counted
from weakfish.scaffold.roles import ASKED, EXAMPLE, DayOrMonth, Roles, Wishes, choose
from weakfish.sources.tabular import Inferred

NONE = "-"
"""What a person types for no column."""


def on_terminal() -> bool:
    """Whether there is somebody to ask."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def table(inferred: Inferred, roles: Roles) -> str:
    """What columns are for, and why, for people."""
    parts = [("id", roles.key, f"id {roles.key}"), ("time", roles.time, f"time {roles.time}")]
    for part, columns in (("entity", roles.entities), ("text", roles.texts)):
        parts += [(part, column, str(column)) for column in columns or (None,)]
    parts += [(f"label of {task}", column, column) for task, column in roles.labels.items()]
    if not roles.labels:
        parts.append(("label", None, ""))
    cells = [(part, column or NONE, _why(roles, part, column, name)) for part, column, name in parts]
    widths = [max(len(row[place]) for row in cells) for place in (0, 1)]
    lines = [f"  {part:{widths[0]}}  {column:{widths[1]}}  {why}" for part, column, why in cells]
    forms = {column: f" as {form}" for column, form in roles.formats.items()}
    kinds = ", ".join(f"{column} ({kind}{forms.get(column, '')})" for column, kind in roles.kinds.items())
    notes = [f"Note: {note}" for note in inferred.notes]
    files, rows = counted(inferred.files, "file"), counted(inferred.rows, "row")
    head = f"{files} ({inferred.format}), {counted(len(inferred.columns), 'column')}, {rows} looked at:"
    return "\n".join([head, *lines, f"Columns: {kinds}.", *notes])


def _why(roles: Roles, part: str, column: str | None, name: str) -> str:
    if column is None and part == "label" and roles.maybe:
        return f"no column is sure to hold classes that people gave; {', '.join(roles.maybe[:3])} may (--label)"
    if column is None:
        return _MISSING[part]
    why = roles.why.get(name, ASKED)
    return f"{why}; times without a zone are {roles.time_zone}" if part == "time" else why


_MISSING = {
    "id": "no column tells rows apart; one is made of what a row says",
    "time": "no column says when; there will be no features of the past",
    "entity": "no column says what rows are about; there will be no features of the past",
    "text": "no column holds running text",
    "label": "no column holds classes that people gave",
}


def ask(inferred: Inferred, wishes: Wishes) -> Roles:
    """Show the table until it is right.

    Raises
    ------
    click.Abort
        When the person does not want it.
    """
    wishes = _ordered(inferred, wishes)
    roles = choose(inferred, wishes)
    while True:
        click.echo(table(inferred, roles))
        answer = click.prompt("Is that right? [y]es, [c]hange it, [n]o", default="y", show_default=False)
        match answer.strip().lower()[:1]:
            case "y":
                return roles if roles.labels or roles.classes else _named(inferred, wishes)
            case "n":
                raise click.Abort
            case "c":
                wishes, roles = _change(inferred, wishes, roles)


def _named(inferred: Inferred, wishes: Wishes) -> Roles:
    """The parts with the classes of which no column has labels, or with none if nobody knows them yet."""
    while True:
        answer = click.prompt("What are events to be labeled as? Two classes or more, parted by commas", default=NONE)
        try:
            return choose(inferred, wishes if answer.strip() == NONE else replace(wishes, classes=[answer]))
        except UserError as error:
            click.echo(str(error))


def _ordered(inferred: Inferred, wishes: Wishes) -> Wishes:
    """Wishes that say of all times whether their day or their month comes first."""
    while True:
        try:
            choose(inferred, wishes)
        except DayOrMonth as error:
            question = f"Column {error.column}: what comes first in {error.found.sample}, [d]ay or [m]onth?"
            form = error.found.form if click.prompt(question, type=click.Choice("dm")) == "d" else error.found.other
            wishes = replace(wishes, time_formats=[*wishes.time_formats, f"{error.column}={form}"])
        else:
            return wishes


def _change(inferred: Inferred, wishes: Wishes, roles: Roles) -> tuple[Wishes, Roles]:
    """One question for each part; enter leaves it as it is, and an answer that cannot be is asked for again."""
    click.echo(f"Enter leaves a part as it is, {NONE} means no column; several are parted by commas.")
    click.echo("Types, nulls and columns to leave out are flags: --type, --null, --leave-out.")

    def asked(question: str, now: Sequence[str], change: Callable[[Wishes, list[str]], Wishes]) -> None:
        nonlocal wishes, roles
        while True:
            answer = click.prompt(question, default=",".join(now) or NONE)
            names = [] if answer.strip() == NONE else [name.strip() for name in answer.split(",") if name.strip()]
            try:
                changed = wishes if names == list(now) else change(wishes, names)
                wishes, roles = changed, choose(inferred, changed)
            except UserError as error:
                click.echo(str(error))
            else:
                return

    asked("Id", [roles.key] if roles.key else [], lambda w, names: replace(w, key=_single(names)))
    asked("Event time", [roles.time] if roles.time else [], lambda w, names: replace(w, time=_single(names)))
    asked("Entities", roles.entities, lambda w, names: replace(w, entities=names))
    asked("Text", roles.texts, lambda w, names: replace(w, texts=names))
    labels = [column if task == column else f"{task}={column}" for task, column in roles.labels.items()]
    asked("Labels that people gave (or task=column)", labels, lambda w, names: replace(w, labels=names))
    for task in roles.tasks:
        if task not in roles.labels:
            now = roles.classes.get(task, ())
            asked(f"Classes of task {task}", now, lambda w, names, task=task: _with_classes(w, task, names))  # type: ignore[misc]
    return wishes, roles


def _single(names: Sequence[str]) -> str:
    if len(names) > 1:
        raise UserError("Only one column can be that; name one.")
    return names[0] if names else ""


def _with_classes(wishes: Wishes, task: str, names: Sequence[str]) -> Wishes:
    kept = [wish for wish in wishes.classes if wish.rpartition("=")[0] not in (task, "")]
    name = [] if task == EXAMPLE and not names else [f"{task}={','.join(names)}"]
    return replace(wishes, classes=[*kept, *name])
