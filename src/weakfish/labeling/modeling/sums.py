"""The sums that a label model needs: integers that add over partitions, whatever the number of rows.

``LabelModel.fit`` sees the votes only through the number of rows and ``G = L_ind.T @ L_ind``, how often each pair of
votes falls on one row. So partitions are added and taken away exactly, and a fit costs the same for a thousand rows as
for a billion.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from weakfish.labeling.modeling.patterns import Counts
from weakfish.labeling.votes_file import Votes

BLOCK = 1 << 16
"""Rows whose votes are counted at once: their bits stay in the processor's cache."""


@dataclass(frozen=True, eq=False)
class Sums:
    """Sums over the rows of a label matrix.

    Attributes
    ----------
    rows : int
    pairs : numpy.ndarray, int64, (functions * classes, functions * classes)
        At ``[i * classes + a, j * classes + b]`` the rows on which function i votes a and function j votes b.
    covered : int
        Rows on which any function votes.
    """

    rows: int
    pairs: Counts
    covered: int

    @staticmethod
    def of(votes: Votes, cardinality: int) -> Sums:
        """The sums of a label matrix (rows, functions), int8, block by block.

        A vote of a function for a class is a column of bits, so that a pair is counted 64 rows at a time.
        """
        total = Sums.none(votes.shape[1], cardinality)
        for start in range(0, len(votes), BLOCK):
            total += Sums._of_block(votes[start : start + BLOCK], cardinality)
        return total

    @staticmethod
    def _of_block(votes: Votes, cardinality: int) -> Sums:
        bits = _bits(votes, cardinality)
        pairs = np.zeros((len(bits), len(bits)), np.int64)
        for number, column in enumerate(bits):
            pairs[number, number:] = np.bitwise_count(column & bits[number:]).sum(axis=1, dtype=np.int64)
        pairs += np.triu(pairs, 1).T
        covered = np.bitwise_count(np.bitwise_or.reduce(bits, axis=0)).sum(dtype=np.int64)
        return Sums(len(votes), pairs, int(covered))

    @staticmethod
    def none(functions: int, cardinality: int) -> Sums:
        """The sums of no row."""
        return Sums(0, np.zeros((functions * cardinality,) * 2, np.int64), 0)

    @property
    def votes(self) -> Counts:
        """How often each function votes each class, flat, (functions * classes,)."""
        return np.diag(self.pairs).copy()

    def __add__(self, other: Sums) -> Sums:
        return Sums(self.rows + other.rows, self.pairs + other.pairs, self.covered + other.covered)

    def __sub__(self, other: Sums) -> Sums:
        return Sums(self.rows - other.rows, self.pairs - other.pairs, self.covered - other.covered)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sums):
            return NotImplemented
        same = (self.rows, self.covered) == (other.rows, other.covered)
        return same and np.array_equal(self.pairs, other.pairs)


def _bits(votes: Votes, cardinality: int) -> npt.NDArray[np.uint64]:
    """`indicators` as bits, (functions * classes, rows / 64), filled up with zeros."""
    columns = np.ascontiguousarray(votes.T)
    words = -(-len(votes) // 64)
    found = np.zeros((votes.shape[1], cardinality, words * 8), np.uint8)
    for label in range(cardinality):
        packed = np.packbits(columns == label, axis=1)
        found[:, label, : packed.shape[1]] = packed
    return found.reshape(-1, words * 8).view(np.uint64)


def indicators(votes: Votes, cardinality: int) -> npt.NDArray[np.float64]:
    """``L_ind``, (rows, functions * classes): 1 where the function of a column votes its class, else 0."""
    found = np.zeros((len(votes), votes.shape[1] * cardinality))
    for label in range(cardinality):
        found[:, label::cardinality] = votes == label
    return found
