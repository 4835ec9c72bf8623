"""Rows as Redis holds them to answers: the bytes of Feast's response message, or columns of what JSON says.

A view's rows come in, each its features' bytes and its time's; what is judged here, and only here, is whether a row is
there (NOT_FOUND, null, time 0) and whether it is beyond its view's time to live (OUTSIDE_MAX_AGE, null, its own time).
The message is put together as bytes and parsed once, since the values are in its format already.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from feast.protos.feast.serving.ServingService_pb2 import FieldStatus, GetOnlineFeaturesResponse

from weakfish.store.online.decode import ZERO, natives
from weakfish.store.online.exchange import Row

PRESENT, NOT_FOUND, OUTSIDE_MAX_AGE = FieldStatus.PRESENT, FieldStatus.NOT_FOUND, FieldStatus.OUTSIDE_MAX_AGE

RESULTS, VALUES, STATUSES, TIMES = b"\x12", b"\x0a", b"\x12", b"\x1a"
"""The fields ``GetOnlineFeaturesResponse.results`` and ``FeatureVector.values``, ``statuses``, ``event_timestamps``."""

SECOND = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Column:
    """A column of an answer: values as JSON has them, statuses, times as (seconds, nanoseconds), and whose it is."""

    name: str
    values: list[Any]
    statuses: list[int]
    times: list[tuple[int, int]]
    view: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What a request gets, in the response's order; ``versions`` names views and their versions, when asked for."""

    columns: list[Column]
    versions: list[tuple[str, int]] = field(default_factory=list)

    @property
    def names(self) -> list[str]:
        """The columns' names."""
        return [column.name for column in self.columns]


@dataclass(slots=True)
class ViewRows:
    """One view's part of rows that were read: features stand from ``start`` on, the event time at ``time``.

    ``times`` are the event times as a field of the response message.
    """

    rows: Sequence[Row]
    start: int
    time: int
    statuses: bytes
    times: bytes

    @property
    def present(self) -> int:
        """How many rows are there and young enough."""
        return self.statuses.count(PRESENT)

    def columns(self) -> Sequence[Sequence[bytes | None]]:
        """The features' bytes, nulls where a row may not be served."""
        if self.present == len(self.rows):
            return list(zip(*self.rows, strict=True))[self.start : self.time]
        pairs = list(zip(self.rows, self.statuses, strict=True))
        wanted = range(self.start, self.time)
        return [[row[position] if status == PRESENT else None for row, status in pairs] for position in wanted]

    def moments(self) -> list[tuple[int, int]]:
        """The event times as (seconds, nanoseconds), `ZERO` for a row that is not there."""
        found = GetOnlineFeaturesResponse.FeatureVector.FromString(self.times).event_timestamps
        return [(moment.seconds, moment.nanos) for moment in found]


def judged(rows: Sequence[Row], start: int, time: int, oldest: int | None) -> ViewRows:
    """A view's part of rows, with statuses.

    Parameters
    ----------
    rows
        One for every row of the response.
    start, time
        Where the view's features begin, and where its event time stands.
    oldest
        The earliest time that is still served, in nanoseconds since 1970; None when the view has no time to live.

    Raises
    ------
    google.protobuf.message.DecodeError
        When an event time is damaged.
    """
    stamps = [row[time] for row in rows]
    found = ViewRows(rows, start, time, b"", _repeated(_TIMES, TIMES, stamps))
    if oldest is None:
        found.statuses = bytes([NOT_FOUND if data is None else PRESENT for data in stamps])
    else:
        pairs = zip(stamps, found.moments(), strict=True)
        found.statuses = bytes([_status(data, moment, oldest) for data, moment in pairs])
    return found


def _status(data: bytes | None, moment: tuple[int, int], oldest: int) -> int:
    if data is None:
        return NOT_FOUND
    return PRESENT if moment[0] * SECOND + moment[1] >= oldest else OUTSIDE_MAX_AGE


def view_results(view: ViewRows) -> list[bytes]:
    """A view's features as fields of the response message."""
    tail = sized(STATUSES, view.statuses) + view.times
    return [sized(RESULTS, _repeated(_VALUES, VALUES, column) + tail) for column in view.columns()]


def request_result(values: Sequence[bytes]) -> bytes:
    """A column of the request, whose values are `Value` bytes, as a field of the response message."""
    tail = sized(STATUSES, bytes([PRESENT]) * len(values)) + _TIMES[0] * len(values)
    return sized(RESULTS, _repeated(_VALUES, VALUES, values) + tail)


def view_columns(view: ViewRows, names: Sequence[str], owner: str) -> list[Column]:
    """A view's features as columns of an answer."""
    statuses, times = list(view.statuses), view.moments()
    columns = zip(names, view.columns(), strict=True)
    return [Column(name, natives(column), statuses, times, owner) for name, column in columns]


def request_column(name: str, values: Sequence[Any]) -> Column:
    """A column of the request as a column of an answer."""
    return Column(name, list(values), [PRESENT] * len(values), [ZERO] * len(values))


def sized(tag: bytes, data: bytes) -> bytes:
    """A field of a message: its tag, its length, its content."""
    return _head(tag, len(data)) + data


def _head(tag: bytes, length: int) -> bytes:
    if length < _SHORT:
        return tag + _BYTE[length]
    head = tag
    while length >= _SHORT:
        head += _BYTE[length & 0x7F | 0x80]
        length >>= 7
    return head + _BYTE[length]


def _repeated(heads: list[bytes], tag: bytes, contents: Sequence[bytes | None]) -> bytes:
    """A field that repeats; what is missing is an empty message."""
    if len(contents) > _FEW and None not in contents:
        lengths = set(map(len, contents))  # type: ignore[arg-type]
        if len(lengths) == 1:  # as all numbers' are: what stands before each is the same
            head = _head(tag, lengths.pop())
            return head + head.join(contents)  # type: ignore[arg-type]
    try:
        nothing = heads[0]
        return b"".join([heads[len(data)] + data if data else nothing for data in contents])
    except IndexError:  # longer than most
        return b"".join([sized(tag, data or b"") for data in contents])


_BYTE = [bytes([number]) for number in range(256)]
_SHORT = 0x80
"""Lengths below it take one byte."""

_FEW = 4
_KNOWN = 1024
_VALUES, _TIMES = ([_head(tag, length) for length in range(_KNOWN)] for tag in (VALUES, TIMES))
"""What stands before contents of so many bytes."""
