"""The entities of a request: rows or columns of Python values to Feast's entity key bytes and the bytes of its values.

Texts and whole numbers, which keys mostly are, are turned into bytes here; for everything else, and for every request
that is not plainly right, the answer is None, and Feast's own preparation decides (`reads.HonestReads`).
"""

from __future__ import annotations

import json
import struct
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import weakfish.feast.adapter  # noqa: F401 - first: it makes the import of Feast cheap

from feast import utils
from feast.feature_view import DUMMY_ENTITY_ID
from feast.infra.key_encoding_utils import serialize_entity_key
from feast.online_response import OnlineResponse
from feast.protos.feast.serving.ServingService_pb2 import GetOnlineFeaturesResponse
from feast.protos.feast.types.Value_pb2 import Value
from feast.protos.feast.types.Value_pb2 import ValueType as Kind
from feast.type_map import python_values_to_proto_values
from feast.value_type import ValueType

from weakfish.errors import UserError
from weakfish.feast import decoding as build
from weakfish.feast import layout as keys
from weakfish.feast.decoding import Answer, Column, ViewRows, native
from weakfish.feast.exchange import Row, Want, Wants
from weakfish.feast.read_plan import Layout, ReadPlan, ViewRead
from weakfish.project.paths import Project

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


PATIENCE = 1.0
"""Seconds that a marker or setting, once looked at, is believed."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class _Seen:
    """What was found, and when (by the monotonic clock); ``fixed`` is None where time is now."""

    looked: float
    fixed: int | None


class Clock:
    """The clock of a Feast project's reads.

    Parameters
    ----------
    repository
        The folder of the Feast repository; outside of a Weakfish project, or without one, the clock says now.
    name
        The Feast project, which the marker belongs to.
    """

    def __init__(self, repository: Path | None, name: str) -> None:
        self.name = name
        self._root = _root(repository)
        self._settings: tuple[int, str | datetime] | None = None
        self._seen: _Seen | None = None

    def now(self, client: Any) -> int:
        """The time, with the marker read through a sync client where it is needed and old.

        Raises
        ------
        redis.RedisError
            When the marker cannot be read.
        ParamsError
            When the project's settings are malformed.
        """
        if self._is_old():
            self._see(client.get(keys.marker(self.name)) if self._follows_marker() else None)
        return self._time()

    async def now_async(self, client: Any) -> int:
        """The time, with the marker read through an async client; raises as `now` does."""
        if self._is_old():
            self._see(await client.get(keys.marker(self.name)) if self._follows_marker() else None)
        return self._time()

    def _is_old(self) -> bool:
        return self._seen is None or time.monotonic() - self._seen.looked > PATIENCE

    def _time(self) -> int:
        seen = self._seen
        return time.time_ns() if seen is None or seen.fixed is None else seen.fixed

    def _follows_marker(self) -> bool:
        return self._root is not None and self._setting(self._root) != "now"

    def _setting(self, root: Path) -> str | datetime:
        """``publish.as_of`` as params.yaml has it; the file is read again only when it changed."""
        changed = (root / "params.yaml").stat().st_mtime_ns
        if self._settings is None or self._settings[0] != changed:
            self._settings = (changed, Project(root).params.publish.as_of)
        return self._settings[1]

    def _see(self, marker: bytes | None) -> None:
        self._seen = _Seen(time.monotonic(), as_of(marker))


def as_of(marker: bytes | None) -> int | None:
    """The time that a marker answers for, in nanoseconds since 1970; None when it says none."""
    try:
        said = json.loads(marker)["as_of"] if marker else None
        return _nanoseconds(datetime.fromisoformat(said)) if said else None
    except (ValueError, TypeError, KeyError):
        return None


def _nanoseconds(moment: datetime) -> int:
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return (moment - EPOCH) // timedelta(microseconds=1) * 1_000


def _root(repository: Path | None) -> Path | None:
    try:
        return None if repository is None else Project.find(Path(repository)).root
    except UserError:
        return None


Order = list[int] | None


@dataclass(slots=True)
class Asked:
    """A request, ready to be read.

    ``columns`` are those of the request, as `Value` bytes, ``head`` the beginning of the response message; ``orders``
    has for every want which of its rows each row of the response is about (None: they are the same), ``places`` for
    every view which want reads it, where its features begin and where its time stands.
    """

    columns: Sequence[tuple[str, Sequence[bytes]]]
    join_keys: Sequence[str]
    wants: Wants
    orders: Sequence[Order]
    places: Sequence[tuple[int, int, int]]
    head: bytes

    def expanded(self, fetched: Sequence[list[Row]]) -> list[list[Row]]:
        """The rows of each want, one for every row of the response."""
        pairs = zip(fetched, self.orders, strict=True)
        return [rows if order is None else [rows[position] for position in order] for rows, order in pairs]


def by_hand(plan: ReadPlan, columns: Mapping[str, Any]) -> Asked | None:
    """A request whose columns are what the plan expects; None for any other."""
    rows = height(columns)
    layout = plan.layout(tuple(columns)) if rows else None
    if rows is None or layout is None:
        return None
    found: dict[str, KeyColumn] = {}
    for name, kind in layout.keys:
        column = key_column(columns[name], kind)
        if column is None:
            return None
        found[name] = column
    shown: list[tuple[str, Sequence[bytes]]] = [(name, column.values) for name, column in found.items()]
    if layout.request:
        said = _request_columns(layout, columns)
        if said is None:
            return None
        shown += said
    for name, kind, value in layout.constants:
        constant = key_column([value], kind)
        if constant is None:
            return None
        found[name] = KeyColumn(constant.parts * rows, constant.values * rows)
    wants, orders = _wants(layout, found)
    return Asked(shown, [name for name, _ in layout.keys], wants, orders, layout.places, layout.head)


def _request_columns(layout: Layout, columns: Mapping[str, Any]) -> list[tuple[str, Sequence[bytes]]] | None:
    """What the request says of itself, as Feast writes it; None when Feast refuses it, so that it says so itself."""
    try:
        return [
            (name, [value.SerializeToString() for value in python_values_to_proto_values(columns[name], kind)])
            for name, kind in layout.request
        ]
    except Exception:
        return None


def _wants(layout: Layout, found: Mapping[str, KeyColumn]) -> tuple[Wants, list[Order]]:
    wants: list[tuple[Want, Sequence[bytes]]] = []
    orders: list[Order] = []
    for group in layout.groups:
        prefix, suffix = group.prefix, group.suffix
        parts = [found[name].parts for name in group.join_keys]
        values = parts[0] if len(parts) == 1 else [b"".join(row) for row in zip(*parts, strict=True)]
        keys = [prefix + value + suffix for value in values]
        each = dict.fromkeys(keys)
        if len(each) == len(keys):
            orders.append(None)
        else:
            position = {key: number for number, key in enumerate(each)}
            orders.append([position[key] for key in keys])
            keys = list(each)
        wants.append((group.want, keys))
    return wants, orders


def by_feast(
    plan: ReadPlan, config: Any, registry: Any, project: str, features: Any, columns: Mapping[str, Any]
) -> Asked:
    """A request as Feast prepares it; raises what Feast raises."""
    join_key_values, _, _, _, _, _, response = utils._prepare_entities_to_read_from_online_store(
        registry=registry,
        project=project,
        features=features,
        entity_values=columns,
        full_feature_names=plan.full_names,
        native_entity_values=True,
    )
    names = list(response.metadata.feature_names.val)
    shown = [
        (name, [value.SerializeToString() for value in result.values])
        for name, result in zip(names, response.results, strict=True)
    ]
    wants: list[tuple[Want, Sequence[bytes]]] = []
    orders: list[Order] = []
    version, suffix = config.entity_key_serialization_version, config.project.encode()
    for view in plan.views:
        entities, rows, height = utils._get_unique_entities(view.table, join_key_values, plan.join_key_of)
        keys = [
            serialize_entity_key(key, entity_key_serialization_version=version) + suffix
            for key in utils._get_entity_key_protos(entities)
        ]
        order = [0] * height
        for number, positions in enumerate(rows):
            for position in positions:
                order[position] = number
        wants.append((Want(view.fields), keys))
        orders.append(order)
    places = [(number, 0, len(view.features)) for number, view in enumerate(plan.views)]
    join_keys = [name for name in join_key_values if name != DUMMY_ENTITY_ID or name in names]
    return Asked(shown, join_keys, wants, orders, places, plan.metadata((*names, *plan.features)))


Entry = tuple[datetime | None, dict[str, Value] | None]


def response(plan: ReadPlan, asked: Asked, views: Sequence[ViewRows]) -> OnlineResponse:
    """Feast's response; raises `google.protobuf.message.DecodeError` for values that are damaged."""
    parts = [asked.head, *(build.request_result(values) for _, values in asked.columns)]
    for view in views:
        parts += build.view_results(view)
    message = GetOnlineFeaturesResponse.FromString(b"".join(parts))
    if plan.on_demand:
        utils._augment_response_with_on_demand_transforms(
            message, plan.refs, plan.on_demand, plan.full_names, feature_types=plan.types
        )
        utils._drop_unneeded_columns(message, plan.kept(asked.join_keys))
    return OnlineResponse(message, feature_types=plan.types)


