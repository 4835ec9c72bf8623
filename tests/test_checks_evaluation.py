"""`weakfish validate evaluation/<task>`: metrics against accepted ones, and calibration on reviewed labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_votes import project

from weakfish.checks.baseline import Baseline, Entry
from weakfish.checks.reported import expected_calibration_error, metrics_of, noise_level
from weakfish.checks.validate import validate
from weakfish.contracts.verdicts import verdict_file
from weakfish.errors import TableError, UnknownName
from weakfish.evaluation.evaluate import calibration
from weakfish.evaluation.measures import Predictions, resamples, spread
from weakfish.files import read_json, write_json
from weakfish.project.paths import Project

TABLE = "evaluation/fraud"


def evaluated(root: Path, rows: int = 3000, sharpness: float = 1.0, noise: float = 0.0, seed: int = 1) -> Project:
    """Reports of `evaluate` on rows whose probabilities are true, or pushed outwards or mixed with noise."""
    at = project(root)
    random = np.random.default_rng(seed)
    true = random.beta(0.4, 0.6, rows)
    gold = (random.random(rows) < true).astype(np.int64)
    odds = (np.log(true / (1 - true)) + noise * random.normal(size=rows)) * sharpness
    said = 1 / (1 + np.exp(-odds))
    predictions = Predictions(np.stack([1 - said, said], axis=1), np.ones(rows, np.bool_))
    models = {"label_model": predictions, "text_weak": predictions, "majority_vote": predictions}
    samples = resamples(rows, 100, 1)
    found = {name: spread(gold, {1: of}, 1, samples, ["fine", "fraud"])[0] for name, of in models.items()}
    write_json(at.reports / "metrics.json", {"tasks": {"fraud": {"test_rows": rows, "models": found}}})
    points = [{"task": "fraud", **point} for point in calibration(gold, models)]
    write_json(at.reports / "plots/calibration.json", points)
    return at


def accept(at: Project) -> None:
    entry = Entry(data_version="", verdict="passed", metrics=metrics_of(at, "fraud"))
    Baseline({TABLE: entry}).write(at)


def checks(at: Project) -> dict[str, dict[str, Any]]:
    """The checks of the written verdict, by name."""
    validate(at, TABLE)
    return {check["check"]: check for check in read_json(verdict_file(at, TABLE))["checks"]}


def test_true_probabilities_pass_and_nothing_is_compared_before_anything_was_accepted(tmp_path: Path) -> None:
    found = checks(evaluated(tmp_path))
    assert {name: check["status"] for name, check in found.items()} == {
        "baseline": "noted",
        "better_than_chance(auc)": "passed",
        "calibration(label_model)": "passed",
        "calibration(text_weak)": "passed",
    }
    assert found["calibration(label_model)"]["value"] < 0.05


def test_overconfident_probabilities_are_a_warning_of_labels_and_noted_of_classifiers(tmp_path: Path) -> None:
    at = evaluated(tmp_path, sharpness=3.0)
    found = checks(at)
    assert found["calibration(label_model)"]["status"] == "warned"
    assert found["calibration(text_weak)"]["status"] == "noted"
    assert read_json(verdict_file(at, TABLE))["verdict"] == "warned"


def test_too_few_reviewed_rows_are_said_so(tmp_path: Path) -> None:
    check = checks(evaluated(tmp_path, rows=40))["calibration(label_model)"]
    assert (check["status"], check["severity"]) == ("noted", "info")
    assert check["found"].endswith("40 rows are too few to tell 5.0 % from chance.")


def test_the_noise_level_is_what_calibrated_models_stay_under() -> None:
    random = np.random.default_rng(2)
    bins = [
        {"rows": rows, "mean_predicted": p, "fraction_positive": p} for rows, p in [(300, 0.05), (40, 0.5), (90, 0.9)]
    ]
    errors = []
    for _ in range(500):
        drawn = [
            {**one, "fraction_positive": random.binomial(one["rows"], one["mean_predicted"]) / one["rows"]}
            for one in bins
        ]
        errors.append(expected_calibration_error(drawn))
    assert np.mean(np.array(errors) > noise_level(bins)) == pytest.approx(0.01, abs=0.012)
    assert noise_level(bins) == noise_level(bins)


def test_metrics_as_accepted_pass_and_another_sample_of_rows_too(tmp_path: Path) -> None:
    accept(evaluated(tmp_path))
    found = checks(evaluated(tmp_path, seed=5))
    metrics = {name: check["status"] for name, check in found.items() if name.startswith("metric(")}
    assert set(metrics) == {
        f"metric({m}, {n})"
        for m in ("label_model", "text_weak", "majority_vote")
        for n in ("auc", "average_precision", "balanced_accuracy", "coverage", "f1")
    }
    assert set(metrics.values()) == {"passed"}


def test_metrics_that_fall_out_of_the_accepted_interval_are_a_warning(tmp_path: Path) -> None:
    accept(evaluated(tmp_path))
    at = evaluated(tmp_path, noise=3.0)
    found = checks(at)
    check = found["metric(label_model, auc)"]
    assert (check["status"], check["against_baseline"]) == ("warned", True)
    assert check["value"] < check["threshold"] < check["arguments"]["accepted"]
    assert found["metric(label_model, coverage)"]["status"] == "passed"
    assert "failed" not in {check["status"] for check in found.values()}


def test_figures_of_another_positive_class_are_not_compared_and_old_baselines_mean_the_last(tmp_path: Path) -> None:
    at = evaluated(tmp_path)
    accept(at)  # names no class, as versions before did not

    def compared(positive: str) -> set[str]:
        content = read_json(at.reports / "metrics.json")
        content["tasks"]["fraud"]["positive"] = positive
        write_json(at.reports / "metrics.json", content)
        return {name for name in checks(at) if name.startswith("metric(label_model")}

    of_either = {f"metric(label_model, {name})" for name in ("auc", "balanced_accuracy", "coverage")}
    assert compared("fraud") == of_either | {"metric(label_model, average_precision)", "metric(label_model, f1)"}
    assert compared("fine") == of_either
    accept(at)
    assert metrics_of(at, "fraud")["positive"] == "fine"
    assert "metric(label_model, f1)" in compared("fine")


def test_metrics_of_an_earlier_version_are_judged_without_the_newer_measures(tmp_path: Path) -> None:
    at = evaluated(tmp_path)
    content = read_json(at.reports / "metrics.json")
    for of in content["tasks"]["fraud"]["models"].values():
        for name in ("average_precision", "balanced_accuracy"):
            del of[name]
    write_json(at.reports / "metrics.json", content)
    accept(at)
    found = {name for name in checks(at) if name.startswith("metric(label_model")}
    assert found == {f"metric(label_model, {name})" for name in ("auc", "coverage", "f1")}
    assert set(metrics_of(at, "fraud")["models"]["label_model"]) == {"auc", "coverage", "f1"}


def test_a_metric_that_can_no_longer_be_had_is_a_warning_with_its_reason(tmp_path: Path) -> None:
    at = evaluated(tmp_path)
    accept(at)
    content = read_json(at.reports / "metrics.json")
    gone = {"value": None, "interval": None, "minimum": None, "reason": "No test row is of class fraud."}
    content["tasks"]["fraud"]["models"]["label_model"]["auc"] = gone
    write_json(at.reports / "metrics.json", content)
    check = checks(at)["metric(label_model, auc)"]
    assert check["status"] == "warned"
    assert check["found"].startswith("No test row is of class fraud; it was 0.")


def test_the_same_reports_give_the_same_verdict_and_others_another_version(tmp_path: Path) -> None:
    at = evaluated(tmp_path)
    validate(at, TABLE)
    first = verdict_file(at, TABLE).read_bytes()
    validate(at, TABLE)
    assert verdict_file(at, TABLE).read_bytes() == first
    version = read_json(verdict_file(at, TABLE))["data_version"]
    validate(evaluated(tmp_path, seed=9), TABLE)
    assert read_json(verdict_file(at, TABLE))["data_version"] != version


def test_a_task_that_is_not_there_or_not_evaluated_is_said_so(tmp_path: Path) -> None:
    at = evaluated(tmp_path)
    with pytest.raises(UnknownName, match="fraud"):
        validate(at, "evaluation/frauds")
    write_json(at.reports / "metrics.json", {"tasks": {}})
    with pytest.raises(TableError, match="run `weakfish evaluate`"):
        validate(at, TABLE)
