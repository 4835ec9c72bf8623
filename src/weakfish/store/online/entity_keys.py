"""Feast's entity keys (serialization version 3), with the project behind them, by whole columns of join keys."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from feast import FeatureView, RepoConfig
from feast.feature_view import DUMMY_ENTITY_FIELD, DUMMY_ENTITY_ID, DUMMY_ENTITY_VAL
from feast.infra.key_encoding_utils import serialize_entity_key, serialize_entity_key_prefix
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.type_map import python_values_to_proto_values
from feast.value_type import ValueType

from weakfish.errors import StoreError
from weakfish.store.online import wire
from weakfish.store.online.values import binary_of, integers, is_bytes, is_text, unix_seconds, whole

VERSION = 3


def entity_keys(view: FeatureView, config: RepoConfig, table: pa.Table | pa.RecordBatch) -> pa.Array:
    """The keys of a table's rows as ``pa.binary()``; raises `StoreError` for a null, or a type that is no key."""
    fields = view.entity_columns or [DUMMY_ENTITY_FIELD]
    columns = {field.name: _column(view, table, field.name) for field in fields}
    kinds = {field.name: field.dtype.to_value_type() for field in fields}
    try:
        values = {name: _value(column, kinds[name]) for name, column in columns.items()}
        tail = config.project.encode()
        if config.entity_key_serialization_version != VERSION or any(value is None for value in values.values()):
            return _by_feast(columns, kinds, config.entity_key_serialization_version, tail)
    except (pa.ArrowInvalid, ValueError, TypeError, AssertionError) as error:
        types = ", ".join(f"{name} {column.type} as {kinds[name].name}" for name, column in columns.items())
        reason = (str(error).splitlines() or [""])[0].rstrip(".")
        raise StoreError(
            f"Join keys of view {view.name} ({types}) make no entity key: {reason}; let them be texts, whole numbers, "
            "bytes or times, as their entity says."
        ) from error
    pieces = [piece for _, value in sorted(values.items()) for piece in value or []]
    return pc.binary_join_element_wise(
        pa.scalar(serialize_entity_key_prefix(list(columns), VERSION), pa.binary()),
        *pieces,
        pa.scalar(tail, pa.binary()),
        pa.scalar(b"", pa.binary()),
    )


def _column(view: FeatureView, table: pa.Table | pa.RecordBatch, name: str) -> pa.Array:
    if name == DUMMY_ENTITY_ID and name not in table.column_names:
        return pa.repeat(DUMMY_ENTITY_VAL, table.num_rows)
    if name not in table.column_names:
        raise StoreError(f"Rows of view {view.name} have no join key {name!r}; correct the view's source.")
    array = whole(table[name])
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if array.null_count:
        raise StoreError(
            f"{array.null_count:,} rows of view {view.name} have no {name}, which is their key; remove them at the "
            "view's source."
        )
    return array


def _value(array: pa.Array, kind: ValueType) -> list[pa.Array] | None:
    """The bytes of a key's values, in pieces to be joined; None when Feast has to find them."""
    if kind == ValueType.STRING and is_text(array.type):
        return _of_any_length(kind, array)
    if kind in _BYTES and is_bytes(array.type):
        return _of_any_length(ValueType.BYTES, array)
    if kind in _NUMBERS and _NUMBERS[kind][0](array.type):
        width, numbers = _NUMBERS[kind][1], _NUMBERS[kind][2](array)
        return [
            wire.binary(wire.prefixed(struct.pack("<II", kind.value, width), wire.fixed(numbers.astype(f"<i{width}"))))
        ]
    return None


def _of_any_length(kind: ValueType, array: pa.Array) -> list[pa.Array]:
    content = binary_of(array)
    lengths = pc.binary_length(content).to_numpy(zero_copy_only=False).astype("<u4")
    return [wire.binary(wire.prefixed(struct.pack("<I", kind.value), wire.fixed(lengths))), content]


def _by_feast(columns: dict[str, pa.Array], kinds: dict[str, ValueType], version: int, tail: bytes) -> pa.Array:
    protos = [
        python_values_to_proto_values(column.to_numpy(zero_copy_only=False), kinds[name])
        for name, column in columns.items()
    ]
    names = list(columns)
    found = [
        serialize_entity_key(EntityKey(join_keys=names, entity_values=row), version) + tail
        for row in zip(*protos, strict=True)
    ]
    return pa.array(found, pa.binary())


_BYTES = (ValueType.BYTES, ValueType.PDF_BYTES, ValueType.IMAGE_BYTES)
_Numbers = tuple[Callable[[pa.DataType], bool], int, Callable[[pa.Array], Any]]
_NUMBERS: dict[ValueType, _Numbers] = {
    ValueType.INT32: (pa.types.is_integer, 4, lambda array: integers(array, pa.int32())),
    ValueType.INT64: (pa.types.is_integer, 8, lambda array: integers(array, pa.int64())),
    ValueType.UNIX_TIMESTAMP: (pa.types.is_timestamp, 8, unix_seconds),
}
"""By type: which Arrow types it takes, its width in bytes, its numbers."""
