"""`--ci github|gitlab`: the file that comments on changes, by the schemas that GitHub and GitLab have published."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_projects import init, orders
from projects import command, git, weakfish

from weakfish.diffing.markdown import MARK

HOSTS = {
    "github": (".github/workflows/weakfish-diff.yml", "vendor.github-workflows"),
    "gitlab": (".gitlab-ci.yml", "vendor.gitlab-ci"),
}


def made(folder: Path, *flags: str) -> Path:
    """A project of orders."""
    init(str(folder / "shop"), "--from", str(orders(folder) / "orders.csv"), "--yes", *flags)
    return folder / "shop"


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project without a workflow."""
    return made(tmp_path_factory.mktemp("plain"))


@pytest.mark.parametrize("host", HOSTS)
def test_a_new_project_gets_a_workflow_that_its_host_understands(host: str, tmp_path: Path) -> None:
    root = made(tmp_path, "--ci", host)
    file, schema = HOSTS[host]
    assert file in git(root, "ls-files")
    result = command(root, "check-jsonschema", "--builtin-schema", schema, file)
    assert result.returncode == 0, result.stdout
    text = (root / file).read_text()
    assert "--to HEAD --format markdown > weakfish-diff.md" in text
    assert (MARK in text) == (host == "github")  # by which the comment of the run before is found
    assert "{%" not in text


def test_the_schema_tells_a_workflow_that_is_none(tmp_path: Path) -> None:
    file = tmp_path / "wrong.yml"
    file.write_text("on: pull_request\njobs: {diff: {runs-on: ubuntu-latest, step: []}}\n")
    assert command(tmp_path, "check-jsonschema", "--builtin-schema", HOSTS["github"][1], str(file)).returncode == 1


def test_a_project_has_none_unless_asked_and_gets_one_later_which_stays(plain: Path) -> None:
    file = plain / HOSTS["github"][0]
    assert not file.exists()
    result = weakfish(plain, "upgrade", "--ci", "github", "--yes")
    assert result.returncode == 0, result.stderr
    assert command(plain, "check-jsonschema", "--builtin-schema", HOSTS["github"][1], str(file)).returncode == 0
    before = file.read_bytes()
    assert "Nothing to change" in weakfish(plain, "upgrade", "--yes").stdout
    assert file.read_bytes() == before
