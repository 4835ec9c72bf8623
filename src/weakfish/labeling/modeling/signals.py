"""What tells, without gold, whether to trust the label model or the majority vote."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from weakfish.labeling.modeling.model import FittedModel, majority
from weakfish.labeling.modeling.patterns import Patterns
from weakfish.labeling.modeling.refined import refined
from weakfish.labeling.modeling.sums import Sums
from weakfish.labeling.modeling.ties import winners

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
class Signals:
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

    def to_json(self, names: list[str], losses: list[tuple[int, float]]) -> dict[str, Any]:
        """As the report has them, functions by name."""
        found = asdict(self)
        found["copies"] = [
            {"functions": [names[copy.first], names[copy.second]], "residual": copy.residual} for copy in self.copies
        ]
        return found | {"losses": [list(pair) for pair in losses]}


def signals(model: FittedModel, sums: Sums, patterns: Patterns) -> Signals:
    """The signals of a model fitted on ``sums``, with the patterns of the same rows."""
    patterns = patterns.in_order()
    voted = (patterns.votes >= 0).any(axis=1)
    votes, counts = patterns.votes[voted], patterns.counts[voted]
    posterior = model.posterior(votes)
    won = winners(posterior)

    def differing(other: Floats) -> float:
        return _share(~(won & winners(other)).any(axis=1), counts)

    return Signals(
        disagreement=differing(majority(votes, won.shape[1])),
        unexplained=_unexplained(model, sums),
        unstable=differing(refined(model, patterns).posterior(votes)),
        shift=float(np.abs(counts @ posterior / counts.sum() - model.class_balance).sum() / 2),
        sensitivity=max(differing(model.posterior(votes, shifted)) for shifted in _shifts(model)),
        converged=_converged(model.losses),
        copies=tuple(copies(model, sums)),
        at_clamp=_at_clamp(model, sums),
        voting=int((_per_function(model, sums) > 0).sum()),
    )


def copies(model: FittedModel, sums: Sums) -> list[Copy]:
    """Pairs that agree more than the model explains, worst first.

    The model explains ``sum_y mu_iy mu_jy p_y`` of ``O_ij``. What is observed beyond it, summed over the classes on
    which the two agree, is divided by the most that there could be: the coverage of the rarer one, less what is
    explained.
    """
    observed, explained = _agreement(sums.pairs / sums.rows, model), _explained(model)
    coverage = _per_function(model, sums) / sums.rows
    room = np.minimum(coverage[:, None], coverage[None, :]) - explained
    excess = observed - explained
    residual = np.divide(excess, room, out=np.zeros_like(excess), where=room > 0)
    error = np.sqrt(np.maximum(explained * (1 - explained), 1 / sums.rows) / sums.rows)
    either = coverage[:, None] + coverage[None, :] - observed
    alike = (residual > COPY) & (observed > COPY * either) & (excess > SURE * error)
    found = np.argwhere(np.triu(alike, 1))
    pairs = [Copy(int(i), int(j), float(residual[i, j])) for i, j in found]
    return sorted(pairs, key=lambda copy: (-copy.residual, copy.first, copy.second))


def _unexplained(model: FittedModel, sums: Sums) -> float:
    observed, mu = sums.pairs / sums.rows, model.mu.astype(np.float64)
    alone = np.diag(observed)
    function = np.arange(len(alone)) // len(model.class_balance)
    others = function[:, None] != function[None, :]
    left = ((observed - (mu * model.class_balance) @ mu.T)[others] ** 2).sum()
    noise = (observed * (1 - observed))[others].sum() / sums.rows
    whole = ((observed - np.outer(alone, alone))[others] ** 2).sum()
    return float(max(0.0, left - noise) / whole) if whole else 0.0


def _agreement(pairs: Floats, model: FittedModel) -> Floats:
    classes = len(model.class_balance)
    functions = len(pairs) // classes
    found: Floats = np.einsum("iaja->ij", pairs.reshape(functions, classes, functions, classes))
    return found


def _explained(model: FittedModel) -> Floats:
    mu = model.mu.astype(np.float64)
    return _agreement((mu * model.class_balance) @ mu.T, model)


def _per_function(model: FittedModel, sums: Sums) -> npt.NDArray[np.int64]:
    found: npt.NDArray[np.int64] = sums.votes.reshape(-1, len(model.class_balance)).sum(axis=1)
    return found


def _shifts(model: FittedModel) -> list[Floats]:
    found = []
    for label in range(len(model.class_balance)):
        for factor in ODDS:
            balance = model.class_balance.copy()
            balance[label] *= factor
            found.append(balance / balance.sum())
    return found


def _share(rows: Any, counts: npt.NDArray[np.int64]) -> float:
    return int(counts[rows].sum()) / max(1, int(counts.sum()))


def _converged(losses: list[tuple[int, float]]) -> bool:
    late = [loss for epoch, loss in losses if epoch >= 0.8 * losses[-1][0]]
    return max(late) - min(late) <= SETTLED * (max(loss for _, loss in losses) - min(late))


def _at_clamp(model: FittedModel, sums: Sums) -> int:
    eps = np.float32(min(0.01, 1 / 10 ** np.ceil(np.log10(sums.rows))))
    bound = (model.mu <= eps) | (model.mu >= 1 - eps)
    bound &= (sums.votes > 0)[:, None]
    return int(bound.reshape(-1, model.mu.shape[1] ** 2).any(axis=1).sum())
