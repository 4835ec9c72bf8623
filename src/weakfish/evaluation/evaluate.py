"""The `evaluate` verb: labels, votes and gold labels into ``reports/metrics.json`` and the data of DVC's plots."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from weakfish.evaluation import plots
from weakfish.evaluation.functions import empirical
from weakfish.evaluation.inputs import UNKNOWN, Inputs, read_inputs
from weakfish.evaluation.measures import Predictions
from weakfish.evaluation.models import BySeed, Classifiers, label_models, vote_shares
from weakfish.evaluation.spread import missing, resamples, spread
from weakfish.files import write_json
from weakfish.params import EvaluateParams, TaskParams
from weakfish.project import Project
from weakfish.runs import write_ledger

PLOTS = ("calibration", "roc", "share_over_time")


@dataclass(frozen=True)
class Evaluation:
    """What is reported of one task: its entry in ``metrics.json``, its points in each plot, and how many rows."""

    metrics: dict[str, Any]
    plots: dict[str, plots.Points]
    rows: int


def evaluate(project: Project) -> None:
    """Evaluate every task and write the reports.

    ``reports/metrics.json``: ``tasks``, by name; see `evaluate_task`. ``reports/plots/``: ``roc.json``,
    ``calibration.json`` and ``share_over_time.json``, flat records with ``task`` and ``model``.
    """
    found = {task: evaluate_task(project, task) for task in project.params.tasks}
    for plot in PLOTS:
        points = [{"task": task, **point} for task, of in found.items() for point in of.plots[plot]]
        write_json(project.reports / "plots" / f"{plot}.json", points)
    write_json(project.reports / "metrics.json", {"tasks": {task: of.metrics for task, of in found.items()}})
    rows = [(of.rows, of.metrics["test_rows"]) for of in found.values()]
    write_ledger(project, "evaluate", rows_in=rows[0][0], rows_out=rows[0][1])


def evaluate_task(project: Project, task: str) -> Evaluation:
    """Evaluate one task; writes nothing. See `assess`, and `inputs.read_inputs` for what it raises."""
    return assess(read_inputs(project, task), project.task(task), project.params.evaluate)


def assess(inputs: Inputs, task: TaskParams, settings: EvaluateParams) -> Evaluation:
    """Measure a task's labels, and what a classifier learns from them, against gold labels.

    Returns
    -------
    Evaluation
        Its ``metrics`` hold ``dev_rows`` and ``test_rows`` (events with a gold label), ``models``, by model and
        measure (see `spread.spread`): ``majority_vote``, ``label_model``, ``text_weak`` and ``text_gold``, and with a
        training set ``features_weak``, ``features_gold``, ``both_weak`` and ``both_gold``; and ``functions``, by
        labeling function and part of gold (see `functions.empirical`). The models are measured on test alone.
    """
    seed = task.label_model.seed
    seeds = list(dict.fromkeys([seed, *settings.seeds]))
    everywhere: dict[str, BySeed] = {
        "majority_vote": dict.fromkeys([seed], vote_shares(inputs.votes, len(inputs.classes))),
        "label_model": label_models(inputs, task, seeds),
    }
    test = inputs.test != UNKNOWN
    on_test: dict[str, BySeed | str] = {
        name: {number: predictions.at(test) for number, predictions in by_seed.items()}
        for name, by_seed in everywhere.items()
    }
    classifiers = Classifiers(inputs)
    learned = {"weak": classifiers.on_weak_labels(task, seeds), "gold": classifiers.on_gold_labels(seeds)}
    on_test |= {f"{what}_{labels}": learned[labels][what] for what in learned["weak"] for labels in learned}
    gold = inputs.test[test]
    samples = resamples(len(gold), settings.bootstrap, seed)
    return Evaluation(
        metrics={
            "dev_rows": int((inputs.dev != UNKNOWN).sum()),
            "test_rows": len(gold),
            "models": {
                name: missing(of) if isinstance(of, str) else spread(gold, of, seed, samples, inputs.classes)
                for name, of in on_test.items()
            },
            "functions": empirical(inputs.functions, inputs.votes, {"dev": inputs.dev, "test": inputs.test}),
        },
        plots=_plots(
            inputs,
            {name: of[seed] for name, of in everywhere.items()},
            {name: of[seed] for name, of in on_test.items() if not isinstance(of, str)},
        ),
        rows=len(inputs.votes),
    )


def _plots(
    inputs: Inputs, everywhere: Mapping[str, Predictions], on_test: Mapping[str, Predictions]
) -> dict[str, plots.Points]:
    test = inputs.test != UNKNOWN
    gold = np.where(test, inputs.test, inputs.dev)
    shares = [("gold", gold != UNKNOWN, (gold == len(inputs.classes) - 1).astype(float))]
    shares += [(name, of.covered, of.probabilities[:, -1]) for name, of in everywhere.items()]
    for name, of in on_test.items():
        if name not in everywhere:
            share = np.zeros(len(test))
            share[test] = of.probabilities[:, -1]
            shares.append((name, test, share))
    return {
        "calibration": plots.calibration(inputs.test[test], on_test),
        "roc": plots.roc(inputs.test[test], on_test),
        "share_over_time": plots.share_over_time(inputs.partitions, shares),
    }
