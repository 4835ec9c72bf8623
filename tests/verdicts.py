"""Verdicts made by hand: checks of every status, and the project of the orders with verdicts although nothing ran."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result
from jsonschema import Draft202012Validator
from projects import REPOSITORY, tiny

from weakfish.checks.gates import named, verdict_of
from weakfish.cli.main import cli
from weakfish.contracts.gate import data_version
from weakfish.contracts.verdicts import Check, Severity, Status, write_verdict
from weakfish.project.paths import Project

TEXT = "Dear sir, <b>buy</b>"
"""Text of a row: it may stand nowhere."""

KEY = "order\x00-17"


def schema(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((REPOSITORY / f"docs/{name}.schema.json").read_text())
    Draft202012Validator.check_schema(content)
    return content


def complaints(name: str, content: Any) -> list[str]:
    return [f"{error.json_path}: {error.message}" for error in Draft202012Validator(schema(name)).iter_errors(content)]


def check(name: str, status: Status = Status.PASSED, severity: Severity = "critical", **more: Any) -> Check:
    return Check(name, f"expect_{name}", severity, f"{name} matters.", status, **more)


FAILED = check(
    "unique(order_id)",
    Status.FAILED,
    unexpected=2,
    unexpected_share=0.01,
    rows={"2024-01": np.array([3, 4], np.int64)},
)
WARNED = check(
    "drift(amount)",
    Status.WARNED,
    "warning",
    kind="change",
    against_baseline=True,
    observed=0.31,
    threshold=0.2,
    found="PSI is 0.31.",
    detects="A shift of 2 %.",
    by_partition={"2024-01": 0.4},
)
ASIDE = check("not_null(placed_at)", Status.QUARANTINED, unexpected=3, unexpected_share=0.015)
NOTED = check("mean(amount)", Status.NOTED, "info", observed=TEXT)
BROKEN = check("of_type(note)", Status.FAILED, "warning", error=f"cannot cast {TEXT!r}")
PASSED = check("between(amount)", unexpected=0, unexpected_share=0.0)


def judged(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """The project of the orders, entered, with a verdict on the events and one on the labels."""
    project = Project(tiny(folder / "orders"))
    monkeypatch.chdir(project.root)
    monkeypatch.delenv("DVC_STAGE", raising=False)
    write(project, "events", PASSED, ASIDE, NOTED)
    write(project, "labels/fraud", PASSED, WARNED)
    return project


def labels(project: Project, *checks: Check) -> None:
    """Labels that lie there, and the verdict on them."""
    folder = project.table("labels/fraud")
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"order_id": ["a"]}), folder / "2024-01.parquet")
    write(project, "labels/fraud", *checks, version=data_version(folder))


def write(project: Project, table: str, *checks: Check, version: str = "0" * 64) -> None:
    names = {("2024-01", 3): KEY, ("2024-01", 4): "order-18"}
    write_verdict(project, named(verdict_of(table, version, 200, checks, 0.05), names))


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, list(arguments))
