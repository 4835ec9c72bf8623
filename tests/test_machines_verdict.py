"""The schema of verdicts: every field documented, every verdict of a run fits, the same input gives the same bytes."""

from __future__ import annotations

import json
import sys
from dataclasses import fields
from pathlib import Path
from typing import get_args

import pytest
from projects import command, contents, tiny
from verdicts import ASIDE, BROKEN, FAILED, NOTED, PASSED, WARNED, complaints, judged, schema, write

from weakfish.contracts.verdicts import Check, Kind, Severity, Status, verdict_file
from weakfish.project.paths import Project


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    return judged(tmp_path, monkeypatch)


def test_every_field_of_a_verdict_is_documented() -> None:
    one = schema("verdict")["$defs"]["check"]
    names = {field.name for field in fields(Check)} - {"rows"} | {"value", "keys"}
    assert set(one["properties"]) == set(one["required"]) == names
    assert one["properties"]["status"]["enum"] == [str(status) for status in Status]
    assert one["properties"]["severity"]["enum"] == list(get_args(Severity))
    assert one["properties"]["kind"]["enum"] == list(get_args(Kind))
    for name in ("verdict", "webhook"):
        content = schema(name)
        described = [content["properties"], *([one["properties"]] if name == "verdict" else [])]
        assert not [field for part in described for field, about in part.items() if not about.get("description")]


@pytest.mark.parametrize("found", [FAILED, WARNED, ASIDE, NOTED, BROKEN, PASSED], ids=lambda found: str(found.status))
def test_a_check_of_any_status_fits_the_schema(project: Project, found: Check) -> None:
    write(project, "events", found)
    content = json.loads(verdict_file(project, "events").read_text())
    assert complaints("verdict", content) == []
    assert complaints("verdict", {**content, "more": 1}) != []
    assert complaints("verdict", {**content, "checks": [{**content["checks"][0], "more": 1}]}) != []


TWICE = """
import shutil, sys
from pathlib import Path
from weakfish.checks.gates import accept
from weakfish.checks.validate import validate
from weakfish.labeling.label import label
from weakfish.labeling.vote import vote
from weakfish.project.paths import Project
from weakfish.sources.ingest import ingest

project = Project.find()
ingest(project)
validate(project, "events")
accept(project)
vote(project)
label(project)
validate(project, "labels/fraud")
for name in ("once", "twice"):
    shutil.copytree(project.reports / "validation", project.root / name)
    shutil.rmtree(project.root / ".weakfish", ignore_errors=True)
    for table in ("events", "labels/fraud"):
        validate(project, table)
"""


def test_verdicts_of_a_run_fit_the_schema_and_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    root = tiny(tmp_path / "orders")
    done = command(root, sys.executable, "-c", TWICE)
    assert done.returncode == 0, done.stderr
    once = contents(root / "once")
    assert set(once) == {"events.json", "labels/fraud.json"}
    assert once == contents(root / "twice")
    for table, content in once.items():
        assert complaints("verdict", json.loads(content)) == [], table


def test_verdicts_of_the_demo_fit_the_schema(demo: Path) -> None:
    files = sorted((demo / "reports/validation").rglob("*.json"))
    assert len(files) >= 6
    for file in files:
        assert complaints("verdict", json.loads(file.read_text())) == [], file
