"""The evaluate verb: how good a task's labels are, and classifiers trained on them, against gold labels.

It writes metrics, and the data of DVC's plots: flat records, one series per model; of two classes about the positive
one, of more about all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from weakfish.contracts.gate import EVENTS, require_open
from weakfish.contracts.gold import UNKNOWN, Confusion
from weakfish.contracts.ledgers import write_ledger
from weakfish.contracts.reports import Metrics, write_report
from weakfish.contracts.tables import UNDATED
from weakfish.contracts.votes_file import ABSTAIN, Votes
from weakfish.evaluation.aligned import Aligned, Periods, read_inputs
from weakfish.evaluation.at_work import learned_anew
from weakfish.evaluation.classifiers import BySeed, label_models, sample, vote_shares
from weakfish.evaluation.measures import (
    MEASURES,
    MOST_TEST,
    Bools,
    Floats,
    Ints,
    Predictions,
    Support,
    constant,
    missing,
    no_better,
    resamples,
    rounded,
    spread,
    too_few,
)
from weakfish.evaluation.shares import MovedShares
from weakfish.files import write_json
from weakfish.labeling.label_model import covered
from weakfish.project.params import EvaluateParams, TaskParams
from weakfish.project.paths import Project
from weakfish.reviews.measuring import reviewed_figures

Points = list[dict[str, Any]]

MANY = 600
"""Functions times classes from which on a fit of the label model takes so long that other seeds are not tried."""

BINS = 10
"""Bins of equal width in a calibration plot."""

GRID = np.linspace(0, 1, 101)
"""False positive rates at which the curves of classes are averaged."""

HEADLINE = ("average_precision", "f1", "auc", "balanced_accuracy", "coverage")
"""The measures that stand for all; of two classes the first two are about the positive one."""

CONSTANT = "majority_class"
"""The model that always gives the same answer."""

SHOWN = 6
"""Classes whose shares over time are written; of more, those with the largest shares."""


@dataclass(frozen=True)
class Evaluation:
    """What is reported of one task: its entry in ``metrics.json``, its points in each plot, and how many rows."""

    metrics: dict[str, Any]
    plots: dict[str, Points]
    rows: int


def evaluate(project: Project) -> None:
    """Evaluate every task and write the reports.

    ``reports/metrics.json``: ``tasks``, by name; see `assess`. ``reports/plots/``: ``roc.json``, ``calibration.json``
    and ``share_over_time.json``, flat records with ``task`` and ``model``. ``reports/headline.json``, which
    `dvc metrics show` prints, has the `HEADLINE` by task and model. The ledger counts the labels of all tasks,
    and those of them that have gold labels of test. Raises `CheckFailed` when the gate of the events, of labels or of
    a training set is shut.
    """
    tasks = project.params.tasks
    require_open(project, [EVENTS, *(f"{kind}/{task}" for task in tasks for kind in ("labels", "training"))])
    found = {task: evaluate_task(project, task) for task in tasks}
    for plot in ("calibration", "roc", "share_over_time"):
        points = [{"task": task, **point} for task, of in found.items() for point in of.plots[plot]]
        write_json(project.reports / "plots" / f"{plot}.json", points)
    write_report(project, Metrics, {task: of.metrics for task, of in found.items()})
    write_json(project.reports / "headline.json", {task: headline(of.metrics["models"]) for task, of in found.items()})
    tested = sum(of.metrics["test_rows"] for of in found.values())
    write_ledger(project, "evaluate", rows_in=sum(of.rows for of in found.values()), rows_out=tested)


def headline(models: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """The `HEADLINE` of the labels and of what classifiers learn from them; what has no value is left out."""
    found: dict[str, dict[str, float]] = {}
    for name, measures in models.items():
        if name in ("majority_vote", "label_model") or name.endswith("_weak"):
            values = {of: measures.get(of, {}).get("value") for of in HEADLINE}
            found[name] = {of: value for of, value in values.items() if value is not None}
    return {name: values for name, values in found.items() if values}


def evaluate_task(project: Project, task: str) -> Evaluation:
    """Evaluate one task; writes nothing. See `assess`, `reviewed_figures`, and `read_inputs` for what it raises."""
    settings = project.params.evaluate
    inputs = read_inputs(project, task)
    found = assess(inputs, project.task(task), settings, settings.positive.get(task))
    reviews = reviewed_figures(project, task, inputs.slices)
    return found if reviews is None else replace(found, metrics=found.metrics | {"reviews": reviews})


def positive_class(gold: Ints, classes: Sequence[str], asked: str | None = None) -> tuple[int, str]:
    """The position of the class of two that figures are about, and why: as ``asked``, else the rarer of dev gold.

    Where dev gold does not tell, it is the last.
    """
    if asked is not None:
        return classes.index(asked), "evaluate.positive in params.yaml says so"
    first, last = np.bincount(gold[gold != UNKNOWN], minlength=2).tolist()
    if first == last:
        return 1, "dev gold has as many rows of either class, so it is the last" if first else (
            "there is no dev gold, so it is the last class"
        )
    return int(first > last), "it is the rarer class of dev gold"


def assess(inputs: Aligned, task: TaskParams, settings: EvaluateParams, asked: str | None = None) -> Evaluation:
    """Measure a task's labels, and what a classifier learns from them, against gold labels.

    Parameters
    ----------
    asked
        The class of two that figures are about, see `positive_class`.

    Returns
    -------
    Evaluation
        Its ``metrics`` hold ``dev_rows`` and ``test_rows`` (events with a gold label), ``models``, by model and
        measure (see `spread`): ``majority_vote``, ``label_model``, with columns of text ``text_weak`` and
        ``text_gold``, with a training set ``features_weak`` and ``features_gold``, with both ``both_weak`` and
        ``both_gold``, and ``majority_class``, the best constant answer. Of classifiers they are figures at work: where
        the class ``share`` of test rows, which votes tell without gold, is another than that of training rows,
        probabilities and threshold are corrected (see `weakfish.evaluation.shares`), and ``uncorrected`` has the
        figures without that. Of two classes, ``positive`` is the one that figures are about, and ``positive_why`` why.
        ``no_better`` has a sentence for each model that decides no better than a constant answer. ``slices`` has by
        slice its ``test_rows`` and the same measures of ``models``. The models are
        measured on test alone. ``confusion`` (see `weakfish.contracts.gold`) is of the labels on test, and
        ``functions`` is by labeling function and part of gold (see `empirical`). With three classes or more,
        ``classes`` has for each its rows and figures. What rows cannot support is told in ``left_out``, by name.
    """
    seed, classes = task.label_model.seed, inputs.classes
    seeds = list(dict.fromkeys([seed, *settings.seeds]))
    left_out: dict[str, str] = {}
    if len(inputs.functions) * len(classes) > MANY:
        seeds, left_out["seeds"] = [seed], f"Other seeds are not tried with more than {MANY} functions times classes."
    test = sample(inputs.test != UNKNOWN, MOST_TEST, seed)
    kept, gold = replace(inputs, test=np.where(test, inputs.test, UNKNOWN)), inputs.test[test]
    positive, why = positive_class(inputs.dev, classes, asked) if len(classes) == 2 else (1, None)
    support = Support.of(gold, classes, positive)
    enough = support.lacks_rows() is None
    labels = label_models(inputs, task, seeds if enough else [seed], test)
    on_test: dict[str, BySeed | str] = {
        "majority_vote": {seed: vote_shares(inputs.votes[test], len(classes))},
        "label_model": labels,
    }
    share: MovedShares | None = None
    uncorrected: dict[str, dict[str, Any]] = {}
    if enough:  # nothing is learned where nothing can be measured
        learned, share = learned_anew(kept, task, seeds, positive)
        for name, says in learned.items():
            on_test[name] = says if isinstance(says, str) else says[1]
            if share and share.holds and not isinstance(says, str):
                uncorrected[name] = spread(gold, says[0], seed, np.zeros((0, len(gold))), classes, positive)[0]
        on_test[CONSTANT] = {seed: constant(gold, len(classes))}
    samples = resamples(len(gold), settings.bootstrap, seed) if enough else np.zeros((1, len(gold)))
    models, by_class, measured, useless = {}, {}, {}, {}
    for name, of in on_test.items():
        if isinstance(of, str):
            models[name] = missing(dict.fromkeys(MEASURES, of))
            continue
        models[name], by_class[name] = spread(gold, of, seed, samples, classes, positive)
        if name == CONSTANT:
            continue
        measured[name] = of[seed]
        comparable = enough and not support.lacks_classes()
        if comparable and (sentence := no_better(gold, of[seed], models[name], samples, support)):
            useless[name] = sentence
    sliced = {}
    for name, rows in inputs.slices.items():
        inside = rows[test]
        sliced[name] = _of_slice(
            gold[inside],
            {
                model: {at: says.at(inside) for at, says in of.items()}
                for model, of in on_test.items()
                if not isinstance(of, str) and model != CONSTANT
            },
            seed,
            settings.bootstrap,
            classes,
            positive,
        )
    plots = _plots(kept, measured, positive)
    if set(inputs.periods.names) <= {UNDATED}:
        left_out["share_over_time"] = "No event has a time."
    if lacking := support.lacks_rows():
        left_out |= {"calibration": lacking, "roc": lacking}
    elif lacking := support.lacks_classes():
        left_out["roc"] = lacking
    dev = np.bincount(inputs.dev[inputs.dev != UNKNOWN], minlength=len(classes)).tolist()
    metrics = {
        "dev_rows": sum(dev),
        "test_rows": len(gold),
        "confusion": Confusion.of(gold, labels[seed].decided(), classes).to_json(),
        "models": models,
        "functions": empirical(inputs.functions, inputs.votes, {"dev": inputs.dev, "test": inputs.test}),
    }
    if len(classes) > 2:
        metrics["classes"] = {
            name: {
                "dev_rows": of_dev,
                "test_rows": of_test,
                "models": {model: of[name] for model, of in by_class.items() if name in of},
            }
            for name, of_dev, of_test in zip(classes, dev, support.counts, strict=True)
        }
    else:
        metrics |= {"positive": classes[positive], "positive_why": why}
    moved = share and share.to_json(classes, positive if len(classes) == 2 else None)
    found = {"share": moved, "uncorrected": uncorrected, "no_better": useless, "left_out": left_out, "slices": sliced}
    metrics |= {name: of for name, of in found.items() if of}
    return Evaluation(metrics, {name: [] if name in left_out else of for name, of in plots.items()}, len(inputs.votes))


def _of_slice(
    gold: Ints, models: Mapping[str, BySeed], seed: int, bootstrap: int, classes: Sequence[str], positive: int
) -> dict[str, Any]:
    """The figures of models on the test rows of a slice."""
    enough = Support.of(gold, classes, positive).lacks_rows() is None
    samples = resamples(len(gold), bootstrap, seed) if enough else np.zeros((1, len(gold)))
    figures = {name: spread(gold, of, seed, samples, classes, positive)[0] for name, of in models.items()}
    return {"test_rows": len(gold), "models": figures}


def empirical(names: Sequence[str], votes: Votes, gold: Mapping[str, Ints]) -> dict[str, dict[str, dict[str, Any]]]:
    """By function, then by part of gold: ``votes`` on rows with a gold label, ``correct`` ones, ``accuracy``.

    ``accuracy`` is null where the function does not vote. Shapes: votes (rows, functions), gold (rows,).
    """
    found: dict[str, dict[str, dict[str, Any]]] = {name: {} for name in names}
    for column, name in enumerate(names):
        for part, labels in gold.items():
            voted = (votes[:, column] != ABSTAIN) & (labels != UNKNOWN)
            number, correct = int(voted.sum()), int((votes[voted, column] == labels[voted]).sum())
            accuracy = rounded(correct / number) if number else None
            found[name][part] = {"votes": number, "correct": correct, "accuracy": accuracy}
    return found


def _plots(inputs: Aligned, on_test: Mapping[str, Predictions], positive: int) -> dict[str, Points]:
    """The points of each plot; ``on_test`` are predictions of test rows. Votes and labels are plotted of all rows."""
    test, classes = inputs.test != UNKNOWN, inputs.classes
    gold = np.where(test, inputs.test, inputs.dev)
    place, published, votes = np.cumsum(test) - 1, inputs.published, inputs.votes
    shares: list[Shares] = [
        ("gold", gold != UNKNOWN, lambda rows: np.eye(len(classes))[gold[rows]]),
        ("majority_vote", covered(votes), lambda rows: vote_shares(votes[rows], len(classes)).probabilities),
        ("label_model", published.covered, lambda rows: published.probabilities[rows]),
    ]
    learned = [(name, of) for name, of in on_test.items() if name not in ("majority_vote", "label_model")]
    shares += [(name, test, partial(_at_places, of, place)) for name, of in learned]
    return {
        "calibration": calibration(inputs.test[test], on_test, positive),
        "roc": roc(inputs.test[test], on_test, Support.of(inputs.test[test], classes, positive).scored),
        "share_over_time": share_over_time(inputs.periods, shares, classes, positive),
    }


def _at_places(predictions: Predictions, places: Ints, rows: Ints) -> Floats:
    """Probabilities of rows of which ``places`` says where they stand among those of ``predictions``."""
    return predictions.probabilities[places[rows]]


def roc(gold: Ints, models: Mapping[str, Predictions], scored: Sequence[int] | None = None) -> Points:
    """ROC curves: ``fpr`` and ``tpr`` by ``model``; none where a side has no rows.

    All test rows count, as in `measures.measure`. Of two classes it is the curve of the one ``scored``, the last unless
    given, points on a straight line
    between others left out. Of more it is the mean over the classes ``scored`` of one against the rest, so that the
    area below it is the AUC that is reported.
    """
    from sklearn.metrics import roc_curve

    points: Points = []
    for model, predictions in models.items():
        count = predictions.probabilities.shape[1]
        labels = ([1] if count == 2 else range(count)) if scored is None else scored
        two_sided = [label for label in labels if 0 < (gold == label).sum() < len(gold)]
        curves = [roc_curve(gold == label, predictions.probabilities[:, label])[:2] for label in two_sided]
        if curves and count > 2:
            mean = np.mean([np.interp(GRID, fpr, tpr) for fpr, tpr in curves], axis=0)
            curves = [(np.append(0.0, GRID), np.append(0.0, mean))]
        for fpr, tpr in curves:
            points += [{"model": model, "fpr": rounded(x), "tpr": rounded(y)} for x, y in zip(fpr, tpr, strict=True)]
    return points


def calibration(gold: Ints, models: Mapping[str, Predictions], positive: int = 1) -> Points:
    """Reliability: ``mean_predicted``, ``fraction_positive`` and ``rows`` of each bin of covered rows, by ``model``.

    Of two classes what is predicted is the ``positive`` one; of more it is that the most probable class is right (Guo
    et al., On calibration of modern neural networks, ICML 2017). Models that cover too few rows are left out.
    """
    points: Points = []
    for model, predictions in models.items():
        if too_few(int(predictions.covered.sum()), "test row"):
            continue
        true, probabilities = gold[predictions.covered], predictions.probabilities[predictions.covered]
        binary = probabilities.shape[1] == 2
        scores = probabilities[:, positive] if binary else probabilities.max(axis=1)
        is_so = true == (positive if binary else probabilities.argmax(axis=1))
        bins = np.minimum((scores * BINS).astype(np.int64), BINS - 1)
        for number in np.unique(bins):
            rows = bins == number
            means = {"mean_predicted": scores[rows].mean(), "fraction_positive": is_so[rows].mean()}
            points.append(
                {"model": model, **{name: rounded(mean) for name, mean in means.items()}, "rows": int(rows.sum())}
            )
    return points


Shares = tuple[str, Bools, Callable[[Ints], Floats]]
"""A model's name, on which rows it says something (rows,), and what gives the probabilities of some of these rows."""


