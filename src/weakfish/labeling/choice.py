"""Which method makes the labels, why, and the manifest that says so."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from weakfish.contracts.figures import percent, short_percent
from weakfish.contracts.manifests import LabelsManifest
from weakfish.contracts.votes_file import ABSTAIN, Votes
from weakfish.errors import TableError
from weakfish.labeling.kinship import Kinship
from weakfish.labeling.label_model import (
    MIN_FUNCTIONS,
    Counts,
    FittedModel,
    Patterns,
    Probabilities,
    Sums,
    covered,
    decide,
    fit,
    majority,
    once,
    winners,
)
from weakfish.labeling.signals import Copy, FitSignals, signals
from weakfish.labeling.tally import VoteTally
from weakfish.project.cache import Cache
from weakfish.project.params import TaskParams

Floats = npt.NDArray[np.float64]

SNORKEL, MAJORITY = "snorkel", "majority"

MIN_VOTING = 4
"""Functions from which pairs overdetermine the label model, even if each function votes for one class only."""

UNEXPLAINED, UNSTABLE, SHIFT, SENSITIVE = 0.01, 0.03, 0.1, 0.2
"""Signals above which `auto` does not trust the label model; benchmarks/label_model_choice.py measures how it does."""


@dataclass(frozen=True)
class Chosen:
    """A fitted model, the method whose probabilities become labels, why, and what functions have in common."""

    model: FittedModel
    method: str
    why: list[str]
    kinship: Kinship
    judge: Callable[[], FitSignals]

    @cached_property
    def signals(self) -> FitSignals:
        """The signals behind the model; a method that was asked for does without them until someone reads them."""
        return self.judge()

    def probabilities(self, votes: Votes) -> Probabilities:
        """The probabilities that become labels, (rows, classes); a row without votes has the class balance."""
        return probabilities_by(self.method, self.model, votes)


def probabilities_by(method: str, model: FittedModel, votes: Votes) -> Probabilities:
    """The probabilities that a method makes of votes, (rows, classes); a row without votes has the class balance."""
    votes = once(votes, model.as_one)
    if method == SNORKEL:
        return model.probabilities(votes)
    found = majority(votes, len(model.class_balance))
    found[~covered(votes)] = model.class_balance
    return found


def choose(
    sums: Sums,
    patterns: Patterns,
    task: TaskParams,
    seed: int | None = None,
    through: str = "",
    cache: Cache | None = None,
    names: Sequence[str] = (),
) -> Chosen:
    """Fit the label model on the rows behind ``sums`` and ``patterns``, and choose a method as the task's settings say.

    With ``auto`` functions that say the same count as one, see `Kinship`; ``names`` are those of the functions, for the
    reasons.

    Raises
    ------
    LabelingFunctionError
        As `fit` does.
    """
    classes, asked = len(task.classes), task.label_model.method
    kinship = Kinship.of(sums, classes)
    names = names or [f"function {number}" for number in range(1, len(sums.pairs) // classes + 1)]
    if asked != "auto":
        kinship = kinship.apart()
    fitted = kinship if len(kinship.sets) >= MIN_FUNCTIONS else kinship.apart()
    sums, patterns = fitted.sums_of_sets(sums, classes), fitted.patterns_of_sets(patterns)
    model = fit(sums, task, seed, cache).through(through)

    @functools.cache
    def judge() -> FitSignals:
        found = signals(model, sums, patterns)
        pairs = [Copy(fitted.sets[each.first][0], fitted.sets[each.second][0], each.residual) for each in found.copies]
        return replace(found, copies=tuple(pairs), voting=min(found.voting, len(kinship.sets)))

    method: str = asked
    why = [f"params.yaml asks for it: label_model.method is {asked}."]
    if asked == "auto":
        method, why = decide_by(judge())
    whole = replace(fitted.of_functions(model), as_one=kinship.as_one)
    return Chosen(whole, method, [*why, *kinship.told(names, asked == "auto")], kinship, judge)


def learn(votes: Votes, task: TaskParams, seed: int | None = None) -> Chosen:
    """`choose` on a label matrix (rows, functions)."""
    tally = VoteTally.of(votes, len(task.classes))
    return choose(tally.sums, tally.patterns, task, seed)


def decide_by(found: FitSignals) -> tuple[str, list[str]]:
    """The method that the signals speak for, and the reasons in sentences.

    The label model is chosen where nothing speaks against it; the majority vote assumes less, and is wrong less badly.
    """
    against = [sentence for holds, sentence in _objections(found) if holds]
    if against:
        return MAJORITY, [*against, "So the labels are those of the majority vote, which assumes less."]
    return SNORKEL, [
        f"The label model explains how the {found.voting} functions agree in pairs ({percent(found.unexplained)} left "
        f"over) and in whole patterns ({percent(found.unstable)} of labels would change).",
        "Its loss has settled, and no two functions copy each other.",
        f"It differs from the majority vote on {percent(found.disagreement)} of covered rows.",
    ]


def _objections(found: FitSignals) -> list[tuple[bool, str]]:
    return [
        (
            found.voting < MIN_VOTING,
            f"Only {found.voting} functions vote; with fewer than {MIN_VOTING} the label model fits whatever they do, "
            "so nothing shows whether it is right.",
        ),
        (not found.converged, "The loss of the label model had not settled when its epochs ended; raise n_epochs."),
        (
            bool(found.copies),
            f"Pairs of functions that copy each other: {len(found.copies)}; the label model counts their votes twice.",
        ),
        (
            found.unexplained > UNEXPLAINED,
            f"The label model leaves {percent(found.unexplained)} of how functions agree in pairs unexplained, more "
            f"than {short_percent(UNEXPLAINED)}: functions depend on each other, or the class balance or l2 keep it "
            "from fitting.",
        ),
        (
            found.unstable > UNSTABLE,
            f"{percent(found.unstable)} of labels would change if the label model followed whole patterns and not "
            f"pairs, more than {short_percent(UNSTABLE)}: the class balance may be wrong, or functions depend on each "
            "other.",
        ),
        (
            found.shift > SHIFT,
            f"On covered rows its classes have shares that differ from the class balance by "
            f"{short_percent(found.shift)}, more than {short_percent(SHIFT)}: it leans to the class that more "
            "functions vote for.",
        ),
        (
            found.sensitivity > SENSITIVE,
            f"{percent(found.sensitivity)} of labels change when the odds of a class are halved or doubled, more than "
            f"{short_percent(SENSITIVE)}.",
        ),
    ]


BLOCK = 1 << 12
"""Patterns that are weighed at once, so that memory stays small with many functions."""

CLOSE = 1e-9
"""Part of a weight by which two sums of the same weights may differ."""


@dataclass(frozen=True)
class Alone:
    """Counts over covered rows.

    Attributes
    ----------
    rows : int
        Covered rows behind the counts: all, or those of a sample of patterns where there are very many.
    settled : numpy.ndarray, int64, (functions,)
        Rows whose class the function's vote settles alone.
    differing : int
        Rows whose most probable class by the model is not among the majority's.
    """

    rows: int
    settled: Counts
    differing: int


def alone(chosen: Chosen, patterns: Patterns) -> Alone:
    """Weigh the votes of each pattern by the model that makes the labels, log-odds or one vote each."""
    (votes, counts), classes = patterns.covered(), len(chosen.model.class_balance)
    votes = once(votes, chosen.model.as_one)
    # what a vote (functions, votes, classes) and the class balance add to each class
    logs, prior = chosen.model.logs, np.log(chosen.model.class_balance)
    if chosen.method == MAJORITY:
        logs, prior = np.tile(np.eye(classes), (votes.shape[1], 1, 1)), np.zeros(classes)
    settled = np.zeros(votes.shape[1], np.int64)
    for start in range(0, len(votes), BLOCK):
        block = votes[start : start + BLOCK]
        added = logs[np.arange(block.shape[1]), np.maximum(block, 0)]
        added[block < 0] = 0
        settled += counts[start : start + BLOCK] @ _settles(added, prior)
    won = winners(chosen.model.posterior(votes)) & winners(majority(votes, len(prior)))
    return Alone(int(counts.sum()), settled, int(counts[~won.any(axis=1)].sum()))


def _settles(added: Floats, prior: Floats) -> npt.NDArray[np.bool_]:
    """Whether each vote outweighs all else for one class, against every other class; (patterns, functions).

    ``added`` is what each vote of each pattern adds to each class, (patterns, functions, classes).
    """
    found = np.zeros(added.shape[:2], np.bool_)
    for label in range(len(prior)):
        ahead = added[:, :, [label]] - np.delete(added, label, axis=2)
        all_of_it = np.abs(ahead).sum(axis=1) + np.abs(prior[label] - np.delete(prior, label))
        found |= (2 * ahead > all_of_it[:, None, :] * (1 + CLOSE)).all(axis=2)
    return found


@dataclass(frozen=True)
class Maker:
    """A fitted model and the method that make the labels of some partitions.

    Attributes
    ----------
    model : FittedModel
    names : list of str
        The labeling functions in the order of the model's parameters.
    method : str
        ``snorkel`` or ``majority``.
    partitions : list of str
        Those that it labels.
    seed : int
        Decides ties.
    """

    model: FittedModel
    names: list[str]
    method: str
    partitions: list[str]
    seed: int

    def probabilities(self, votes: Votes) -> Probabilities:
        """The probabilities that votes (rows, functions) get, (rows, classes)."""
        return probabilities_by(self.method, self.model, votes)

    def labels(self, votes: Votes, keys: pa.ChunkedArray) -> npt.NDArray[np.int64]:
        """The class of each row as a position, `ABSTAIN` where no function votes."""
        chosen = decide(self.probabilities(votes), keys, self.seed)
        chosen[~covered(votes)] = ABSTAIN
        return chosen

    def to_json(self) -> dict[str, Any]:
        """As the manifest of labels has it."""
        return self.model.to_json() | {"functions": self.names, "method": self.method, "partitions": self.partitions}


def makers_of(manifest: LabelsManifest) -> list[Maker]:
    """What made labels; nothing of a manifest of the older form, without models and the order of their functions."""
    seed = manifest.settings["label_model"]["seed"]
    return [
        Maker(
            FittedModel.from_json(entry),
            list(entry["functions"]),
            entry.get("method", manifest.method),
            list(entry["partitions"]),
            seed,
        )
        for entry in manifest.models
        if "functions" in entry
    ]


def maker_of(manifest: LabelsManifest, partition: str) -> Maker:
    """What labelled a partition; raises `TableError` where the manifest has no model for it."""
    for maker in makers_of(manifest):
        if partition in maker.partitions:
            return maker
    raise TableError(f"The manifest of the labels has no model for partition {partition}; run `dvc repro label`.")
