"""Metrics of probabilistic predictions against gold labels, for two classes or more, under many weightings of rows.

Gold labels, probabilities and row weights go in as arrays; one value per weighting comes out. A bootstrap resample is a
weighting (how often each row was drawn), so that all resamples are measured in a few matrix products.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

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


ROWS = 30
"""Test rows that any figure needs: with fewer, chance alone can move a share by 0.18 (95 %, at one half)."""

ROWS_OF_CLASS = 10
"""Rows that a figure about one class needs of it: with fewer, chance can move its recall by 0.31."""

MOST_TEST = 20_000
"""Test rows that are measured, a sample of more: they tell any share to 0.007."""


@dataclass(frozen=True)
class Support:
    """The test rows of a task, by class.

    Attributes
    ----------
    classes : list of str
    counts : list of int
        Test rows of each class.
    """

    classes: Sequence[str]
    counts: Sequence[int]

    @staticmethod
    def of(gold: Ints, classes: Sequence[str]) -> Support:
        """The support of test rows, ``gold`` being their classes as positions."""
        return Support(classes, np.bincount(gold, minlength=len(classes)).tolist())

    @property
    def rows(self) -> int:
        """All test rows."""
        return sum(self.counts)

    @property
    def scored(self) -> list[int]:
        """The classes that have figures of their own, as positions; of two classes the last stands for both."""
        if len(self.classes) == 2:
            return [1]
        return [
            place
            for place, count in enumerate(self.counts)
            if count >= ROWS_OF_CLASS and self.rows - count >= ROWS_OF_CLASS
        ]

    @property
    def left_out(self) -> list[str]:
        """Classes of three or more over which no mean is taken."""
        scored = self.scored
        return [] if len(self.classes) == 2 else [n for place, n in enumerate(self.classes) if place not in scored]

    def lacks_rows(self) -> str | None:
        """Why nothing can be measured."""
        return too_few(self.rows, "test row")

    def lacks_classes(self) -> str | None:
        """Why no figure about classes (AUC, F1, ROC) can be had."""
        if len(self.classes) > 2:
            few = f"Fewer than two classes have {ROWS_OF_CLASS} test rows, and no mean over classes can be had."
            return few if len(self.scored) < 2 else None
        absent = [name for name, count in zip(self.classes, self.counts, strict=True) if not count]
        if absent:
            return f"No test row is of class {', '.join(absent)}."
        count, name = min(zip(self.counts, self.classes, strict=True))
        return (
            None if count >= ROWS_OF_CLASS else f"Of class {name} there are {_rows(count)}; {ROWS_OF_CLASS} are needed."
        )


def too_few(count: int, what: str) -> str | None:
    """Why so many rows with gold labels, of the kind ``what``, cannot support a figure."""
    if count >= ROWS:
        return None
    if not count:
        return f"No {what} has a gold label."
    return (
        f"Only {count} {what}{' has a gold label' if count == 1 else 's have gold labels'}; below {ROWS}, chance alone "
        "can move a share by 0.18."
    )


def decides_too_little(count: int) -> str | None:
    """Why so many rows that a model decides cannot support a figure about these alone."""
    if count >= ROWS:
        return None
    return (
        f"The model decides on {_rows(count)} only; {ROWS} are needed."
        if count
        else "The model decides on no test row."
    )


def _rows(count: int) -> str:
    return f"{count} test row" if count == 1 else f"{count} test rows"


DIGITS = 6
"""Decimals of every reported figure; sums of floats agree to more than that between runs."""

INTERVAL = (2.5, 97.5)
"""Percentiles of the bootstrap distribution between which the interval lies."""

OF_CLASSES = ("auc", "f1")

SHARES_RIGHT = ("accuracy", "accuracy_covered")

AT_ONCE = 1 << 22
"""Weights of rows that are measured together, so that memory does not grow with their number."""


def resamples(rows: int, number: int, seed: int) -> Floats:
    """How often each row is drawn in each of ``number`` bootstrap samples, (number, rows)."""
    if not rows:
        return np.zeros((number, 0))
    generator = np.random.default_rng(seed)
    return generator.multinomial(rows, np.full(rows, 1 / rows), size=number).astype(np.float64)


def spread(
    gold: Ints, by_seed: Mapping[int, Predictions], seed: int, samples: Floats, classes: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Every measure of a model on the test rows.

    Parameters
    ----------
    gold
        The true class of each test row.
    by_seed
        The model's predictions of the test rows for each seed.
    seed
        The seed of the pipeline: ``value`` and ``interval`` are measured on its predictions.
    samples
        Bootstrap samples, see `resamples`.
    classes
        Names, in the order of the predictions' columns.

    Returns
    -------
    dict
        By measure: ``value``; ``minimum`` over the seeds (``maximum`` for measures of which less is better: the worst
        in both cases); ``interval``, a pair, or null where resamples do not differ. All are null, with a ``reason``,
        where rows cannot support the measure, see `support`. ``auc`` and ``f1`` of three classes or more are means
        over ``classes`` of them, those that have rows enough.
    """
    return spread_by_class(gold, by_seed, seed, samples, classes)[0]


