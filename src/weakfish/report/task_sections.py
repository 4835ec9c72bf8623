"""Labels and metrics of each task: their tables, and the plots of ``reports/plots`` as series for charts."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from weakfish.contracts.reports import Metric, TaskLabels, TaskMetrics
from weakfish.report.charts import COLOURS, PART, SQUARE, Series, colour, over_time, square
from weakfish.report.inputs import RunRecords
from weakfish.report.wording import NAMED, listed, model_name, percent

FEW = 10
"""Rows with gold labels below which their share is not drawn: it would say nothing."""

POINTS = 200
"""Points that a line is drawn with, at most."""

METRICS = {
    "auc": "AUC",
    "f1": "F1",
    "accuracy": "Accuracy",
    "accuracy_covered": "Accuracy, decided rows",
    "coverage": "Coverage",
    "brier": "Brier, less is better",
}

Plots = list[dict[str, Any]]
"""The content of a plot file: flat records."""


@dataclass(frozen=True)
class Task:
    """What is known of one task; ``accepted`` is how many partitions of its labels, the first, were accepted."""

    name: str
    labels: TaskLabels | None
    labels_stale: bool
    metrics: TaskMetrics | None
    metrics_stale: bool
    accepted: int = 0


def tasks(records: RunRecords) -> list[Task]:
    """The tasks that have labels or metrics."""
    labels, metrics = records.labels.tasks, records.metrics.tasks
    stale = records.outdated("label"), records.outdated("evaluate")
    found = []
    for name in dict.fromkeys([*labels, *metrics]):
        entry, of = records.accepted.get(f"labels/{name}"), labels.get(name)
        parts = of.by_partition if of and entry else []
        accepted = sum(not entry.is_new(part.partition) for part in parts) if entry else 0
        found.append(Task(name, of, stale[0], metrics.get(name), stale[1], accepted))
    return found


def models(records: RunRecords) -> dict[str, int]:
    """Every model's colour, the same in all charts."""
    names = [name for task in records.metrics.tasks.values() for name in task.models]
    names += [str(point["model"]) for points in records.plots.values() for point in points if "model" in point]
    return {name: colour(place) for place, name in enumerate(dict.fromkeys(names))}


def plots(records: RunRecords, task: str) -> dict[str, Any]:
    """The pictures of a task with their legends, by plot file; ``classes`` are small ones of three classes or more.

    ROC curves; calibration, what models said against how often it was so; and over time the share of the last of two
    classes, or of each of more, all to one scale.
    """
    colours = models(records)

    def series(points: Plots, x: str, y: str) -> list[Series]:
        lines: dict[str, list[tuple[float, float]]] = {}
        for point in points:
            a, b = _number(point.get(x)), _number(point.get(y))
            if a is not None and b is not None:
                lines.setdefault(str(point.get("model", "")), []).append((a, b))
        return [Series(model_name(name), colours.get(name, 0), _thin(line)) for name, line in lines.items()]

    # RunRecords that name no task belong to every task.
    found = {
        name: [point for point in records.plots.get(name, []) if point.get("task", task) == task]
        for name in ("roc", "calibration", "share_over_time")
    }
    roc = series(found["roc"], "fpr", "tpr")
    calibration = series(list(filter(_is_enough, found["calibration"])), "mean_predicted", "fraction_positive")
    in_two, in_more = (
        [point for point in found["share_over_time"] if ("class" in point) is several] for several in (False, True)
    )
    partitions, placed = _in_time(in_two)
    shares = series(placed, "place", "share")
    axes = ("false positive rate", "true positive rate"), ("predicted probability", "observed share")
    svg = {
        "roc": roc and square(f"ROC curves of {task}", *axes[0], roc),
        "calibration": calibration and square(f"Calibration of {task}", *axes[1], calibration, dots=True),
        "share_over_time": shares and over_time(f"Share over time of {task}, by model", partitions, shares),
    }
    # Gold labels are in a legend only where there are enough of them to draw.
    legends = {
        name: dict.fromkeys(str(p["model"]) for p in points if "model" in p and (p["model"] != "gold" or _is_enough(p)))
        for name, points in found.items()
    }
    drawn: dict[str, Any] = {
        name: {"svg": svg[name], "legend": [(model_name(model), colours[model]) for model in legends[name]]}
        for name in found
    }
    partitions, placed = _in_time(in_more)
    values = [share for point in in_more if (share := _number(point.get("share"))) is not None]
    most = math.ceil(max(values, default=1.0) * 10) / 10 or 0.1
    small: list[tuple[str, Markup]] = []
    for name in dict.fromkeys(str(point["class"]) for point in in_more):
        lines = series([point for point in placed if point["class"] == name], "place", "share")
        small.append(
            (name, over_time(f"Share over time of {name} of {task}, by model", partitions, lines, SQUARE, most))
        )
    return {**drawn, "classes": small}


