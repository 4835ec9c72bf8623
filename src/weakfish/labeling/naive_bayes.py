"""Naive Bayes from what the pretrained model says of rows: how each function votes on rows of each class, counted."""

from __future__ import annotations

import numpy as np

from weakfish.labeling.hyper import Floats, HyperModel
from weakfish.labeling.label_model import FittedModel, Patterns, indicators

RARE, RIGHT = 0.01, 0.5
"""Pseudo-counts of each vote on rows of each class, and of a right one beside: a function is thought rather right."""


def fit(pretrained: HyperModel, patterns: Patterns) -> FittedModel:
    """A model that weighs each vote by itself, as far as the pretrained one trusts it.

    ``mu[i * classes + a, y]`` is the share of the rows of class y on which function i votes a, where each row with a
    vote belongs to the classes by the shares that the network gives it. Those lie close together where it is unsure,
    and so do the weights of votes then: nothing else holds them back. Abstaining adds nothing.
    """
    votes, counts = patterns.in_order().covered()
    classes = len(pretrained.class_balance)
    share = pretrained.shares(votes) * counts[:, None].astype(np.float64)
    told = indicators(votes, classes).T @ share + RARE
    told.reshape(-1, classes, classes)[:] += RIGHT * np.eye(classes)
    mu: Floats = told / (share.sum(axis=0) + classes * RARE + RIGHT)
    return FittedModel(mu.astype(np.float32), pretrained.class_balance, pretrained.weights, [], pretrained.rows)
