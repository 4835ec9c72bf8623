"""Which rows are compared with what was accepted: the accepted partitions as they are now, and those that came after.

The first differ where functions, settings or data were edited, the second where the world did.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from weakfish.checks.labels.rules import DIGITS, Rules, Totals
from weakfish.checks.rates import Rate

EDITED = " Its code was edited since."
"""What is said more of a function that is not the accepted one of its name."""

Of = Callable[[Totals], Rate]
"""What is compared, of any rows."""


class Window(NamedTuple):
    """Rows of today; ``text`` says which, to go after their number."""

    text: str
    totals: Totals
    is_new: bool


@dataclass(frozen=True)
class Comparison:
    """Labels of today and what was accepted of them, `rules.through` of another day."""

    now: Rules
    before: Mapping[str, Any]

    @cached_property
    def accepted(self) -> Totals:
        """All accepted rows, as they were."""
        return Totals.parse(self.before)

    @cached_property
    def total(self) -> Totals:
        """All rows of today."""
        return self.now.over()

    @cached_property
    def windows(self) -> list[Window]:
        """Those that have rows."""
        known = self.before["partitions"]
        old = [name for name in self.now.partitions if name in known]
        new = [name for name in self.now.partitions if name not in known]
        later = bool(known and new) and min(new) > max(known)
        after = f"rows after {max(known)}" if later else "rows of new partitions"
        found = [Window("accepted rows", self.now.over(old), False), Window(after, self.now.over(new), True)]
        return [window for window in found if window.totals.rows]

    @property
    def rules(self) -> list[str]:
        """Functions that were accepted and are still there."""
        return [name for name in self.accepted.functions if name in self.now.content["hashes"]]

    def is_edited(self, rule: str) -> bool:
        """Whether the function is another than the accepted one of this name."""
        return bool(self.now.content["hashes"][rule] != self.before["hashes"][rule])

    def by_partition(self, of: Of) -> dict[str, float]:
        """The share in each partition that has rows for it."""
        return by_partition(self.now, of)


def by_partition(now: Rules, of: Of) -> dict[str, float]:
    """The share in each partition that has rows for it."""
    rates = {name: of(totals) for name, totals in now.partitions.items()}
    return {name: round(rate.share, DIGITS) for name, rate in rates.items() if rate.rows}
