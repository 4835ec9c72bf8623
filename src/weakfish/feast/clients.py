"""The door to Redis: which one a project uses, clients of it, what redis-py keeps private, errors as sentences."""

from __future__ import annotations

import inspect
import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

import redis
from redis.backoff import ExponentialBackoff, NoBackoff
from redis.cluster import ClusterNode
from redis.exceptions import (
    AuthorizationError,
    ClusterDownError,
    MovedError,
    NoPermissionError,
    RedisClusterException,
    TryAgainError,
)
from redis.retry import Retry
from redis.sentinel import MasterNotFoundError, Sentinel
from redis.sentinel import SentinelManagedConnection as Managed
from redis.sentinel import SentinelManagedSSLConnection as ManagedOverTls

from weakfish.errors import StoreError, UserError
from weakfish.feast.deadlines import DeadlineCluster, with_deadlines
from weakfish.project.paths import Project

VARIABLE = "WEAKFISH_REDIS"

ERRORS = (redis.RedisError, RedisClusterException)
"""All that a client raises; the errors of a cluster's client have no common base with the rest."""

CONNECT_SECONDS = 3
ANSWER_SECONDS = 60
ATTEMPTS = 2
"""How often a command is repeated after a connection broke."""

BACKOFF = ExponentialBackoff(cap=0.2, base=0.05)
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
        settings: dict[str, Any] = {
            "retry": Retry(BACKOFF, ATTEMPTS),
            **{"socket_connect_timeout": CONNECT_SECONDS, "socket_timeout": ANSWER_SECONDS},
            **self._secured(self.user, self.password, self.tls),
            **self.more,
        }
        if self.kind == "cluster":  # whose connections begin by `DeadlineCluster.on_connect`
            nodes = [ClusterNode(*node) for node in self.nodes]  # type: ignore[no-untyped-call]
            return cast(redis.Redis, DeadlineCluster(startup_nodes=nodes, **settings))
        if self.kind == "server":
            settings["redis_connect_func"] = with_deadlines
            return redis.Redis(host=self.host, port=self.port, db=self.db, **settings)
        asked: dict[str, Any] = {
            **{"socket_connect_timeout": CONNECT_SECONDS, "socket_timeout": CONNECT_SECONDS},
            **{"retry": Retry(BACKOFF, 0), "redis_connect_func": with_deadlines},
            **self._secured(self.sentinel_user, self.sentinel_password, self.sentinel_tls),
        }
        sentinels = Sentinel(list(self.nodes), sentinel_kwargs=asked, **settings)  # type: ignore[no-untyped-call]
        following = Following if self.tls is None else FollowingOverTls
        made = sentinels.master_for(  # type: ignore[no-untyped-call]
            self.primary, db=self.db, connection_class=following, redis_connect_func=with_deadlines
        )
        return cast(redis.Redis, made)

    def _secured(self, user: str | None, password: str | None, authorities: str | None) -> dict[str, Any]:
        """A login, and TLS: checked against a file of authorities, or against the system's own when that is empty."""
        made: dict[str, Any] = {"username": user, "password": password}
        if authorities is not None:
            made |= {"ssl": True, "ssl_ca_certs": authorities or None}
            made |= {"ssl_certfile": self.certificate, "ssl_keyfile": self.key}
        return {name: value for name, value in made.items() if value}

    def within(self, seconds: float) -> Address:
        """The address with the short timeouts of one who has a client waiting; what took that long is not repeated."""
        timeouts: dict[str, Any] = {"socket_connect_timeout": min(1.0, seconds), "socket_timeout": seconds}
        if self.kind != "cluster":  # whose client would not follow a failover then
            timeouts["retry"] = Retry(BACKOFF, ATTEMPTS, (redis.ConnectionError,))
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
    text = os.environ.get(VARIABLE, "").strip()
    return addressed(text) if text.partition("/")[0] else None


def addressed(text: str) -> Address:
    """The Redis at an address as ``WEAKFISH_REDIS`` has it; its companions say the rest. Raises as `external`."""
    value, slash, db = text.partition("/")
    kind, primary, listed = "server", None, value
    # A server may well be called cluster, so host:port comes first.
    if not NODE.fullmatch(value) and (match := re.fullmatch(r"(cluster|sentinel):(?:([\w.-]+)@)?(.+)", value)):
        kind, primary, listed = match.groups()
    nodes = [_node(text, kind) for text in listed.split(",")]
    is_malformed = None in nodes or (kind == "server" and len(nodes) > 1) or (kind == "sentinel") != bool(primary)
    if is_malformed or (slash and not re.fullmatch(r"\d{1,5}", db)):
        raise UserError(  # without the value, since some write a password into it
            f"{VARIABLE} is not of the form {FORMS}; user and password go into {VARIABLE}_USER and {VARIABLE}_PASSWORD."
        )
    return _address(kind, nodes, int(db or 0), primary, {}, VARIABLE)


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
        raise UserError(f"{where} has a db that is not a number; correct it.")
    primary = str(section.get("sentinel_master") or "mymaster") if kind == "sentinel" else None
    return _address(kind, nodes, db, primary, parameters, where)


