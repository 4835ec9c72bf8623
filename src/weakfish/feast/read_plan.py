"""What a request needs from the online store, resolved once per state of the registry: views, keys, names, types.

Feast's own functions resolve references, projections, join keys and aliases, so that they mean what they mean in Feast.
No value is ever kept.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from weakfish.feast.adapter import (
    feature_types,
    has_unresolved_features,
    registry_check,
    registry_file,
    request_context,
    table_entity_columns,
)

from feast import FeatureService, RepoConfig
from feast.feature_view import DUMMY_ENTITY, DUMMY_ENTITY_ID, DUMMY_ENTITY_VAL
from feast.infra.key_encoding_utils import serialize_entity_key_prefix
from feast.infra.online_stores.helpers import compute_versioned_name
from feast.labeling.label_view import LabelView
from feast.protos.feast.serving.ServingService_pb2 import GetOnlineFeaturesResponse
from feast.value_type import ValueType

from weakfish.feast import layout as keys
from weakfish.feast.exchange import Want
from weakfish.feast.unreadable import Check, check_of, first_byte, size_of

KEY_VERSION = 3
"""The serialization of entity keys that is put together here; others are left to Feast."""

MAX_LAYOUTS = 100


@dataclass(frozen=True, slots=True)
class ViewRead:
    """A view that a request reads.

    Attributes
    ----------
    kinds, firsts, sizes, checks
        The types of the features; the byte that values of each begin with, and how many bytes they have (`ANY` where
        that says nothing); and by the feature's number what else to look at.
    lifetime
        In nanoseconds; None for a view without a time to live.
    """

    table: Any
    name: str
    features: tuple[str, ...]
    columns: tuple[str, ...]
    fields: tuple[bytes, ...]
    kinds: tuple[ValueType, ...]
    firsts: tuple[int, ...]
    sizes: tuple[int, ...]
    checks: tuple[tuple[int, Check], ...]
    lifetime: int | None

    def oldest(self, now: int) -> int | None:
        """The earliest event time that is still served, in nanoseconds; None without a time to live."""
        return now - self.lifetime if self.lifetime else None


@dataclass(frozen=True, slots=True)
class KeyGroup:
    """Views whose rows stand in the same hashes; ``join_keys`` are the entity columns that make the keys, in order."""

    join_keys: tuple[str, ...]
    prefix: bytes
    suffix: bytes
    want: Want


@dataclass(frozen=True, slots=True)
class RequestLayout:
    """How a request with certain entity columns is read.

    ``places`` says for each view of the plan which group reads it, and where its features begin and its time stands.
    ``constants`` are columns of Feast's own, with one value in every row.
    """

    keys: tuple[tuple[str, ValueType], ...]
    request: tuple[tuple[str, ValueType], ...]
    constants: tuple[tuple[str, ValueType, str], ...]
    groups: tuple[KeyGroup, ...]
    places: tuple[tuple[int, int, int], ...]
    head: bytes


@dataclass(frozen=True, slots=True)
class RequestInputs:
    """What the entities of a request must hold: the view that needs each join key, and the types of all columns.

    ``names`` maps every column that counts to the join key that it is, or to itself for request data.
    """

    join_keys: dict[str, str]
    keys: dict[str, ValueType]
    request: dict[str, ValueType]
    names: dict[str, str]


class ReadPlan:
    """What reading certain features needs, as Feast resolves them.

    Raises
    ------
    Exception
        What Feast raises: unknown views, features and services, colliding names, views that are disabled.
    """

    def __init__(
        self, config: RepoConfig, registry: Any, project: str, asked_for: Any, full_names: bool, versioned: bool = False
    ) -> None:
        (
            self.refs,
            self.on_demand,
            self.join_key_of,
            self._kinds,
            self._join_keys,
            grouped,
            self._requested,
            self._request_names,
            self._without_entities,
        ) = request_context(registry, project, asked_for, full_names)
        self.config, self.registry, self.project = config, registry, project
        self.asked_for = asked_for
        self.full_names = full_names
        self.views = tuple(view_read(config, table, names, full_names) for table, names in grouped)
        self.versions = _versions(self.views) if versioned else {}
        self.types = feature_types(grouped)
        self.features = tuple(column for view in self.views for column in view.columns)
        self.label_views = [view.name for view in self.views if isinstance(view.table, LabelView)]
        self.has_lifetimes = any(view.lifetime for view in self.views)  # only then does the clock matter
        self.layout = lru_cache(MAX_LAYOUTS)(self._layout)

    @cached_property
    def inputs(self) -> RequestInputs:
        """What the entities of a request must hold."""
        join_keys: dict[str, str] = {}
        for view in self.views:
            aliases = view.table.projection.join_key_map
            for key in view.table.join_keys:
                if key != DUMMY_ENTITY_ID:
                    join_keys.setdefault(aliases.get(key, key), view.name)
        request = {name: kind for view in self.on_demand for name, kind in view.get_request_data_schema().items()}
        named = {**self.join_key_of, **{name: name for name in (*self._join_keys, *request)}}
        named.pop(DUMMY_ENTITY_ID, None)
        return RequestInputs(join_keys, {name: self._kind(key) for name, key in named.items()}, request, named)

    def kept(self, join_keys: Sequence[str]) -> set[str]:
        """The columns that the response keeps, given the join keys in the request."""
        return {*self._requested, *join_keys}

    def head(self, names: Sequence[str]) -> bytes:
        """The beginning of a response message whose columns have these names."""
        response = GetOnlineFeaturesResponse()
        response.metadata.feature_names.val.extend(names)
        for name, version in self.versions.items():
            response.metadata.feature_view_metadata.add(name=name, version=version)
        data: bytes = response.SerializeToString()
        return data

    def _layout(self, names: tuple[str, ...]) -> RequestLayout | None:
        """How to read for entity columns of these names; None when Feast's own preparation must decide."""
        request = [name for name in names if name in self._request_names]
        join_keys = [name for name in names if name not in self._request_names and name in self._join_keys]
        is_expected = len(request) + len(join_keys) == len(names) and len(request) == len(self._request_names)
        if self.config.entity_key_serialization_version != KEY_VERSION or not is_expected or DUMMY_ENTITY_ID in names:
            return None
        constants = ((DUMMY_ENTITY_ID, DUMMY_ENTITY.value_type, DUMMY_ENTITY_VAL),) if self._without_entities else ()
        columns = {name: [name] for name in (*join_keys, *(name for name, _, _ in constants))}
        found = [table_entity_columns(view.table, self.join_key_of, columns) for view in self.views]
        if not all(found):
            return None
        groups, places = self._grouped(found)
        return RequestLayout(
            keys=tuple((name, self._kind(name)) for name in join_keys),
            request=tuple((name, self._kind(name)) for name in request),
            constants=constants,
            groups=groups,
            places=places,
            head=self.head((*join_keys, *request, *self.features)),
        )

    def _kind(self, name: str) -> ValueType:
        return self._kinds.get(name, ValueType.UNKNOWN)

    def _grouped(
        self, found: Sequence[Mapping[str, list[str]]]
    ) -> tuple[tuple[KeyGroup, ...], tuple[tuple[int, int, int], ...]]:
        """Views that are found under the same keys, together; ``found`` has each view's join keys and their columns."""
        fields: dict[tuple[tuple[str, str], ...], list[bytes]] = {}
        places = []
        for view, columns in zip(self.views, found, strict=True):
            key = tuple(sorted((join_key, column[0]) for join_key, column in columns.items()))
            known = fields.setdefault(key, [])
            places.append((list(fields).index(key), len(known), len(known) + len(view.fields) - 1))
            known.extend(view.fields)
        groups = tuple(
            KeyGroup(
                join_keys=tuple(column for _, column in key),
                prefix=serialize_entity_key_prefix([join_key for join_key, _ in key], KEY_VERSION),
                suffix=self.config.project.encode(),
                want=Want(tuple(wanted)),
            )
            for key, wanted in fields.items()
        )
        return groups, tuple(places)


