"""Starts a server (redis-server, Valkey, a Sentinel, moto, Spark) on a free loopback port; ends it by its process id.

The port that was taken comes back with the process, once the process says itself that it listens there: whatever else
answers on a port is never taken for it, and one that does not start fails the test with its log.
"""

from __future__ import annotations

import contextlib
import secrets
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

SECONDS = 60
TRIES = 5
READY = (
    *("Ready to accept connections", "ready to accept connections", "Sentinel ID is", "Running on http"),
    *("Spark Connect server started at", "Starting the Spark Connect server on", "successfully listens"),
)
PORTS = range(10_000, 32_000)
"""Below those that the system gives to outgoing connections, which could take a stopped server's."""

Arguments = Callable[[int], Sequence[str | Path]]


def free_port() -> int:
    """A loopback port on which nothing listens."""
    while True:
        number = PORTS[secrets.randbelow(len(PORTS))]
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", number))
            return number


@contextlib.contextmanager
def listening(
    arguments: Arguments, folder: Path, at: int | None = None, user: str | None = None, seconds: float = SECONDS
) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A server and its port, ``at`` or a free one; ``arguments`` are those for a port, ``folder`` gets its log."""
    process, port = start(arguments, folder, at, user, seconds)
    try:
        yield process, port
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait(timeout=20)


def start(
    arguments: Arguments, folder: Path, at: int | None = None, user: str | None = None, seconds: float = SECONDS
) -> tuple[subprocess.Popen[bytes], int]:
    """As `listening`, for whoever ends the process itself.

    Raises
    ------
    AssertionError
        When it does not start, or another process has the port that was asked for.
    """
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "log"
    said = ""
    for _ in range(1 if at else TRIES):
        port = at or free_port()
        with log.open("wb") as stream:
            process = subprocess.Popen(arguments(port), stdout=stream, stderr=stream, user=user)
        if _listens(process, log, seconds):
            return process, port
        said = log.read_text(errors="replace")
        if "in use" not in said:  # else another process took the port first
            break
    raise AssertionError(f"{arguments(0)[0]} did not start: {said[-2000:]}")


def _listens(process: subprocess.Popen[bytes], log: Path, seconds: float) -> bool:
    """Wait for a process to listen; False when it ends instead, or is ended for it takes too long."""
    deadline = time.monotonic() + seconds
    while process.poll() is None:
        said = log.read_text(errors="replace")
        if any(words in said for words in READY):
            return True
        if time.monotonic() > deadline:
            process.kill()
            process.wait()
        time.sleep(0.01)
    return False
