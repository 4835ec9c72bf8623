"""The command line: one thin command per verb. Heavy libraries are imported by the verb that needs them.

Results go to stdout, progress and errors to stderr. Exit codes: 0 fine, 1 a check failed, 2 wrong use or bad input,
3 an engine or a service failed.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import click

from weakfish import __version__
from weakfish.cli.help import WholeHelp
from weakfish.errors import (
    Busy,
    CheckFailed,
    TableError,
    UnknownName,
    UserError,
    WeakfishError,
    interruptible,
    of_system,
)
from weakfish.project.paths import Project
from weakfish.project.stages import QUIET, UNDER_RUN, VERBOSE, stage_of

if TYPE_CHECKING:
    from weakfish.checks.gates import FailOn
    from weakfish.project.runs import Misuse


Work = Callable[[Project], object]


def _reason(_: click.Context, __: click.Parameter, reason: str | None) -> str | None:
    if reason is not None and not reason.strip():
        raise click.BadParameter("give a reason; it goes into the ledger and onto the page.")
    return reason


despite_gate = click.option(
    "--despite-gate",
    metavar="REASON",
    callback=_reason,
    help="Go on although a gate is shut. For emergencies: REASON goes into the ledger and onto the page.",
)

PIPELINE = {
    *("charset_normalizer", "duckdb", "dvc", "great_expectations", "ibis", "markupsafe", "packaging", "pyperscan"),
    *("scipy", "sklearn", "snorkel", "threadpoolctl", "torch"),
}
"""What the extra ``pipeline`` adds to the libraries of ``weakfish serve``."""

_WITHOUT_CUDA = (
    " (on Linux, `uv pip install --torch-backend cpu 'weakfish[pipeline]'` avoids 3 GB of CUDA)"
    if sys.platform == "linux"
    else ""
)
"""What to add to the advice where pip would fetch torch with all of CUDA."""

MODULES = {
    **{"explain": "labels", "export": "export", "labels": "labels", "lf": "lf", "quarantine": "quarantine"},
    **{"review": "review", "trace": "trace", "diff": "compare"},
    **{"init": "scaffold", "upgrade": "scaffold", "online": "store", "serve": "store", "gc": "collect"},
}
"""Where the other commands are; a module is imported when one of its commands is named."""


SECTIONS = {
    "Data engineers": ("init", "run", "status", "upgrade"),
    "Data scientists": ("lf", "explain", "labels", "diff", "review", "trace", "export"),
    "Online services": ("serve", "online", "audit"),
    "DataOps": ("report", "gate", "quarantine", "accept-baseline", "gc"),
    "Stages of dvc.yaml": (
        *("fetch", "ingest", "validate", "accept", "gather-reviews", "vote", "label", "features"),
        *("publish", "training-set", "evaluate"),
    ),
}
"""The commands by who uses them, in the order of `weakfish --help`."""


class _Commands(WholeHelp):
    """The commands of this module and of `MODULES`."""

    sections = SECTIONS

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *MODULES})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in MODULES:
            found: click.Command = getattr(import_module(f"weakfish.cli.{MODULES[cmd_name]}"), cmd_name)
            return found
        return super().get_command(ctx, cmd_name)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="weakfish")
@click.option("-q", "--quiet", is_flag=True, help="Print results and errors only: no progress, no summary of a run.")
@click.option("-v", "--verbose", is_flag=True, help="Log with times what libraries report too, and DVC's own details.")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def cli(quiet: bool, verbose: bool, debug: bool) -> None:
    """Turn events into labels that nobody typed, with the evidence that they can be trusted.

    `weakfish init` makes a project from your own files. In a project, `weakfish run` brings everything up to date and
    `weakfish status` says where it stands. Many of the other commands are stages of dvc.yaml.
    """
    if quiet and verbose:
        raise click.UsageError("--quiet and --verbose exclude each other.")
    for setting, is_set in ((QUIET, quiet), (VERBOSE, verbose)):
        if is_set:
            os.environ[setting] = "1"  # the stages of a run are told, too
    if VERBOSE in os.environ:
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")


@cli.command(context_settings={"ignore_unknown_options": True})
@click.argument("stages", nargs=-1, type=click.UNPROCESSED, metavar="[STAGE | DVC OPTION]...")
def run(stages: tuple[str, ...]) -> None:
    """Bring the pipeline up to date (`dvc repro`), then show what was done.

    With STAGE, run only these stages and what they depend on. Options of `dvc repro` are passed on: --force, --dry,
    --single-item, --downstream, --keep-going, --pull, --no-commit and the rest.
    """
    from weakfish.cli import pipeline

    options = [word for word in stages if word.startswith("-")]
    pipeline.run(Project.find(), [word for word in stages if word not in options], options)


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
def status(as_json: bool) -> None:
    """Show what is stale, and the verdict of the last run."""
    from weakfish.cli import pipeline

    pipeline.status(Project.find(), as_json)


@cli.command()
@click.option("--look", is_flag=True, help="Only list the files that the source would read, in data/files.json.")
def fetch(look: bool) -> None:
    """Fetch the raw data into data/raw."""
    from weakfish.sources import fetching

    if look:
        fetching.look(Project.find())
    else:
        _stage("fetch", fetching.fetch)


@cli.command()
def ingest() -> None:
    """Read raw data into data/staged, by month (or day, or year), and gold labels into data/gold."""
    from weakfish.sources import ingest as sources

    _stage("ingest", sources.ingest)


@cli.command()
@click.argument("table")
def validate(table: str) -> None:
    """Check TABLE and write its verdict. Succeeds whatever it finds; the gate acts on it.

    TABLE is events, labels/<task>, features/<view>, training/<task> or evaluation/<task>.
    """
    from weakfish.checks.validate import validate as work

    _stage(stage_of("validate", table), lambda project: work(project, table), misuse=_misuse())


@cli.command()
def accept() -> None:
    """Copy the good rows of checked events to data/events and quarantine the bad ones; the gate of the events."""
    from weakfish.checks import gates

    _stage("accept", gates.accept, always_render=True)


@cli.command()
def gather_reviews() -> None:
    """Take what reviewers answered, below reviews/, as gold of its side, into data/reviews."""
    from weakfish.reviews.gathering import gather as work

    def gather_and_say(project: Project) -> None:
        for line in work(project):
            click.echo(line)

    _stage("gather_reviews", gather_and_say)


@cli.command()
@click.option("--explain-plan", is_flag=True, help="Show which searches of text share one scan and which do not.")
@click.option(
    "--layout",
    type=click.Choice(["2"]),
    help="Layout of the votes files; dvc.yaml names it, so that a new one is made.",
)
@despite_gate
def vote(explain_plan: bool, layout: str | None, despite_gate: str | None) -> None:
    """Apply the labeling functions to the events."""
    if explain_plan:
        from weakfish.cli.labels import print_plan

        print_plan(Project.find())
        return
    from weakfish.labeling.vote import vote as work

    _stage("vote", work, reason=despite_gate)


@cli.command()
@despite_gate
def label(despite_gate: str | None) -> None:
    """Fit the label models on the votes and write probabilistic labels."""
    from weakfish.labeling.label import label as work

    def label_and_say(project: Project) -> None:
        for line in work(project):
            click.echo(line)

    _stage("label", label_and_say, reason=despite_gate)


@cli.command()
@click.argument("table", required=False)
@click.option(
    "--fail-on",
    type=click.Choice(["critical", "warning", "info"]),
    default="critical",
    show_default=True,
    help="The least severity that fails the gate.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
def gate(table: str | None, fail_on: FailOn, as_json: bool) -> None:
    """Fail with exit code 1 if a critical check of TABLE failed.

    Without TABLE, it looks at all verdicts. Without TABLE or with another --fail-on it writes nothing, unless DVC runs
    it.
    """
    from weakfish.checks import gates, outputs
    from weakfish.checks.gates import Look, look
    from weakfish.contracts.verdicts import verdict_files

    def see(project: Project, compare: bool) -> Look:
        seen = look(project, table, fail_on, compare=compare)
        click.echo(json.dumps(seen.as_json(), indent=2) if as_json else seen.lines)
        return seen

    def open_gate(project: Project) -> None:
        see(project, compare=False)
        gates.gate(project, str(table), fail_on)

    if table and (fail_on == "critical" or not _by_hand()):
        # Without a verdict there is no gate to open or to shut, so a person's mistake leaves no record of a failure.
        misuse: Misuse = (UnknownName, TableError) if _by_hand() and not verdict_files(Project.find()) else _misuse()
        _stage(stage_of("gate", table), open_gate, always_render=True, misuse=misuse)
        return
    project = Project.find()
    seen = see(project, compare=True)
    try:
        seen.require()
    except CheckFailed as error:
        outputs.tell(project, "gate", error.exit_code, seen.verdict, seen.findings)
        raise


@cli.command()
@despite_gate
def features(despite_gate: str | None) -> None:
    """Compute the features of every view from events and lagged labels."""
    from weakfish.features.build import build_features

    _stage("features", build_features, reason=despite_gate)


@cli.command()
@click.option("--rollback", metavar="REV", help="Go back to the definitions and features of this git revision.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
@despite_gate
def publish(rollback: str | None, as_json: bool, despite_gate: str | None) -> None:
    """Bring the online store up to date. When nothing changed, it probes the server and compares a share of the rows.

    Publishing ends with an audit; a difference is exit code 1.
    """
    from weakfish.cli.store import of_publication
    from weakfish.feast.publish import publish as work

    def publish_and_say(project: Project) -> bool:
        outcome = work(project, rollback)
        click.echo(of_publication(outcome, as_json))
        return bool(outcome)

    _stage("publish", publish_and_say, reason=despite_gate, misuse=UserError if rollback else ())


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
def audit(as_json: bool) -> None:
    """Compare every entity and feature of the online store with the feature tables; a difference is exit code 1."""
    from weakfish.cli.store import of_audit
    from weakfish.feast.publish import audit as work
    from weakfish.feast.publish import check
    from weakfish.report import page

    project = Project.find()
    found = work(project)
    click.echo(of_audit(found, as_json))
    page.render(project.root)
    check(found)


@cli.command()
@despite_gate
def training_set(despite_gate: str | None) -> None:
    """Join labels to events and to the features known at each event's time."""
    from weakfish.training.sets import build_training_sets

    _stage("training_set", build_training_sets, reason=despite_gate)


