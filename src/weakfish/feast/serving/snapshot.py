"""How the server is run: what the command line and the environment say, handed to every process of it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import weakfish.feast.adapter  # noqa: F401 - first: it makes the import of Feast cheap

import redis
from feast import FeatureService, FeatureStore
from feast.labeling.label_view import LabelView
from feast.repo_config import load_repo_config

from weakfish.errors import StoreError, UnknownName, UserError, WeakfishError
from weakfish.feast import server
from weakfish.feast.clients import Address, explained
from weakfish.feast.decoding import Answer
from weakfish.feast.online import ProjectRedisOnlineStore
from weakfish.feast.probe import repository, settings
from weakfish.feast.read_plan import ReadPlan
from weakfish.feast.requests import Clock
from weakfish.feast.serving import metrics
from weakfish.feast.serving.requests import Columns, Needs, Question
from weakfish.project.paths import Project

TOKEN = "WEAKFISH_SERVE_TOKEN"  # noqa: S105 - the variable's name
SHORTEST_TOKEN = 16


@dataclass(frozen=True)
class Settings:
    """Where to listen, how many may work, how much may be asked, and the token to show (None: none)."""

    host: str
    port: int
    workers: int
    threads: int
    most_entities: int
    most_bytes: int
    store_seconds: float
    token: bytes | None = field(default=None, repr=False)


def token() -> bytes | None:
    """The token that clients have to show; None when the variable is not set.

    Raises
    ------
    UserError
        When it is set to nothing, or to so little that it can be guessed.
    """
    value = os.environ.get(TOKEN)
    if value is None:
        return None
    if len(value) < SHORTEST_TOKEN or value != value.strip() or not value.isascii() or not value.isprintable():
        raise UserError(
            f"{TOKEN} is set, but not to {SHORTEST_TOKEN} or more ASCII characters without space around them; correct "
            "it, or unset it if clients need no token."
        )
    return value.encode()


Stamp = tuple[int, int, int]


def registry_file(project: Project) -> Path:
    """Where the project's registry is."""
    file: Path = settings(project)["registry_file"]
    return file


def stamp_of(file: Path) -> Stamp | None:
    """What changes whenever a file does; None when it is not there."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


MOST_KNOWN = 1_000
Key = tuple[str | tuple[str, ...], bool, bool]


@dataclass(frozen=True, slots=True)
class Asked:
    """What a question asks for: Feast's object or references, the plan, and what its entities must hold."""

    features: FeatureService | list[str]
    key: Key
    plan: ReadPlan
    needs: Needs


@dataclass(frozen=True)
class Generation:
    """Feast's store on a registry that is read once, its feature services by name, and the stamp of the file."""

    store: FeatureStore
    online: ProjectRedisOnlineStore
    services: dict[str, FeatureService]
    stamp: Stamp
    clock: Clock
    known: dict[Key, Asked] = field(default_factory=dict)

    @classmethod
    def load(cls, project: Project) -> Generation:
        """What the registry says now.

        Raises
        ------
        StoreError
            When there is none, Feast cannot read it, it is empty, or the online store is not the project's.
        """
        file = registry_file(project)
        stamp = stamp_of(file)
        if stamp is None:
            raise StoreError(f"{file} is not there: nothing was published; run `weakfish publish`.")
        try:
            config = load_repo_config(repository(project), repository(project) / "feature_store.yaml")
            config.registry.path = str(file)
            config.registry.cache_ttl_seconds, config.registry.cache_mode = 0, "thread"  # never looked at again
            store = FeatureStore(config=config)
            listed = store.registry.list_feature_services(store.project, allow_cache=True)
            views = store.registry.list_feature_views(store.project, allow_cache=True)
            services = {str(service.name): service for service in listed}
            online: Any = store._get_provider().online_store
        except WeakfishError:
            raise
        except Exception as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
            raise StoreError(
                f"{file} is no registry that Feast can read ({reason}); run `weakfish publish`."
            ) from error
        if not views:  # as Feast leaves it for a moment when it makes a new one
            raise StoreError(f"{file} holds no feature view; run `weakfish publish`.")
        if not isinstance(online, ProjectRedisOnlineStore):
            raise StoreError(
                f"{repository(project)}/feature_store.yaml names the online store {type(online).__name__}, which "
                "`weakfish serve` cannot read; use `feast serve`, or the store that docs/store.md names."
            )
        found = cls(store, online, services, stamp, Clock(config.repo_path, config.project))
        found._warm()
        return found

    def needs(self) -> dict[str, Needs | None]:
        """What the entities of each feature service must hold; None for one that Feast cannot serve."""
        return {name: self._of_service(name, True) for name in self.services}

    def _warm(self) -> None:
        """Resolve all feature services, so that who asks first need not wait; what is wrong with one, he is told."""
        for name in self.services:
            self._of_service(name, False)
            self._of_service(name, True)

    def _of_service(self, name: str, full: bool) -> Needs | None:
        try:
            return self.resolve(Question(entities={}, feature_service=name, full_feature_names=full)).needs
        except Exception:
            return None

    def resolve(self, question: Question) -> Asked:
        """What a question asks for, resolved when it is asked first.

        Raises
        ------
        UnknownName
            When there is no such feature service.
        feast.errors.FeastError, KeyError, ValueError
            When Feast knows no such feature or view, or cannot serve it so.
        """
        name, full, versioned = (
            question.feature_service,
            question.full_feature_names,
            question.include_feature_view_version_metadata,
        )
        key: Key = (name or tuple(question.features), full, versioned)
        found = self.known.get(key)
        if found is None:
            if name and name not in self.services:
                raise UnknownName("feature service", name, self.services, "the registry")
            features = self.services[name] if name else list(question.features)
            store = self.store
            plan = ReadPlan(store.config, store.registry, store.project, features, full, versioned)
            for view in plan.views:
                if isinstance(view.table, LabelView):
                    raise ValueError(f"{view.name} holds labels, which are never served; read them offline")
            if len(self.known) >= MOST_KNOWN:  # clients make up lists of features
                self.known.clear()
            found = self.known[key] = Asked(features, key, plan, Needs.of(plan))
        return found

    def answer(self, asked: Asked, columns: Columns) -> Answer:
        """Features of entities; raises `redis.RedisError`."""
        _, full, versioned = asked.key
        config, store = self.store.config, self.store
        return self.online.answer(config, asked.features, columns, store.registry, store.project, full, versioned)

    def now(self) -> int:
        """The time that the store answers for, in nanoseconds since 1970."""
        return self.clock.now(self.online._get_client(self.store.config.online_store))


