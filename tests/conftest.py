"""What tests share: the pipeline on the real corpus, run once for all that look at what it makes; servers."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
import redis
from projects import REPOSITORY, clone, weakfish
from stores import named, port, redis_server

from weakfish.tables import read_table

os.environ.setdefault("WEAKFISH_ASSETS", str(REPOSITORY / ".weakfish" / "assets"))  # fetched once, not per project


EARLY = ("test_labeling_functions_agree", "test_gates", "test_benchmarks", "test_features")
"""Files of tests to begin with: the first makes the demo, which takes minutes; the others do without it meanwhile."""

LONG = ("test_demo", "test_documents", "test_replay", "test_features_rows", "test_stages", "test_store_serve_running")
"""Files that take longest of the others: none of them is left for the end, when one process would wait for it."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files of tests into the order in which two processes are done first."""
    order = {name: place for place, name in enumerate((*EARLY, *LONG))}
    items.sort(key=lambda item: order.get(item.path.stem, len(order)))


def run_of_tests() -> str:
    """What the processes of one run of tests have in common: they share the demo, the first that needs it makes it."""
    return os.environ.get("PYTEST_XDIST_TESTRUNUID", str(os.getpid()))


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A fresh clone of this repository in which `weakfish run` has run; tests leave it as it is."""
    root = tmp_path_factory.getbasetemp().parent / f"demo-{run_of_tests()}" / "weakfish"
    root.parent.mkdir(exist_ok=True)
    with (root.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        printed = root / ".weakfish/first-run.txt"
        if not printed.exists():
            result = weakfish(clone(root), "run")
            assert result.returncode == 0, result.stdout + result.stderr
            printed.write_text(result.stdout, encoding="utf-8")
    yield root
    weakfish(root, "online", "stop")


@pytest.fixture(scope="session")
def events(demo: Path) -> pa.Table:
    """The accepted events of the real corpus."""
    return read_table(demo / "data/events")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[redis.Redis]:
    """Debian's redis-server, one for the tests of a file."""
    with redis_server(tmp_path_factory.mktemp("redis")) as client:
        yield client


@pytest.fixture
def store(server: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> redis.Redis:
    """Debian's redis-server, empty, and named by the environment."""
    server.flushall()
    named(monkeypatch, port(server))
    return server
