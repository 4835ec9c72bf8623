"""What the sections of the page show, picked and ordered from the inputs; the template only lays it out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from weakfish.report.inputs import Inputs
from weakfish.report.label_records import TaskLabels
from weakfish.report.records import Check, Ledger, Metric, TaskMetrics, Verdict
from weakfish.report.stages import Stop, outdated, validating
from weakfish.report.words import model_name, percent

BADNESS = ("failed", "warned", "quarantined", "noted", "passed")
SEVERITIES = ("critical", "warning", "info")
METRICS = {
    "auc": "AUC",
    "f1": "F1",
    "accuracy": "Accuracy",
    "accuracy_covered": "Accuracy, decided rows",
    "coverage": "Coverage",
    "brier": "Brier, less is better",
}


@dataclass(frozen=True)
class Fact:
    """A figure for the top of the page."""

    name: str
    value: str
    note: str


@dataclass(frozen=True)
class Table:
    """The verdict on one table; ``stale``: it is from an earlier run."""

    verdict: Verdict
    gate_open: bool
    stale: bool


@dataclass(frozen=True)
class CheckRow:
    """One check, and the table that it is about."""

    table: str
    check: Check
    stale: bool


@dataclass(frozen=True)
class Quarantine:
    """Rows that one stage set aside, by reason, most first."""

    stage: str
    ledger: Ledger
    reasons: list[tuple[str, int]]
    stale: bool


@dataclass(frozen=True)
class Task:
    """What is known of one task."""

    name: str
    labels: TaskLabels | None
    labels_stale: bool
    metrics: TaskMetrics | None
    metrics_stale: bool


def tables(inputs: Inputs, stop: Stop | None) -> list[Table]:
    """The tables that have a verdict, current ones first, failed before warned before passed."""
    found = [
        Table(v, name in inputs.gates, outdated(inputs, stop, validating(name))) for name, v in inputs.verdicts.items()
    ]
    return sorted(found, key=lambda table: (table.stale, BADNESS.index(table.verdict.verdict), table.verdict.table))


def check_rows(found: list[Table]) -> tuple[list[CheckRow], list[CheckRow]]:
    """All checks, worst first: those that did not hold, and those that did."""
    rows = [CheckRow(table.verdict.table, check, table.stale) for table in found for check in table.verdict.checks]
    rows.sort(key=lambda row: (row.stale, BADNESS.index(row.check.status), SEVERITIES.index(row.check.severity)))
    return [row for row in rows if row.check.status != "passed"], [row for row in rows if row.check.status == "passed"]


def quarantines(inputs: Inputs, stop: Stop | None) -> list[Quarantine]:
    """The stages that set rows aside."""
    return [
        Quarantine(
            stage,
            ledger,
            sorted(ledger.reasons.items(), key=lambda item: (-item[1], item[0])),
            outdated(inputs, stop, stage),
        )
        for stage, ledger in inputs.ledgers.items()
        if ledger.quarantined is not None or ledger.reasons
    ]


def tasks(inputs: Inputs, stop: Stop | None) -> list[Task]:
    """The tasks that have labels or metrics."""
    names = dict.fromkeys([*inputs.labels.tasks, *inputs.metrics.tasks])
    stale = outdated(inputs, stop, "label"), outdated(inputs, stop, "evaluate")
    return [
        Task(name, inputs.labels.tasks.get(name), stale[0], inputs.metrics.tasks.get(name), stale[1]) for name in names
    ]


def facts(inputs: Inputs, stop: Stop | None) -> list[Fact]:
    """The few figures that tell most, of the last run only."""
    found = [_rows_fact(quarantine) for quarantine in quarantines(inputs, stop) if not quarantine.stale]
    checks = [row for rows in check_rows([table for table in tables(inputs, stop) if not table.stale]) for row in rows]
    if checks:
        held = sum(row.check.status in ("passed", "noted") for row in checks)
        found.append(
            Fact(
                "checks hold",
                f"{held} of {len(checks)}",
                f"{sum(row.check.status == 'failed' for row in checks)} failed",
            )
        )
    for task in tasks(inputs, stop):
        if task.labels and not task.labels_stale and task.labels.rows:
            share = (task.labels.covered or 0) / task.labels.rows
            found.append(
                Fact(f"of {task.name} labels covered", percent(share), f"{len(task.labels.functions)} functions vote")
            )
        if task.metrics and not task.metrics_stale:
            found += _auc_fact(task)
    return found


def metric_names(metrics: TaskMetrics) -> dict[str, str]:
    """The metrics that any model of a task has, and their names for people."""
    return {key: name for key, name in METRICS.items() if any(key in model for model in metrics.models.values())}


def reason(model: dict[str, Metric]) -> str | None:
    """Why a model has no metrics, or not all of them."""
    return next((metric.reason for metric in model.values() if metric.reason), None)


def when(time: datetime) -> str:
    """A time in UTC, to the minute."""
    return f"{time:%Y-%m-%d %H:%M}"


def observed(value: Any) -> str | None:
    """What a check observed, if it is a number or a time; anything else might quote a row."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return f"{value:,}" if isinstance(value, int) else f"{value:,.6g}"
    if isinstance(value, str) and _holds(datetime.fromisoformat, value):
        return value
    return None


def _rows_fact(quarantine: Quarantine) -> Fact:
    ledger = quarantine.ledger
    aside = f"{ledger.quarantined or 0:,} of {ledger.rows_in or 0:,} set aside"
    return Fact("rows accepted", f"{ledger.rows_out or 0:,}", aside)


def _auc_fact(task: Task) -> list[Fact]:
    models = task.metrics.models if task.metrics else {}
    name = next(
        (
            name
            for name in ("both_weak", "text_weak", "label_model", *models)
            if name in models and "auc" in models[name]
        ),
        None,
    )
    value = models[name]["auc"].value if name else None
    return [Fact(f"AUC of {task.name}", f"{value:.3f}", model_name(name).lower())] if name and value is not None else []


def _holds(parse: Callable[[str], object], text: str) -> bool:
    try:
        parse(text)
    except ValueError:
        return False
    return True
