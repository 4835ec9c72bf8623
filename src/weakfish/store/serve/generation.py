"""A registry as it stood at one moment, and what is served from it until another takes its place.

A request holds on to the generation that it began with, so a new registry changes nothing under it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from feast import FeatureService, FeatureStore
from feast.labeling.label_view import LabelView
from feast.repo_config import load_repo_config

from weakfish.errors import StoreError, UnknownName, WeakfishError
from weakfish.project import Project
from weakfish.store.online.clock import Clock
from weakfish.store.online.read_plan import ReadPlan
from weakfish.store.online.response import Answer
from weakfish.store.online.store import ProjectRedisOnlineStore
from weakfish.store.publishing.probe import repository
from weakfish.store.serve.contract import Question
from weakfish.store.serve.files import Stamp, registry_file, stamp_of
from weakfish.store.serve.needs import Columns, Needs

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
