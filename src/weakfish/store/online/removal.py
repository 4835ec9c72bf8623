"""Removal from the online store, as narrow as it was asked for: a project's keys, a view's fields, nobody else's.

Feast's own finds keys by how they end, so that tearing down ``fraud`` takes ``antifraud`` along; here every key is
parsed. The names of projects, views and join keys may hold anything, and the server may be a cluster.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from feast import Entity, FeatureView, RepoConfig
from feast.infra.online_stores.helpers import compute_versioned_name

from weakfish.store import keys
from weakfish.store.publishing.claim import claimed
from weakfish.store.refusals import refuse_view


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
