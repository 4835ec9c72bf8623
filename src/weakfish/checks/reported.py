"""Checks of what other stages reported: the age of features, the audit of what is served, metrics and calibration."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from weakfish.checks.baseline import Baseline
from weakfish.checks.change import nothing_accepted
from weakfish.checks.gates import verdict_of
from weakfish.checks.gold_checks import LABELS, checks_on_test
from weakfish.checks.slice_checks import slice_floors, within
from weakfish.contracts.figures import percent
from weakfish.contracts.manifests import FEATURES, TRAINING
from weakfish.contracts.publications import (
    ENOUGH_ENTITIES,
    PUBLICATIONS,
    AuditCounts,
    AuditedView,
    Emptied,
    Publication,
)
from weakfish.contracts.record import EVENT_TIMESTAMP
from weakfish.contracts.reports import Metric, Metrics, TaskMetrics, read_report, report_file
from weakfish.contracts.tables import open_partition, read_partition
from weakfish.contracts.verdicts import Check, Severity, Verdict, measured, write_verdict
from weakfish.errors import TableError
from weakfish.files import read_json, sha256
from weakfish.project.params import SliceParams
from weakfish.project.paths import Project

BAD = ("missing", "stale", "different", "unexpected", "expiring")
"""Kinds of rows that are not served as they are stored; `weakfish.feast.audit` says what each is."""

SHOWN = 3
"""Entities, and features, that a sentence names."""

_serving = partial(measured, "serving", against_baseline=False)
_of_features = partial(measured, "features", against_baseline=False)


def serving_checks(project: Project, task: str) -> list[Check]:
    """For each feature view of a training set, whether all that is online equals what training read.

    Without an audit, one ``info`` check that says so. Entities are named by their keys.

    Raises
    ------
    TableError
        When the training set has no manifest.
    """
    read = TRAINING.read(project, task).data
    is_published = PUBLICATIONS.file(project, "publish").exists()
    published = PUBLICATIONS.read(project, "publish") if is_published else Publication("")
    audited = published.audit.views if published.audit else {}
    found = []
    for table in sorted(name for name in read if name.startswith("features/")):
        view, trained = table.removeprefix("features/"), read[table]
        audit = audited.get(view)
        found.append(_served(view, audit))
        if audit and audit.emptied:
            found.append(_lost(view, audit.emptied))
        if audit and (served := published.views[view].data_version):
            found.append(
                _serving(
                    f"serving_version({view})",
                    "warning",
                    "The audit compared other rows than the training set was made from, so it says nothing about this "
                    "training set.",
                    trained == served,
                    arguments={"view": view, "trained": trained, "served": served},
                    found=f"The training set was made from version {trained[:12]}; version {served[:12]} is online.",
                )
            )
    return found


def _lost(view: str, emptied: Emptied) -> Check:
    lost = max(pair[0] / pair[1] for pair in (*emptied.features.values(), *filter(None, [emptied.removed])))
    return _serving(
        f"served_change({view})",
        "warning",
        "What most entities lose at once is rarely the world: look at publish.as_of and the time of the last event.",
        False,
        arguments={"view": view, "features": sorted(emptied.features)},
        observed=round(lost, 6),
        threshold=0.5,
        found=emptied.sentence(view),
        detects=f"A feature that more than half of the entities lost, where {ENOUGH_ENTITIES} or more had it.",
    )


def _served(view: str, audit: AuditedView | None) -> Check:
    name = f"serving_equals_training({view})"
    why = "A model that is served other values than it was trained on fails in ways that no offline metric shows."
    if audit is None:
        found = (
            f"The online rows of {view} have not been compared with the training set yet; `weakfish publish` "
            "compares them."
        )
        return _serving(name, "info", why, False, arguments={"view": view}, found=found)
    counts = _bad(audit.rows)
    otherwise, rows = audit.sample.different, sum(asdict(audit.rows).values())
    bad = sum(counts.values()) + otherwise
    of_features = {name: {kind: n for kind, n in _bad(of).items() if n} for name, of in audit.features.items()}
    features = {name: of for name, of in of_features.items() if of}
    found = f"All {rows:,} online rows equal the stored ones."
    if any(counts.values()) or otherwise:
        said = [f"{count:,} {kind}" for kind, count in counts.items() if count]
        said += [f"{otherwise:,} read differently by plain Feast"] if otherwise else []
        worst = Counter({name: sum(of.values()) for name, of in features.items()}).most_common(SHOWN)
        where = f"; features: {', '.join(f'{name} ({count:,})' for name, count in worst)}" if worst else ""
        entities = [entity for kind in BAD for entity in audit.first.get(kind, [])] + list(audit.sample.first)
        first = ["@".join(map(str, entity.values())) for entity in entities[:SHOWN]]
        found = f"Of {rows:,} rows online, {', '.join(said)}{where}; first: {', '.join(first)}."
    return _serving(
        name,
        "critical",
        why,
        not bad,
        arguments={"view": view, "rows": counts, "features": features, "read_otherwise_by_feast": otherwise},
        unexpected=bad,
        unexpected_share=bad / rows if rows else 0.0,
        threshold=0.0,
        found=found,
        detects=f"A single value in any of {rows:,} rows: all are compared.",
    )


def _bad(counts: AuditCounts) -> dict[str, int]:
    return {kind: count for kind in BAD if (count := getattr(counts, kind)) or kind != "expiring"}


def feature_checks(project: Project, view: str, files: Mapping[str, Path]) -> list[Check]:
    """Whether the newest row is new enough, and how many entities have only old ones.

    Raises
    ------
    TableError
        When a partition or the view's manifest is missing.
    """
    as_of, limits = _as_of(project, view), project.params.validation.features
    newest = _newest(files, as_of)
    last, entities = pc.max(newest).as_py(), len(newest)
    hours = round((as_of - last) / timedelta(hours=1), 3) if last else None
    age = f"The newest row is of {_text(last)}, {hours:,.1f} hours before" if last else "There is no row before"
    freshness = _of_features(
        "freshness",
        "warning",
        "A view that is no longer rebuilt serves values that are older than its readers believe.",
        hours is not None and hours <= limits.max_age_hours,
        observed=hours,
        threshold=limits.max_age_hours,
        found=f"{age} {_text(as_of)}, the time set by publish.as_of.",
        detects=f"A newest row older than {_text(as_of - timedelta(hours=limits.max_age_hours))}.",
    )
    if not entities:
        return [freshness]
    since, most = as_of - timedelta(hours=limits.stale_after_hours), limits.max_stale_share
    stale = pc.sum(pc.less(newest, pa.scalar(since, newest.type))).as_py() or 0
    stale_entities = _of_features(
        "stale_entities",
        "warning",
        "Entities that are no longer updated are served with their last values, or not at all once their TTL "
        "has passed.",
        stale / entities <= most,
        observed=round(stale / entities, 6),
        threshold=most,
        found=f"{stale:,} of {entities:,} entities have no row since {_text(since)}.",
        detects=f"A share above {percent(most)} is reported; one entity is {percent(1 / entities)}."
        if most < 1
        else "Nothing, because validation.features.max_stale_share is 1.",
    )
    return [freshness, stale_entities]


def _as_of(project: Project, view: str) -> datetime:
    """What `publish` will answer for; ``last`` is the last plausible event that the features know."""
    asked = project.params.publish.as_of
    if isinstance(asked, datetime):
        return asked if asked.tzinfo else asked.replace(tzinfo=UTC)
    if asked == "now":
        return datetime.now(UTC)
    last = FEATURES.read(project, view).as_of
    if last is None:
        raise TableError(f"{FEATURES.file(project, view)} is of an older version; run `dvc repro`, which makes it.")
    return last


def _newest(files: Mapping[str, Path], as_of: datetime) -> pa.ChunkedArray:
    """The time of each entity's newest row that is not after ``as_of``, partition by partition."""
    schema = open_partition(next(iter(files.values()))).schema_arrow
    entities = schema.names[: schema.names.index(EVENT_TIMESTAMP)]
    columns = [*entities, EVENT_TIMESTAMP]
    newest = schema.empty_table().select(columns)
    for file in files.values():
        rows = read_partition(file, columns)
        rows = rows.filter(pc.less_equal(rows[EVENT_TIMESTAMP], pa.scalar(as_of, rows[EVENT_TIMESTAMP].type)))
        last = pa.concat_tables([newest, rows]).group_by(entities).aggregate([(EVENT_TIMESTAMP, "max")])
        newest = pa.table([last[name] for name in (*entities, f"{EVENT_TIMESTAMP}_max")], rows.schema)
    return newest[EVENT_TIMESTAMP]


