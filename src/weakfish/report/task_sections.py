"""Labels and metrics of each task: their tables, and the plots of ``reports/plots`` as series for charts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from weakfish.contracts.reports import Metric, TaskLabels, TaskMetrics
from weakfish.report.charts import COLOURS, Series, colour
from weakfish.report.inputs import RunRecords
from weakfish.report.wording import NAMED, listed, model_name, percent

FEW = 10
"""Rows with gold labels below which their share is not drawn: it would say nothing."""

POINTS = 200
"""Points that a line is drawn with, at most."""

METRICS = {
    "average_precision": "Average precision",
    "f1": "F1",
    "auc": "AUC",
    "balanced_accuracy": "Balanced accuracy",
    "accuracy": "Accuracy",
    "accuracy_covered": "Accuracy, decided rows",
    "coverage": "Coverage",
    "brier": "Brier, less is better",
}

SHORT = {"average_precision": "Av. prec.", "balanced_accuracy": "Bal. acc."}
"""Names of metrics where there is little room."""

CONSTANT = "majority_class"
"""The model that always answers the same."""

LABELS = ("label_model",)
WEAK = ("both_weak", "text_weak", "features_weak")
CEILING = ("both_gold", "text_gold", "features_gold")
"""Models of which the first that there is stands for its kind."""

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
    """The lines of a task's pictures, by model.

    Precision over recall; ROC curves; calibration, what models said against how often it was so; and over
    ``partitions`` the shares of the positive of two classes, or of each of three or more ``classes``, at ``most``.
    """
    colours = models(records)

    def of(name: str) -> Plots:
        # Records that name no task belong to every task; gold is drawn only where there is enough of it.
        own = [point for point in records.plots.get(name, []) if point.get("task", task) == task]
        return [point for point in own if (point.get("model") != "gold" and name != "calibration") or _is_enough(point)]

    def series(points: Plots, x: str, y: str) -> dict[str, Series]:
        lines: dict[str, list[tuple[float, float]]] = {}
        for point in points:
            a, b = _number(point.get(x)), _number(point.get(y))
            if a is not None and b is not None:
                lines.setdefault(str(point.get("model", "")), []).append((a, b))
        return {name: Series(model_name(name), colours.get(name, 0), _thin(line)) for name, line in lines.items()}

    dated = [point for point in of("share_over_time") if "partition" in point]
    partitions = sorted({str(point["partition"]) for point in dated})
    placed: dict[str, Plots] = {}
    for point in dated:
        at = {**point, "place": partitions.index(str(point["partition"]))}
        placed.setdefault(str(point.get("class", "")), []).append(at)
    most = math.ceil(max([_number(point.get("share")) or 0.0 for point in dated], default=1.0) * 10) / 10 or 0.1
    shares = {name: series(points, "place", "share") for name, points in placed.items()}
    roc = series(of("roc"), "fpr", "tpr")
    return {
        "roc": roc,
        "precision": _precision_recall(records, task, roc, of("calibration")),
        "calibration": series(of("calibration"), "mean_predicted", "fraction_positive"),
        "partitions": partitions,
        "shares": shares.pop("", {}),
        "classes": shares,
        "most": most,
    }


def _precision_recall(
    records: RunRecords, task: str, roc: Mapping[str, Series], bins: Plots
) -> tuple[float, dict[str, Series]] | None:
    """Precision over recall of the labels, of a classifier on them and of its ceiling; of two classes.

    Precision follows from a ROC curve and the share of test rows that are of the class, which gold has in the bins of
    the calibration plot. That share, the precision of a guess, comes first.
    """
    labels = records.labels.tasks.get(task)
    found = [
        [_number(point.get(name)) or 0.0 for name in ("rows", "fraction_positive")]
        for point in bins
        if point.get("model") == "label_model"
    ]
    rows, hits = sum(rows for rows, _ in found), sum(rows * share for rows, share in found)
    if labels is None or len(labels.classes) != 2 or not 0 < hits < rows:
        return None
    rare, shown = hits / rows, dict[str, Series]()
    for group in (LABELS, WEAK, CEILING):
        for model in [name for name in group if name in roc][:1]:
            line = [(tpr, tpr * rare / (tpr * rare + fpr * (1 - rare))) for fpr, tpr in roc[model].points if tpr]
            shown[model] = replace(roc[model], points=line)
    return rare, shown


def stand_for(metrics: TaskMetrics) -> list[str]:
    """The labels, a classifier on them and its ceiling, of those that were measured."""
    kinds = ([name for name in group if name in metrics.models][:1] for group in (LABELS, WEAK, CEILING))
    return [name for kind in kinds for name in kind]


def any_measured(models: Mapping[str, Mapping[str, Metric]]) -> bool:
    """Whether any model has any figure."""
    return any(metric.value is not None for model in models.values() for metric in model.values())


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
    """The metrics that any model of a task has, and their names for people.

    Accuracy on decided rows, which is accuracy over coverage, has no room in the table.
    """
    known = {key for model in metrics.models.values() for key in model} - {"accuracy_covered"}
    return {key: name for key, name in METRICS.items() if key in known}


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


def raw(metrics: TaskMetrics, model: str, metric: str) -> float | None:
    """The value without the correction for shares of classes, where there is one and it differs."""
    before = metrics.uncorrected.get(model, {}).get(metric)
    now = metrics.models[model].get(metric)
    return before.value if before and now and before.value != now.value else None


def remarks(metrics: TaskMetrics) -> list[str]:
    """Sentences on figures: the class they are about, models no better than a constant answer, shares that moved."""
    found = [f"{model_name(model)}: {sentence}" for model, sentence in metrics.no_better.items()]
    about = averaged(metrics) if metrics.positive else None
    return [said for said in (about, *found, metrics.share.sentence if metrics.share else None) if said]


def positive(task: Task) -> str:
    """The class of two that figures on test are about; records of earlier versions meant the last."""
    named = task.metrics.positive if task.metrics else None
    return named or (task.labels.classes[-1] if task.labels and task.labels.classes else "the last class")


def averaged(metrics: TaskMetrics) -> str | None:
    """Which class figures are about, and why; of three classes or more, over which AUC and F1 are means."""
    if not metrics.classes:
        if metrics.positive is None:
            return None
        return f"Average precision and F1 are those of {metrics.positive}: {metrics.positive_why}."
    few = [name for name, of in metrics.classes.items() if not of.models]
    scored, total = len(metrics.classes) - len(few), len(metrics.classes)
    if not few:
        return f"AUC, average precision and F1 are means over the {scored} classes, each against the rest."
    return (
        f"AUC, average precision and F1 are means over {scored} of {total} classes, each against the rest; "
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
