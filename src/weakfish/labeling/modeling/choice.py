"""Which model makes the labels of a task: Snorkel's or the majority vote, and why."""

from __future__ import annotations

from dataclasses import dataclass

from weakfish.labeling.modeling.model import FittedModel, Probabilities, covered, fit, majority
from weakfish.labeling.modeling.patterns import Patterns
from weakfish.labeling.modeling.signals import Signals, signals
from weakfish.labeling.modeling.sums import Sums
from weakfish.labeling.modeling.tally import Tally
from weakfish.labeling.votes_file import Votes
from weakfish.params import TaskParams

SNORKEL, MAJORITY = "snorkel", "majority"

MIN_VOTING = 4
"""Functions from which pairs overdetermine the label model, even if each function votes for one class only."""

UNEXPLAINED, UNSTABLE, SHIFT, SENSITIVE = 0.01, 0.03, 0.1, 0.2
"""Signals above which `auto` does not trust the label model; benchmarks/label_model_choice.py measures how it does."""


@dataclass(frozen=True)
class Chosen:
    """A fitted model, the method whose probabilities become labels, why, and the signals behind it."""

    model: FittedModel
    method: str
    why: list[str]
    signals: Signals

    def probabilities(self, votes: Votes) -> Probabilities:
        """The probabilities that become labels, (rows, classes); a row without votes has the class balance."""
        if self.method == SNORKEL:
            return self.model.probabilities(votes)
        found = majority(votes, len(self.model.class_balance))
        found[~covered(votes)] = self.model.class_balance
        return found


def choose(sums: Sums, patterns: Patterns, task: TaskParams, seed: int | None = None, through: str = "") -> Chosen:
    """Fit the label model on the rows behind ``sums`` and ``patterns``, and choose a method as the task's settings say.

    Raises
    ------
    LabelingFunctionError
        As `fit` does.
    """
    model = fit(sums, task, seed).through(through)
    found = signals(model, sums, patterns)
    asked = task.label_model.method
    if asked != "auto":
        return Chosen(model, asked, [f"params.yaml asks for it: label_model.method is {asked}."], found)
    method, why = decide_by(found)
    return Chosen(model, method, why, found)


def learn(votes: Votes, task: TaskParams, seed: int | None = None) -> Chosen:
    """`choose` on a label matrix (rows, functions)."""
    tally = Tally.of(votes, len(task.classes))
    return choose(tally.sums, tally.patterns, task, seed)


def decide_by(found: Signals) -> tuple[str, list[str]]:
    """The method that the signals speak for, and the reasons in sentences.

    The label model is chosen where nothing speaks against it; the majority vote assumes less, and is wrong less badly.
    """
    against = [sentence for holds, sentence in _objections(found) if holds]
    if against:
        return MAJORITY, [*against, "So the labels are those of the majority vote, which assumes less."]
    return SNORKEL, [
        f"The label model explains how the {found.voting} functions agree in pairs ({found.unexplained:.1%} left over) "
        f"and in whole patterns ({found.unstable:.1%} of labels would change).",
        "Its loss has settled, and no two functions copy each other.",
        f"It decides otherwise than the majority vote on {found.disagreement:.1%} of covered rows.",
    ]


def _objections(found: Signals) -> list[tuple[bool, str]]:
    return [
        (
            found.voting < MIN_VOTING,
            f"Only {found.voting} functions vote; with fewer than {MIN_VOTING} the label model fits whatever they do, "
            "so that nothing can tell whether it is right.",
        ),
        (not found.converged, "The loss of the label model had not settled when its epochs ended; raise n_epochs."),
        (
            bool(found.copies),
            f"Pairs of functions that copy each other: {len(found.copies)}; the label model counts their votes twice.",
        ),
        (
            found.unexplained > UNEXPLAINED,
            f"The label model leaves {found.unexplained:.1%} of how functions agree in pairs unexplained, more than "
            f"{UNEXPLAINED:.0%}: functions depend on each other, or the class balance or l2 keep it from fitting.",
        ),
        (
            found.unstable > UNSTABLE,
            f"{found.unstable:.1%} of labels would change if the label model followed whole patterns and not pairs, "
            f"more than {UNSTABLE:.0%}: the class balance may be wrong, or functions depend on each other.",
        ),
        (
            found.shift > SHIFT,
            f"On covered rows its classes have shares that differ from the class balance by {found.shift:.0%}, more "
            f"than {SHIFT:.0%}: it leans to the class that more functions vote for.",
        ),
        (
            found.sensitivity > SENSITIVE,
            f"{found.sensitivity:.1%} of labels change when the odds of a class are halved or doubled, more than "
            f"{SENSITIVE:.0%}.",
        ),
    ]