def share_over_time(
    periods: Periods,
    shares: Sequence[Shares],
    classes: Sequence[str] = ("", ""),
    positive: int = 1,
) -> Points:
    """The mean ``share`` and number of ``rows`` by ``model`` and ``partition``; none where no row has a time.

    Of two classes it is the share of the ``positive`` one, of more that of each ``class`` among the `SHOWN` largest.

    Parameters
    ----------
    periods
        Those of the rows.
    shares
        Of each model.
    classes
        Their names.
    """
    if set(periods.names) <= {UNDATED}:
        return []
    shown = [positive]
    if len(classes) > 2:
        told = (values(np.flatnonzero(known)) for _, known, values in shares if known.any())
        first = next(told, np.zeros((1, len(classes))))
        shown = sorted(np.argsort(-first.mean(axis=0), kind="stable")[:SHOWN].tolist())
    points: dict[int, Points] = {label: [] for label in shown}
    by_period = periods.rows()
    for model, known, values in shares:
        for period, rows in by_period:
            if not len(rows := rows[known[rows]]):
                continue
            said = values(rows)
            for label in shown:
                about = {"class": classes[label]} if len(classes) > 2 else {}
                share = {"share": rounded(said[:, label].copy().mean()), "rows": len(rows)}
                points[label].append({"model": model, **about, "partition": period, **share})
    return [point for of_class in points.values() for point in of_class]
