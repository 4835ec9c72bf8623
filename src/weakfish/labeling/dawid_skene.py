"""The label model of Dawid and Skene (1979): expectation maximization over whole vote patterns, in log space.

Sums are of one order, so that a fit is the same bytes on every processor.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from weakfish.engine.portable import exp, log
from weakfish.labeling.label_model import FittedModel, Patterns, indicators, majority

Floats = npt.NDArray[np.float64]

RARE, RIGHT = 0.01, 0.5
"""Pseudo-counts of each vote on rows of each class, and of a right one beside: a function is thought rather right."""

NEVER = 1e-6
"""Of a vote on rows of a class that no function votes for: else it would gather what other classes do not explain."""

STEPS, SETTLED = 200, 1e-4
"""Steps at most, and by how much posteriors may still move in the last one."""


def fit(patterns: Patterns, balance: Floats, rows: int) -> FittedModel:
    """A model of what each function votes on rows of each class, given that it votes; abstaining says nothing.

    Starts from the majority vote. ``mu[i * classes + a, y]`` is the probability that function i votes a where it votes
    on a row of class y. The class balance is as given: estimated along, it ran away to one class wherever functions
    vote for one class each.
    """
    votes, counts = patterns.in_order().covered()
    classes, functions = len(balance), votes.shape[1]
    told, weights, rows_covered = indicators(votes, classes), counts.astype(np.float64), float(max(1, counts.sum()))
    share, balance = majority(votes, classes), np.asarray(balance, np.float64)
    voted_for = told.sum(axis=0).reshape(functions, classes).any(axis=0)
    losses: list[tuple[int, float]] = []
    for step in range(STEPS):
        voted = told.T @ (share * weights[:, None])
        blocks = voted.reshape(functions, classes, classes) + RARE + RIGHT * np.eye(classes)
        mu = np.where(voted_for, blocks / blocks.sum(axis=1, keepdims=True), NEVER)
        joint = told @ log(mu).reshape(-1, classes) + log(balance)
        most = joint.max(axis=1, keepdims=True)
        new = exp(joint - most)
        total = new.sum(axis=1, keepdims=True)
        new /= total
        losses.append((step, -float((weights * (most + log(total))[:, 0]).sum()) / rows_covered))
        moved = float((weights * np.abs(new - share).sum(axis=1)).sum()) / (2 * rows_covered)
        share = new
        if moved <= SETTLED:
            break
    own = voted.reshape(functions, classes, classes)
    right, all_of_it = np.trace(own, axis1=1, axis2=2), own.sum(axis=2).sum(axis=1)
    accuracies = np.divide(right, all_of_it, out=np.ones(functions), where=all_of_it > 0)
    return FittedModel(mu.reshape(-1, classes).astype(np.float32), balance, accuracies.tolist(), losses, rows)
