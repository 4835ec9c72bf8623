"""Reads: from a request to keys and fields, and from what the store holds there to Feast's response.

Texts and whole numbers, which keys mostly are, are turned into bytes here; everything else, and every request that is
not plainly right, is left to Feast's own preparation, so that Feast decides and says what is wrong.
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
from feast.protos.feast.serving.ServingService_pb2 import GetOnlineFeaturesResponse
from feast.protos.feast.types.Value_pb2 import Value
from feast.protos.feast.types.Value_pb2 import ValueType as Kind
from feast.type_map import python_values_to_proto_values
from feast.value_type import ValueType

from weakfish.contracts.publications import parse_marker
from weakfish.contracts.record import microseconds, moment
from weakfish.errors import UserError
from weakfish.feast.exchange import Exchange, Row, Want, Wants
from weakfish.feast.layout import marker, text
from weakfish.feast.read_plan import PlanCache, ReadPlan, RequestLayout, ViewRead, view_read
from weakfish.feast.response import (
    BROKEN,
    NOT_FOUND,
    FeatureResponse,
    Lost,
    ViewRows,
    judged,
    mended,
    request_result,
    unreadable,
    view_results,
)
from weakfish.feast.unreadable import Log
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
        self.log = Log()
        self._plans: PlanCache | None = None

    def plan(self, registry: Any, project: str, asked_for: Any, full_names: bool, versioned: bool) -> ReadPlan:
        """What reading features, or those of a service, needs; resolved once for each state of the registry."""
        if self._plans is None or self._plans.registry is not registry:
            self._plans = PlanCache(self.config, registry)
        return self._plans.plan(project, asked_for, full_names, versioned)

    def response(self, plan: ReadPlan, entities: Mapping[str, Any]) -> FeatureResponse:
        """Feast's response to a request, given its entities as columns.

        What cannot be read is null, with the status INVALID.
        """
        request = by_hand(plan, entities) or by_feast(plan, entities)
        began = time.monotonic()
        fetched = self.exchange.fetch(request.wants) if request.wants else []
        return self._response(plan, request, fetched, self.now() if plan.has_lifetimes else 0, began)

    async def response_async(self, plan: ReadPlan, entities: Mapping[str, Any]) -> FeatureResponse:
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
    ) -> FeatureResponse:
        """The response, given the rows of each want of a request and the store's time."""
        rows_of = request.expanded(fetched)
        try:
            views = [
                judged(rows_of[want], start, at, view.oldest(now))
                for view, (want, start, at) in zip(plan.views, request.places, strict=True)
            ]
            message = _message(plan, request, views)
        except BROKEN:
            views = self._mended(plan, request, fetched, now)
            message = _message(plan, request, views)
        if counts_reads():
            from feast import metrics

            metrics.track_online_store_read(time.monotonic() - began)
            for view, rows in zip(plan.views, views, strict=True):
                cells, missing = len(view.features), len(rows.rows) - rows.present
                metrics.track_feature_statuses(view.name, cells * rows.present, cells * missing)
        if plan.on_demand:
            add_on_demand_features(message, plan.refs, plan.on_demand, plan.full_names, feature_types=plan.types)
            drop_columns(message, plan.kept(request.join_keys))
        return FeatureResponse(message, plan.types, unreadable(plan.views, views))

    def _mended(self, plan: ReadPlan, request: Request, fetched: Sequence[list[Row]], now: int) -> list[ViewRows]:
        """The rows of each view without what cannot be read, of which the log is told."""
        views = []
        for view, (want, start, at) in zip(plan.views, request.places, strict=True):
            rows, lost = self._readable(view, fetched[want], request.wants[want][1], start, at)
            order = request.orders[want]
            if order is not None:
                rows, lost = [rows[place] for place in order], [lost[place] for place in order]
            found = judged(rows, 0, at - start, view.oldest(now))
            found.lost = lost
            views.append(found)
        return views

    def _readable(
        self, view: ViewRead, rows: Sequence[Row], keys: Sequence[bytes], start: int, time: int
    ) -> tuple[list[Row], list[Lost]]:
        """A view's part of rows without what cannot be read, of which the log is told, and what that is."""
        found, lost = mended(rows, view, start, time)
        self.log.tell(
            (view.name, feature, key)
            for key, row, of_row in zip(keys, found, lost, strict=True)
            if of_row
            for feature in (["*"] if row[-1] is None else [view.features[number] for number in sorted(of_row)])
        )
        return found, lost

    def rows(self, table: Any, entity_keys: Sequence[Any], features: Sequence[str] | None) -> list[Entry]:
        """Rows of one view: nulls with their time beyond the time to live, and where a value cannot be read."""
        view = view_read(self.config, table, features or [feature.name for feature in table.features], full_names=False)
        keys, width = hashes(self.config, entity_keys), len(view.features)
        (rows,) = self.exchange.fetch([(Want(view.fields), keys)])
        readable, _ = self._readable(view, rows, keys, 0, width)
        found = judged(readable, 0, width, view.oldest(self.now() if view.lifetime else 0))
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


def _message(plan: ReadPlan, request: Request, views: Sequence[ViewRows]) -> GetOnlineFeaturesResponse:
    """The response message, without what is computed on demand; raises one of `BROKEN` where a value cannot be read."""
    parts = [request.head, *(request_result(values) for _, values in request.columns)]
    for read, rows in zip(plan.views, views, strict=True):
        parts += view_results(rows, read)
    message: GetOnlineFeaturesResponse = GetOnlineFeaturesResponse.FromString(b"".join(parts))
    return message


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
            self._fixed = as_of(text(client, self._marker)) if self._follows_marker() else None
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