def _text(time: datetime) -> str:
    return time.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")


MEASURES = ("auc", "average_precision", "balanced_accuracy", "coverage", "f1")
"""What is compared with the accepted; of each, more is better."""

OF_POSITIVE = ("average_precision", "f1")
"""Measures that are about the positive class of two: another class has other figures."""

CONSTANT = "majority_class"
"""The model that always answers the same, which no baseline needs."""

VOTES = "majority_vote"
"""The model that has only shares of votes."""

SAMPLES, SEED = 4000, 1
QUANTILE = 0.99
"""Of the calibration error of a perfectly calibrated model: beyond it, chance is no reason."""

Bin = Mapping[str, Any]


def validate_evaluation(project: Project, task: str) -> Verdict:
    """Judge what `evaluate` measured of a task and write ``reports/validation/evaluation/<task>.json``.

    No labels are read, reviewed or other: ``reports/metrics.json`` and the bins of
    ``reports/plots/calibration.json`` say all.

    Raises
    ------
    UnknownName
        When there is no such task.
    TableError
        When `evaluate` has not measured it yet.
    """
    name = f"evaluation/{project.task(task) and task}"
    metrics, accepted = _of_task(project, task), Baseline.read(project).table(name)
    before, classes = accepted.metrics or {} if accepted else {}, project.task(task).classes
    compared = list(_metrics(metrics, before, classes)) if accepted else [nothing_accepted(name)]
    limits = project.params.validation.slices.get(task, {})
    for slice_name, of in metrics.slices.items():
        compared += slice_floors(slice_name, of, limits.get(slice_name, SliceParams()))
        own = replace(metrics, test_rows=of.test_rows, models=of.models)
        known = {**before, **before.get("slices", {}).get(slice_name, {"models": {}})}
        compared += [within(check, slice_name) for check in _metrics(own, known, classes)]
    by_gold = checks_on_test(project, task, metrics)
    checks = sorted([*by_gold, *_calibration(project, task), *compared], key=lambda check: check.check)
    verdict = verdict_of(name, data_version(project), metrics.test_rows or 0, checks, None)
    write_verdict(project, verdict)
    return verdict


