"""Two columns cut into the same bins, so that their counts can be compared: quantiles, categories, nulls."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from weakfish.checks.change.column import Column
from weakfish.checks.change.sketch import Ints, Sketch

BINS = 10
"""Into how many bins of about equal accepted shares numbers are cut, where rows suffice."""

ROWS_IN_A_BIN = 10
"""How many rows a bin of numbers should have on the side that has fewer: with less, PSI is not what theory says."""

ROWS_OF_A_CATEGORY = 5
"""Categories of which fewer rows are expected count together."""


@dataclass(frozen=True)
class Bins:
    """The rows of two columns by common bins; ``of`` says what the bins are, and nulls are the last of them."""

    now: Ints
    accepted: Ints
    of: str


def bins_of(now: Column, accepted: Column) -> Bins | None:
    """Cut two columns by what both have: categories, else numbers, hours or lengths; None where that is nothing."""
    if now.categories is not None and accepted.categories is not None:
        sides, of = _by_category(now, accepted), "categories"
    elif now.sketch is not None and accepted.sketch is not None:
        sides, of = _by_quantile(now.sketch, accepted.sketch), _MEASURED[accepted.kind]
    else:
        return None
    with_nulls = [np.append(side, column.nulls) for side, column in zip(sides, (now, accepted), strict=True)]
    return Bins(with_nulls[0], with_nulls[1], of)


_MEASURED = {
    "number": "values",
    "distance": "hours from the row's time",
    "text": "lengths",
    "list": "lengths",
}


def _by_category(now: Column, accepted: Column) -> tuple[Ints, Ints]:
    """Categories that are frequent enough each for itself, those that are new together, the rest together."""
    ours, theirs = now.frequent, accepted.frequent
    fewest = ROWS_OF_A_CATEGORY * accepted.valued / max(1, min(now.valued, accepted.valued))
    own = [name for name, count in theirs.items() if count >= fewest]
    new = [name for name in ours if name not in theirs]

    def counted(column: Column, names: dict[str, int]) -> Ints:
        alone = [(column.categories or {}).get(name, 0) for name in own]
        new_rows = sum(names.get(name, 0) for name in new)
        rest = column.valued - sum(alone) - new_rows
        return np.array([*alone, rest, new_rows], np.int64)

    return counted(now, ours), counted(accepted, theirs)


def _by_quantile(now: Sketch, accepted: Sketch) -> tuple[Ints, Ints]:
    """Bins of about equal accepted shares; a bucket that holds as much alone is a bin of its own."""
    bits = min(now.bits, accepted.bits)
    ours, theirs = now.at(bits), accepted.at(bits)
    if not theirs.total or not ours.total:
        return np.array([ours.total]), np.array([theirs.total])
    count = max(2, min(BINS, min(ours.total, theirs.total) // ROWS_IN_A_BIN))
    starts = _starts(theirs, theirs.total / count)
    return _counted(ours, starts), _counted(theirs, starts)


def _starts(sketch: Sketch, target: float) -> Ints:
    """The first code of each bin but the first, which begins before all.

    What lies beside a bucket that is a bin of its own belongs to the neighbour on that side; where there is none, on
    the outside or between two such buckets, to a bin that is empty so far.
    """
    starts: list[int] = []
    runs: list[int] = []
    """Rows of the bins of several buckets since the last bucket of its own."""
    for code, count in zip(sketch.codes.tolist(), sketch.counts.tolist(), strict=True):
        if count >= target:
            _join_last(starts, runs, target)
            starts += [code, code + 1]
            runs = []
        elif runs and runs[-1] < target:
            runs[-1] += count
        else:
            starts += [code] if runs else []
            runs.append(count)
    _join_last(starts, runs, target)
    return np.unique(np.array(starts, np.int64))


def _join_last(starts: list[int], runs: list[int], target: float) -> None:
    """What is left over goes to the bin before it when it is less than half a bin."""
    if len(runs) > 1 and runs[-1] < target / 2:
        starts.pop()


def _counted(sketch: Sketch, starts: Ints) -> Ints:
    counts = np.zeros(len(starts) + 1, np.int64)
    np.add.at(counts, np.searchsorted(starts, sketch.codes, side="right"), sketch.counts)
    return counts
