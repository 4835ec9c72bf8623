"""How precise a rule is: estimates from the probabilities of labels, without gold, each with a lower bound.

A row's probability says how strongly its votes speak for a class. The rows on which a rule holds are a mixture of the
class and the rest; the share of the class in it, which is the rule's precision, is what explains those votes best
(maximum likelihood as in Saerens, Latinne and Decaestecker 2002, here with a whole posterior over a grid). Rows with
few votes count most, since they are most like rows without any, and must not contradict what all rows say. What remains
of the difference is corrected for once more: how often all candidates hold on the target rows says which class balance
these have. Undecided rows look alike to the functions whatever their class, so decided ones say too little of them:
there their own few votes, too, must not contradict, and no estimate is above the mean probability of the decided rows.

Not corrected for: rules that depend on the existing functions given the class, and labels that are wrong where votes
are many. Both make estimates too good; nothing but gold shows it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.sparse import csc_matrix, csr_matrix, hstack  # type: ignore[import-untyped]

Floats = npt.NDArray[np.float64]

GRID: Floats = np.linspace(0.0025, 0.9975, 200)
"""Precisions that are compared."""

FADING = 0.7
"""What a row counts for with each more vote: rows with one vote count fully."""

FEW_VOTES = 2
"""Rows with at most so many votes must bear an estimate out: a rule that is right only where many functions say so
anyway is wrong where none does."""

STRENGTH = 4.0
"""Rows that a prior is worth, which expects of a rule what holds of all rows, and of it where votes are few what holds
of it everywhere."""

PULL = 10.0
"""Rows that the class balance of covered rows is worth where that of target rows is estimated."""

EXPLAINED = 2.0
"""How many times more, or fewer, votes of a function there may be on a candidate's rows than their classes explain."""

SURE = 0.995
"""The most that a single row's probability may say: a label model that is certain is still wrong at times."""

LEVEL = 0.1
"""The chance, by the posterior, that a precision lies below its lower bound."""

AT_ONCE = 4_096
"""Candidates whose posteriors are in memory at once."""


@dataclass(frozen=True)
class Evidence:
    """The rows with labels: what each says, and how much it counts.

    Attributes
    ----------
    probabilities : numpy.ndarray, float64, (rows, classes)
    weights : numpy.ndarray, float64, (rows,)
    said : scipy.sparse.csr_matrix, (rows, functions times classes)
        Where which function votes for which class.
    balance : numpy.ndarray, float64, (classes,)
        What the probabilities would be without votes.
    own : numpy.ndarray, float64, (rows,), or None
        The weights of rows that are targets themselves, and count for nothing otherwise. They must bear estimates out,
        and these are never above the mean probability of the other rows.
    """

    probabilities: Floats
    weights: Floats
    said: csr_matrix
    balance: Floats
    own: Floats | None = None

    @staticmethod
    def of(
        probabilities: Floats,
        by_function: npt.NDArray[np.int8],
        balance: Floats,
        own: npt.NDArray[np.bool_] | None = None,
    ) -> Evidence:
        """The evidence of rows with the votes ``by_function``, (rows, functions), each row with one or more.

        ``own`` says which rows are the targets themselves; None where none is.
        """
        votes = (by_function >= 0).sum(axis=1)
        said = [csr_matrix(by_function == label, dtype=np.float32) for label in range(len(balance))]
        weights: Floats = np.power(FADING, votes - 1.0)
        if own is None:
            return Evidence(probabilities, weights, hstack(said).tocsr(), balance)
        return Evidence(probabilities, weights * ~own, hstack(said).tocsr(), balance, weights * own)


@dataclass(frozen=True)
class Precision:
    """What candidates, or rules, are worth for one class.

    Attributes
    ----------
    estimate, low : numpy.ndarray, float64, (candidates,)
        The expected share of the class among target rows on which each holds, and its lower bound.
    share, target_share : float
        The share of the class among rows like the target rows, and among the target rows themselves.
    """

    estimate: Floats
    low: Floats
    share: float
    target_share: float

    def enough(self, wanted: float) -> npt.NDArray[np.bool_]:
        """Where the estimate reaches ``wanted``, and the error is at most half of that of always saying the class."""
        found: npt.NDArray[np.bool_] = self.estimate >= max(wanted, 1 - (1 - self.share) / 2)
        return found


def precision(
    evidence: Evidence, holds: csc_matrix, label: int, targets: Floats, rows: int, there: float | npt.NDArray[np.bool_]
) -> Precision:
    """The precision of candidates for the class ``label``.

    Parameters
    ----------
    holds
        Where each candidate holds, (rows of the evidence, candidates).
    targets
        On how many of the target rows each candidate holds.
    rows
        How many target rows there are.
    there
        The share of the class among target rows; or which candidates it is to be estimated from (`untangled`).
    """
    estimate, low, weights, share = _judged(evidence, holds, label)
    rates = weights / max(float(evidence.weights.sum()), 1e-9)
    few = replace(evidence, weights=evidence.weights * (evidence.said.sum(axis=1).A1 <= FEW_VOTES))
    among_few, *_ = _judged(few, holds, label, estimate)
    if not isinstance(there, float):
        there = balance_of_targets(estimate[there], rates[there], share, targets[there], rows)
    least = np.minimum(estimate, among_few)
    if evidence.own is not None:
        themselves, *_ = _judged(replace(evidence, weights=evidence.own), holds, label, estimate)
        least = np.minimum.reduce([least, themselves, _mean_probability(evidence, holds, label)])
    return Precision(_moved(least, share, there), _moved(np.minimum(low, least), share, there), share, there)


