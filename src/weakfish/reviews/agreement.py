"""How far reviewers agree beyond chance, and the rows on which they do not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from weakfish.contracts.gold import UNKNOWN

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Agreement:
    """How reviewers agree on the rows that two of them at least have answered.

    Attributes
    ----------
    reviewers, rows : int
    same : float
        Of two answers to a row, how often they are the same.
    kappa : float or None
        Cohen's of two reviewers, Fleiss' of more. None where that is not defined: rows have different numbers of
        answers, or all answers are one class, so that chance alone would agree.
    alpha : float or None
        Krippendorff's, for classes without an order; rows may have any number of answers. None as before.
    disputed : tuple of int
        Rows with different answers, by their places.
    """

    reviewers: int
    rows: int
    same: float
    kappa: float | None
    alpha: float | None
    disputed: tuple[int, ...]

    @classmethod
    def of(cls, answers: Ints, classes: int) -> Agreement | None:
        """That of answers (rows, reviewers), `UNKNOWN` where there is none; None where no row has two."""
        places = np.flatnonzero((answers != UNKNOWN).sum(axis=1) >= 2)
        both = answers[places]
        both = both[:, (both != UNKNOWN).any(axis=0)]
        if not len(places):
            return None
        counts = counts_of(both, classes)
        kappa = cohen(both[:, 0], both[:, 1], classes) if both.shape[1] == 2 else fleiss(counts)
        disputed = tuple(places[(counts > 0).sum(axis=1) > 1].tolist())
        same = float(_agreeing(counts).sum() / _pairs(counts).sum())
        return cls(both.shape[1], len(places), same, kappa, krippendorff(counts), disputed)

    def to_json(self) -> dict[str, Any]:
        """For a file; of the disputed rows their number."""
        numbers = {name: getattr(self, name) for name in ("same", "kappa", "alpha")}
        found = {name: value if value is None else round(value, 4) for name, value in numbers.items()}
        return {"reviewers": self.reviewers, "rows": self.rows, **found, "disputed": len(self.disputed)}


def counts_of(answers: Ints, classes: int) -> Ints:
    """How many answers of each class a row has, (rows, classes), of answers (rows, reviewers)."""
    return np.stack([(answers == place).sum(axis=1) for place in range(classes)], axis=1).astype(np.int64)


def cohen(one: Ints, other: Ints, classes: int) -> float | None:
    """Cohen's kappa (1960) of two reviewers' answers to the same rows; None where both always name one class."""
    table = np.zeros((classes, classes))
    np.add.at(table, (one, other), 1)
    shares = table / max(table.sum(), 1)
    return _beyond(float(np.trace(shares)), float(shares.sum(axis=0) @ shares.sum(axis=1)))


def fleiss(counts: Ints) -> float | None:
    """Fleiss' kappa (1971) of counts (rows, classes); None unless all rows have the same number of answers."""
    answers = counts.sum(axis=1)
    if not len(counts) or answers.min() != answers.max() or answers[0] < 2:
        return None
    shares = counts.sum(axis=0) / counts.sum()
    return _beyond(float((_agreeing(counts) / _pairs(counts)).mean()), float(shares @ shares))


def krippendorff(counts: Ints) -> float | None:
    """Krippendorff's alpha (2011) of counts (rows, classes), for classes without an order.

    A row with one answer says nothing of agreement and is left out.
    """
    counts = counts[counts.sum(axis=1) >= 2]
    total = counts.sum(axis=0)
    answers = int(total.sum())
    if not answers:
        return None
    agreeing = float((_agreeing(counts) / (counts.sum(axis=1) - 1)).sum() / answers)
    return _beyond(agreeing, float((total * (total - 1)).sum() / (answers * (answers - 1))))


def _agreeing(counts: Ints) -> Ints:
    """Of each row the ordered pairs of answers that are the same."""
    found: Ints = (counts * (counts - 1)).sum(axis=1)
    return found


def _pairs(counts: Ints) -> Ints:
    answers = counts.sum(axis=1)
    found: Ints = answers * (answers - 1)
    return found


def _beyond(agreed: float, by_chance: float) -> float | None:
    return None if by_chance > 1 - 1e-12 else (agreed - by_chance) / (1 - by_chance)
