"""How often two functions vote two classes on one row, of the votes that there are: most functions vote few classes."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from weakfish.contracts.votes_file import Votes

Counts = npt.NDArray[np.int64]
Bits = npt.NDArray[np.uint64]

MOST = 1 << 12
"""Votes (a function for a class) whose pairs are counted: 128 MB. With more, there are no counts of pairs."""

BLOCK, ROOM = 1 << 16, 1 << 12
"""Rows whose votes are counted at once, so that their bits stay in the processor's cache; fewer for more votes."""


@dataclass(frozen=True, eq=False)
class VotePairs:
    """Counts of votes and of pairs of them on one row; adds exactly, in any order.

    Attributes
    ----------
    functions, classes : int
    columns : numpy.ndarray, int64, (votes,)
        The votes that occur, each as ``function * classes + class``, in order.
    votes : numpy.ndarray, int64, (votes,)
        How often each does.
    counts : numpy.ndarray, int64, (votes, votes), or None
        How often two do on one row; None with more than `MOST` different ones.
    """

    functions: int
    classes: int
    columns: Counts
    votes: Counts
    counts: Counts | None

    @staticmethod
    def none(functions: int, classes: int) -> VotePairs:
        """Of no row."""
        nothing = np.zeros(0, np.int64)
        return VotePairs(functions, classes, nothing, nothing, np.zeros((0, 0), np.int64))

    @staticmethod
    def of(votes: Votes, classes: int) -> tuple[VotePairs, int]:
        """Of a label matrix (rows, functions), int8, and on how many rows any function votes.

        A vote is a column of bits, so that a pair is counted 64 rows at a time.
        """
        total, covered = VotePairs.none(votes.shape[1], classes), 0
        step = max(64, BLOCK * ROOM // max(ROOM, votes.shape[1] * classes))
        for start in range(0, len(votes), step):
            bits = _bits(votes[start : start + step], classes)
            columns = np.flatnonzero(bits.any(axis=1))
            total, bits = total + _counted(bits[columns], columns, total), bits[columns]
            covered += int(np.bitwise_count(np.bitwise_or.reduce(bits, axis=0)).sum(dtype=np.int64))
        return total, covered

    def __add__(self, other: VotePairs) -> VotePairs:
        if not len(self.columns) or not len(other.columns):
            return self if len(self.columns) else other
        columns = np.union1d(self.columns, other.columns)
        votes, counts = np.zeros(len(columns), np.int64), None
        if len(columns) <= MOST:
            counts = np.zeros((len(columns), len(columns)), np.int64)
        for each in (self, other):
            places = np.searchsorted(columns, each.columns)
            votes[places] += each.votes
            if counts is None or each.counts is None:
                continue
            if len(places) == len(columns):  # without a copy of all that was counted
                counts += each.counts
            else:
                counts[np.ix_(places, places)] += each.counts
        return replace(self, columns=columns, votes=votes, counts=counts)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, VotePairs):
            return NotImplemented
        mine, others = ((each.columns, each.votes, each.counts) for each in (self, other))
        return all(
            np.array_equal(a, b) if a is not None and b is not None else a is b
            for a, b in zip(mine, others, strict=True)
        )

    def dense(self) -> Counts:
        """All pairs, (functions * classes, functions * classes), the many zeros too."""
        found = np.zeros((self.functions * self.classes,) * 2, np.int64)
        found[np.ix_(self.columns, self.columns)] = self._known()
        return found

    def _known(self) -> Counts:
        if self.counts is None:
            raise ValueError(f"pairs of more than {MOST} votes are not counted")
        return self.counts

    def grouped(self, of: Counts, functions: int, classes: int) -> VotePairs:
        """Pairs of other votes, each the sum of some of these: ``of`` says of which (-1 for none), (votes,)."""
        order = np.argsort(of, kind="stable")[(of < 0).sum() :]
        columns, starts = np.unique(of[order], return_index=True)
        counts = self._known()[np.ix_(order, order)]
        for axis in (0, 1) if len(order) else ():
            counts = np.add.reduceat(counts, starts, axis=axis)
        return VotePairs(functions, classes, columns, np.diag(counts).copy(), counts)

    def between_functions(self) -> tuple[Counts, Counts]:
        """Rows on which two functions vote the same, and on which both vote, (functions, functions) each."""
        function, label = np.divmod(self.columns, self.classes)
        alike = replace(self, counts=self._known() * (label[:, None] == label))
        same, both = (each.grouped(function, self.functions, 1).dense() for each in (alike, self))
        return same, both


def _counted(bits: Bits, columns: Counts, like: VotePairs) -> VotePairs:
    """The pairs of some votes, of which ``bits`` says on which rows they are."""
    votes = np.bitwise_count(bits).sum(axis=1, dtype=np.int64)
    if len(columns) > MOST:
        return replace(like, columns=columns, votes=votes, counts=None)
    counts = np.zeros((len(columns), len(columns)), np.int64)
    for number, column in enumerate(bits):
        together = np.bitwise_count(column & bits[number:]).sum(axis=1, dtype=np.int64)
        counts[number, number:] = counts[number:, number] = together
    return replace(like, columns=columns, votes=votes, counts=counts)


def _bits(votes: Votes, classes: int) -> Bits:
    """On which rows each function votes each class, (functions * classes, rows / 64), filled up with zeros."""
    columns = np.ascontiguousarray(votes.T)
    words = -(-len(votes) // 64)
    found = np.zeros((votes.shape[1], classes, words * 8), np.uint8)
    for label in range(classes):
        packed = np.packbits(columns == label, axis=1)
        found[:, label, : packed.shape[1]] = packed
    return found.reshape(-1, words * 8).view(np.uint64)
