"""Where a Redis listens and how to log in, and what went wrong there in one sentence that says what to do.

`where` reads addresses from the environment and from feature_store.yaml; `clients` connects to them. Secrets come from
the environment alone and live in no file, message or repr.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, cast

import redis
from redis.asyncio.sentinel import MasterNotFoundError as AsyncMasterNotFoundError
from redis.exceptions import ClusterDownError, MovedError, NoPermissionError, RedisClusterException
from redis.sentinel import MasterNotFoundError

from weakfish.errors import StoreError

if TYPE_CHECKING:
    import redis.asyncio

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
        from weakfish.store.connection.clients import sync_client

        return cast(redis.Redis, sync_client(self))

    def client_async(self) -> redis.asyncio.Redis:
        """A client for the event loop that runs; that of a cluster is a ``redis.asyncio.RedisCluster``."""
        from weakfish.store.connection.clients import async_client

        return cast("redis.asyncio.Redis", async_client(self))

    def settings(self) -> dict[str, Any]:
        """Keyword arguments of ``redis.Redis`` for a connection to ``host`` and ``port``, with no retries."""
        from weakfish.store.connection.clients import settings

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
