"""What a request needs from the online store, resolved once per state of the registry: views, keys, names, types.

The features asked for come in, with Feast's registry; a `ReadPlan` goes out. With the names of a request's entity
columns it gives a `Layout`: which hashes to ask for, and what the response says around the values. Feast's own
functions resolve references, projections, join keys and aliases, so that they mean what they mean in Feast; no value
is ever kept.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import weakfish.feast.adapter  # noqa: F401 - first: it makes the import of Feast cheap

from feast import FeatureService, RepoConfig, utils
from feast.feature_view import DUMMY_ENTITY, DUMMY_ENTITY_ID, DUMMY_ENTITY_VAL
from feast.infra.key_encoding_utils import serialize_entity_key_prefix
from feast.infra.online_stores.online_store import OnlineStore
from feast.infra.online_stores.redis import _versioned_fv_name
from feast.protos.feast.serving.ServingService_pb2 import GetOnlineFeaturesResponse
from feast.value_type import ValueType

from weakfish.feast import layout as keys
from weakfish.feast.exchange import Want

KEY_VERSION = 3
"""The serialization of entity keys that is put together here; others are left to Feast."""

MOST_LAYOUTS = 100


@dataclass(frozen=True, slots=True)
class ViewRead:
    """A view that a request reads; ``lifetime`` is in nanoseconds, None for one without a time to live."""

    table: Any
    name: str
    features: tuple[str, ...]
    columns: tuple[str, ...]
    fields: tuple[bytes, ...]
    lifetime: int | None


@dataclass(frozen=True, slots=True)
class Group:
    """Views whose rows stand in the same hashes; ``join_keys`` are the entity columns that make the keys, in order."""

    join_keys: tuple[str, ...]
    prefix: bytes
    suffix: bytes
    want: Want


@dataclass(frozen=True, slots=True)
class Layout:
    """How a request with certain entity columns is read.

    ``places`` says for each view of the plan which group reads it, and where its features begin and its time stands.
    ``constants`` are columns of Feast's own, with one value in every row.
    """

    keys: tuple[tuple[str, ValueType], ...]
    request: tuple[tuple[str, ValueType], ...]
    constants: tuple[tuple[str, ValueType, str], ...]
    groups: tuple[Group, ...]
    places: tuple[tuple[int, int, int], ...]
    head: bytes


class ReadPlan:
    """What reading certain features needs, as Feast resolves them.

    Raises
    ------
    Exception
        What Feast raises: unknown views, features and services, colliding names, views that are disabled.
    """

    def __init__(
        self, config: RepoConfig, registry: Any, project: str, features: Any, full_names: bool, versioned: bool = False
    ) -> None:
        (
            self.refs,
            self.on_demand,
            self.join_key_of,
            self._kinds,
            self._join_keys,
            self.grouped,
            self._requested,
            self._request_names,
            self._without_entities,
        ) = utils._get_online_request_context(registry, project, features, full_names)
        self.full_names = full_names
        self.versioned = versioned
        self._project = config.project.encode()
        self._by_hand = config.entity_key_serialization_version == KEY_VERSION
        self.views = tuple(view_read(config, table, names, full_names) for table, names in self.grouped)
        self.versions = _versions(self.views) if versioned else {}
        self.types = OnlineStore._build_feature_types(self.grouped)
        self.features = tuple(column for view in self.views for column in view.columns)
        self._layouts: dict[tuple[str, ...], Layout | None] = {}

    @property
    def has_lifetimes(self) -> bool:
        """Whether any view has a time to live, so that the clock matters."""
        return any(view.lifetime for view in self.views)

    def kept(self, join_keys: Sequence[str]) -> set[str]:
        """The columns that the response keeps, given the join keys in the request."""
        return {*self._requested, *join_keys}

    def metadata(self, names: Sequence[str]) -> bytes:
        """The beginning of a response message whose columns have these names."""
        response = GetOnlineFeaturesResponse()
        response.metadata.feature_names.val.extend(names)
        for name, version in self.versions.items():
            response.metadata.feature_view_metadata.add(name=name, version=version)
        data: bytes = response.SerializeToString()
        return data

    def layout(self, names: tuple[str, ...]) -> Layout | None:
        """How to read for entity columns of these names; None when Feast's own preparation must decide."""
        try:
            return self._layouts[names]
        except KeyError:
            if len(self._layouts) >= MOST_LAYOUTS:
                self._layouts.clear()
            return self._layouts.setdefault(names, self._made_layout(names))

    def _made_layout(self, names: tuple[str, ...]) -> Layout | None:
        request = [name for name in names if name in self._request_names]
        join_keys = [name for name in names if name not in self._request_names and name in self._join_keys]
        if not self._by_hand or len(request) + len(join_keys) < len(names) or len(request) != len(self._request_names):
            return None
        if DUMMY_ENTITY_ID in names:
            return None
        constants = ((DUMMY_ENTITY_ID, DUMMY_ENTITY.value_type, DUMMY_ENTITY_VAL),) if self._without_entities else ()
        columns = {name: [name] for name in (*join_keys, *(name for name, _, _ in constants))}
        found = [utils._get_table_entity_values(view.table, self.join_key_of, columns) for view in self.views]
        if not all(found):
            return None
        groups, places = self._grouped(found)
        head = self.metadata((*join_keys, *request, *self.features))
        return Layout(
            keys=tuple((name, self._kind(name)) for name in join_keys),
            request=tuple((name, self._kind(name)) for name in request),
            constants=constants,
            groups=groups,
            places=places,
            head=head,
        )

    def _kind(self, name: str) -> ValueType:
        return self._kinds.get(name, ValueType.UNKNOWN)

    def _grouped(
        self, found: Sequence[Mapping[str, list[str]]]
    ) -> tuple[tuple[Group, ...], tuple[tuple[int, int, int], ...]]:
        """Views that are found under the same keys, together; ``found`` has each view's join keys and their columns."""
        fields: dict[tuple[tuple[str, str], ...], list[bytes]] = {}
        places = []
        for view, columns in zip(self.views, found, strict=True):
            key = tuple(sorted((join_key, column[0]) for join_key, column in columns.items()))
            known = fields.setdefault(key, [])
            places.append((list(fields).index(key), len(known), len(known) + len(view.fields) - 1))
            known.extend(view.fields)
        groups = tuple(
            Group(
                join_keys=tuple(column for _, column in key),
                prefix=serialize_entity_key_prefix([join_key for join_key, _ in key], KEY_VERSION),
                suffix=self._project,
                want=Want(tuple(wanted)),
            )
            for key, wanted in fields.items()
        )
        return groups, tuple(places)


