"""Reads: from a request to keys and fields, from what the store holds there to Feast's response.

Texts and whole numbers, which keys mostly are, are turned into bytes here; everything else, and every request that is
not plainly right, is left to Feast's own preparation, so that Feast decides and says what is wrong. The response is put
together as bytes too, and parsed once.
"""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from weakfish.feast.adapter import (
    add_on_demand_features,
    counts_reads,
    drop_columns,
    entity_key_messages,
    prepared_entities,
    unique_entities,
)

from feast import RepoConfig
from feast.feature_view import DUMMY_ENTITY_ID
from feast.infra.key_encoding_utils import serialize_entity_key
from feast.online_response import OnlineResponse
from feast.protos.feast.serving.ServingService_pb2 import FieldStatus, GetOnlineFeaturesResponse
from feast.protos.feast.types.Value_pb2 import Value
from feast.protos.feast.types.Value_pb2 import ValueType as Kind
from feast.type_map import python_values_to_proto_values
from feast.value_type import ValueType

from weakfish.contracts.publications import parse_marker
from weakfish.contracts.record import microseconds, moment
from weakfish.errors import UserError
from weakfish.feast.exchange import Exchange, Row, Want, Wants
from weakfish.feast.layout import marker
from weakfish.feast.read_plan import PlanCache, ReadPlan, RequestLayout, view_read
from weakfish.project.paths import Project

Entry = tuple[datetime | None, dict[str, Value] | None]
"""Event time and values of a row, as Feast hands it around; (None, None) for one that is not there."""


