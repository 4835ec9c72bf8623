"""Values as Redis holds them, in Feast's protobuf bytes, to what JSON says; scalars by hand, all else by Feast.

Bytes come in, one value at a time, and Python values go out: those that Feast's feature server writes for them. A
value is read by hand only where its bytes are wholly understood; whatever else they hold is left to protobuf and
Feast.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from feast.feature_server_utils import _value_to_native
from feast.protos.feast.types.Value_pb2 import Value

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
    return _value_to_native(Value.FromString(data))


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
