"""Rows as plain Feast reads them: its own Redis store, none of our code, compared with what its own encoder expects.

Rows of a feature table come in; the positions of those that Feast reads otherwise go out.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import redis
from feast import FeatureView, RepoConfig
from feast.feature_view import DUMMY_ENTITY_ID, DUMMY_ENTITY_VAL
from feast.infra.online_stores.redis import RedisOnlineStore
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.type_map import python_values_to_proto_values

from weakfish.store.registry import quiet
from weakfish.store.views import EVENT_TIME

CLOSE = timedelta(microseconds=1)
"""How far Feast's reading of an event time may be off: it makes a float of it."""


def differing(client: redis.Redis, config: RepoConfig, view: FeatureView, rows: pa.RecordBatch) -> list[int]:
    """Positions of rows that plain Feast's reader does not return as the table has them."""
    names = [feature.name for feature in view.features]
    expected = {feature.name: _protos(rows, feature) for feature in view.features}
    times = [time.astimezone(UTC) for time in rows.column(EVENT_TIME).to_pylist()]
    found = _read(client, config, view, rows, names)
    return [
        position
        for position, (time, values) in enumerate(found)
        if not _is_time(time, times[position])
        or values is None
        or any(not _is_same(values[name], expected[name][position]) for name in names)
    ]


def _read(client: redis.Redis, config: RepoConfig, view: FeatureView, rows: pa.RecordBatch, names: list[str]) -> Any:
    plain = RedisOnlineStore()
    plain._client = client  # its own connecting knows one server's address, in plain text
    columns = [field for field in view.entity_columns if field.name != DUMMY_ENTITY_ID]
    values = zip(*(_protos(rows, column) for column in columns), strict=True)
    entities = [EntityKey(join_keys=[column.name for column in columns], entity_values=row) for row in values]
    if not columns:
        nobody = EntityKey(join_keys=[DUMMY_ENTITY_ID], entity_values=[Value(string_val=DUMMY_ENTITY_VAL)])
        entities = [nobody] * rows.num_rows
    return plain.online_read(config, view, entities, list(names))


def _protos(rows: pa.RecordBatch, field: Any) -> list[Value]:
    values = rows.column(field.name).to_numpy(zero_copy_only=False)
    with quiet():
        found: list[Value] = python_values_to_proto_values(values, field.dtype.to_value_type())
    return found


def _is_time(found: datetime | None, expected: datetime) -> bool:
    return found is not None and abs(found - expected) <= CLOSE


def _is_same(found: Value, expected: Value) -> bool:
    """Equal, as bytes too, for NaN is not itself; the members of a set come in no order."""
    if found == expected or found.SerializeToString() == expected.SerializeToString():
        return True
    kind = found.WhichOneof("val")
    if kind is None or kind != expected.WhichOneof("val") or "set" not in kind:
        return False
    return sorted(getattr(found, kind).val) == sorted(getattr(expected, kind).val)
