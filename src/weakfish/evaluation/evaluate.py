"""How often each labeling function is right where it votes: votes and gold labels in, counts out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from weakfish.contracts.gate import EVENTS, require_open
from weakfish.contracts.ledgers import write_ledger
from weakfish.contracts.votes_file import ABSTAIN, Votes
from weakfish.evaluation import plots
from weakfish.evaluation.aligned import UNKNOWN, Inputs, read_inputs
from weakfish.evaluation.classifiers import BySeed, Classifiers, label_models, sample, vote_shares
from weakfish.evaluation.measures import (
    MOST_TEST,
    Ints,
    Predictions,
    Support,
    missing,
    resamples,
    rounded,
    spread_by_class,
)
from weakfish.files import write_json
from weakfish.project.params import EvaluateParams, TaskParams
from weakfish.project.paths import Project


def empirical(names: Sequence[str], votes: Votes, gold: Mapping[str, Ints]) -> dict[str, dict[str, dict[str, Any]]]:
    """By function, then by part of gold: ``votes`` on rows with a gold label, ``correct`` ones, ``accuracy``.

    ``accuracy`` is null where the function does not vote. Shapes: votes (rows, functions), gold (rows,).
    """
    return {
        name: {part: _counts(votes[:, column], labels) for part, labels in gold.items()}
        for column, name in enumerate(names)
    }


def _counts(votes: Votes, gold: Ints) -> dict[str, Any]:
    voted = (votes != ABSTAIN) & (gold != UNKNOWN)
    correct = int((votes[voted] == gold[voted]).sum())
    number = int(voted.sum())
    return {"votes": number, "correct": correct, "accuracy": rounded(correct / number) if number else None}


PLOTS = ("calibration", "roc", "share_over_time")

MANY = 600
"""Functions times classes from which on a fit of the label model takes so long that other seeds are not tried."""


@dataclass(frozen=True)
class Evaluation:
    """What is reported of one task: its entry in ``metrics.json``, its points in each plot, and how many rows."""

    metrics: dict[str, Any]
    plots: dict[str, plots.Points]
    rows: int


def evaluate(project: Project) -> None:
    """Evaluate every task and write the reports.

    ``reports/metrics.json``: ``tasks``, by name; see `evaluate_task`. ``reports/plots/``: ``roc.json``,
    ``calibration.json`` and ``share_over_time.json``, flat records with ``task`` and ``model``. The ledger counts the
    labels of all tasks, and those of them that have gold labels of test. Raises `CheckFailed` when the gate of the
    events, of labels or of a training set is shut.
    """
    require_open(
        project, [EVENTS, *(f"{kind}/{task}" for task in project.params.tasks for kind in ("labels", "training"))]
    )
    found = {task: evaluate_task(project, task) for task in project.params.tasks}
    for plot in PLOTS:
        points = [{"task": task, **point} for task, of in found.items() for point in of.plots[plot]]
        write_json(project.reports / "plots" / f"{plot}.json", points)
    write_json(project.reports / "metrics.json", {"tasks": {task: of.metrics for task, of in found.items()}})
    rows = [(of.rows, of.metrics["test_rows"]) for of in found.values()]
    write_ledger(project, "evaluate", rows_in=sum(row for row, _ in rows), rows_out=sum(test for _, test in rows))


def evaluate_task(project: Project, task: str) -> Evaluation:
    """Evaluate one task; writes nothing. See `assess`, and `inputs.read_inputs` for what it raises."""
    return assess(read_inputs(project, task), project.task(task), project.params.evaluate)


def assess(inputs: Inputs, task: TaskParams, settings: EvaluateParams) -> Evaluation:
    """Measure a task's labels, and what a classifier learns from them, against gold labels.

    Returns
    -------
    Evaluation
        Its ``metrics`` hold ``dev_rows`` and ``test_rows`` (events with a gold label), ``models``, by model and
        measure (see `spread.spread`): ``majority_vote``, ``label_model``, with columns of text ``text_weak`` and
        ``text_gold``, with a training set ``features_weak`` and ``features_gold``, with both ``both_weak`` and
        ``both_gold``; and ``functions``, by labeling function and part of gold (see `functions.empirical`). The models
        are measured on test alone. With three classes or more, ``classes`` has for each its rows and figures. What rows
        cannot support is told in ``left_out``, by name.
    """
    seed = task.label_model.seed
    tried = list(dict.fromkeys([seed, *settings.seeds]))
    many = len(inputs.functions) * len(inputs.classes) > MANY
    seeds = [seed] if many else tried
    kept = replace(inputs, test=np.where(sample(inputs.test != UNKNOWN, MOST_TEST, seed), inputs.test, UNKNOWN))
    test = kept.test != UNKNOWN
    gold = kept.test[test]
    support = Support.of(gold, inputs.classes)
    enough = support.lacks_rows() is None
    everywhere: dict[str, BySeed] = {
        "majority_vote": dict.fromkeys([seed], vote_shares(inputs.votes, len(inputs.classes))),
        "label_model": label_models(inputs, task, seeds if enough else [seed]),
    }
    on_test: dict[str, BySeed | str] = {
        name: {number: predictions.at(test) for number, predictions in by_seed.items()}
        for name, by_seed in everywhere.items()
    }
    on_test |= _learned(kept, task, seeds, enough)
    samples = resamples(len(gold), settings.bootstrap, seed) if enough else np.zeros((1, len(gold)))
    published = {name: of[seed] for name, of in on_test.items() if not isinstance(of, str)}
    left_out = plots.lacking(support, inputs.partitions)
    left_out |= {"seeds": f"Other seeds are not tried with more than {MANY} functions times classes."} if many else {}
    figures = {
        name: spread_by_class(gold, of, seed, samples, inputs.classes)
        for name, of in on_test.items()
        if not isinstance(of, str)
    }
    return Evaluation(
        metrics={
            "dev_rows": int((inputs.dev != UNKNOWN).sum()),
            "test_rows": len(gold),
            "models": {name: missing(of) if isinstance(of, str) else figures[name][0] for name, of in on_test.items()},
            "functions": empirical(inputs.functions, inputs.votes, {"dev": inputs.dev, "test": inputs.test}),
        }
        | _by_class(inputs, support, {name: of for name, (_, of) in figures.items()})
        | ({"left_out": left_out} if left_out else {}),
        plots=_plots(kept, support, {name: of[seed] for name, of in everywhere.items()}, published, left_out),
        rows=len(inputs.votes),
    )


def _learned(inputs: Inputs, task: TaskParams, seeds: list[int], enough: bool) -> dict[str, BySeed | str]:
    """The classifiers' predictions of test rows; nothing is learned where nothing can be measured."""
    if not enough:
        return {}
    classifiers = Classifiers(inputs, task.label_model.seed)
    learned = {"weak": classifiers.on_weak_labels(task, seeds), "gold": classifiers.on_gold_labels(seeds)}
    return {f"{what}_{labels}": learned[labels][what] for what in learned["weak"] for labels in learned}


