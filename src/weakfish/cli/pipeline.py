"""The pipeline as a whole: run it through DVC, say what was done, say what is stale."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from weakfish.checks import outputs
from weakfish.cli import dvc_process
from weakfish.cli.dvc_process import SECONDS_TO_END
from weakfish.contracts.ledgers import read_runs
from weakfish.errors import CheckFailed, Interrupted, UserError, WeakfishError, of_system, require
from weakfish.project.paths import Project
from weakfish.project.preflight import check_configuration
from weakfish.project.runs import (
    DVC,
    KILLED,
    await_end,
    forget_failures,
    lock_file,
    locked,
    mend_locks_of_dvc,
    sweep_project,
    temporary_folder,
)
from weakfish.project.stages import QUIET, UNDER_RUN, VERBOSE, named_stage, stages_of
from weakfish.report.overall import overall
from weakfish.report.summary import print_summary

NEXT = (
    "Open reports/index.html: the verdict, the checks, the labeling functions and the metrics on one page.",
    "Edit a function in labeling_functions/ and run `weakfish run` again: only what depends on it is made anew.",
    "Tighten an expectation in validation/ until it fails, run again, and see what DataOps would see.",
)

REASONS = 3
"""How many reasons why a stage is stale are shown to people; JSON has all."""

WRONG_OPTION = 254
"""DVC's exit code for an option that it does not know."""

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""The signals upon which a run ends, DVC and its stage first."""

POLL_SECONDS = 0.2

CHATTER = re.compile(
    rb"Updating lock file|Generating lock file|Stage '.*' (didn't change|is cached)|Use `dvc push`|> |\s*git add |"
    rb"To (track|enable) |\s*dvc config |Data and pipelines are up to date|WARNING: '.*' is empty\.|"
    rb"ERROR: failed to reproduce '.*': failed to run: .*, exited with \d+$"
)
"""What DVC says of its own files and of git, and of stages that say it themselves; `-v` shows it."""

ERRNO = re.compile(r"\[Errno (\d+)\] [^:]+(?:: '([^']*)')?")
"""What the system refused to DVC, with the file."""

OF_SQLITE = {
    "database or disk is full": errno.ENOSPC,
    "attempt to write a readonly database": errno.EROFS,
    "unable to open database file": errno.EACCES,
    "disk I/O error": errno.EIO,
}
"""What the system refused to DVC's SQLite, which does not say where."""

Streams = tuple[int | None, int | None]
"""Where a process's stdout and stderr go; None is this process's own."""

WHOLE = {"-f", "--force", "--pull"}
"""Options of DVC with which all stages are brought up to date."""


def run(project: Project, stages: Sequence[str], options: Sequence[str] = ()) -> None:
    """`dvc repro` with its ``options``, then a table of stages and the headline metrics on stdout.

    Raises
    ------
    UserError
        When DVC does not know an option.
    UnknownName
        When one of ``stages`` is none of ``dvc.yaml``, or settings name what is not there; see `check_configuration`.
    WeakfishError
        Of the kind with which the failed stage ended (`CheckFailed`, `UserError`), or when DVC itself failed.
    Busy
        While another run is at work in this project.
    Interrupted
        When a signal ended the run; DVC and its stage have ended then, too.
    """
    require("dvc")
    with locked(project, "run"):
        _await_others(project)
        stages = list(_named(project, stages))
        check_configuration(project, stages)  # a malformed file is our sentence, not DVC's
        started = datetime.now(UTC)
        quiet = QUIET in os.environ
        said = ["--quiet"] if quiet else ["--verbose"] if VERBOSE in os.environ else []
        sweep_project(project)
        with _shown(project, quiet, "--dry" in options) as (streams, show, errors, of_dvc):
            code, signalled = _attended(project, ["repro", *said, *options, *stages], streams, show)
            show()
            now = (run for run in read_runs(project).values() if run.started_at >= started)
            recorded = {(run.message or "").partition("\n")[0] for run in now}
            for error in errors:
                if error not in recorded:  # one that is recorded is told last
                    click.echo(f"weakfish: {error}", err=True)
        if signalled:
            raise Interrupted(signalled)
        if code == WRONG_OPTION:
            raise UserError("`dvc repro` does not take these options; its message is above.")
        if "--dry" in options:
            return
        if code == 0:
            from weakfish.report.page import render

            if not stages and set(options) <= WHOLE:
                forget_failures(project, started)
            render(project.root)
        ran = {name for name, run in read_runs(project).items() if run.started_at >= started}
        if not quiet:
            print_summary(project.root, since=started)
        if code:
            stage, failure = _failure(project, ran, of_dvc)
            outputs.tell_of_stage(project, stage, failure.exit_code)
            raise failure
        if quiet:
            return
        if not ran:
            click.echo("\nNothing changed: every stage is as the last run left it.")
        click.echo("\nNext:\n" + "\n".join(f"  {number}. {step}" for number, step in enumerate(NEXT, 1)))