def precision_recall(records: RunRecords, task: str) -> tuple[Markup, list[tuple[str, int]]] | None:
    """Precision over recall of the labels, of a classifier on them and of its ceiling, with the legend; of two classes.

    Precision follows from a ROC curve and the share of test rows that are of the class, which gold has in the bins of
    the calibration plot. The dashed line is that share: the precision of a guess.
    """
    labels, metrics = records.labels.tasks.get(task), records.metrics.tasks.get(task)
    if labels is None or metrics is None or len(labels.classes) != 2:
        return None
    of_task = {
        name: [point for point in records.plots.get(name, []) if point.get("task", task) == task]
        for name in ("roc", "calibration")
    }
    rows: dict[str, float] = {}
    hits: dict[str, float] = {}
    for point in of_task["calibration"]:
        model, number, share = (
            str(point.get("model")),
            _number(point.get("rows")),
            _number(point.get("fraction_positive")),
        )
        if number is not None and share is not None:
            rows[model] = rows.get(model, 0.0) + number
            hits[model] = hits.get(model, 0.0) + number * share
    whole = max(rows, key=lambda model: rows[model], default=None)
    if whole is None or not 0 < (rare := hits[whole] / rows[whole]) < 1:
        return None
    colours, shown = models(records), []
    for group in (
        ("label_model",),
        ("both_weak", "text_weak", "features_weak"),
        ("both_gold", "text_gold", "features_gold"),
    ):
        for model in [name for name in group if name in metrics.models][:1]:
            points = [(_number(p.get("fpr")), _number(p.get("tpr"))) for p in of_task["roc"] if p.get("model") == model]
            line = [
                (tpr, tpr * rare / (tpr * rare + fpr * (1 - rare))) for fpr, tpr in points if fpr is not None and tpr
            ]
            if line:
                shown.append(Series(model_name(model), colours.get(model, 0), _thin(line)))
    if not shown:
        return None
    title = f"Precision over recall of {labels.classes[-1]}, by model"
    drawn = square(title, "recall", "precision", shown, level=rare, size=PART)
    return drawn, [(one.name, one.colour) for one in shown]


def _in_time(points: Plots) -> tuple[list[str], Plots]:
    """The partitions of points, in order, and the points with the ``place`` of theirs."""
    dated = [point for point in points if "partition" in point and (point.get("model") != "gold" or _is_enough(point))]
    partitions = sorted({str(point["partition"]) for point in dated})
    return partitions, [{**point, "place": partitions.index(str(point["partition"]))} for point in dated]


def _is_enough(point: dict[str, Any]) -> bool:
    rows = _number(point.get("rows"))
    return rows is None or rows >= FEW


def _number(value: object) -> float | None:
    """The value if it is a finite number."""
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _thin(line: list[tuple[float, float]]) -> list[tuple[float, float]]:
    step = -(-len(line) // POINTS)
    return line if step <= 1 else [*line[::step], line[-1]]


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
    scored, total = len(metrics.classes) - len(few), len(metrics.classes)
    if not few:
        return f"AUC and F1 are means over the {scored} classes, each against the rest."
    return (
        f"AUC and F1 are means over {scored} of {total} classes, each against the rest; "
        f"there are too few test rows of {listed(few)}."
    )


def expected(balance: dict[str, float | None]) -> str:
    """The class balance that the label model starts from, in words."""
    shares = {name: share for name, share in balance.items() if share is not None}
    if len(shares) > COLOURS and len(set(shares.values())) == 1:
        return f"the same share of each of {len(shares)} classes"
    shown: Iterable[str] = balance
    if len(shares) > COLOURS:
        shown = sorted(shares, key=lambda name: -shares[name])[:NAMED]
    named = ", ".join(f"{percent(balance[name])} {name}" for name in shown)
    return f"{named}, and less of each of {len(shares) - NAMED} other classes" if len(shares) > COLOURS else named
