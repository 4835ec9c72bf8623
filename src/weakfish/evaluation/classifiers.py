"""Classifiers that learn from labels, and the label models themselves: each gives its predictions of rows, by seed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

import numpy as np

from weakfish.contracts.gold import ROWS_OF_CLASS, UNKNOWN
from weakfish.contracts.votes_file import ABSTAIN, Votes
from weakfish.engine.portable import exp, log
from weakfish.evaluation.aligned import Aligned
from weakfish.evaluation.measures import FLOOR, Bools, Floats, Predictions, Support, too_few
from weakfish.labeling.choice import learn
from weakfish.labeling.known import weight
from weakfish.labeling.label_model import covered, winners
from weakfish.labeling.learning import Columns, NothingToLearn, WordFeatures, fit_predict, word_counts
from weakfish.labeling.reading import labels_of
from weakfish.project.params import TaskParams

BySeed = dict[int, Predictions]

T = TypeVar("T")


@dataclass(frozen=True)
class SoftLabels:
    """What is known of rows to learn from without gold.

    Attributes
    ----------
    new : numpy.ndarray, bool, (rows,)
        The covered new rows.
    votes
        On covered rows to learn from, and on covered new rows.
    by_seed
        Probabilities of both by a label model, by its seed; where they only rank rows, its decisions.
    taught
        Probabilities of all rows to learn from, by votes and reader where there is one; those of known rows are their
        class, times how much more they teach than others, and those of rows of which nothing is known 0.
    """

    new: Bools
    votes: tuple[Votes, Votes]
    by_seed: Mapping[int, tuple[Floats, Floats]]
    taught: Mapping[int, Floats]


@dataclass(frozen=True)
class Stretch:
    """Test rows of some periods, and what a classifier of them may learn from.

    Attributes
    ----------
    test, earlier : numpy.ndarray, bool, (rows,)
        Test rows of these periods; the rows before the split, and those of periods before the first of these.
    """

    test: Bools
    earlier: Bools


RETRAINED = 1 / 6
"""The share of the test rows after which a classifier is trained anew, at the next period."""


def stretches(inputs: Aligned) -> list[Stretch]:
    """The test rows in order of time, each with the rows of earlier periods; one where time does not split gold.

    Weak labels cost nothing, so that whoever uses them trains anew on those of new rows.
    """
    test, periods, names = inputs.test != UNKNOWN, inputs.periods.codes, inputs.periods.names
    whole = [Stretch(test, inputs.earlier)]
    before = inputs.days[inputs.earlier & inputs.periods.is_dated()]
    if not test.any() or not len(before) or before.max() > inputs.days[test].min():
        return whole
    tested, counts = np.unique(periods[test], return_counts=True)
    found, first, held = [], tested[0], 0
    for period, rows in zip(tested, counts.tolist(), strict=True):
        if held >= RETRAINED * test.sum():
            found.append((first, period))
            first, held = period, 0
        held += rows
    found.append((first, len(names)))
    return [
        Stretch(test & (periods >= since) & (periods < until), inputs.earlier | (periods < since))
        for since, until in found
    ]


RANKING = ("hyper", "naive-bayes")
"""Methods whose probabilities rank rows and say little as numbers: what shares classes have is counted."""

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


def label_models(inputs: Aligned, task: TaskParams, seeds: Sequence[int], rows: Bools) -> BySeed:
    """The labels of some rows: as published; where seeds have a part in them, made anew for others of all votes."""
    votes, published = inputs.votes, task.label_model.seed

    def again(seed: int) -> Predictions:
        known = inputs.known
        of = learn(votes, task, seed, None if known is None else known.of(votes, np.ones(len(votes), bool)))
        if inputs.read is None:
            return Predictions(of.probabilities(votes[rows]), covered(votes[rows]))
        classes = None if known is None else known.classes
        return Predictions(*labels_of(of, votes, inputs.read, task.label_model, np.flatnonzero(rows), classes))

    drawn = task.label_model.method == DRAWN
    return {seed: again(seed) if drawn and seed != published else inputs.published.at(rows) for seed in seeds}


DRAWN = "snorkel"
"""The only method in which a seed has a part."""


def of_seeds(task: TaskParams, seeds: Sequence[int], make: Callable[[int], T]) -> dict[int, T]:
    """What ``make`` makes of each seed; the same object where none has a part in it: only Snorkel's fits draw."""
    if task.label_model.method == DRAWN or not seeds:
        return {seed: make(seed) for seed in seeds}
    return dict.fromkeys(seeds, make(seeds[0]))


