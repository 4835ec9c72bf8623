"""The pipeline file: one text in every project, whose deps are what each stage runs and reads."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from closure import parts_of
from projects import REPOSITORY, write

from weakfish.contracts.ledgers import read_runs
from weakfish.errors import UnknownName
from weakfish.project.paths import Project
from weakfish.project.runs import lock_file, run_recorded
from weakfish.project.stages import named_stage, stages_of

DEMO = (REPOSITORY / "dvc.yaml").read_text(encoding="utf-8")
GENERATED = (REPOSITORY / "src/weakfish/scaffold/templates/pipeline.yaml").read_text(encoding="utf-8")

PARAMS = """
    tasks: {spam: {classes: [ham, spam]}, "tone/late": {classes: [a, b]}}
    views: [sender_activity]
    none: []
    """
PIPELINE = """
    stages:
      label: {cmd: "true", desc: All labels}
      gate_labels: {foreach: "${tasks}", do: {cmd: "true", desc: "The gate of ${key}"}}
      gate_features: {foreach: "${views}", do: {cmd: "true"}}
      look: {foreach: "${none}", do: {cmd: "true"}}
    """


def stages() -> dict[str, dict[str, Any]]:
    """The demo's stages; of a ``foreach`` what is done for each item."""
    found: dict[str, dict[str, Any]] = yaml.safe_load(DEMO)["stages"]
    return {name: stage.get("do", stage) for name, stage in found.items()}


@pytest.fixture
def project(tmp_path: Path) -> Project:
    write(tmp_path / "params.yaml", PARAMS)
    write(tmp_path / "dvc.yaml", PIPELINE)
    return Project(tmp_path)


def test_the_demos_pipeline_is_the_generated_one_with_the_engines_folders_for_deps() -> None:
    without = re.sub(r"^ +- src/weakfish\S*\n", "", DEMO, flags=re.MULTILINE)
    assert without.replace("- requirements.lock\n", "- requirements.txt\n") == GENERATED


@pytest.mark.parametrize("name", [name for name in stages() if name != "look"])
def test_a_stage_depends_on_the_parts_of_the_engine_that_it_imports_and_on_no_others(name: str) -> None:
    stage = stages()[name]
    verb = stage["cmd"].split()[1]
    declared = [dep for dep in stage["deps"] if dep.startswith("src/weakfish")]
    assert declared == parts_of(verb), f"write these deps of {name} into dvc.yaml"


@pytest.mark.parametrize(("part", "readers"), [("dev", {"label", "features", "evaluate"}), ("test", {"evaluate"})])
def test_test_gold_is_a_dep_of_evaluate_alone_and_dev_gold_of_more(part: str, readers: set[str]) -> None:
    def reads(stage: dict[str, Any]) -> bool:
        return any(f"data/gold/{part}/".startswith(f"{dep}/") for dep in stage.get("deps", []))

    assert {name for name, stage in stages().items() if reads(stage)} == readers
    assert f"data/gold/{part}" in stages()["ingest"]["outs"]


def test_a_stage_reads_no_more_settings_than_it_uses() -> None:
    read = {name: set(stage.get("params", [])) for name, stage in stages().items()}
    assert {name for name, settings in read.items() if "label_models" in settings} == {
        "label",
        "features",
        "training_set",
        "evaluate",
    }
    assert read["vote"] == {"events", "tasks"}


def test_stages_of_a_foreach_are_named_as_dvc_names_them(project: Project) -> None:
    assert stages_of(project.root) == {
        "label": "All labels",
        "gate_labels@spam": "The gate of spam",
        "gate_labels@tone/late": "The gate of tone/late",
        "gate_features@sender_activity": None,
    }


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("label", "label"),
        ("label@spam", "label"),
        ("gate_labels", "gate_labels"),
        ("gate_labels@spam", "gate_labels@spam"),
        ("gate_labels_spam", "gate_labels@spam"),
        ("gate_labels_tone_late", "gate_labels@tone/late"),
        ("gate_features_sender_activity", "gate_features@sender_activity"),
    ],
)
def test_names_of_earlier_versions_mean_the_stages_that_they_became(project: Project, said: str, meant: str) -> None:
    assert named_stage(project.root, said) == meant


def test_a_name_that_means_no_stage_or_several_is_refused(project: Project) -> None:
    with pytest.raises(UnknownName, match=r"There is no stage 'gate_label@x'.*did you mean 'gate_labels@spam'"):
        named_stage(project.root, "gate_label@x")
    write(project.root / "params.yaml", "tasks: {a/b: 1, a_b: 2}")
    with pytest.raises(UnknownName):
        named_stage(project.root, "gate_labels_a_b")


def test_a_stage_whose_name_has_a_slash_is_recorded_in_one_file(project: Project) -> None:
    run_recorded(project, "gate_labels@tone/late", lambda project: lock_file(project, "gate_labels@tone/late").stat())
    assert read_runs(project)["gate_labels@tone/late"].exit_code == 0
    for folder, end in (("runs", "json"), ("locks", "lock")):
        found = [file.name for file in (project.root / ".weakfish" / folder).iterdir()]
        assert found == [f"gate_labels@tone%2Flate.{end}"]


def test_stages_find_weakfish_in_an_environment_that_nobody_activated(tmp_path: Path) -> None:
    launcher = GENERATED[GENERATED.index("vars:") : GENERATED.index("stages:")]
    (tmp_path / ".venv").symlink_to(sys.prefix, target_is_directory=True)
    (tmp_path / "dvc.yaml").write_text(
        launcher + "stages: {say: {cmd: '${weakfish} --version > said.txt', outs: [said.txt]}}\n", encoding="utf-8"
    )
    (tmp_path / ".dvcignore").write_text(".venv\n", encoding="utf-8")
    bare = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "DVC_NO_ANALYTICS": "1"}
    for arguments in (["init", "--quiet", "--no-scm"], ["repro", "--quiet"]):
        done = subprocess.run(
            [tmp_path / ".venv/bin/dvc", *arguments],
            cwd=tmp_path,
            env=bare,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "said.txt").read_text(encoding="utf-8").startswith("weakfish, version")