def status(project: Project, as_json: bool) -> None:
    """Show which stages are stale and why, and the verdict of the last run.

    As JSON: ``{"stale": {stage: [why]}, "verdict": str, "sentences": [str]}``.
    """
    require("dvc")
    check_configuration(project)  # a malformed file is our sentence, not DVC's
    streams = (subprocess.PIPE, subprocess.PIPE)
    dvc = _dvc(project, [sys.executable, "-m", "dvc", "status", "--json"], streams)
    output, said = dvc.communicate()
    if dvc.returncode:
        lines = said.decode(errors="replace").splitlines()
        raise WeakfishError(f"DVC could not tell the state of the pipeline; {_unexplained(project, lines)}")
    click.echo(said.decode(errors="replace"), err=True, nl=False)
    stale = {stage: why for stage, changes in json.loads(output or "{}").items() if (why := _why(changes))}
    last = overall(project.root)
    if as_json:
        click.echo(json.dumps({"stale": stale, "verdict": last.verdict, "sentences": list(last.sentences)}, indent=2))
        return
    if last.verdict == "empty":
        click.echo(f"{last.headline}; `weakfish run` runs the {len(stale)} stages of the pipeline.")
        return
    print_summary(project.root, changed={stage: "; ".join(why) for stage, why in stale.items()})
    click.echo()
    if not stale:
        click.echo("Nothing is stale.")
    for stage, why in stale.items():
        more = f"; {len(why) - REASONS} more" if len(why) > REASONS else ""
        click.echo(f"Stale: {stage} ({'; '.join(why[:REASONS])}{more})")


def _named(project: Project, stages: Sequence[str]) -> Iterator[str]:
    """The stages' names in dvc.yaml."""
    for stage in stages:
        found = named_stage(project.root, stage)
        if found != stage:
            click.echo(f"Stage {stage} is {found} in dvc.yaml.", err=True)
        yield found


def _await_others(project: Project) -> None:
    """Wait for what a killed run left behind and what is ending now; raises `Busy` while anything else is at work."""
    await_end(lock_file(project, DVC), KILLED, SECONDS_TO_END + POLL_SECONDS)
    for stage in stages_of(project.root):
        await_end(lock_file(project, stage), f"The stage {stage} is", SECONDS_TO_END)
    mend_locks_of_dvc(project)


@contextmanager
def _attached(project: Project) -> Iterator[tuple[int, int]]:
    """What DVC inherits: an open lock file, so that the lock is held as long as it lives, and the end of a pipe.

    The other end closes with this process, which tells DVC to end.
    """
    with lock_file(project, DVC).open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        read, write = os.pipe()
        try:
            yield lock.fileno(), read
        finally:
            os.close(read)
            os.close(write)


@contextmanager
def _shown(
    project: Project, quiet: bool, whole: bool
) -> Iterator[tuple[Streams, Callable[[], None], Sequence[str], Sequence[str]]]:
    """Where DVC and its stages print to, what shows the lines that came since, and the errors of stages and of DVC.

    `CHATTER` is left out, and errors are not shown yet. It is files and no pipes, so that they go on where this process
    is killed.
    """
    errors: list[str] = []
    of_dvc: list[str] = []
    if quiet or whole or VERBOSE in os.environ:
        yield (subprocess.DEVNULL if quiet else None, None), lambda: None, errors, of_dvc
        return
    with ExitStack() as stack:
        folder = stack.enter_context(temporary_folder(project.temporary, "run"))
        writers, readers = [], []
        for name in ("stdout", "stderr"):
            writers.append(stack.enter_context((folder / name).open("ab")).fileno())
            readers.append(stack.enter_context((folder / name).open("rb")))

        def show() -> None:
            for reader, err in zip(readers, (False, True), strict=True):
                *lines, cut = reader.read().split(b"\n")
                reader.seek(-len(cut), os.SEEK_CUR)
                for line in lines:
                    if err and line.startswith(b"weakfish: "):
                        errors.append(line.decode(errors="replace").removeprefix("weakfish: "))
                    elif err and _refused(project, said := line.decode(errors="replace")):
                        of_dvc.append(said)
                    elif line.strip() and not CHATTER.match(line):
                        click.echo(line.decode(errors="replace"), err=err)

        yield (writers[0], writers[1]), show, errors, of_dvc


