"""The known rows of a task's events, partition by partition, and what of them a fit may know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from weakfish.contracts.gold import UNKNOWN
from weakfish.contracts.tables import is_dated, partition_span
from weakfish.files import read_arrays, write_arrays
from weakfish.labeling.dev_gold import FOREVER, known_labels, microseconds
from weakfish.labeling.known import KnownVotes
from weakfish.labeling.matrix import LabelMatrix
from weakfish.labeling.reading import parts_of
from weakfish.labeling.row_reader import Ints
from weakfish.project.paths import Project


@dataclass(frozen=True)
class KnownRows:
    """The known rows of a partition: what votes learn from, since when each is known, and where it stands."""

    known: KnownVotes
    since: Ints
    rows: Ints

    @staticmethod
    def of(project: Project, task: str, partition: str, matrix: LabelMatrix, gold: str | None) -> KnownRows:
        """Those of a partition, given its votes; ``gold`` is the partition in which its gold lies, see `gold_place`."""
        classes, since = known_labels(project, task, gold, matrix.keys, matrix.times)
        places = np.flatnonzero(classes != UNKNOWN)
        parts = parts_of(project, project.task(task).label_model, partition, matrix.keys, places)
        return KnownRows(KnownVotes(matrix.votes[places], classes[places], parts), since[places], places)

    def write(self, file: Path) -> None:
        """Write them for another process."""
        write_arrays(file, since=self.since, rows=self.rows, **vars(self.known))

    @staticmethod
    def read(file: Path) -> KnownRows:
        """What `write` wrote."""
        found = read_arrays(file)
        since, rows = found.pop("since"), found.pop("rows")
        return KnownRows(KnownVotes(**found), since, rows)

    def within(self, place: slice) -> tuple[Ints, Ints, Ints]:
        """Of the known rows of a part of the partition: where they stand in it, their classes, and their parts."""
        here = (self.rows >= place.start) & (self.rows < place.stop)
        return self.rows[here] - place.start, self.known.classes[here], self.known.parts[here]


class TaskEvidence:
    """What labels are known of the events of a task that says so.

    Attributes
    ----------
    of : dict of str to KnownRows
        By partition, of those that were added.
    """

    def __init__(self, project: Project, task: str) -> None:
        self.project, self.task, self.settings, self.functions = project, task, project.task(task), 0
        self.of: dict[str, KnownRows] = {}

    def add(self, partition: str, rows: KnownRows) -> None:
        """Keep the known rows of a partition."""
        self.of[partition], self.functions = rows, rows.known.votes.shape[1]

    def by(self, time: int, seen: Sequence[str]) -> KnownVotes:
        """The rows of these partitions that were known before a time (microseconds since 1970)."""
        early = [self.of[name].known.at(self.of[name].since < time) for name in seen]
        return KnownVotes.together(early, self.functions)

    def end(self, seen: Sequence[str]) -> int:
        """When a fit on these partitions is made: after the last of them, or after all times where it sees all."""
        if self.settings.label_model.refit == "always" or not is_dated(seen[-1]):
            return FOREVER
        return microseconds(partition_span(seen[-1], self.project.params.events.partition)[1])

    def of_fit(self, seen: Sequence[str]) -> KnownVotes:
        """What a fit on these partitions may know."""
        return self.by(self.end(seen), seen)

    def of_reader(self, seen: Sequence[str], rows: Mapping[str, Ints]) -> dict[str, Ints]:
        """The same as the class of each of the ``rows`` of partitions, in their order, `UNKNOWN` where it is not."""
        found = {}
        for name in seen:
            known, classes = self.of[name], np.full(len(rows[name]), UNKNOWN)
            early = known.since < self.end(seen)
            classes[np.searchsorted(rows[name], known.rows[early])] = known.known.classes[early]
            found[name] = classes
        return found

    def counts(self) -> dict[str, int]:
        """How many rows of each class are known."""
        classes = KnownVotes.together([each.known for each in self.of.values()], self.functions).classes
        counts = np.bincount(classes, minlength=len(self.settings.classes)).tolist()
        return dict(zip(self.settings.classes, counts, strict=True))
