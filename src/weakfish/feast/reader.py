"""Reads: a request becomes keys and fields, what the store holds there becomes an answer.

Texts and whole numbers, which keys mostly are, are turned into bytes here; everything else, and every request that is
not plainly right, is left to Feast's own preparation, so that Feast decides and says what is wrong.
"""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
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

from feast import RepoConfig, metrics
from feast.feature_view import DUMMY_ENTITY_ID
from feast.infra.key_encoding_utils import serialize_entity_key
from feast.online_response import OnlineResponse
from feast.protos.feast.serving.ServingService_pb2 import GetOnlineFeaturesResponse
from feast.protos.feast.types.Value_pb2 import Value
from feast.protos.feast.types.Value_pb2 import ValueType as Kind
from feast.type_map import python_values_to_proto_values
from feast.value_type import ValueType

from weakfish.errors import UserError
from weakfish.feast import decoding
from weakfish.feast.decoding import Answer, AnswerColumn, ViewRows, native
from weakfish.feast.exchange import Row, Single, Steps, Want, Wants, fetching
from weakfish.feast.layout import marker
from weakfish.feast.read_plan import PlanCache, ReadPlan, RequestLayout, view_read
from weakfish.project.paths import Project

Entry = tuple[datetime | None, dict[str, Value] | None]
"""Event time and values of a row, as Feast hands it around; (None, None) for one that is not there."""


