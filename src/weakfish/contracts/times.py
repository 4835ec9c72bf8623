"""Times: UTC and whole microseconds everywhere, whatever the time zone of the machine; and the names of time columns."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

EVENT_TIMESTAMP = "event_timestamp"
"""The column of feature tables, spines and training sets that says when a row became true."""

CREATED = "created"
"""The column of feature tables that says when a row was computed; the later of two rows of one time wins."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


def microseconds(time: datetime | str) -> int:
    """A time, or its ISO form, as microseconds since 1970; without a zone it is UTC."""
    if isinstance(time, str):
        time = datetime.fromisoformat(time)
    aware = time if time.tzinfo else time.replace(tzinfo=UTC)
    return (aware - EPOCH) // MICROSECOND


def moment(number: int) -> datetime:
    """The time of a number of microseconds since 1970."""
    return EPOCH + number * MICROSECOND


def now_text() -> str:
    """The current time, ISO, UTC, in milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
