"""Metrics of probabilistic predictions against gold labels, for two classes or more, under many weightings of rows.

Gold labels, probabilities and row weights go in as arrays; one value per weighting comes out. A bootstrap resample is a
weighting (how often each row was drawn), so that all resamples are measured in a few matrix products.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

FLOOR = 1e-6
"""Probabilities below this count as this in the log loss, which is infinite at zero."""

MEASURES = ("accuracy", "accuracy_covered", "auc", "brier", "coverage", "f1", "log_loss")
LOSSES = ("brier", "log_loss")
"""Measures of which less is better."""

OF_CLASS = ("auc", "f1", "precision", "recall")
"""Measures of a single class."""


@dataclass(frozen=True)
class Predictions:
    """What a model says about rows.

    Attributes
    ----------
    probabilities : numpy.ndarray, float64, (rows, classes)
    covered : numpy.ndarray, bool, (rows,)
        False where the model has nothing to say and ``probabilities`` are only its prior.
    """

    probabilities: Floats
    covered: Bools

    def decided(self) -> Ints:
        """The most probable class of each row, -1 where it is not covered or two classes tie for the first place."""
        best = self.probabilities.max(axis=1, keepdims=True)
        tied = np.isclose(self.probabilities, best, rtol=0, atol=1e-12).sum(axis=1) > 1
        return np.where(self.covered & ~tied, self.probabilities.argmax(axis=1), -1)

    def at(self, rows: Bools | Ints) -> Predictions:
        """The predictions of some rows."""
        return Predictions(self.probabilities[rows], self.covered[rows])


def measure(gold: Ints, predictions: Predictions, weights: Floats) -> dict[str, Floats]:
    """Every measure under every weighting of the rows.

    Parameters
    ----------
    gold : (rows,)
        The true class of each row, a column of ``predictions.probabilities``.
    predictions
        Of the same rows.
    weights : (weightings, rows)
        How much each row counts, not negative.

    Returns
    -------
    dict of str to numpy.ndarray, (weightings,)
        NaN where a measure does not exist, as when a class that it needs has no rows.

        - ``accuracy``: of all rows; a row that is not decided (not covered, or a tie) counts as wrong.
        - ``accuracy_covered``: of the decided rows alone.
        - ``coverage``: the share of decided rows.
        - ``f1``, ``auc``: of the last class when there are two, else the mean over classes (macro); see `per_class`.
        - ``brier``: mean squared error of the probabilities, summed over classes, halved for two classes (Brier 1950;
          the halved form is scikit-learn's).
        - ``log_loss``: mean negative log probability of the true class, in nats, probabilities of at least `FLOOR`.
    """
    return overall(gold, predictions, weights) | macro(per_class(gold, predictions, weights))


def overall(gold: Ints, predictions: Predictions, weights: Floats) -> dict[str, Floats]:
    """Those of `measure` that are of all classes at once."""
    probabilities, decided = predictions.probabilities, predictions.decided()
    classes = probabilities.shape[1]
    truth = np.eye(classes)[gold]
    squares = ((probabilities - truth) ** 2).sum(axis=1) / (2 if classes == 2 else 1)
    losses = -np.log(np.maximum((probabilities * truth).sum(axis=1), FLOOR))
    right, sure, total = decided == gold, decided >= 0, weights.sum(axis=1)
    return {
        "accuracy": _ratio(weights @ right, total),
        "accuracy_covered": _ratio(weights @ right, weights @ sure),
        "brier": _ratio(weights @ squares, total),
        "coverage": _ratio(weights @ sure, total),
        "log_loss": _ratio(weights @ losses, total),
    }


def per_class(
    gold: Ints, predictions: Predictions, weights: Floats, scored: Sequence[int] | None = None
) -> dict[str, Floats]:
    """The figures of single classes, each (classes, weightings); ``scored`` are their positions.

    Without ``scored`` it is the last class of two, else all.

    - ``f1``, ``precision``, ``recall``: an undecided row is a miss of its own class and no false alarm for another.
    - ``auc``: area under the ROC curve of the class against the rest; all rows, those not covered with the
      probabilities that they have. Ties count half.
    """
    probabilities, decided = predictions.probabilities, predictions.decided()
    classes = probabilities.shape[1]
    if scored is None:
        scored = [classes - 1] if classes == 2 else range(classes)
    by_row = np.ascontiguousarray(weights.T)
    found = [_one_class(gold == label, decided == label, probabilities[:, label], weights, by_row) for label in scored]
    return {name: np.array([of[name] for of in found]).reshape(len(found), len(weights)) for name in OF_CLASS}


def macro(found: Mapping[str, Floats]) -> dict[str, Floats]:
    """The means over the classes of `per_class`."""
    return {name: np.mean(found[name], axis=0) for name in ("auc", "f1")}


def _one_class(positive: Bools, claimed: Bools, scores: Floats, weights: Floats, by_row: Floats) -> dict[str, Floats]:
    hits, there, said = weights @ (positive & claimed), weights @ positive, weights @ claimed
    return {
        "auc": _auc(positive, scores, by_row),
        "f1": np.where(there > 0, _ratio(2 * hits, there + said), np.nan),
        "precision": _ratio(hits, said),
        "recall": _ratio(hits, there),
    }


def auc(positive: Bools, scores: Floats, weights: Floats) -> Floats:
    """The area under the ROC curve for each weighting, by ranks: the chance that a positive scores above a negative.

    NaN where positives or negatives have no weight. Shapes as in `measure`.
    """
    return _auc(positive, scores, np.ascontiguousarray(weights.T))


def _auc(positive: Bools, scores: Floats, by_row: Floats) -> Floats:
    """`auc` of weights (rows, weightings), which are put into order row by row; sums of whole weights are exact."""
    order = np.argsort(scores, kind="stable")
    there = positive[order]
    if not there.any() or there.all():
        return np.full(by_row.shape[1], np.nan)
    starts = _cuts(scores[order], there)
    drawn = by_row[order]
    total = np.add.reduceat(drawn, starts, axis=0)
    segments, first = np.unique(np.searchsorted(starts, np.flatnonzero(there), side="right") - 1, return_index=True)
    up = np.zeros_like(total)
    up[segments] = np.add.reduceat(drawn[there], first, axis=0)
    down = total - up
    below = np.cumsum(down, axis=0) - down / 2
    return _ratio((up * below).sum(axis=0), up.sum(axis=0) * down.sum(axis=0))


def _cuts(scores: Floats, positive: Bools) -> Ints:
    """Where runs of ordered rows start that can be counted together: alike in score, or negatives between positives."""
    groups = np.flatnonzero(np.diff(scores, prepend=-np.inf))
    held = np.unique(np.searchsorted(groups, np.flatnonzero(positive), side="right") - 1)
    ends = np.append(groups, len(scores))[held + 1]
    return np.unique(np.concatenate([[0], groups[held], ends[ends < len(scores)]]))


def _ratio(above: Floats, below: Floats) -> Floats:
    """``above / below``, NaN where ``below`` is zero."""
    ratio: Floats = np.divide(above, below, out=np.full(above.shape, np.nan), where=below > 0)
    return ratio
