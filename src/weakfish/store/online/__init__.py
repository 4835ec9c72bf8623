"""Feast's Redis online store as Weakfish has it; ``online_store.type`` in feature_store.yaml names it by class path."""

from weakfish.store.online.store import ProjectRedisOnlineStore, ProjectRedisOnlineStoreConfig

__all__ = ["ProjectRedisOnlineStore", "ProjectRedisOnlineStoreConfig"]
