"""What a generated project installs: Weakfish from where it came, and the versions that it was made with."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from importlib.metadata import distribution, version
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.version import Version
from projects import REPOSITORY

from weakfish import __version__
from weakfish.scaffold import write as requirements


class Installed:
    """The metadata of a distribution that was installed in some way."""

    def __init__(self, url: dict[str, Any] | None) -> None:
        self.url = url
        self.requires = ["redis>=5", "ibis-framework[duckdb]>=12; extra == 'pipeline'", "mypy; extra == 'dev'"]

    def read_text(self, name: str) -> str | None:
        return None if self.url is None else json.dumps(self.url)


@pytest.fixture
def came(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Requirements where Weakfish came from a URL, as PEP 610 writes it down."""
    real = distribution

    def from_url(url: dict[str, Any] | None) -> requirements.Requirements:
        known = Installed(url)
        monkeypatch.setattr(requirements, "distribution", lambda name: known if name == "weakfish" else real(name))
        return requirements.installed()

    return from_url


def first(found: requirements.Requirements) -> str:
    return next(line for line in found.text.splitlines() if "weakfish" in line and not line.startswith("#"))


def test_from_an_index_it_is_pinned_with_all_it_stands_on(came: Any) -> None:
    found = came(None)
    assert first(found) == f"weakfish[pipeline]=={__version__}"
    pins = [Requirement(line) for line in found.text.splitlines() if not line.startswith("#")]
    known = {pin.name: str(pin.specifier).removeprefix("==") for pin in pins}
    assert {"redis", "ibis-framework", "duckdb", "sqlglot"} <= known.keys()  # duckdb is an extra's, sqlglot ibis's own
    assert "mypy" not in known
    assert known["duckdb"] == Version(version("duckdb")).public
    assert [pin.name for pin in pins[1:]] == sorted(known.keys() - {"weakfish"})


def test_from_git_it_is_the_same_commit(came: Any) -> None:
    url = {"url": "https://example.org/weakfish.git", "vcs_info": {"vcs": "git", "commit_id": "0123abc"}}
    assert first(came(url)) == "weakfish[pipeline] @ git+https://example.org/weakfish.git@0123abc"


def test_from_a_checkout_the_line_that_is_written_installs_it(came: Any, tmp_path: Path) -> None:
    checkout = tmp_path / "weak fish"
    shutil.copytree(REPOSITORY / "src", checkout / "src", ignore=shutil.ignore_patterns("*.egg-info", "__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, checkout)
    found = came({"url": checkout.as_uri(), "dir_info": {"editable": True}})
    assert first(found) == f"weakfish[pipeline] @ {checkout.as_uri()}"
    assert "name an index, a commit or a wheel for others" in found.text
    (tmp_path / "requirements.txt").write_text(first(found) + "\n", encoding="utf-8")
    options = ["--dry-run", "--no-deps", "--no-index", "--no-build-isolation", "--ignore-installed", "--no-cache-dir"]
    command = [sys.executable, "-m", "pip", "install", *options, "-r", str(tmp_path / "requirements.txt")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert f"Would install weakfish-{__version__}" in done.stdout, done.stderr


def test_a_wheel_is_copied_into_the_project_in_place_of_an_earlier_one(came: Any, tmp_path: Path) -> None:
    wheel = tmp_path / "from here" / "weakfish-9.9-py3-none-any.whl"
    wheel.parent.mkdir()
    wheel.write_bytes(b"wheel")
    found = came({"url": wheel.as_uri(), "archive_info": {}})
    assert first(found) == "./wheels/weakfish-9.9-py3-none-any.whl[pipeline]"
    (tmp_path / "wheels").mkdir()
    (tmp_path / "wheels/weakfish-9.8-py3-none-any.whl").touch()
    found.copy_wheel(tmp_path)
    assert [file.name for file in (tmp_path / "wheels").iterdir()] == [wheel.name]
    assert (tmp_path / "wheels" / wheel.name).read_bytes() == b"wheel"


@pytest.mark.parametrize("url", [{"url": "file:///gone.whl", "archive_info": {}}, {"url": "file:///src"}])
def test_from_files_that_cannot_be_copied_it_says_that_an_index_is_needed(came: Any, url: dict[str, Any]) -> None:
    found = came(url)
    assert first(found) == f"weakfish[pipeline]=={__version__}"
    assert "has to be in your index" in found.text
    assert "file://" not in found.text
