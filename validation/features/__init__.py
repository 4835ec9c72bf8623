"""What must hold of the rows of each view; `rows_of` has what all views have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from great_expectations import expectations as gxe


def rows_of(entity: str, counts: Sequence[str], shares: Sequence[str]) -> list[Any]:
    """Expectations of any view of an entity: its key and times, counts from 0, and shares from 0 to 1 or null."""
    return [
        *_keys(entity),
        *[_not_null(name, "A count of nothing is 0.") for name in counts],
        *[_between(name, 0, None, "Nothing happens a negative number of times.") for name in counts],
        *[_between(name, 0, 1, "It is a share.") for name in shares],
        _between("links_mean_30d", 0, 5_000, "More links in a mean message are a parser that counts wrong."),
        gxe.ExpectColumnPairValuesAToBeGreaterThanB(
            column_A="last_seen_at",
            column_B="first_seen_at",
            or_equal=True,
            severity="critical",
            meta={"why": "Nobody is last seen before being first seen."},
        ),
        gxe.ExpectColumnPairValuesAToBeGreaterThanB(
            column_A="event_timestamp",
            column_B="last_seen_at",
            severity="critical",
            meta={"why": "A row that knows its own hour or a later one leaks the future into training."},
        ),
        gxe.ExpectColumnPairValuesAToBeGreaterThanB(
            column_A="mails_30d",
            column_B="mails_7d",
            or_equal=True,
            severity="critical",
            meta={"why": "The longer window holds the shorter one."},
        ),
    ]


def _keys(entity: str) -> list[Any]:
    return [
        _not_null(entity, "A row about nobody can be joined to nothing."),
        _not_null("event_timestamp", "Without its time a row could be joined to any past."),
        gxe.ExpectCompoundColumnsToBeUnique(
            column_list=[entity, "event_timestamp"],
            severity="critical",
            meta={"why": "Of two rows for one moment, training and serving could choose differently."},
        ),
        gxe.ExpectColumnPairValuesToBeEqual(
            column_A="created",
            column_B="event_timestamp",
            severity="critical",
            meta={"why": "A row is known from its boundary on; another time of creation would hide it or leak it."},
        ),
        _not_null("first_seen_at", "A row exists because of an event, so there is a first one."),
        _not_null("last_seen_at", "A row exists because of an event, so there is a last one."),
    ]


def _not_null(column: str, why: str) -> Any:
    return gxe.ExpectColumnValuesToNotBeNull(column=column, severity="critical", meta={"why": why})


def _between(column: str, low: float, high: float | None, why: str) -> Any:
    return gxe.ExpectColumnValuesToBeBetween(
        column=column, min_value=low, max_value=high, severity="critical", meta={"why": why}
    )
