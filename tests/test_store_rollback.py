"""Going back to a revision that was published before, and forward again: registry, rows, older values and all."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import redis
from click.testing import CliRunner
from feast import FeatureStore
from projects import command, git, replace
from stores import AS_OF, dump, report, set_as_of, shop, table

from weakfish.cli.main import cli
from weakfish.contracts.ledgers import read_run
from weakfish.errors import CheckFailed, UserError
from weakfish.feast import layout as keys
from weakfish.feast.contents import folder
from weakfish.feast.publish import audit, publish
from weakfish.project.paths import Project
from weakfish.report.overall import overall

BUYERS = [f"b{number}" for number in range(12)]


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with two commits: the second has other values, fewer shops, no refunds, and other columns."""
    root = tmp_path_factory.mktemp("history") / "shop"
    shop(root)
    (root / ".gitignore").write_text("/reports\n/.weakfish\n/data/registry\n/data/online\n__pycache__\n")
    git(root, "init", "--quiet")
    assert command(root, "dvc", "init", "--quiet").returncode == 0
    commit(root, "first")
    table(root, "buyer_orders", "buyer", BUYERS[3:], ["orders_7d", "is_new", "last_seen_at"], shift=50)
    table(root, "shop_orders", "shop", ["s0", "s9"], shift=1)
    definitions = root / "feature_repo/definitions.py"
    replace(definitions, 'name="buyer_refunds", entities', 'name="buyer_refunds", online=False, entities')
    replace(definitions, '"""Buyers and shops."""', '"""Buyers, shops and what there is no name for."""')
    commit(root, "second")
    return root


