"""Rows of a view as the online store holds them: entity keys, times and values, encoded by whole columns.

Keys are Feast's (serialization version 3), with the project behind them.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import weakfish.feast.adapter  # noqa: F401 - first: it makes the import of Feast cheap

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from feast import FeatureView, RepoConfig
from feast.feature_view import DUMMY_ENTITY_FIELD, DUMMY_ENTITY_ID, DUMMY_ENTITY_VAL
from feast.infra.key_encoding_utils import serialize_entity_key, serialize_entity_key_prefix
from feast.infra.online_stores.helpers import compute_versioned_name
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.type_map import python_values_to_proto_values
from feast.value_type import ValueType

from weakfish.contracts.record import CREATED, microseconds
from weakfish.contracts.record import EVENT_TIMESTAMP as EVENT_TIME
from weakfish.errors import StoreError
from weakfish.feast import layout as keys
from weakfish.feast import values as wire
from weakfish.feast.registry import reason
from weakfish.feast.values import binary_of, encoded, integers, is_bytes, is_text, message_bytes, unix_time, whole

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


def _key_column(view: FeatureView, table: pa.Table | pa.RecordBatch, name: str) -> pa.Array:
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
    if (kind == ValueType.STRING and is_text(array.type)) or (kind in _BYTES and is_bytes(array.type)):
        content = binary_of(array)
        lengths = pc.binary_length(content).to_numpy(zero_copy_only=False).astype("<u4")
        head = struct.pack("<I", (kind if kind == ValueType.STRING else ValueType.BYTES).value)
        return [wire.binary(wire.prefixed(head, wire.fixed(lengths))), content]
    if kind in _NUMBERS and _NUMBERS[kind][0](array.type):
        width, numbers = _NUMBERS[kind][1], _NUMBERS[kind][2](array)
        return [
            wire.binary(wire.prefixed(struct.pack("<II", kind.value, width), wire.fixed(numbers.astype(f"<i{width}"))))
        ]
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
    event_us: wire.Integers
    created_us: wire.Integers
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
    name: str, entities: pa.Array, events: wire.Integers, made: wire.Integers | None, values: dict[bytes, pa.Array]
) -> Encoded:
    made = np.full(len(events), UNKNOWN, np.int64) if made is None else made
    stamps = wire.binary(wire.fixed(np.column_stack([events, made]).astype(">i8").view("V16").reshape(-1)))
    return Encoded(name, entities, wire.timestamps(events), events, made, stamps, values)


def _column(view: str, table: pa.Table | pa.RecordBatch, name: str) -> Any:
    if name not in table.column_names:
        raise StoreError(
            f"Rows of view {view} have no column {name!r} (there are {', '.join(table.column_names)}); "
            "correct the view's source."
        )
    return table[name]


def _microseconds(view: str, column: Any, name: str, null: int | None = None) -> wire.Integers:
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
    numbers = unix_time(array, wire.SECOND)
    return numbers if null is None else np.where(array.is_null().to_numpy(zero_copy_only=False), null, numbers)


def _since_1970(view: str, time: Any) -> int:
    if pd.isnull(time):
        raise StoreError(f"A row of view {view} has no event time; give it one.")
    return microseconds(time)
