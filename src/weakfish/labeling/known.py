"""Known labels as evidence: the rows of which a class is known, and a label model that weighs votes by them as well.

Each known row belongs to a part of the rows. What says anything of a known row has seen no known row of its part, so
that no row is judged by what learned from its own label.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from weakfish.contracts.votes_file import Votes
from weakfish.engine.portable import log, power_of_two
from weakfish.labeling.hyper import DOUBLINGS
from weakfish.labeling.label_model import FittedModel, Probabilities
from weakfish.labeling.learning import Floats
from weakfish.labeling.row_reader import FOLDS, Ints, normalized
from weakfish.labeling.vote_pairs import Counts

STRENGTH = 20.0
"""Known rows that are worth as much as what is thought of a vote without them."""

TEMPERS = tuple(2.0**power for power in range(-4, 3))
"""Powers of a method's probabilities, which may be too sure or too unsure, that are tried before they are judged."""

MIN_KNOWN = 10
"""Known rows with votes from which on they have a part in how votes are weighed."""

RATIO, MOST = 0.3, 30.0
"""Together known rows teach as much as this share of the rows that only votes tell of; each as much as `MOST` of them
at most, and as one at least."""

LEAST = 1e-6
"""Probabilities below this count as this, where their logarithm is taken."""

MISTAKEN = 0.01
"""How often a known class may be any other by mistake, where methods are judged: else one row of a class that other
parts lack could weigh more than all others."""


@dataclass(frozen=True, eq=False)
class KnownVotes:
    """Rows whose class is known.

    Attributes
    ----------
    votes : numpy.ndarray, int8, (rows, functions)
    classes : numpy.ndarray, int64, (rows,)
        Positions in the task's classes.
    parts : numpy.ndarray, int64, (rows,)
        The part of the rows that each belongs to, see `folds_of`.
    """

    votes: Votes
    classes: Ints
    parts: Ints

    @staticmethod
    def together(parts: Sequence[KnownVotes], functions: int) -> KnownVotes:
        """The rows of all."""
        nothing = np.zeros(0, np.int64)
        every = [KnownVotes(np.empty((0, functions), np.int8), nothing, nothing), *parts]
        fields = ("votes", "classes", "parts")
        return KnownVotes(*(np.concatenate([getattr(each, name) for each in every]) for name in fields))

    def __len__(self) -> int:
        return len(self.classes)

    def at(self, rows: Any) -> KnownVotes:
        """Some of the rows."""
        return KnownVotes(self.votes[rows], self.classes[rows], self.parts[rows])

    def none(self) -> KnownVotes:
        """No row."""
        return self.at(slice(0))

    def without(self, part: int) -> KnownVotes:
        """The rows of other parts."""
        return self.at(self.parts != part)

    def voted(self) -> KnownVotes:
        """The rows with votes."""
        return self.at((self.votes >= 0).any(axis=1))

    def shares(self, classes: int) -> Floats:
        """The share of each class, of which one row more is assumed."""
        counts = np.bincount(self.classes, minlength=classes) + 1.0
        found: Floats = counts / counts.sum()
        return found

    def balance(self, classes: int) -> Floats:
        """What is assumed of a row without votes: the roots of the shares of known rows without votes.

        That is half way to all alike, as known rows are counted where votes are weighed too.
        """
        found = np.sqrt(self.at((self.votes < 0).all(axis=1)).shares(classes))
        balance: Floats = found / found.sum()
        return balance


def weight(known: int, others: int) -> float:
    """How much each of ``known`` rows teaches a classifier, beside ``others`` of which votes alone tell."""
    return float(np.clip(RATIO * others / max(1, known), 1.0, MOST))


def weighed(prior: FittedModel, known: KnownVotes) -> FittedModel:
    """The naive Bayes model ``prior``, corrected by known rows.

    What a vote says of the class is the share of each class among the rows that have it: those by ``prior``, to the
    power by which the pretrained model's own shares are taken, worth `STRENGTH` rows, and the known rows. These count
    by the root of how rare their class is, half way to classes that are all alike. ``mu[i * classes + a, y]`` is then
    the share of class y among rows on which function i votes a, which in a sum of logarithms does as well as that of
    votes; how frequent classes are is in it, so its class balance is even.
    """
    classes = len(prior.class_balance)
    shares = prior.mu.astype(np.float64).reshape(-1, classes, classes)
    shares = power_of_two(shares / shares.sum(axis=2, keepdims=True), DOUBLINGS)
    shares /= shares.sum(axis=2, keepdims=True)
    rows, functions = np.nonzero(known.votes >= 0)
    said = known.votes[rows, functions]
    counts = np.zeros_like(shares)
    np.add.at(counts, (functions, said, known.classes[rows]), _by_class(known, classes)[known.classes[rows]])
    shares = np.maximum((STRENGTH * shares + counts) / (STRENGTH + counts.sum(axis=2, keepdims=True)), LEAST)
    return replace(
        prior, mu=shares.astype(np.float32).reshape(-1, classes), class_balance=np.full(classes, 1 / classes)
    )


def accuracies(model: FittedModel, votes: Counts) -> list[float]:
    """How often the votes of each function are right by what `weighed` says; ``votes`` are counts, flat."""
    classes = len(model.class_balance)
    counts = votes.reshape(-1, classes)
    right = np.einsum("iaa->ia", model.mu.astype(np.float64).reshape(-1, classes, classes))
    found = np.where(counts.any(axis=1), (counts * right).sum(axis=1) / np.maximum(counts.sum(axis=1), 1), 1.0)
    return [float(value) for value in found]


def gains(posterior: Callable[[Votes], Probabilities], prior: FittedModel, known: KnownVotes) -> tuple[Floats, Floats]:
    """How likely the class of each known row is by the rows of other parts, without and with them.

    ``posterior`` makes probabilities of votes without known rows; these are taken by the power that fits the rows of
    other parts best. ``prior`` is what known rows correct. Both are logarithms (rows,), weighed by the classes.
    """
    classes = len(prior.class_balance)
    logs, weights = log(np.maximum(posterior(known.votes), LEAST)), _by_class(known, classes)[known.classes]
    by_power = [_log_likelihood(normalized(power * logs), known.classes) for power in TEMPERS]
    without, with_ = np.zeros(len(known)), np.zeros(len(known))
    for part in range(FOLDS):
        mine = np.flatnonzero(known.parts == part)
        others = known.without(part)
        if not len(mine) or not len(others):
            continue
        scale = _by_class(others, classes)[others.classes]
        fits = [(each[known.parts != part] * scale).sum() for each in by_power]
        without[mine] = by_power[int(np.argmax(fits))][mine]
        found = weighed(prior, others).posterior(known.votes[mine])
        with_[mine] = _log_likelihood(found, known.classes[mine])
    return without * weights, with_ * weights


def clearly_more(gained: Floats) -> bool:
    """Whether the sum of what rows gain is above its standard error."""
    return bool(gained.sum() > np.sqrt((gained**2).sum()))


def _log_likelihood(probabilities: Probabilities, classes: Ints) -> Floats:
    of_class = probabilities[np.arange(len(classes)), classes]
    found: Floats = log((1 - MISTAKEN) * of_class + MISTAKEN / probabilities.shape[1])
    return found


def _by_class(known: KnownVotes, classes: int) -> npt.NDArray[np.float64]:
    """How much a known row of each class counts."""
    found: Floats = np.sqrt(1 / classes / known.shares(classes))
    return found
