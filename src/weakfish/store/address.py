"""Which Redis a project talks to: the one that the environment names, else the project's own embedded server.

Secrets come from the environment alone and live in no file, message or repr.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from weakfish.errors import StoreError, UserError

VARIABLE = "WEAKFISH_REDIS"
DEFAULT_PORT = 6379
CONNECT_SECONDS = 3
ANSWER_SECONDS = 60


@dataclass(frozen=True)
class Address:
    """Where a server listens and how to log in; prints as ``host:port``.

    ``tls`` is None for plain TCP, else the file of the authorities to trust ("" for the system's own).
    """

    host: str
    port: int
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: str | None = None
    embedded: bool = False

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    def settings(self) -> dict[str, Any]:
        """Keyword arguments of ``redis.Redis``."""
        settings: dict[str, Any] = {"host": self.host, "port": self.port}
        settings |= {"socket_connect_timeout": CONNECT_SECONDS, "socket_timeout": ANSWER_SECONDS}
        settings["retry"] = Retry(ExponentialBackoff(cap=0.2, base=0.05), 2)
        if self.user:
            settings["username"] = self.user
        if self.password:
            settings["password"] = self.password
        if self.tls is not None:
            settings |= {"ssl": True, "ssl_ca_certs": self.tls or None}
        return settings

    def client(self) -> redis.Redis:
        """A client of the server; it connects when it is first used."""
        return redis.Redis(**self.settings())


def external() -> Address | None:
    """The Redis that ``WEAKFISH_REDIS`` and its companions name; None when it is unset or empty.

    Raises
    ------
    UserError
        When a variable cannot be used.
    """
    value = os.environ.get(VARIABLE, "").strip()
    if not value:
        return None
    match = re.fullmatch(r"(?:\[(?P<v6>[0-9a-fA-F:.]+)\]|(?P<name>[\w.-]+))(?::(?P<port>\d{1,5}))?", value)
    port = int(match["port"] or DEFAULT_PORT) if match else 0
    if match is None or not 0 < port < 65536:
        raise UserError(
            f"{VARIABLE} is not of the form host:port; user and password go into {VARIABLE}_USER and "
            f"{VARIABLE}_PASSWORD."
        )
    return Address(
        host=match["v6"] or match["name"],
        port=port,
        user=os.environ.get(f"{VARIABLE}_USER") or None,
        password=os.environ.get(f"{VARIABLE}_PASSWORD") or None,
        tls=_tls(os.environ.get(f"{VARIABLE}_TLS", "")),
    )


def _tls(value: str) -> str | None:
    if value.lower() in ("", "0", "no", "false", "off"):
        return None
    if value.lower() in ("1", "yes", "true", "on"):
        return ""
    if not Path(value).is_file():
        raise UserError(
            f"{VARIABLE}_TLS is neither 1 nor 0 nor a file of certificate authorities: {value!r}; correct it."
        )
    return value


@contextmanager
def explained(address: Address) -> Iterator[None]:
    """Turn what the client raises into a `StoreError` of one sentence that says what to do."""
    try:
        yield
    except redis.RedisError as error:
        raise StoreError(_sentence(address, error)) from error


def _sentence(address: Address, error: redis.RedisError) -> str:
    store = f"The online store at {address}"
    reason = re.sub(r"^.* of pipeline caused error: ", "", " ".join(str(error).split())).rstrip(".")  # no keys
    if isinstance(error, redis.AuthenticationError) or "NOAUTH" in reason:
        return f"{store} refuses the login ({reason}); correct {VARIABLE}_USER and {VARIABLE}_PASSWORD."
    if isinstance(error, redis.exceptions.NoPermissionError):
        return f"{store} denies its user a command ({reason}); docs/store.md lists what the user needs."
    if isinstance(error, redis.OutOfMemoryError):
        return f"{store} is out of memory and took nothing; give it more (maxmemory) or free some, then publish again."
    if isinstance(error, redis.BusyLoadingError):
        return f"{store} is still loading its data; try again in a moment."
    if isinstance(error, redis.ReadOnlyError):
        return f"{store} is a read-only replica; let {VARIABLE} name the primary."
    if isinstance(error, (redis.ConnectionError, redis.TimeoutError)):
        what_to_do = "see data/online/server.log" if address.embedded else f"start it, or correct {VARIABLE}"
        return f"{store} does not answer ({reason}); {what_to_do}."
    return f"{store} failed: {reason}; nothing was published."