def _attended(
    project: Project, arguments: Sequence[str], streams: Streams, show: Callable[[], None]
) -> tuple[int, int]:
    """Run DVC and wait for its end: its exit code, and the signal that asked for an early end, 0 where none did.

    DVC and its stages are a process group, to which signals go on as interrupts: upon one a stage records that it was
    interrupted, and DVC lets go of its locks. What is still there after a while is killed. So are stages whose DVC was.
    """
    signals: list[int] = []
    # A command in the background of a shell ignores interrupts, and so would DVC; a handler is not inherited.
    before = {number: signal.signal(number, lambda number, _: signals.append(number)) for number in ENDING}
    try:
        with _attached(project) as (lock, pipe):
            started = [sys.executable, "-m", dvc_process.__name__, str(pipe), *arguments]
            dvc = _dvc(project, started, streams=streams, pass_fds=(lock, pipe), process_group=0)
            lock_file(project, DVC).write_text(str(dvc.pid))
            asked = False
            while dvc.poll() is None:
                if signals and not asked:
                    asked = True
                    os.killpg(dvc.pid, signal.SIGINT)
                try:
                    dvc.wait(SECONDS_TO_END if asked else POLL_SECONDS)
                except subprocess.TimeoutExpired:
                    show()
                    if asked:
                        os.killpg(dvc.pid, signal.SIGKILL)
            if dvc.returncode < 0:
                _end_group(dvc.pid)
            return dvc.returncode, next(iter(signals), 0)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end_group(group: int) -> None:
    """Interrupt the processes of a group whose leader was killed; kill what stays."""
    deadline = time.monotonic() + SECONDS_TO_END
    with suppress(ProcessLookupError):
        os.killpg(group, signal.SIGINT)
        while time.monotonic() < deadline:
            os.killpg(group, 0)
            time.sleep(POLL_SECONDS)
        os.killpg(group, signal.SIGKILL)


def _dvc(project: Project, command: Sequence[str], streams: Streams, **given: Any) -> subprocess.Popen[bytes]:
    """DVC of this environment, which finds this environment's `weakfish` too, activated or not."""
    if find_spec("dvc") is None:
        raise ModuleNotFoundError(name="dvc")
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    environment = {**os.environ, "PATH": path, UNDER_RUN: "1"}
    out, err = streams
    return subprocess.Popen(command, cwd=project.root, env=environment, stdout=out, stderr=err, **given)


def _why(changes: Sequence[Any]) -> list[str]:
    """DVC's account of a stale stage as short phrases: ``params.yaml: tasks modified``."""
    why: list[str] = []
    for change in changes:
        if change == "always changed":  # a stage that probes for itself whether there is something to do
            continue
        if isinstance(change, str):
            why.append(change)
            continue
        for what in change.values():
            for path, state in what.items():
                parts = [f"{name} {kind}" for name, kind in state.items()] if isinstance(state, dict) else [str(state)]
                why.append(f"{path} {', '.join(parts)}")
    return why


def _failure(project: Project, ran: set[str], of_dvc: Sequence[str]) -> tuple[str | None, WeakfishError]:
    """The stage that failed, and its error as its record has it; raises what the system refused to DVC itself."""
    kinds = {CheckFailed.exit_code: CheckFailed, UserError.exit_code: UserError}
    for name, run in read_runs(project).items():
        if name in ran and run.exit_code != 0:
            kind = kinds.get(run.exit_code or 0, WeakfishError)
            return name, kind(f"Stage {name} failed: {run.message or 'It was killed.'}")
    return None, WeakfishError(f"`dvc repro` stopped outside of a stage; {_unexplained(project, of_dvc)}")


def _unexplained(project: Project, of_dvc: Sequence[str]) -> str:
    """Show what DVC says, and say so; raises a sentence of ours where the system refused something, or `Busy`."""
    for line in of_dvc:
        if refused := _refused(project, line):
            raise refused
    mend_locks_of_dvc(project)
    for line in of_dvc:
        click.echo(line, err=True)
    return "its message is above."


def _refused(project: Project, line: str) -> WeakfishError | None:
    """What the system refused to DVC, or to its SQLite, by a line that DVC printed."""
    numbers = [(number, None) for words, number in OF_SQLITE.items() if words in line]
    numbers += [(int(number), file or None) for number, file in ERRNO.findall(line)]
    errors = (of_system(OSError(number, os.strerror(number), file), project.root) for number, file in numbers)
    return next(filter(None, errors), None)