def view_read(config: RepoConfig, table: Any, features: Sequence[str], full_names: bool) -> ViewRead:
    """A view as a request reads it."""
    stored = compute_versioned_name(table, config.registry.enable_online_feature_view_versioning)
    shown = table.projection.name_to_use()
    lifetime = getattr(table, "ttl", None)
    types = {field.name: field.dtype.to_value_type() for field in table.features}
    kinds = tuple(types.get(name, ValueType.UNKNOWN) for name in features)
    checks = [(number, check_of(kind)) for number, kind in enumerate(kinds)]
    return ViewRead(
        table=table,
        name=table.name,
        features=tuple(features),
        columns=tuple(f"{shown}__{name}" if full_names else name for name in features),
        fields=(*(keys.feature_field(stored, name) for name in features), keys.time_field(stored)),
        kinds=kinds,
        firsts=tuple(first_byte(kind) for kind in kinds),
        sizes=tuple(size_of(kind) for kind in kinds),
        checks=tuple((number, check) for number, check in checks if check),
        lifetime=round(lifetime.total_seconds() * 1_000_000) * 1_000 if lifetime else None,
    )


def _versions(views: Sequence[ViewRead]) -> dict[str, int]:
    """The versions of views, by their names in the response."""
    found: dict[str, int] = {}
    for view in views:
        name = view.table.projection.name_alias or view.table.projection.name
        found.setdefault(name, getattr(view.table, "current_version_number", 0) or 0)
    return found


