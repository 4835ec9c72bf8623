"""Tests that need a program which the machine lacks: left out and said so by hand, failed in CI."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from projects import REPOSITORY, write


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    """Three tests, two of which need a program that no machine has."""
    write(
        tmp_path / "conftest.py",
        """
        import machine
        import pytest

        def pytest_terminal_summary(terminalreporter):
            machine.left_out(terminalreporter)

        @pytest.fixture(scope="module")
        def needy():
            return machine.program("no-such-program")
        """,
    )
    write(
        tmp_path / "test_three.py",
        """
        def test_one(needy): ...
        def test_two(needy): ...
        def test_three(): ...
        """,
    )
    return tmp_path


def pytest_in(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if name != "CI" and not name.startswith("PYTEST")}
    env |= {"PYTHONPATH": str(REPOSITORY / "tests"), **environment}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:schemathesis", "-n", "2"]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)


def test_what_lacks_a_program_is_left_out_and_named_at_the_end(suite: Path) -> None:
    done = pytest_in(suite)
    assert done.returncode == 0, done.stdout
    assert "1 passed, 2 skipped" in done.stdout
    assert "2 tests that need no-such-program\nTo add them: apt-get install no-such-program" in done.stdout


def test_in_ci_nothing_is_left_out(suite: Path) -> None:
    done = pytest_in(suite, CI="true")
    assert done.returncode == 1
    assert "1 passed, 2 errors" in done.stdout
    assert "in CI no test may be left out" in done.stdout


def test_where_nothing_may_be_installed_the_list_says_what_is_missing(tmp_path: Path) -> None:
    for name in ("id", "sh"):
        (tmp_path / name).symlink_to(str(shutil.which(name)))
    env = {"PATH": str(tmp_path)}

    def packages(**more: str) -> subprocess.CompletedProcess[str]:
        script = str(REPOSITORY / "tools/system-packages")
        return subprocess.run(["sh", script], env=env | more, capture_output=True, text=True, check=False)

    assert (packages().returncode, packages(CI="true").returncode) == (0, 1)
    said = packages().stderr
    assert said.startswith("Missing, and not installed here: git make curl openssl redis-server ")
    assert said.rstrip().endswith("default-jre-headless chromium")
