"""`review`: a page that asks people about rows, and answers to and from other tools."""

from __future__ import annotations

import getpass
import json
import re
import signal
from importlib import import_module
from pathlib import Path
from types import ModuleType

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
        for number in (signal.SIGINT, signal.SIGTERM):  # also where a shell has this in the background
            signal.signal(number, signal.default_int_handler)
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


NOT_HERE = "nobody"
"""Whose session an export is: answers are of whoever gives them elsewhere."""

FORMATS = {"label-studio": "label_studio", "argilla": "argilla_records", "csv": "answers_csv"}
"""The module of each format."""

TASK = click.option("--task", help="The task; needed where there are several.")
FORMAT = click.option("--format", "kind", type=click.Choice([*FORMATS]), help="Of FILE.  [default: csv of a .csv]")


@review.command("export")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@FORMAT
@TASK
@click.option(
    "--purpose",
    type=click.Choice(["estimate", "learn", "audit"]),
    required=True,
    help="What answers will be for: to measure labels, to teach the label model, or to see what --function decides.",
)
@click.option("--function", metavar="NAME", help="The labeling function of --purpose audit.")
@click.option("--rows", type=click.IntRange(1, 100_000), default=200, show_default=True, help="Rows, at most.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
def export(
    file: Path, kind: str | None, task: str | None, purpose: str, function: str | None, rows: int, as_json: bool
) -> None:
    """Write rows to ask about into FILE, for Label Studio, Argilla or a spreadsheet.

    They are chosen as the page chooses them, and come with the label that they have now as a suggestion. Each names its
    session, by which `weakfish review import` knows what the answer is for.
    """
    if (purpose == "audit") != (function is not None):
        raise click.UsageError("--function goes with --purpose audit, which needs it.")
    from weakfish.reviews.other_tools import export_rows
    from weakfish.reviews.session import ReviewSession

    project, write = Project.find(), _format(file, kind).write
    if file.exists():
        raise UserError(f"{file} is there already, and may hold answers; name another file.")
    session = ReviewSession(project, _task(project, task), purpose, NOT_HERE, None, rows, function)  # type: ignore[arg-type]
    done = export_rows(session, rows, file, write)
    if as_json:
        files = [str(each) for each in done.files]
        click.echo(json.dumps({"rows": done.rows, "session": done.session, "files": files}, indent=2))
        return
    click.echo(f"{done.rows:,} rows of session {done.session} in {', '.join(map(str, done.files))}.")
    if purpose == "estimate":
        click.echo(f"Commit reviews/{session.task}/{done.session}.frame.json: it says how the rows were drawn.")


@review.command("import")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@FORMAT
@TASK
@click.option("--reviewer", metavar="NAME", help="Who answered, where FILE does not say or all answers are of one.")
@click.option(
    "--purpose",
    type=click.Choice(["learn", "audit"]),
    help="What answers are for that name no session, since they were not exported here.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
def import_(
    file: Path, kind: str | None, task: str | None, reviewer: str | None, purpose: str | None, as_json: bool
) -> None:
    """Take the answers in FILE, of Label Studio, Argilla or a spreadsheet, into reviews/.

    Rows read = taken + rejected; each rejected row is a sentence on stderr. Taking a file twice adds nothing.
    """
    from weakfish.reviews.other_tools import import_answers

    project = Project.find()
    rows = _format(file, kind).read(file)
    found = import_answers(project, _task(project, task), rows, reviewer, purpose)  # type: ignore[arg-type]
    for sentence in found.rejected:
        click.echo(sentence, err=True)
    if as_json:
        click.echo(json.dumps(found.to_json(), indent=2))
        return
    rejected = found.read - found.taken
    of_these = [f"{found.unanswered:,} without an answer"] * bool(found.unanswered)
    of_these += [f"{found.known:,} that were here already"] * bool(found.known)
    and_more = ", ".join(of_these)
    click.echo(
        f"{found.read:,} rows read = {found.taken:,} taken + {rejected:,} rejected{' ' * bool(of_these)}"
        f"{f'({and_more})' if of_these else ''}."
    )
    if found.files:
        click.echo(f"Commit {', '.join(found.files)}, then `weakfish run`.")


def _format(file: Path, kind: str | None) -> ModuleType:
    """What reads and writes the format of a file."""
    if kind is None and file.suffix.lower() == ".csv":
        kind = "csv"
    if kind is None:
        raise click.UsageError(f"Say what {file.name} is: --format {', '.join(FORMATS)}.")
    return import_module(f"weakfish.reviews.{FORMATS[kind]}")
