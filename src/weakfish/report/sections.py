"""What is known of each task, its labels and its metrics, and how the page and the terminal name them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from weakfish.report.inputs import Inputs
from weakfish.report.label_records import TaskLabels
from weakfish.report.records import Metric, TaskMetrics
from weakfish.report.stages import Stop, outdated

METRICS = {
    "auc": "AUC",
    "f1": "F1",
    "accuracy": "Accuracy",
    "accuracy_covered": "Accuracy, decided rows",
    "coverage": "Coverage",
    "brier": "Brier, less is better",
}


@dataclass(frozen=True)
class Task:
    """What is known of one task."""

    name: str
    labels: TaskLabels | None
    labels_stale: bool
    metrics: TaskMetrics | None
    metrics_stale: bool


def tasks(inputs: Inputs, stop: Stop | None) -> list[Task]:
    """The tasks that have labels or metrics."""
    names = dict.fromkeys([*inputs.labels.tasks, *inputs.metrics.tasks])
    stale = outdated(inputs, stop, "label"), outdated(inputs, stop, "evaluate")
    return [
        Task(name, inputs.labels.tasks.get(name), stale[0], inputs.metrics.tasks.get(name), stale[1]) for name in names
    ]


def metric_names(metrics: TaskMetrics) -> dict[str, str]:
    """The metrics that any model of a task has, and their names for people."""
    return {key: name for key, name in METRICS.items() if any(key in model for model in metrics.models.values())}


def reason(model: dict[str, Metric]) -> str | None:
    """Why a model has no metrics, or not all of them."""
    return next((metric.reason for metric in model.values() if metric.reason), None)


def when(time: datetime) -> str:
    """A time in UTC, to the minute."""
    return f"{time:%Y-%m-%d %H:%M}"