def _decided(probabilities: Floats) -> Floats:
    """1 for the most probable class of each row; classes that tie have equal shares."""
    won = winners(probabilities)
    shares: Floats = won / won.sum(axis=1, keepdims=True)
    return shares


def sample(rows: Bools, most: int, seed: int) -> Bools:
    """At most ``most`` of the rows, the same ones for the same seed."""
    places = np.flatnonzero(rows)
    if len(places) <= most:
        return rows
    found = np.zeros_like(rows)
    found[np.random.default_rng(seed).choice(places, most, replace=False)] = True
    return found


HELD = 100_000
"""Rows at most of which the texts that a reader reads stay in memory; of more, those are read that are asked for."""


class Classifiers:
    """Classifiers of test rows, trained on the labels of other rows.

    They are named after what they read: ``text`` where there is any, ``features`` where there is a training set, and
    ``both``. Where one cannot be had, a reason stands in its place.
    """

    def __init__(self, inputs: Aligned, seed: int) -> None:
        self._inputs, self._seed, self._test = inputs, seed, inputs.test != UNKNOWN
        self.stretches = stretches(inputs)
        self._told = np.ones(len(self._test), bool) if inputs.read is not None else covered(inputs.votes)
        if inputs.known is not None:
            self._told |= inputs.known.classes != UNKNOWN
        self._most = EXAMPLES // len(inputs.classes)
        self._gold = sample(inputs.dev != UNKNOWN, self._most, seed)
        last = self.stretches[-1].earlier & self._told
        whole = len(last) <= EXAMPLES and max(last.sum(), (inputs.dev != UNKNOWN).sum()) <= self._most
        # Words are counted over all earlier rows where all train; of a sample only what is needed is read.
        needed = np.logical_or.reduce([self._gold, self._test, *map(self._taught, self.stretches)])
        self._read = np.ones_like(needed) if whole else needed
        self._place = np.cumsum(self._read) - 1
        self._number, self._numbers = np.cumsum(needed) - 1, inputs.features(needed) if inputs.features else None
        self._counts = word_counts(inputs.texts(self._read)) if inputs.texts else None
        # Readers are fitted anew for each stretch, on the same texts.
        read = inputs.read
        self._texts = read.loaded().counted() if read is not None and len(read) <= HELD else read
        of_text, of_features = self._counts is not None, self._numbers is not None
        self._kinds = ["text"] * of_text + ["features"] * of_features + ["both"] * (of_text and of_features)

    def _taught(self, stretch: Stretch) -> Bools:
        """The rows that classifiers of a stretch learn from: a sample of its own, in which nothing later has a part."""
        return sample(stretch.earlier & self._told, self._most, self._seed)

    def soft_labels(self, task: TaskParams, seeds: Sequence[int], stretch: Stretch) -> SoftLabels | None:
        """Probabilities by the votes, of covered rows before the stretch and of covered test rows from there on.

        None where there are none before it.

        Label models and readers, of each seed where seeds have a part in them, are fitted on votes and rows before the
        stretch alone, so that nothing later has any part in what is tested.
        """
        inputs, voted = self._inputs, covered(self._inputs.votes)
        weak = self._taught(stretch)
        if not (weak & voted).any():
            return None
        earlier, known, votes = np.flatnonzero(stretch.earlier), inputs.known, inputs.votes[stretch.earlier]
        evidence = None if known is None else known.of(inputs.votes, stretch.earlier)
        later = self._test & ~stretch.earlier & voted
        train, test = inputs.votes[weak & voted], inputs.votes[later]
        rows, classes = np.flatnonzero(weak[earlier]), None if known is None else known.classes[earlier]

        def fitted(seed: int) -> tuple[tuple[Floats, Floats], Floats]:
            of = learn(votes, task, seed, evidence)
            old, new = of.probabilities(train), of.probabilities(test)
            by_votes = (_decided(old), _decided(new)) if of.method in RANKING else (old, new)
            if self._texts is None:
                taught = of.probabilities(votes[rows])
            else:
                taught, read = labels_of(of, votes, self._texts.at(earlier), task.label_model, rows, classes)
                taught[~read] = 0  # of which nothing is known by what comes before the stretch
            if classes is not None:
                own = classes[rows]
                told = own != UNKNOWN
                more = weight(int(told.sum()), int((~told & taught.any(axis=1)).sum()))
                taught[told] = more * np.eye(taught.shape[1])[own[told]]
            return by_votes, taught

        found = of_seeds(task, seeds, fitted)
        by_seed = {seed: by_votes for seed, (by_votes, _) in found.items()}
        return SoftLabels(later, (train, test), by_seed, {seed: taught for seed, (_, taught) in found.items()})

    def on_weak_labels(self, labels: SoftLabels | None, stretch: Stretch) -> dict[str, BySeed | str]:
        """Predictions of the test rows of the stretch, by what learned from soft labels of the rows before it."""
        if labels is None:
            return dict.fromkeys(self._kinds, "No event before the split is covered by a labeling function.")
        return self._learn(self._taught(stretch), labels.taught, stretch)

    def on_gold_labels(self, seeds: Sequence[int]) -> dict[str, BySeed | str]:
        """Trained on the gold labels of dev: the ceiling, which needs examples of each class that is measured."""
        gold, classes = self._inputs.dev[self._gold], self._inputs.classes
        reason, counts = too_few(len(gold), "dev row"), np.bincount(gold, minlength=len(classes))
        support = Support.of(self._inputs.test[self._test], classes)
        measured = range(2) if len(classes) == 2 else support.scored
        lacking = [f"{classes[label]} ({counts[label]})" for label in measured if counts[label] < ROWS_OF_CLASS]
        if lacking and not reason:
            more = f" and {len(lacking) - 3} more" if len(lacking) > 3 else ""
            reason = f"Of {', '.join(lacking[:3])}{more} there are fewer than {ROWS_OF_CLASS} dev rows to learn from."
        if reason:
            return dict.fromkeys(self._kinds, reason)
        everything = Stretch(self._test, self._inputs.earlier)
        return self._learn(self._gold, dict.fromkeys(seeds, np.eye(len(classes))[gold]), everything)

    def _learn(self, rows: Bools, soft: Mapping[int, Floats], stretch: Stretch) -> dict[str, BySeed | str]:
        """Every kind of classifier for every seed, trained on its labels of ``rows``; what it says of a stretch."""
        counts, judged = self._counts, stretch.test
        # Neither is None for a kind that reads it.
        words: Any = None if counts is None else word_features(counts, stretch.earlier[self._read])
        known: Any = self._numbers
        learning, said_of = self._number[rows], self._number[judged]
        days = self._inputs.days[rows]
        distinct = {id(labels): labels for labels in soft.values()}

        @cache  # no seed has a part in reading text
        def text(labels: int) -> Floats:
            return learn_words(words[self._place[rows]], distinct[labels], words[self._place[judged]])

        @cache
        def text_out_of_fold(labels: int) -> Floats:
            """What text says of each training row, by a classifier that has not learned from it.

            Stacking (Wolpert 1992): else text would be trusted for what it knows by heart.
            """
            train, said = words[self._place[rows]], np.zeros_like(distinct[labels])
            part = np.random.default_rng(self._seed).permutation(len(said)) % FOLDS
            for number in range(FOLDS):
                others, mine = part != number, part == number
                said[mine] = learn_words(train[others], distinct[labels][others], train[mine])
            return said

        def features(seed: int) -> Floats:
            return learn_numbers(known[learning], soft[seed], days, seed, known[said_of])

        def both(seed: int) -> Floats:
            said, own = text(id(soft[seed])), text_out_of_fold(id(soft[seed]))
            train, test = (np.hstack([_log_odds(of), known[at]]) for of, at in ((own, learning), (said, said_of)))
            stacked = learn_numbers(train, soft[seed], days, seed, test)
            # The geometric mean with text alone holds where entities are new and only text can tell.
            mean = exp((_logs(stacked) + _logs(said)) / 2)
            shares: Floats = mean / mean.sum(axis=1, keepdims=True)
            return shares

        def shares(kind: str, seed: int) -> Floats:
            """The shares of classes that a classifier has learned with."""
            late = recency(days)
            alike, weighted = soft[seed].sum(axis=0), (late[:, None] * soft[seed]).sum(axis=0)
            alike, weighted = alike / alike.sum(), weighted / weighted.sum()
            mean = np.sqrt(np.maximum(alike, FLOOR) * np.maximum(weighted, FLOOR))
            found: Floats = {"text": alike, "features": weighted, "both": mean / mean.sum()}[kind]
            return found

        predict = {"text": lambda seed: text(id(soft[seed])), "features": features, "both": both}
        found: dict[str, BySeed | str] = {}
        for kind in self._kinds:
            try:
                by_seed = {seed: predict[kind](seed) for seed in soft}
                found[kind] = {
                    seed: Predictions(of, np.ones(len(of), dtype=bool), shares(kind, seed))
                    for seed, of in by_seed.items()
                }
            except NothingToLearn as error:
                found[kind] = str(error)
        return found


