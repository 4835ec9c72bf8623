"""What one partition of votes adds up to, so that a task is the sum of its partitions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from weakfish.labeling.modeling.model import batches
from weakfish.labeling.modeling.patterns import Counts, Patterns
from weakfish.labeling.modeling.sums import Sums
from weakfish.labeling.votes_file import Votes

Bools = npt.NDArray[np.bool_]
Matrix = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Tally:
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
    def of(votes: Votes, cardinality: int) -> Tally:
        """The tally of a label matrix (rows, functions), batch by batch."""
        total = Tally.none(votes.shape[1], cardinality)
        for rows, patterns in batches(votes):
            total += Tally._of_batch(Sums.of(votes[rows], cardinality), patterns, cardinality)
        return total

    @staticmethod
    def none(functions: int, cardinality: int) -> Tally:
        """The tally of no row."""
        zeros = np.zeros(functions, np.int64)
        empty = Patterns(np.empty((0, functions), np.int8), zeros[:0])
        others = np.zeros((functions, cardinality + 1, cardinality), np.int64)
        return Tally(Sums.none(functions, cardinality), empty, zeros, zeros, others)

    @staticmethod
    def total(parts: Iterable[Tally], functions: int, cardinality: int) -> Tally:
        """The tally of several partitions."""
        return sum(parts, Tally.none(functions, cardinality))

    @staticmethod
    def _of_batch(sums: Sums, patterns: Patterns, cardinality: int) -> Tally:
        own = [patterns.votes == label for label in range(cardinality)]
        by_class = np.stack([voted.sum(axis=1) for voted in own], axis=1)
        several = np.stack([by_class.sum(axis=1) > 1, (by_class > 0).sum(axis=1) > 1])
        overlaps, conflicts = _counted(several, patterns.counts, patterns.votes >= 0)
        leading = [_leading(by_class - alike) for alike in np.eye(cardinality + 1, cardinality, dtype=np.int64)]
        kinds = zip(leading, [*own, patterns.votes < 0], strict=True)
        others = np.stack([_counted(lead, patterns.counts, voted).T for lead, voted in kinds], axis=1)
        return Tally(sums, patterns, overlaps, conflicts, others)

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.sums + other.sums,
            self.patterns + other.patterns,
            self.overlaps + other.overlaps,
            self.conflicts + other.conflicts,
            self.others + other.others,
        )


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
