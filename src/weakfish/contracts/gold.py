"""Gold labels beside the rows that they are about, and labels counted against them: a table of what says what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from weakfish.contracts.pointers import listed
from weakfish.contracts.tables import GOLD_LABEL, KNOWN_AT, TIME, open_partition, read_partition
from weakfish.contracts.votes_file import parse_table, table_json
from weakfish.errors import TableError

Ints = npt.NDArray[np.int64]

UNKNOWN = -1
"""The gold label of a row that has none, and the label of a row that is not decided."""

ROWS = 30
"""Rows with gold that any figure needs: with fewer, chance alone can move a share by 0.18 (95 %, at one half)."""

ROWS_OF_CLASS = 10
"""Rows that a figure about one class needs of it: with fewer, chance can move its recall by 0.31."""


def gold_labels(
    where: Path, key: str, keys: pa.ChunkedArray, classes: Sequence[str], partition: str | None = None
) -> Ints:
    """The gold label of each key as a position in ``classes``; `UNKNOWN` where there is none.

    Parameters
    ----------
    where
        The folder of a part of a task's gold labels, which need not exist.
    key
        The name of their column of keys.
    partition
        The only partition to look in; None for all.

    Raises
    ------
    TableError
        When a file is cut off, or holds a label that is no class of the task.
    """
    files = listed(where, partition or "*")
    if not files:
        return np.full(len(keys), UNKNOWN)
    gold = pa.concat_tables([read_partition(file, [key, GOLD_LABEL]) for file in files])
    strangers = sorted(set(pc.unique(gold[GOLD_LABEL]).to_pylist()) - {*classes, None})
    if strangers:
        raise TableError(
            f"{where} holds the label {strangers[0]!r}, which is none of the task's classes ({', '.join(classes)}); "
            "correct tasks.<task>.classes in params.yaml or what the source yields."
        )
    numbers = pc.index_in(gold[GOLD_LABEL], pa.array(classes))
    found = pc.take(numbers, pc.index_in(keys, gold[key].combine_chunks()))
    labels: Ints = pc.fill_null(found, UNKNOWN).to_numpy().astype(np.int64)
    return labels


def gold_times(where: Path, key: str, keys: pa.ChunkedArray, partition: str | None = None) -> pa.ChunkedArray:
    """Since when the gold label of each key is known, UTC; null where the table does not say.

    Parameters are those of `gold_labels`. Raises `TableError` when a file is cut off, or its column `KNOWN_AT` holds
    no times.
    """
    files = listed(where, partition or "*")
    said = [
        read_partition(file, [key, KNOWN_AT]) for file in files if KNOWN_AT in open_partition(file).schema_arrow.names
    ]
    if not said:
        return pa.chunked_array([pa.nulls(len(keys), TIME)])
    gold = pa.concat_tables(said)
    if gold.schema.field(KNOWN_AT).type != TIME:
        raise TableError(
            f"Column {KNOWN_AT} of {where} is {gold.schema.field(KNOWN_AT).type}, not {TIME}; convert it in the source."
        )
    return pc.take(gold[KNOWN_AT], pc.index_in(keys, gold[key].combine_chunks()))


@dataclass(frozen=True)
class Confusion:
    """Rows with gold, by their class and by their label.

    Attributes
    ----------
    counts : tuple of tuples of int, (classes, classes + 1)
        Rows by gold class, then by label; the last column are rows that are not decided: no function votes on them, or
        classes tie.
    """

    classes: Sequence[str]
    counts: Sequence[Sequence[int]]

    @classmethod
    def of(cls, gold: Ints, decided: Ints, classes: Sequence[str]) -> Confusion:
        """The table of some rows; both are positions of classes, or `UNKNOWN`. Rows without gold do not count."""
        known = gold != UNKNOWN
        columns = len(classes) + 1
        places = gold[known] * columns + np.where(decided[known] == UNKNOWN, len(classes), decided[known])
        return cls(classes, np.bincount(places, minlength=len(classes) * columns).reshape(-1, columns).tolist())

    def __add__(self, other: Confusion) -> Confusion:
        return Confusion(self.classes, (np.array(self.counts) + np.array(other.counts)).tolist())

    def to_json(self) -> Any:
        """The counts for a file; see `from_json`."""
        return table_json(self.counts)

    @classmethod
    def from_json(cls, content: Any, classes: Sequence[str]) -> Confusion:
        """The table whose `to_json` is ``content``."""
        return cls(classes, parse_table(content))

    @property
    def rows(self) -> int:
        """Rows with gold."""
        return sum(map(sum, self.counts))

    @property
    def right(self) -> int:
        """Rows whose label is their gold class."""
        return sum(row[place] for place, row in enumerate(self.counts))

    @property
    def undecided(self) -> int:
        """Rows without a label."""
        return sum(row[-1] for row in self.counts)

    def of_class(self, place: int) -> tuple[int, int, int]:
        """Of one class: rows whose label is rightly it, rows that have it by gold, rows that have it as label."""
        return self.counts[place][place], sum(self.counts[place]), sum(row[place] for row in self.counts)

    def f1(self, place: int) -> float | None:
        """F1 of one class; a row without a label is a miss. None where the class has no row."""
        hits, there, said = self.of_class(place)
        return 2 * hits / (there + said) if there else None

    @property
    def rarer(self) -> int | None:
        """The position of the rarer of two classes, by gold; the last where they are equally frequent.

        None of more classes.
        """
        if len(self.classes) != 2:
            return None
        first, last = (self.of_class(place)[1] for place in (0, 1))
        return int(first >= last)

    def figures(self, positive: int | None = None) -> dict[str, float | None]:
        """``accuracy`` (a row without a label counts as wrong), ``coverage``, and ``f1``.

        F1 is that of the class ``positive`` of two, the `rarer` unless given; of more classes it is the mean over those
        with `ROWS_OF_CLASS` rows. What so few rows cannot support is None.
        """
        if self.rows < ROWS:
            return dict.fromkeys(("accuracy", "coverage", "f1"))
        of_two = self.rarer if positive is None else positive
        places = range(len(self.classes)) if of_two is None else [of_two]
        enough = [place for place in places if ROWS_OF_CLASS <= self.of_class(place)[1] <= self.rows - ROWS_OF_CLASS]
        scores = [score for place in enough if (score := self.f1(place)) is not None]
        return {
            "accuracy": self.right / self.rows,
            "coverage": 1 - self.undecided / self.rows,
            "f1": sum(scores) / len(scores) if scores else None,
        }