INVERSE_REGULARIZATION = 10.0
MAX_ITERATIONS = 1000


def word_features(counts: Columns, train: Bools) -> Any:
    """TF-IDF features of rows of text, by words and by two to four characters within words.

    Parameters
    ----------
    counts
        Of each row's words, see `word_counts`.
    train : (rows,)
        Rows from which document frequencies are counted.

    Returns
    -------
    scipy.sparse.csr_array, (rows, features)
    """
    return WordFeatures.of([each[train] for each in counts])(counts)


def learn_words(examples: Any, soft: Floats, rows: Any) -> Floats:
    """Train on features of text and predict ``rows``, see `fit_predict`."""
    from sklearn.linear_model import LogisticRegression

    if not examples.shape[1]:
        raise NothingToLearn("The training rows share no words, so there is nothing to learn from.")
    return fit_predict(LogisticRegression(C=INVERSE_REGULARIZATION, max_iter=MAX_ITERATIONS), examples, soft, rows)


SETTINGS: dict[str, Any] = {
    "max_iter": 60,
    "learning_rate": 0.1,
    "max_leaf_nodes": 6,
    "min_samples_leaf": 40,
    "l2_regularization": 5.0,
    "max_features": 0.5,
    "early_stopping": False,
}
"""Of scikit-learn's ``HistGradientBoostingClassifier``, chosen on dev; docs/labels.md says how. Each split may ask half
of the features, which a seed draws."""