def metrics_of(project: Project, task: str) -> dict[str, Any]:
    """What the baseline keeps of ``reports/metrics.json``: per model and measure its value and interval, by slice too.

    Raises
    ------
    TableError
        When `evaluate` has not measured the task yet.
    """
    metrics = _of_task(project, task)

    def listed(models: Mapping[str, Mapping[str, Metric]]) -> dict[str, Any]:
        return {
            model: {name: {"value": of[name].value, "interval": _listed(of[name])} for name in MEASURES if name in of}
            for model, of in models.items()
            if model != CONSTANT
        }

    found: dict[str, Any] = {"test_rows": metrics.test_rows, "models": listed(metrics.models)}
    if metrics.positive:
        found["positive"] = metrics.positive
    if metrics.slices:
        found["slices"] = {name: {"models": listed(of.models)} for name, of in metrics.slices.items()}
    return found


def _listed(metric: Metric) -> list[float | None] | None:
    return list(metric.interval) if metric.interval else None


def _of_task(project: Project, task: str) -> TaskMetrics:
    found = read_report(project, Metrics).tasks.get(task)
    if found is None:
        raise TableError(
            f"{report_file(project, Metrics)} has no task {task}; run `weakfish evaluate`, which measures it."
        )
    return found


def data_version(project: Project) -> str:
    """A hash of the reports that the verdicts on metrics are about."""
    files = [report_file(project, Metrics), project.reports / "plots" / "calibration.json"]
    return hashlib.sha256("".join(f"{file.name} {sha256(file)}\n" for file in files).encode()).hexdigest()


