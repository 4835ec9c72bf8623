"""Feast's Redis online store, at the address that the project resolves; named by class path in feature_store.yaml.

Reads are Feast's own. Writes are too, except while publishing, when rows are handed to the publication instead.
Nothing outside of the Feast project is ever deleted, whatever its name.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import redis
from feast import Entity, FeatureView, RepoConfig
from feast.infra.online_stores.redis import RedisOnlineStore, RedisOnlineStoreConfig
from feast.labeling.label_view import LabelView

from weakfish.errors import StoreError
from weakfish.project import Project
from weakfish.store import keys, server
from weakfish.store.address import Address

Rows = Sequence[tuple[Any, dict[str, Any], datetime, datetime | None]]
Sink = Callable[[RepoConfig, FeatureView, Rows], None]


class ProjectRedisOnlineStoreConfig(RedisOnlineStoreConfig):
    """Settings in feature_store.yaml: Feast's, without an address and without secrets."""

    type: Literal["weakfish.store.online.ProjectRedisOnlineStore"] = "weakfish.store.online.ProjectRedisOnlineStore"


def _with_repository(name: str) -> Any:
    """Feast's method of that name, which remembers whose repository it works for before it connects."""
    inherited = getattr(RedisOnlineStore, name)

    @functools.wraps(inherited)
    def method(self: ProjectRedisOnlineStore, config: RepoConfig, *args: Any, **kwargs: Any) -> Any:
        self.repository = config.repo_path
        return inherited(self, config, *args, **kwargs)

    return method


class ProjectRedisOnlineStore(RedisOnlineStore):
    """`RedisOnlineStore` on ``WEAKFISH_REDIS``, or on the embedded server, which it starts when it does not run."""

    repository: Path | None = None
    sink: Sink | None = None
    _client: Any = None
    _client_async: Any = None

    get_online_features = _with_repository("get_online_features")
    get_online_features_async = _with_repository("get_online_features_async")
    online_read = _with_repository("online_read")
    online_read_async = _with_repository("online_read_async")
    _write_batch = _with_repository("online_write_batch")
    online_write_batch_async = _with_repository("online_write_batch_async")

    def online_write_batch(
        self, config: RepoConfig, table: FeatureView, data: Rows, progress: Callable[[int], Any] | None
    ) -> None:
        """Write rows as Feast does, or hand them to the publication under way; refuse labels, which are no features."""
        if isinstance(table, LabelView):
            raise StoreError(f"{table.name} holds labels, and labels are never served; read them offline.")
        if self.sink is None:
            self._write_batch(config, table, data, progress)
        else:
            self.sink(config, table, data)

    def update(
        self,
        config: RepoConfig,
        tables_to_delete: Sequence[FeatureView],
        tables_to_keep: Sequence[FeatureView],
        entities_to_delete: Sequence[Entity],
        entities_to_keep: Sequence[Entity],
        partial: bool,
    ) -> None:
        """Delete the values of views that are gone, of this project alone."""
        for table in tables_to_delete:
            if hasattr(table, "join_keys"):
                self.delete_table(config, table)

    def teardown(self, config: RepoConfig, tables: Sequence[FeatureView], entities: Sequence[Entity]) -> None:
        """Delete all that this project has in the store (Feast would take projects whose name ends alike along)."""
        self.repository = config.repo_path
        client = self._get_client(config.online_store)
        for batch in keys.batches(keys.of_project(client, config.project)):
            client.delete(*batch)
        client.delete(keys.marker(config.project))

    def delete_table(self, config: RepoConfig, table: FeatureView) -> None:
        """Delete a view's values from the keys of this project."""
        self.repository = config.repo_path
        client = self._get_client(config.online_store)
        fields = list(keys.fields(table.name, [feature.name for feature in table.features]))
        for batch in keys.batches(keys.of_project(client, config.project)):
            with client.pipeline(transaction=False) as pipe:
                for key in batch:
                    if keys.join_keys(key, config.project) == tuple(sorted(table.join_keys)):
                        pipe.hdel(key, *fields)
                pipe.execute()

    def _get_features_for_entity(self, values: Any, feature_view: str, requested_features: list[str]) -> Any:
        """Feast's reading of a row; None for a row that is not there, which Feast would return as PRESENT nulls."""
        if not values[-1]:  # the row's event time
            return None, None
        return super()._get_features_for_entity(values, feature_view, requested_features)

    def _get_client(self, online_store_config: RedisOnlineStoreConfig) -> Any:
        if not self._client:
            self._client = self._address().client()
        return self._client

    async def _get_client_async(self, online_store_config: RedisOnlineStoreConfig) -> Any:
        if not self._client_async:
            settings = {name: value for name, value in self._address().settings().items() if name != "retry"}
            self._client_async = redis.asyncio.Redis(**settings)
        return self._client_async

    def _address(self) -> Address:
        if self.repository is None:
            raise StoreError("The online store needs a Feast repository on disk; open it with repo_path.")
        return server.resolve(Project.find(Path(self.repository)))