def _by_class(inputs: Inputs, support: Support, figures: Mapping[str, Any]) -> dict[str, Any]:
    """The rows and figures of each class, where they are three or more; ``figures`` go by model, then by class."""
    if len(inputs.classes) == 2:
        return {}
    dev = np.bincount(inputs.dev[inputs.dev != UNKNOWN], minlength=len(inputs.classes)).tolist()
    rows = zip(inputs.classes, dev, support.counts, strict=True)
    return {
        "classes": {
            name: {
                "dev_rows": of_dev,
                "test_rows": of_test,
                "models": {model: of[name] for model, of in figures.items() if name in of},
            }
            for name, of_dev, of_test in rows
        }
    }


def _plots(
    inputs: Inputs,
    support: Support,
    everywhere: Mapping[str, Predictions],
    on_test: Mapping[str, Predictions],
    left_out: Mapping[str, str],
) -> dict[str, plots.Points]:
    test = inputs.test != UNKNOWN
    gold, classes = np.where(test, inputs.test, inputs.dev), len(inputs.classes)
    known = gold != UNKNOWN
    shares = [("gold", known, np.eye(classes)[np.where(known, gold, 0)])]
    shares += [(name, of.covered, of.probabilities) for name, of in everywhere.items()]
    for name, of in on_test.items():
        if name not in everywhere:
            share = np.zeros((len(test), classes))
            share[test] = of.probabilities
            shares.append((name, test, share))
    found: dict[str, Callable[[], plots.Points]] = {
        "calibration": lambda: plots.calibration(inputs.test[test], on_test),
        "roc": lambda: plots.roc(inputs.test[test], on_test, support.scored),
        "share_over_time": lambda: plots.share_over_time(inputs.partitions, shares, inputs.classes),
    }
    return {name: [] if name in left_out else draw() for name, draw in found.items()}
