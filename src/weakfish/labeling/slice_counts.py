"""What labeling counts within slices: rows, votes, conflicts, probabilities, and labels against dev gold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import reduce
from operator import add
from typing import Any

import numpy as np
import numpy.typing as npt

from weakfish.contracts.gold import Confusion, Ints
from weakfish.contracts.tables import partitions, totals
from weakfish.labeling.dev_gold import decided, figures_of
from weakfish.labeling.label_model import Patterns, Probabilities
from weakfish.labeling.matrix import votes_of
from weakfish.project.paths import Project
from weakfish.rules.loading import load_slices, module_of
from weakfish.rules.slices import SLICES
from weakfish.rules.snorkel_functions import wrapped

Bools = npt.NDArray[np.bool_]


def members_of(project: Project, names: Sequence[str], partition: str, fingerprint: str | None = None) -> Bools:
    """Which rows of a partition are in which of these slices, (rows, slices).

    Raises `TableError` where votes are missing, cut off, or about other events than those whose keys have the
    ``fingerprint``, if there is one.
    """
    if not names:
        return np.zeros((0, 0), bool)
    read = votes_of(project, SLICES, names, partition)
    if fingerprint is not None:
        read.check(fingerprint)
    return read.votes >= 0


class Slices:
    """The slices of a project."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._functions = {name: voter.function for name, voter in load_slices(project).items()}
        self.names = list(self._functions)

    def everywhere(self) -> dict[str, Bools]:
        """Which rows of all partitions, in the order of their names, are in each slice."""
        parts = [
            members_of(self._project, self.names, partition) for partition in partitions(self._project.table("events"))
        ]
        return {name: np.concatenate([part[:, place] for part in parts]) for place, name in enumerate(self.names)}

    def summary(
        self, parts: Mapping[str, Sequence[SliceCounts]], functions: Sequence[str], classes: Sequence[str]
    ) -> dict[str, dict[str, Any]]:
        """By slice: what it is, its ``rows``, ``covered`` and ``conflicting`` ones, ``dev``, and ``by_partition``.

        ``parts`` are the counts of each partition, slice by slice.
        """
        found = {}
        for place, (name, function) in enumerate(self._functions.items()):
            own = totals({partition: of[place] for partition, of in parts.items()})
            whole = reduce(add, own.values())
            found[name] = {
                "module": module_of(function),
                "doc": " ".join((wrapped(function).__doc__ or "").split()),
                "rows": whole.rows,
                "covered": whole.covered,
                "conflicting": whole.conflicting,
                "dev": figures_of(whole.dev) if whole.dev.rows else None,
                "by_partition": [
                    {"partition": partition, **of.to_json(functions, classes)} for partition, of in own.items()
                ],
            }
        return found


@dataclass(frozen=True)
class SliceCounts:
    """Counts over rows of a slice; adds exactly but for ``total``.

    Attributes
    ----------
    covered, conflicting
        Rows on which any function votes; on which functions vote for different classes.
    total : numpy.ndarray, float64, (classes,)
        The sum of the probabilities of covered rows.
    votes : numpy.ndarray, int64, (functions, classes)
    conflicts : numpy.ndarray, int64, (functions,)
        Rows on which the function and another one vote for different classes.
    dev : Confusion
        The labels against dev gold.
    """

    rows: int
    covered: int
    conflicting: int
    total: npt.NDArray[np.float64]
    votes: Ints
    conflicts: Ints
    dev: Confusion

    @staticmethod
    def none(functions: int, classes: Sequence[str]) -> SliceCounts:
        """The counts of no row."""
        nothing = np.zeros(0, np.int64)
        zeros = np.zeros((functions, len(classes)), np.int64)
        return SliceCounts(0, 0, 0, np.zeros(len(classes)), zeros, zeros[:, 0], Confusion.of(nothing, nothing, classes))

    @staticmethod
    def each(
        members: Bools, patterns: Patterns, posterior: Probabilities, known: Bools, gold: Ints, classes: Sequence[str]
    ) -> Iterator[SliceCounts]:
        """The counts of a batch, slice by slice.

        Parameters
        ----------
        members
            Which rows are in which slice, (rows, slices).
        posterior, known
            By pattern: the probabilities, and whether rows of it have a label.
        gold
            The dev gold of each row, `UNKNOWN` where there is none.
        """
        voted = patterns.votes >= 0
        own = [patterns.votes == place for place in range(len(classes))]
        kinds = sum((of.any(axis=1).astype(np.int8) for of in own), np.zeros(len(voted), np.int8))
        covered, conflicting = kinds > 0, kinds > 1
        said = decided(posterior, known)
        for column in members.T:
            at = patterns.inverse[column]
            counts = np.bincount(at, minlength=len(voted)).astype(np.float64)  # whole numbers, added as floats by BLAS
            yield SliceCounts(
                int(column.sum()),
                int(counts[covered].sum()),
                int(counts[conflicting].sum()),
                (posterior * (counts * covered)[:, None]).sum(axis=0),
                np.stack([(counts @ of).astype(np.int64) for of in own], axis=1),
                (counts * conflicting @ voted).astype(np.int64),
                Confusion.of(gold[column], said[at], classes),
            )

    def __add__(self, other: SliceCounts) -> SliceCounts:
        return SliceCounts(*(getattr(self, each.name) + getattr(other, each.name) for each in fields(self)))

    def to_json(self, functions: Sequence[str], classes: Sequence[str]) -> dict[str, Any]:
        """The counts of a partition; ``mean`` is the mean probability of each class over covered rows."""
        mean = self.total / self.covered if self.covered else [None] * len(classes)
        return {
            "rows": self.rows,
            "covered": self.covered,
            "conflicting": self.conflicting,
            "mean": {name: None if share is None else float(share) for name, share in zip(classes, mean, strict=True)},
            "votes": dict(zip(functions, self.votes.tolist(), strict=True)),
            "conflicts": dict(zip(functions, self.conflicts.tolist(), strict=True)),
        }
