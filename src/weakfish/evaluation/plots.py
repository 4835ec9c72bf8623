"""Data of DVC's plots: flat records, one series per model; of two classes about the last, of more about all of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from weakfish.contracts.tables import UNDATED
from weakfish.evaluation.measures import Bools, Floats, Ints, Predictions, Support, rounded, too_few

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
