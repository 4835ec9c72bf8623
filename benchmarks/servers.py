"""Servers to measure with, each a process of its own on a free loopback port, ended by its own process id."""

from __future__ import annotations

import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import redis

from benchmarks.process import SideFailed, descendants, peak_mb
from weakfish.feast.server import HOST, program

SECONDS = 120


@dataclass(frozen=True)
class Server:
    """A server that answers.

    Attributes
    ----------
    port : int
        On the loopback interface.
    """

    port: int
    process: subprocess.Popen[bytes]

    def peak_rss_mb(self) -> float:
        """The peaks of its process and of those that it started, added up, in MB (2**20)."""
        return round(sum(peak_mb(pid) for pid in (self.process.pid, *descendants(self.process.pid))), 1)


@contextmanager
def redis_server(folder: Path) -> Iterator[Server]:
    """An empty Valkey that writes nothing to disk."""
    folder.mkdir(parents=True)
    port = free_port()
    settings = ["--bind", HOST, "--port", str(port), "--dir", str(folder), "--save", "", "--appendonly", "no"]
    client = redis.Redis(HOST, port)
    with _started([str(program()), *settings], folder, {}, port, lambda: bool(client.ping())) as server:
        yield server
    client.close()


@contextmanager
def http_server(command: Sequence[str], folder: Path, port: int, environment: Mapping[str, str]) -> Iterator[Server]:
    """A feature server, once its ``/health`` says 200; ``folder`` is its working directory and gets its log."""

    def healthy() -> bool:
        with urllib.request.urlopen(f"http://{HOST}:{port}/health", timeout=5) as answer:
            return bool(answer.status == 200)

    with _started(command, folder, environment, port, healthy) as server:
        yield server


@contextmanager
def apart(server: Server) -> Iterator[None]:
    """Keep a server on the last processor for a block, so that clients on the first one never share it."""
    before = os.sched_getaffinity(server.process.pid)
    os.sched_setaffinity(server.process.pid, {max(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(server.process.pid, before)


def stay_apart() -> None:
    """Keep this process, a client, on the first processor."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def free_port() -> int:
    """A loopback port on which nothing listens."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


@contextmanager
def _started(
    command: Sequence[str], folder: Path, environment: Mapping[str, str], port: int, answers: Callable[[], bool]
) -> Iterator[Server]:
    log = folder / f"{Path(command[0]).name}.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(command, cwd=folder, env={**os.environ, **environment}, stdout=stream, stderr=stream)
    try:
        _wait(process, answers, log)
        yield Server(port, process)
    finally:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(process: subprocess.Popen[bytes], answers: Callable[[], bool], log: Path) -> None:
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if answers():
                return
        except (redis.ConnectionError, urllib.error.URLError, OSError):
            time.sleep(0.05)
    raise SideFailed(f"{log.stem} did not start: {log.read_text(errors='replace')[-2000:]}")