def view_read(config: RepoConfig, table: Any, features: Sequence[str], full_names: bool) -> ViewRead:
    """A view as a request reads it."""
    stored, shown = _versioned_fv_name(table, config), table.projection.name_to_use()
    lifetime = getattr(table, "ttl", None)
    return ViewRead(
        table=table,
        name=table.name,
        features=tuple(features),
        columns=tuple(f"{shown}__{name}" if full_names else name for name in features),
        fields=(*(keys.feature_field(stored, name) for name in features), keys.time_field(stored)),
        lifetime=round(lifetime.total_seconds() * 1_000_000) * 1_000 if lifetime else None,
    )


def _versions(views: Sequence[ViewRead]) -> dict[str, int]:
    """The versions of views, by their names in the response."""
    found: dict[str, int] = {}
    for view in views:
        name = view.table.projection.name_alias or view.table.projection.name
        found.setdefault(name, getattr(view.table, "current_version_number", 0) or 0)
    return found


PATIENCE = 1.0
"""Seconds between looks at a registry whose file did not change, but whose time may be up."""

MOST_PLANS = 1_000


class Plans:
    """The plans of one registry, as one configuration reads it, forgotten whenever the registry changes."""

    def __init__(self, config: RepoConfig, registry: Any) -> None:
        self.config, self.registry = config, registry
        self._look = Look(registry)
        self._state: tuple[Any, str, Any] | None = None
        self._plans: dict[tuple[Any, ...], ReadPlan] = {}

    def are_for(self, config: RepoConfig, registry: Any) -> bool:
        """Whether they were made for this configuration and registry."""
        return config is self.config and registry is self.registry

    def _current(self, project: str) -> dict[tuple[Any, ...], ReadPlan]:
        """The plans that still hold: none of a registry that does not tell its state."""
        state, known = self._look.state(project), self._state
        if state is None:
            return {}
        if known is None or known[0] is not state[0] or known[1:] != state[1:]:
            self._plans, self._state = {}, state
        return self._plans

    def plan(self, project: str, features: Any, full_names: bool, versioned: bool) -> ReadPlan:
        """The plan of a request; raises what Feast raises for one that it refuses."""
        if isinstance(features, FeatureService):
            key: tuple[Any, ...] = (_identity(features), project, full_names, versioned)
        else:
            key = (type(features), tuple(features or ()), project, full_names, versioned)
        plans = self._current(project)
        plan = plans.get(key)
        if plan is None:
            plan = ReadPlan(self.config, self.registry, project, features, full_names, versioned)
            if len(plans) >= MOST_PLANS:
                plans.clear()
            plans[key] = plan
        return plan


class Look:
    """A registry, looked at the way Feast does, but at once when its file changes and else once a second."""

    def __init__(self, registry: Any) -> None:
        self.registry = registry
        self._file: Path | None = None
        self._seen: tuple[int, int, int] | None = None
        self._looked = 0.0
        look: Callable[..., Any] | None = getattr(registry, "_get_registry_proto", None)
        if look is not None:  # a registry in a file
            self._look: Callable[[str], Any] | None = lambda project: look(project=project, allow_cache=True)
            self._file = getattr(registry, "_file_path", None)
        else:
            refresh = getattr(registry, "_refresh_cached_registry_if_necessary", None)
            self._look = None if refresh is None else lambda _: refresh()

    def state(self, project: str) -> tuple[Any, str, Any] | None:
        """What differs whenever Feast sees another registry; None when that cannot be told.

        The first item, the registry's message, is to be compared by identity, the others by value.
        """
        if self._look is None:
            return None
        seen, now = self._stat(), time.monotonic()
        if seen is None or seen != self._seen or now - self._looked > PATIENCE:
            self._look(project)
            self._seen, self._looked = seen, now
        message = self.registry.cached_registry_proto
        return message, message.version_id, self.registry.cached_registry_proto_created

    def _stat(self) -> tuple[int, int, int] | None:
        if self._file is None:
            return None
        try:
            found = self._file.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino


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
    return service.name, projections, bool(getattr(service, "_pending_feature_refs", None))
