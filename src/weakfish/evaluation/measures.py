"""Metrics of probabilistic predictions against gold labels, for two classes or more, with their spread.

A bootstrap resample is a weighting of the rows (how often each was drawn), so that all resamples are measured in a few
matrix products. A figure that too few rows support is left out, with the reason.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from weakfish.contracts.gold import ROWS, ROWS_OF_CLASS
from weakfish.engine.portable import log

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

FLOOR = 1e-6
"""Probabilities below this count as this where they are divided by, or their logarithm is taken."""

MEASURES = (
    "accuracy",
    "accuracy_covered",
    "auc",
    "average_precision",
    "balanced_accuracy",
    "brier",
    "coverage",
    "f1",
    "log_loss",
)

LOSSES = ("brier", "log_loss")
"""Measures of which less is better."""

OF_CLASS = ("auc", "average_precision", "f1", "precision", "recall")
"""Measures of a single class."""

MACRO = ("auc", "average_precision", "f1")
"""Measures that are means over classes, where there are three or more."""

EACH = "{} of each class"
"""Under what `measure` returns the figures of single classes."""


@dataclass(frozen=True)
class Predictions:
    """What a model says about rows.

    Attributes
    ----------
    probabilities : numpy.ndarray, float64, (rows, classes)
    covered : numpy.ndarray, bool, (rows,)
        False where the model has nothing to say and ``probabilities`` are only its prior.
    trained : numpy.ndarray, float64, (classes,), or None
        The shares of the classes among what the model learned from, where that was rows like these.
    threshold : float or None
        The probability of class ``positive`` of two from which on a row is decided as that class; None where the most
        probable class is.
    """

    probabilities: Floats
    covered: Bools
    trained: Floats | None = None
    threshold: float | None = None
    positive: int = 1

    def decided(self) -> Ints:
        """The class of each row, -1 where it is not covered or two classes tie for the most probable."""
        if self.threshold is not None:
            says = self.probabilities[:, self.positive] >= self.threshold
            return np.where(self.covered, np.where(says, self.positive, 1 - self.positive), -1)
        best = self.probabilities.max(axis=1, keepdims=True)
        tied = np.isclose(self.probabilities, best, rtol=0, atol=1e-12).sum(axis=1) > 1
        return np.where(self.covered & ~tied, self.probabilities.argmax(axis=1), -1)

    def at(self, rows: Bools | Ints) -> Predictions:
        """The predictions of some rows."""
        return replace(self, probabilities=self.probabilities[rows], covered=self.covered[rows])

    @staticmethod
    def together(parts: Sequence[tuple[Bools, Predictions]]) -> Predictions:
        """One for all rows; each part has those of its own rows (a mask), and every row is in one part.

        What all learned from has no one share: it is that of the first.
        """
        (rows, first), *_ = parts
        probabilities, known = np.zeros((len(rows), first.probabilities.shape[1])), np.zeros(len(rows), bool)
        for own, says in parts:
            probabilities[own], known[own] = says.probabilities, says.covered
        return replace(first, probabilities=probabilities, covered=known)


def measure(
    gold: Ints, predictions: Predictions, weights: Floats, scored: Sequence[int] | None = None
) -> dict[str, Floats]:
    """Every measure under every weighting of the rows.

    Parameters
    ----------
    gold : (rows,)
        The true class of each row, a column of ``predictions.probabilities``.
    predictions
        Of the same rows.
    weights : (weightings, rows)
        How much each row counts, not negative.
    scored
        Positions of the classes that have figures of their own; by default the last of two, else all. Of two classes it
        is the positive one.

    Returns
    -------
    dict of str to numpy.ndarray, (weightings,)
        NaN where a measure does not exist, as when a class that it needs has no rows.

        - ``accuracy``: of all rows; a row that is not decided (not covered, or a tie) counts as wrong.
        - ``accuracy_covered``: of the decided rows alone.
        - ``coverage``: the share of decided rows.
        - ``brier``: mean squared error of the probabilities, summed over classes, halved for two classes (Brier 1950;
          the halved form is scikit-learn's).
        - ``log_loss``: mean negative log probability of the true class, in nats, probabilities of at least `FLOOR`.
        - ``balanced_accuracy``: the mean over classes of the share of their rows that are decided rightly, over both of
          two and over the classes ``scored`` of more. Always answering one class has one divided by their number.
        - ``f1``, ``auc``, ``average_precision``: the mean over the classes ``scored`` (macro). These four are missing
          where no class is scored.

        Under `EACH` the figures of the classes ``scored``, (classes, weightings):

        - ``f1``, ``precision``, ``recall``: an undecided row is a miss of its own class and no false alarm for another.
        - ``auc``, ``average_precision``: see `ranking`; all rows count, those not covered with the probabilities that
          they have.
    """
    probabilities, decided = predictions.probabilities, predictions.decided()
    classes = probabilities.shape[1]
    if scored is None:
        scored = [1] if classes == 2 else range(classes)
    truth = np.eye(classes)[gold]
    squares = ((probabilities - truth) ** 2).sum(axis=1) / (2 if classes == 2 else 1)
    losses = -log(np.maximum((probabilities * truth).sum(axis=1), FLOOR))
    right, sure, total = decided == gold, decided >= 0, weights.sum(axis=1)
    found = {
        "accuracy": _ratio(weights @ right, total),
        "accuracy_covered": _ratio(weights @ right, weights @ sure),
        "brier": _ratio(weights @ squares, total),
        "coverage": _ratio(weights @ sure, total),
        "log_loss": _ratio(weights @ losses, total),
    }
    each: dict[str, list[Floats]] = {name: [] for name in OF_CLASS}
    by_row = np.ascontiguousarray(weights.T)
    for label in scored:
        positive, claimed = gold == label, decided == label
        hits, there, said = weights @ (positive & claimed), weights @ positive, weights @ claimed
        area, precision = ranking(positive, probabilities[:, label], by_row)
        each["auc"].append(area)
        each["average_precision"].append(precision)
        each["f1"].append(np.where(there > 0, _ratio(2 * hits, there + said), np.nan))
        each["precision"].append(_ratio(hits, said))
        each["recall"].append(_ratio(hits, there))
    found |= {EACH.format(name): np.array(of).reshape(len(scored), len(weights)) for name, of in each.items()}
    if not scored:
        return found
    recalls = [
        _ratio(weights @ (right & (gold == label)), weights @ (gold == label)) for label in _both(scored, classes)
    ]
    found["balanced_accuracy"] = np.mean(recalls, axis=0)
    return found | {name: np.mean(each[name], axis=0) for name in MACRO}


def _both(scored: Sequence[int], classes: int) -> Sequence[int]:
    """The classes over which balanced accuracy is a mean."""
    return range(2) if classes == 2 else scored


def ranking(positive: Bools, scores: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """How well scores rank positives above negatives: ROC AUC and average precision, for each weighting.

    The area under the ROC curve is the chance that a positive scores above a negative; ties count half. Average
    precision is the mean over positives of the precision among all rows that score at least as high, as scikit-learn
    has it; a ranking without sense has the share of positives.

    NaN where positives or negatives have no weight. ``weights`` are (rows, weightings), so that they are put into order
    row by row; sums of whole weights are exact.
    """
    order = np.argsort(scores, kind="stable")
    there = positive[order]
    if not there.any() or there.all():
        return np.full(weights.shape[1], np.nan), np.full(weights.shape[1], np.nan)
    # Runs of ordered rows that are alike in score are counted together, and so are all negatives between positives.
    groups = np.flatnonzero(np.diff(scores[order], prepend=-np.inf))
    held = np.unique(np.searchsorted(groups, np.flatnonzero(there), side="right") - 1)
    ends = np.append(groups, len(scores))[held + 1]
    starts = np.unique(np.concatenate([[0], groups[held], ends[ends < len(scores)]]))
    drawn = weights[order]
    total = np.add.reduceat(drawn, starts, axis=0)
    segments, first = np.unique(np.searchsorted(starts, np.flatnonzero(there), side="right") - 1, return_index=True)
    up = np.zeros_like(total)
    up[segments] = np.add.reduceat(drawn[there], first, axis=0)
    down = total - up
    positives, negatives = up.sum(axis=0), down.sum(axis=0)
    summed = np.cumsum(down, axis=0)
    area = _ratio((up * (summed - down / 2)).sum(axis=0), positives * negatives)
    up = up[segments]
    above = np.cumsum(up[::-1], axis=0)[::-1]  # positives that score at least as high
    precision = _ratio(above, above + negatives - (summed - down)[segments])
    found = _ratio(np.where(up > 0, up * precision, 0.0).sum(axis=0), positives)
    return area, np.where(negatives > 0, found, np.nan)


def _ratio(above: Floats, below: Floats) -> Floats:
    """``above / below``, NaN where ``below`` is zero."""
    ratio: Floats = np.divide(above, below, out=np.full(above.shape, np.nan), where=below > 0)
    return ratio


MOST_TEST = 20_000
"""Test rows that are measured, a sample of more: they tell any share to 0.007."""


@dataclass(frozen=True)
class Support:
    """How many test rows a task has of each class, and what figures they can support.

    ``positive`` is the position of the class of two that figures are about.
    """

    classes: Sequence[str]
    counts: Sequence[int]
    positive: int = 1

    @staticmethod
    def of(gold: Ints, classes: Sequence[str], positive: int = 1) -> Support:
        """The support of test rows, ``gold`` being their classes as positions."""
        return Support(classes, np.bincount(gold, minlength=len(classes)).tolist(), positive)

    @property
    def scored(self) -> list[int]:
        """The classes that have figures of their own, as positions; of two classes the positive one."""
        if len(self.classes) == 2:
            return [self.positive]
        rows = sum(self.counts)
        return [place for place, count in enumerate(self.counts) if ROWS_OF_CLASS <= count <= rows - ROWS_OF_CLASS]

    def lacks_rows(self) -> str | None:
        """Why nothing can be measured."""
        return too_few(sum(self.counts), "test row")

    def lacks_classes(self) -> str | None:
        """Why no figure about classes (AUC, F1, ROC) can be had."""
        if len(self.classes) > 2:
            few = f"Fewer than two classes have {ROWS_OF_CLASS} test rows, so there is no mean over classes."
            return few if len(self.scored) < 2 else None
        absent = [name for name, count in zip(self.classes, self.counts, strict=True) if not count]
        if absent:
            return f"No test row is of class {', '.join(absent)}."
        count, name = min(zip(self.counts, self.classes, strict=True))
        if count >= ROWS_OF_CLASS:
            return None
        return f"Class {name} has only {_rows(count)}; {ROWS_OF_CLASS} are needed."

    def reasons(self, decided: int) -> dict[str, str]:
        """Why measures of a model that decides so many rows cannot be had, by name."""
        if rows := self.lacks_rows():
            return dict.fromkeys(MEASURES, rows)
        classes = self.lacks_classes()
        found = dict.fromkeys((*MACRO, "balanced_accuracy"), classes) if classes else {}
        if not decided:
            found["accuracy_covered"] = "The model decides on no test row."
        elif decided < ROWS:
            found["accuracy_covered"] = f"The model decides on {_rows(decided)} only; {ROWS} are needed."
        return found


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


def _rows(count: int) -> str:
    return f"{count} test row" if count == 1 else f"{count} test rows"


DIGITS = 6
"""Decimals of every reported figure; sums of floats agree to more than that between runs."""

INTERVAL = (2.5, 97.5)
"""Percentiles of the bootstrap distribution between which the interval lies."""

COIN = 0.5
"""The AUC of chance."""

AT_ONCE = 1 << 22
"""Weights of rows that are measured together, so that memory does not grow with their number."""


def resamples(rows: int, number: int, seed: int) -> Floats:
    """How often each row is drawn in each of ``number`` bootstrap samples, (number, rows)."""
    if not rows:
        return np.zeros((number, 0))
    generator = np.random.default_rng(seed)
    return generator.multinomial(rows, np.full(rows, 1 / rows), size=number).astype(np.float64)


def spread(
    gold: Ints,
    by_seed: Mapping[int, Predictions],
    seed: int,
    samples: Floats,
    classes: Sequence[str],
    positive: int = 1,
) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, Any]]]:
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
        Bootstrap samples, see `resamples`; with none there are no intervals.
    classes
        Names, in the order of the predictions' columns.
    positive
        The position of the class of two that figures are about.

    Returns
    -------
    dict
        By measure: ``value``; ``minimum`` over the seeds (``maximum`` for measures of which less is better: the worst
        in both cases); ``interval``, a pair, or null where resamples do not differ. All are null, with a ``reason``,
        where rows cannot support the measure, see `Support`. ``auc`` and ``f1`` of three classes or more are means
        over ``classes`` of them, those that have rows enough.
    dict
        By class that rows can support, then by measure: ``value`` and ``interval``.
    """
    support, once = Support.of(gold, classes, positive), np.ones((1, len(gold)))
    scored = [] if support.lacks_rows() else support.scored
    values = {number: measure(gold, predictions, once, scored) for number, predictions in by_seed.items()}
    step = max(1, AT_ONCE // max(1, samples.shape[1]))
    parts = [
        measure(gold, by_seed[seed], samples[start : start + step], scored)
        for start in range(0, max(1, len(samples)), step)
    ]
    sampled = {name: np.concatenate([of[name] for of in parts], axis=-1) for name in parts[0]}
    decided = int((by_seed[seed].decided() >= 0).sum())
    found = missing(support.reasons(decided))
    for name in MEASURES:
        if name in found:
            continue
        of_seeds, value = [of[name][0] for of in values.values()], values[seed][name][0]
        worst = np.nanmax(of_seeds) if name in LOSSES else np.nanmin(of_seeds)
        interval = _interval(name, value, sampled[name], decided if name == "accuracy_covered" else len(gold))
        found[name] = {"value": rounded(value), _worst(name): rounded(worst), "interval": interval}
        if len(classes) > 2 and name in MACRO:
            found[name]["classes"] = len(scored)
    by_class: dict[str, dict[str, Any]] = {classes[label]: {} for label in scored}
    for name in OF_CLASS:
        for place, label in enumerate(scored):
            value, drawn = values[seed][EACH.format(name)][place, 0], sampled[EACH.format(name)][place]
            interval = _interval(name, value, drawn, len(gold))
            by_class[classes[label]][name] = {"value": rounded(value), "interval": interval}
    return found, by_class


def constant(gold: Ints, classes: int) -> Predictions:
    """What always answers the most frequent class of the rows themselves: no constant can do better.

    Its probabilities are the shares of the classes, with half a row more of the most frequent, so that none ties.
    """
    counts = np.bincount(gold, minlength=classes).astype(np.float64)
    counts[counts.argmax()] += 0.5
    return Predictions(np.tile(counts / counts.sum(), (len(gold), 1)), np.ones(len(gold), dtype=bool))


def no_better(
    gold: Ints, predictions: Predictions, figures: Mapping[str, Any], samples: Floats, support: Support
) -> str | None:
    """A sentence if decisions are no better than always answering the most frequent class; else None.

    They are none if the interval of their balanced accuracy reaches that of a constant answer, one over the number of
    classes. What is not decided is answered with the most frequent class, so that only decisions count. ``figures`` are
    what `spread` found.
    """
    decided, most = predictions.decided(), int(np.argmax(support.counts))
    decided = np.where(decided < 0, most, decided)
    classes = _both(support.scored, len(support.classes))
    there = [gold == label for label in classes]

    def balanced(weights: Floats) -> Floats:
        recalls = [_ratio(weights @ (of & (decided == gold)), weights @ of) for of in there]
        mean: Floats = np.mean(recalls, axis=0)
        return mean

    value, low = float(balanced(np.ones((1, len(gold))))[0]), float(np.nanpercentile(balanced(samples), INTERVAL[0]))
    by_chance = float(np.mean([label == most for label in classes]))
    if min(low, value) > by_chance:
        return None
    area = figures["auc"]["interval"]
    ranks = " Its probabilities rank rows better than chance; another threshold may serve."
    return (
        f"It decides no better than always answering {support.classes[most]}: its balanced accuracy is {value:.2f}, "
        f"that of a constant answer {by_chance:.2f}.{ranks if area and area[0] > COIN else ''}"
    )


def missing(reasons: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """The entries of measures that could not be had, given why."""
    return {
        name: {"value": None, _worst(name): None, "interval": None, "reason": reason}
        for name, reason in reasons.items()
    }


def rounded(value: float) -> float | None:
    """A figure as it is written; NaN becomes null."""
    return None if math.isnan(value) else round(float(value), DIGITS)


def _interval(name: str, value: float, sampled: Floats, rows: int) -> list[float | None] | None:
    """The bootstrap's; of what is always right or wrong, the exact one of Clopper and Pearson (1934)."""
    known = sampled[~np.isnan(sampled)]
    if not len(known):
        return None
    low, high = np.percentile(known, INTERVAL)
    if low < high or name == "coverage":
        return [rounded(low), rounded(high)]
    if name not in ("accuracy", "accuracy_covered") or not rows:
        return None
    least = (INTERVAL[0] / 100) ** (1 / rows)
    return [rounded(least), 1.0] if value > 0 else [0.0, rounded(1 - least)]


def _worst(name: str) -> str:
    return "maximum" if name in LOSSES else "minimum"
