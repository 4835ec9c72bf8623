"""The commands that say why: `weakfish explain` about one label, `weakfish labels diff` about all that moved."""

from __future__ import annotations

import json

import click

from weakfish.errors import UserError
from weakfish.project import Project

TASK = click.option("--task", help="The labeling task; needed where there are several.")
AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")


@click.command()
@click.argument("key")
@TASK
@AS_JSON
def explain(key: str, task: str | None, as_json: bool) -> None:
    """Say why the event KEY has its label: each function's vote and what it adds, and what made them."""
    from weakfish.labeling.why.explain import explain as work
    from weakfish.labeling.why.explain_text import print_explanation

    project = Project.find()
    found = work(project, task_of(project, task), key)
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    print_explanation(found)


@click.group()
def labels() -> None:
    """Labels as a whole: what changed since a revision, and which edits changed it."""


@labels.command()
@click.argument("revision", metavar="REV")
@TASK
@AS_JSON
def diff(revision: str, task: str | None, as_json: bool) -> None:
    """Say which labels differ from those of REV, any git revision, and which function's edit moved them."""
    from weakfish.labeling.why.diff import diff as work
    from weakfish.labeling.why.diff_text import print_diff

    project = Project.find()
    found = work(project, task_of(project, task), revision)
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    print_diff(found)


def task_of(project: Project, task: str | None) -> str:
    """The task asked for, or the only one; raises `UserError` where that is open, `UnknownName`."""
    known = list(project.params.tasks)
    if task is None and len(known) > 1:
        raise UserError(f"There are several tasks ({', '.join(known)}); say which with --task.")
    name = task or known[0]
    project.task(name)
    return name
