"""Clients of Redis for an address, sync and async: one server, a cluster, or the primary that Sentinels name.

An `Address` comes in; what goes out connects when it is first used (a cluster's sync client at once), waits and tries
again a few times when the connection breaks, and follows a failover or a slot that moved.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import redis.asyncio
from redis.asyncio.cluster import ClusterNode as AsyncClusterNode
from redis.asyncio.retry import Retry as AsyncRetry
from redis.asyncio.sentinel import Sentinel as AsyncSentinel
from redis.backoff import ExponentialBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.retry import Retry
from redis.sentinel import Sentinel

from weakfish.store.connection.following import AsyncFollowing, AsyncFollowingOverTls, Following, FollowingOverTls

if TYPE_CHECKING:
    from weakfish.store.connection.address import Address

CONNECT_SECONDS = 3
ANSWER_SECONDS = 60
TRIES = 2
"""How often a command is repeated after a connection broke."""


def settings(address: Address) -> dict[str, Any]:
    """Keyword arguments of every connection that carries data: timeouts, login, TLS, and what Feast's settings add."""
    made: dict[str, Any] = {"socket_connect_timeout": CONNECT_SECONDS, "socket_timeout": ANSWER_SECONDS}
    return {**made, **_login(address.user, address.password), **_secured(address, address.tls), **address.more}


def sync_client(address: Address) -> redis.Redis | RedisCluster:
    """A client; a cluster's asks it at once who holds what."""
    if address.kind == "cluster":
        nodes = [ClusterNode(host, port) for host, port in address.nodes]  # type: ignore[no-untyped-call]
        return RedisCluster(startup_nodes=nodes, retry=Retry(_backoff(), TRIES), **settings(address))
    if address.kind == "sentinel":
        own = _of_sentinels(address, Retry(_backoff(), 0))
        asked: Any = Sentinel(list(address.nodes), sentinel_kwargs=own, **settings(address))  # type: ignore[no-untyped-call]
        kind = Following if address.tls is None else FollowingOverTls
        found: redis.Redis = asked.master_for(
            address.primary, db=address.db, retry=Retry(_backoff(), TRIES), connection_class=kind
        )
        return found
    return redis.Redis(
        host=address.host, port=address.port, db=address.db, retry=Retry(_backoff(), TRIES), **settings(address)
    )


def async_client(address: Address) -> redis.asyncio.Redis | redis.asyncio.RedisCluster:
    """A client for the event loop that runs; `close` ends it."""
    if address.kind == "cluster":
        nodes = [AsyncClusterNode(host, port) for host, port in address.nodes]
        return redis.asyncio.RedisCluster(startup_nodes=nodes, retry=AsyncRetry(_backoff(), TRIES), **settings(address))
    if address.kind == "sentinel":
        own = _of_sentinels(address, AsyncRetry(_backoff(), 0))
        asked: Any = AsyncSentinel(list(address.nodes), sentinel_kwargs=own, **settings(address))  # type: ignore[no-untyped-call]
        kind = AsyncFollowing if address.tls is None else AsyncFollowingOverTls
        found: redis.asyncio.Redis = asked.master_for(
            address.primary, db=address.db, retry=AsyncRetry(_backoff(), TRIES), connection_class=kind
        )
        return found
    return redis.asyncio.Redis(
        host=address.host, port=address.port, db=address.db, retry=AsyncRetry(_backoff(), TRIES), **settings(address)
    )


async def close(client: redis.asyncio.Redis | redis.asyncio.RedisCluster) -> None:
    """End an async client, and its connections to Sentinels too."""
    await client.aclose()
    sentinels = getattr(getattr(client, "connection_pool", None), "sentinel_manager", None)
    for sentinel in sentinels.sentinels if sentinels else ():
        await sentinel.aclose()


def _backoff() -> ExponentialBackoff:
    return ExponentialBackoff(cap=0.2, base=0.05)


def _of_sentinels(address: Address, retry: Retry | AsyncRetry) -> dict[str, Any]:
    """Keyword arguments of the connections to the Sentinels, which have a login of their own."""
    made = {"socket_connect_timeout": CONNECT_SECONDS, "socket_timeout": CONNECT_SECONDS, "retry": retry}
    login = _login(address.sentinel_user, address.sentinel_password)
    return {**made, **login, **_secured(address, address.sentinel_tls)}


def _login(user: str | None, password: str | None) -> dict[str, str]:
    return {name: value for name, value in (("username", user), ("password", password)) if value}


def _secured(address: Address, authorities: str | None) -> dict[str, Any]:
    """TLS, checked against a file of authorities, or against the system's own when that is empty."""
    if authorities is None:
        return {}
    made: dict[str, Any] = {"ssl": True, "ssl_ca_certs": authorities or None}
    if address.certificate:
        made |= {"ssl_certfile": address.certificate, "ssl_keyfile": address.key}
    return made