def spread_by_class(
    gold: Ints, by_seed: Mapping[int, Predictions], seed: int, samples: Floats, classes: Sequence[str]
) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, Any]]]:
    """`spread`, and the same of single classes: by class that rows can support, then by measure."""
    support, once = Support.of(gold, classes), np.ones((1, len(gold)))
    scored = [] if support.lacks_rows() else support.scored

    def measured(predictions: Predictions, weights: Floats) -> dict[str, Floats]:
        found = overall(gold, predictions, weights)
        if not scored:
            return found
        each = per_class(gold, predictions, weights, scored)
        return found | macro(each) | {_each(name): of for name, of in each.items()}

    decided = int((by_seed[seed].decided() >= 0).sum())
    reasons = _reasons(support, decided)
    values = {number: measured(predictions, once) for number, predictions in by_seed.items()}
    sampled = _sampled(lambda weights: measured(by_seed[seed], weights), samples)
    found: dict[str, dict[str, Any]] = {}
    for name in MEASURES:
        if name in reasons:
            found[name] = _null(name, reasons[name])
            continue
        of_seeds = [value[name][0] for value in values.values()]
        rows = decided if name == "accuracy_covered" else len(gold)
        found[name] = _entry(name, values[seed][name][0], of_seeds, sampled[name], rows)
        if len(classes) > 2 and name in OF_CLASSES:
            found[name]["classes"] = len(scored)
    by_class = {
        classes[label]: {
            name: _of_class(name, values[seed][_each(name)][place, 0], sampled[_each(name)][place], len(gold))
            for name in OF_CLASS
        }
        for place, label in enumerate(scored)
    }
    return found, by_class


def _each(name: str) -> str:
    return f"{name} of each class"


def _of_class(name: str, value: float, sampled: Floats, rows: int) -> dict[str, Any]:
    return {"value": rounded(value), "interval": _interval(name, value, sampled, rows)}


def missing(reason: str) -> dict[str, dict[str, Any]]:
    """The entries of a model that could not be had."""
    return {name: _null(name, reason) for name in MEASURES}


def rounded(value: float) -> float | None:
    """A figure as it is written; NaN becomes null."""
    return None if math.isnan(value) else round(float(value), DIGITS)


def _reasons(support: Support, decided: int) -> dict[str, str]:
    """Why measures cannot be had, by name."""
    if rows := support.lacks_rows():
        return dict.fromkeys(MEASURES, rows)
    classes, covered = support.lacks_classes(), decides_too_little(decided)
    found = dict.fromkeys(OF_CLASSES, classes) if classes else {}
    return found | ({"accuracy_covered": covered} if covered else {})


def _sampled(measured: Callable[[Floats], dict[str, Floats]], samples: Floats) -> dict[str, Floats]:
    """A measurement of all samples, a block of them at a time; the last axis is that of the samples."""
    found = [measured(block) for block in _blocks(samples)]
    return {name: np.concatenate([of[name] for of in found], axis=-1) for name in found[0]}


def _blocks(samples: Floats) -> Iterator[Floats]:
    step = max(1, AT_ONCE // max(1, samples.shape[1]))
    for start in range(0, len(samples), step):
        yield samples[start : start + step]


def _entry(name: str, value: float, of_seeds: Sequence[float], sampled: Floats, rows: int) -> dict[str, Any]:
    worst = np.nanmax(of_seeds) if name in LOSSES else np.nanmin(of_seeds)
    interval = _interval(name, value, sampled, rows)
    return {"value": rounded(value), _worst(name): rounded(worst), "interval": interval}


def _interval(name: str, value: float, sampled: Floats, rows: int) -> list[float | None] | None:
    """The bootstrap's; of what is always right or wrong, the exact one of Clopper and Pearson (1934)."""
    known = sampled[~np.isnan(sampled)]
    if not len(known):
        return None
    low, high = np.percentile(known, INTERVAL)
    if low < high or name == "coverage":
        return [rounded(low), rounded(high)]
    if name not in SHARES_RIGHT or not rows:
        return None
    least = (INTERVAL[0] / 100) ** (1 / rows)
    return [rounded(least), 1.0] if value > 0 else [0.0, rounded(1 - least)]


def _null(name: str, reason: str) -> dict[str, Any]:
    return {"value": None, _worst(name): None, "interval": None, "reason": reason}


def _worst(name: str) -> str:
    return "maximum" if name in LOSSES else "minimum"
