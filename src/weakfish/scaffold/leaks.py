"""Columns that seem to be filled from the label: what is known only with it tells functions and features the answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

ROWS = 20
"""The fewest rows of a class, and of a side, from which anything follows."""

NEARLY = 0.99
"""The share of rows from which on a rule holds but for errors."""

VALUES = 50
"""The most values of a column that are compared with the label's."""


class Leaks:
    """Counts, over all rows, which columns go with gold labels.

    Parameters
    ----------
    columns
        Those of the events that are compared.
    gold
        The column of gold labels of each task.
    """

    def __init__(self, columns: Sequence[str], gold: Mapping[str, str]) -> None:
        self.columns, self.gold = columns, gold
        self._filled: dict[tuple[str, str], Counter[tuple[str | None, bool]]] = {}
        self._values: dict[tuple[str, str], Counter[tuple[str, str]]] = {}
        self._many: set[tuple[str, str]] = set()

    def add(self, batch: pa.RecordBatch) -> None:
        """Count in the rows of a batch."""
        for label in dict.fromkeys(self.gold.values()):
            labels = pc.utf8_trim_whitespace(batch[label])
            for name in self.columns:
                place = (label, name)
                filled = self._filled.setdefault(place, Counter())
                filled.update(_pairs(labels, pc.is_valid(batch[name])))
                if place not in self._many:
                    both = batch.append_column("__label", labels).filter(pc.is_valid(labels))
                    values = self._values.setdefault(place, Counter())
                    values.update(_pairs(both["__label"], pc.cast(both[name], pa.string())))
                    if len({value for _, value in values}) > VALUES:
                        self._many.add(place)
                        del self._values[place]

    def sentences(self) -> Iterator[str]:
        """What to say of each column that goes with a label."""
        for (label, name), filled in self._filled.items():
            how = _by_being_filled(label, filled) or _by_value(label, self._values.get((label, name), Counter()))
            if how:
                yield (
                    f"Column {name} looks like a leak: {how}. If it is filled from {label}, leave it out "
                    f"(--leave-out {name}): where the label is not known yet, it is not either."
                )


def _pairs(first: pa.Array, second: pa.Array) -> Counter[Any]:
    table = pa.table({"first": first, "second": second}).group_by(["first", "second"]).aggregate([([], "count_all")])
    return Counter({(row["first"], row["second"]): row["count_all"] for row in table.to_pylist()})


def _by_being_filled(label: str, filled: Counter[tuple[str | None, bool]]) -> str | None:
    """Whether the column has values where the label is known, or where it is of some classes, and nowhere else."""
    rows, with_value = Counter[str | None](), Counter[str | None]()
    for (value, has), count in filled.items():
        rows[value] += count
        with_value[value] += count * has
    known = [value for value in rows if value is not None]
    always = [value for value in known if rows[value] >= ROWS and with_value[value] >= NEARLY * rows[value]]
    never = [value for value in known if with_value[value] <= (1 - NEARLY) * rows[value]]
    if always and never and len(always) + len(never) == len(known) and sum(rows[value] for value in never) >= ROWS:
        return f"it has values where {label} is {', '.join(sorted(map(str, always))[:3])}, and nowhere else"
    total, there = sum(rows[value] for value in known), sum(with_value[value] for value in known)
    if (
        total >= ROWS
        and rows[None] >= ROWS
        and there >= NEARLY * total
        and with_value[None] <= (1 - NEARLY) * rows[None]
    ):
        return f"it has values where {label} is known, and nowhere else"
    return None


def _by_value(label: str, values: Counter[tuple[str, str]]) -> str | None:
    """Whether each value goes with one class."""
    usual: dict[str, Counter[str]] = {}
    classes = Counter[str]()
    for (of_label, value), count in values.items():
        if value is not None:
            usual.setdefault(value, Counter())[of_label] += count
            classes[of_label] += count
    total = sum(classes.values())
    if len(usual) < 2 or len(classes) < 2 or min(classes.values()) < ROWS or total < ROWS * len(usual):
        return None
    right = sum(counts.most_common(1)[0][1] for counts in usual.values())
    wrong, without = total - right, total - max(classes.values())
    if wrong > (1 - NEARLY) * without:
        return None
    return f"its value tells {label} on {right:,} of {total:,} rows"
