"""The pipeline on the real corpus, run once for all tests that look at what it makes."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from projects import clone, weakfish

from weakfish.tables import read_table


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh clone of this repository in which `weakfish run` has run; tests leave it as it is."""
    root = clone(tmp_path_factory.mktemp("demo") / "weakfish")
    result = weakfish(root, "run")
    assert result.returncode == 0, result.stdout + result.stderr
    (root / ".weakfish/first-run.txt").write_text(result.stdout, encoding="utf-8")
    return root


@pytest.fixture(scope="session")
def events(demo: Path) -> pa.Table:
    """The accepted events of the real corpus."""
    return read_table(demo / "data/events")
