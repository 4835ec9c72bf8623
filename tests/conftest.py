"""What tests share: the pipeline on the real corpus, run once for all that look at what it makes; servers."""

from __future__ import annotations

import fcntl
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
import redis
from _pytest.terminal import TerminalReporter
from browser import Browser, browse
from machine import left_out
from projects import made, weakfish
from stores import named, port, redis_server

from weakfish.contracts.tables import read_table

for name in [name for name in os.environ if name.startswith("WEAKFISH_REDIS")]:
    del os.environ[name]  # a developer's own store is nothing to test on

if subprocess.run(["git", "config", "user.email"], capture_output=True, check=False).returncode:
    # A fresh machine has nobody who commits, so that `init` would only stage what it makes.
    os.environ["GIT_CONFIG_GLOBAL"] = str(Path(__file__).with_name("gitconfig"))


EARLY = ("test_labeling_functions_agree", "test_own_data", "test_gates", "test_benchmarks", "test_features")
"""Files of tests to begin with: the first makes the demo, which may take minutes; the others do without it."""

LONG = (
    *("test_replay", "test_demo", "test_documents", "test_features_rows", "test_benchmarks_store", "test_quickstart"),
    *("test_features_stream", "test_stages", "test_labels_diff", "test_bad_input", "test_init"),
    *("test_review_story", "test_diff", "test_trace", "test_review_page"),
)
"""Files that take longest of the others: none of them is left for the end, when one process would wait for it."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files of tests into the order in which two processes are done first."""
    order = {name: place for place, name in enumerate((*EARLY, *LONG))}
    items.sort(key=lambda item: order.get(item.path.stem, len(order)))


def pytest_terminal_summary(terminalreporter: TerminalReporter) -> None:
    """Say which tests were left out for want of a program."""
    left_out(terminalreporter)


def run_of_tests() -> str:
    """What the processes of one run of tests have in common: they share the demo, the first that needs it makes it."""
    return os.environ.get("PYTEST_XDIST_TESTRUNUID", str(os.getpid()))


@pytest.fixture(scope="module", autouse=True)
def _settings_are_left() -> Iterator[None]:
    """Fail a file whose tests leave other settings in the environment: the next file of the process would have them."""
    before = settings()
    yield
    after = settings()
    for name in after:
        del os.environ[name]
    os.environ.update(before)
    assert after == before, "the environment has other settings than before this file"


def settings() -> dict[str, str]:
    """What the environment tells Weakfish."""
    return {name: value for name, value in os.environ.items() if name.startswith("WEAKFISH_")}


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A fresh clone of this repository in which `weakfish run` has run; tests leave it as it is."""
    root = tmp_path_factory.getbasetemp().parent / f"demo-{run_of_tests()}" / "weakfish"
    root.parent.mkdir(exist_ok=True)
    with (root.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        printed = root / ".weakfish/first-run.txt"
        if not printed.exists():
            result = weakfish(made(root), "run")
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


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A browser without a network, one for the tests of a file."""
    with browse() as browser:
        yield browser
