"""The state of the registry that the server answers from, and the watcher that replaces it when that changes."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from weakfish.feast.adapter import online_store

import redis
from feast import FeatureService, FeatureStore

from weakfish.errors import StoreError, UnknownName, WeakfishError
from weakfish.feast import probe, server
from weakfish.feast.clients import explained
from weakfish.feast.online import ProjectRedisOnlineStore
from weakfish.feast.read_plan import ReadPlan, RequestInputs, Stamp, stamp
from weakfish.feast.registry import open_store
from weakfish.feast.response import FeatureResponse
from weakfish.feast.serving import ServeSettings, metrics, say
from weakfish.feast.serving.messages import FeatureRequest
from weakfish.project.paths import Project


@dataclass(frozen=True)
class Snapshot:
    """Feast's store on a registry that is read once, its feature services by name, and the stamp of the file."""

    store: FeatureStore
    online: ProjectRedisOnlineStore
    services: dict[str, FeatureService]
    stamp: Stamp | None

    @classmethod
    def load(cls, project: Project) -> Snapshot:
        """What the registry says now.

        Raises
        ------
        StoreError
            When there is none, Feast cannot read it, it is empty, or the online store is not the project's.
        """
        file = probe.settings(project)["registry_file"]
        found_at = stamp(file)  # before the file is read, so that no later one is missed
        store = open_store(project, online_only=True)
        services = store.registry.list_feature_services(store.project, allow_cache=True)
        if not store.registry.list_feature_views(store.project, allow_cache=True):
            # Feast leaves it so for a moment when it makes a new one
            raise StoreError(f"{file} holds no feature view; run `weakfish publish`.")
        online = online_store(store)
        if not isinstance(online, ProjectRedisOnlineStore):
            raise StoreError(
                f"{probe.repository(project)}/feature_store.yaml names the online store {type(online).__name__}, which "
                "`weakfish serve` cannot read; use `feast serve`, or the store that docs/store.md names."
            )
        found = cls(store, online, {str(service.name): service for service in services}, found_at)
        for name in found.services:  # so that the first request is fast
            found._inputs(name, False)
            found._inputs(name, True)
        return found

    def inputs(self) -> dict[str, RequestInputs | None]:
        """What the entities of each feature service must hold; None for one that Feast cannot serve."""
        return {name: self._inputs(name, True) for name in self.services}

    def _inputs(self, name: str, full: bool) -> RequestInputs | None:
        try:
            question = FeatureRequest.model_construct(entities={}, feature_service=name, full_feature_names=full)
            return self.plan(question).inputs
        except Exception:  # a client that asks for it is told
            return None

    def plan(self, question: FeatureRequest) -> ReadPlan:
        """What reading the features that a question names needs.

        Raises
        ------
        UnknownName
            When there is no such feature service.
        feast.errors.FeastError, KeyError, ValueError
            When Feast knows no such feature or view, or cannot serve it so.
        """
        name = question.feature_service
        if name and name not in self.services:
            raise UnknownName("feature service", name, self.services, "the registry")
        asked_for = self.services[name] if name else list(question.features)
        full, versioned = question.full_feature_names, question.include_feature_view_version_metadata
        reader = self.online.reader(self.store.config)
        plan = reader.plan(self.store.registry, self.store.project, asked_for, full, versioned)
        for view in plan.label_views:
            raise ValueError(f"{view} holds labels, which are never served; read them offline")
        return plan

    def response(self, plan: ReadPlan, columns: Mapping[str, Any]) -> FeatureResponse:
        """Features of entities; raises `redis.RedisError`."""
        return self.online.reader(self.store.config).response(plan, columns)

    def now(self) -> int:
        """The time that the store answers for, in nanoseconds since 1970."""
        return self.online.reader(self.store.config).now()


CHECK_SECONDS = 0.5
STOP_SECONDS = 1.0
"""How long the end of a server waits for a store that does not answer."""


class Watcher:
    """Keeps the snapshot current, and knows whether the store behind it answers; says so when either changes."""

    def __init__(self, project: Project, settings: ServeSettings) -> None:
        self.project, self.settings = project, settings
        self.lost = False
        self.snapshot = Snapshot.load(project)
        self._refused: Stamp | None = None
        self._registry: Path = probe.settings(project)["registry_file"]
        self._address = server.resolve(project)
        self._client: redis.Redis | None = None
        self._wake, self._over = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watcher", daemon=True)
        self._check_store()

    def start(self) -> None:
        """Begin to look after the store and the registry."""
        self._thread.start()

    def stop(self) -> None:
        """End that, and the connections."""
        self._over.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(STOP_SECONDS)
        if self._client is not None and not self._thread.is_alive():
            self._client.close()

    def check_now(self) -> None:
        """Look at the store at once: a request failed on it."""
        self._wake.set()

    def _watch(self) -> None:
        while not self._over.is_set():
            self._wake.wait(CHECK_SECONDS)
            self._wake.clear()
            self._check_store()
            self._check_registry()

    def _check_store(self) -> None:
        try:
            with explained(self._address):
                if self._client is None:
                    self._client = self._address.within(self.settings.store_seconds).client()
                    self.snapshot.online.use(self._client)
                self._client.ping()
        except WeakfishError as error:
            if not self.lost:
                say(f"{error} Requests get 503 until it is back.")
            self.lost = True
            self._follow_embedded_server()
        else:
            if self.lost:
                say(f"The online store at {self._address} is back.")
            self.lost = False

    def _follow_embedded_server(self) -> None:
        """One that was started anew can have another port."""
        found = server.running(self.project) if self._address.embedded else None
        if found is not None and found.address != self._address:
            self._address, self._client = found.address, None

    def _check_registry(self) -> None:
        found_at = stamp(self._registry)
        if found_at is None or found_at in (self.snapshot.stamp, self._refused):
            return
        try:
            found = Snapshot.load(self.project)
        except WeakfishError as error:
            self._refused = found_at
            say(f"{error} The registry that was there before is served on.")
            return
        found.online.use(self._client)
        self.snapshot, self._refused = found, None
        metrics.reloaded()
        say(f"A new registry is served: {', '.join(sorted(found.services)) or 'no feature service'}.")