def _address(
    kind: str,
    nodes: Sequence[tuple[str, int] | None],
    db: int,
    primary: str | None,
    given: Mapping[str, Any],
    where: str,
) -> Address:
    """An address from its parts and Feast's parameters, where the environment has nothing to say of them."""
    if kind == "cluster" and db:
        raise UserError(f"{where} names a database of a cluster, which has none but 0; leave the number out.")
    asked = given.get("sentinel_kwargs") or {}
    if not isinstance(asked, dict):
        raise UserError(f"{where} has sentinel_kwargs that are not a JSON object; use {VARIABLE}_SENTINEL_PASSWORD.")
    # Clients of today check just the slots that they need, so Feast's skip_full_coverage_check says nothing.
    more = {name: value for name, value in given.items() if name not in (*TAKEN, "skip_full_coverage_check")}
    known = inspect.signature(redis.Redis).parameters
    for name in sorted(more):
        if name in OURS or name not in known:
            raise UserError(f"{where} has the parameter {name!r}, which cannot be set; take it out.")
    tls = _tls("TLS", (given.get("ssl_ca_certs") or "") if given.get("ssl") else None)
    certificate = _file("TLS_CERT", given.get("ssl_certfile"))
    (host, port), *others = (node for node in nodes if node)
    return Address(
        host=host,
        port=port,
        user=_variable("USER") or given.get("username"),
        password=_variable("PASSWORD") or given.get("password"),
        tls=tls,
        db=db,
        kind=cast(Kind, kind),
        others=tuple(others),
        primary=primary,
        certificate=certificate,
        key=_file("TLS_KEY", given.get("ssl_keyfile")) or certificate,
        sentinel_user=_variable("SENTINEL_USER") or asked.get("username"),
        sentinel_password=_variable("SENTINEL_PASSWORD") or asked.get("password"),
        sentinel_tls=_tls("SENTINEL_TLS", tls),
        more=more,
    )


def _node(text: str, kind: str) -> tuple[str, int] | None:
    """Host and port of ``host:port``; None when it is none."""
    match = NODE.fullmatch(text)
    port = int(match["port"] or PORTS[kind]) if match else 0
    return (match["v6"] or match["name"], port) if match and 0 < port < 65536 else None


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


def is_one_server(client: Any) -> bool:
    """Whether all connections of a client lead to one server and return bytes."""
    pool: Any = getattr(client, "connection_pool", None)
    if (type(client), type(pool)) != (redis.Redis, redis.ConnectionPool):
        return False
    return not pool.connection_kwargs.get("decode_responses") and getattr(pool, "cache", None) is None


def socket_of(connection: redis.Connection) -> Any:
    """The socket of a connection, None when it is closed."""
    return connection._sock


LOST = (
    *(redis.ConnectionError, redis.TimeoutError, redis.WatchError),
    *(ClusterDownError, TryAgainError, RedisClusterException),
)
"""What a client raises while its server is away; a connection that is lost in a transaction is a `redis.WatchError`."""

INCURABLE = (redis.AuthenticationError, AuthorizationError)
"""Errors of a connection that waiting does not cure."""

RETRY_SECONDS = 15.0
"""How long a server may be away before work is given up."""

FIRST_PAUSE, LONGEST_PAUSE = 0.02, 0.25
"""Seconds before the first new attempt, and at most; each pause is twice the one before."""

T = TypeVar("T")


class Retrying:
    """The retry policy for all work on the store: pauses after a failure, until the server was away for too long."""

    def __init__(self) -> None:
        self._end: float | None = None
        self._pause = FIRST_PAUSE

    def again(self, error: Exception) -> bool:
        """Pause before the next attempt; False when time is up. Raises an error that waiting does not cure."""
        if isinstance(error, INCURABLE):
            raise error
        now = time.monotonic()
        if self._end is None:
            self._end = now + RETRY_SECONDS
        time.sleep(max(0.0, min(self._pause, self._end - now)))
        self._pause = min(2 * self._pause, LONGEST_PAUSE)
        return now < self._end


def retried(work: Callable[[], T]) -> T:
    """Do a piece of work, again from its beginning whenever the connection is lost; raises the last error.

    Doing it twice must be the same as doing it once.
    """
    retry = Retrying()
    while True:
        try:
            return work()
        except LOST as error:
            if not retry.again(error):
                raise


def reason(error: Exception) -> str:
    """What an error says, on one line, without the keys that a pipeline's repeats."""
    return re.sub(r"^.* of pipeline .*caused error: ", "", " ".join(str(error).split())).rstrip(".")


@contextmanager
def explained(address: Address) -> Iterator[None]:
    """Turn what the client raises into a `StoreError` of one sentence that says what to do."""
    try:
        yield
    except ERRORS as error:
        sentence = next(said for applies, said in _causes(address, error, reason(error)) if applies)
        raise StoreError(f"The online store at {address} {sentence}.") from error


def _causes(address: Address, error: Exception, said: str) -> list[tuple[bool, str]]:
    """Failures that have a name, the special before the general: whether it is this one, and what to say."""
    lost = isinstance(error, MasterNotFoundError)
    login = isinstance(error, redis.AuthenticationError) or bool(re.search(r"NOAUTH|WRONGPASS|AuthenticationE", said))
    gone = f"has no primary: its Sentinels do not answer, do not know {address.primary}, or hold it for down"
    moved = isinstance(error, MovedError) or "not allowed in cluster mode" in said
    what_to_do = "see data/online/server.log" if address.embedded else f"start it, or correct {VARIABLE}"
    return [
        (lost and login, f"has Sentinels that refuse the login; correct {VARIABLE}_SENTINEL_USER and _PASSWORD"),
        (lost, f"{gone}; wait for the failover, or correct {VARIABLE}"),
        (login and address.embedded, "refuses its password; run `weakfish online stop`, then try again"),
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
            "is a cluster of which a part is down; see `redis-cli cluster info` there, and try again when its state "
            "is ok",
        ),
        (isinstance(error, RedisClusterException), f"does not answer; start it, or correct {VARIABLE}"),
        (isinstance(error, (redis.ConnectionError, redis.TimeoutError)), f"does not answer ({said}); {what_to_do}"),
        (True, f"failed: {said}; nothing was published"),
    ]
