"""The online store: Feast's plug-in on the project's Redis, and what it holds of an entity.

`ProjectRedisOnlineStore` is what Feast calls; `weakfish.feast.reader` says how a request is answered,
`weakfish.feast.writer` how rows are written. Connections lead where the environment says, else where
feature_store.yaml says, else to the embedded server.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime
from functools import wraps
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal

from weakfish.feast.adapter import RedisStore

from feast import Entity, FeatureView, RepoConfig
from feast.infra.online_stores.helpers import compute_versioned_name
from feast.infra.online_stores.redis import RedisClient, RedisOnlineStoreConfig
from feast.online_response import OnlineResponse
from feast.protos.feast.serving.ServingService_pb2 import FieldStatus
from pydantic import StrictStr, field_validator

from weakfish.contracts.publications import Marker
from weakfish.errors import StoreError, UnknownName, UserError
from weakfish.feast import layout, server
from weakfish.feast.clients import ERRORS, Address, explained, external, from_feast
from weakfish.feast.commit import publishing_lock
from weakfish.feast.definitions import keeps_out, refuse_keyless, refuse_view
from weakfish.feast.encoding import Encoded, encode_rows
from weakfish.feast.exchange import Exchange
from weakfish.feast.reader import Entry, OnlineReader, columnar
from weakfish.feast.registry import open_store, quiet, views
from weakfish.feast.writer import write_all
from weakfish.project.paths import Project


class ProjectRedisOnlineStoreConfig(RedisOnlineStoreConfig):
    """Settings in feature_store.yaml: Feast's, without secrets; an address is optional, see docs/store.md."""

    type: Literal["weakfish.feast.online.ProjectRedisOnlineStore"] = "weakfish.feast.online.ProjectRedisOnlineStore"
    connection_string: StrictStr = ""

    @field_validator("client")
    @classmethod
    def _speaks_redis(cls, client: RedisClient) -> RedisClient:
        if client != RedisClient.redis:
            raise ValueError("client: glide is not supported and not needed for fast reads; take it out")
        return client


Rows = Sequence[tuple[Any, dict[str, Any], datetime, datetime | None]]
"""Entity key, values by feature, event time and created time, as Feast hands them to an online store."""

BATCH = 10_000
"""Rows that are encoded at once."""

Progress = Callable[[int], Any] | None


def _in_a_thread(method: Callable[..., Any]) -> Any:
    """The async form of a method, which does not hold up the event loop."""

    @wraps(method)
    async def call(*arguments: Any, **named: Any) -> Any:
        return await asyncio.to_thread(method, *arguments, **named)

    return call


class ProjectRedisOnlineStore(RedisStore):
    """Feast's Redis store with honest statuses, writes that let the newer row stay, and removal of one project alone.

    ``key_ttl_seconds`` holds as Feast has it; ``skip_dedup`` means nothing, since comparing costs no round trip. Async
    requests wait in the event loop; async writes, and `online_read_async`, run in a thread each.
    """

    def __init__(self) -> None:
        super().__init__()
        self.repository: Path | None = None
        self._client: Any = None
        self._reader: OnlineReader | None = None

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
        entities = columnar(entity_rows)  # Feast complains of these first
        reader = self.reader(config)
        plan = reader.plan(registry, project, features, full_feature_names, include_feature_view_version_metadata)
        return reader.response(plan, entities)

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
        """What `get_online_features` does, while the event loop goes on."""
        entities = columnar(entity_rows)
        reader = self.reader(config) if self._client is not None else await asyncio.to_thread(self.reader, config)
        plan = reader.plan(registry, project, features, full_feature_names, include_feature_view_version_metadata)
        return await reader.response_async(plan, entities)

    def online_read(
        self,
        config: RepoConfig,
        table: FeatureView,
        entity_keys: list[Any],
        requested_features: list[str] | None = None,
    ) -> list[Entry]:
        """Rows of a view: (None, None) for one that is not there, nulls with their time beyond the time to live."""
        return self.reader(config).rows(table, entity_keys, requested_features)

    online_read_async = _in_a_thread(online_read)

    def online_write_batch(self, config: RepoConfig, table: FeatureView, data: Rows, progress: Progress) -> None:
        """Write rows; see Feast's ``OnlineStore``. Raises as `write_columns` does."""
        rest = iter(data)
        batches = iter(lambda: list(islice(rest, BATCH)), [])
        self.write_columns(
            config, table, (found for rows in batches for found in encode_rows(table, config, rows)), progress
        )

    online_write_batch_async = _in_a_thread(online_write_batch)

    def write_columns(
        self, config: RepoConfig, view: FeatureView, batches: Iterable[Encoded], progress: Progress = None
    ) -> None:
        """Write rows of a view that are encoded already; those of a label view stay out, with one warning.

        Raises
        ------
        UserError
            When the view reads labels, or lacks a join key.
        StoreError
            When the server cannot be reached or refuses the rows.
        """
        if keeps_out(view, config.repo_path):
            return
        try:
            exchange = self.reader(config).exchange
            with closing(write_all(exchange, batches, expire=config.online_store.key_ttl_seconds)) as written:
                for rows in written:
                    if progress is not None:
                        progress(rows)
        except ERRORS:
            with explained(self._address(config.online_store)):
                raise

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
            When a view that stays would serve labels, or lacks a join key; Feast then leaves its registry as it was.
        """
        for table in tables_to_keep:
            refuse_view(table, config.repo_path)
            refuse_keyless(table)
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
        client, project = self.client_of(config), config.project
        with publishing_lock(client, project):
            _delete(client, chain(layout.of_project(client, project), layout.records(client, project)))

    def delete_table(self, config: RepoConfig, table: FeatureView) -> None:
        """Delete a view's values from the keys of this project."""
        name = compute_versioned_name(table, config.registry.enable_online_feature_view_versioning)
        self._delete_keyed_by(config, table.join_keys, layout.fields(name, [field.name for field in table.features]))

    def delete_entity_values(self, config: RepoConfig, join_keys: list[str]) -> None:
        """Delete the rows of all entities of this project with these join keys, in all views."""
        self._delete_keyed_by(config, join_keys)

    def _delete_keyed_by(self, config: RepoConfig, join_keys: Iterable[str], fields: Iterable[bytes] = ()) -> None:
        client, kind, names = self.client_of(config), tuple(sorted(join_keys)), list(fields)
        keys = layout.of_project(client, config.project)
        _delete(client, (key for key in keys if layout.join_keys(key, config.project) == kind), names)

    def reader(self, config: RepoConfig) -> OnlineReader:
        """What reads by this configuration, through the store's client."""
        client, reader = self.client_of(config), self._reader
        if reader is None or reader.config is not config:
            reader = self._reader = OnlineReader(config, client)
        elif reader.exchange.client is not client:
            reader.exchange = Exchange(client)
        return reader

    def client_of(self, config: RepoConfig) -> Any:
        """The client, which threads share."""
        self.repository = config.repo_path
        return self.client(config.online_store)

    def client(self, config: Any) -> Any:
        """The client, given the settings below ``online_store``."""
        if self._client is None:
            self._client = self._address(config).client()
        return self._client

    def use(self, client: Any) -> None:
        """Read and write through this client from now on."""
        self._client = client

    async def close(self) -> None:
        """End all connections; the next call opens new ones."""
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def _address(self, config: Any) -> Address:
        """Where the store is; starts the embedded server when nothing names another and it does not run."""
        names = ("connection_string", "redis_type", "sentinel_master")
        named = external() or from_feast({name: getattr(config, name, None) for name in names})
        if named is not None:
            return named
        if self.repository is None:
            raise StoreError("The online store needs a Feast repository on disk; open it with repo_path.")
        return server.resolve(Project.find(Path(self.repository)))


