"""Connections that ask the Sentinels for the primary each time they connect, also when a command is tried again.

The client's own ask only for the first attempt, and then go on knocking at the primary that is gone
(https://github.com/redis/redis-py/issues/3874).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import redis
import redis.asyncio
from redis.asyncio.cluster import ClusterNode as AsyncClusterNode
from redis.asyncio.retry import Retry as AsyncRetry
from redis.asyncio.sentinel import MasterNotFoundError as AsyncMasterNotFoundError
from redis.asyncio.sentinel import Sentinel as AsyncSentinel
from redis.asyncio.sentinel import SentinelManagedConnection as AsyncManaged
from redis.asyncio.sentinel import SentinelManagedSSLConnection as AsyncManagedOverTls
from redis.backoff import ExponentialBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.exceptions import ClusterDownError, MovedError, NoPermissionError, RedisClusterException
from redis.retry import Retry
from redis.sentinel import MasterNotFoundError, Sentinel
from redis.sentinel import SentinelManagedConnection as Managed
from redis.sentinel import SentinelManagedSSLConnection as ManagedOverTls

from weakfish.errors import StoreError


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


VARIABLE = "WEAKFISH_REDIS"

ERRORS = (redis.RedisError, RedisClusterException)
"""All that a client raises: what a cluster's does has no base in common with the rest."""


@dataclass(frozen=True)
class Address:
    """One server, a cluster or Sentinels; prints as ``WEAKFISH_REDIS`` would name it.

    Attributes
    ----------
    host, port : the server, or the first node or Sentinel to ask
    user, password : the login
    tls : None for plain TCP, else the file of the authorities to trust ("" for the system's own)
    embedded : whether it is the project's own server
    db : the number of the database; a cluster has just 0
    kind : what listens there
    others : host and port of further nodes or Sentinels
    primary : the name by which Sentinels know the primary
    certificate, key : files that prove to the server who the client is
    sentinel_user, sentinel_password, sentinel_tls : the Sentinels' own
    more : further keyword arguments of the client's connections
    """

    host: str
    port: int
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: str | None = None
    embedded: bool = False
    db: int = 0
    kind: Literal["server", "cluster", "sentinel"] = "server"
    others: tuple[tuple[str, int], ...] = ()
    primary: str | None = None
    certificate: str | None = None
    key: str | None = None
    sentinel_user: str | None = None
    sentinel_password: str | None = field(default=None, repr=False)
    sentinel_tls: str | None = None
    more: Mapping[str, Any] = field(default_factory=dict, repr=False, hash=False)

    def __str__(self) -> str:
        nodes = ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.nodes)
        before = {"server": "", "cluster": "cluster:", "sentinel": f"sentinel:{self.primary}@"}[self.kind]
        return f"{before}{nodes}/{self.db}" if self.db else f"{before}{nodes}"

    @property
    def nodes(self) -> tuple[tuple[str, int], ...]:
        """Host and port of all that may be asked."""
        return ((self.host, self.port), *self.others)

    def client(self) -> redis.Redis:
        """A client of what is there; that of a cluster is a ``redis.RedisCluster``, which has the same commands.

        Raises
        ------
        redis.RedisError, redis.exceptions.RedisClusterException
            When a cluster does not answer; other clients connect when they are first used.
        """

        return cast(redis.Redis, sync_client(self))

    def client_async(self) -> redis.asyncio.Redis:
        """A client for the event loop that runs; that of a cluster is a ``redis.asyncio.RedisCluster``."""

        return cast("redis.asyncio.Redis", async_client(self))

    def settings(self) -> dict[str, Any]:
        """Keyword arguments of ``redis.Redis`` for a connection to ``host`` and ``port``, with no retries."""

        return {"host": self.host, "port": self.port, "db": self.db, **settings(self)}


@contextmanager
def explained(address: Address) -> Iterator[None]:
    """Turn what the client raises into a `StoreError` of one sentence that says what to do."""
    try:
        yield
    except ERRORS as error:
        raise StoreError(_sentence(address, error)) from error


def _sentence(address: Address, error: Exception) -> str:
    store = f"The online store at {address}"
    reason = re.sub(r"^.* of pipeline .*caused error: ", "", " ".join(str(error).split())).rstrip(".")  # no keys
    for applies, sentence in _special(address, error, reason):
        if applies:
            return f"{store} {sentence}."
    if isinstance(error, (redis.ConnectionError, redis.TimeoutError)):
        what_to_do = "see data/online/server.log" if address.embedded else f"start it, or correct {VARIABLE}"
        return f"{store} does not answer ({reason}); {what_to_do}."
    return f"{store} failed: {reason}; nothing was published."


def _special(address: Address, error: Exception, reason: str) -> list[tuple[bool, str]]:
    """Failures that have a name, the special before the general: whether it is this one, and what to say."""
    lost = isinstance(error, (MasterNotFoundError, AsyncMasterNotFoundError))
    login = isinstance(error, redis.AuthenticationError) or bool(re.search(r"NOAUTH|WRONGPASS|AuthenticationE", reason))
    gone = f"has no primary: its Sentinels do not answer, do not know {address.primary}, or hold it for down"
    down = "is a cluster of which a part is down"
    moved = isinstance(error, MovedError) or "not allowed in cluster mode" in reason
    return [
        (lost and login, f"has Sentinels that refuse the login; correct {VARIABLE}_SENTINEL_USER and _PASSWORD"),
        (lost, f"{gone}; wait for the failover, or correct {VARIABLE}"),
        (login, f"refuses the login ({reason}); correct {VARIABLE}_USER and {VARIABLE}_PASSWORD"),
        (isinstance(error, NoPermissionError), f"denies its user a command ({reason}); docs/store.md lists all needed"),
        (
            isinstance(error, redis.OutOfMemoryError),
            "is out of memory and took nothing; give it more (maxmemory) or free some, then publish again",
        ),
        (isinstance(error, redis.BusyLoadingError), "is still loading its data; try again in a moment"),
        (isinstance(error, redis.ReadOnlyError), f"is a read-only replica; let {VARIABLE} name the primary"),
        ("DB index is out of range" in reason, f"has no database {address.db}; correct the number after the slash"),
        (moved, f"is a node of a cluster; let {VARIABLE} be cluster:{address.host}:{address.port}"),
        (
            "luster mode is not enabled" in reason or "cluster support disabled" in reason,
            f"is no cluster; leave out cluster: in {VARIABLE}",
        ),
        (
            isinstance(error, ClusterDownError) or "slots are not covered" in reason or "is not covered" in reason,
            f"{down}; see `redis-cli cluster info` there, and try again when its state is ok",
        ),
        (isinstance(error, RedisClusterException), f"does not answer; start it, or correct {VARIABLE}"),
    ]
