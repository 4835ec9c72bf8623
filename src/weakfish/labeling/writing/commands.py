"""The `weakfish lf` commands, for people who write labeling functions: try one on a sample before it votes on all."""

from __future__ import annotations

import json

import click

from weakfish.labeling.commands import AS_JSON, TASK, task_of
from weakfish.project import Project

ROWS = 20_000
"""Rows of the sample unless asked otherwise: shares of them are right to about a percent."""


@click.group()
def lf() -> None:
    """Write labeling functions: see what one does on a sample of the events before it votes on all."""


@lf.command("try")
@click.argument("function", metavar="NAME|FILE:FUNCTION")
@TASK
@click.option(
    "--rows",
    type=click.IntRange(min=1),
    default=ROWS,
    show_default=True,
    help="How many events to try it on, evenly over all of them; all where there are fewer.",
)
@click.option(
    "--examples", type=click.IntRange(min=0), default=10, show_default=True, help="How many rows of each kind to show."
)
@click.option("--columns", help="Columns to show, as a,b; without it the key, the time and those that it reads.")
@AS_JSON
def try_(function: str, task: str | None, rows: int, examples: int, columns: str | None, as_json: bool) -> None:
    """Run one labeling function on a sample: coverage, accuracy on dev gold, what it adds, where it disagrees.

    NAME is a function in labeling_functions/; FILE:FUNCTION is one in any Python file of the project, a draft perhaps.
    Nothing is written. JSON holds numbers and keys, never the values of rows.
    """
    from weakfish.labeling.writing.text import print_trial
    from weakfish.labeling.writing.trying import try_function

    project = Project.find()
    wanted = [name.strip() for name in columns.split(",")] if columns else None
    found = try_function(project, _task_of(project, task, function), function, rows, examples, wanted)
    if as_json:
        click.echo(json.dumps(found.figures, indent=2))
        return
    print_trial(found)


@lf.command("suggest")
@TASK
@click.option(
    "--precision",
    type=click.FloatRange(0.5, 0.999),
    default=0.9,
    show_default=True,
    help="What a function's estimated precision, and its lower bound, must reach.",
)
@click.option("--most", type=click.IntRange(min=1), default=10, show_default=True, help="How many functions, at most.")
@click.option("--columns", help="Columns to look into, as a,b; without it all but the key and the event time.")
@AS_JSON
def suggest(task: str | None, precision: float, most: int, columns: str | None, as_json: bool) -> None:
    """Suggest rules for rows without votes, or with hardly any, as code to paste; nothing is applied.

    Precision is estimated from the labels, without gold; dev gold, where there is some, is shown beside it.
    """
    from weakfish.labeling.writing import suggest_text
    from weakfish.labeling.writing.suggest import suggest as work

    project = Project.find()
    wanted = [name.strip() for name in columns.split(",")] if columns else None
    found = work(project, task_of(project, task), precision, most, wanted)
    if as_json:
        click.echo(json.dumps(suggest_text.as_json(found), indent=2))
        return
    suggest_text.print_suggestions(found)


def _task_of(project: Project, task: str | None, function: str) -> str:
    """The task asked for, the one that a function of `labeling_functions/` votes in, or the only one."""
    if task is None and ":" not in function and len(project.params.tasks) > 1:
        from weakfish.labeling.load import load_voters

        voter = load_voters(project).get(function)
        if voter and len(voter.tasks) == 1:
            return voter.tasks[0]
    return task_of(project, task)
