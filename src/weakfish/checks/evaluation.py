"""Metrics against the accepted ones, probabilities against reviewed labels: reports of `evaluate` in, a verdict out.

No labels are read here, reviewed or other: ``reports/metrics.json`` and the bins of ``reports/plots/calibration.json``
say all.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from weakfish.checks.baseline import Baseline
from weakfish.checks.change import nothing_accepted
from weakfish.checks.rates import percent
from weakfish.checks.verdict import verdict_of
from weakfish.contracts.verdicts import Check, Severity, Verdict, measured, write_verdict
from weakfish.errors import TableError
from weakfish.files import read_json, sha256
from weakfish.project.paths import Project

MEASURES = ("auc", "coverage", "f1")
"""What is compared with the accepted; of each, more is better."""

LABELS, VOTES = "label_model", "majority_vote"
"""The model whose probabilities become labels; and the one that has only shares of votes."""

SAMPLES, SEED = 4000, 1
QUANTILE = 0.99
"""Of the calibration error of a perfectly calibrated model: beyond it, chance is no reason."""

DIGITS = 6

Bin = Mapping[str, Any]


def validate_evaluation(project: Project, task: str) -> Verdict:
    """Judge what `evaluate` measured of a task and write ``reports/validation/evaluation/<task>.json``.

    Raises
    ------
    UnknownName
        When there is no such task.
    TableError
        When `evaluate` has not measured it yet.
    """
    name = f"evaluation/{project.task(task) and task}"
    metrics = _of_task(project, task)
    accepted = Baseline.read(project).table(name)
    compared = _metrics(metrics, accepted.metrics or {}) if accepted else [nothing_accepted(name)]
    checks = [*_calibration(project, task), *compared]
    checks.sort(key=lambda check: check.check)
    verdict = verdict_of(name, data_version(project), metrics["test_rows"], checks, None)
    write_verdict(project, verdict)
    return verdict


def metrics_of(project: Project, task: str) -> dict[str, Any]:
    """What the baseline keeps of ``reports/metrics.json``: per model and measure its value and interval.

    Raises
    ------
    TableError
        When `evaluate` has not measured the task yet.
    """
    metrics = _of_task(project, task)
    return {
        "test_rows": metrics["test_rows"],
        "models": {
            model: {name: {part: of[name][part] for part in ("value", "interval")} for name in MEASURES}
            for model, of in metrics["models"].items()
        },
    }


def _of_task(project: Project, task: str) -> dict[str, Any]:
    file = project.reports / "metrics.json"
    found: dict[str, Any] | None = read_json(file)["tasks"].get(task)
    if found is None:
        raise TableError(f"{file} has no task {task}; run `weakfish evaluate`, which measures it.")
    return found


def data_version(project: Project) -> str:
    """A hash of the reports that the verdicts on metrics are about."""
    files = [project.reports / "metrics.json", project.reports / "plots" / "calibration.json"]
    return hashlib.sha256("".join(f"{file.name} {sha256(file)}\n" for file in files).encode()).hexdigest()


def _metrics(metrics: Mapping[str, Any], accepted: Mapping[str, Any]) -> Iterator[Check]:
    for model, of in metrics["models"].items():
        for name in MEASURES:
            before = accepted.get("models", {}).get(model, {}).get(name)
            if before and before["value"] is not None:
                yield _metric(model, name, of[name], before, metrics["test_rows"])


def _metric(model: str, name: str, now: Mapping[str, Any], before: Mapping[str, Any], rows: int) -> Check:
    """Warned of where it fell below the accepted interval, and its own lies below the accepted value."""
    value, low = now["value"], (before["interval"] or [before["value"]])[0]
    fell = value is None or (value < low and (now["interval"] or [value])[-1] < before["value"])
    found = f"{value:.3f} on {rows:,} reviewed rows" if value is not None else now["reason"].rstrip(".")
    return measured(
        "evaluation",
        f"metric({model}, {name})",
        "warning",
        "The labels, or the models trained on them, agree with people less than when they were accepted.",
        not fell,
        arguments={"model": model, "measure": name, "accepted": before["value"], "interval": before["interval"]},
        observed=value,
        threshold=low,
        found=f"{found}; it was {before['value']:.3f} in the accepted baseline.",
        detects=f"A value below {low:.3f}, the lower end of the accepted interval.",
    )


def _calibration(project: Project, task: str) -> Iterator[Check]:
    points = [point for point in read_json(project.reports / "plots" / "calibration.json") if point["task"] == task]
    limit = project.params.validation.labels.calibration_error
    for model in sorted({point["model"] for point in points} - {VOTES}):
        yield _calibrated(model, [point for point in points if point["model"] == model], limit)


def _calibrated(model: str, bins: Sequence[Bin], limit: float) -> Check:
    """``info`` of classifiers, which only measure labels, and where there are too few rows to tell."""
    rows, error, noise = sum(one["rows"] for one in bins), expected_calibration_error(bins), noise_level(bins)
    too_few, holds = noise > limit, error <= max(limit, noise)
    severity: Severity = "info" if model != LABELS or (too_few and holds) else "warning"
    few = f"; {rows:,} rows are too few to tell {percent(limit)} from chance" if too_few and holds else ""
    return measured(
        "evaluation",
        f"calibration({model})",
        severity,
        "A probability that differs from the share of rows that people would give the class misleads whatever uses it: "
        "training on soft labels, thresholds, costs.",
        holds and not too_few,
        against_baseline=False,
        arguments={"model": model, "rows": rows, "bins": len(bins), "noise": noise},
        observed=error,
        threshold=max(limit, noise),
        found=f"Probabilities are off by {percent(error)} on average over {rows:,} reviewed rows{few}.",
        detects=f"An error of {percent(max(limit, noise))} or more; with this many rows a perfect model is "
        "off by up to "
        f"{percent(noise)}.",
    )


def expected_calibration_error(bins: Sequence[Bin]) -> float:
    """The mean distance of predicted probability and share of positives in the bins, weighted by their rows.

    Naeini, Cooper and Hauskrecht, Obtaining well calibrated probabilities using Bayesian binning, AAAI 2015.
    """
    rows, predicted, positive = _columns(bins)
    return round(float(rows @ np.abs(predicted - positive) / rows.sum()), DIGITS)


def noise_level(bins: Sequence[Bin]) -> float:
    """The `QUANTILE` of that error when each row is positive with just the probability predicted for its bin."""
    rows, predicted, _ = _columns(bins)
    drawn = np.random.default_rng(SEED).binomial(rows.astype(np.int64), predicted, (SAMPLES, len(rows)))
    errors = np.abs(drawn - rows * predicted).sum(axis=1) / rows.sum()
    return round(float(np.quantile(errors, QUANTILE)), DIGITS)


def _columns(bins: Sequence[Bin]) -> list[np.ndarray[Any, np.dtype[np.float64]]]:
    names = ("rows", "mean_predicted", "fraction_positive")
    return [np.array([one[name] for one in bins], np.float64) for name in names]
