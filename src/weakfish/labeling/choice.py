"""Which method makes the labels, why, and the manifest that says so."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

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
    batches,
    covered,
    decide,
    fit,
    majority,
    once,
    refined,
    winners,
)
from weakfish.project.cache import Cache
from weakfish.project.params import TaskParams

Bools = npt.NDArray[np.bool_]
Matrix = npt.NDArray[np.int64]


@dataclass(frozen=True)
class VoteTally:
    """Counts over rows; adds exactly, in any order.

    Attributes
    ----------
    sums : Sums
    patterns : Patterns
        All of them, or a sample where there are very many.
    overlaps, conflicts : numpy.ndarray, int64, (functions,)
        Rows on which the function votes and another one does too; or votes for another class.
    others : numpy.ndarray, int64, (functions, classes + 1, classes)
        Rows on which the other votes have one majority, by the function's own vote, abstaining last, and that majority.
    """

    sums: Sums
    patterns: Patterns
    overlaps: Counts
    conflicts: Counts
    others: Counts

    @staticmethod
    def of(votes: Votes, cardinality: int, known: Sequence[tuple[slice, Patterns]] | None = None) -> VoteTally:
        """The tally of a label matrix (rows, functions), batch by batch; its `batches` may be known."""
        total = VoteTally.none(votes.shape[1], cardinality)
        for rows, patterns in batches(votes) if known is None else known:
            own = [patterns.votes == label for label in range(cardinality)]
            by_class = np.stack([voted.sum(axis=1) for voted in own], axis=1)
            several = np.stack([by_class.sum(axis=1) > 1, (by_class > 0).sum(axis=1) > 1])
            overlaps, conflicts = _counted(several, patterns.counts, patterns.votes >= 0)
            leading = [_leading(by_class - alike) for alike in np.eye(cardinality + 1, cardinality, dtype=np.int64)]
            kinds = zip(leading, [*own, patterns.votes < 0], strict=True)
            others = np.stack([_counted(lead, patterns.counts, voted).T for lead, voted in kinds], axis=1)
            total += VoteTally(Sums.of(votes[rows], cardinality), patterns, overlaps, conflicts, others)
        return total

    @staticmethod
    def none(functions: int, cardinality: int) -> VoteTally:
        """The tally of no row."""
        zeros = np.zeros(functions, np.int64)
        empty = Patterns(np.empty((0, functions), np.int8), zeros[:0])
        others = np.zeros((functions, cardinality + 1, cardinality), np.int64)
        return VoteTally(Sums.none(functions, cardinality), empty, zeros, zeros, others)

    @staticmethod
    def total(parts: Iterable[VoteTally], functions: int, cardinality: int) -> VoteTally:
        """The tally of several partitions."""
        return sum(parts, VoteTally.none(functions, cardinality))

    def __add__(self, other: VoteTally) -> VoteTally:
        return VoteTally(*(getattr(self, each.name) + getattr(other, each.name) for each in fields(self)))


def _counted(kinds: Bools, counts: Counts, voted: Bools) -> Matrix:
    """Rows of each kind (kinds, patterns) on which each function votes.

    Single floats hold every count of a batch exactly (`BATCH` is below 2**24), and their product is many times faster
    than that of integers.
    """
    found: Matrix = ((kinds * counts).astype(np.float32) @ voted.astype(np.float32)).astype(np.int64)
    return found


def _leading(others: Matrix) -> Bools:
    """Whether each class alone has the most votes in each pattern, (classes, patterns).

    ``others`` are the votes by class, (patterns, classes), without that of a function: functions that vote alike have
    the same others, so that this is asked once per class and not per function.
    """
    most = others == others.max(axis=1, keepdims=True, initial=1)
    alone: Bools = most & (most.sum(axis=1) == 1)[:, None]
    return alone.T


COPY = 0.5
"""Residual, and share of their votes on which two functions agree, from which they are called copies."""

SURE = 4.0
"""Standard errors by which two functions must agree more than explained, so that chance is no reason."""

ODDS = (0.5, 2.0)
"""Factors on the odds of a class, to see how many labels hang on the class balance."""

SETTLED = 0.02
"""Share of its whole range by which the loss may vary in the last fifth of the epochs of a fit that converged."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Copy:
    """Two functions (columns) that agree more than the model explains; ``residual`` is 1 for a perfect copy."""

    first: int
    second: int
    residual: float


