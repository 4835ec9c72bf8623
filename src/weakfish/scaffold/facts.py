"""What a column of the events holds, in numbers: made by the survey of all rows, read by suites and templates."""

from __future__ import annotations

from weakfish.params import Name, Section
from weakfish.sources.tabular.settings import Kind


class ColumnFacts(Section):
    """What a column of the events holds.

    ``rows``, ``nulls`` (how many), ``least`` and ``greatest`` (of numbers; of times and dates in ISO form, UTC) and
    ``shortest`` and ``longest`` (characters, of texts) are those of all rows; they are null where no row has a value or
    the kind has no such number. ``distinct`` is of the sample, and so is ``frequent``, values as text and how often,
    the most frequent first; it is empty where there are more than fifty, which may be people's own.
    """

    name: Name
    kind: Kind
    rows: int
    nulls: int
    least: int | float | str | None = None
    greatest: int | float | str | None = None
    shortest: int | None = None
    longest: int | None = None
    distinct: int = 0
    frequent: tuple[tuple[str, int], ...] = ()

    @property
    def null_share(self) -> float:
        """The share of rows without a value."""
        return self.nulls / self.rows if self.rows else 0.0
