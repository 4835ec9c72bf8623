"""Work in processes of this machine, of which the caller's is one."""

from __future__ import annotations

import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool

from weakfish.engine.worker import Job, answer, begin, end
from weakfish.errors import WeakfishError
from weakfish.project.paths import Project

WORTH_A_PROCESS = 6.0
"""Estimated seconds of work from which on other processes help: each takes some to start."""

Seconds = Callable[[Project], float]


def run(job: Job, texts: Sequence[str], seconds: Seconds | None) -> Iterator[tuple[int, str]]:
    processes = min(os.cpu_count() or 1, len(texts)) - 1
    begin(job)
    try:
        if processes < 1 or (seconds is not None and seconds(Project(job.root)) < WORTH_A_PROCESS):
            yield from ((place, answer(job, text)) for place, text in enumerate(texts))
            return
        with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), begin, (job,)) as pool:
            try:
                yield from _shared(pool, job, deque(enumerate(texts)), processes)
            except BrokenProcessPool as error:
                raise WeakfishError(
                    "A worker process ended before its work, perhaps for want of memory; run the stage again, "
                    "what was computed is kept."
                ) from error
            finally:
                pool.shutdown(wait=True, cancel_futures=True)
    finally:
        end()


def _shared(
    pool: ProcessPoolExecutor, job: Job, waiting: deque[tuple[int, str]], processes: int
) -> Iterator[tuple[int, str]]:
    """This process works too; each other one has an item at work and one to go on with, so that none is idle."""
    running: dict[Future[str], int] = {}
    while waiting or running:
        while waiting and len(running) < 2 * processes:
            place, text = waiting.popleft()
            running[pool.submit(answer, job, text)] = place
        if waiting:
            place, text = waiting.popleft()
            yield place, answer(job, text)
        done, _ = wait(running, 0 if waiting else None, FIRST_COMPLETED)
        yield from ((running.pop(future), future.result()) for future in done)
