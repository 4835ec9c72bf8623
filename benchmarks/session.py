"""Sides of a figure that take turns, each in a process of its own: `session` starts one, `Session.ask` lets it measure.

A side is a generator function with plain arguments: it sets up, yields, is sent the keywords of each request and yields
what it measured. Processes are forked from one that has imported Feast, which takes seconds and is on no clock.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

from benchmarks.process import POLL_SECONDS, SideFailed, descendants, own_peak_mb, peak_mb

PRELOADED = (
    *("feast", "feast.infra.online_stores.redis", "feast.infra.offline_stores.duckdb", "ibis.backends.duckdb"),
    *("feast.infra.compute_engines.local.compute", "pyarrow.parquet", "pyarrow.dataset"),
)
"""What Feast needs on both sides."""


class Session:
    """A side that waits for requests.

    Attributes
    ----------
    peak_rss_mb : float
        The sum of the peaks of its process and of all that it started, in MB (2**20), once the session has ended.
    """

    peak_rss_mb = 0.0

    def __init__(self, side: str, arguments: dict[str, Any], method: str) -> None:
        self.side = side
        context = multiprocessing.get_context(method)
        if method == "forkserver":
            context.set_forkserver_preload(list(PRELOADED))
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=_serve, args=(other, side, arguments))  # type: ignore[attr-defined]
        self._process.start()
        other.close()
        self._children: dict[int, float] = {}
        self._ended = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()

    def ask(self, **request: Any) -> Any:
        """What the side answers; raises `SideFailed`."""
        self._pipe.send(request)
        return self.answer()

    def answer(self) -> Any:
        """The next thing that the side says; the first one says that it is ready."""
        try:
            return self._pipe.recv()
        except EOFError as error:
            self._process.join()
            raise SideFailed(f"{self.side} ended with {self._process.exitcode}; the reason stands above.") from error

    def end(self) -> None:
        """Let the side end, and take its peak."""
        own = self.ask_to_end()
        self._process.join()
        self._ended.set()
        self._watcher.join()
        self.peak_rss_mb = round(own + sum(self._children.values()), 1)

    def ask_to_end(self) -> float:
        """The peak of the side's own process."""
        self._pipe.send(None)
        return float(self.answer())

    def kill(self) -> None:
        """End the side at once, if it still runs."""
        self._ended.set()
        self._process.kill()
        self._process.join()
        self._pipe.close()

    def _watch(self) -> None:
        while not self._ended.wait(POLL_SECONDS):
            self._children |= {pid: peak_mb(pid) for pid in descendants(self._process.pid or 0)}


@contextmanager
def session(side: str, *, light: bool = False, **arguments: Any) -> Iterator[Session]:
    """Start ``module:function`` of this package with ``arguments``, wait until it is ready; it ends with the block.

    A ``light`` side starts from an empty interpreter instead of one that has imported Feast.

    Raises
    ------
    SideFailed
        When the side ends with an error; its own traceback stands on stderr.
    """
    start = time.perf_counter()
    running = Session(side, arguments, "spawn" if light else "forkserver")
    try:
        running.answer()
        yield running
        running.end()
        print(f"  {side}: {time.perf_counter() - start:.1f} s", file=sys.stderr, flush=True)
    finally:
        running.kill()


def ask(side: str, *, light: bool = False, **arguments: Any) -> Any:
    """Start a side that is a plain function, return what it returns."""
    with session(side, light=light, **arguments) as running:
        return running.ask()


def _serve(pipe: Connection, side: str, arguments: dict[str, Any]) -> None:
    """Be the side: what it prints goes to stderr."""
    os.dup2(2, 1)
    module, _, name = side.partition(":")
    function = getattr(importlib.import_module(f"benchmarks.{module}"), name)
    answer = function(**arguments)
    if not hasattr(answer, "send"):
        answer = _said(answer)
    pipe.send(next(answer))
    while (request := pipe.recv()) is not None:
        pipe.send(answer.send(request))
    answer.close()
    pipe.send(own_peak_mb())


def _said(result: Any) -> Iterator[Any]:
    yield None
    yield result
