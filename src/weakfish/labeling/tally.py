"""Votes counted over rows: all that label models, their signals and the report know of a label matrix."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from weakfish.contracts.votes_file import Votes
from weakfish.files import read_arrays, write_arrays
from weakfish.labeling.label_model import Patterns, Sums, batches
from weakfish.labeling.vote_pairs import Counts, VotePairs

Bools = npt.NDArray[np.bool_]
Matrix = npt.NDArray[np.int64]

COUNTED = ("overlaps", "conflicts", "others")
"""The fields of a tally that are arrays themselves."""

ROOM = 1 << 26
"""Votes by class that are looked at together; fewer patterns at once where functions and classes are many."""


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
        step = max(1, ROOM // ((votes.shape[1] + cardinality) * (cardinality + 1)))
        for rows, patterns in batches(votes) if known is None else known:
            for start in range(0, len(patterns.counts), step):
                block = slice(start, start + step)
                counted = _against_others(patterns.votes[block], patterns.counts[block], cardinality)
                for whole, part in zip((total.overlaps, total.conflicts, total.others), counted, strict=True):
                    whole += part
            total = replace(
                total,
                sums=total.sums + Sums.of(votes[rows], cardinality),
                patterns=total.patterns + patterns,
            )
        return total

    @staticmethod
    def none(functions: int, cardinality: int) -> VoteTally:
        """The tally of no row."""
        overlaps, conflicts = np.zeros((2, functions), np.int64)
        others = np.zeros((functions, cardinality + 1, cardinality), np.int64)
        return VoteTally(Sums.none(functions, cardinality), Patterns.none(functions), overlaps, conflicts, others)

    @staticmethod
    def total(parts: Iterable[VoteTally], functions: int, cardinality: int) -> VoteTally:
        """The tally of several partitions."""
        return sum(parts, VoteTally.none(functions, cardinality))

    def write(self, file: Path) -> None:
        """Write the tally for another process, each array in the narrowest integers that hold it."""
        sums, pairs = self.sums, self.sums.voted
        of = [sums.rows, sums.covered, pairs.functions, pairs.classes]
        arrays = {"of": np.array(of), "columns": pairs.columns, "voted": pairs.votes}
        arrays |= {} if pairs.counts is None else {"pairs": pairs.counts}
        arrays |= {"counts": self.patterns.counts}
        arrays |= {name: getattr(self, name) for name in COUNTED}
        narrow = {name: array.astype(np.min_scalar_type(array.max(initial=0))) for name, array in arrays.items()}
        write_arrays(file, **narrow | {"patterns": self.patterns.votes})

    @staticmethod
    def read(file: Path) -> VoteTally:
        """The tally that `write` wrote."""
        stored = read_arrays(file)
        patterns = stored.pop("patterns")
        found = {name: array.astype(np.int64) for name, array in stored.items()}
        rows, covered, functions, classes = found["of"].tolist()
        voted = VotePairs(functions, classes, found["columns"], found["voted"], found.get("pairs"))
        counted = (found[name] for name in COUNTED)
        return VoteTally(Sums(rows, voted, covered), Patterns(patterns, found["counts"]), *counted)

    @property
    def nbytes(self) -> int:
        """What it takes in memory, about."""
        arrays = (self.sums.voted.counts, self.patterns.votes, self.patterns.counts, self.others)
        return sum(array.nbytes for array in arrays if array is not None)

    def __add__(self, other: VoteTally) -> VoteTally:
        return VoteTally(*(getattr(self, each.name) + getattr(other, each.name) for each in fields(self)))


def _against_others(votes: Votes, counts: Counts, cardinality: int) -> tuple[Counts, Counts, Counts]:
    """What `VoteTally` has of patterns of a batch: overlaps, conflicts and others."""
    own = [votes == label for label in range(cardinality)]
    by_class = np.stack([voted.sum(axis=1) for voted in own], axis=1)
    several = np.stack([by_class.sum(axis=1) > 1, (by_class > 0).sum(axis=1) > 1])
    overlaps, conflicts = _counted(several, counts, votes >= 0)
    alike = np.eye(cardinality + 1, cardinality, dtype=np.int64)
    others = [
        _counted(_leading(by_class - one), counts, voted).T for one, voted in zip(alike, [*own, votes < 0], strict=True)
    ]
    return overlaps, conflicts, np.stack(others, axis=1)


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
