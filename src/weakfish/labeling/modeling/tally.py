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
    """

    sums: Sums
    patterns: Patterns
    overlaps: Counts
    conflicts: Counts

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
        return Tally(Sums.none(functions, cardinality), empty, zeros, zeros)

    @staticmethod
    def total(parts: Iterable[Tally], functions: int, cardinality: int) -> Tally:
        """The tally of several partitions."""
        return sum(parts, Tally.none(functions, cardinality))

    @staticmethod
    def _of_batch(sums: Sums, patterns: Patterns, cardinality: int) -> Tally:
        votes = patterns.votes
        voted = votes >= 0
        classes = sum((votes == label).any(axis=1).astype(np.int64) for label in range(cardinality))
        overlaps = _weighted(voted & (voted.sum(axis=1) > 1)[:, None], patterns.counts)
        conflicts = _weighted(voted & (np.asarray(classes) > 1)[:, None], patterns.counts)
        return Tally(sums, patterns, overlaps, conflicts)

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.sums + other.sums,
            self.patterns + other.patterns,
            self.overlaps + other.overlaps,
            self.conflicts + other.conflicts,
        )


def _weighted(rows: npt.NDArray[np.bool_], counts: Counts) -> Counts:
    found: Counts = counts @ rows
    return found
