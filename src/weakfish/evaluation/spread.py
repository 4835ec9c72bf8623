"""A measure as it is reported: its value, the worst over the seeds, and a bootstrap interval over the test rows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from weakfish.evaluation.measures import LOSSES, MEASURES, Floats, Ints, Predictions, measure

DIGITS = 6
"""Decimals of every reported figure; sums of floats agree to more than that between runs."""

INTERVAL = (2.5, 97.5)
"""Percentiles of the bootstrap distribution between which the interval lies."""

NEEDS_EVERY_CLASS = ("auc", "f1")


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
        in both cases); ``interval``, a pair. All are null, with a ``reason``, where the measure does not exist.
    """
    once = np.ones((1, len(gold)))
    values = {number: measure(gold, predictions, once) for number, predictions in by_seed.items()}
    sampled = measure(gold, by_seed[seed], samples)
    absent = [name for label, name in enumerate(classes) if not (gold == label).any()]
    return {
        name: _entry(
            name, values[seed][name][0], [found[name][0] for found in values.values()], sampled[name], absent, len(gold)
        )
        for name in MEASURES
    }


def missing(reason: str) -> dict[str, dict[str, Any]]:
    """The entries of a model that could not be had."""
    return {name: _null(name, reason) for name in MEASURES}


def rounded(value: float) -> float | None:
    """A figure as it is written; NaN becomes null."""
    return None if math.isnan(value) else round(float(value), DIGITS)


def _entry(
    name: str, value: float, of_seeds: Sequence[float], sampled: Floats, absent: Sequence[str], rows: int
) -> dict[str, Any]:
    if not rows:
        return _null(name, "No test row has a gold label.")
    if absent and name in NEEDS_EVERY_CLASS:
        return _null(name, f"No test row is of class {', '.join(absent)}.")
    if math.isnan(value):
        return _null(name, "The model decides on no test row.")
    low, high = np.nanpercentile(sampled, INTERVAL)
    worst = np.nanmax(of_seeds) if name in LOSSES else np.nanmin(of_seeds)
    return {"value": rounded(value), _worst(name): rounded(worst), "interval": [rounded(low), rounded(high)]}


def _null(name: str, reason: str) -> dict[str, Any]:
    return {"value": None, _worst(name): None, "interval": None, "reason": reason}


def _worst(name: str) -> str:
    return "maximum" if name in LOSSES else "minimum"
