"""The few figures at the top of the page, of the last run only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from weakfish.report.checks import CheckRow
from weakfish.report.inputs import Inputs
from weakfish.report.quarantine import Quarantine, quarantines
from weakfish.report.sections import Task, tasks
from weakfish.report.stages import Stop
from weakfish.report.words import model_name, percent


@dataclass(frozen=True)
class Fact:
    """A figure for the top of the page."""

    name: str
    value: str
    note: str


def facts(inputs: Inputs, stop: Stop | None, rows: Sequence[CheckRow]) -> list[Fact]:
    """The few figures that tell most, of the last run only."""
    found = [_rows_fact(quarantine) for quarantine in quarantines(inputs, stop, rows) if not quarantine.stale]
    checks = [row for row in rows if not row.table.stale]
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


def _rows_fact(quarantine: Quarantine) -> Fact:
    ledger = quarantine.ledger
    aside = f"{ledger.quarantined or 0:,} of {ledger.rows_in or 0:,} set aside"
    let_in = (ledger.released or 0) + (ledger.repaired or 0)
    aside += f", {let_in:,} let in by patches" if let_in else ""
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
