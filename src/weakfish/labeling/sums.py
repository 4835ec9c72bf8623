"""The sums that a label model needs: integers that add over partitions, whatever the number of rows.

``LabelModel.fit`` sees the votes only through the number of rows and ``G = L_ind.T @ L_ind``, how often each pair of
votes falls on one row. So partitions are added and taken away exactly, and a fit costs the same for a thousand rows as
for a billion.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from weakfish.contracts.votes_file import ABSTAIN, Votes

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


Counts = npt.NDArray[np.int64]

BATCH = 1 << 18
"""Rows that are looked at together: arrays of this length stay small, and calls on them few."""

PROBE = 1 << 13
"""Rows of a batch that are tried first: where most of them differ from each other, patterns do not collapse."""

LIMIT = 1 << 16
"""Patterns that are kept of a whole table; with more, a sample of them."""


@dataclass(frozen=True)
class Patterns:
    """Vote patterns and how many rows have each.

    Attributes
    ----------
    votes : numpy.ndarray, int8, (patterns, functions)
    counts : numpy.ndarray, int64, (patterns,)
    inverse : numpy.ndarray, integers, (rows,)
        The pattern of each row of the batch; empty where patterns came from several.
    """

    votes: Votes
    counts: Counts
    inverse: npt.NDArray[np.integer] = field(default_factory=lambda: np.zeros(0, np.int64))

    @staticmethod
    def of(votes: Votes) -> Patterns:
        """The distinct patterns of a batch by their first rows; all rows as they are where patterns do not collapse."""
        if not len(votes) or not _collapses(votes):
            return Patterns(votes, np.ones(len(votes), np.int64), np.arange(len(votes)))
        inverse = _numbers(votes)
        rows = np.arange(len(votes))
        first = np.empty(inverse.max() + 1, np.int64)
        first[inverse[::-1]] = rows[::-1]
        return Patterns(np.asarray(votes[first]), np.bincount(inverse).astype(np.int64), inverse)

    def in_order(self) -> Patterns:
        """The same patterns in an order that does not depend on where they came from."""
        order = np.lexsort(self.votes.T[::-1])
        return Patterns(self.votes[order], self.counts[order])

    def __add__(self, other: Patterns) -> Patterns:
        """The patterns of both; above `LIMIT` a sample of them that does not depend on the order of adding."""
        votes = np.concatenate([self.votes, other.votes])
        counts = np.concatenate([self.counts, other.counts])
        inverse = _numbers(votes) if len(votes) else np.zeros(0, np.int32)
        first = np.zeros(inverse.max(initial=-1) + 1, np.int64)
        first[inverse[::-1]] = np.arange(len(votes))[::-1]
        total = np.zeros(len(first), np.int64)
        np.add.at(total, inverse, counts)
        return _thinned(Patterns(votes[first], total))


def _collapses(votes: Votes) -> bool:
    probe = votes[:PROBE]
    return len(probe) < PROBE or int(_numbers(probe).max()) + 1 <= len(probe) // 2


def _numbers(votes: Votes) -> npt.NDArray[np.int32]:
    """The number of each row's pattern, by first appearance; read as digits of a code for as long as it fits."""
    base = int(votes.max()) + 2
    codes, room = np.zeros(len(votes), np.uint64), 1
    for column in votes.T:
        if room * base >= 1 << 64:
            codes = _ranks(codes).astype(np.uint64)
            room = int(codes.max()) + 1
        codes *= np.uint64(base)
        codes += (column - ABSTAIN).astype(np.uint64)
        room *= base
    return _ranks(codes)


def _ranks(codes: npt.NDArray[np.uint64]) -> npt.NDArray[np.int32]:
    ranks: npt.NDArray[np.int32] = pa.array(codes).dictionary_encode().indices.to_numpy()
    return ranks


def _thinned(patterns: Patterns) -> Patterns:
    """At most `LIMIT` patterns: those with the smallest hashes, whatever the order in which they came."""
    if len(patterns.counts) <= LIMIT:
        return patterns
    hashes = np.zeros(len(patterns.counts), np.uint64)
    for column in patterns.votes.T:
        hashes = (hashes ^ (column - ABSTAIN).astype(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
        hashes ^= hashes >> np.uint64(29)
    kept = np.sort(np.argsort(hashes, kind="stable")[:LIMIT])
    return Patterns(patterns.votes[kept], patterns.counts[kept])
