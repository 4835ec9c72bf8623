"""Values in the online store that cannot be read: how they are noticed, and where they are told of.

Whole columns are checked by the first bytes of their values, which say the type. Only where that finds something are
values read one by one.
"""

from __future__ import annotations

import hashlib
import logging
import re
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from operator import methodcaller

from weakfish.feast.adapter import value_to_json

from feast.protos.feast.types.Value_pb2 import Value
from feast.type_map import NULL_TIMESTAMP_INT_VALUE, feast_value_type_to_python_type
from feast.value_type import ValueType
from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp
from google.protobuf.unknown_fields import UnknownFieldSet

Column = Sequence[bytes | None]


class Unreadable(Exception):
    """A column holds a value that cannot be read."""


FIRST, LAST = -62_135_596_800, 253_402_300_799
"""Seconds since 1970 of the years 1 and 9999, between which Protobuf and Python have times."""


def are_times(column: Column) -> bool:
    """Whether all of a column are times that Python has too, given that each is a message; None is a row less."""
    return _usual_times(b"".join(filter(None, column))) is not None or all(map(is_time, column))


def is_time(data: bytes | None) -> bool:
    """Whether bytes are a ``Timestamp`` that Python has too; None is a row that is not there, which is fine."""
    if data is None:
        return True
    try:
        found = Timestamp.FromString(data)
    except DecodeError:
        return False
    is_in_range = FIRST <= found.seconds <= LAST and 0 <= found.nanos < 1_000_000_000
    return is_in_range and not len(UnknownFieldSet(found))


_usual_times = re.compile(
    rb"(?s)(?:\x08[\x80-\xff]{4}[\x00-\x7f]"
    rb"(?:\x10(?:[\x80-\xff]{0,3}[\x00-\x7f]|[\x80-\xff]{4}[\x00-\x02]|[\x80-\xff]{3}[\x80-\xdb]\x03))?)*"
).fullmatch
"""Messages one after another of the years 1978 to 3058, most of their nanoseconds included.

Each is a field that says its own end, so what matches has the ends of its messages where they are.
"""

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
WIRE_TYPES = {
    **dict.fromkeys((ValueType.INT32, ValueType.INT64, ValueType.BOOL, ValueType.UNIX_TIMESTAMP), VARINT),
    ValueType.DOUBLE: FIXED64,
    ValueType.FLOAT: FIXED32,
}
"""Of the types that are not stored by their length."""

BYTES = (ValueType.PDF_BYTES, ValueType.IMAGE_BYTES)
BY_TAG = {
    *WIRE_TYPES,
    *(kind for kind in ValueType if kind.name.startswith(("STRING", "BYTES", "JSON"))),
    *(kind for kind in ValueType if kind.name.startswith(("INT32_", "INT64_", "DOUBLE_", "FLOAT_", "BOOL_"))),
}
"""Types of which every value can be read that is of the type."""

TEXTS = ("string_val", "string_list_val", "string_set_val")
"""What Feast kept UUIDs in before it had types for them, and still reads."""


def is_value(data: bytes, kind: ValueType) -> bool:
    """Whether Feast can read bytes as a value of a type, or as a null."""
    try:
        value = Value.FromString(data)
        found = value.WhichOneof("val")
        if found is None:
            return not data  # other bytes are fields that a `Value` does not have
        if kind != ValueType.UNKNOWN and found != "null_val":
            number = Value.DESCRIPTOR.fields_by_name[found].number
            if number != _number(kind) and not ("UUID" in kind.name and found in TEXTS):
                return False
        if kind not in BY_TAG or kind == ValueType.UNIX_TIMESTAMP:
            feast_value_type_to_python_type(value, kind)
            value_to_json(value)
    except Exception:  # whatever Feast's conversions stumble over
        return False
    return True


def _number(kind: ValueType) -> int:
    """The field of a `Value` for a type: Feast numbers both alike, but for kinds of bytes."""
    return int((ValueType.BYTES if kind in BYTES else kind).value)


