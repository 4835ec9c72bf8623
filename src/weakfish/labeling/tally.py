"""Votes counted over rows: all that label models, their signals and the report know of a label matrix."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from weakfish.contracts.votes_file import Votes
from weakfish.labeling.label_model import Patterns, Sums, batches
from weakfish.labeling.vote_pairs import Counts

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
