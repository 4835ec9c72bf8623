"""A measure as it is reported: its value, the worst over the seeds, and a bootstrap interval over the test rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from weakfish.evaluation.measures import (
    LOSSES,
    MEASURES,
    OF_CLASS,
    Floats,
    Ints,
    Predictions,
    macro,
    overall,
    per_class,
)
from weakfish.evaluation.support import Support, decides_too_little

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
