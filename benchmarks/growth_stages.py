"""Runs a stage of a project as the command line does, and measures it: seconds, memory of all its processes, disk.

Memory is the proportional set size, in which a page that several processes share counts once: the largest sum that was
seen. Servers of the online store are started beforehand and do not count, nor does a JVM.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.process import descendants

RUN = "from weakfish.cli.main import main; main()"
POLL_SECONDS = 0.2
NOT_OURS = ("valkey-server", "redis-server", "java")

OUTS: dict[str, Sequence[str]] = {
    "fetch": ("data/raw",),
    "ingest": ("data/staged", "data/gold"),
    "accept": ("data/events",),
    "vote": ("data/votes",),
    "label": ("data/labels",),
    "features": ("data/features", "data/known_labels"),
    "training-set": ("data/training",),
}
"""What DVC deletes before a stage, by its verb."""


@dataclass(frozen=True)
class Measured:
    """A stage that ended: ``ended`` is its exit code, or `limit` where its time was up.

    ``bytes`` is what it added to ``data/``, ``pss_mb`` in MB (2**20).
    """

    stage: str
    seconds: float
    cpu_seconds: float
    pss_mb: float
    bytes: int
    ended: int | str


def stages(views: Sequence[str], task: str) -> list[list[str]]:
    """The commands of a whole run, in the order of dvc.yaml."""
    judged = [["validate", f"labels/{task}"], ["gate", f"labels/{task}"], ["features"]]
    for view in views:
        judged += [["validate", f"features/{view}"], ["gate", f"features/{view}"]]
    judged += [["publish"], ["training-set"], ["validate", f"training/{task}"], ["gate", f"training/{task}"]]
    first = [["fetch"], ["ingest"], ["validate", "events"], ["accept"], ["vote"], ["label"]]
    return [*first, *judged, ["evaluate"], ["report"]]


def measure(root: Path, command: Sequence[str], limit: float) -> Measured:
    """Run a command of `weakfish` in a project, as DVC would; it is ended after ``limit`` seconds."""
    for out in OUTS.get(command[0], ()):
        shutil.rmtree(root / out, ignore_errors=True)
    before, begin = _size(root / "data"), time.perf_counter()
    with (root / "log.txt").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", RUN, *command], cwd=root, stdout=log, stderr=log, process_group=0
        )
    peak, ended = 0.0, 0
    while True:
        pid, status, used = os.wait4(process.pid, os.WNOHANG)
        seconds = time.perf_counter() - begin
        if pid:
            break
        if seconds > limit and not ended:
            ended = 1
            os.killpg(process.pid, signal.SIGKILL)
        peak = max(peak, sum(map(pss_mb, (process.pid, *descendants(process.pid)))))
        time.sleep(POLL_SECONDS)
    process.returncode = os.waitstatus_to_exitcode(status)
    code: int | str = "limit" if ended else process.returncode
    cpu = used.ru_utime + used.ru_stime
    return Measured(" ".join(command), seconds, cpu, peak, _size(root / "data") - before, code)


def pss_mb(pid: int) -> float:
    """The proportional set size of a process, in MB; 0 of one that has ended or is not ours."""
    try:
        if Path(f"/proc/{pid}/comm").read_text().strip() in NOT_OURS:
            return 0.0
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("Pss:")), 0.0)


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