def _head(kind: ValueType) -> bytes:
    """What a value of a type begins with; empty where that does not say that it can be read."""
    if kind not in BY_TAG and kind not in BYTES:
        return b""
    number = _number(kind) << 3 | WIRE_TYPES.get(kind, LENGTH)
    return bytes([number]) if number < 0x80 else bytes([number & 0x7F | 0x80, number >> 7])


ANY = -1
"""No byte: of some types, the first byte does not say anything."""


def first_byte(kind: ValueType) -> int:
    """The first byte of all values of a type that are not null; `ANY` where it does not say anything, or not enough."""
    return ANY if WIRE_TYPES.get(kind) == VARINT else next(iter(_head(kind)), ANY)


def size_of(kind: ValueType) -> int:
    """How many bytes all values of a type have that are not null; `ANY` where they differ."""
    return {FIXED64: 9, FIXED32: 5}.get(WIRE_TYPES.get(kind, ANY), ANY)


Check = Callable[[Column], bool]


def check_of(kind: ValueType) -> Check | None:
    """What tells whether all values of a column can be read as a type; None where first byte and size say it all.

    The check may take for granted that each value is a message.
    """
    head = _head(kind)
    if WIRE_TYPES.get(kind) == VARINT:  # the next field begins where a number ends: there may be another one, then
        longest = b"4" if kind == ValueType.UNIX_TIMESTAMP else b"9"
        usual = re.compile(rb"(?s)(?:" + re.escape(head) + rb"[\x80-\xff]{0," + longest + rb"}[\x00-\x7f])*").fullmatch
        return lambda column: usual(b"".join(filter(None, column))) is not None or _are_values(column, kind)
    if not head:
        return lambda column: _are_values(column, kind)
    if size_of(kind) != ANY:
        return None
    starts, place = methodcaller("startswith", head), len(head)

    def are_whole(column: Column) -> bool:
        """Whether each ends where its first field does; behind it there may be another one, of any type."""
        found = list(filter(None, column))
        if place > 1 and not all(map(starts, found)):
            return False
        others = [data for data in found if data[place] + place + 1 != len(data)]
        return not others or all(_is_one_field(data, place) or is_value(data, kind) for data in others)

    return are_whole


def _is_one_field(data: bytes, place: int) -> bool:
    """Whether bytes end with a field whose length stands at a place."""
    length = 0
    for shift, byte in enumerate(data[place : place + 5]):
        length |= (byte & 0x7F) << 7 * shift
        if byte < 0x80:
            return place + shift + 1 + length == len(data)
    return False


_NULL_TIME = Value(unix_timestamp_val=NULL_TIMESTAMP_INT_VALUE).SerializeToString()


def _are_values(column: Column, kind: ValueType) -> bool:
    others = {data for data in column if data} - {_NULL_TIME if kind == ValueType.UNIX_TIMESTAMP else b""}
    return all(is_value(data, kind) for data in others)


LINES = 10
"""Values that the log names in a minute; of the others it says how many there were."""

MINUTE = 60.0
_log = logging.getLogger("weakfish.feast")


class Log:
    """Names values that cannot be read, by view, feature and a hash of the key, in a bounded number of lines."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._began, self._named, self._others = float("-inf"), 0, 0

    def tell(self, found: Iterable[tuple[str, str, bytes]], now: float | None = None) -> None:
        """Name values by view, feature (``*`` for all of a row) and key.

        ``now`` is in seconds, those of the monotonic clock by default.
        """
        now = time.monotonic() if now is None else now
        with self._lock:
            if now - self._began >= MINUTE:
                if self._others:
                    _log.warning("%s more values in the online store could not be read.", f"{self._others:,}")
                self._began, self._named, self._others = now, 0, 0
            for view, feature, key in found:
                if self._named == LINES:
                    self._others += 1
                    continue
                self._named += 1
                _log.warning(
                    "The online store holds something unreadable for %s:%s of the key with the hash %s; it is served "
                    "as null, and `weakfish audit` names the entity.",
                    *(view, feature, hash_of(key)),
                )


def hash_of(key: bytes) -> str:
    """The first 16 digits of a key's SHA-256."""
    return hashlib.sha256(key).hexdigest()[:16]
