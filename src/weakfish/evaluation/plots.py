"""Data of DVC's plots: flat records, one series per model, about the last class of a task against the rest."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from weakfish.evaluation.measures import Bools, Floats, Ints, Predictions
from weakfish.evaluation.spread import rounded

Points = list[dict[str, Any]]

BINS = 10
"""Bins of equal width in a calibration plot."""


def roc(gold: Ints, models: Mapping[str, Predictions]) -> Points:
    """ROC curves: ``fpr`` and ``tpr`` by ``model``; none where a side has no rows.

    All test rows count, as in `measures.measure`; points on a straight line between others are left out.
    """
    from sklearn.metrics import roc_curve

    points: Points = []
    for model, predictions in models.items():
        positive = gold == predictions.probabilities.shape[1] - 1
        if positive.all() or not positive.any():
            continue
        fpr, tpr, _ = roc_curve(positive, predictions.probabilities[:, -1])
        points += [{"model": model, "fpr": rounded(x), "tpr": rounded(y)} for x, y in zip(fpr, tpr, strict=True)]
    return points


def calibration(gold: Ints, models: Mapping[str, Predictions]) -> Points:
    """Reliability: ``mean_predicted``, ``fraction_positive`` and ``rows`` of each bin of covered rows, by ``model``."""
    points: Points = []
    for model, predictions in models.items():
        scores = predictions.probabilities[predictions.covered, -1]
        positive = gold[predictions.covered] == predictions.probabilities.shape[1] - 1
        bins = np.minimum((scores * BINS).astype(np.int64), BINS - 1)
        for number in np.unique(bins):
            rows = bins == number
            means = {"mean_predicted": scores[rows].mean(), "fraction_positive": positive[rows].mean()}
            points.append(
                {"model": model, **{name: rounded(mean) for name, mean in means.items()}, "rows": int(rows.sum())}
            )
    return points


def share_over_time(partitions: Sequence[str], shares: Iterable[tuple[str, Bools, Floats]]) -> Points:
    """The mean ``share`` and number of ``rows`` by ``model`` and ``partition``.

    Parameters
    ----------
    partitions
        The partition of each row.
    shares
        Of each model: its name, on which rows it says something, and what it says of every row.
    """
    of_row = np.asarray(partitions)
    points: Points = []
    for model, known, values in shares:
        for partition in sorted(set(of_row[known].tolist())):
            rows = known & (of_row == partition)
            points.append(
                {"model": model, "partition": partition, "share": rounded(values[rows].mean()), "rows": int(rows.sum())}
            )
    return points
