"""A response to a request for features, put together as bytes from what the store holds, and parsed once."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import weakfish.feast.adapter  # noqa: F401 - first: it makes the import of Feast cheap

from feast.online_response import OnlineResponse
from feast.protos.feast.serving.ServingService_pb2 import FieldStatus, GetOnlineFeaturesResponse
from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp

from weakfish.feast.exchange import Row
from weakfish.feast.read_plan import ViewRead
from weakfish.feast.unreadable import ANY, Unreadable, are_times, is_time, is_value

PRESENT, NOT_FOUND, OUTSIDE_MAX_AGE = FieldStatus.PRESENT, FieldStatus.NOT_FOUND, FieldStatus.OUTSIDE_MAX_AGE
INVALID = FieldStatus.INVALID
"""The status of a value that is there and cannot be read: `PRESENT` would call it null, `NOT_FOUND` its entity unknown.
"""

BROKEN = (DecodeError, IndexError, Unreadable)
"""What making a response raises where something cannot be read; a key that holds no hash has an empty row."""

RESULTS, VALUES, STATUSES, TIMES = b"\x12", b"\x0a", b"\x12", b"\x1a"
"""The fields ``GetOnlineFeaturesResponse.results`` and ``FeatureVector.values``, ``statuses``, ``event_timestamps``."""

SECOND = 1_000_000_000


_FEW = 4
_ONE_BYTE = 0x80
"""Lengths and numbers below it take one byte."""


class FeatureResponse(OnlineResponse):
    """Feast's response; ``unreadable`` counts by column the values that are there and could not be read."""

    def __init__(self, message: GetOnlineFeaturesResponse, types: Any, unreadable: Mapping[str, int]) -> None:
        super().__init__(message, feature_types=types)
        self.unreadable = unreadable


Lost = frozenset[int]
NONE: Lost = frozenset()


@dataclass(slots=True)
class ViewRows:
    """One view's part of rows that were read: features stand from ``start`` on, the event time at ``time``.

    ``times`` are the event times as a field of the response message. ``lost`` has, of rows in which something could not
    be read, the features for which that is so; None where all can be read, as far as is known.
    """

    rows: Sequence[Row]
    start: int
    time: int
    statuses: bytes
    times: bytes
    lost: Sequence[Lost] | None = None

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

    def statuses_of(self, feature: int) -> bytes:
        """The statuses of one feature's values."""
        pairs = zip(self.statuses, self.lost or (), strict=True)
        return bytes([INVALID if feature in lost and one != OUTSIDE_MAX_AGE else one for one, lost in pairs])

    def moments(self) -> list[tuple[int, int]]:
        """The event times as (seconds, nanoseconds), zeros for a row that is not there."""
        return [(moment.seconds, moment.nanos) for moment in self.messages()]

    def messages(self) -> Sequence[Timestamp]:
        """The event times as Protobuf has them, an empty one for a row that is not there."""
        found: Sequence[Timestamp] = GetOnlineFeaturesResponse.FeatureVector.FromString(self.times).event_timestamps
        return found


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
    Unreadable
        When an event time is none.
    IndexError
        When a row is empty: its key holds no hash.
    """
    stamps = [row[time] for row in rows]
    if not are_times(stamps):
        raise Unreadable
    found = ViewRows(rows, start, time, b"", _repeated(_TIMES, TIMES, stamps))
    if oldest is not None and _earliest(found, stamps) * SECOND < oldest:
        pairs = zip(stamps, found.moments(), strict=True)
        found.statuses = bytes([_status(data, moment, oldest) for data, moment in pairs])
    else:
        found.statuses = bytes([NOT_FOUND if data is None else PRESENT for data in stamps])
    return found


def mended(rows: Sequence[Row], read: ViewRead, start: int, time: int) -> tuple[list[Row], list[Lost]]:
    """A view's part of rows, without what cannot be read; and of each row the features for which that is so.

    A row whose time cannot be read, or whose key holds no hash, is lost as a whole: nothing says what its values are.
    """
    width, found, lost = time - start, list[Row](), list[Lost]()
    for row in rows:
        part = list(row[start : time + 1])
        if not part or not is_time(part[-1]):
            part, of_row = [None] * (width + 1), frozenset(range(width))
        elif part[-1] is None:
            of_row = NONE
        else:
            cells = enumerate(zip(part, read.kinds, strict=False))
            of_row = frozenset([number for number, (data, kind) in cells if data and not is_value(data, kind)])
            for number in of_row:
                part[number] = None
        found.append(part)
        lost.append(of_row)
    return found, lost


def unreadable(read: Sequence[ViewRead], views: Sequence[ViewRows]) -> dict[str, int]:
    """By column of the response, how many values are there and could not be read."""
    counts = {
        column: view.statuses_of(number).count(INVALID)
        for of, view in zip(read, views, strict=True)
        if view.lost is not None
        for number, column in enumerate(of.columns)
    }
    return {column: count for column, count in counts.items() if count}


def _earliest(view: ViewRows, stamps: Sequence[bytes | None]) -> float:
    """The first second of a view's event times."""
    pairs = zip(view.messages(), stamps, strict=True)
    return min([moment.seconds for moment, data in pairs if data is not None], default=math.inf)


