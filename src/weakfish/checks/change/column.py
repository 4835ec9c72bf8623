"""A column in numbers that add over partitions: rows, nulls, distinct values, extremes, a sketch, categories.

Columns of partitions add up to that of the table, and go to JSON and back.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import pyarrow as pa
import pyarrow.types as pt

from weakfish.checks.change.sketch import Sketch

Kind = Literal["number", "distance", "time", "text", "boolean", "list", "other"]
"""What is measured of a column: numbers themselves; times as hours from the table's own time; of that time itself and
of structures only nulls; lengths of text and of lists; categories of booleans and of texts with few values."""

CATEGORIES = 64
"""How many distinct values a column of categories has at most."""

CATEGORY_LENGTH = 64
"""How many characters a category's name has at most."""

REPEATS = 10
"""How often a value has to occur to be told by name, and on average in a column of categories: what stands in fewer
rows may be anybody's text."""


@dataclass(frozen=True)
class Column:
    """What is known of a column, in one partition or in several.

    Attributes
    ----------
    distinct
        Distinct values of each partition, added up; estimated (a few percent off) where they are many. None for kinds
        whose values are not looked at.
    low, high
        The extremes of finite numbers; those that are not whole at six digits, rounded away from them.
    sketch
        Of numbers, of hours, or of lengths.
    categories
        Rows by value, where there are few short values, much repeated; None otherwise. Rare ones are left out.
    """

    type: str
    kind: Kind
    rows: int
    nulls: int
    distinct: int | None = None
    low: float | None = None
    high: float | None = None
    sketch: Sketch | None = None
    categories: Mapping[str, int] | None = None

    @property
    def valued(self) -> int:
        """Rows that have a value."""
        return self.rows - self.nulls

    @property
    def frequent(self) -> dict[str, int]:
        """The categories that repeat, and their rows; all of a boolean."""
        fewest = 0 if self.kind == "boolean" else REPEATS
        return {name: count for name, count in (self.categories or {}).items() if count >= fewest}

    @property
    def rare(self) -> int:
        """Rows of categories that do not repeat."""
        return self.valued - sum(self.frequent.values())

    def naming(self, names: Collection[str] | None) -> Column:
        """The column with these categories, and no others; None takes them all away."""
        known = self.categories if names is not None else None
        kept = None if known is None else {name: of for name, of in known.items() if name in (names or ())}
        return replace(self, categories=kept)

    @classmethod
    def merged(cls, columns: Iterable[Column]) -> Column:
        """The column over several partitions, all of one type."""
        found = list(columns)
        return replace(
            found[0],
            rows=sum(column.rows for column in found),
            nulls=sum(column.nulls for column in found),
            distinct=None if found[0].distinct is None else sum(column.distinct or 0 for column in found),
            low=min((column.low for column in found if column.low is not None), default=None),
            high=max((column.high for column in found if column.high is not None), default=None),
            sketch=None if found[0].sketch is None else Sketch.merged(c.sketch for c in found if c.sketch is not None),
            categories=_united(found),
        )

    def as_json(self) -> dict[str, Any]:
        """The column as JSON; what is None is left out."""
        content = {name: value for name, value in vars(self).items() if value is not None}
        if self.sketch is not None:
            content["sketch"] = self.sketch.text()
        if self.categories is not None:
            content["categories"] = dict(self.categories)
        return content

    @classmethod
    def parse(cls, content: Mapping[str, Any]) -> Column:
        """The column that `as_json` gave."""
        sketch = content.get("sketch")
        return cls(**{**content, "sketch": None if sketch is None else Sketch.parse(sketch)})


def _united(columns: Iterable[Column]) -> dict[str, int] | None:
    total: dict[str, int] = {}
    for column in columns:
        if column.categories is None:
            return None
        for name, count in column.categories.items():
            total[name] = total.get(name, 0) + count
    return dict(sorted(total.items())) if len(total) <= CATEGORIES else None


def kind_of(name: str, kind: pa.DataType, time: str | None) -> Kind:
    """What is measured of a column; ``time`` is the table's own time column."""
    if pt.is_dictionary(kind):
        return kind_of(name, kind.value_type, time)
    if pt.is_timestamp(kind) or pt.is_date(kind):
        return "time" if time in (None, name) else "distance"
    if pt.is_boolean(kind):
        return "boolean"
    if pt.is_integer(kind) or pt.is_floating(kind) or pt.is_decimal(kind) or pt.is_duration(kind):
        return "number"
    if pt.is_string(kind) or pt.is_large_string(kind) or pt.is_string_view(kind):
        return "text"
    if pt.is_list(kind) or pt.is_large_list(kind) or pt.is_fixed_size_list(kind):
        return "list"
    return "other"
