"""The door to Redis: which one a project uses, clients of it, what redis-py keeps private, errors as sentences."""

from __future__ import annotations

import inspect
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

import redis
import redis.asyncio
from redis.asyncio.cluster import ClusterNode as AsyncClusterNode
from redis.asyncio.retry import Retry as AsyncRetry
from redis.asyncio.sentinel import MasterNotFoundError as AsyncMasterNotFoundError
from redis.asyncio.sentinel import Sentinel as AsyncSentinel
from redis.asyncio.sentinel import SentinelManagedConnection as AsyncManaged
from redis.asyncio.sentinel import SentinelManagedSSLConnection as AsyncManagedOverTls
from redis.backoff import ExponentialBackoff, NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.exceptions import ClusterDownError, MovedError, NoPermissionError, RedisClusterException
from redis.retry import Retry
from redis.sentinel import MasterNotFoundError, Sentinel
from redis.sentinel import SentinelManagedConnection as Managed
from redis.sentinel import SentinelManagedSSLConnection as ManagedOverTls

from weakfish.errors import StoreError, UserError
from weakfish.project.paths import Project

VARIABLE = "WEAKFISH_REDIS"

ERRORS = (redis.RedisError, RedisClusterException)
"""All that a client raises; the errors of a cluster's client have no common base with the rest."""

CONNECT_SECONDS = 3
ANSWER_SECONDS = 60
ATTEMPTS = 2
"""How often a command is repeated after a connection broke."""

NEVER = Retry(NoBackoff(), 0)


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
        return cast(redis.Redis, _client(_SYNC, self))

    def client_async(self) -> redis.asyncio.Redis:
        """A client for the event loop that runs; that of a cluster is a ``redis.asyncio.RedisCluster``."""
        return cast("redis.asyncio.Redis", _client(_ASYNC, self))

    def settings(self) -> dict[str, Any]:
        """Keyword arguments of every connection that carries data."""
        made: dict[str, Any] = {"socket_connect_timeout": CONNECT_SECONDS, "socket_timeout": ANSWER_SECONDS}
        return {**made, **_login(self.user, self.password), **_secured(self, self.tls), **self.more}

    def within(self, seconds: float) -> Address:
        """The address with the short timeouts of one who has a client waiting."""
        timeouts = {"socket_connect_timeout": min(1.0, seconds), "socket_timeout": seconds}
        return replace(self, more={**self.more, **timeouts})


FILE = "feature_store.yaml"
PORTS = {"server": 6379, "cluster": 6379, "sentinel": 26379}
FORMS = "host:port, host:port/database, cluster:host:port,host:port or sentinel:name@host:port,host:port"
NODE = re.compile(r"(?:\[(?P<v6>[0-9a-fA-F:.]+)\]|(?P<name>[\w.-]+))(?::(?P<port>\d{1,5}))?")
Kind = Literal["server", "cluster", "sentinel"]
KINDS: dict[str, Kind] = {"redis": "server", "redis_cluster": "cluster", "redis_sentinel": "sentinel"}
"""Feast's ``redis_type``."""
TAKEN = ("username", "password", "db", "ssl", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "sentinel_kwargs")
"""Feast's parameters that have a place of their own in an `Address`."""
OURS = ("host", "port", "retry", "decode_responses", "encoding", "connection_pool", "unix_socket_path")
"""Parameters of the client that are not for settings to change."""


def external() -> Address | None:
    """The Redis that ``WEAKFISH_REDIS`` and its companions name; None when it is unset or empty.

    Raises
    ------
    UserError
        When a variable cannot be used.
    """
    value, slash, db = os.environ.get(VARIABLE, "").strip().partition("/")
    if not value:
        return None
    kind: Kind = "server"
    primary, listed = None, value
    if not NODE.fullmatch(value):  # a server may well be called cluster, so this comes first
        match = re.fullmatch(r"(cluster|sentinel):(?:([\w.-]+)@)?(.+)", value)
        if match is None or (match[1] == "sentinel") != bool(match[2]):
            raise _malformed()
        kind = "cluster" if match[1] == "cluster" else "sentinel"
        primary, listed = match[2], match[3]
    nodes = [_node(text, kind) for text in listed.split(",")]
    if None in nodes or (slash and not re.fullmatch(r"\d{1,5}", db)):
        raise _malformed()
    return _address(kind, [node for node in nodes if node], int(db or 0), primary, {}, VARIABLE)


