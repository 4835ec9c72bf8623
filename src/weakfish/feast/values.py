"""Feast's values in Protobuf's wire format, made by whole columns.

A column of byte strings is made as a matrix of bytes, one row each, of which the first so
many count; numpy fills it, so no Python runs per value.
"""

from __future__ import annotations

from typing import Any

import weakfish.feast.adapter  # noqa: F401 - first: it makes the import of Feast cheap

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from feast.protos.feast.types.Value_pb2 import Value
from feast.type_map import NULL_TIMESTAMP_INT_VALUE, python_values_to_proto_values
from feast.value_type import ValueType

Bytes = npt.NDArray[np.uint8]
Integers = npt.NDArray[np.int64]

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
"""Wire types."""

SECOND = 1_000_000


def tag(number: int, wire_type: int) -> bytes:
    """What stands before a field's value."""
    matrix, lengths = varints(np.array([number << 3 | wire_type], np.int64))
    return matrix[0, : lengths[0]].tobytes()


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
    if pa.types.is_dictionary(array.type):
        messages = pc.fill_null(encoded(array.dictionary, kind).take(array.indices), b"")
        return pc.if_else(pc.is_null(array), encoded(pa.nulls(1, array.type.value_type), kind)[0], messages)
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
    """A column as one array."""
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


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
