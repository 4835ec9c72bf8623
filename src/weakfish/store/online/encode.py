"""Rows of a feature view to the bytes of Feast's own Redis layout: Arrow columns in, Arrow columns of byte strings out.

Key, times and values are what Feast's Redis store writes, byte for byte; ``created`` is the one field of ours, by which
a writer tells a correction from the row that it corrects.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from feast import FeatureView, RepoConfig
from feast.infra.key_encoding_utils import serialize_entity_key
from feast.infra.online_stores.helpers import compute_versioned_name

from weakfish.errors import StoreError
from weakfish.store import keys
from weakfish.store.online import wire
from weakfish.store.online.entity_keys import entity_keys
from weakfish.store.online.values import encoded, message_bytes, whole
from weakfish.store.views import CREATED, EVENT_TIME

UNKNOWN = int(np.iinfo(np.int64).min)
"""The created time of a row that has none: older than any."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000}


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

    def slice(self, start: int, length: int) -> Encoded:
        """Some of the rows, nothing copied."""
        rows = slice(start, start + length)
        return replace(
            self,
            keys=self.keys[rows],
            times=self.times[rows],
            event_us=self.event_us[rows],
            created_us=self.created_us[rows],
            created=self.created[rows],
            values={name: column[rows] for name, column in self.values.items()},
        )


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
        except (pa.ArrowInvalid, ValueError, TypeError, AssertionError) as error:
            raise StoreError(
                f"Feature {feature.name} of view {name} is declared {feature.dtype}, and its column ({column.type}) "
                f"holds what is none ({_reason(error)}); correct the table or the view's schema."
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
        made = np.array([UNKNOWN if pd.isnull(row[3]) else _since_1970(name, row[3]) for row in group], np.int64)
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
        raise StoreError(f"Column {name} of view {view} is {array.type} and no time; correct the view's source.")
    if null is None and array.null_count:
        raise StoreError(f"{array.null_count:,} rows of view {view} have no {name}; correct the view's source.")
    unit = array.type.unit
    numbers = pc.fill_null(array.cast(pa.int64()), 0).to_numpy(zero_copy_only=False)
    numbers = numbers // 1000 if unit == "ns" else numbers * (wire.SECOND // PER_SECOND[unit])
    return numbers if null is None else np.where(array.is_null().to_numpy(zero_copy_only=False), null, numbers)


def _since_1970(view: str, time: Any) -> int:
    if pd.isnull(time):
        raise StoreError(f"A row of view {view} has no event time; give it one.")
    aware = time if time.tzinfo else time.replace(tzinfo=UTC)
    return int((aware - EPOCH) // MICROSECOND)


def _reason(error: BaseException) -> str:
    text = (str(error).splitlines() or [""])[0].rstrip(".")
    return f"{type(error).__name__}: {text}"[:200]