def configured(project: Project) -> Address | None:
    """The Redis that ``online_store`` in feature_store.yaml names in Feast's own form; None when it names none.

    Variables in it are filled in as Feast does. What the environment says of login and TLS goes before what stands
    there.

    Raises
    ------
    UserError
        When it cannot be used, or holds a password in plain text.
    """
    import yaml

    file = project.root / "feature_repo" / FILE
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
        section = content.get("online_store") or {}
        text = section.get("connection_string") or ""
    except (OSError, yaml.YAMLError, AttributeError, UnicodeDecodeError):
        return None  # whoever reads the whole file says so
    for name, value in _parameters(str(text)).items():
        if "password" in f"{name} {value}".lower() and not re.search(r"\$\{?\w", value):
            raise UserError(
                f"online_store.connection_string in {file} holds a password; take it out and set {VARIABLE}_PASSWORD, "
                f"or {VARIABLE}_SENTINEL_PASSWORD."
            )
    return from_feast({**section, "connection_string": os.path.expandvars(str(text))})


def from_feast(section: Mapping[str, Any]) -> Address | None:
    """The Redis of Feast's settings ``connection_string``, ``redis_type`` and ``sentinel_master``; None without it.

    Raises
    ------
    UserError
        When they cannot be used.
    """
    text = str(section.get("connection_string") or "").strip()
    if not text:
        return None
    where = f"online_store.connection_string in {FILE}"
    if match := re.search(r"\$\{?(\w+)", text):
        raise UserError(f"{where} names the variable {match[1]}, which is not set; set it.")
    named = getattr(section.get("redis_type"), "value", section.get("redis_type")) or "redis"
    if named not in KINDS:
        raise UserError(f"online_store.redis_type in {FILE} is none of {', '.join(KINDS)}; correct it.")
    kind = KINDS[named]
    nodes = [_node(part.strip(), kind) for part in text.split(",") if "=" not in part]
    if not nodes or None in nodes or (kind == "server" and len(nodes) > 1):
        raise UserError(
            f"{where} is not of Feast's form host:port,name=value (more hosts with redis_type); correct it."
        )
    parameters = {name: _value(name, value) for name, value in _parameters(text).items()}
    db = parameters.get("db", 0)
    if not isinstance(db, int):
        raise UserError(f"{where} has a db that is no number; correct it.")
    primary = str(section.get("sentinel_master") or "mymaster") if kind == "sentinel" else None
    return _address(kind, [node for node in nodes if node], db, primary, parameters, where)


def _address(
    kind: Kind, nodes: Sequence[tuple[str, int]], db: int, primary: str | None, given: Mapping[str, Any], where: str
) -> Address:
    """An address from its parts and Feast's parameters, where the environment has nothing to say of them."""
    if kind == "cluster" and db:
        raise UserError(f"{where} names a database of a cluster, which has none but 0; leave the number out.")
    asked = given.get("sentinel_kwargs") or {}
    if not isinstance(asked, dict):
        raise UserError(f"{where} has sentinel_kwargs that are no JSON object; use {VARIABLE}_SENTINEL_PASSWORD.")
    tls = _tls("TLS", (given.get("ssl_ca_certs") or "") if given.get("ssl") else None)
    certificate = _file("TLS_CERT", given.get("ssl_certfile"))
    (host, port), *others = nodes
    return Address(
        host=host,
        port=port,
        user=_variable("USER") or given.get("username"),
        password=_variable("PASSWORD") or given.get("password"),
        tls=tls,
        db=db,
        kind=kind,
        others=tuple(others),
        primary=primary,
        certificate=certificate,
        key=_file("TLS_KEY", given.get("ssl_keyfile")) or certificate,
        sentinel_user=_variable("SENTINEL_USER") or asked.get("username"),
        sentinel_password=_variable("SENTINEL_PASSWORD") or asked.get("password"),
        sentinel_tls=_tls("SENTINEL_TLS", tls),
        more=_more(given, where),
    )


def _node(text: str, kind: Kind) -> tuple[str, int] | None:
    """Host and port of ``host:port``; None when it is none."""
    match = NODE.fullmatch(text)
    port = int(match["port"] or PORTS[kind]) if match else 0
    return (match["v6"] or match["name"], port) if match and 0 < port < 65536 else None


def _malformed() -> UserError:
    """Which does not repeat the value, since some write a password into it."""
    return UserError(
        f"{VARIABLE} is not of the form {FORMS}; user and password go into {VARIABLE}_USER and {VARIABLE}_PASSWORD."
    )


