"""Protobuf's wire format by whole columns: numbers of any column in, one Arrow array of byte strings out.

Nothing here knows Feast. A column of byte strings is made as a matrix of bytes, one row each, of which the first so
many count; numpy fills it, so no Python runs per value.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

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
