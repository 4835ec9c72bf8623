"""Times as the online store and its marker hold them: bytes and texts in, microseconds since 1970 out.

Needs neither Feast nor protobuf, so that a probe stays fast.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
SECONDS, NANOS = 8, 16
"""The tags of the two fields of a ``google.protobuf.Timestamp``, both variable-length integers."""


def microseconds(time: datetime | str) -> int:
    """A time, or its ISO form, as microseconds since 1970; without a zone it is UTC."""
    if isinstance(time, str):
        time = datetime.fromisoformat(time)
    aware = time if time.tzinfo else time.replace(tzinfo=UTC)
    return (aware - EPOCH) // MICROSECOND


def moment(number: int) -> datetime:
    """The time of a number of microseconds since 1970."""
    return EPOCH + number * MICROSECOND


def event_time(stamp: bytes) -> int | None:
    """The event time of a row, from its field ``_ts:<view>``; None for bytes that are no time."""
    parts = {SECONDS: 0, NANOS: 0}
    position = 0
    try:
        while position < len(stamp):
            tag = stamp[position]
            if tag not in parts:
                return None
            parts[tag], position = _varint(stamp, position + 1)
    except IndexError:
        return None
    seconds = parts[SECONDS] - 2**64 if parts[SECONDS] >= 2**63 else parts[SECONDS]
    return seconds * 1_000_000 + parts[NANOS] // 1000


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        value |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:
            return value, position