@dataclass(frozen=True)
class FitSignals:
    """See docs/label-model.md.

    Attributes
    ----------
    disagreement : float
        Share of covered rows whose most probable class by the model is not among the majority's.
    unexplained : float
        Share of the covariance of votes of different functions (from G) that the model does not explain, noise
        deducted; above 1 where it explains less than nothing.
    unstable : float
        Share of covered rows whose class changes when the parameters follow whole patterns; see `refined`.
    shift : float
        How far the mean of the model's probabilities on covered rows lies from the class balance: half the sum of the
        differences.
    sensitivity : float
        Largest share of covered rows whose class changes when the odds of one class are halved or doubled.
    converged : bool
        Whether the loss had stopped falling.
    copies : tuple of Copy
    at_clamp : int
        Functions with an estimate at the bound that Snorkel sets, for a class that they vote.
    voting : int
        Functions that vote at all.
    """

    disagreement: float
    unexplained: float
    unstable: float
    shift: float
    sensitivity: float
    converged: bool
    copies: tuple[Copy, ...]
    at_clamp: int
    voting: int

    def to_json(self, names: list[str], losses: list[tuple[int, float]], kinship: Kinship) -> dict[str, Any]:
        """As the report has them, functions by name; functions that vote alike are among the copies."""
        found, pairs = asdict(self), {(copy.first, copy.second): copy.residual for copy in self.copies}
        pairs |= {(copy.first, copy.second): copy.share for copy in kinship.copies}
        found["copies"] = [
            {"functions": [names[first], names[second]], "residual": residual}
            for (first, second), residual in sorted(pairs.items(), key=lambda pair: -pair[1])
        ]
        return found | {"losses": [list(pair) for pair in losses]}


def signals(model: FittedModel, sums: Sums, patterns: Patterns) -> FitSignals:
    """The signals of a model fitted on ``sums``, with the patterns of the same rows."""
    patterns = patterns.in_order()
    votes, counts = patterns.covered()
    posterior = model.posterior(votes)
    won = winners(posterior)

    def differing(other: Floats) -> float:
        return int(counts[~(won & winners(other)).any(axis=1)].sum()) / max(1, int(counts.sum()))

    late = [loss for epoch, loss in model.losses if epoch >= 0.8 * model.losses[-1][0]]
    fell = max(loss for _, loss in model.losses) - min(late)
    voted = sums.votes.reshape(-1, len(model.class_balance)) > 0
    return FitSignals(
        disagreement=differing(majority(votes, won.shape[1])),
        unexplained=_unexplained(model, sums),
        unstable=differing(refined(model, patterns).posterior(votes)),
        shift=float(np.abs(counts @ posterior / counts.sum() - model.class_balance).sum() / 2),
        sensitivity=max(differing(model.posterior(votes, balance)) for balance in _shifted(model.class_balance)),
        converged=max(late) - min(late) <= SETTLED * fell,
        copies=tuple(copies(model, sums)),
        at_clamp=int((model.at_bound() & voted).any(axis=1).sum()),
        voting=int(voted.any(axis=1).sum()),
    )


def _shifted(balance: Floats) -> Iterator[Floats]:
    for label, factor in product(range(len(balance)), ODDS):
        shifted = balance.copy()
        shifted[label] *= factor
        yield shifted / shifted.sum()


def copies(model: FittedModel, sums: Sums) -> list[Copy]:
    """Pairs that agree more than the model explains, worst first.

    The model explains ``sum_y mu_iy mu_jy p_y`` of ``O_ij``. What is observed beyond it, summed over the classes on
    which the two agree, is divided by the most that there could be: the coverage of the rarer one, less what is
    explained.
    """
    classes = len(model.class_balance)

    def agreement(pairs: Floats) -> Floats:
        found: Floats = np.einsum("iaja->ij", pairs.reshape(-1, classes, len(pairs) // classes, classes))
        return found

    observed, explained = agreement(sums.pairs / sums.rows), agreement(_expected(model))
    coverage = sums.votes.reshape(-1, classes).sum(axis=1) / sums.rows
    room = np.minimum(coverage[:, None], coverage[None, :]) - explained
    excess = observed - explained
    residual = np.divide(excess, room, out=np.zeros_like(excess), where=room > 0)
    error = np.sqrt(np.maximum(explained * (1 - explained), 1 / sums.rows) / sums.rows)
    either = coverage[:, None] + coverage[None, :] - observed
    alike = (residual > COPY) & (observed > COPY * either) & (excess > SURE * error)
    pairs = [Copy(int(i), int(j), float(residual[i, j])) for i, j in np.argwhere(np.triu(alike, 1))]
    return sorted(pairs, key=lambda copy: (-copy.residual, copy.first, copy.second))


def _expected(model: FittedModel) -> Floats:
    """What the model explains of ``O``, (functions * classes, functions * classes)."""
    mu = model.mu.astype(np.float64)
    explained: Floats = (mu * model.class_balance) @ mu.T
    return explained


def _unexplained(model: FittedModel, sums: Sums) -> float:
    observed = sums.pairs / sums.rows
    alone = np.diag(observed)
    function = np.arange(len(alone)) // len(model.class_balance)
    others = function[:, None] != function[None, :]
    left = ((observed - _expected(model))[others] ** 2).sum()
    noise = (observed * (1 - observed))[others].sum() / sums.rows
    whole = ((observed - np.outer(alone, alone))[others] ** 2).sum()
    return float(max(0.0, left - noise) / whole) if whole else 0.0


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
        f"The label model explains how the {found.voting} functions agree in pairs ({found.unexplained:.1%} left over) "
        f"and in whole patterns ({found.unstable:.1%} of labels would change).",
        "Its loss has settled, and no two functions copy each other.",
        f"It differs from the majority vote on {found.disagreement:.1%} of covered rows.",
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
