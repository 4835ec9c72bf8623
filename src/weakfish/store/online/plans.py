"""The plans of reads, kept for as long as the registry that they were made from is the one that Feast sees.

A request's features come in, and its `ReadPlan` goes out: a known one, or one made anew. A registry in a file that
changed is seen by the very next request; any other change when Feast sees it itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from feast import FeatureService, RepoConfig

from weakfish.store.online.read_plan import ReadPlan

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
