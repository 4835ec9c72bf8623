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
from pathlib import Path
from urllib.parse import quote

from weakfish.contracts.ledgers import Run, read_run, read_runs, run_file, write_run
from weakfish.errors import Busy, UserError, WeakfishError, of_system
from weakfish.files import write_json
from weakfish.project.paths import Project
from weakfish.project.stages import QUIET

INTERRUPTED = 130

SECONDS_TO_WRITE, POLL_SECONDS = 1.0, 0.1
"""How long DVC may take to write its file of locks, and how often to look."""

CLOCK_SECONDS = 1.0
"""By how much a process's start and a file's time may be wrong against each other."""

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
    """Raise `Busy` while a `weakfish run` is at work in the project: it would read what a stage by hand writes."""
    from filelock import FileLock, Timeout

    for work in ("run", DVC):
        file = lock_file(project, work)
        if not file.exists():
            continue
        try:
            with FileLock(file, timeout=0.5):  # another command may be looking at this very moment
                pass
        except Timeout as error:
            raise Busy(f"`weakfish run` is at work in this project, in {holder(file)}; wait for it to end.") from error


def holder(file: Path) -> str:
    """The process that holds a lock, which may not have said so yet, and since when."""
    with contextlib.suppress(OSError):
        if number := file.read_text().strip():
            since = datetime.fromtimestamp(file.stat().st_mtime, UTC)
            return f"process {number} since {since:%Y-%m-%d %H:%M:%S} UTC"
    return "another process"


def mend_locks_of_dvc(project: Project) -> None:
    """Drop from DVC's file of locks what a DVC that was killed left there and what would stop every later one.

    Either it was cut short while it wrote the file, or another process has its number now.
    """
    root = next((above for above in (project.root, *project.root.parents) if (above / ".dvc").is_dir()), project.root)
    file = root / ".dvc" / "tmp" / "rwlock"
    deadline = time.monotonic() + SECONDS_TO_WRITE
    while file.is_file():
        try:
            written, found = file.stat().st_mtime, json.loads(file.read_text(encoding="utf-8"))
            writing = {path: by for path, by in found.get("write", {}).items() if existed(by["pid"], written)}
            reading = found.get("read", {}).items()
            reading = {path: [by for by in of if existed(by["pid"], written)] for path, of in reading}
        except (ValueError, AttributeError, KeyError, TypeError):
            if time.monotonic() < deadline:  # another DVC may be writing it at this moment
                time.sleep(POLL_SECONDS)
                continue
            file.unlink(missing_ok=True)
            return
        kept = {"write": writing, "read": {path: of for path, of in reading.items() if of}}
        if kept != {"write": {}, "read": {}} | found:
            write_json(file, kept)
        return


def drop_parts(project: Project) -> None:
    """Delete what processes that were killed left: unfinished files (`weakfish.files.whole_file`), and folders."""
    sweep(project.temporary)
    for folder in (project.data, project.reports, project.root / "validation", project.root / ".weakfish"):
        for part in folder.rglob(".*.part-*"):
            process = part.name.rpartition("-")[2]
            with contextlib.suppress(FileNotFoundError):
                if process.isdigit() and part.is_file() and not existed(int(process), part.stat().st_mtime):
                    part.unlink()


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


def existed(process: int, written: float) -> bool:
    """Whether a process existed when a file was written that names it."""
    import psutil

    try:
        begun: float = psutil.Process(process).create_time()
    except (psutil.NoSuchProcess, ValueError, OverflowError):
        return False
    return begun <= written + CLOCK_SECONDS


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
