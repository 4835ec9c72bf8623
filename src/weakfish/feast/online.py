"""The clients of the online store: which Redis is asked, by whose settings, and one client per event loop.

Feast's configuration comes in with every call; the environment goes before it, and the project's embedded server takes
the place of a Redis that neither names.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import weakfish.feast.adapter  # noqa: F401 - first: it makes the import of Feast cheap

from feast import Entity, FeatureView, RepoConfig
from feast.infra.online_stores.helpers import compute_versioned_name
from feast.infra.online_stores.redis import RedisClient, RedisOnlineStore, RedisOnlineStoreConfig
from feast.online_response import OnlineResponse
from pydantic import StrictStr, field_validator

from weakfish.errors import StoreError
from weakfish.feast import layout as keys
from weakfish.feast import requests, server
from weakfish.feast.address import external, from_feast
from weakfish.feast.clients import ERRORS, Address, explained
from weakfish.feast.commit import claimed
from weakfish.feast.decoding import Answer, ViewRows, judged
from weakfish.feast.definitions import refuse_rows, refuse_view
from weakfish.feast.encoding import Encoded, encode_rows
from weakfish.feast.exchange import AsyncExchange, Exchange, Row, Want, Wants
from weakfish.feast.read_plan import Plans, ReadPlan, ViewRead, view_read
from weakfish.feast.requests import Asked, Clock, Entry, by_feast, by_hand, columnar
from weakfish.feast.writer import Written, write, write_all, write_async
from weakfish.project.paths import Project


class FindsItsServer:
    """Clients for Feast's ``RedisOnlineStore``, which asks for them by ``_get_client`` and ``_get_client_async``."""

    repository: Path | None = None
    _client: Any = None
    _client_async: Any = None
    _loop: asyncio.AbstractEventLoop | None = None

    def _get_client(self, online_store_config: RedisOnlineStoreConfig) -> Any:
        if self._client is None:
            self._client = self._address(online_store_config).client()
        return self._client

    async def _get_client_async(self, online_store_config: RedisOnlineStoreConfig) -> Any:
        loop = asyncio.get_running_loop()
        if self._client_async is None or self._loop is not loop:  # connections live in the loop that opened them
            self._client_async, self._loop = self._address(online_store_config).client_async(), loop
        return self._client_async

    async def close(self) -> None:
        """End all connections; the next call opens new ones."""
        from weakfish.feast.clients import close

        asynchronous, loop, self._client_async, self._loop = self._client_async, self._loop, None, None
        if asynchronous is not None and loop is asyncio.get_running_loop():
            await close(asynchronous)
        self._close_sync()

    def _close_sync(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def _address(self, online_store_config: Any = None) -> Address:
        """Where the store is; starts the embedded server when nothing names another and it does not run."""
        named = external() or (from_feast(_as_feast(online_store_config)) if online_store_config is not None else None)
        if named is not None:
            return named
        if self.repository is None:
            raise StoreError("The online store needs a Feast repository on disk; open it with repo_path.")
        return server.resolve(Project.find(Path(self.repository)))


def _as_feast(config: Any) -> dict[str, Any]:
    """The settings of an online store that say where it is."""
    return {name: getattr(config, name, None) for name in ("connection_string", "redis_type", "sentinel_master")}


class ScopedRemoval:
    """What `feast apply` and `feast teardown` do to the values of views that are gone."""

    repository: Path | None
    _get_client: Callable[[Any], Any]

    def update(
        self,
        config: RepoConfig,
        tables_to_delete: Sequence[FeatureView],
        tables_to_keep: Sequence[FeatureView],
        entities_to_delete: Sequence[Entity],
        entities_to_keep: Sequence[Entity],
        partial: bool,
    ) -> None:
        """Delete the values of views that are gone, of this project alone.

        Raises
        ------
        UserError
            When a view that stays would serve labels; Feast then leaves its registry as it was.
        """
        self.repository = config.repo_path
        for table in tables_to_keep:
            refuse_view(table, config.repo_path)
        if config.online_store.full_scan_for_deletion:
            for table in tables_to_delete:
                if getattr(table, "join_keys", None):
                    self.delete_table(config, table)

    def teardown(self, config: RepoConfig, tables: Sequence[FeatureView], entities: Sequence[Entity]) -> None:
        """Delete all that this project has in the store, whatever the registry knows of it.

        Raises
        ------
        StoreError
            While a publication is under way.
        """
        self.repository = config.repo_path
        client = self._get_client(config.online_store)
        with claimed(client, config.project):
            _delete(client, keys.of_project(client, config.project))
            _delete(client, keys.records(client, config.project))

    def delete_table(self, config: RepoConfig, table: FeatureView) -> None:
        """Delete a view's values from the keys of this project."""
        self.repository = config.repo_path
        client = self._get_client(config.online_store)
        name = compute_versioned_name(table, config.registry.enable_online_feature_view_versioning)
        fields = list(keys.fields(name, [feature.name for feature in table.features]))
        for batch in keys.batches(_keyed_by(client, config.project, table.join_keys)):
            with client.pipeline(transaction=False) as pipe:
                for key in batch:
                    pipe.hdel(key, *fields)
                pipe.execute()

    def delete_entity_values(self, config: RepoConfig, join_keys: list[str]) -> None:
        """Delete the rows of all entities of this project with these join keys, in all views."""
        self.repository = config.repo_path
        client = self._get_client(config.online_store)
        _delete(client, _keyed_by(client, config.project, join_keys))


def _keyed_by(client: Any, project: str, join_keys: Iterable[str]) -> Iterable[bytes]:
    kind = tuple(sorted(join_keys))
    return (key for key in keys.of_project(client, project) if keys.join_keys(key, project) == kind)


def _delete(client: Any, found: Iterable[bytes]) -> None:
    """One command per key: on a cluster, keys of one command must be in one slot."""
    for batch in keys.batches(found):
        with client.pipeline(transaction=False) as pipe:
            for key in batch:
                pipe.delete(key)
            pipe.execute()


Rows = Sequence[tuple[Any, dict[str, Any], datetime, datetime | None]]
"""Entity key, values by feature, event time and created time, as Feast hands them to an online store."""

BATCH = 10_000
"""Rows that are encoded at once."""

Progress = Callable[[int], Any] | None


class ColumnarWrites:
    """Writes of Feast's ``RedisOnlineStore`` that let the newer row stay, whoever comes last.

    ``key_ttl_seconds`` holds as Feast has it; ``skip_dedup`` means nothing, since comparing costs no round trip.
    """

    if TYPE_CHECKING:
        repository: Path | None
        _get_client: Callable[[Any], Any]
        _get_client_async: Callable[[Any], Any]

        def _address(self, online_store_config: Any = None) -> Any: ...

    def online_write_batch(self, config: RepoConfig, table: FeatureView, data: Rows, progress: Progress) -> None:
        """Write rows; see Feast's ``OnlineStore``.

        Raises
        ------
        UserError
            When the view holds labels, or reads them.
        StoreError
            When the server cannot be reached or refuses the rows.
        """
        self._allowed_to_write(config, table)
        with self._write_explained(config):
            client = self._get_client(config.online_store)
            for encoded in _encoded(config, table, data):
                write(client, encoded, expire=config.online_store.key_ttl_seconds)
                _told(progress, encoded)

    async def online_write_batch_async(
        self, config: RepoConfig, table: FeatureView, data: Rows, progress: Progress
    ) -> None:
        """What `online_write_batch` does, in an event loop."""
        self._allowed_to_write(config, table)
        with self._write_explained(config):
            client = await self._get_client_async(config.online_store)
            for encoded in _encoded(config, table, data):
                await write_async(client, encoded, expire=config.online_store.key_ttl_seconds)
                _told(progress, encoded)

    def write_columns(
        self, config: RepoConfig, view: FeatureView, batches: Iterable[Encoded], progress: Progress = None
    ) -> Written:
        """Write rows of a view that are encoded already; see `weakfish.feast.writer.write_all`."""
        self._allowed_to_write(config, view)
        total = Written()
        with self._write_explained(config):
            client = self._get_client(config.online_store)
            with closing(write_all(client, batches, expire=config.online_store.key_ttl_seconds)) as written:
                for done in written:
                    total += done
                    if progress is not None:
                        progress(done.written + done.older)
        return total

    def _allowed_to_write(self, config: RepoConfig, view: FeatureView) -> None:
        self.repository = config.repo_path
        refuse_rows(view, config.repo_path)

    @contextmanager
    def _write_explained(self, config: RepoConfig) -> Iterator[None]:
        """Errors as sentences; where the server is gets looked up only when there is one to be told."""
        try:
            yield
        except ERRORS:
            with explained(self._address(config.online_store)):
                raise


def _encoded(config: RepoConfig, view: FeatureView, data: Rows) -> Iterator[Encoded]:
    rest = iter(data)
    while rows := list(islice(rest, BATCH)):
        yield from encode_rows(view, config, rows)


def _told(progress: Progress, encoded: Encoded) -> None:
    if progress is not None:
        progress(len(encoded))


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
        requests.measure(begun, plan, views)
        return requests.response(plan, asked, views)

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
        requests.measure(begun, plan, views)
        return requests.response(plan, asked, views)

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
        return requests.answer(plan, asked, self._read(config, plan, asked))

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
        return requests.entries(view, rows, self._oldest(view, self._now(config) if view.lifetime else 0))

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
        return requests.entries(view, rows, self._oldest(view, await self._now_async(config) if view.lifetime else 0))

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


class ProjectRedisOnlineStoreConfig(RedisOnlineStoreConfig):
    """Settings in feature_store.yaml: Feast's, without secrets; an address is needed nowhere, see `store.where`."""

    type: Literal["weakfish.feast.online.ProjectRedisOnlineStore"] = "weakfish.feast.online.ProjectRedisOnlineStore"
    connection_string: StrictStr = ""

    @field_validator("client")
    @classmethod
    def _speaks_redis(cls, client: RedisClient) -> RedisClient:
        if client != RedisClient.redis:
            raise ValueError("client: glide is of no use here, where reads are fast without it; take it out")
        return client


class ProjectRedisOnlineStore(HonestReads, ColumnarWrites, FindsItsServer, ScopedRemoval, RedisOnlineStore):
    """`RedisOnlineStore` on ``WEAKFISH_REDIS``, or on the embedded server, which it starts when it does not run."""
