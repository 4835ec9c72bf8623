"""Plot files -> series for charts; fields go by the names that their producers use."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from markupsafe import Markup

from weakfish.report.charts import SQUARE, Series, colour, over_time, square
from weakfish.report.inputs import Inputs
from weakfish.report.words import model_name

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
