"""Values as Redis holds them, in Feast's protobuf bytes, to what JSON says; scalars by hand, all else by Feast.

Bytes come in, one value at a time, and Python values go out: those that Feast's feature server writes for them. A
value is read by hand only where its bytes are wholly understood; whatever else they hold is left to protobuf and
Feast.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from weakfish.feast.adapter import value_to_json

from feast.protos.feast.serving.ServingService_pb2 import FieldStatus, GetOnlineFeaturesResponse
from feast.protos.feast.types.Value_pb2 import Value

from weakfish.feast.exchange import Row

ZERO = (0, 0)
"""The time of what is not there: 1970, as Feast says it."""

_DOUBLE, _FLOAT = struct.Struct("<d").unpack_from, struct.Struct("<f").unpack_from
_DOUBLE_AFTER_TAG = struct.Struct("<xd")
_FEW = 4
_SHORT = 0x80
"""Lengths and numbers below it take one byte."""


def native(data: bytes | None) -> Any:
    """A value as JSON has it; None for one that is null or missing.

    Raises
    ------
    google.protobuf.message.DecodeError
        When the bytes are no value.
    """
    if not data:
        return None
    read = _READERS.get(data[0])
    return _by_feast(data) if read is None else read(data)


def natives(column: Sequence[bytes | None]) -> list[Any]:
    """A column of values as JSON has them; raises as `native` does."""
    if len(column) > _FEW:
        joined = b"".join([data or b"" for data in column])
        if len(joined) == 9 * len(column) and joined[::9] == _DOUBLES * len(column):
            values = [value for (value,) in _DOUBLE_AFTER_TAG.iter_unpack(joined)]
            if all(map(math.isfinite, values)):
                return values
    return [native(data) for data in column]


def rfc3339(time: tuple[int, int]) -> str:
    """A time as JSON has it: in UTC, with as many decimals as it needs (none, 3, 6 or 9)."""
    seconds, nanos = time
    text = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    if not nanos:
        return text + "Z"
    for digits, unit in ((3, 1_000_000), (6, 1_000)):
        if nanos % unit == 0:
            return f"{text}.{nanos // unit:0{digits}d}Z"
    return f"{text}.{nanos:09d}Z"


def _by_feast(data: bytes) -> Any:
    return value_to_json(Value.FromString(data))


def _double(data: bytes) -> Any:
    if len(data) != 9:
        return _by_feast(data)
    value: float = _DOUBLE(data, 1)[0]
    return value if math.isfinite(value) else _by_feast(data)


def _float(data: bytes) -> Any:
    if len(data) != 5:
        return _by_feast(data)
    value: float = _FLOAT(data, 1)[0]
    return value if math.isfinite(value) else _by_feast(data)


def _integer(data: bytes) -> Any:
    length = len(data)
    if length == 2 and data[1] < _SHORT:
        return data[1]
    if not 2 < length < 10 or data[-1] >= _SHORT or min(data[1:-1]) < _SHORT:
        return _by_feast(data)  # negative, larger than 63 bits, or more than one number
    value = 0
    for byte in data[:0:-1]:
        value = value << 7 | byte & 0x7F
    return value


def _small_integer(data: bytes) -> Any:
    return _integer(data) if len(data) < 6 else _by_feast(data)


def _boolean(data: bytes) -> Any:
    return data[1] == 1 if len(data) == 2 and data[1] < 2 else _by_feast(data)


def _text(data: bytes) -> Any:
    if len(data) > 1 and len(data) - 2 == data[1] < _SHORT:
        try:
            return data[2:].decode()
        except UnicodeDecodeError:
            pass
    return _by_feast(data)


def _tag(name: str, wire_type: int) -> int:
    return int(Value.DESCRIPTOR.fields_by_name[name].number) << 3 | wire_type


_DOUBLES = bytes([_tag("double_val", 1)])
_READERS: dict[int, Callable[[bytes], Any]] = {
    _tag("double_val", 1): _double,
    _tag("float_val", 5): _float,
    _tag("int64_val", 0): _integer,
    _tag("int32_val", 0): _small_integer,
    _tag("unix_timestamp_val", 0): _integer,
    _tag("bool_val", 0): _boolean,
    _tag("string_val", 2): _text,
}


PRESENT, NOT_FOUND, OUTSIDE_MAX_AGE = FieldStatus.PRESENT, FieldStatus.NOT_FOUND, FieldStatus.OUTSIDE_MAX_AGE

RESULTS, VALUES, STATUSES, TIMES = b"\x12", b"\x0a", b"\x12", b"\x1a"
"""The fields ``GetOnlineFeaturesResponse.results`` and ``FeatureVector.values``, ``statuses``, ``event_timestamps``."""

SECOND = 1_000_000_000


@dataclass(frozen=True, slots=True)
class AnswerColumn:
    """A column of an answer: values as JSON has them, statuses, times as (seconds, nanoseconds), and whose it is."""

    name: str
    values: list[Any]
    statuses: list[int]
    times: list[tuple[int, int]]
    view: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What a request gets, in the response's order; ``versions`` names views and their versions, when asked for."""

    columns: list[AnswerColumn]
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


def view_columns(view: ViewRows, names: Sequence[str], owner: str) -> list[AnswerColumn]:
    """A view's features as columns of an answer."""
    statuses, times = list(view.statuses), view.moments()
    columns = zip(names, view.columns(), strict=True)
    return [AnswerColumn(name, natives(column), statuses, times, owner) for name, column in columns]


def request_column(name: str, values: Sequence[Any]) -> AnswerColumn:
    """A column of the request as a column of an answer."""
    return AnswerColumn(name, list(values), [PRESENT] * len(values), [ZERO] * len(values))


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
_KNOWN = 1024
_VALUES, _TIMES = ([_head(tag, length) for length in range(_KNOWN)] for tag in (VALUES, TIMES))
"""What stands before contents of so many bytes."""
