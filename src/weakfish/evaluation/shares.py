"""Probabilities at work: the shares of classes among new rows, estimated without their labels, and what follows.

A classifier that learned where a class was frequent says it too often where the class is rare, and decides badly at one
half, however well it ranks. The estimate trusts that functions vote on a class as before, and asks their vote rates
whether they do.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from weakfish.contracts.figures import counted, percent
from weakfish.contracts.gold import ROWS
from weakfish.contracts.votes_file import Votes
from weakfish.evaluation.measures import FLOOR, Bools, Floats, Predictions, rounded

STEPS = 500
"""Most steps of each iteration; it converges linearly, and mostly within fifty."""

SETTLED = 1e-7
"""A change of every share below this ends an iteration."""

WORTH = 1.05
"""The factor by which F1 must be expected to rise for another threshold than one half. Less may come of shares that are
not quite right; more is had where a class is rare and the classifier weak, so that it would name no row."""

CHANCE = 0.1
"""The chance up to which vote rates that moved as predicted, each by the toss of a coin, bear out new shares."""

SURE = 2.0
"""Standard errors that a vote rate has to move by for a function to have a say."""


def class_shares(posteriors: Floats, before: Floats) -> Floats:
    """The shares of classes among rows, by expectation maximisation (Saerens, Latinne and Decaestecker 2002).

    It is the most likely answer if rows of one class are as they were where the posteriors were learned, and only the
    shares differ.

    Parameters
    ----------
    posteriors : (rows, classes)
        Probabilities of a model for which the classes had the shares ``before``, (classes,).
    """
    before = np.maximum(before, FLOOR)
    shares: Floats = before
    for _ in range(STEPS):
        weighted = posteriors * (shares / before)
        found = (weighted / np.maximum(weighted.sum(axis=1, keepdims=True), FLOOR)).mean(axis=0)
        settled = np.abs(found - shares).max() < SETTLED
        shares = found
        if settled:
            break
    whole: Floats = shares / shares.sum()
    return whole


def levels(posteriors: Floats, shares: Floats) -> Floats:
    """The factor of each class, (classes,), with which posteriors have the mean ``shares``, once rows add up to 1.

    Factors move each class by the same log odds in all rows, so that of two classes the ranking stays. They are found
    by scaling columns in turn (Sinkhorn 1967).
    """
    factors = np.ones(posteriors.shape[1])
    shares = np.maximum(shares, FLOOR)
    for _ in range(STEPS):
        mean = scaled(posteriors, factors).mean(axis=0)
        factors = factors * shares / np.maximum(mean, FLOOR)
        factors /= factors.sum()
        if np.abs(mean - shares).max() < SETTLED:
            break
    return factors


def scaled(posteriors: Floats, factors: Floats) -> Floats:
    """Posteriors times the factor of each class; rows add up to 1."""
    found = np.maximum(posteriors, FLOOR) * factors
    whole: Floats = found / found.sum(axis=1, keepdims=True)
    return whole


def expected_f1(probabilities: Floats, threshold: float) -> float:
    """F1 of the expected counts, as the probabilities have them, where rows from the threshold on are positive."""
    positive = probabilities[probabilities >= threshold]
    return float(2 * positive.sum() / max(len(positive) + probabilities.sum(), FLOOR))


def best_threshold(probabilities: Floats) -> float:
    """The probability from which on rows are positive if F1 is to be highest, as the probabilities have it.

    F1 is that of the expected counts; where probabilities are true, it is highest at half its own value (Lipton, Elkan
    and Naryanaswamy 2014).
    """
    order = np.sort(probabilities)[::-1]
    scores = 2 * np.cumsum(order) / (np.arange(1, len(order) + 1) + order.sum())
    return float(order[scores.argmax()])  # along equal probabilities the score rises or falls, so none is cut in two


def tail(hits: int, tries: int) -> float:
    """The chance that a fair coin shows as many heads, or more."""
    return float(sum(math.comb(tries, number) for number in range(hits, tries + 1)) / 2**tries)


@dataclass(frozen=True)
class MovedShares:
    """What the votes say of the shares of classes in new rows.

    Attributes
    ----------
    trained, new : numpy.ndarray, float64, (classes,)
        Shares of the classes by the votes, among covered training rows and covered new rows: the former as the soft
        labels have them, the latter moved from there.
    rows : int
        Covered new rows.
    asked, nearer : int
        Votes of functions, by class, whose rate must have moved if the shares are new, and those of them whose rate on
        new rows is nearer to what the new shares predict than to what it was.
    stranger : str or None
        Of the others, the function that is furthest from what the new shares predict.
    """

    trained: Floats
    new: Floats
    rows: int
    asked: int
    nearer: int
    stranger: str | None

    @property
    def holds(self) -> bool:
        """Whether probabilities are corrected: so many rates moved as the new shares predict that it is no chance."""
        return self.asked > 0 and tail(self.nearer, self.asked) <= CHANCE

    def sentence(self, place: int, name: str) -> str:
        """What was found of a class, and whether probabilities are corrected."""
        if self.rows < ROWS:
            few = f"Labeling functions vote on {counted(self.rows, 'test row')}"
            return f"{few}; below {ROWS} they cannot say how frequent classes are, so probabilities are as learned."
        then, now = percent(float(self.trained[place])), percent(float(self.new[place]))
        if not self.asked:
            return f"The votes show no other share of {name} in the test rows than the {then} that was learned from."
        moved = f"By the votes, {name} is {now} of the test rows and was {then} of those that were learned from. "
        if self.holds:
            return (
                f"{moved}Classifiers are corrected for it: {self.nearer} of {counted(self.asked, 'vote rate')} moved "
                "as that predicts."
            )
        by_chance = tail(self.asked, self.asked) > CHANCE
        return (
            f"{moved}That cannot be relied on: {self.nearer} of {counted(self.asked, 'vote rate')} moved as it predicts"
            f"{', and so few may do so by chance' if by_chance else ''}"
            f"{f', that of {self.stranger} least' if self.stranger else ''}. So classifiers are as learned."
        )

    def to_json(self, classes: Sequence[str], positive: int | None) -> dict[str, Any]:
        """For a file; of more than two classes the sentence is about the one whose share moved most."""
        place = int(np.abs(self.new - self.trained).argmax()) if positive is None else positive
        return {
            "trained": dict(zip(classes, map(rounded, self.trained.tolist()), strict=True)),
            "new": dict(zip(classes, map(rounded, self.new.tolist()), strict=True)),
            "rows": self.rows,
            "asked": self.asked,
            "nearer": self.nearer,
            "corrected": self.holds,
            "sentence": self.sentence(place, classes[place]),
        }


def votes_shift(
    votes: tuple[Votes, Votes], soft: tuple[Floats, Floats], balance: Floats, functions: Sequence[str]
) -> MovedShares:
    """What votes say of new rows, and whether the functions bear it out.

    Parameters
    ----------
    votes : (rows, functions) each
        Of the covered training rows, and of the covered new rows.
    soft : (rows, classes) each
        Their probabilities, by a label model that saw none of the new rows and holds the classes to have the shares
        ``balance``, (classes,), before any vote.
    functions
        Their names.
    """
    (old_votes, new_votes), (old, of_new) = votes, soft
    rows, trained = len(new_votes), old.mean(axis=0)
    if rows < ROWS:
        return MovedShares(trained, trained, rows, 0, 0, None)
    # Where the label model is wrong, so are both estimates, in the same way; what is left in their ratio is the move.
    before, after = (np.maximum(class_shares(of, balance), 1 / min(rows, len(old))) for of in (old, of_new))
    moved = trained * after / before
    new = moved / moved.sum()
    of_class = np.maximum(old.sum(axis=0), FLOOR)
    asked = nearer = 0
    furthest, stranger = 0.0, None
    for column, name in enumerate(functions):
        for label in range(len(balance)):
            voted = old_votes[:, column] == label
            was, now = voted.mean(), (new_votes[:, column] == label).mean()
            predicted = (old[voted].sum(axis=0) / of_class) @ new
            error = np.sqrt(was * (1 - was) * (1 / rows + 1 / len(old_votes)))
            if abs(predicted - was) <= SURE * error:
                continue
            asked += 1
            if abs(now - predicted) < abs(now - was):
                nearer += 1
            elif abs(now - predicted) > furthest:
                furthest, stranger = abs(now - predicted), name
    return MovedShares(trained, new, rows, asked, nearer, stranger)


def at_level(predictions: Predictions, voted: Bools, shift: MovedShares) -> Predictions:
    """Predictions of new rows with the level that their shares of classes ask for; as they are where that is unknown.

    The shares are those by the votes on the rows ``voted`` on, (rows,).
    """
    if predictions.trained is None or not shift.holds:
        return predictions
    shares = np.maximum(shift.new, FLOOR)
    factors = levels(predictions.probabilities[voted], shares / shares.sum())
    return replace(predictions, probabilities=scaled(predictions.probabilities, factors))


def decided(predictions: Predictions, positive: int) -> Predictions:
    """Predictions of two classes, positive from one half on, or from where the expected F1 is best, if much better."""
    of_class = predictions.probabilities[:, positive]
    if predictions.probabilities.shape[1] != 2:
        return predictions
    best = best_threshold(of_class)
    if expected_f1(of_class, best) <= WORTH * expected_f1(of_class, 0.5):
        return predictions
    return replace(predictions, threshold=best, positive=positive)