class OnlineReader:
    """Reads of one Feast configuration; each read is a generator of steps for an exchange to perform.

    All raise `redis.RedisError`, `ParamsError` when the project's settings are malformed, and what Feast raises.
    """

    def __init__(self, config: RepoConfig) -> None:
        self.config = config
        self.clock = Clock(config.repo_path, config.project)
        self._plans: PlanCache | None = None

    def plan(self, registry: Any, project: str, asked_for: Any, full_names: bool, versioned: bool) -> ReadPlan:
        """What reading features, or those of a service, needs; resolved once for each state of the registry."""
        if self._plans is None or self._plans.registry is not registry:
            self._plans = PlanCache(self.config, registry)
        return self._plans.plan(project, asked_for, full_names, versioned)

    def response(
        self, registry: Any, project: str, asked_for: Any, entities: Any, full_names: bool, versioned: bool
    ) -> Steps[OnlineResponse]:
        """Feast's response for entities, given as rows or as columns."""
        columns = columnar(entities)  # Feast complains of these first
        plan = self.plan(registry, project, asked_for, full_names, versioned)
        request = prepare(plan, columns)
        began = time.monotonic()
        views = yield from self._views(plan, request)
        if counts_reads():
            metrics.track_online_store_read(time.monotonic() - began)
            for view, rows in zip(plan.views, views, strict=True):
                cells, missing = len(view.features), len(rows.rows) - rows.present
                metrics.track_feature_statuses(view.name, cells * rows.present, cells * missing)
        return _response(plan, request, views)

    def answer(self, plan: ReadPlan, entities: Any) -> Steps[Answer]:
        """What `response` says, as columns of JSON values, without building Feast's message."""
        request = prepare(plan, entities)
        views = yield from self._views(plan, request)
        versions = list(plan.versions.items())
        if plan.on_demand:
            return Answer(_columns_of(_response(plan, request, views).proto, plan), versions)
        columns = [decoding.request_column(name, [native(data) for data in values]) for name, values in request.columns]
        for view, rows in zip(plan.views, views, strict=True):
            columns += decoding.view_columns(rows, view.columns, view.name)
        return Answer(columns, versions)

    def rows(self, table: Any, entity_keys: Sequence[Any], features: Sequence[str] | None) -> Steps[list[Entry]]:
        """Rows of one view: nulls with their time beyond the time to live."""
        view = view_read(self.config, table, features or [feature.name for feature in table.features], full_names=False)
        ((rows,), now) = yield from self._fetched([(Want(view.fields), self.keys(entity_keys))], bool(view.lifetime))
        judged = decoding.judged(rows, 0, len(view.features), view.oldest(now))
        found: list[Entry] = []
        for status, (seconds, nanos), *values in zip(judged.statuses, judged.moments(), *judged.columns(), strict=True):
            if status == decoding.NOT_FOUND:
                found.append((None, None))
            else:
                messages = (Value.FromString(value or b"") for value in values)
                moment = EPOCH + timedelta(seconds=seconds, microseconds=nanos // 1_000)
                found.append((moment, dict(zip(view.features, messages, strict=True))))
        return found

    def keys(self, entity_keys: Sequence[Any]) -> list[bytes]:
        """The hashes of entities, given as Feast's messages."""
        version, suffix = self.config.entity_key_serialization_version, self.config.project.encode()
        return [serialize_entity_key(key, entity_key_serialization_version=version) + suffix for key in entity_keys]

    def _views(self, plan: ReadPlan, request: Request) -> Steps[list[ViewRows]]:
        fetched, now = yield from self._fetched(request.wants, plan.has_lifetimes)
        rows = request.expanded(fetched)
        return [
            decoding.judged(rows[want], start, moment, view.oldest(now))
            for view, (want, start, moment) in zip(plan.views, request.places, strict=True)
        ]

    def _fetched(self, wants: Wants, has_lifetimes: bool) -> Steps[tuple[list[list[Row]], int]]:
        """Rows, and the time that lifetimes count from (0 where there are none)."""
        fetched = (yield from fetching(wants)) if wants else []
        return fetched, (yield from self.clock.reading()) if has_lifetimes else 0


RECHECK_SECONDS = 1.0
"""How long a marker or setting, once looked at, is believed."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


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
        self._root = _root(repository)
        self._settings: tuple[int, str | datetime] | None = None
        self._checked: float | None = None
        self._fixed: int | None = None

    def reading(self) -> Steps[int]:
        """Nanoseconds since 1970; the marker is read where the setting follows it and it was not just read."""
        if self._checked is None or time.monotonic() - self._checked > RECHECK_SECONDS:
            follows_marker = self._root is not None and self._setting(self._root) != "now"
            self._fixed = as_of((yield Single(("GET", self._marker)))) if follows_marker else None
            self._checked = time.monotonic()
        return time.time_ns() if self._fixed is None else self._fixed

    def _setting(self, root: Path) -> str | datetime:
        """``publish.as_of`` as params.yaml has it; the file is read again only when it changed."""
        changed = (root / "params.yaml").stat().st_mtime_ns
        if self._settings is None or self._settings[0] != changed:
            self._settings = (changed, Project(root).params.publish.as_of)
        return self._settings[1]


def as_of(found: bytes | None) -> int | None:
    """The time that a marker answers for, in nanoseconds since 1970; None when it says none."""
    try:
        moment = datetime.fromisoformat(json.loads(found)["as_of"]) if found else None
    except (ValueError, TypeError, KeyError):
        return None
    if moment is None:
        return None
    return ((moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - EPOCH) // timedelta(microseconds=1) * 1_000


def _root(repository: Path | None) -> Path | None:
    try:
        return None if repository is None else Project.find(Path(repository)).root
    except UserError:
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


def prepare(plan: ReadPlan, entities: Any) -> Request:
    """What a plan reads for rows or columns of entities; raises what Feast raises for entities that it refuses."""
    columns = columnar(entities)
    return by_hand(plan, columns) or by_feast(plan, columns)


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
    version, suffix = plan.config.entity_key_serialization_version, plan.config.project.encode()
    for view in plan.views:
        entities, rows, height = unique_entities(view.table, join_key_values, plan.join_key_of)
        keys = [
            serialize_entity_key(key, entity_key_serialization_version=version) + suffix
            for key in entity_key_messages(entities)
        ]
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


def _response(plan: ReadPlan, request: Request, views: Sequence[ViewRows]) -> OnlineResponse:
    """Feast's response; raises `google.protobuf.message.DecodeError` for values that are damaged."""
    parts = [request.head, *(decoding.request_result(values) for _, values in request.columns)]
    for view in views:
        parts += decoding.view_results(view)
    message = GetOnlineFeaturesResponse.FromString(b"".join(parts))
    if plan.on_demand:
        add_on_demand_features(message, plan.refs, plan.on_demand, plan.full_names, feature_types=plan.types)
        drop_columns(message, plan.kept(request.join_keys))
    return OnlineResponse(message, feature_types=plan.types)


def _columns_of(message: Any, plan: ReadPlan) -> list[AnswerColumn]:
    """The columns of a response that only Feast could make."""
    owners = {column: view.name for view in plan.views for column in view.columns}
    return [
        AnswerColumn(
            name,
            [native(value.SerializeToString()) for value in result.values],
            list(result.statuses),
            [(moment.seconds, moment.nanos) for moment in result.event_timestamps],
            owners.get(name),
        )
        for name, result in zip(message.metadata.feature_names.val, message.results, strict=True)
    ]
