"""The models under evaluation, each as its predictions of the test rows for every seed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from weakfish.contracts.votes_file import ABSTAIN, Votes
from weakfish.evaluation import classifiers as tabular
from weakfish.evaluation import classifiers as text
from weakfish.evaluation.inputs import UNKNOWN, Inputs
from weakfish.evaluation.measures import Bools, Floats, Ints, Predictions, Support, too_few
from weakfish.evaluation.measures import OF_CLASS_support as OF_CLASS
from weakfish.labeling.choice import learn
from weakfish.labeling.models import covered
from weakfish.project.params import TaskParams

BySeed = dict[int, Predictions]

EXAMPLES = 100_000
"""Training rows times classes that a classifier sees, a sample of more: its time grows with both."""


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
    """What learns from labels: classifiers of test rows, trained on other rows. Text becomes features once.

    They go by what they read: ``text`` where there is any, ``features`` where there is a training set, and ``both``. A
    reason stands in the place of one that cannot be had.
    """

    def __init__(self, inputs: Inputs, seed: int) -> None:
        self._inputs = inputs
        weak, gold = inputs.earlier & covered(inputs.votes), inputs.dev != UNKNOWN
        most = EXAMPLES // len(inputs.classes)
        self._weak, self._gold = (sample(rows, most, seed) for rows in (weak, gold))
        self._test = inputs.test != UNKNOWN
        if np.array_equal(weak, self._weak) and np.array_equal(gold, self._gold):
            read = np.ones(len(weak), dtype=bool)
        else:
            read = self._weak | self._gold | self._test
        self._place = np.cumsum(read) - 1
        texts = [[column[row] for row in np.flatnonzero(read)] for column in inputs.texts]
        self._words = text.features(texts, inputs.earlier[read]) if texts else None

    def on_weak_labels(self, task: TaskParams, seeds: Sequence[int]) -> dict[str, BySeed | str]:
        """Trained on soft labels of covered rows before the split.

        Each seed goes through the whole chain. The label model behind it is fitted on votes before the split alone, so
        that nothing later has any part in what is tested.
        """
        votes, rows = self._inputs.votes[self._inputs.earlier], self._weak
        if not rows.any():
            return dict.fromkeys(self._kinds, "No event before the split is covered by a labeling function.")
        soft = {seed: _labels(votes, self._inputs.votes[rows], task, seed).probabilities for seed in seeds}
        return self._learn(rows, soft)

    def on_gold_labels(self, seeds: Sequence[int]) -> dict[str, BySeed | str]:
        """Trained on the gold labels of dev: the ceiling, which needs examples of each class that is measured."""
        gold = self._inputs.dev[self._gold]
        if reason := self._no_ceiling(gold):
            return dict.fromkeys(self._kinds, reason)
        return self._learn(self._gold, dict.fromkeys(seeds, np.eye(len(self._inputs.classes))[gold]))

    def _no_ceiling(self, gold: Ints) -> str | None:
        if reason := too_few(len(gold), "dev row"):
            return reason
        classes = self._inputs.classes
        support = Support.of(self._inputs.test[self._test], classes)
        measured = range(2) if len(classes) == 2 else support.scored
        counts = np.bincount(gold, minlength=len(classes))
        lacking = [f"{classes[label]} ({counts[label]})" for label in measured if counts[label] < OF_CLASS]
        if not lacking:
            return None
        more = f" and {len(lacking) - 3} more" if len(lacking) > 3 else ""
        return f"Of {', '.join(lacking[:3])}{more} there are fewer than {OF_CLASS} dev rows to learn from."

    @property
    def _kinds(self) -> tuple[str, ...]:
        by_text = () if self._words is None else ("text",)
        by_features = () if self._inputs.features is None else ("features",)
        return (*by_text, *by_features, *(("both",) if by_text and by_features else ()))

    def _learn(self, rows: Bools, soft: dict[int, Floats]) -> dict[str, BySeed | str]:
        by_seed = {seed: self._outcomes(rows, labels, seed) for seed, labels in soft.items()}
        return {kind: _together({seed: outcomes[kind] for seed, outcomes in by_seed.items()}) for kind in self._kinds}

    def _outcomes(self, rows: Bools, soft: Floats, seed: int) -> dict[str, Floats | str]:
        known, test = self._inputs.features, self._test
        found: dict[str, Floats | str] = {}
        if self._words is not None:
            words = self._words[self._place[rows]]
            found["text"] = said = text.learn(words, soft, self._words[self._place[test]])
        if known is not None:
            examples = tabular.Examples(known[rows], soft, self._inputs.days[rows])
            found["features"] = tabular.learn_tabular(examples, seed, known[test])
        if self._words is not None and known is not None:
            found["both"] = said if isinstance(said, str) else tabular.stack(examples, words, seed, known[test], said)
        return found


def sample(rows: Bools, most: int, seed: int) -> Bools:
    """At most so many of the rows, the same ones for the same seed."""
    places = np.flatnonzero(rows)
    if len(places) <= most:
        return rows
    found = np.zeros_like(rows)
    found[np.random.default_rng(seed).choice(places, most, replace=False)] = True
    return found


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
