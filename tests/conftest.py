"""The pipeline on the real corpus, run once for all tests that look at what it makes."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from projects import clone, weakfish

from weakfish.tables import read_table


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
