"""A project that version 0.1 made and ran, brought to this version: it goes on, with what the team wrote in it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import yaml
from made_projects import run
from projects import command, git, replace, weakfish, write

from weakfish.contracts.ledgers import read_runs
from weakfish.errors import CheckFailed
from weakfish.project.params import EventsParams
from weakfish.project.paths import Project
from weakfish.project.stages import stages_of
from weakfish.scaffold import upgrade as migrate

OWN = """
  ours:
    cmd: cp data/labels/outcome.manifest.json ours.json
    deps:
      - data/labels
    outs:
      - ours.json
"""
EVENTS = EventsParams(key="order_id", time="placed_at")
MADE = ("dvc.yaml", "feature_repo/feature_store.yaml", "feature_repo/definitions.py", "labeling_functions/outcome.py")
CODE = """
    from weakfish.errors import UserError
    from weakfish.labeling import ABSTAIN, votes
    from weakfish.project.params import Params
    from weakfish.project.paths import Project
    import weakfish.feast.definitions as views
    """


def commit(root: Path) -> None:
    git(root, "add", "--all")
    git(root, "-c", "user.name=test", "-c", "user.email=test@example.org", "commit", "--quiet", "--message", "more")


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The project, as it was committed after its first run, the working directory."""
    files = json.loads((Path(__file__).parent / "project_of_0_1.json").read_text(encoding="utf-8"))
    for path, text in files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text, encoding="utf-8")
    root = tmp_path / "shop"
    git(root, "init", "--quiet")
    commit(root)
    monkeypatch.chdir(root)
    return root


def test_a_project_that_nobody_edited_is_as_if_this_version_had_made_it(shop: Path) -> None:
    run("upgrade", "--yes")
    made, now = (
        {path: (folder / f"{path}{end}").read_text(encoding="utf-8") for path in MADE}
        for folder, end in ((shop / ".weakfish-base", ".txt"), (shop, ""))
    )
    assert now == made
    settings = [
        yaml.safe_load((shop / path).read_text("utf-8")) for path in ("params.yaml", ".weakfish-base/params.yaml.txt")
    ]
    # What becomes of wrong clocks and copies is a choice of new projects; this one goes on as it did.
    chosen = {name: settings[1]["events"].pop(name) for name in ("wrong_clocks", "on_duplicate")}
    assert chosen == {"wrong_clocks": "quarantine", "on_duplicate": "keep_first"}
    assert (EVENTS.wrong_clocks, EVENTS.on_duplicate) == ("warn", "quarantine")
    # So are the label model, the reader and known labels; the class that figures are about follows from dev gold.
    old, new = (each["label_models"]["outcome"] for each in settings)
    assert (old.pop("method", "snorkel"), new.pop("method")) == ("snorkel", "auto")
    assert new.pop("known") == "none"  # no gold is looked at here
    assert [new.pop(name) for name in ("reader", "reads") if name in new] in ([], ["off", []], [False, []])
    assert settings[1]["evaluate"].pop("positive") == {}
    assert settings[0] == settings[1]
    classes = yaml.safe_load((shop / "feature_repo/feature_store.yaml").read_text(encoding="utf-8"))
    assert [classes[part]["type"] for part in ("offline_store", "online_store", "batch_engine")] == [
        "weakfish.feast.offline.AsOfOfflineStore",
        "weakfish.feast.online.ProjectRedisOnlineStore",
        "weakfish.feast.materialize.ColumnarComputeEngine",
    ]
    assert "Nothing to change" in run("upgrade", "--yes")


def test_records_have_the_names_that_stages_have_now(shop: Path) -> None:
    run("upgrade", "--yes")
    records = read_runs(Project(shop))
    assert records.keys() == stages_of(shop).keys() - {"gather_reviews"}  # which version 0.1 had not
    assert records["gate_labels@outcome"].stage == "gate_labels@outcome"
    assert "validate_features@customer_id_activity:" in (shop / "dvc.lock").read_text(encoding="utf-8")
    assert "validate_labels@outcome" in weakfish(shop, "status").stdout


def test_what_the_team_wrote_is_in_the_new_project(shop: Path) -> None:
    (shop / "dvc.yaml").write_text((shop / "dvc.yaml").read_text(encoding="utf-8") + OWN, encoding="utf-8")
    replace(shop / "params.yaml", "n_epochs: 500", "n_epochs: 200  # enough")
    replace(shop / "params.yaml", "    max_faults: 0\n", "    max_faults: 3\n    feature_service: outcome_v2\n")
    replace(shop / "feature_repo/feature_store.yaml", "cache_ttl_seconds: 60", "cache_ttl_seconds: 5")
    write(shop / "labeling_functions/more.py", CODE)
    commit(shop)
    run("upgrade", "--yes")
    assert (shop / "dvc.yaml").read_text(encoding="utf-8").endswith(OWN)
    task = Project(shop).task("outcome")
    assert (task.label_model.n_epochs, task.max_faults, task.feature_service) == (200, 3, "outcome_v2")
    settings = yaml.safe_load((shop / "params.yaml").read_text(encoding="utf-8"))
    assert settings["tasks"]["outcome"].keys() == {"classes", "functions", "max_faults"}
    assert "# enough" in (shop / "params.yaml").read_text(encoding="utf-8")
    assert "cache_ttl_seconds: 5\n" in (shop / "feature_repo/feature_store.yaml").read_text(encoding="utf-8")
    assert (shop / "labeling_functions/more.py").read_text(encoding="utf-8").splitlines() == [
        "from weakfish.errors import UserError",
        "from weakfish.rules import ABSTAIN, votes",
        "from weakfish.project.params import Params",
        "from weakfish.project.paths import Project",
        "import weakfish.feast.definitions as views",
    ]


def test_a_stage_that_was_edited_and_a_module_that_is_no_more_are_told_of(shop: Path) -> None:
    replace(shop / "dvc.yaml", "cmd: weakfish vote", "cmd: nice weakfish vote")
    write(shop / "validation/more.py", "from weakfish.labeling.nowhere import x\n")
    said = run("upgrade", "--yes")
    assert "Stage vote of dvc.yaml was edited here; `git diff` shows what to carry over." in said
    assert "validation/more.py imports weakfish.labeling.nowhere, which is no more; correct it." in said


def test_what_was_edited_before_the_first_commit_has_to_be_merged_by_hand(shop: Path) -> None:
    replace(shop / "weakfish.lock", '".gitignore": "', '".gitignore": "0')
    with pytest.raises(CheckFailed, match=r"gitignore was edited here, .* merge .weakfish-base/.gitignore.txt by hand"):
        run("upgrade", "--yes")
    assert (shop / ".weakfish-base/.gitignore.txt").exists()


def test_every_name_that_moved_is_where_it_is_said_to_be() -> None:
    from importlib import import_module

    for old, new in migrate._moves().items():
        module, _, name = new.partition(":")
        found = import_module(module)
        assert not name or hasattr(found, name), old


def test_the_project_runs(shop: Path) -> None:
    run("upgrade", "--yes")
    done = command(shop, sys.executable, "-m", "dvc", "repro", "--quiet")
    try:
        assert done.returncode == 0, done.stderr
        status = json.loads(weakfish(shop, "status", "--json").stdout)
        assert (status["stale"], status["verdict"] in ("passed", "warned")) == ({}, True)
        assert "customer_id_activity" in weakfish(shop, "online", "get", "customer_id=c001").stdout
    finally:
        weakfish(shop, "online", "stop")
