"""What is known of each task, its labels and its metrics, and how the page and the terminal name them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from weakfish.report.charts import COLOURS
from weakfish.report.inputs import Inputs
from weakfish.report.label_records import TaskLabels
from weakfish.report.records import Metric, TaskMetrics
from weakfish.report.stages import Stop, outdated
from weakfish.report.words import percent

METRICS = {
    "auc": "AUC",
    "f1": "F1",
    "accuracy": "Accuracy",
    "accuracy_covered": "Accuracy, decided rows",
    "coverage": "Coverage",
    "brier": "Brier, less is better",
}

NAMED = 3
"""Classes that a sentence names."""


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


def nothing_measured(metrics: TaskMetrics) -> str | None:
    """Why no model has any figure, where that is so."""
    found = [metric for model in metrics.models.values() for metric in model.values()]
    if not found or any(metric.value is not None for metric in found):
        return None
    return next((metric.reason for metric in found if metric.reason), "No model was measured.")


def reasons(model: dict[str, Metric]) -> list[str]:
    """Why a model has no metrics, or not all of them, and which."""
    names: dict[str, list[str]] = {}
    for key, metric in model.items():
        if metric.reason:
            names.setdefault(metric.reason, []).append(METRICS.get(key, key.replace("_", " ")))
    whole = all(metric.reason for metric in model.values())
    return [reason if whole else f"{', '.join(of)}: {reason}" for reason, of in names.items()]


def averaged(metrics: TaskMetrics) -> str | None:
    """Over which classes AUC and F1 are means, where they are three or more."""
    if not metrics.classes:
        return None
    few = [name for name, of in metrics.classes.items() if not of.models]
    scored = len(metrics.classes) - len(few)
    if not few:
        return f"AUC and F1 are means over the {scored} classes, each against the rest."
    return (
        f"AUC and F1 are means over {scored} of {len(metrics.classes)} classes, each against the rest; "
        f"of {some(few)} there are too few test rows."
    )


def expected(balance: dict[str, float | None]) -> str:
    """The class balance that the label model starts from, in words."""
    shares = {name: share for name, share in balance.items() if share is not None}
    if len(shares) <= COLOURS:
        return ", ".join(f"{percent(share)} {name}" for name, share in balance.items())
    if len(set(shares.values())) == 1:
        return f"the same share of each of {len(shares)} classes"
    most = sorted(shares, key=lambda name: -shares[name])[:NAMED]
    named = ", ".join(f"{percent(shares[name])} {name}" for name in most)
    return f"{named}, and less of each of {len(shares) - NAMED} other classes"


def some(names: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    named = [*names[:NAMED], *([f"{len(names) - NAMED} more"] if len(names) > NAMED else [])]
    return named[0] if len(named) == 1 else f"{', '.join(named[:-1])} and {named[-1]}"


def when(time: datetime) -> str:
    """A time in UTC, to the minute."""
    return f"{time:%Y-%m-%d %H:%M}"