@cli.command()
@despite_gate
def evaluate(despite_gate: str | None) -> None:
    """Measure the labels against gold labels, and what a classifier learns from them."""
    from weakfish.evaluation.evaluate import evaluate as work

    _stage("evaluate", work, reason=despite_gate)


@cli.command()
def report() -> None:
    """Render reports/index.html from what is there, and print its stages."""
    from weakfish.report.inputs import read
    from weakfish.report.page import render
    from weakfish.report.summary import print_summary

    root = Project.find().root
    _stage("report", lambda project: render(project.root))
    for file, reason in read(root).problems.items():
        click.echo(f"weakfish: {file} cannot be read, so the page lacks what it holds: {reason}", err=True)
    if UNDER_RUN not in os.environ:
        print_summary(root)
    click.echo(root / "reports" / "index.html")


@cli.command()
@click.argument("tables", nargs=-1, metavar="[TABLE]...")
@click.option("--through", metavar="PARTITION", help="Accept up to this partition (2002-08); later ones count as new.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
def accept_baseline(tables: tuple[str, ...], through: str | None, as_json: bool) -> None:
    """Accept the current data, which were checked, as the baseline that later data are compared with.

    Writes validation/baseline.json for all tables, or for TABLEs; commit it. Refuses after a failed run, unless only
    differences from the baseline failed.
    """
    from weakfish.checks.accept import accept_baseline as work
    from weakfish.checks.accept import sentences

    project = Project.find()
    moves = work(project, tables, through)
    if as_json:
        click.echo(json.dumps({"tables": [move.as_json() for move in moves]}, indent=2))
        return
    for line in sentences(moves):
        click.echo(line)
    changed = any(move.state in ("new", "moved") for move in moves)
    where = project.baseline.relative_to(project.root)
    click.echo(f"Commit {where} and run `weakfish run`." if changed else f"{where} is as it was.")


def _by_hand() -> bool:
    """Whether a person runs this command, not DVC."""
    return "DVC_STAGE" not in os.environ


def _misuse() -> Misuse:
    """The errors of a person who named a table that does not exist; under DVC they are the project's."""
    return UnknownName if _by_hand() else ()


def _stage(name: str, work: Work, always_render: bool = False, reason: str | None = None, misuse: Misuse = ()) -> None:
    """Run a stage under its record; a stage that fails leaves a red page, a gate leaves a page in any case.

    With a ``reason``, it goes on although gates are shut, and leaves a page that says so. An error of a kind in
    ``misuse`` leaves everything as it was. Under DVC each stage first looks for what would stop a later one.
    Of a failure the webhook is told here, or by `weakfish run`, which sees stages that were killed too.
    """
    from weakfish.contracts.ledgers import despite
    from weakfish.project import runs
    from weakfish.project.preflight import check_configuration

    def checked(project: Project) -> object:
        if not _by_hand() and UNDER_RUN not in os.environ:
            check_configuration(project)
        return work(project)

    project = Project.find()
    render = always_render or reason is not None
    if _by_hand():
        runs.require_no_run(project)
        runs.sweep_project(project)
    try:
        with despite(reason):
            runs.run_recorded(project, name, checked, misuse)
    except Busy:
        raise
    except BaseException as error:
        if isinstance(error, misuse):
            raise
        render = True
        if isinstance(error, Exception):
            _tell(project, name, error)
        raise
    finally:
        if render:
            from weakfish.report import page

            page.render(project.root)


def _tell(project: Project, stage: str, error: Exception) -> None:
    from weakfish.checks import outputs

    if UNDER_RUN not in os.environ:
        outputs.tell_of_stage(project, stage, getattr(error, "exit_code", WeakfishError.exit_code))


def main() -> None:
    """Entry point: errors become one sentence on stderr and an exit code; ``--debug`` shows tracebacks."""
    debug = "--debug" in sys.argv[1:]
    try:
        with interruptible():
            cli.main(prog_name="weakfish", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        code = 2
    except (KeyboardInterrupt, click.Abort):
        click.echo("weakfish: interrupted.", err=True)
        code = 130
    except WeakfishError as error:
        if debug:
            raise
        click.echo(f"weakfish: {error}", err=True)
        code = error.exit_code
    except Exception as error:
        if debug:
            raise
        if isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] in PIPELINE:
            said = f"{error.name} is not installed; `pip install 'weakfish[pipeline]'` adds it{_WITHOUT_CUDA}."
            code = UserError.exit_code
        elif isinstance(error, OSError) and (refused := of_system(error, Path.cwd())):
            said, code = str(refused), refused.exit_code
        else:
            sentence = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}"
            said = f"unexpected {sentence}; run it again with `weakfish --debug` and report what it shows."
            code = WeakfishError.exit_code
        click.echo(f"weakfish: {said}", err=True)
    else:
        code = 0
    sys.exit(code)