def commit(root: Path, name: str) -> None:
    result = command(root, "dvc", "add", "--quiet", "data/features")
    assert result.returncode == 0, result.stderr
    git(root, "add", "--all")
    git(root, "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "--quiet", "--message", name)
    git(root, "tag", name)


@pytest.fixture
def project(history: Path, tmp_path: Path, store: redis.Redis) -> Project:
    """The project at its second commit, of which both were published, one after the other."""
    return Project(Path(shutil.copytree(history, tmp_path / "shop", symlinks=True)))


def rows(store: redis.Redis) -> dict[bytes, Any]:
    """What is served: everything but the marker."""
    return {key: value for key, value in dump(store).items() if key != keys.marker("shop").encode()}


def registry(project: Project) -> dict[str, list[str]]:
    feast = FeatureStore(repo_path=str(project.root / "feature_repo"))
    return {view.name: [f.name for f in view.features] for view in feast.list_feature_views() if view.online}


def first(history: Path, to: Path) -> Project:
    """A clone at the first commit."""
    root = Path(shutil.copytree(history, to, symlinks=True))
    git(root, "checkout", "--quiet", "--force", "first")
    result = command(root, "dvc", "checkout", "--quiet", "--force", "data/features.dvc")
    assert result.returncode == 0, result.stderr
    return Project(root)


def test_a_revision_brings_back_rows_registry_and_report_and_the_next_publication_the_work_tree(
    project: Project, history: Path, store: redis.Redis, tmp_path: Path
) -> None:
    assert publish(first(history, tmp_path / "first"))
    before, views_before = rows(store), registry(Project(tmp_path / "first"))
    store.flushall()
    assert publish(project)
    now, views_now = rows(store), registry(project)
    published = report(project)
    assert now != before

    outcome = publish(project, rollback="first")
    assert outcome
    commit = git(project.root, "rev-parse", "first").strip()
    assert outcome.marker.revision == {"name": "first", "commit": commit} == report(project)["revision"]
    assert rows(store) == before
    assert registry(project) == views_before != views_now
    assert report(project)["audit"]["passed"]
    assert audit(project).passed
    sources = {str(view.batch_source.path) for view in _feast(project).list_feature_views()}
    assert all(Path(source).is_dir() and commit in source for source in sources)

    assert publish(project)
    assert rows(store) == now
    assert registry(project) == views_now
    assert report(project) == published
    assert list(folder(project).glob("*")) == []
    assert not publish(project)


def test_a_shut_gate_holds_back_a_publication_and_no_rollback(project: Project, store: redis.Redis) -> None:
    assert publish(project)
    before = rows(store)
    suite = project.root / "validation/features/buyer_orders.py"
    suite.parent.mkdir(parents=True)
    suite.write_text("EXPECTATIONS = []\n")
    table(project.root, "shop_orders", "shop", ["s0", "s1"], shift=2)
    with pytest.raises(CheckFailed, match="features/buyer_orders has not been validated"):
        publish(project)
    assert rows(store) == before
    assert publish(project, rollback="first")
    assert rows(store) != before


def _feast(project: Project) -> FeatureStore:
    return FeatureStore(repo_path=str(project.root / "feature_repo"))


@pytest.mark.filterwarnings("ignore:fetch_arrow_table:DeprecationWarning")
def test_history_reads_the_tables_of_the_revision_that_is_published(project: Project, store: redis.Redis) -> None:
    publish(project)
    publish(project, rollback="first")
    spine = pa.table({"buyer": ["b0"], "event_timestamp": pa.array([AS_OF], pa.timestamp("us", "UTC"))}).to_pandas()
    found = _feast(project).get_historical_features(spine, ["buyer_orders:orders_7d"]).to_df()
    online = _feast(project).get_online_features(["buyer_orders:orders_7d"], [{"buyer": "b0"}]).to_dict()
    assert found["orders_7d"].tolist() == online["orders_7d"] == [1000]


def test_the_command_says_what_comes_next(
    project: Project, store: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert publish(project)
    monkeypatch.chdir(project.root)
    result = CliRunner().invoke(cli, ["publish", "--rollback", "first"], catch_exceptions=False)
    assert "This is first (commit " in result.stdout
    assert "the next `weakfish publish` restores the version in the work tree" in result.stdout
    again = json.loads(CliRunner().invoke(cli, ["publish", "--json"], catch_exceptions=False).stdout)
    assert (again["changed"], again["revision"]) == (True, None)
    assert again["rows"]["buyer_orders"] == {"written": 9, "unchanged": 0, "removed": 3, "left": 0}
    last = json.loads(CliRunner().invoke(cli, ["publish", "--json"], catch_exceptions=False).stdout)
    assert (last["changed"], last["rows"]) == (
        False,
        sum(of["written"] + of["unchanged"] for of in again["rows"].values()),
    )


def test_a_rollback_to_a_revision_that_is_none_leaves_a_green_project_green(
    project: Project, store: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project.root)
    assert CliRunner().invoke(cli, ["publish"], catch_exceptions=False).exit_code == 0
    before = read_run(project, "publish")
    assert before is not None
    with pytest.raises(UserError, match="Git does not know the revision 'nosuch'"):
        CliRunner().invoke(cli, ["publish", "--rollback", "nosuch"], catch_exceptions=False)
    assert read_run(project, "publish") == before
    assert before.exit_code == 0
    assert overall(project.root).verdict != "failed"


def test_a_rollback_answers_for_the_time_of_the_revision(project: Project, store: redis.Redis) -> None:
    assert publish(set_as_of(project, "2024-01-14T03:00:00+00:00"))
    outcome = publish(Project(project.root), rollback="first")
    assert outcome
    assert outcome.marker.as_of == AS_OF.isoformat()


def test_a_cache_that_lost_the_revision_is_one_sentence_and_changes_nothing(
    project: Project, store: redis.Redis
) -> None:
    publish(project)
    held, views = dump(store), registry(project)
    shutil.rmtree(project.root / ".dvc/cache")
    with pytest.raises(UserError, match=r"DVC's cache no longer holds data/features.* of first \([0-9a-f]{7}\), nor"):
        publish(project, rollback="first")
    assert dump(store) == held
    assert registry(project) == views
    assert not publish(project)


@pytest.mark.parametrize("name", ["nowhere", "HEAD~9", "--help"])
def test_a_revision_that_git_does_not_know_is_one_sentence(project: Project, store: redis.Redis, name: str) -> None:
    with pytest.raises(UserError, match=r"Git does not know the revision '.*' in .*; `git log` lists"):
        publish(project, rollback=name)
    assert dump(store) == {}


def test_a_project_that_was_called_otherwise_then_is_not_gone_back_to(project: Project, store: redis.Redis) -> None:
    replace(project.root / "feature_repo/feature_store.yaml", "project: shop", "project: shop2")
    with pytest.raises(UserError, match="At first the Feast project was shop, not shop2; name a later revision"):
        publish(project, rollback="first")
