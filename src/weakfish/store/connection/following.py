"""Connections that ask the Sentinels for the primary each time they connect, also when a command is tried again.

The client's own ask only for the first attempt, and then go on knocking at the primary that is gone
(https://github.com/redis/redis-py/issues/3874).
"""

from __future__ import annotations

from typing import Any

from redis.asyncio.sentinel import SentinelManagedConnection as AsyncManaged
from redis.asyncio.sentinel import SentinelManagedSSLConnection as AsyncManagedOverTls
from redis.sentinel import SentinelManagedConnection as Managed
from redis.sentinel import SentinelManagedSSLConnection as ManagedOverTls


class Following(Managed):
    """A connection to whatever server is the primary."""

    def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        """Connect by way of the Sentinels if need be, and send."""
        if not self.is_connected:
            self.connect()  # type: ignore[no-untyped-call]
        super().send_packed_command(command, check_health)  # type: ignore[no-untyped-call]


class FollowingOverTls(Following, ManagedOverTls):
    """The same over TLS."""


class AsyncFollowing(AsyncManaged):
    """A connection to whatever server is the primary."""

    async def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        """Connect by way of the Sentinels if need be, and send."""
        if not self.is_connected:
            await self.connect()  # type: ignore[no-untyped-call]
        await super().send_packed_command(command, check_health)


class AsyncFollowingOverTls(AsyncFollowing, AsyncManagedOverTls):
    """The same over TLS."""