def _status(data: bytes | None, moment: tuple[int, int], oldest: int) -> int:
    if data is None:
        return NOT_FOUND
    return PRESENT if moment[0] * SECOND + moment[1] >= oldest else OUTSIDE_MAX_AGE


def view_results(view: ViewRows, read: ViewRead) -> list[bytes]:
    """A view's features as fields of the response message; raises `Unreadable` for a value of another type."""
    columns = view.columns()
    for number, check in read.checks:
        if not check(columns[number]):
            raise Unreadable
    if view.lost is None:
        tail = sized(STATUSES, view.statuses) + view.times
        known = zip(columns, read.firsts, read.sizes, strict=True)
        if len(view.rows) > _FEW:
            return [sized(RESULTS, _repeated(_VALUES, VALUES, *of) + tail) for of in known]
        cells = [(data, first, size) for column, first, size in known for data in column if data]
        if [1 for data, first, size in cells if data[0] != first != ANY or len(data) != size != ANY]:
            raise Unreadable
        return [sized(RESULTS, _repeated(_VALUES, VALUES, column) + tail) for column in columns]
    return [
        sized(RESULTS, _repeated(_VALUES, VALUES, column) + sized(STATUSES, view.statuses_of(number)) + view.times)
        for number, column in enumerate(columns)
    ]


def request_result(values: Sequence[bytes]) -> bytes:
    """A column of the request, whose values are `Value` bytes, as a field of the response message."""
    tail = sized(STATUSES, bytes([PRESENT]) * len(values)) + _TIMES[0] * len(values)
    return sized(RESULTS, _repeated(_VALUES, VALUES, values) + tail)


def sized(tag: bytes, data: bytes) -> bytes:
    """A field of a message: its tag, its length, its content."""
    return _head(tag, len(data)) + data


def _head(tag: bytes, length: int) -> bytes:
    if length < _ONE_BYTE:
        return tag + _BYTE[length]
    head = tag
    while length >= _ONE_BYTE:
        head += _BYTE[length & 0x7F | 0x80]
        length >>= 7
    return head + _BYTE[length]


def _repeated(
    heads: list[bytes], tag: bytes, contents: Sequence[bytes | None], first: int = ANY, size: int = ANY
) -> bytes:
    """A field that repeats; what is missing is an empty message.

    Raises `Unreadable` when one that is not empty does not begin with the byte ``first``, or does not have ``size``
    bytes, where that is given.
    """
    is_sound = first == ANY
    if len(contents) > _FEW:
        found = list(filter(None, contents))
        lengths = set(map(len, found))
        if size != ANY and lengths - {size}:
            raise Unreadable
        if len(lengths) == 1:  # as all numbers' are: what stands before each is the same, and nulls are empty
            length = lengths.pop()
            if not is_sound and b"".join(found)[::length].count(first) != len(found):
                raise Unreadable
            head, nothing = _head(tag, length), heads[0]
            if len(found) == len(contents):
                return head + head.join(found)
            return b"".join([head + data if data else nothing for data in contents])
    if not is_sound and [1 for data in contents if data and data[0] != first]:
        raise Unreadable
    try:
        nothing = heads[0]
        return b"".join([heads[len(data)] + data if data else nothing for data in contents])
    except IndexError:  # longer than most
        return b"".join([sized(tag, data or b"") for data in contents])


_BYTE = [bytes([number]) for number in range(256)]
_KNOWN = 1024
_VALUES, _TIMES = ([_head(tag, length) for length in range(_KNOWN)] for tag in (VALUES, TIMES))
"""What stands before contents of so many bytes."""
