"""Publishing and auditing by Spark's executors, classic and Connect, killed in the middle: `make test-spark`."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis
from fleets import CLUSTER, LOCAL, connect_server, require_java
from stores import dump, python, report, shop, table

from weakfish.project.paths import Project

EXECUTOR = "org.apache.spark.executor.CoarseGrainedExecutorBackend"
BUYERS = [f"b{number}" for number in range(60)]

PUBLISH = """
from weakfish.feast import commit, latest_rows
from weakfish.feast.publish import audit, publish

latest_rows.ALONE, latest_rows.SHARD_ROWS, commit.LIMIT = 0, 40, 10
print(__import__("json").dumps([publish(project).as_json(), audit(project).audit]))
"""


@pytest.fixture(scope="module")
def connected(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, str]]:
    """The environment that names a Spark Connect server."""
    with connect_server(tmp_path_factory.mktemp("connect")) as environment:
        yield environment


class Killer(threading.Thread):
    """Kills an executor as soon as a job has begun, once for each of the first jobs."""

    def __init__(self, project: Project, most: int) -> None:
        super().__init__(daemon=True)
        self.jobs, self.most = project.root / ".weakfish/fleet", most
        self.killed, self.over = set[str](), threading.Event()

    def run(self) -> None:
        while not self.over.wait(0.02):
            for job in self.jobs.glob("*"):
                if job.name not in self.killed and len(self.killed) < self.most and (found := executors()):
                    found[0].kill()
                    self.killed.add(job.name)


def executors() -> list[psutil.Process]:
    """The executors of the engine that this process started."""
    found = []
    for each in psutil.Process().children(recursive=True):
        try:
            found += [each] if EXECUTOR in each.cmdline() else []
        except psutil.NoSuchProcess:
            continue
    return found


def published(project: Project, engine: Mapping[str, str]) -> Any:
    ended = python(project, PUBLISH, **engine)
    assert ended.returncode == 0, ended.stderr
    assert ("publish: shards written on Spark: " in ended.stderr) == (engine is not LOCAL)
    return json.loads(ended.stdout.splitlines()[-1])


@pytest.mark.parametrize("engine", ["cluster", "connect"])
def test_executors_leave_what_one_process_leaves(
    tmp_path: Path, store: redis.Redis, engine: str, request: pytest.FixtureRequest
) -> None:
    require_java()
    alone, spread = shop(tmp_path / "alone"), shop(tmp_path / "spread")
    edits = ((BUYERS, 0), (BUYERS[7:], 3))
    found = []
    for project in (alone, spread):
        environment: Mapping[str, str] = LOCAL
        if project is spread and engine == "connect":
            environment = request.getfixturevalue("connected")
        elif project is spread:  # executors get their files by the storage
            environment = {**CLUSTER, "WEAKFISH_STORAGE": f"file://{tmp_path / 'bucket'}"}
        store.flushall()
        for number, (buyers, shift) in enumerate(edits):
            table(project.root, "buyer_orders", "buyer", buyers, shift=shift)
            killer = Killer(project, most=4)
            if number:
                killer.start()
            told = published(project, environment)
            killer.over.set()
            found.append([told, dump(store), report(project)])
        assert bool(killer.killed) == (project is spread)
        shutil.rmtree(project.root / ".weakfish/fleet", ignore_errors=True)
    assert found[2:] == found[:2]
    assert found[3][0][1]["passed"]
