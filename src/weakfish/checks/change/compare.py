"""A table beside what was accepted of it, in the two ways in which it may have changed.

New partitions compare with all that was accepted; accepted partitions, as they are now, with themselves as accepted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from weakfish.checks.change.baseline import Entry
from weakfish.checks.change.column import Column
from weakfish.checks.change.profile import Profile
from weakfish.params import ChangeParams
from weakfish.tables import UNDATED


@dataclass(frozen=True)
class Window:
    """Some partitions of a table as they are now."""

    name: str
    """``new partitions`` or ``accepted partitions as they are now``."""

    columns: Mapping[str, Column]
    partitions: tuple[str, ...]


@dataclass(frozen=True)
class Comparison:
    """A table's profile and what was accepted."""

    accepted: Entry
    profile: Profile
    limits: ChangeParams

    @cached_property
    def new(self) -> Window:
        """The partitions that the baseline does not have. Rows without a time belong to none."""
        names = [name for name in self.profile.partitions if name not in self.accepted.rows and name != UNDATED]
        return Window("new partitions", self.profile.of(names), tuple(names))

    @cached_property
    def kept(self) -> Window:
        """The accepted partitions that are still there."""
        names = [name for name in self.profile.partitions if name in self.accepted.rows]
        return Window("accepted partitions as they are now", self.profile.of(names), tuple(names))

    def sides(self, column: str) -> list[tuple[Window, Column, Column]]:
        """A column as it is in each window, beside the accepted one; where it has rows and the accepted type."""
        before = self.accepted.columns.get(column)
        if before is None or not before.rows:
            return []
        found = [(window, window.columns.get(column)) for window in (self.new, self.kept)]
        return [
            (window, now, before) for window, now in found if now is not None and now.rows and now.type == before.type
        ]

    def by_partition(self, column: str) -> dict[str, Column]:
        """A column in every partition that has rows of it, of the accepted type."""
        before = self.accepted.columns[column]
        found = {name: partition.columns.get(column) for name, partition in self.profile.partitions.items()}
        return {name: now for name, now in found.items() if now is not None and now.rows and now.type == before.type}


def rounded(value: float) -> float:
    """Six significant digits: what differs beyond them is how sums were formed."""
    return float(f"{value:.6g}")


def percent(share: float) -> str:
    """A share for people: ``4.2 %``."""
    digits = 3 if 0 < share < 0.001 else 1
    return f"{100 * share:.{digits}f}".removesuffix(".0") + " %"