def _judged(
    evidence: Evidence, holds: csc_matrix, label: int, expected: Floats | None = None
) -> tuple[Floats, Floats, Floats, float]:
    """Of each candidate the precision on the evidence, its lower bound, the weight of its rows; the class's share.

    ``expected`` is what the prior expects of each; None for the class's share.
    """
    counts, said = _binned(evidence, label)
    share = float(GRID[np.argmax(counts.sum(axis=1).A1 @ said)])
    priors = _prior(np.full(holds.shape[1], share) if expected is None else expected)
    estimates, lows, weights = [np.empty(0)], [np.empty(0)], [np.empty(0)]
    for start in range(0, holds.shape[1], AT_ONCE):
        seen = np.asarray((counts @ holds[:, start : start + AT_ONCE]).todense()).T
        estimate, low = _posterior(seen @ said + priors[start : start + AT_ONCE])
        estimates.append(estimate)
        lows.append(low)
        weights.append(seen.sum(axis=1))
    return np.concatenate(estimates), np.concatenate(lows), np.concatenate(weights), share


def _prior(expected: Floats) -> Floats:
    """Logarithms of beta densities with these means, (candidates, grid)."""
    mean = np.clip(expected, GRID[0], GRID[-1])[:, None]
    found: Floats = (STRENGTH * mean - 1) * np.log(GRID) + (STRENGTH * (1 - mean) - 1) * np.log(1 - GRID)
    return found


def _mean_probability(evidence: Evidence, holds: csc_matrix, label: int) -> Floats:
    """What the labels themselves say of the rows on which each candidate holds, 0 where there are none."""
    weights = holds.T @ evidence.weights
    found: Floats = (holds.T @ (evidence.weights * evidence.probabilities[:, label])) / np.maximum(weights, 1e-9)
    return found


def balance_of_targets(estimate: Floats, rates: Floats, share: float, targets: Floats, rows: int) -> float:
    """The share of a class among target rows, at which candidates hold there as often as they do.

    Each candidate holds on a share of the class's rows and on a share of the others, and so says which balance mixes
    these into what is seen of it, weighted by how well it tells classes apart. They disagree, since new subjects bring
    new words whatever the class. So only what three quarters of the weight agree on moves ``share``, and the less the
    fewer target rows there are.
    """
    if not rows or not len(estimate):
        return share
    seen = targets / rows
    inside, outside = estimate * rates / share, (1 - estimate) * rates / (1 - share)
    differ = inside - outside
    weights = differ * differ / (seen * (1 - seen) + 0.01)
    if not weights.sum() > 0:
        return share
    said = (seen - outside) / np.where(differ == 0, 1, differ)
    order = np.argsort(said, kind="stable")
    running = weights[order].cumsum() / weights.sum()
    low, high = (float(said[order][np.searchsorted(running, part)]) for part in (0.25, 0.75))
    found = min(max(share, low), high)
    return (float(np.clip(found, 0.02, 0.98)) * rows + share * PULL) / (rows + PULL)


def untangled(evidence: Evidence, holds: csc_matrix) -> npt.NDArray[np.bool_]:
    """Candidates on whose rows no function votes far more or less often than the rows' classes explain.

    Others say over again what a function looks for, which rows without votes lack, or have, whatever their class.
    """
    chances, said = evidence.probabilities, evidence.said
    rates = (said.T @ chances / np.maximum(chances.sum(axis=0), 1e-9)).T
    found = [np.zeros(0, np.bool_)]
    for start in range(0, holds.shape[1], AT_ONCE):
        some = holds[:, start : start + AT_ONCE]
        seen, expected = (some.T @ said).toarray(), (some.T @ chances) @ rates
        far = (seen > EXPLAINED * expected) | (seen * EXPLAINED < expected)
        found.append((far & (np.abs(seen - expected) > 3 * np.sqrt(expected + 1))).any(axis=1))
    return ~np.concatenate(found)


def _binned(evidence: Evidence, label: int) -> tuple[csr_matrix, Floats]:
    """Rows' weights by what they say of the class (bins, rows), and the logarithms of what a bin says (bins, grid).

    Probabilities are taken back to what the votes alone say, then held below `SURE`.
    """
    prior = float(np.clip(evidence.balance[label], 1e-6, 1 - 1e-6))
    given = np.clip(evidence.probabilities[:, label], 1e-9, 1 - 1e-9)
    odds = given / (1 - given) * (1 - prior) / prior
    spoken = np.round(np.clip(odds / (1 + odds), 1 - SURE, SURE), 2).clip(1 - SURE, SURE)
    values, bins = np.unique(spoken, return_inverse=True)
    shape = (len(values), len(spoken))
    counts = csr_matrix((evidence.weights, (bins.ravel(), np.arange(len(spoken)))), shape=shape)
    return counts, np.log(np.outer(values, GRID) + np.outer(1 - values, 1 - GRID))


def _posterior(logarithms: Floats) -> tuple[Floats, Floats]:
    """The mean and the lower bound of posteriors over the grid, (candidates, grid)."""
    chances = np.exp(logarithms - logarithms.max(axis=1, keepdims=True))
    chances /= chances.sum(axis=1, keepdims=True)
    low = GRID[(chances.cumsum(axis=1) > LEVEL).argmax(axis=1)]
    return chances @ GRID, low


def _moved(precision: Floats, share: float, there: float) -> Floats:
    """Precision where the class's share is ``there`` instead of ``share``; only ever lower, in case that is wrong."""
    factor = min(1.0, there / (1 - there) * (1 - share) / share)
    odds = precision / (1 - precision) * factor
    moved: Floats = odds / (1 + odds)
    return moved
