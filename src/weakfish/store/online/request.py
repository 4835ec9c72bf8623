"""The entities of a request: rows or columns of Python values to Feast's entity key bytes and the bytes of its values.

Texts and whole numbers, which keys mostly are, are turned into bytes here; for everything else, and for every request
that is not plainly right, the answer is None, and Feast's own preparation decides (`reads.HonestReads`).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from feast.protos.feast.types.Value_pb2 import Value
from feast.protos.feast.types.Value_pb2 import ValueType as Kind
from feast.value_type import ValueType

Columns = dict[str, list[Any]]

_HEAD = struct.Struct("<II").pack
_SHORT = 128
_KEY_HEADS = [_HEAD(Kind.STRING, length) for length in range(_SHORT)]
_VALUE_HEADS = [Value(string_val="x" * length).SerializeToString()[: -length or None] for length in range(_SHORT)]
_INT64 = struct.Struct("<IIq").pack
_INT32 = struct.Struct("<IIi").pack
_TEXTS = (ValueType.STRING, ValueType.UNKNOWN)
_INTEGERS = (ValueType.INT64, ValueType.INT32, ValueType.UNKNOWN)


@dataclass(slots=True)
class KeyColumn:
    """A column of keys: each as a part of an entity key, and as a `Value`."""

    parts: list[bytes]
    values: list[bytes]


def columnar(rows: Any) -> Mapping[str, Any]:
    """Rows as columns; what is columns already is left alone.

    Raises
    ------
    ValueError
        When rows have different keys, as Feast says it (and where Feast would shift values into other rows).
    """
    if not isinstance(rows, list):
        columns: Mapping[str, Any] = rows
        return columns
    names = rows[0].keys()
    for row in rows:
        if row.keys() != names:
            if row.keys() - names:
                raise ValueError("All entity_rows must have the same keys.")
            raise ValueError("All entity rows must have the same columns.")
    return {name: [row[name] for row in rows] for name in names}


def height(columns: Mapping[str, Any]) -> int | None:
    """How many rows columns have; None when they are no lists, have none, or differ."""
    heights = {len(column) if type(column) is list else 0 for column in columns.values()}
    return heights.pop() or None if len(heights) == 1 else None


def key_column(values: Sequence[Any], kind: ValueType) -> KeyColumn | None:
    """A column of texts or of whole numbers as bytes; None for any other."""
    types = set(map(type, values))
    if types == {str} and kind in _TEXTS:
        return _texts(values)
    if types == {int} and kind in _INTEGERS:
        return _integers(values, kind)
    return None


def _texts(values: Sequence[str]) -> KeyColumn | None:
    try:
        encoded = [value.encode() for value in values]
        if max(map(len, encoded), default=0) < _SHORT:  # what stands before a text is made but once
            return KeyColumn(
                [_KEY_HEADS[len(value)] + value for value in encoded],
                [_VALUE_HEADS[len(value)] + value for value in encoded],
            )
        return KeyColumn(
            [_HEAD(Kind.STRING, len(value)) + value for value in encoded],
            [Value(string_val=value).SerializeToString() for value in values],
        )
    except ValueError:  # half a surrogate pair
        return None


def _integers(values: Sequence[int], kind: ValueType) -> KeyColumn | None:
    try:
        if kind == ValueType.INT32:
            parts = [_INT32(Kind.INT32, 4, value) for value in values]
            return KeyColumn(parts, [Value(int32_val=value).SerializeToString() for value in values])
        parts = [_INT64(Kind.INT64, 8, value) for value in values]
        return KeyColumn(parts, [Value(int64_val=value).SerializeToString() for value in values])
    except (struct.error, ValueError):  # too large
        return None