def _metrics(metrics: TaskMetrics, accepted: Mapping[str, Any], classes: Sequence[str]) -> Iterator[Check]:
    """A warning where a value fell below the accepted interval, and its own interval lies below the accepted value.

    Baselines of earlier versions name no positive class; it was the last of two.
    """
    known, last = accepted.get("models", {}), classes[-1] if len(classes) == 2 else None
    moved = (accepted.get("positive") or last) != (metrics.positive or last)
    for model, name in ((model, name) for model in metrics.models for name in MEASURES):
        before, now = known.get(model, {}).get(name), metrics.models[model].get(name, Metric())
        if not before or before["value"] is None or (moved and name in OF_POSITIVE):
            continue
        value, low = now.value, (before["interval"] or [before["value"]])[0]
        fell = value is None or (value < low and (_listed(now) or [value])[-1] < before["value"])
        rows = f"{metrics.test_rows or 0:,} reviewed rows"
        found = f"{value:.3f} on {rows}" if value is not None else (now.reason or "not measured").rstrip(".")
        yield measured(
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
    """``info`` of classifiers, which only measure labels, and where there are too few rows to tell."""
    points = [point for point in read_json(project.reports / "plots" / "calibration.json") if point["task"] == task]
    limit = project.params.validation.labels.calibration_error
    for model in sorted({point["model"] for point in points} - {VOTES}):
        bins = [point for point in points if point["model"] == model]
        rows, error, noise = sum(one["rows"] for one in bins), expected_calibration_error(bins), noise_level(bins)
        too_few, threshold = noise > limit, max(limit, noise)
        holds = error <= threshold
        severity: Severity = "info" if model != LABELS or (too_few and holds) else "warning"
        few = f"; {rows:,} rows are too few to tell {percent(limit)} from chance" if too_few and holds else ""
        yield measured(
            "evaluation",
            f"calibration({model})",
            severity,
            "A probability that differs from the share of rows that people would give the class misleads whatever uses "
            "it: training on soft labels, thresholds, costs.",
            holds and not too_few,
            against_baseline=False,
            arguments={"model": model, "rows": rows, "bins": len(bins), "noise": noise},
            observed=error,
            threshold=threshold,
            found=f"Probabilities are off by {percent(error)} on average over {rows:,} reviewed rows{few}.",
            detects=f"An error of {percent(threshold)} or more; with this many rows a perfect model is off by up to "
            f"{percent(noise)}.",
        )


def expected_calibration_error(bins: Sequence[Bin]) -> float:
    """The mean distance of predicted probability and share of positives in the bins, weighted by their rows.

    Naeini, Cooper and Hauskrecht, Obtaining well calibrated probabilities using Bayesian binning, AAAI 2015.
    """
    rows, predicted, positive = _columns(bins)
    return round(float(rows @ np.abs(predicted - positive) / rows.sum()), 6)


def noise_level(bins: Sequence[Bin]) -> float:
    """The `QUANTILE` of that error when each row is positive with just the probability predicted for its bin."""
    rows, predicted, _ = _columns(bins)
    drawn = np.random.default_rng(SEED).binomial(rows.astype(np.int64), predicted, (SAMPLES, len(rows)))
    errors = np.abs(drawn - rows * predicted).sum(axis=1) / rows.sum()
    return round(float(np.quantile(errors, QUANTILE)), 6)


def _columns(bins: Sequence[Bin]) -> list[np.ndarray[Any, np.dtype[np.float64]]]:
    names = ("rows", "mean_predicted", "fraction_positive")
    return [np.array([one[name] for one in bins], np.float64) for name in names]
