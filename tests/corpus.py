"""The demo's own tables, copied, judged and accepted in this process, for tests that spoil them.

A copy has what `validate` and `label` read.
"""

from __future__ import annotations

import shutil
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from weakfish.checks.accept import accept_baseline
from weakfish.checks.validate import validate
from weakfish.contracts.verdicts import verdict_file
from weakfish.files import read_json
from weakfish.project.paths import Project

EVENTS, LABELS = "events", "labels/spam"
THROUGH = "2002-08"
"""The last month before the corpus's own drift; gold labels are split there too."""

SETTINGS = ("params.yaml", "dvc.yaml", "labeling_functions", "sources", "validation")
OF_EVENTS = ("data/staged",)
OF_LABELS = ("data/events", "data/votes", "data/labels", "reports/labeling_functions.json")
CACHE = ".weakfish/cache"


@dataclass(frozen=True)
class Clean:
    """The demo as it is: its verdicts under each baseline, by the last accepted partition, None for all."""

    root: Path
    baselines: dict[str | None, bytes]
    checks: dict[str | None, dict[str, dict[str, dict[str, Any]]]]


def copy(source: Path, to: Path, *what: str) -> Project:
    """A project in the folder ``to`` with the settings of ``source`` and ``what`` it has besides."""
    for name in (*SETTINGS, *what):
        place = source / name
        if place.is_dir():
            shutil.copytree(place, to / name, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
        elif place.exists():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(place, to / name)
    return Project(to)


def copied(clean: Clean, to: Path, table: str, through: str | None) -> Project:
    """The clean demo to be spoiled, with what a check of ``table`` reads, under a baseline; the cache is shared."""
    project = copy(clean.root, to, *(OF_EVENTS if table == EVENTS else OF_LABELS))
    (to / CACHE).parent.mkdir()
    (to / CACHE).symlink_to(clean.root / CACHE, target_is_directory=True)
    project.baseline.write_bytes(clean.baselines[through])
    return project


def accepted(demo: Path, root: Path) -> Clean:
    """Judge the clean demo, accept it in both ways, and judge it again under each."""
    project = copy(demo, root, *OF_EVENTS, *OF_LABELS, CACHE)
    project.baseline.unlink(missing_ok=True)
    for table in (EVENTS, LABELS):
        checks(project, table)
    baselines: dict[str | None, bytes] = {}
    found: dict[str | None, dict[str, dict[str, dict[str, Any]]]] = {}
    for through in (None, THROUGH):
        accept_baseline(project, [EVENTS, LABELS], through)
        baselines[through] = project.baseline.read_bytes()
        project.baseline.unlink()
    for through, content in baselines.items():
        project.baseline.write_bytes(content)
        found[through] = {table: checks(project, table) for table in (EVENTS, LABELS)}
    return Clean(root, baselines, found)


def checks(project: Project, table: str) -> dict[str, dict[str, Any]]:
    """Judge a table; the checks as the verdict has them, by name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # third parties' own deprecations
        import great_expectations.expectations  # noqa: F401
    validate(project, table)
    return {check["check"]: check for check in read_json(verdict_file(project, table))["checks"]}


def fired(found: dict[str, dict[str, Any]], before: dict[str, dict[str, Any]]) -> dict[str, str]:
    """The checks that hold no more, with their status; those that did not hold before must be worse now."""
    return {
        name: check["status"]
        for name, check in found.items()
        if check["status"] != "passed" and check["status"] != before.get(name, {"status": "passed"})["status"]
    }
