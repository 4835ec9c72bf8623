"""Which figures gold labels can support: numbers of rows in, a sentence on each figure that they cannot out.

An interval is asked of chance, so few rows are not forbidden by it: of ten rows that are all right, every resample is
all right. Hence these limits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from weakfish.evaluation.measures import Ints

ROWS = 30
"""Test rows that any figure needs: with fewer, chance alone can move a share by 0.18 (95 %, at one half)."""

OF_CLASS = 10
"""Rows that a figure about one class needs of it: with fewer, chance can move its recall by 0.31."""

MOST_TEST = 20_000
"""Test rows that are measured, a sample of more: they tell any share to 0.007."""


@dataclass(frozen=True)
class Support:
    """The test rows of a task, by class.

    Attributes
    ----------
    classes : list of str
    counts : list of int
        Test rows of each class.
    """

    classes: Sequence[str]
    counts: Sequence[int]

    @staticmethod
    def of(gold: Ints, classes: Sequence[str]) -> Support:
        """The support of test rows, ``gold`` being their classes as positions."""
        return Support(classes, np.bincount(gold, minlength=len(classes)).tolist())

    @property
    def rows(self) -> int:
        """All test rows."""
        return sum(self.counts)

    @property
    def scored(self) -> list[int]:
        """The classes that have figures of their own, as positions; of two classes the last stands for both."""
        if len(self.classes) == 2:
            return [1]
        return [place for place, count in enumerate(self.counts) if count >= OF_CLASS and self.rows - count >= OF_CLASS]

    @property
    def left_out(self) -> list[str]:
        """Classes of three or more over which no mean is taken."""
        scored = self.scored
        return [] if len(self.classes) == 2 else [n for place, n in enumerate(self.classes) if place not in scored]

    def lacks_rows(self) -> str | None:
        """Why nothing can be measured."""
        return too_few(self.rows, "test row")

    def lacks_classes(self) -> str | None:
        """Why no figure about classes (AUC, F1, ROC) can be had."""
        if len(self.classes) > 2:
            few = f"Fewer than two classes have {OF_CLASS} test rows, and no mean over classes can be had."
            return few if len(self.scored) < 2 else None
        absent = [name for name, count in zip(self.classes, self.counts, strict=True) if not count]
        if absent:
            return f"No test row is of class {', '.join(absent)}."
        count, name = min(zip(self.counts, self.classes, strict=True))
        return None if count >= OF_CLASS else f"Of class {name} there are {_rows(count)}; {OF_CLASS} are needed."


def too_few(count: int, what: str) -> str | None:
    """Why so many rows with gold labels, of the kind ``what``, cannot support a figure."""
    if count >= ROWS:
        return None
    if not count:
        return f"No {what} has a gold label."
    return (
        f"Only {count} {what}{' has a gold label' if count == 1 else 's have gold labels'}; below {ROWS}, chance alone "
        "can move a share by 0.18."
    )


def decides_too_little(count: int) -> str | None:
    """Why so many rows that a model decides cannot support a figure about these alone."""
    if count >= ROWS:
        return None
    return (
        f"The model decides on {_rows(count)} only; {ROWS} are needed."
        if count
        else "The model decides on no test row."
    )


def _rows(count: int) -> str:
    return f"{count} test row" if count == 1 else f"{count} test rows"
