"""What tells, without gold labels, how far a fitted label model can be trusted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from weakfish.labeling.kinship import Kinship
from weakfish.labeling.label_model import FittedModel, Patterns, Sums, majority, refined, winners

Floats = npt.NDArray[np.float64]

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
