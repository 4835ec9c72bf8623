"""What is stale says so: stages whose inputs were made anew, whose settings changed, or that stand behind such ones."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from projects import command, write
from pydantic import TypeAdapter

from reports import good_run, run
from weakfish.contracts.ledgers import Run
from weakfish.project.freshness import Lock, stale_stages
from weakfish.report.inputs import read
from weakfish.report.overall import figures, overall
from weakfish.report.summary import print_summary

PIPELINE = """
    stages:
      make:
        cmd:
          - mkdir -p data/a/x data/a/y made
          - cp src.txt data/a/x/v.txt
          - echo same > data/a/y/v.txt
          - cp src.txt made
        deps: [src.txt]
        outs: [data/a, made/src.txt]
      of_x: {cmd: cp data/a/x/v.txt x.txt, deps: [data/a/x], outs: [x.txt]}
      of_y: {cmd: cp data/a/y/v.txt y.txt, deps: [data/a/y], outs: [y.txt]}
      after_x: {cmd: cp x.txt after.txt, deps: [x.txt], outs: [after.txt]}
      folder: {cmd: cat made/* > folder.txt, deps: [made], outs: [folder.txt]}
      tuned: {cmd: cp y.txt tuned.txt, deps: [y.txt], params: [size, more.depth], outs: [tuned.txt]}
    """


def lock(root: Path) -> Lock:
    return TypeAdapter(Lock).validate_python(yaml.safe_load((root / "dvc.lock").read_text(encoding="utf-8")))


def dvc(root: Path, *arguments: str) -> str:
    done = command(root, "dvc", *arguments, DVC_NO_ANALYTICS="1")
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small pipeline that DVC ran."""
    root = tmp_path_factory.mktemp("pipeline")
    write(root / "dvc.yaml", PIPELINE)
    write(root / "params.yaml", "size: 3\nmore: {depth: '2024-01-01'}\n")
    write(root / "src.txt", "one\n")
    write(root / "made/.gitkeep", "")
    dvc(root, "init", "--quiet", "--no-scm")
    dvc(root, "repro", "--quiet")
    return root


def test_what_is_stale_is_what_dvc_says_and_what_stands_behind_it(pipeline: Path) -> None:
    assert stale_stages(pipeline, lock(pipeline), {}) == {}
    write(pipeline / "src.txt", "two\n")
    dvc(pipeline, "repro", "--quiet", "--single-item", "make")
    write(pipeline / "params.yaml", "size: 4\nmore: {depth: '2024-01-01'}\n")
    found = stale_stages(pipeline, lock(pipeline), {})
    assert found == {
        "of_x": "data/a/x was made anew by make",
        "folder": "made was made anew by make",
        "tuned": "size changed in params.yaml",
        "after_x": "of_x is stale",
    }
    assert json.loads(dvc(pipeline, "status", "--json")).keys() == found.keys() - {"after_x"}


def test_a_stage_that_a_person_ran_makes_those_behind_it_stale_if_its_outs_differ(pipeline: Path) -> None:
    write(pipeline / "params.yaml", "size: 3\nmore: {depth: '2024-01-01'}\n")
    dvc(pipeline, "repro", "--quiet")
    now = datetime.now(UTC)
    runs = {name: Run(name, now, now, 0) for name in ("of_x", "after_x")}
    runs["of_x"] = Run("of_x", now, now + timedelta(hours=1), 0)
    assert stale_stages(pipeline, lock(pipeline), runs) == {}
    write(pipeline / "x.txt", "by hand\n")
    assert stale_stages(pipeline, lock(pipeline), runs) == {"after_x": "of_x ran since, outside of DVC"}
    runs["after_x"] = Run("after_x", now, now + timedelta(hours=2), 0)
    write(pipeline / "after.txt", "by hand\n")
    assert stale_stages(pipeline, lock(pipeline), runs) == {}


def test_without_the_cache_a_part_of_a_folder_is_not_said_to_be_stale(pipeline: Path, tmp_path: Path) -> None:
    content = yaml.safe_load((pipeline / "dvc.lock").read_text(encoding="utf-8"))
    content["stages"]["make"]["outs"][0]["md5"] = "0" * 32 + ".dir"
    assert "of_x" not in stale_stages(tmp_path, TypeAdapter(Lock).validate_python(content), {})


def labelled_again(root: Path) -> Path:
    """A project whose label stage alone ran again after a whole run."""
    good_run(root)
    stages = {
        "label": {"outs": [{"path": "data/labels", "md5": "new.dir"}]},
        "validate_labels@fraud": {
            "deps": [{"path": "data/labels", "md5": "old.dir"}],
            "outs": [{"path": "reports/validation/labels/fraud.json", "md5": "1"}],
        },
        "gate_labels@fraud": {
            "deps": [{"path": "reports/validation/labels/fraud.json", "md5": "1"}],
            "outs": [{"path": "reports/gates/labels/fraud.json", "md5": "2"}],
        },
        "evaluate": {"deps": [{"path": "data/labels", "md5": "old.dir"}], "outs": [{"path": "reports/metrics.json"}]},
        "report": {"deps": [{"path": "reports/metrics.json"}]},
    }
    (root / "dvc.lock").write_text(json.dumps({"schema": "2.0", "stages": stages}), encoding="utf-8")
    run(root, "label", 90)
    return root


def test_stages_behind_one_that_ran_alone_are_stale_in_the_table_and_not_cached(tmp_path: Path) -> None:
    root = labelled_again(tmp_path)
    states = {row.stage: row.state for row in read(root).rows(since=datetime(2024, 5, 1, 9, 0, tzinfo=UTC))}
    assert states["label"] == "run"
    assert states["accept"] == "cached"
    assert {stage for stage, state in states.items() if state == "stale"} == {
        "validate_labels@fraud",
        "gate_labels@fraud",
        "evaluate",
    }


def test_figures_of_earlier_labels_are_not_shown_as_those_of_now(tmp_path: Path) -> None:
    root, said = labelled_again(tmp_path), io.StringIO()
    assert read(root).outdated("evaluate")
    assert not read(root).outdated("label")
    print_summary(root, file=said)
    assert "0.941" not in said.getvalue()
    assert "fraud, test: measured on earlier data, by evaluate of 2024-05-01 08:06 UTC" in said.getvalue()
    good, shown = good_run(tmp_path / "good"), io.StringIO()
    print_summary(good, file=shown)
    assert "0.941" in shown.getvalue()


def test_counts_are_the_same_in_the_tiles_the_verdict_and_the_table(tmp_path: Path) -> None:
    """Of a project with stale verdicts: what is stale counts nowhere, and rows that were read have one tile."""
    root = labelled_again(tmp_path)
    raw = {"stage": "ingest", "rows_in": 1203, "rows_out": 1200, "quarantined": None, "rejected": 3}
    (root / "reports/ledger/ingest.json").write_text(json.dumps(raw), encoding="utf-8")
    records = read(root)
    (tile,) = [found for found in figures(records) if found[0] == "rows read"]
    assert tile[1:] == ("1,203", "1,167 kept, 33 quarantined, 3 rejected")
    rows = [row for row in records.rows() if row.passed is not None and row.state != "stale"]
    assert records.tally == (1, 2, 2)
    assert sum(row.passed or 0 for row in rows) == 2
    assert "All 2 checks on 1 table passed" in overall(root).sentence


def test_what_dvc_knows_besides_is_stale_too_with_what_stands_behind_it(tmp_path: Path) -> None:
    root = labelled_again(tmp_path)
    found = read(root, {"label": "labeling_functions modified"}).stale
    assert found["label"] == "labeling_functions modified"
    assert "accept" not in found