def _parameters(text: str) -> dict[str, str]:
    """The ``name=value`` parts of Feast's connection string, as they stand there."""
    parts = (part.partition("=") for part in text.split(",") if "=" in part)
    return {name.strip(): value.strip() for name, _, value in parts}


def _value(name: str, text: str) -> Any:
    """A parameter as Feast reads it: JSON where it is; but a login is text, whatever it looks like."""
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        value = {"true": True, "false": False}.get(text.lower(), text)
    return text if name in ("username", "password") and not isinstance(value, str) else value


def _more(given: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Parameters that go to the client as they are; raises `UserError` for one that it does not know."""
    more = {name: value for name, value in given.items() if name not in TAKEN}
    more.pop("skip_full_coverage_check", None)  # clients of today check just what they need
    unknown = sorted(name for name in more if name in OURS or name not in inspect.signature(redis.Redis).parameters)
    if unknown:
        raise UserError(f"{where} has the parameter {unknown[0]!r}, which cannot be set; take it out.")
    return more


def _variable(name: str) -> str | None:
    return os.environ.get(f"{VARIABLE}_{name}") or None


def _file(name: str, given: Any) -> str | None:
    path = _variable(name) or given
    if path and not Path(str(path)).is_file():
        raise UserError(f"{VARIABLE}_{name} names no file: {str(path)!r}; correct it.")
    return str(path) if path else None


def _tls(name: str, given: str | None) -> str | None:
    """None for no TLS, else the file of authorities; ``given`` where the variable is unset."""
    value = _variable(name)
    if value is None:
        return given
    if value.lower() in ("0", "no", "false", "off"):
        return None
    if value.lower() in ("1", "yes", "true", "on"):
        return given or ""
    if not Path(value).is_file():
        raise UserError(
            f"{VARIABLE}_{name} is neither 1 nor 0 nor a file of certificate authorities: {value!r}; correct it."
        )
    return value


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


class Following(Managed):
    """A connection that asks the Sentinels for the primary each time it connects, also when a command is repeated.

    redis-py's own asks only for the first attempt, and then goes on connecting to the primary that is gone
    (https://github.com/redis/redis-py/issues/3874).
    """

    def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        """Connect by way of the Sentinels if need be, and send."""
        if not self.is_connected:
            self.connect()  # type: ignore[no-untyped-call]
        super().send_packed_command(command, check_health)  # type: ignore[no-untyped-call]


class FollowingOverTls(Following, ManagedOverTls):
    """The same over TLS."""


class AsyncFollowing(AsyncManaged):
    """What `Following` is, in an event loop."""

    async def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        """Connect by way of the Sentinels if need be, and send."""
        if not self.is_connected:
            await self.connect()  # type: ignore[no-untyped-call]
        await super().send_packed_command(command, check_health)


class AsyncFollowingOverTls(AsyncFollowing, AsyncManagedOverTls):
    """The same over TLS."""


class _Classes(NamedTuple):
    """redis-py's classes of one kind, sync or async."""

    server: Any
    cluster: Any
    node: Any
    retry: Any
    sentinel: Any
    following: Any
    following_over_tls: Any


_SYNC = _Classes(redis.Redis, RedisCluster, ClusterNode, Retry, Sentinel, Following, FollowingOverTls)
_ASYNC = _Classes(
    redis.asyncio.Redis,
    redis.asyncio.RedisCluster,
    AsyncClusterNode,
    AsyncRetry,
    AsyncSentinel,
    AsyncFollowing,
    AsyncFollowingOverTls,
)


def _client(classes: _Classes, address: Address) -> Any:
    """A client; that of a cluster asks it at once who holds what."""

    def retry(attempts: int) -> Any:
        return classes.retry(ExponentialBackoff(cap=0.2, base=0.05), attempts)

    settings = {**address.settings(), "retry": retry(ATTEMPTS)}
    if address.kind == "cluster":
        return classes.cluster(startup_nodes=[classes.node(*node) for node in address.nodes], **settings)
    if address.kind == "server":
        return classes.server(host=address.host, port=address.port, db=address.db, **settings)
    own: dict[str, Any] = {"socket_connect_timeout": CONNECT_SECONDS, "socket_timeout": CONNECT_SECONDS}
    own |= _login(address.sentinel_user, address.sentinel_password) | _secured(address, address.sentinel_tls)
    sentinels = classes.sentinel(list(address.nodes), sentinel_kwargs={**own, "retry": retry(0)}, **address.settings())
    following = classes.following if address.tls is None else classes.following_over_tls
    return sentinels.master_for(address.primary, db=address.db, retry=retry(ATTEMPTS), connection_class=following)


async def close(client: redis.asyncio.Redis | redis.asyncio.RedisCluster) -> None:
    """End an async client, and its connections to Sentinels too."""
    await client.aclose()
    sentinels = getattr(getattr(client, "connection_pool", None), "sentinel_manager", None)
    for sentinel in sentinels.sentinels if sentinels else ():
        await sentinel.aclose()


def is_one_server(client: Any) -> bool:
    """Whether all connections of a client, sync or async, lead to one server and hand out bytes."""
    pool: Any = getattr(client, "connection_pool", None)
    plain = ((redis.Redis, redis.ConnectionPool), (redis.asyncio.Redis, redis.asyncio.ConnectionPool))
    if (type(client), type(pool)) not in plain:
        return False
    return not pool.connection_kwargs.get("decode_responses") and getattr(pool, "cache", None) is None


def socket_of(connection: redis.Connection) -> Any:
    """The socket of a connection, None when it is closed."""
    return connection._sock


def transport_of(connection: redis.asyncio.Connection) -> Any:
    """The transport of an open connection."""
    return connection._writer.transport  # type: ignore[union-attr]


def reason(error: Exception) -> str:
    """What an error says, on one line, without the keys that a pipeline's repeats."""
    return re.sub(r"^.* of pipeline .*caused error: ", "", " ".join(str(error).split())).rstrip(".")


@contextmanager
def explained(address: Address) -> Iterator[None]:
    """Turn what the client raises into a `StoreError` of one sentence that says what to do."""
    try:
        yield
    except ERRORS as error:
        raise StoreError(_sentence(address, error)) from error


def _sentence(address: Address, error: Exception) -> str:
    store = f"The online store at {address}"
    said = reason(error)
    for applies, sentence in _special(address, error, said):
        if applies:
            return f"{store} {sentence}."
    if isinstance(error, (redis.ConnectionError, redis.TimeoutError)):
        what_to_do = "see data/online/server.log" if address.embedded else f"start it, or correct {VARIABLE}"
        return f"{store} does not answer ({said}); {what_to_do}."
    return f"{store} failed: {said}; nothing was published."


def _special(address: Address, error: Exception, said: str) -> list[tuple[bool, str]]:
    """Failures that have a name, the special before the general: whether it is this one, and what to say."""
    lost = isinstance(error, (MasterNotFoundError, AsyncMasterNotFoundError))
    login = isinstance(error, redis.AuthenticationError) or bool(re.search(r"NOAUTH|WRONGPASS|AuthenticationE", said))
    gone = f"has no primary: its Sentinels do not answer, do not know {address.primary}, or hold it for down"
    down = "is a cluster of which a part is down"
    moved = isinstance(error, MovedError) or "not allowed in cluster mode" in said
    return [
        (lost and login, f"has Sentinels that refuse the login; correct {VARIABLE}_SENTINEL_USER and _PASSWORD"),
        (lost, f"{gone}; wait for the failover, or correct {VARIABLE}"),
        (login, f"refuses the login ({said}); correct {VARIABLE}_USER and {VARIABLE}_PASSWORD"),
        (isinstance(error, NoPermissionError), f"denies its user a command ({said}); docs/store.md lists all needed"),
        (
            isinstance(error, redis.OutOfMemoryError),
            "is out of memory and took nothing; give it more (maxmemory) or free some, then publish again",
        ),
        (isinstance(error, redis.BusyLoadingError), "is still loading its data; try again in a moment"),
        (isinstance(error, redis.ReadOnlyError), f"is a read-only replica; let {VARIABLE} name the primary"),
        ("DB index is out of range" in said, f"has no database {address.db}; correct the number after the slash"),
        (moved, f"is a node of a cluster; let {VARIABLE} be cluster:{address.host}:{address.port}"),
        (
            "luster mode is not enabled" in said or "cluster support disabled" in said,
            f"is no cluster; leave out cluster: in {VARIABLE}",
        ),
        (
            isinstance(error, ClusterDownError) or "slots are not covered" in said or "is not covered" in said,
            f"{down}; see `redis-cli cluster info` there, and try again when its state is ok",
        ),
        (isinstance(error, RedisClusterException), f"does not answer; start it, or correct {VARIABLE}"),
    ]