class OnlineReader:
    """Reads by one Feast configuration, through one client.

    All methods raise `redis.RedisError`, `ParamsError` when the project's settings are malformed, and what Feast
    raises.
    """

    def __init__(self, config: RepoConfig, client: Any) -> None:
        self.config = config
        self.exchange = Exchange(client)
        self.clock = Clock(config.repo_path, config.project)
        self._plans: PlanCache | None = None

    def plan(self, registry: Any, project: str, asked_for: Any, full_names: bool, versioned: bool) -> ReadPlan:
        """What reading features, or those of a service, needs; resolved once for each state of the registry."""
        if self._plans is None or self._plans.registry is not registry:
            self._plans = PlanCache(self.config, registry)
        return self._plans.plan(project, asked_for, full_names, versioned)

    def response(self, plan: ReadPlan, entities: Mapping[str, Any]) -> OnlineResponse:
        """Feast's response to a request, given its entities as columns.

        Raises
        ------
        google.protobuf.message.DecodeError
            When values in the store are damaged.
        """
        request = by_hand(plan, entities) or by_feast(plan, entities)
        began = time.monotonic()
        fetched = self.exchange.fetch(request.wants) if request.wants else []
        return self._response(plan, request, fetched, self.now() if plan.has_lifetimes else 0, began)

    async def response_async(self, plan: ReadPlan, entities: Mapping[str, Any]) -> OnlineResponse:
        """What `response` does, while the event loop goes on; on-demand views are computed in a thread."""
        if plan.on_demand:
            return await asyncio.to_thread(self.response, plan, entities)
        request = by_hand(plan, entities) or by_feast(plan, entities)
        began, now = time.monotonic(), 0
        fetched = await self.exchange.fetch_async(request.wants) if request.wants else []
        if plan.has_lifetimes:
            now = await asyncio.to_thread(self.now) if self.clock.is_due else self.now()
        return self._response(plan, request, fetched, now, began)

    def _response(
        self, plan: ReadPlan, request: Request, fetched: Sequence[list[Row]], now: int, began: float
    ) -> OnlineResponse:
        """The response, given the rows of each want of a request and the store's time."""
        rows_of = request.expanded(fetched)
        views = [
            judged(rows_of[want], start, at, view.oldest(now))
            for view, (want, start, at) in zip(plan.views, request.places, strict=True)
        ]
        if counts_reads():
            from feast import metrics

            metrics.track_online_store_read(time.monotonic() - began)
            for view, rows in zip(plan.views, views, strict=True):
                cells, missing = len(view.features), len(rows.rows) - rows.present
                metrics.track_feature_statuses(view.name, cells * rows.present, cells * missing)
        parts = [request.head, *(request_result(values) for _, values in request.columns)]
        for rows in views:
            parts += view_results(rows)
        message = GetOnlineFeaturesResponse.FromString(b"".join(parts))
        if plan.on_demand:
            add_on_demand_features(message, plan.refs, plan.on_demand, plan.full_names, feature_types=plan.types)
            drop_columns(message, plan.kept(request.join_keys))
        return OnlineResponse(message, feature_types=plan.types)

    def rows(self, table: Any, entity_keys: Sequence[Any], features: Sequence[str] | None) -> list[Entry]:
        """Rows of one view: nulls with their time beyond the time to live."""
        view = view_read(self.config, table, features or [feature.name for feature in table.features], full_names=False)
        (rows,) = self.exchange.fetch([(Want(view.fields), hashes(self.config, entity_keys))])
        found = judged(rows, 0, len(view.features), view.oldest(self.now() if view.lifetime else 0))
        entries: list[Entry] = []
        for status, (seconds, nanos), *values in zip(found.statuses, found.moments(), *found.columns(), strict=True):
            if status == NOT_FOUND:
                entries.append((None, None))
            else:
                messages = (Value.FromString(value or b"") for value in values)
                at = moment(seconds * 1_000_000 + nanos // 1_000)
                entries.append((at, dict(zip(view.features, messages, strict=True))))
        return entries

    def now(self) -> int:
        """The time that the store answers for, in nanoseconds since 1970."""
        return self.clock.reading(self.exchange.client)


def hashes(config: RepoConfig, entity_keys: Sequence[Any]) -> list[bytes]:
    """The names of entities' hashes, given Feast's messages."""
    version, suffix = config.entity_key_serialization_version, config.project.encode()
    return [serialize_entity_key(key, entity_key_serialization_version=version) + suffix for key in entity_keys]


RECHECK_SECONDS = 1.0
"""How long a marker or setting, once looked at, is believed."""


class Clock:
    """The time that a Feast project's store answers for.

    Parameters
    ----------
    repository
        The folder of the Feast repository; outside of a Weakfish project, or without one, the clock says now.
    name
        The Feast project, which the marker belongs to.
    """

    def __init__(self, repository: Path | None, name: str) -> None:
        self._marker = marker(name)
        try:
            self._project = None if repository is None else Project.find(Path(repository))
        except UserError:
            self._project = None
        self._changed: int | None = None
        self._follows = False
        self._checked: float | None = None
        self._fixed: int | None = None

    def reading(self, client: Any) -> int:
        """Nanoseconds since 1970; the marker is read where the setting follows it and it was not just read."""
        if self.is_due:
            self._fixed = as_of(client.get(self._marker)) if self._follows_marker() else None
            self._checked = time.monotonic()
        return time.time_ns() if self._fixed is None else self._fixed

    @property
    def is_due(self) -> bool:
        """Whether the next reading looks at the setting, and perhaps at the marker."""
        return self._checked is None or time.monotonic() - self._checked > RECHECK_SECONDS

    def _follows_marker(self) -> bool:
        """Whether ``publish.as_of`` in params.yaml is other than now; the file is read only when it changed."""
        if self._project is not None:
            changed = (self._project.root / "params.yaml").stat().st_mtime_ns
            if self._changed != changed:
                self._follows = Project(self._project.root).params.publish.as_of != "now"
                self._changed = changed
        return self._follows


def as_of(found: bytes | None) -> int | None:
    """The time that a marker answers for, in nanoseconds since 1970; None when it says none."""
    published = parse_marker(found)
    try:
        return microseconds(published.as_of) * 1_000 if published else None
    except (ValueError, TypeError):
        return None


@dataclass(slots=True)
class Request:
    """A request, ready to be read.

    ``columns`` are those of the request, as `Value` bytes, ``head`` the beginning of the response message; ``orders``
    has for every want which of its rows each row of the response is about (None: they are the same), ``places`` for
    every view which want reads it, where its features begin and where its time stands.
    """

    columns: Sequence[tuple[str, Sequence[bytes]]]
    join_keys: Sequence[str]
    wants: Wants
    orders: Sequence[list[int] | None]
    places: Sequence[tuple[int, int, int]]
    head: bytes

    def expanded(self, fetched: Sequence[list[Row]]) -> list[list[Row]]:
        """The rows of each want, one for every row of the response."""
        pairs = zip(fetched, self.orders, strict=True)
        return [rows if order is None else [rows[position] for position in order] for rows, order in pairs]


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


def by_hand(plan: ReadPlan, columns: Mapping[str, Any]) -> Request | None:
    """A request whose columns are what the plan expects; None for any other."""
    heights = {len(column) if type(column) is list else 0 for column in columns.values()}
    layout = plan.layout(tuple(columns)) if len(heights) == 1 and 0 not in heights else None
    if layout is None:
        return None
    found: dict[str, KeyColumn] = {}
    for name, kind in layout.keys:
        column = key_column(columns[name], kind)
        if column is None:
            return None
        found[name] = column
    shown: list[tuple[str, Sequence[bytes]]] = [(name, column.values) for name, column in found.items()]
    try:
        for name, kind in layout.request:
            shown.append(
                (name, [value.SerializeToString() for value in python_values_to_proto_values(columns[name], kind)])
            )
    except Exception:  # Feast refuses the values, and says so itself
        return None
    for name, kind, value in layout.constants:
        constant = key_column([value], kind)
        if constant is None:
            return None
        (rows,) = heights
        found[name] = KeyColumn(constant.parts * rows, constant.values * rows)
    wants, orders = _wants(layout, found)
    return Request(shown, [name for name, _ in layout.keys], wants, orders, layout.places, layout.head)


def _wants(layout: RequestLayout, found: Mapping[str, KeyColumn]) -> tuple[Wants, list[list[int] | None]]:
    """The hashes of each group, each once."""
    wants: list[tuple[Want, Sequence[bytes]]] = []
    orders: list[list[int] | None] = []
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


def by_feast(plan: ReadPlan, columns: Mapping[str, Any]) -> Request:
    """A request as Feast prepares it; raises what Feast raises."""
    join_key_values, _, _, _, _, _, response = prepared_entities(
        registry=plan.registry,
        project=plan.project,
        features=plan.asked_for,
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
    orders: list[list[int] | None] = []
    for view in plan.views:
        entities, rows, height = unique_entities(view.table, join_key_values, plan.join_key_of)
        keys = hashes(plan.config, entity_key_messages(entities))
        order = [0] * height
        for number, positions in enumerate(rows):
            for position in positions:
                order[position] = number
        wants.append((Want(view.fields), keys))
        orders.append(order)
    places = [(number, 0, len(view.features)) for number, view in enumerate(plan.views)]
    join_keys = [name for name in join_key_values if name != DUMMY_ENTITY_ID or name in names]
    return Request(shown, join_keys, wants, orders, places, plan.head((*names, *plan.features)))


_HEAD = struct.Struct("<II").pack
_SHORT = 128
_KEY_HEADS = [_HEAD(Kind.STRING, length) for length in range(_SHORT)]
_VALUE_HEADS = [Value(string_val="x" * length).SerializeToString()[: -length or None] for length in range(_SHORT)]
"""What stands before a short text in an entity key, and in a `Value`."""

_INT64 = struct.Struct("<IIq").pack
_INT32 = struct.Struct("<IIi").pack


@dataclass(slots=True)
class KeyColumn:
    """A column of keys: each as a part of an entity key, and as a `Value`."""

    parts: list[bytes]
    values: list[bytes]


def key_column(values: Sequence[Any], kind: ValueType) -> KeyColumn | None:
    """A column of texts or of whole numbers as bytes; None for any other."""
    types = set(map(type, values))
    try:
        if types == {str} and kind in (ValueType.STRING, ValueType.UNKNOWN):
            return _texts([value.encode() for value in values])
        if types == {int} and kind == ValueType.INT32:
            parts = [_INT32(Kind.INT32, 4, value) for value in values]
            return KeyColumn(parts, [Value(int32_val=value).SerializeToString() for value in values])
        if types == {int} and kind in (ValueType.INT64, ValueType.UNKNOWN):
            parts = [_INT64(Kind.INT64, 8, value) for value in values]
            return KeyColumn(parts, [Value(int64_val=value).SerializeToString() for value in values])
    except (struct.error, ValueError):  # too large a number, or half a surrogate pair
        pass
    return None


def _texts(texts: list[bytes]) -> KeyColumn:
    if max(map(len, texts), default=0) < _SHORT:
        return KeyColumn(
            [_KEY_HEADS[len(text)] + text for text in texts], [_VALUE_HEADS[len(text)] + text for text in texts]
        )
    return KeyColumn(
        [_HEAD(Kind.STRING, len(text)) + text for text in texts],
        [Value(string_val=text.decode()).SerializeToString() for text in texts],
    )


PRESENT, NOT_FOUND, OUTSIDE_MAX_AGE = FieldStatus.PRESENT, FieldStatus.NOT_FOUND, FieldStatus.OUTSIDE_MAX_AGE

RESULTS, VALUES, STATUSES, TIMES = b"\x12", b"\x0a", b"\x12", b"\x1a"
"""The fields ``GetOnlineFeaturesResponse.results`` and ``FeatureVector.values``, ``statuses``, ``event_timestamps``."""

SECOND = 1_000_000_000


_FEW = 4
_ONE_BYTE = 0x80
"""Lengths and numbers below it take one byte."""


@dataclass(slots=True)
class ViewRows:
    """One view's part of rows that were read: features stand from ``start`` on, the event time at ``time``.

    ``times`` are the event times as a field of the response message.
    """

    rows: Sequence[Row]
    start: int
    time: int
    statuses: bytes
    times: bytes

    @property
    def present(self) -> int:
        """How many rows are there and young enough."""
        return self.statuses.count(PRESENT)

    def columns(self) -> Sequence[Sequence[bytes | None]]:
        """The features' bytes, nulls where a row may not be served."""
        if self.present == len(self.rows):
            return list(zip(*self.rows, strict=True))[self.start : self.time]
        pairs = list(zip(self.rows, self.statuses, strict=True))
        wanted = range(self.start, self.time)
        return [[row[position] if status == PRESENT else None for row, status in pairs] for position in wanted]

    def moments(self) -> list[tuple[int, int]]:
        """The event times as (seconds, nanoseconds), `ZERO` for a row that is not there."""
        found = GetOnlineFeaturesResponse.FeatureVector.FromString(self.times).event_timestamps
        return [(moment.seconds, moment.nanos) for moment in found]


def judged(rows: Sequence[Row], start: int, time: int, oldest: int | None) -> ViewRows:
    """A view's part of rows, with statuses.

    Parameters
    ----------
    rows
        One for every row of the response.
    start, time
        Where the view's features begin, and where its event time stands.
    oldest
        The earliest time that is still served, in nanoseconds since 1970; None when the view has no time to live.

    Raises
    ------
    google.protobuf.message.DecodeError
        When an event time is damaged.
    """
    stamps = [row[time] for row in rows]
    found = ViewRows(rows, start, time, b"", _repeated(_TIMES, TIMES, stamps))
    if oldest is None:
        found.statuses = bytes([NOT_FOUND if data is None else PRESENT for data in stamps])
    else:
        pairs = zip(stamps, found.moments(), strict=True)
        found.statuses = bytes([_status(data, moment, oldest) for data, moment in pairs])
    return found


def _status(data: bytes | None, moment: tuple[int, int], oldest: int) -> int:
    if data is None:
        return NOT_FOUND
    return PRESENT if moment[0] * SECOND + moment[1] >= oldest else OUTSIDE_MAX_AGE


def view_results(view: ViewRows) -> list[bytes]:
    """A view's features as fields of the response message."""
    tail = sized(STATUSES, view.statuses) + view.times
    return [sized(RESULTS, _repeated(_VALUES, VALUES, column) + tail) for column in view.columns()]


def request_result(values: Sequence[bytes]) -> bytes:
    """A column of the request, whose values are `Value` bytes, as a field of the response message."""
    tail = sized(STATUSES, bytes([PRESENT]) * len(values)) + _TIMES[0] * len(values)
    return sized(RESULTS, _repeated(_VALUES, VALUES, values) + tail)


def sized(tag: bytes, data: bytes) -> bytes:
    """A field of a message: its tag, its length, its content."""
    return _head(tag, len(data)) + data


def _head(tag: bytes, length: int) -> bytes:
    if length < _ONE_BYTE:
        return tag + _BYTE[length]
    head = tag
    while length >= _ONE_BYTE:
        head += _BYTE[length & 0x7F | 0x80]
        length >>= 7
    return head + _BYTE[length]


def _repeated(heads: list[bytes], tag: bytes, contents: Sequence[bytes | None]) -> bytes:
    """A field that repeats; what is missing is an empty message."""
    if len(contents) > _FEW and None not in contents:
        lengths = set(map(len, contents))  # type: ignore[arg-type]
        if len(lengths) == 1:  # as all numbers' are: what stands before each is the same
            head = _head(tag, lengths.pop())
            return head + head.join(contents)  # type: ignore[arg-type]
    try:
        nothing = heads[0]
        return b"".join([heads[len(data)] + data if data else nothing for data in contents])
    except IndexError:  # longer than most
        return b"".join([sized(tag, data or b"") for data in contents])


_BYTE = [bytes([number]) for number in range(256)]
_KNOWN = 1024
_VALUES, _TIMES = ([_head(tag, length) for length in range(_KNOWN)] for tag in (VALUES, TIMES))
"""What stands before contents of so many bytes."""
