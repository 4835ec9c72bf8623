"""The clients of the online store: which Redis is asked, by whose settings, and one client per event loop.

Feast's configuration comes in with every call; the environment goes before it, and the project's embedded server takes
the place of a Redis that neither names.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from feast.infra.online_stores.redis import RedisOnlineStoreConfig

from weakfish.errors import StoreError
from weakfish.project import Project
from weakfish.store.connection import server
from weakfish.store.connection.address import Address
from weakfish.store.connection.where import external, from_feast


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
        from weakfish.store.connection.clients import close

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
