"""The offline store: features as of the times of a spine, on DuckDB, for Feast to load by class path."""

from weakfish.store.offline.job import ArrowJob
from weakfish.store.offline.latest import latest
from weakfish.store.offline.store import AsOfOfflineStore, AsOfOfflineStoreConfig

__all__ = ["ArrowJob", "AsOfOfflineStore", "AsOfOfflineStoreConfig", "latest"]
