"""`review`: a page that asks people about rows, and answers to and from other tools."""

from __future__ import annotations

import getpass
import re

import click

from weakfish.cli.help import WholeHelp
from weakfish.errors import UnknownName, UserError
from weakfish.project.paths import Project

NOBODY = "reviewer"


@click.group(cls=WholeHelp, invoke_without_command=True)
@click.option("--task", help="The task; needed where there are several.")
@click.option(
    "--purpose",
    type=click.Choice(["estimate", "learn", "audit"]),
    help="What answers are for: to measure labels, to teach the label model, or to see what --function decides.",
)
@click.option("--function", metavar="NAME", help="The labeling function of --purpose audit.")
@click.option("--disputed", is_flag=True, help="Ask about the rows on which reviewers disagree; answers resolve them.")
@click.option("--rows", type=click.IntRange(1, 100_000), default=200, show_default=True, help="Rows of an estimate.")
@click.option("--session", metavar="NAME", help="Go on with a session, or answer the rows of another reviewer's.")
@click.option("--reviewer", metavar="NAME", help="Who answers.  [default: git's user.name]")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Port on loopback.  [default: a free one]")
@click.option("--open/--no-open", "opens", default=True, help="Open the page in a browser.")
@click.pass_context
def review(
    ctx: click.Context,
    task: str | None,
    purpose: str | None,
    function: str | None,
    disputed: bool,
    rows: int,
    session: str | None,
    reviewer: str | None,
    port: int,
    opens: bool,
) -> None:
    """Ask a person about rows, on a page of this machine.

    Answers go into reviews/<task>/, one line each, as they are given; commit them. The next `weakfish run` takes them
    in. Without a subcommand the page is served until Ctrl-C.
    """
    if ctx.invoked_subcommand is not None:
        return
    from weakfish.reviews.answers import SESSION

    if session is not None and not (named := SESSION.fullmatch(session)):
        raise UserError(f"{session!r} names no session; the files below reviews/ have it after the reviewer's name.")
    kind = "resolve" if disputed else purpose or (named[1] if session and named else None)
    if kind is None:
        raise click.UsageError(
            "Say what the answers are for: --purpose estimate measures the labels, --purpose learn teaches the label "
            "model, --purpose audit --function NAME shows what a labeling function decides alone."
        )
    if (kind == "audit" and session is None) != (function is not None):
        raise click.UsageError("--function goes with --purpose audit, which needs it.")
    project = Project.find()
    _serve(project, _task(project, task), kind, _reviewer(project, reviewer), session, rows, function, port, opens)


def _serve(
    project: Project,
    task: str,
    kind: str,
    reviewer: str,
    name: str | None,
    rows: int,
    function: str | None,
    port: int,
    opens: bool,
) -> None:
    from weakfish.project.runs import locked
    from weakfish.reviews.review_server import ReviewServer
    from weakfish.reviews.session import ReviewSession

    click.echo("Reading labels and votes...", err=True)
    session = ReviewSession(project, task, kind, reviewer, name, rows, function)  # type: ignore[arg-type]
    with locked(project, f"review {session.file.stem}"):
        server = ReviewServer(session, port)
        click.echo(server.address)
        click.echo(f"Answers go into {session.file.relative_to(project.root)}; Ctrl-C ends the page.", err=True)
        if opens:
            click.launch(server.address)
        try:
            server.serve()
        except KeyboardInterrupt:
            click.echo("", err=True)
        finally:
            server.close()
            session.close()
    click.echo(
        f"{session.given:,} rows answered. Commit {session.file.parent.relative_to(project.root)}, then `weakfish run`."
    )


def _task(project: Project, given: str | None) -> str:
    tasks = list(project.params.tasks)
    if given is None and len(tasks) > 1:
        raise UserError(f"There are several tasks ({', '.join(tasks)}); name one with --task.")
    if given is not None and given not in tasks:
        raise UnknownName("task", given, tasks, "params.yaml")
    return given or tasks[0]


def _reviewer(project: Project, given: str | None) -> str:
    """The name as it was given, else that of git's user or of the system's, made to fit the name of a file."""
    from weakfish.project.git import git_output

    if given is not None:
        return given
    name = (git_output(project.root, "config", "user.name") or "").strip() or getpass.getuser()
    return re.sub(r"[^a-z0-9_.]+", "_", name.lower()).strip("_.") or NOBODY
