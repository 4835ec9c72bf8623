"""Runs one side of a figure in a process of its own: `run` starts it and waits, and knows its peak of memory.

A side is a function with JSON arguments that returns a JSON object; it imports what it needs, then takes its own time.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
POLL_SECONDS = 0.1


class SideFailed(Exception):
    """A side ended with an error; its own traceback stands on stderr."""


@dataclass(frozen=True)
class Done:
    """What a side returned, and the sum of the peaks of its process and of all that it started, in MB (2**20)."""

    result: dict[str, Any]
    peak_rss_mb: float

    @property
    def seconds(self) -> float:
        """The time that the side took by its own clock."""
        return float(self.result["seconds"])


def run(side: str, **arguments: Any) -> Done:
    """Run ``module:function`` of this package with ``arguments``; raises `SideFailed`."""
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.process", f"benchmarks.{side}", json.dumps(arguments)],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        text=True,
    )
    children: dict[int, float] = {}
    try:
        while True:
            try:
                output, _ = process.communicate(timeout=POLL_SECONDS)
                break
            except subprocess.TimeoutExpired:
                children |= {pid: peak_mb(pid) for pid in descendants(process.pid)}
    finally:
        process.kill()
    if process.returncode:
        raise SideFailed(f"{side} {arguments} ended with {process.returncode}; the reason stands above.")
    print(f"  {side}: {time.perf_counter() - start:.1f} s with imports", file=sys.stderr, flush=True)
    result, own = json.loads(output.splitlines()[-1])
    return Done(result, round(own + sum(children.values()), 1))


def descendants(pid: int) -> list[int]:
    """Processes below ``pid``, on Linux; elsewhere they are not counted."""
    found = list[int]()
    with suppress(OSError):  # it has ended
        for file in Path(f"/proc/{pid}/task").glob("*/children"):
            children = [int(child) for child in file.read_text().split()]
            found += [below for child in children for below in (child, *descendants(child))]
    return found


def resident_mb() -> float:
    """What this process holds in memory now, in MB, on Linux; what its imports took, when nothing else was done."""
    return round(_status_mb(os.getpid(), "VmRSS"), 1)


def peak_mb(pid: int) -> float:
    """``VmHWM``: unlike ``ru_maxrss``, it does not begin with the size of the process that started this one."""
    return _status_mb(pid, "VmHWM")


def _status_mb(pid: int, name: str) -> float:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    line = next((line for line in status.splitlines() if line.startswith(name)), f"{name}: 0 kB")
    return int(line.split()[1]) / 1024


def own_peak_mb() -> float:
    """The peak of this process, in MB."""
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak_mb(os.getpid()) or own / (1024**2 if sys.platform == "darwin" else 1024)


def main() -> None:
    """Run the side; what it prints goes to stderr, its result and its peak to stdout."""
    name, arguments = sys.argv[1:]
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    module, _, function = name.partition(":")
    result = getattr(importlib.import_module(module), function)(**json.loads(arguments))
    print(json.dumps([result, own_peak_mb()]), file=answer, flush=True)


if __name__ == "__main__":
    main()