SECONDS = 0.5
CONNECT_SECONDS = 1.0

Say = Callable[[str], None]


class Keeper:
    """The current generation, and whether the store behind it answers; ``say`` gets a sentence when either changes."""

    def __init__(self, project: Project, settings: Settings, say: Say) -> None:
        self.project, self.settings, self.say = project, settings, say
        self.lost = False
        self.generation = Generation.load(project)
        self._refused: Stamp | None = None
        self._registry = registry_file(project)
        self._address = server.resolve(project)
        self._client: redis.Redis | None = None
        self._wake, self._over = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._look, name="keeper", daemon=True)
        self._look_at_store()

    def start(self) -> None:
        """Begin to look after things."""
        self._thread.start()

    def stop(self) -> None:
        """End that, and the connections."""
        self._over.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()
        if self._client is not None:
            self._client.close()

    def doubt(self) -> None:
        """Look at the store at once: a request failed on it."""
        self._wake.set()

    def _look(self) -> None:
        while not self._over.is_set():
            self._wake.wait(SECONDS)
            self._wake.clear()
            self._look_at_store()
            self._look_at_registry()

    def _look_at_store(self) -> None:
        try:
            with explained(self._address):
                self._connected().ping()
        except WeakfishError as error:
            if not self.lost:
                self.say(f"{error} Requests get 503 until it is back.")
            self.lost = True
            self._look_elsewhere()
        else:
            if self.lost:
                self.say(f"The online store at {self._address} is back.")
            self.lost = False

    def _connected(self) -> redis.Redis:
        if self._client is None:
            self._client = _hasty(self._address, self.settings.store_seconds).client()
            self.generation.online._client = self._client
        return self._client

    def _look_elsewhere(self) -> None:
        """An embedded server that was started anew can have another port."""
        found = server.running(self.project) if self._address.embedded else None
        if found is not None and found.address != self._address:
            self._address, self._client = found.address, None

    def _look_at_registry(self) -> None:
        stamp = stamp_of(self._registry)
        if stamp is None or stamp in (self.generation.stamp, self._refused):
            return
        try:
            found = Generation.load(self.project)
        except WeakfishError as error:
            self._refused = stamp
            self.say(f"{error} The registry that was there before is served on.")
            return
        found.online._client = self._client
        self.generation, self._refused = found, None
        metrics.reloaded()
        self.say(f"A new registry is served: {', '.join(sorted(found.services)) or 'no feature service'}.")


def _hasty(address: Address, seconds: float) -> Address:
    """The address with the patience of one who has a client waiting."""
    patience: dict[str, Any] = {"socket_connect_timeout": min(CONNECT_SECONDS, seconds), "socket_timeout": seconds}
    return replace(address, more={**address.more, **patience})