def answer(plan: ReadPlan, asked: Asked, views: Sequence[ViewRows]) -> Answer:
    """The response as columns of what JSON says; raises as `response` does."""
    versions = list(plan.versions.items())
    if plan.on_demand:
        return Answer(_columns_of(response(plan, asked, views).proto, plan), versions)
    columns = [build.request_column(name, [native(data) for data in values]) for name, values in asked.columns]
    for view, rows in zip(plan.views, views, strict=True):
        columns += build.view_columns(rows, view.columns, view.name)
    return Answer(columns, versions)


def _columns_of(message: Any, plan: ReadPlan) -> list[Column]:
    """The columns of a response that only Feast could make."""
    owners = {column: view.name for view in plan.views for column in view.columns}
    return [
        Column(
            name,
            [native(value.SerializeToString()) for value in result.values],
            list(result.statuses),
            [(moment.seconds, moment.nanos) for moment in result.event_timestamps],
            owners.get(name),
        )
        for name, result in zip(message.metadata.feature_names.val, message.results, strict=True)
    ]


def entries(view: ViewRead, rows: Sequence[Row], oldest: int | None) -> list[Entry]:
    """The rows of one view as Feast hands them around: without statuses."""
    judged = build.judged(rows, 0, len(view.features), oldest)
    found: list[Entry] = []
    for status, moment, *values in zip(judged.statuses, judged.moments(), *judged.columns(), strict=True):
        if status == build.NOT_FOUND:
            found.append((None, None))
        else:
            messages = (Value.FromString(value or b"") for value in values)
            found.append((_datetime(*moment), dict(zip(view.features, messages, strict=True))))
    return found


def _datetime(seconds: int, nanos: int) -> datetime:
    return EPOCH + timedelta(seconds=seconds, microseconds=nanos // 1_000)


def measure(begun: float, plan: ReadPlan, views: Sequence[ViewRows]) -> None:
    """Tell Feast's own metrics, where `feast serve` has switched them on."""
    metrics = sys.modules.get("feast.metrics")
    if metrics is None or not metrics._config.online_features:
        return
    metrics.track_online_store_read(time.monotonic() - begun)
    for view, rows in zip(plan.views, views, strict=True):
        cells = len(view.features)
        metrics.track_feature_statuses(view.name, cells * rows.present, cells * (len(rows.rows) - rows.present))
