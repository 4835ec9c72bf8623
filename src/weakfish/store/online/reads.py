"""Honest reads: Feast's online reads, sync and async, with a status for every value that is not served, and fast.

A request comes in as Feast's SDK or `feast serve` hands it to the online store; Feast's response goes out, equal to
that of Feast's own Redis store but for what that keeps silent about: an entity that is not there is NOT_FOUND, and a
row beyond its view's time to live is OUTSIDE_MAX_AGE with a null value. What was computed ahead by ``feast
precompute`` has no ages of its own and is not served: rows are read.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from feast import FeatureView, RepoConfig
from feast.infra.online_stores.redis import RedisOnlineStore
from feast.online_response import OnlineResponse

from weakfish.store.online import answers
from weakfish.store.online.answers import Entry
from weakfish.store.online.clock import Clock
from weakfish.store.online.exchange import Exchange, Row, Want, Wants
from weakfish.store.online.exchange_async import AsyncExchange
from weakfish.store.online.plans import Plans
from weakfish.store.online.prepare import Asked, by_feast, by_hand
from weakfish.store.online.read_plan import ReadPlan, ViewRead, view_read
from weakfish.store.online.request import columnar
from weakfish.store.online.response import Answer, ViewRows, judged


class HonestReads(RedisOnlineStore):
    """The reading half of an online store on Redis: a base to stand first."""

    repository: Path | None = None
    _plans: Plans | None = None
    _clock: Clock | None = None
    _exchange: Exchange | None = None
    _exchange_async: AsyncExchange | None = None

    def get_online_features(
        self,
        config: RepoConfig,
        features: Any,
        entity_rows: Any,
        registry: Any,
        project: str,
        full_feature_names: bool = False,
        include_feature_view_version_metadata: bool = False,
    ) -> OnlineResponse:
        """Feast's response for a request; raises what Feast raises, and `redis.RedisError`."""
        versioned = include_feature_view_version_metadata
        plan, asked = self._planned(config, features, entity_rows, registry, project, full_feature_names, versioned)
        begun = time.monotonic()
        views = self._read(config, plan, asked)
        answers.measure(begun, plan, views)
        return answers.response(plan, asked, views)

    async def get_online_features_async(
        self,
        config: RepoConfig,
        features: Any,
        entity_rows: Any,
        registry: Any,
        project: str,
        full_feature_names: bool = False,
        include_feature_view_version_metadata: bool = False,
    ) -> OnlineResponse:
        """Feast's response for a request; raises what Feast raises, and `redis.RedisError`."""
        versioned = include_feature_view_version_metadata
        plan, asked = self._planned(config, features, entity_rows, registry, project, full_feature_names, versioned)
        begun = time.monotonic()
        views = await self._read_async(config, plan, asked)
        answers.measure(begun, plan, views)
        return answers.response(plan, asked, views)

    def answer(
        self,
        config: RepoConfig,
        features: Any,
        entities: Mapping[str, Any],
        registry: Any,
        project: str,
        full_feature_names: bool = False,
        include_feature_view_version_metadata: bool = False,
    ) -> Answer:
        """What `get_online_features` says, as columns of JSON values, without building Feast's message."""
        versioned = include_feature_view_version_metadata
        plan, asked = self._planned(config, features, entities, registry, project, full_feature_names, versioned)
        return answers.answer(plan, asked, self._read(config, plan, asked))

    def online_read(
        self,
        config: RepoConfig,
        table: FeatureView,
        entity_keys: list[Any],
        requested_features: list[str] | None = None,
    ) -> list[Entry]:
        """Rows of a view: (None, None) for one that is not there, nulls with their time beyond the time to live."""
        view, wants = self._of_table(config, table, entity_keys, requested_features)
        rows = self._asker(config).fetch(wants)[0]
        return answers.entries(view, rows, self._oldest(view, self._now(config) if view.lifetime else 0))

    async def online_read_async(
        self,
        config: RepoConfig,
        table: FeatureView,
        entity_keys: list[Any],
        requested_features: list[str] | None = None,
    ) -> list[Entry]:
        """What `online_read` says, from within an event loop."""
        view, wants = self._of_table(config, table, entity_keys, requested_features)
        rows = (await (await self._asker_async(config)).fetch(wants))[0]
        return answers.entries(view, rows, self._oldest(view, await self._now_async(config) if view.lifetime else 0))

    def _planned(
        self, config: RepoConfig, features: Any, rows: Any, registry: Any, project: str, full: bool, versioned: bool
    ) -> tuple[ReadPlan, Asked]:
        columns = columnar(rows)
        plans = self._plans
        if plans is None or not plans.are_for(config, registry):
            plans = self._plans = Plans(config, registry)
        plan = plans.plan(project, features, full, versioned)
        return plan, by_hand(plan, columns) or by_feast(plan, config, registry, project, features, columns)

    def _read(self, config: RepoConfig, plan: ReadPlan, asked: Asked) -> list[ViewRows]:
        fetched = self._asker(config).fetch(asked.wants) if asked.wants else []
        return self._judged(plan, asked, fetched, self._now(config) if plan.has_lifetimes else 0)

    async def _read_async(self, config: RepoConfig, plan: ReadPlan, asked: Asked) -> list[ViewRows]:
        fetched = await (await self._asker_async(config)).fetch(asked.wants) if asked.wants else []
        return self._judged(plan, asked, fetched, await self._now_async(config) if plan.has_lifetimes else 0)

    def _judged(self, plan: ReadPlan, asked: Asked, fetched: list[list[Row]], now: int) -> list[ViewRows]:
        rows = asked.expanded(fetched)
        return [
            judged(rows[want], start, moment, self._oldest(view, now))
            for view, (want, start, moment) in zip(plan.views, asked.places, strict=True)
        ]

    @staticmethod
    def _oldest(view: ViewRead, now: int) -> int | None:
        return now - view.lifetime if view.lifetime else None

    def _of_table(
        self, config: RepoConfig, table: Any, entity_keys: list[Any], features: Sequence[str] | None
    ) -> tuple[ViewRead, Wants]:
        view = view_read(config, table, features or [feature.name for feature in table.features], full_names=False)
        return view, [(Want(view.fields), self._generate_redis_keys_for_entities(config, entity_keys))]

    def _now(self, config: RepoConfig) -> int:
        return self._clock_of(config).now(self._asker(config).client)

    async def _now_async(self, config: RepoConfig) -> int:
        return await self._clock_of(config).now_async((await self._asker_async(config)).client)

    def _clock_of(self, config: RepoConfig) -> Clock:
        if self._clock is None or self._clock.name != config.project:
            self._clock = Clock(config.repo_path, config.project)
        return self._clock

    def _asker(self, config: RepoConfig) -> Exchange:
        self.repository = config.repo_path
        client = self._get_client(config.online_store)
        if self._exchange is None or self._exchange.client is not client:
            self._exchange = Exchange(client)
        return self._exchange

    async def _asker_async(self, config: RepoConfig) -> AsyncExchange:
        self.repository = config.repo_path
        client = await self._get_client_async(config.online_store)
        if self._exchange_async is None or self._exchange_async.client is not client:
            self._exchange_async = AsyncExchange(client)
        return self._exchange_async
