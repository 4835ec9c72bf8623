"""Rows of a view as the online store holds them: entity keys, times and values, encoded by whole columns.

Keys are Feast's (serialization version 3), with the project behind them; values are Feast's in Protobuf's wire format.
A column of byte strings is made as a matrix of bytes, one row each, of which the first so many count; numpy fills it,
so no Python runs per value.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from weakfish.feast.adapter import check_vectors

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from feast import FeatureView, RepoConfig
from feast.feature_view import DUMMY_ENTITY_FIELD, DUMMY_ENTITY_ID, DUMMY_ENTITY_VAL
from feast.infra.key_encoding_utils import deserialize_entity_key, serialize_entity_key, serialize_entity_key_prefix
from feast.infra.online_stores.helpers import compute_versioned_name
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.type_map import NULL_TIMESTAMP_INT_VALUE, python_values_to_proto_values
from feast.value_type import ValueType

from weakfish.contracts.record import CREATED, microseconds
from weakfish.contracts.record import EVENT_TIMESTAMP as EVENT_TIME
from weakfish.errors import StoreError, reason
from weakfish.feast import layout as keys

Bytes = npt.NDArray[np.uint8]
Integers = npt.NDArray[np.int64]

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
"""Wire types."""

SECOND = 1_000_000


def tag(number: int, wire_type: int) -> bytes:
    """What stands before a field's value; all fields here have numbers below 16."""
    return bytes([number << 3 | wire_type])


