"""A second estimate of the label model's parameters: likelihood of whole patterns, where Snorkel's sees only pairs.

Where functions are independent given the class, both estimates agree. Where the class balance is wrong or functions
depend on each other, the pairs may still fit, but the patterns pull the parameters elsewhere.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from weakfish.labeling.modeling.model import FittedModel
from weakfish.labeling.modeling.patterns import Patterns
from weakfish.labeling.modeling.sums import indicators

STEPS = 20
"""Steps of expectation maximization: enough to see where it goes, not to arrive."""

MOST = 1 << 14
"""The commonest patterns, which are all that are looked at."""

FLOOR = 1e-4
"""Probabilities stay away from 0 and 1 by this, since their logarithms are taken."""

Floats = npt.NDArray[np.float64]


def refined(model: FittedModel, patterns: Patterns) -> FittedModel:
    """The model after some steps of expectation maximization from where it stands (Dawid and Skene, 1979).

    Abstaining counts as an answer here, since the likelihood is that of the whole pattern; the class balance is free.
    """
    classes = len(model.class_balance)
    most = np.sort(np.argsort(-patterns.counts, kind="stable")[:MOST])
    votes, counts = patterns.votes[most], patterns.counts[most].astype(np.float64)
    voted, abstained = indicators(votes, classes), (votes < 0).astype(np.float64)
    mu, balance = _inside(model.mu.astype(np.float64)), model.class_balance
    for _ in range(STEPS):
        share = _expected(voted, abstained, mu, balance) * counts[:, None]
        balance = _inside(share.sum(axis=0) / counts.sum())
        mu = _inside(voted.T @ share / np.maximum(share.sum(axis=0), FLOOR))
    return replace(model, mu=mu.astype(np.float32), class_balance=balance / balance.sum())


def _expected(voted: Floats, abstained: Floats, mu: Floats, balance: Floats) -> Floats:
    classes = len(balance)
    silent = _inside(1 - mu.reshape(-1, classes, classes).sum(axis=1))
    joint = voted @ np.log(mu) + abstained @ np.log(silent) + np.log(balance)
    shares: Floats = np.exp(joint - joint.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    return shares


def _inside(values: Floats) -> Floats:
    return np.clip(values, FLOOR, 1 - FLOOR)
