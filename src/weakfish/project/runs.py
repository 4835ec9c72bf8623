"""Running a stage: its lock, so that it runs only once at a time, and the record of when and how it ran."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from urllib.parse import quote

from weakfish.contracts.ledgers import Run, read_run, read_runs, run_file, write_run
from weakfish.errors import Busy, UserError, WeakfishError, interruptible, of_system
from weakfish.files import drop_parts, existed
from weakfish.project.paths import Project
from weakfish.project.sharing import leave_mark
from weakfish.project.stages import QUIET

INTERRUPTED = 130

SECONDS_TO_LOOK = 0.5
"""How long another command may hold a lock only to see whether it is free."""

SECONDS_OF_DVC = 3.0
"""How long DVC itself waits for the lock of a project, which others hold for moments: not while a stage runs."""

DVC_IS = "DVC is"
KILLED = "The `dvc repro` of a `weakfish run` that was killed is still"

WRITTEN = ("data", "reports", "validation", "feature_repo", "labeling_functions", "sources", ".weakfish")
"""The folders of a project in which commands write."""

Misuse = type[UserError] | tuple[type[UserError], ...]
"""The errors that say that a command was misused; none as a rule."""


def forget_failures(project: Project, before: datetime) -> None:
    """Drop the records of stages that failed, or were killed, before a time after which nothing is left to do.

    A stage that failed by hand and was put right by undoing the edit is not run again, so nothing else would.
    """
    for stage, run in read_runs(project).items():
        if run.exit_code != 0 and run.started_at < before:
            run_file(project, stage).unlink()


def run_recorded(project: Project, stage: str, work: Callable[[Project], object], misuse: Misuse = ()) -> None:
    """Run a stage's work under its lock, and record when it began and ended and how.

    Work that returns False had nothing to do: the record of the run that did it stands. So it does after an
    error of a kind in ``misuse``: of a command that a person misused, which says nothing of the pipeline.

    Raises
    ------
    Busy
        While another process runs the same stage.
    """
    with locked(project, stage):
        before = read_run(project, stage)
        started, clock = datetime.now(UTC), time.monotonic()
        write_run(project, Run(stage, started, seconds=0.0))
        code, idle, misused = INTERRUPTED, False, False
        message: str | None = "It was interrupted."
        try:
            leave_mark(project)
            with interruptible():
                idle = work(project) is False
            code, message = 0, None
        except WeakfishError as error:
            code, message = error.exit_code, str(error)
            misused = isinstance(error, misuse)
            raise
        except Exception as error:
            refused = of_system(error, project.root) if isinstance(error, OSError) else None
            code, message = WeakfishError.exit_code, str(refused) if refused else f"{type(error).__name__}: {error}"
            raise
        finally:
            seconds = round(time.monotonic() - clock, 2)
            done = Run(stage, started, datetime.now(UTC), code, message, seconds)
            if misused and before is None:
                run_file(project, stage).unlink()
            else:
                stands = misused or (idle and before is not None and before.exit_code == 0)
                write_run(project, before if stands and before else done)


def lock_file(project: Project, work: str) -> Path:
    """The file whose lock the process holds that does a piece of work, and that names it."""
    return project.root / ".weakfish" / "locks" / f"{quote(work, safe='@ ')}.lock"


@contextmanager
def locked(project: Project, work: str, wait: bool = False) -> Iterator[None]:
    """Hold the lock of a piece of work; raises `Busy` while another process holds it, or waits for its end."""
    from filelock import FileLock, Timeout

    file = lock_file(project, work)
    file.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(file, timeout=-1 if wait else 0)
    try:
        lock.acquire()
    except Timeout as error:
        raise Busy(f"`weakfish {work}` is already running here, in {holder(file)}; wait for it to end.") from error
    try:
        file.write_text(str(os.getpid()))
        yield
    finally:
        lock.release()


DVC = "dvc repro"
"""The lock that the DVC of `weakfish run` holds, also when that was killed."""


def require_no_run(project: Project) -> None:
    """Raise `Busy` while a `weakfish run` or a DVC is at work: it would read what a stage by hand writes."""
    await_end(lock_file(project, "run"), "`weakfish run` is", SECONDS_TO_LOOK)
    require_no_dvc(project)


def require_no_dvc(project: Project) -> None:
    """Raise `Busy` while a DVC is at work, by hand or of a `weakfish run` that was killed."""
    await_end(lock_file(project, DVC), KILLED, SECONDS_TO_LOOK)
    mend_locks_of_dvc(project)


def await_end(file: Path, whose: str, seconds: float) -> None:
    """Wait until no process holds a lock; raises `Busy` where that takes longer than some seconds.

    ``whose`` begins the sentence: "`weakfish label` is".
    """
    from filelock import FileLock, Timeout

    if not file.exists():
        return
    lock = FileLock(file)
    for part in (min(seconds, 1.0), seconds - 1.0):
        with contextlib.suppress(Timeout), lock.acquire(timeout=max(part, 0.0)):
            return
        if seconds > 1.0 >= part and QUIET not in os.environ:
            print(f"Waiting for {holder(file)} to end.", file=sys.stderr, flush=True)
    raise Busy(f"{whose} at work in this project, in {holder(file)}; wait for it to end.")


def mend_locks_of_dvc(project: Project) -> None:
    """Drop the file of locks that DVCs left that were killed; raises `Busy` while one is at work.

    It was cut short, or another process has a number now that stands there: either would stop every later DVC.
    """
    from filelock import FileLock, Timeout

    root = next((above for above in (project.root, *project.root.parents) if (above / ".dvc").is_dir()), project.root)
    file = root / ".dvc" / "tmp" / "rwlock"
    if file.is_file():
        guard = file.with_name("rwlock.lock")  # which DVC holds while it reads and writes the file
        try:
            with FileLock(guard, timeout=SECONDS_OF_DVC):
                _drop_locks(file)
        except Timeout as error:
            raise Busy(f"{DVC_IS} at work in this project, in {holder(guard)}; wait for it to end.") from error
    await_end(file.with_name("lock"), DVC_IS, SECONDS_OF_DVC)


def _drop_locks(file: Path) -> None:
    try:
        written, found = file.stat().st_mtime, json.loads(file.read_text(encoding="utf-8"))
        of = [*found.get("write", {}).values(), *chain.from_iterable(found.get("read", {}).values())]
        alive = [by["pid"] for by in of if existed(by["pid"], written)]
    except FileNotFoundError:
        return
    except (ValueError, AttributeError, KeyError, TypeError):
        of, alive = [None], []
    if alive:
        raise Busy(f"{DVC_IS} at work in this project, in {_process(alive[0], file)}; wait for it to end.")
    if of:
        file.unlink(missing_ok=True)


def holder(file: Path) -> str:
    """The process that holds a lock, which may not have said so yet, and since when."""
    with contextlib.suppress(OSError):
        if number := file.read_text().strip():
            return _process(number, file)
    return "another process"


def _process(number: object, file: Path) -> str:
    return f"process {number} since {datetime.fromtimestamp(file.stat().st_mtime, UTC):%Y-%m-%d %H:%M:%S} UTC"


def sweep_project(project: Project) -> None:
    """Delete what killed processes left in a project: unfinished files and folders, and temporary ones."""
    sweep(project.temporary)
    drop_parts(project.root, deep=False)
    for name in WRITTEN:
        drop_parts(project.root / name)


@contextmanager
def temporary_folder(home: Path, name: str) -> Iterator[Path]:
    """A folder below ``home`` that goes with the block; those of the same name that killed processes left go, too."""
    folder = lasting_folder(home, name)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def lasting_folder(home: Path, name: str) -> Path:
    """As `temporary_folder`, for whoever deletes it himself; a later one of the name does where he was killed."""
    home.mkdir(parents=True, exist_ok=True)
    sweep(home, name)
    return Path(tempfile.mkdtemp(prefix=f"{name}-{os.getpid()}-", dir=home))


def sweep(home: Path, name: str = "*") -> None:
    """Delete the temporary folders below ``home`` that killed processes left, those of one name or of all."""
    for left in home.glob(f"{name}-*-*"):
        process = left.name.rsplit("-", 2)[1]
        with contextlib.suppress(FileNotFoundError):
            if process.isdigit() and not existed(int(process), left.stat().st_mtime):
                shutil.rmtree(left, ignore_errors=True)


class Progress:
    """Says on stderr how far a piece of work is, once it takes longer than a second.

    Then at most once a second, and at the end where the total is known.
    """

    def __init__(self, what: str, total: int | None = None) -> None:
        self.what, self.total, self.done = what, total, 0
        self._said, self._slow = time.monotonic(), False

    def add(self, count: int) -> None:
        """Count work done."""
        self.done += count
        now = time.monotonic()
        late, whole = now - self._said >= 1, self._slow and count and self.done == self.total
        if (late or whole) and QUIET not in os.environ:
            self._said, self._slow = now, True
            of = f" of {self.total:,}" if self.total else ""
            print(f"{self.what}: {self.done:,}{of}", file=sys.stderr, flush=True)


def has_ended(process: int) -> bool:
    """True when there is no such process, or it ended and waits to be collected."""
    try:
        ended, _ = os.waitpid(process, os.WNOHANG)
    except ChildProcessError:
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            return False
        try:  # in a container without an init process, nobody ever collects an orphan
            return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
        except (OSError, IndexError):
            return False
    return ended == process