def varints(values: Integers) -> tuple[Bytes, Integers]:
    """Base-128 numbers, as a matrix of bytes and how many of each row count; negative ones take ten bytes."""
    rest = np.ascontiguousarray(values, np.int64).view(np.uint64)
    highest = int(rest.max(initial=0))
    width = max(1, -(-highest.bit_length() // 7))
    lengths = np.ones(len(rest), np.int64)
    for position in range(1, width):
        lengths += rest >= np.uint64(1 << 7 * position)
    matrix = np.empty((len(rest), width), np.uint8)
    for position in range(width):
        group = (rest >> np.uint64(7 * position)).astype(np.uint8) & np.uint8(0x7F)
        matrix[:, position] = group | ((lengths > position + 1).astype(np.uint8) << 7)
    return matrix, lengths


def prefixed(prefix: bytes, matrix: Bytes) -> Bytes:
    """Each row of a matrix with the same bytes before it."""
    whole = np.empty((len(matrix), len(prefix) + matrix.shape[1]), np.uint8)
    whole[:, : len(prefix)] = np.frombuffer(prefix, np.uint8)
    whole[:, len(prefix) :] = matrix
    return whole


def fixed(values: npt.NDArray[np.generic]) -> Bytes:
    """Numbers of one width as a matrix of their bytes, in the order that the array's type says."""
    return np.ascontiguousarray(values).view(np.uint8).reshape(len(values), values.dtype.itemsize)


def binary(matrix: Bytes, lengths: Integers | None = None) -> pa.Array:
    """Byte strings: of each row all bytes, or the first ``lengths``."""
    count, width = matrix.shape
    if lengths is None:
        offsets = np.arange(count + 1, dtype=np.int64) * width
        data = np.ascontiguousarray(matrix)
    else:
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        there = lengths > 0
        if (lengths[there] == width).all():  # whole rows, as one item each, are copied faster than bytes of them
            data = np.ascontiguousarray(matrix).view(f"V{width}")[there, 0]
        else:
            data = matrix[np.arange(width) < lengths[:, None]]
    if offsets[-1] > np.iinfo(np.int32).max:
        raise pa.ArrowCapacityError("A column of byte strings is larger than 2 GiB; give fewer rows at once.")
    return pa.Array.from_buffers(pa.binary(), count, [None, pa.py_buffer(offsets.astype(np.int32)), pa.py_buffer(data)])


def scalar_fields(prefix: bytes, values: Integers, absent: npt.NDArray[np.bool_] | None = None) -> pa.Array:
    """Messages of one varint field; empty where ``absent``."""
    matrix, lengths = varints(values)
    lengths = lengths + len(prefix)
    if absent is not None:
        lengths[absent] = 0
    return binary(prefixed(prefix, matrix), lengths)


def text_fields(prefix: bytes, values: pa.Array) -> pa.Array:
    """Messages of one field of text or bytes, from an array of ``pa.binary()``; empty where it is null."""
    sizes = pc.fill_null(pc.binary_length(values), 0).to_numpy(zero_copy_only=False)
    matrix, lengths = varints(sizes.astype(np.int64))
    heads = binary(prefixed(prefix, matrix), lengths + len(prefix))
    return pc.fill_null(pc.binary_join_element_wise(heads, values, b""), b"")


def timestamps(microseconds: Integers) -> pa.Array:
    """``google.protobuf.Timestamp`` messages of times in microseconds since 1970; parts that are 0 are left out."""
    seconds, rest = np.divmod(microseconds, SECOND)
    whole = scalar_fields(tag(1, VARINT), seconds, seconds == 0)
    part = scalar_fields(tag(2, VARINT), rest * 1000, rest == 0)
    return pc.binary_join_element_wise(whole, part, b"")


UNITS = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}

STORED: dict[ValueType, tuple[str, pa.DataType]] = {
    ValueType.BOOL: ("bool_val", pa.bool_()),
    ValueType.INT32: ("int32_val", pa.int32()),
    ValueType.INT64: ("int64_val", pa.int64()),
    ValueType.FLOAT: ("float_val", pa.float32()),
    ValueType.DOUBLE: ("double_val", pa.float64()),
    ValueType.STRING: ("string_val", pa.string()),
    ValueType.BYTES: ("bytes_val", pa.binary()),
    ValueType.PDF_BYTES: ("bytes_val", pa.binary()),
    ValueType.IMAGE_BYTES: ("bytes_val", pa.binary()),
    ValueType.UNIX_TIMESTAMP: ("unix_timestamp_val", pa.timestamp("us", "UTC")),
}
"""The field of a ``Value`` for each type whose columns are encoded whole, and the Arrow type that it is about."""


def encoded(column: pa.ChunkedArray | pa.Array, kind: ValueType) -> pa.Array:
    """The messages of a column as ``pa.binary()``, empty for a null (as Feast has it, NaN is null, and a null time is
    the least integer).

    Raises
    ------
    pyarrow.ArrowInvalid
        When a number does not fit its type.
    ValueError, TypeError, AssertionError
        When Feast's encoder does not take a value.
    """
    array = whole(column)
    if kind not in STORED:
        return by_feast(array, kind)
    name, stored = STORED[kind]
    if pa.types.is_null(array.type):
        array = array.cast(stored)
    found = _by_column(array, Value.DESCRIPTOR.fields_by_name[name].number, stored)
    return by_feast(array, kind) if found is None else found


def _by_column(array: pa.Array, field: int, stored: pa.DataType) -> pa.Array | None:
    """The messages of a column; None for an Arrow type that is not its own: Feast's encoder then decides."""
    given, absent = array.type, array.is_null().to_numpy(zero_copy_only=False)
    if pa.types.is_boolean(stored) and pa.types.is_boolean(given):
        numbers = pc.fill_null(array, False).to_numpy(zero_copy_only=False).astype(np.int64)
        return scalar_fields(tag(field, VARINT), numbers, absent)
    if pa.types.is_integer(stored) and pa.types.is_integer(given):
        return scalar_fields(tag(field, VARINT), integers(array, stored), absent)
    if pa.types.is_timestamp(stored) and pa.types.is_timestamp(given):
        seconds = np.where(absent, NULL_TIMESTAMP_INT_VALUE, unix_time(array, 1))
        return scalar_fields(tag(field, VARINT), seconds)
    if pa.types.is_floating(stored) and (pa.types.is_floating(given) or pa.types.is_integer(given)):
        numbers = pc.fill_null(array, pa.scalar(0).cast(given)).to_numpy(zero_copy_only=False)
        if numbers.dtype.kind != "f":
            numbers = numbers.astype(np.float64)  # as Python's float() does, before a float32 rounds again
        single = pa.types.is_float32(stored)
        with np.errstate(over="ignore"):
            numbers = numbers.astype("<f4" if single else "<f8", copy=False)
        absent = absent | np.isnan(numbers)
        matrix = prefixed(tag(field, FIXED32 if single else FIXED64), fixed(numbers))
        return binary(matrix, np.where(absent, 0, matrix.shape[1]) if absent.any() else None)
    if (is_text(stored) and is_text(given)) or (is_bytes(stored) and is_bytes(given)):
        return text_fields(tag(field, LENGTH), binary_of(array))
    return None


def whole(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """A column as one plain array."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return array.dictionary_decode() if pa.types.is_dictionary(array.type) else array


def by_feast(array: pa.Array, kind: ValueType) -> pa.Array:
    """The messages that Feast's own encoder makes, in an order that does not depend on the process.

    It is given what Feast gives it; where it refuses that (maps, times with a zone), the values as Python has them.
    """
    try:
        messages = python_values_to_proto_values(array.to_numpy(zero_copy_only=False), kind)
    except TypeError:
        messages = python_values_to_proto_values(array.to_pylist(maps_as_pydicts="strict"), kind)
    return pa.array([message_bytes(message) for message in messages], pa.binary())


def message_bytes(message: Any) -> bytes:
    """A ``Value`` as bytes that are the same in every process: sets and maps are in sorted order."""
    name = message.WhichOneof("val") or ""
    if name.endswith("_set_val"):
        message = Value.FromString(message.SerializeToString())
        elements = getattr(message, name).val
        ordered = sorted(elements, key=lambda element: (element != element, element))
        del elements[:]
        elements.extend(ordered)
    return bytes(message.SerializeToString(deterministic=True))


def unix_time(array: pa.Array, per_second: int) -> Integers:
    """Times since 1970 in parts of a second, rounded down; nulls are 0."""
    numbers: Integers = pc.fill_null(array.cast(pa.int64()), 0).to_numpy(zero_copy_only=False)
    unit = UNITS[array.type.unit]
    return numbers // (unit // per_second) if unit > per_second else numbers * (per_second // unit)


def integers(array: pa.Array, kind: pa.DataType) -> Integers:
    """Whole numbers that fit ``kind``; nulls are 0. Raises ``pyarrow.ArrowInvalid`` for one that does not."""
    numbers: Integers = pc.fill_null(array.cast(kind), 0).to_numpy(zero_copy_only=False).astype(np.int64)
    return numbers


def binary_of(array: pa.Array) -> pa.Array:
    """Texts or byte strings of any Arrow type as ``pa.binary()``."""
    if pa.types.is_string_view(array.type):
        array = array.cast(pa.string())
    return array.cast(pa.binary())


def is_text(kind: pa.DataType) -> bool:
    """True for each of Arrow's types of text."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def is_bytes(kind: pa.DataType) -> bool:
    """True for each of Arrow's types of byte strings."""
    return bool(
        pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_binary_view(kind)
        or pa.types.is_fixed_size_binary(kind)
    )


VERSION = 3


def entity_keys(view: FeatureView, config: RepoConfig, table: pa.Table | pa.RecordBatch) -> pa.Array:
    """The keys of a table's rows as ``pa.binary()``; raises `StoreError` for a null, or a type that is no key."""
    fields = view.entity_columns or [DUMMY_ENTITY_FIELD]
    columns = {field.name: _key_column(view, table, field.name) for field in fields}
    kinds = {field.name: field.dtype.to_value_type() for field in fields}
    try:
        values = {name: _value(column, kinds[name]) for name, column in columns.items()}
        tail = config.project.encode()
        if config.entity_key_serialization_version != VERSION or any(value is None for value in values.values()):
            return _by_feast(columns, kinds, config.entity_key_serialization_version, tail)
    except (pa.ArrowInvalid, ValueError, TypeError, AssertionError) as error:
        types = ", ".join(f"{name} {column.type} as {kinds[name].name}" for name, column in columns.items())
        raise StoreError(
            f"Join keys of view {view.name} ({types}) make no entity key ({reason(error)}); let them be texts, whole "
            "numbers, bytes or times, as their entity says."
        ) from error
    pieces = [piece for _, value in sorted(values.items()) for piece in value or []]
    return pc.binary_join_element_wise(
        pa.scalar(serialize_entity_key_prefix(list(columns), VERSION), pa.binary()),
        *pieces,
        pa.scalar(tail, pa.binary()),
        pa.scalar(b"", pa.binary()),
    )


def entity_of(key: bytes, project: str) -> dict[str, Any]:
    """The entity of one of a project's keys, by its join keys; bytes are hexadecimal."""
    entity = deserialize_entity_key(key.removesuffix(project.encode()), VERSION)
    values = (getattr(value, str(value.WhichOneof("val"))) for value in entity.entity_values)
    plain = (value.hex() if isinstance(value, bytes) else value for value in values)
    return dict(zip(entity.join_keys, plain, strict=True))


def _key_column(view: FeatureView, table: pa.Table | pa.RecordBatch, name: str) -> pa.Array:
    if name == DUMMY_ENTITY_ID and name not in table.column_names:
        return pa.repeat(DUMMY_ENTITY_VAL, table.num_rows)
    if name not in table.column_names:
        raise StoreError(f"Rows of view {view.name} have no join key {name!r}; correct the view's source.")
    array = whole(table[name])
    if array.null_count:
        raise StoreError(
            f"{array.null_count:,} rows of view {view.name} have no {name}, which is their key; remove them at the "
            "view's source."
        )
    return array


def _value(array: pa.Array, kind: ValueType) -> list[pa.Array] | None:
    """The bytes of a key's values, in pieces to be joined; None when Feast has to find them."""
    if (kind == ValueType.STRING and is_text(array.type)) or (kind in _BYTES and is_bytes(array.type)):
        content = binary_of(array)
        lengths = pc.binary_length(content).to_numpy(zero_copy_only=False).astype("<u4")
        head = struct.pack("<I", (kind if kind == ValueType.STRING else ValueType.BYTES).value)
        return [binary(prefixed(head, fixed(lengths))), content]
    if kind in _NUMBERS and _NUMBERS[kind][0](array.type):
        width, numbers = _NUMBERS[kind][1], _NUMBERS[kind][2](array)
        return [binary(prefixed(struct.pack("<II", kind.value, width), fixed(numbers.astype(f"<i{width}"))))]
    return None


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
    ValueType.UNIX_TIMESTAMP: (pa.types.is_timestamp, 8, lambda array: unix_time(array, 1)),
}
"""By type: which Arrow types it takes, its width in bytes, its numbers."""


UNKNOWN = int(np.iinfo(np.int64).min)
"""The created time of a row that has none: older than any."""


@dataclass(frozen=True)
class Encoded:
    """Rows of one view, ready to be written: columns of one length, ``pa.binary()`` but for the two times in numbers.

    Parameters
    ----------
    view
        The view's name as the fields have it (with its version, where Feast versions views online).
    keys
        Feast's entity keys with the project behind them.
    times
        ``_ts:<view>``: the event time as a ``Timestamp`` message.
    event_us, created_us
        Event time and created time in microseconds since 1970, as 64-bit integers; created may be `UNKNOWN`.
    created
        ``_created:<view>``: both times as big-endian 64-bit integers.
    values
        ``Value`` messages by the name of the hash field (4 bytes), in the order of the view's features.
    """

    view: str
    keys: pa.Array
    times: pa.Array
    event_us: Integers
    created_us: Integers
    created: pa.Array
    values: dict[bytes, pa.Array]

    def __len__(self) -> int:
        return len(self.keys)

    def fields(self) -> dict[bytes, pa.Array]:
        """Every field of the rows' hashes by its name: time, created time, values."""
        own = {keys.time_field(self.view): self.times, keys.created_field(self.view): self.created}
        return own | self.values


def view_name(view: Any, config: RepoConfig) -> str:
    """The name under which a view's fields stand in the store."""
    return str(compute_versioned_name(view, config.registry.enable_online_feature_view_versioning))


def encode(
    view: FeatureView,
    config: RepoConfig,
    table: pa.Table | pa.RecordBatch,
    *,
    event_time: str = EVENT_TIME,
    created: str | None = CREATED,
) -> Encoded:
    """Encode rows of a view: its join keys and features by their names, event time and created time (UTC).

    A table of at most some 10,000 rows keeps memory bounded. The same rows give the same bytes in every process.

    Parameters
    ----------
    event_time, created
        The columns of the two times; rows without a created time count as older than any that has one.

    Raises
    ------
    StoreError
        When a column is missing, a join key or an event time is null, or a value does not fit its feature's type.
    """
    name = view_name(view, config)
    try:
        check_vectors(table, view)
    except ValueError as error:
        raise StoreError(f"{error} Correct the table or the field's vector_length.") from error
    events = _microseconds(name, _column(name, table, event_time), event_time)
    known = created is not None and created in table.column_names
    made = _microseconds(name, _column(name, table, str(created)), str(created), UNKNOWN) if known else None
    values = {}
    for feature in view.features:
        column = _column(name, table, feature.name)
        try:
            values[keys.feature_field(name, feature.name)] = encoded(column, feature.dtype.to_value_type())
        except StoreError as error:
            raise StoreError(f"Feature {feature.name} of view {name} cannot be stored: {error}") from error
        except (pa.ArrowInvalid, ValueError, TypeError, AssertionError) as error:
            raise StoreError(
                f"Feature {feature.name} of view {name} is declared {feature.dtype}, and its column ({column.type}) "
                f"holds what is none ({reason(error)}); correct the table or the view's schema."
            ) from error
    return _encoded(name, entity_keys(view, config, table), events, made, values)


def encode_rows(view: Any, config: RepoConfig, rows: Iterable[tuple[Any, Any, Any, Any]]) -> Iterator[Encoded]:
    """Encode rows as Feast hands them to an online store: entity key, values by feature, event time, created time.

    Rows that follow one another with the same features come as one; a row may have some of the view's features only.
    """
    name = view_name(view, config)
    tail = config.project.encode()
    for features, alike in groupby(rows, key=lambda row: tuple(row[1])):
        group = list(alike)
        events = np.array([_since_1970(name, row[2]) for row in group], np.int64)
        made = np.array([UNKNOWN if pd.isnull(row[3]) else microseconds(row[3]) for row in group], np.int64)
        entities = [serialize_entity_key(row[0], config.entity_key_serialization_version) + tail for row in group]
        values = {
            keys.feature_field(name, feature): pa.array([message_bytes(row[1][feature]) for row in group], pa.binary())
            for feature in features
        }
        yield _encoded(name, pa.array(entities, pa.binary()), events, made, values)


def _encoded(
    name: str, entities: pa.Array, events: Integers, made: Integers | None, values: dict[bytes, pa.Array]
) -> Encoded:
    made = np.full(len(events), UNKNOWN, np.int64) if made is None else made
    stamps = binary(fixed(np.column_stack([events, made]).astype(">i8").view("V16").reshape(-1)))
    return Encoded(name, entities, timestamps(events), events, made, stamps, values)


def _column(view: str, table: pa.Table | pa.RecordBatch, name: str) -> Any:
    if name not in table.column_names:
        raise StoreError(
            f"Rows of view {view} have no column {name!r} (there are {', '.join(table.column_names)}); "
            "correct the view's source."
        )
    return table[name]


def _microseconds(view: str, column: Any, name: str, null: int | None = None) -> Integers:
    """A column of times as microseconds since 1970, rounded down."""
    array = whole(column)
    if pa.types.is_date(array.type) or pa.types.is_null(array.type):
        array = array.cast(pa.timestamp("us"))
    if not pa.types.is_timestamp(array.type):
        raise StoreError(
            f"Column {name} of view {view} is {array.type}, which is not a time; correct the view's source."
        )
    if null is None and array.null_count:
        raise StoreError(f"{array.null_count:,} rows of view {view} have no {name}; correct the view's source.")
    numbers = unix_time(array, SECOND)
    return numbers if null is None else np.where(array.is_null().to_numpy(zero_copy_only=False), null, numbers)


def _since_1970(view: str, time: Any) -> int:
    if pd.isnull(time):
        raise StoreError(f"A row of view {view} has no event time; give it one.")
    return microseconds(time)
