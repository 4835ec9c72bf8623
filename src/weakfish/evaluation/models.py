"""The four models under evaluation, each as its predictions of the test rows for every seed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from weakfish.evaluation.inputs import UNKNOWN, Inputs
from weakfish.evaluation.measures import Bools, Floats, Predictions
from weakfish.evaluation.text import features, learn
from weakfish.labeling.functions import ABSTAIN
from weakfish.labeling.matrix import Votes
from weakfish.labeling.model import covered, fit, probabilities
from weakfish.params import TaskParams

BySeed = dict[int, Predictions]


def vote_shares(votes: Votes, cardinality: int) -> Predictions:
    """The majority vote with its strength: each class has its share of a row's votes, all the same share without votes.

    The most probable class is the majority's, and a tie is a tie; the shares rank rows, which winners alone cannot.
    """
    counts = np.stack([(votes == label).sum(axis=1) for label in range(cardinality)], axis=1)
    total = counts.sum(axis=1, keepdims=True)
    shares: Floats = np.where(total > 0, counts / np.maximum(total, 1), 1 / cardinality)
    return Predictions(shares, (votes != ABSTAIN).any(axis=1))


def label_models(inputs: Inputs, task: TaskParams, seeds: Sequence[int]) -> BySeed:
    """The label model on all rows: as published for the pipeline's seed, fitted anew on the same votes for others."""
    published = {task.label_model.seed: inputs.published}
    others = [seed for seed in seeds if seed != task.label_model.seed]
    return published | {seed: _labels(inputs.votes, inputs.votes, task, seed) for seed in others}


class TextModels:
    """The text classifier on test rows, trained on earlier ones; the text becomes features once."""

    def __init__(self, inputs: Inputs) -> None:
        self._inputs = inputs
        self._features = features(inputs.texts, inputs.earlier)
        self._test = self._features[inputs.test != UNKNOWN]

    def on_weak_labels(self, task: TaskParams, seeds: Sequence[int]) -> BySeed | str:
        """Trained on soft labels of covered rows before the split, or the reason why it cannot be.

        Each seed goes through the whole chain. The label model behind it is fitted on votes before the split alone, so
        that nothing later has any part in what is tested.
        """
        votes = self._inputs.votes[self._inputs.earlier]
        rows = self._inputs.earlier & covered(self._inputs.votes)
        if not rows.any():
            return "No event before the split is covered by a labeling function."
        soft = {seed: _labels(votes, self._inputs.votes[rows], task, seed).probabilities for seed in seeds}
        return self._learn(rows, soft)

    def on_gold_labels(self, seeds: Sequence[int]) -> BySeed | str:
        """Trained on the gold labels of dev: the ceiling; or the reason why it cannot be."""
        rows = self._inputs.dev != UNKNOWN
        labels = np.eye(len(self._inputs.classes))[self._inputs.dev[rows]]
        return self._learn(rows, dict.fromkeys(seeds, labels))

    def _learn(self, rows: Bools, soft: dict[int, Floats]) -> BySeed | str:
        found = {seed: learn(self._features[rows], labels, seed, self._test) for seed, labels in soft.items()}
        reasons = [outcome for outcome in found.values() if isinstance(outcome, str)]
        if reasons:
            return reasons[0]
        everywhere = np.ones(self._test.shape[0], dtype=bool)
        return {seed: Predictions(p, everywhere) for seed, p in found.items() if not isinstance(p, str)}


def _labels(votes: Votes, rows: Votes, task: TaskParams, seed: int) -> Predictions:
    """Probabilities of ``rows`` from a label model fitted on ``votes``."""
    return Predictions(probabilities(fit(votes, task, seed), rows), covered(rows))