FOLDS = 3
"""Parts of the training rows, each of which is read by a text classifier that has not learned from it."""

HALF_LIFE = 30.0
"""Days after which an example counts half."""

BINS = 255
"""Values that a feature has for the classifier, as many as it can tell apart."""


def learn_numbers(examples: Floats, soft: Floats, days: Floats, seed: int, rows: Floats) -> Floats:
    """Train on features that are numbers, late examples above all, and predict ``rows``; see `fit_predict`.

    An example counts half as much as one that is `HALF_LIFE` days younger: the past of an entity grows, so that the
    same features mean something else later.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier

    if not examples.shape[1]:
        raise NothingToLearn("The training set has no feature that is a number, so there is nothing to learn from.")
    is_known = ~np.isnan(examples)
    usual = np.where(is_known, examples, 0.0).sum(axis=0) / np.maximum(is_known.sum(axis=0), 1)
    examples, rows = (np.where(np.isnan(values), usual, values) for values in (examples, rows))
    weights = recency(days)
    soft = soft * (weights * len(weights) / max(weights.sum(), FLOOR))[:, None]
    for column in range(examples.shape[1]):
        found = cuts(examples[:, column], soft.sum(axis=1))
        examples[:, column], rows[:, column] = (np.searchsorted(found, of[:, column]) for of in (examples, rows))
    return fit_predict(HistGradientBoostingClassifier(random_state=seed, **SETTINGS), examples, soft, rows)


def recency(days: Floats) -> Floats:
    """The weight of each example, 1 for the latest."""
    return exp((days - days.max(initial=0.0)) * (math.log(2) / HALF_LIFE))


def cuts(values: Floats, weights: Floats) -> Floats:
    """The thresholds that scikit-learn would find for a weighted column: it takes each quantile anew, for seconds."""
    distinct: Floats = np.unique(values[weights > 0])
    if len(distinct) <= BINS:
        return (distinct[1:] + distinct[:-1]) / 2
    order = np.argsort(values, kind="stable")
    total = np.cumsum(weights[order])
    wanted = np.searchsorted(total, np.arange(1, BINS) / BINS * total[-1])
    found: Floats = np.unique(values[order][np.minimum(wanted, len(order) - 1)])
    return found


def _log_odds(probabilities: Floats) -> Floats:
    """Of each class but the first, against the first."""
    logs = _logs(probabilities)
    return logs[:, 1:] - logs[:, :1]


def _logs(probabilities: Floats) -> Floats:
    return log(np.maximum(probabilities, FLOOR))
