"""Which votes settle the class of a row alone: votes of a partition and a chosen model in, counts of rows out.

A healthy label model weighs many votes. A vote settles the class alone where it outweighs all other votes of the row
and the class balance, were they all against it; where one function's votes do so on most rows, it is the label model.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from weakfish.labeling.modeling.choice import SNORKEL, Chosen
from weakfish.labeling.modeling.model import majority
from weakfish.labeling.modeling.patterns import Counts, Patterns
from weakfish.labeling.modeling.ties import winners

BLOCK = 1 << 12
"""Patterns that are weighed at once, so that memory stays small with many functions."""

CLOSE = 1e-9
"""Part of a weight by which two sums of the same weights may differ."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Alone:
    """Counts over covered rows.

    Attributes
    ----------
    rows : int
        Covered rows behind the counts: all, or those of a sample of patterns where there are very many.
    settled : numpy.ndarray, int64, (functions,)
        Rows whose class the function's vote settles alone.
    differing : int
        Rows whose most probable class by the model is not among the majority's.
    """

    rows: int
    settled: Counts
    differing: int


def alone(chosen: Chosen, patterns: Patterns) -> Alone:
    """Weigh the votes of each pattern by the model that makes the labels, log-odds or one vote each."""
    voted = (patterns.votes >= 0).any(axis=1)
    votes, counts = patterns.votes[voted], patterns.counts[voted]
    logs, prior = _weights(chosen)
    settled = np.zeros(votes.shape[1], np.int64)
    for start in range(0, len(votes), BLOCK):
        block = slice(start, start + BLOCK)
        settled += counts[block] @ _settles(_gathered(logs, votes[block]), prior)
    won = winners(chosen.model.posterior(votes)) & winners(majority(votes, len(prior)))
    return Alone(int(counts.sum()), settled, int(counts[~won.any(axis=1)].sum()))


def _weights(chosen: Chosen) -> tuple[Floats, Floats]:
    """What a vote (functions, votes, classes) and the class balance add to each class."""
    model, classes = chosen.model, len(chosen.model.class_balance)
    if chosen.method == SNORKEL:
        return np.log(model.mu).astype(np.float64).reshape(-1, classes, classes), np.log(model.class_balance)
    return np.tile(np.eye(classes), (len(model.mu) // classes, 1, 1)), np.zeros(classes)


def _gathered(logs: Floats, votes: npt.NDArray[np.int8]) -> Floats:
    """What each vote of each pattern adds, (patterns, functions, classes); nothing where it abstains."""
    added = logs[np.arange(votes.shape[1]), np.maximum(votes, 0)]
    added[votes < 0] = 0
    return added


def _settles(added: Floats, prior: Floats) -> npt.NDArray[np.bool_]:
    """Whether each vote outweighs all else for one class, against every other class; (patterns, functions)."""
    found = np.zeros(added.shape[:2], np.bool_)
    for label in range(len(prior)):
        ahead = added[:, :, [label]] - np.delete(added, label, axis=2)
        all_of_it = np.abs(ahead).sum(axis=1) + np.abs(prior[label] - np.delete(prior, label))
        found |= (2 * ahead > all_of_it[:, None, :] * (1 + CLOSE)).all(axis=2)
    return found
