"""What tells, without gold labels, how far a fitted label model can be trusted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from weakfish.contracts.votes_file import ABSTAIN, Votes
from weakfish.engine import portable
from weakfish.engine.portable import exp, log
from weakfish.labeling.hyper import HyperModel
from weakfish.labeling.kinship import Kinship
from weakfish.labeling.label_model import FittedModel, Patterns, Sums, indicators, majority, winners

if TYPE_CHECKING:
    from scipy.sparse import csr_array  # type: ignore[import-untyped]

Floats = npt.NDArray[np.float64]

STEPS = 20
"""Steps of expectation maximization: enough to see where it goes, not to arrive."""

MOST = 1 << 14
"""The commonest patterns, which are all that are looked at."""

FLOOR = 1e-4
"""Probabilities stay away from 0 and 1 by this, since their logarithms are taken."""

WORK = 1 << 20
"""Votes times classes that are read to see how well held-out votes are named; a sample of the patterns where more."""

CHUNK = 1 << 12
"""Rows with a vote held out that are labelled together."""

COPY = 0.5
"""Residual, and share of their votes on which two functions agree, from which they are called copies."""

SURE = 4.0
"""Standard errors by which two functions must agree more than explained, so that chance is no reason."""

ODDS = (0.5, 2.0)
"""Factors on the odds of a class, to see how many labels hang on the class balance."""

SETTLED = 0.02
"""Share of its whole range by which the loss may vary in the last fifth of the epochs of a fit that converged."""


@dataclass(frozen=True)
class Copy:
    """Two functions (columns) that agree more than the model explains; ``residual`` is 1 for a perfect copy."""

    first: int
    second: int
    residual: float


@dataclass(frozen=True)
class FitSignals:
    """See docs/label-model.md; what a method does not have is None.

    Attributes
    ----------
    disagreement : float
        Share of covered rows whose most probable class by the model is not among the majority's.
    unexplained : float or None
        Share of the covariance of votes of different functions (from G) that the model does not explain, noise
        deducted; above 1 where it explains less than nothing. Of Dawid and Skene's model see `unexplained_where_both`.
    unstable : float or None
        Share of covered rows whose class changes when the parameters follow whole patterns; see `refined`.
    shift : float
        How far the mean of the model's probabilities on covered rows lies from the class balance: half the sum of the
        differences.
    sensitivity : float or None
        Largest share of covered rows whose class changes when the odds of one class are halved or doubled.
    converged : bool or None
        Whether the loss had stopped falling.
    copies : tuple of Copy
    at_clamp : int
        Functions with an estimate at the bound that Snorkel sets, for a class that they vote.
    voting : int
        Functions that vote at all.
    """

    disagreement: float
    unexplained: float | None
    unstable: float | None
    shift: float
    sensitivity: float | None
    converged: bool | None
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


def signals(model: FittedModel | HyperModel, sums: Sums, patterns: Patterns, snorkel: bool) -> FitSignals:
    """The signals of a model fitted on ``sums`` and the ``patterns`` of the same rows, by Snorkel or not."""
    patterns = patterns.in_order()
    votes, counts = patterns.covered()
    posterior = model.posterior(votes)
    won = winners(posterior)
    voted = sums.votes.reshape(-1, len(model.class_balance)) > 0

    def differing(other: Floats) -> float:
        return int(counts[~(won & winners(other)).any(axis=1)].sum()) / max(1, int(counts.sum()))

    found = FitSignals(
        disagreement=differing(majority(votes, won.shape[1])),
        unexplained=None,
        unstable=None,
        shift=float(np.abs((counts[:, None] * posterior).sum(axis=0) / counts.sum() - model.class_balance).sum() / 2),
        sensitivity=None,
        converged=None,
        copies=(),
        at_clamp=0,
        voting=int(voted.any(axis=1).sum()),
    )
    if isinstance(model, HyperModel):
        return found
    found = replace(
        found,
        sensitivity=max(differing(model.posterior(votes, balance)) for balance in _shifted(model.class_balance)),
        converged=_settled(model.losses),
    )
    if not snorkel:
        return replace(found, unexplained=unexplained_where_both(model, sums))
    return replace(
        found,
        unexplained=_unexplained(model, sums),
        unstable=differing(refined(model, patterns).posterior(votes)),
        copies=tuple(copies(model, sums)),
        at_clamp=int((model.at_bound() & voted).any(axis=1).sum()),
    )


def _settled(losses: list[tuple[int, float]]) -> bool | None:
    late = [loss for epoch, loss in losses if epoch >= 0.8 * losses[-1][0]]
    fell = max((loss for _, loss in losses), default=0.0) - min(late, default=0.0)
    return max(late) - min(late) <= SETTLED * fell if late else None


def held_out(model: Callable[[Votes], Floats], patterns: Patterns, classes: int) -> float | None:
    """How often a model names a vote from the other votes of its row, a tie counting its share.

    ``model`` makes posteriors (rows, classes) of votes (rows, functions). None where no two functions vote on one row.
    """
    sizes = (patterns.votes >= 0).sum(axis=1)
    several = sizes > 1
    shared = Patterns(patterns.votes[several], patterns.counts[several]).in_order()
    votes, counts = shared.sampled((shared.votes >= 0).sum(axis=1) ** 2 * classes, WORK)
    rows, functions = np.nonzero(votes >= 0)
    if not len(rows):
        return None
    named = 0.0
    for start in range(0, len(rows), CHUNK):
        row, function = rows[start : start + CHUNK], functions[start : start + CHUNK]
        others, places = votes[row], np.arange(len(row))
        others[places, function] = ABSTAIN
        won = winners(model(others))
        share = won[places, votes[row, function]] / won.sum(axis=1)
        named += float((counts[row] * share).sum())
    return named / float(counts[rows].sum())


def unexplained_where_both(model: FittedModel, sums: Sums) -> float | None:
    """How much of what two functions have in common, where both vote, a model that reads nothing in abstains leaves.

    As a share of the squared differences from independent votes, noise deducted. None where there is nothing to
    explain: functions that vote for one class each have nothing in common but where they vote.
    """
    counts, function = sums.voted.counts, sums.voted.columns // sums.voted.classes
    if counts is None or not len(function):
        return None
    others = function[:, None] != function[None, :]
    both = sums.voted.between_functions()[1][function][:, function]
    mu = model.mu.astype(np.float64)[sums.voted.columns]
    explained = portable.product(mu * model.class_balance, mu.T) * both
    starts = np.unique(function, return_index=True)[1]
    own = np.add.reduceat(counts, starts, axis=1)[:, np.cumsum(np.isin(np.arange(len(function)), starts)) - 1]
    independent = own * own.T / np.maximum(both, 1)
    noise = (counts * (1 - counts / np.maximum(both, 1)))[others].sum()
    whole = ((counts - independent)[others] ** 2).sum()
    if whole <= noise:
        return None
    return float(max(0.0, ((counts - explained)[others] ** 2).sum() - noise) / whole)


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
    if sums.voted.counts is None:
        return []
    classes = len(model.class_balance)
    mu = model.mu.astype(np.float64).reshape(-1, classes * classes)  # of each function: its votes, by class
    observed = sums.voted.between_functions()[0] / sums.rows
    explained = portable.product(mu * np.tile(model.class_balance, classes), mu.T)
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
    return portable.product(mu * model.class_balance, mu.T)


def _unexplained(model: FittedModel, sums: Sums) -> float:
    observed = sums.pairs / sums.rows
    alone = np.diag(observed)
    function = np.arange(len(alone)) // len(model.class_balance)
    others = function[:, None] != function[None, :]
    left = ((observed - _expected(model))[others] ** 2).sum()
    noise = (observed * (1 - observed))[others].sum() / sums.rows
    whole = ((observed - np.outer(alone, alone))[others] ** 2).sum()
    return float(max(0.0, left - noise) / whole) if whole else 0.0


def refined(model: FittedModel, patterns: Patterns) -> FittedModel:
    """The model after some steps of expectation maximization from where it stands (Dawid and Skene, 1979).

    Abstaining counts as an answer here, since the likelihood is that of the whole pattern; the class balance is free.
    """
    from scipy.sparse import csr_array

    classes = len(model.class_balance)
    most = np.sort(np.argsort(-patterns.counts, kind="stable")[:MOST])
    votes, counts = patterns.votes[most], patterns.counts[most].astype(np.float64)
    voted, abstained = indicators(votes, classes), csr_array((votes < 0).astype(np.float64))
    mu, balance = _inside(model.mu.astype(np.float64)), model.class_balance
    for _ in range(STEPS):
        share = _shares(voted, abstained, mu, balance) * counts[:, None]
        balance = _inside(share.sum(axis=0) / counts.sum())
        mu = _inside(voted.T @ share / np.maximum(share.sum(axis=0), FLOOR))
    return replace(model, mu=mu.astype(np.float32), class_balance=balance / balance.sum())


def _shares(voted: csr_array, abstained: csr_array, mu: Floats, balance: Floats) -> Floats:
    classes = len(balance)
    silent = _inside(1 - mu.reshape(-1, classes, classes).sum(axis=1))
    joint = voted @ log(mu) + abstained @ log(silent) + log(balance)
    shares: Floats = exp(joint - joint.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    return shares


def _inside(values: Floats) -> Floats:
    return np.clip(values, FLOOR, 1 - FLOOR)
