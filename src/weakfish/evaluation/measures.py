"""Metrics of probabilistic predictions against gold labels, for two classes or more, under many weightings of rows.

Gold labels, probabilities and row weights go in as arrays; one value per weighting comes out. A bootstrap resample is a
weighting (how often each row was drawn), so that all resamples are measured in a few matrix products.
"""

from __future__ import annotations

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
        - ``f1``: of the last class when there are two, else the mean over classes (macro); an undecided row is a miss
          of its own class and no false alarm for another.
        - ``auc``: area under the ROC curve of the last class when there are two, else the mean of one class against
          the rest (macro); all rows, those not covered with the probabilities that they have. Ties count half.
        - ``brier``: mean squared error of the probabilities, summed over classes, halved for two classes (Brier 1950;
          the halved form is scikit-learn's).
        - ``log_loss``: mean negative log probability of the true class, in nats, probabilities of at least `FLOOR`.
    """
    probabilities, decided = predictions.probabilities, predictions.decided()
    classes = probabilities.shape[1]
    truth = np.eye(classes)[gold]
    squares = ((probabilities - truth) ** 2).sum(axis=1) / (2 if classes == 2 else 1)
    losses = -np.log(np.maximum((probabilities * truth).sum(axis=1), FLOOR))
    scored = [classes - 1] if classes == 2 else list(range(classes))
    right, sure, total = decided == gold, decided >= 0, weights.sum(axis=1)
    return {
        "accuracy": _ratio(weights @ right, total),
        "accuracy_covered": _ratio(weights @ right, weights @ sure),
        "auc": np.mean([auc(gold == label, probabilities[:, label], weights) for label in scored], axis=0),
        "brier": _ratio(weights @ squares, total),
        "coverage": _ratio(weights @ sure, total),
        "f1": np.mean([_f1(gold == label, decided == label, weights) for label in scored], axis=0),
        "log_loss": _ratio(weights @ losses, total),
    }


def auc(positive: Bools, scores: Floats, weights: Floats) -> Floats:
    """The area under the ROC curve for each weighting, by ranks: the chance that a positive scores above a negative.

    NaN where positives or negatives have no weight. Shapes as in `measure`.
    """
    order = np.argsort(scores, kind="stable")
    starts = np.flatnonzero(np.diff(scores[order], prepend=-np.inf))
    if not len(starts):
        return np.full(len(weights), np.nan)
    up = np.add.reduceat(weights[:, order] * positive[order], starts, axis=1)
    down = np.add.reduceat(weights[:, order] * ~positive[order], starts, axis=1)
    below = np.cumsum(down, axis=1) - down / 2
    return _ratio((up * below).sum(axis=1), up.sum(axis=1) * down.sum(axis=1))


def _f1(positive: Bools, claimed: Bools, weights: Floats) -> Floats:
    hits = weights @ (positive & claimed)
    found = _ratio(2 * hits, weights @ positive + weights @ claimed)
    return np.where(weights @ positive > 0, found, np.nan)


def _ratio(above: Floats, below: Floats) -> Floats:
    """``above / below``, NaN where ``below`` is zero."""
    ratio: Floats = np.divide(above, below, out=np.full(above.shape, np.nan), where=below > 0)
    return ratio
