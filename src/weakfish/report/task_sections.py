"""Plot files -> series for charts; fields go by the names that their producers use."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from markupsafe import Markup

from weakfish.contracts.reports import Metric, TaskLabels, TaskMetrics
from weakfish.report.charts import COLOURS, SQUARE, Series, colour, over_time, square
from weakfish.report.inputs import Inputs, Stop, outdated
from weakfish.report.wording import model_name, percent

FEW = 10
"""Rows with gold labels from which on their share is drawn: among fewer it says nothing."""

POINTS = 200
"""Points that a line is drawn with, at most."""


def models(inputs: Inputs) -> dict[str, int]:
    """Every model's colour, the same in all charts."""
    names = [name for task in inputs.metrics.tasks.values() for name in task.models]
    names += [str(point.get("model")) for points in inputs.plots.values() for point in points if "model" in point]
    return {name: colour(place) for place, name in enumerate(dict.fromkeys(names))}


def roc(inputs: Inputs, task: str) -> Markup | None:
    """ROC curves of all models."""
    series = _series(inputs, "roc", task, "fpr", "tpr")
    return square(f"ROC curves of {task}", "false positive rate", "true positive rate", series) if series else None


def calibration(inputs: Inputs, task: str) -> Markup | None:
    """Calibration of all models: what they said, against how often it was so."""
    points = [point for point in _points(inputs, "calibration", task) if _is_enough(point)]
    series = _by_model(inputs, points, "mean_predicted", "fraction_positive")
    return (
        square(f"Calibration of {task}", "predicted probability", "observed share", series, dots=True)
        if series
        else None
    )


def share_over_time(inputs: Inputs, task: str) -> Markup | None:
    """The share of the last of two classes over time, as each model has it."""
    points = [point for point in _points(inputs, "share_over_time", task) if "class" not in point]
    partitions, placed = _in_time(points)
    series = _by_model(inputs, placed, "place", "share")
    return over_time(f"Share over time of {task}, by model", partitions, series) if series else None


def shares_of_classes(inputs: Inputs, task: str) -> list[tuple[str, Markup]]:
    """The same of three classes or more: a small picture per class, all to one scale."""
    points = [point for point in _points(inputs, "share_over_time", task) if "class" in point]
    partitions, placed = _in_time(points)
    shares = [share for point in points if (share := _number(point.get("share"))) is not None]
    most = math.ceil(max(shares, default=1.0) * 10) / 10 or 0.1
    found = []
    for name in dict.fromkeys(str(point["class"]) for point in points):
        series = _by_model(inputs, [point for point in placed if point["class"] == name], "place", "share")
        title = f"Share over time of {name} of {task}, by model"
        found.append((name, over_time(title, partitions, series, SQUARE, most)))
    return found


def _in_time(points: Iterable[dict[str, Any]]) -> tuple[list[str], list[dict[str, Any]]]:
    """The partitions of points, in order, and the points with the ``place`` of theirs."""
    dated = [point for point in points if "partition" in point]
    dated = [point for point in dated if point.get("model") != "gold" or _is_enough(point)]
    partitions = sorted({str(point["partition"]) for point in dated})
    places = {name: place for place, name in enumerate(partitions)}
    return partitions, [{**point, "place": places[str(point["partition"])]} for point in dated]


def legend(inputs: Inputs, name: str, task: str) -> list[tuple[str, int]]:
    """Names and colours of the models in a plot file, of gold labels only where there are enough to draw."""
    drawn = [point for point in _points(inputs, name, task) if "model" in point]
    found = dict.fromkeys(str(point["model"]) for point in drawn if point["model"] != "gold" or _is_enough(point))
    return [(model_name(model), models(inputs)[model]) for model in found]


def _series(inputs: Inputs, name: str, task: str, x: str, y: str) -> list[Series]:
    return _by_model(inputs, _points(inputs, name, task), x, y)


def _points(inputs: Inputs, name: str, task: str) -> list[dict[str, Any]]:
    """The records of one task; records that name no task belong to every task."""
    return [point for point in inputs.plots.get(name, []) if point.get("task", task) == task]


def _by_model(inputs: Inputs, points: Iterable[dict[str, Any]], x: str, y: str) -> list[Series]:
    lines: dict[str, list[tuple[float, float]]] = {}
    for point in points:
        a, b = _number(point.get(x)), _number(point.get(y))
        if a is not None and b is not None:
            lines.setdefault(str(point.get("model", "")), []).append((a, b))
    colours = models(inputs)
    return [Series(model_name(name), colours.get(name, 0), _thin(line)) for name, line in lines.items()]


def _is_enough(point: dict[str, Any]) -> bool:
    rows = _number(point.get("rows"))
    return rows is None or rows >= FEW


def _number(value: object) -> float | None:
    """The value if it is a finite number."""
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _thin(line: list[tuple[float, float]]) -> list[tuple[float, float]]:
    step = -(-len(line) // POINTS)
    return line if step <= 1 else [*line[::step], line[-1]]


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
