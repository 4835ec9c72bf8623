"""The evaluate verb: measures a task's labels, and classifiers trained on them, against gold labels; metrics and plots."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from weakfish.contracts.gate import EVENTS, require_open
from weakfish.contracts.ledgers import write_ledger
from weakfish.contracts.tables import UNDATED
from weakfish.contracts.votes_file import ABSTAIN, Votes
from weakfish.evaluation.aligned import UNKNOWN, Inputs, read_inputs
from weakfish.evaluation.classifiers import BySeed, Classifiers, label_models, sample, vote_shares
from weakfish.evaluation.measures import (
    MOST_TEST,
    Bools,
    Floats,
    Ints,
    Predictions,
    Support,
    missing,
    resamples,
    rounded,
    spread_by_class,
    too_few,
)
from weakfish.files import write_json
from weakfish.project.params import EvaluateParams, TaskParams
from weakfish.project.paths import Project

Points = list[dict[str, Any]]

BINS = 10
"""Bins of equal width in a calibration plot."""

GRID = np.linspace(0, 1, 101)
"""False positive rates at which the curves of classes are averaged."""

SHOWN = 6
"""Classes whose shares over time are written; of more, those with the largest shares."""


def roc(gold: Ints, models: Mapping[str, Predictions], scored: Sequence[int] | None = None) -> Points:
    """ROC curves: ``fpr`` and ``tpr`` by ``model``; none where a side has no rows.

    All test rows count, as in `measures.measure`. Of two classes it is the curve of the last, points on a straight line
    between others left out. Of more it is the mean over the classes ``scored`` of one against the rest, so that the
    area below it is the AUC that is reported.
    """
    points: Points = []
    for model, predictions in models.items():
        probabilities = predictions.probabilities
        if probabilities.shape[1] == 2:
            found = _curve(gold == 1, probabilities[:, 1])
        else:
            labels = range(probabilities.shape[1]) if scored is None else scored
            found = _mean([_curve(gold == label, probabilities[:, label]) for label in labels])
        points += [{"model": model, "fpr": rounded(x), "tpr": rounded(y)} for x, y in found]
    return points


def _curve(positive: Bools, scores: Floats) -> list[tuple[float, float]]:
    from sklearn.metrics import roc_curve

    if positive.all() or not positive.any():
        return []
    fpr, tpr, _ = roc_curve(positive, scores)
    return list(zip(fpr, tpr, strict=True))


def _mean(curves: Sequence[list[tuple[float, float]]]) -> list[tuple[float, float]]:
    drawn = [np.interp(GRID, *np.array(curve).T) for curve in curves if curve]
    if not drawn:
        return []
    return [(0.0, 0.0), *zip(GRID.tolist(), np.mean(drawn, axis=0).tolist(), strict=True)]


def calibration(gold: Ints, models: Mapping[str, Predictions]) -> Points:
    """Reliability: ``mean_predicted``, ``fraction_positive`` and ``rows`` of each bin of covered rows, by ``model``.

    Of two classes what is predicted is the last; of more it is that the most probable class is right (Guo et al., On
    calibration of modern neural networks, ICML 2017). Models that cover too few rows are left out.
    """
    points: Points = []
    for model, predictions in models.items():
        if too_few(int(predictions.covered.sum()), "test row"):
            continue
        scores, positive = _claims(gold[predictions.covered], predictions.probabilities[predictions.covered])
        bins = np.minimum((scores * BINS).astype(np.int64), BINS - 1)
        for number in np.unique(bins):
            rows = bins == number
            means = {"mean_predicted": scores[rows].mean(), "fraction_positive": positive[rows].mean()}
            points.append(
                {"model": model, **{name: rounded(mean) for name, mean in means.items()}, "rows": int(rows.sum())}
            )
    return points


def _claims(gold: Ints, probabilities: Floats) -> tuple[Floats, Bools]:
    """What is claimed of each row, and whether it is so."""
    if probabilities.shape[1] == 2:
        return probabilities[:, 1], gold == 1
    return probabilities.max(axis=1), gold == probabilities.argmax(axis=1)


def share_over_time(
    partitions: Sequence[str], shares: Iterable[tuple[str, Bools, Floats]], classes: Sequence[str] = ("", "")
) -> Points:
    """The mean ``share`` and number of ``rows`` by ``model`` and ``partition``; none where no row has a time.

    Of two classes it is the share of the last, of more that of each ``class`` among the `SHOWN` largest.

    Parameters
    ----------
    partitions
        The partition of each row.
    shares
        Of each model: its name, on which rows it says something, and the probabilities (rows, classes) of every row.
    classes
        Their names.
    """
    of_row, found = np.asarray(partitions), list(shares)
    if set(partitions) <= {UNDATED}:
        return []
    points: Points = []
    for label, about in _shown(found, classes):
        for model, known, values in found:
            for partition in sorted(set(of_row[known].tolist())):
                rows = known & (of_row == partition)
                share = {"share": rounded(values[rows, label].mean()), "rows": int(rows.sum())}
                points.append({"model": model, **about, "partition": partition, **share})
    return points


def _shown(shares: Sequence[tuple[str, Bools, Floats]], classes: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """The classes to show, in their order, and what is written of each."""
    if len(classes) == 2:
        yield 1, {}
        return
    known = next(((known, values) for _, known, values in shares if known.any()), None)
    means = known[1][known[0]].mean(axis=0) if known else np.zeros(len(classes))
    for label in sorted(np.argsort(-means, kind="stable")[:SHOWN].tolist()):
        yield label, {"class": classes[label]}


def lacking(support: Support, partitions: Sequence[str]) -> dict[str, str]:
    """Why plots cannot be had, by name."""
    found: dict[str, str] = {}
    if rows := support.lacks_rows():
        found |= {"calibration": rows, "roc": rows}
    elif classes := support.lacks_classes():
        found["roc"] = classes
    if set(partitions) <= {UNDATED}:
        found["share_over_time"] = "No event has a time."
    return found


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
    plots: dict[str, Points]
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
    left_out = lacking(support, inputs.partitions)
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
) -> dict[str, Points]:
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
    found: dict[str, Callable[[], Points]] = {
        "calibration": lambda: calibration(inputs.test[test], on_test),
        "roc": lambda: roc(inputs.test[test], on_test, support.scored),
        "share_over_time": lambda: share_over_time(inputs.partitions, shares, inputs.classes),
    }
    return {name: [] if name in left_out else draw() for name, draw in found.items()}
