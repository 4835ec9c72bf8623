"""The demo on Spark, classic and Connect, with an executor killed in each stage, and on Sail: `make test-spark`."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest
from fleets import CLUSTER, connect_server, sail_server
from projects import clone, contents, weakfish

EXECUTOR = "org.apache.spark.executor.CoarseGrainedExecutorBackend"

STAGES = (
    ("ingest",),
    ("vote",),
    ("label",),
    ("features",),
    ("training-set",),
    ("validate", "events"),
    ("validate", "labels/spam"),
    ("validate", "features/relay_activity"),
    ("validate", "training/spam"),
)
"""Stages of which executors do the work."""

SAME = ("profiles", "masks", "staged", "events", "votes", "labels", "known_labels", "features", "training", "gold")


@pytest.fixture(scope="module")
def connected(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, str]]:
    """The environment that names a Spark Connect server with two executors."""
    with connect_server(tmp_path_factory.mktemp("connect")) as environment:
        yield environment


@pytest.fixture(scope="module")
def sail(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, str]]:
    """The environment that names a server of Sail."""
    with sail_server(tmp_path_factory.mktemp("sail")) as environment:
        yield environment


def tables(root: Path) -> dict[str, bytes]:
    """All files of all tables."""
    return {f"{name}/{file}": found for name in SAME for file, found in contents(root / "data" / name).items()}


def verdicts(root: Path) -> dict[str, bytes]:
    return contents(root / "reports/validation") | contents(root / "reports/ledger")


@pytest.mark.parametrize("engine", ["cluster", "connect"])
def test_the_whole_pipeline_makes_the_same_bytes(
    demo: Path, tmp_path: Path, engine: str, request: pytest.FixtureRequest
) -> None:
    environment = CLUSTER if engine == "cluster" else request.getfixturevalue("connected")
    root = clone(tmp_path / "weakfish")
    try:
        ended = weakfish(root, "run", **environment)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        assert "vote: row groups on Spark: " in ended.stdout + ended.stderr
        mine, theirs = tables(root), tables(demo)
        assert [name for name in {**mine, **theirs} if mine.get(name) != theirs.get(name)] == []
        assert verdicts(root) == verdicts(demo)
    finally:
        weakfish(root, "online", "stop")


class _Killer(threading.Thread):
    """Kills an executor as soon as a job has begun, once for each job."""

    def __init__(self, project: Path) -> None:
        super().__init__(daemon=True)
        self.jobs, self.killed, self.over = project / ".weakfish/fleet", set[str](), threading.Event()

    def run(self) -> None:
        while not self.over.wait(0.02):
            for job in self.jobs.glob("*"):
                if job.name not in self.killed and (found := executors()):
                    found[0].kill()
                    self.killed.add(job.name)


def executors() -> list[psutil.Process]:
    """The executors of the server that this process started."""
    found = []
    for each in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):  # it has ended meanwhile
            if EXECUTOR in each.cmdline():
                found.append(each)
    return found


@contextmanager
def killing(project: Path) -> Iterator[_Killer]:
    """Kill an executor in each job within the block."""
    killer = _Killer(project)
    killer.start()
    try:
        yield killer
    finally:
        killer.over.set()
        killer.join()


def test_a_killed_executor_changes_no_byte(demo: Path, tmp_path: Path, connected: Mapping[str, str]) -> None:
    root = Path(shutil.copytree(demo, tmp_path / "weakfish", ignore=shutil.ignore_patterns("online", "locks")))
    before = tables(root), verdicts(root)
    for stage in STAGES:
        shutil.rmtree(root / ".weakfish/cache", ignore_errors=True)  # so that it has all of its work to do
        with killing(root) as killer:
            ended = weakfish(root, *stage, **connected)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        assert killer.killed, f"{stage} gave executors nothing to do"
        assert (tables(root), verdicts(root)) == before, stage


def test_sail_is_a_second_engine(demo: Path, tmp_path: Path, sail: Mapping[str, str]) -> None:
    root = Path(shutil.copytree(demo, tmp_path / "weakfish", ignore=shutil.ignore_patterns("online", "locks")))
    before = tables(root), verdicts(root)
    for stage in STAGES:
        for left in (".weakfish/cache", ".weakfish/fleet"):
            shutil.rmtree(root / left, ignore_errors=True)
        ended = weakfish(root, *stage, **sail)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        assert (root / ".weakfish/fleet").is_dir(), f"{stage} gave executors nothing to do"
        assert (tables(root), verdicts(root)) == before, stage
