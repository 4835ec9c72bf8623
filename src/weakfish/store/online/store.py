"""Feast's Redis online store, at the address that the project resolves; named by class path in feature_store.yaml.

Reads are honest (reads.py), writes keep the newer row (writes.py), and nothing outside of the Feast project is ever
deleted, whatever its name (removal.py).
"""

from __future__ import annotations

from typing import Literal

from feast.infra.online_stores.redis import RedisClient, RedisOnlineStore, RedisOnlineStoreConfig
from pydantic import StrictStr, field_validator

from weakfish.store.online.connection import FindsItsServer
from weakfish.store.online.reads import HonestReads
from weakfish.store.online.removal import ScopedRemoval
from weakfish.store.online.writes import ColumnarWrites


class ProjectRedisOnlineStoreConfig(RedisOnlineStoreConfig):
    """Settings in feature_store.yaml: Feast's, without secrets; an address is needed nowhere, see `store.where`."""

    type: Literal["weakfish.store.online.ProjectRedisOnlineStore"] = "weakfish.store.online.ProjectRedisOnlineStore"
    connection_string: StrictStr = ""

    @field_validator("client")
    @classmethod
    def _speaks_redis(cls, client: RedisClient) -> RedisClient:
        if client != RedisClient.redis:
            raise ValueError("client: glide is of no use here, where reads are fast without it; take it out")
        return client


class ProjectRedisOnlineStore(HonestReads, ColumnarWrites, FindsItsServer, ScopedRemoval, RedisOnlineStore):
    """`RedisOnlineStore` on ``WEAKFISH_REDIS``, or on the embedded server, which it starts when it does not run."""