def _delete(client: Any, found: Iterable[bytes], fields: Sequence[bytes] = ()) -> None:
    """Delete keys, or fields of them; one command each, since on a cluster one command's keys must share a slot."""
    for batch in layout.batches(found):
        with client.pipeline(transaction=False) as pipe:
            for key in batch:
                if fields:
                    pipe.hdel(key, *fields)
                else:
                    pipe.delete(key)
            layout.answers(pipe.execute(raise_on_error=False))


def read_entities(project: Project, entities: Mapping[str, str], marker: Marker | None) -> dict[str, dict[str, Any]]:
    """The rows of all views that the given join keys reach, by view, all read in one request.

    Each is ``{"entity", "status", "unreadable", "event_timestamp", "age_seconds", "values"}``; the age counts from the
    row's event time to the time that the store answers for. ``status`` is NOT_FOUND, with no values, for an entity that
    is not there, INVALID, with no values either, for a row that cannot be read, and OUTSIDE_MAX_AGE, with nulls, for a
    row beyond its view's time to live. ``unreadable`` names features whose values, null here, cannot be read.

    Raises
    ------
    UnknownName
        When a join key is in no view.
    StoreError
        When the store cannot be reached, or nothing was published yet.
    """
    with quiet(), explained(server.resolve(project)):
        store = open_store(project, online_only=True)
        served = views(store)
        known = {key for view in served for key in view.join_keys}
        for key in entities:
            if key not in known:
                raise UnknownName("entity", key, known, "the feature views")
        reached = [view for view in served if set(view.join_keys) <= set(entities)]
        if not reached:
            raise UserError(f"No view is keyed by {', '.join(entities)} alone; name its other keys too.")
        asked = {key: [entities[key]] for view in reached for key in view.join_keys}
        references = [f"{view.name}:{feature.name}" for view in reached for feature in view.features]
        response = store.get_online_features(references, asked, full_feature_names=True)
    follows = marker is not None and marker.as_of and project.params.publish.as_of != "now"
    now = datetime.fromisoformat(marker.as_of) if marker and follows else datetime.now(UTC)
    results = dict(zip(response.proto.metadata.feature_names.val, response.proto.results, strict=True))
    values = response.to_dict()
    rows: dict[str, dict[str, Any]] = {}
    for view in reached:
        columns = {feature.name: f"{view.name}__{feature.name}" for feature in view.features}
        statuses = {name: results[column].statuses[0] for name, column in columns.items()}
        unreadable = [name for name, one in statuses.items() if one == FieldStatus.INVALID]
        status = next((one for one in statuses.values() if one != FieldStatus.INVALID), FieldStatus.INVALID)
        is_found = status not in (FieldStatus.NOT_FOUND, FieldStatus.INVALID)
        time = results[next(iter(columns.values()))].event_timestamps[0].ToDatetime(UTC)
        rows[str(view.name)] = {
            "entity": {key: entities[key] for key in view.join_keys},
            "status": FieldStatus.Name(status),
            "unreadable": unreadable,
            "event_timestamp": time.isoformat() if is_found else None,
            "age_seconds": (now - time).total_seconds() if is_found else None,
            "values": {name: _plain(values[column][0]) for name, column in columns.items()} if is_found else {},
        }
    return rows


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).astimezone(UTC).isoformat()
    return value
