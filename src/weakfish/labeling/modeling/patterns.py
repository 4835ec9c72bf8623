"""Distinct vote patterns: on most data far fewer than rows, so what is computed once per pattern is nearly free."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from weakfish.labeling.votes_file import ABSTAIN, Votes

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