RECHECK_SECONDS = 1.0
"""Between checks of a registry whose file did not change, but whose time may be up."""

MAX_PLANS = 1_000


class PlanCache:
    """The plans of one registry, as one configuration reads it, forgotten whenever the registry changes."""

    def __init__(self, config: RepoConfig, registry: Any) -> None:
        self.config, self.registry = config, registry
        self._check = registry_check(registry)
        self._file = registry_file(registry)
        self._stamp: Stamp | None = None
        self._checked = 0.0
        self._state: tuple[Any, str, Any] | None = None
        self._plans: dict[tuple[Any, ...], ReadPlan] = {}

    def plan(self, project: str, asked_for: Any, full_names: bool, versioned: bool) -> ReadPlan:
        """The plan of a request; raises what Feast raises for one that it refuses."""
        is_service = isinstance(asked_for, FeatureService)
        what = _identity(asked_for) if is_service else (type(asked_for), tuple(asked_for or ()))
        key = (what, project, full_names, versioned)
        plans = self._current(project)
        plan = plans.get(key)
        if plan is None:
            plan = ReadPlan(self.config, self.registry, project, asked_for, full_names, versioned)
            if len(plans) >= MAX_PLANS:  # clients make up lists of features
                plans.clear()
            plans[key] = plan
        return plan

    def _current(self, project: str) -> dict[tuple[Any, ...], ReadPlan]:
        """The plans that still hold: none of a registry that does not tell its state."""
        if self._check is None:
            return {}
        found, now = None if self._file is None else stamp(self._file), time.monotonic()
        if found is None or found != self._stamp or now - self._checked > RECHECK_SECONDS:
            self._check(project)
            self._stamp, self._checked = found, now
        message, known = self.registry.cached_registry_proto, self._state
        state = (message, message.version_id, self.registry.cached_registry_proto_created)
        if known is None or known[0] is not message or known[1:] != state[1:]:  # comparing messages would be slow
            self._plans, self._state = {}, state
        return self._plans


Stamp = tuple[int, int, int]


def stamp(file: Path) -> Stamp | None:
    """What changes whenever a file does; None when it does not exist."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def _identity(service: FeatureService) -> tuple[Any, ...]:
    """All of a service that decides what is read."""
    projections = tuple(
        (
            projection.name,
            projection.name_alias,
            projection.version_tag,
            tuple([feature.name for feature in projection.features]),
            tuple(projection.join_key_map.items()),
        )
        for projection in service.feature_view_projections
    )
    return service.name, projections, has_unresolved_features(service)
