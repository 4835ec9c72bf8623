"""What each stage did: its ledger (row counts, no clock, an out of the stage) and its run record (clock and outcome).

A lock goes with the record, so that a stage is at work only once.
"""

from __future__ import annotations

import fcntl
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from weakfish.errors import Busy, WeakfishError
from weakfish.files import read_json, write_json
from weakfish.project.paths import Project

INTERRUPTED = 130


def record_file(project: Project, stage: str) -> Path:
    """The file of a stage's last run."""
    return project.root / ".weakfish" / "runs" / f"{_plain(stage)}.json"


def lock_file(project: Project, work: str) -> Path:
    """The file whose lock the process holds that does a piece of work, and that names it."""
    return project.root / ".weakfish" / "locks" / f"{_plain(work)}.lock"


def _plain(name: str) -> str:
    """A name as one part of a path; names of stages may hold slashes."""
    return quote(name, safe="@ ")


def read_records(project: Project) -> dict[str, dict[str, Any]]:
    """The last run of every stage, by name."""
    files = sorted(record_file(project, "").parent.glob("*.json"))
    return {unquote(file.stem): read_json(file) for file in files}


def forget_failures(project: Project, before: datetime) -> None:
    """Drop the records of stages that failed, or were killed, before a time after which nothing is left to do.

    A stage that failed by hand and was put right by undoing the edit is not run again, so nothing else would.
    """
    for stage, record in read_records(project).items():
        if record["exit_code"] != 0 and datetime.fromisoformat(record["started_at"]) < before:
            record_file(project, stage).unlink()


def run_recorded(project: Project, stage: str, work: Callable[[Project], object]) -> None:
    """Run a stage's work under its lock, and record when it began and ended and how.

    Work that returns False had nothing to do: the record of the run that did it stands.

    Raises
    ------
    Busy
        While another process runs the same stage.
    """
    with locked(project, stage):
        file = record_file(project, stage)
        before = read_json(file) if file.exists() else None
        record: dict[str, object] = {"stage": stage, "started_at": _now(), "finished_at": None}
        write_json(file, {**record, "exit_code": None, "message": None, "seconds": 0.0})
        outcome: dict[str, object] = {"exit_code": INTERRUPTED, "message": "It was interrupted."}
        clock, idle = time.monotonic(), False
        try:
            idle = work(project) is False
            outcome = {"exit_code": 0, "message": None}
        except WeakfishError as error:
            outcome = {"exit_code": error.exit_code, "message": str(error)}
            raise
        except Exception as error:
            outcome = {"exit_code": WeakfishError.exit_code, "message": f"{type(error).__name__}: {error}"}
            raise
        finally:
            seconds = round(time.monotonic() - clock, 2)
            if not (idle and before and before["exit_code"] == 0):
                before = {**record, **outcome, "finished_at": _now(), "seconds": seconds}
            write_json(file, before)


@contextmanager
def locked(project: Project, work: str) -> Iterator[None]:
    """Hold the lock of a piece of work; raises `Busy` while another process holds it."""
    file = lock_file(project, work)
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a+") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            stream.seek(0)
            raise Busy(
                f"`weakfish {work}` is already at work here, in process {stream.read().strip()}; wait for it to end."
            ) from error
        stream.truncate(0)
        stream.write(str(os.getpid()))
        stream.flush()
        yield


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


class Progress:
    """Says on stderr how far a piece of work is, once it takes longer than a second; then at most once a second."""

    def __init__(self, what: str, total: int | None = None) -> None:
        self.what, self.total, self.done = what, total, 0
        self._said = time.monotonic()

    def add(self, count: int) -> None:
        """Count work done."""
        self.done += count
        now = time.monotonic()
        if now - self._said >= 1:
            self._said = now
            of = f" of {self.total:,}" if self.total else ""
            print(f"{self.what}: {self.done:,}{of}", file=sys.stderr, flush=True)
