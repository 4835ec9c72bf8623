"""The models under evaluation, each as its predictions of the test rows for every seed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from weakfish.evaluation import tabular, text
from weakfish.evaluation.inputs import UNKNOWN, Inputs
from weakfish.evaluation.measures import Bools, Floats, Predictions
from weakfish.labeling.modeling.choice import learn
from weakfish.labeling.modeling.model import covered
from weakfish.labeling.votes_file import ABSTAIN, Votes
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


class Classifiers:
    """What learns from labels: classifiers of test rows, trained on earlier ones. Text becomes features once.

    They go by what they read: ``text``, and where there is a training set ``features`` and ``both``. A reason stands in
    the place of one that cannot be had.
    """

    def __init__(self, inputs: Inputs) -> None:
        self._inputs = inputs
        self._words = text.features(inputs.texts, inputs.earlier)
        self._test = inputs.test != UNKNOWN

    def on_weak_labels(self, task: TaskParams, seeds: Sequence[int]) -> dict[str, BySeed | str]:
        """Trained on soft labels of covered rows before the split.

        Each seed goes through the whole chain. The label model behind it is fitted on votes before the split alone, so
        that nothing later has any part in what is tested.
        """
        votes = self._inputs.votes[self._inputs.earlier]
        rows = self._inputs.earlier & covered(self._inputs.votes)
        if not rows.any():
            return dict.fromkeys(self._kinds, "No event before the split is covered by a labeling function.")
        soft = {seed: _labels(votes, self._inputs.votes[rows], task, seed).probabilities for seed in seeds}
        return self._learn(rows, soft)

    def on_gold_labels(self, seeds: Sequence[int]) -> dict[str, BySeed | str]:
        """Trained on the gold labels of dev: the ceiling."""
        rows = self._inputs.dev != UNKNOWN
        labels = np.eye(len(self._inputs.classes))[self._inputs.dev[rows]]
        return self._learn(rows, dict.fromkeys(seeds, labels))

    @property
    def _kinds(self) -> tuple[str, ...]:
        return ("text",) if self._inputs.features is None else ("text", "features", "both")

    def _learn(self, rows: Bools, soft: dict[int, Floats]) -> dict[str, BySeed | str]:
        by_seed = {seed: self._outcomes(rows, labels, seed) for seed, labels in soft.items()}
        return {kind: _together({seed: outcomes[kind] for seed, outcomes in by_seed.items()}) for kind in self._kinds}

    def _outcomes(self, rows: Bools, soft: Floats, seed: int) -> dict[str, Floats | str]:
        words, known, test = self._words, self._inputs.features, self._test
        said = text.learn(words[rows], soft, words[test])
        if known is None:
            return {"text": said}
        examples = tabular.Examples(known[rows], soft, self._inputs.days[rows])
        features = tabular.learn(examples, seed, known[test])
        both = said if isinstance(said, str) else tabular.stack(examples, words[rows], seed, known[test], said)
        return {"text": said, "features": features, "both": both}


def _together(outcomes: dict[int, Floats | str]) -> BySeed | str:
    found: BySeed = {}
    for seed, outcome in outcomes.items():
        if isinstance(outcome, str):
            return outcome
        found[seed] = Predictions(outcome, np.ones(len(outcome), dtype=bool))
    return found


def _labels(votes: Votes, rows: Votes, task: TaskParams, seed: int) -> Predictions:
    """Probabilities of ``rows`` by the method that is chosen for ``votes``."""
    return Predictions(learn(votes, task, seed).probabilities(rows), covered(rows))
