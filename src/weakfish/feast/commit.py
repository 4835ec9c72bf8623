"""Waiting for a server that went away: a piece of work goes in, its result comes out, or the error that stayed.

The work is done again from its beginning, so it has to be such that doing it twice is the same as doing it once.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import redis
from redis.exceptions import ClusterDownError, RedisClusterException

from weakfish.errors import StoreError
from weakfish.feast import layout as keys
from weakfish.feast.clients import ERRORS

T = TypeVar("T")

WAITS = (0.2, 0.5, 1.0, 2.0, 4.0)
"""Seconds between one try and the next."""

GONE = (redis.ConnectionError, redis.TimeoutError, redis.WatchError, ClusterDownError, RedisClusterException)
"""What a client raises when its server went away; a connection lost in a transaction is a `redis.WatchError`."""

FOR_GOOD = (redis.AuthenticationError, redis.exceptions.AuthorizationError)
"""Errors of a connection that time does not heal."""


def patiently(work: Callable[[], T]) -> T:
    """Do a piece of work, and again after a while when the connection is lost; the last try's error is raised."""
    for wait in WAITS:
        try:
            return work()
        except FOR_GOOD:
            raise
        except GONE:
            time.sleep(wait)
    return work()


SECONDS = 60
RENEWED = 15


class Claim:
    """The right to publish a Feast project to a server, renewed in the background until it is given up."""

    def __init__(self, client: redis.Redis, name: str) -> None:
        self.client, self.key = client, keys.lock(name)
        holder = {"host": socket.gethostname(), "pid": os.getpid(), "token": secrets.token_hex(8)}
        self.value = json.dumps(holder).encode()
        self.writing = threading.Lock()
        self._ended = threading.Event()

    def take(self) -> None:
        """Take the key; raises `StoreError` while another publisher that may be alive holds it."""
        if self.client.set(self.key, self.value, nx=True, ex=SECONDS):
            return
        held = self.client.get(self.key)
        if held is not None and _may_live(held):
            raise StoreError(
                f"{_who(held)} is publishing to this online store; wait for it to end (a claim that nobody renews "
                f"expires after {SECONDS} s)."
            )
        self.client.set(self.key, self.value, ex=SECONDS)

    def check(self, pipe: redis.client.Pipeline) -> None:
        """Watch the key in a transaction about to begin; raises `StoreError` when it is no longer ours."""
        pipe.watch(self.key)  # type: ignore[no-untyped-call]
        if pipe.get(self.key) != self.value:
            raise StoreError("Another publisher took over while this one stood still; publish again.")

    def renew(self) -> None:
        """Keep the key from expiring, until given up."""
        while not self._ended.wait(RENEWED):
            with self.writing:
                try:
                    if self.client.get(self.key) == self.value:
                        self.client.expire(self.key, SECONDS)
                except ERRORS:
                    continue  # the publication itself meets the same error and says so

    def give_up(self) -> None:
        """Delete the key, if it still is ours."""
        self._ended.set()
        try:
            if self.client.get(self.key) == self.value:
                self.client.delete(self.key)
        except ERRORS:
            return  # it expires


@contextmanager
def claimed(client: redis.Redis, name: str) -> Iterator[Claim]:
    """Hold the claim on a Feast project for the length of a block."""
    claim = Claim(client, name)
    claim.take()
    threading.Thread(target=claim.renew, daemon=True).start()
    try:
        yield claim
    finally:
        claim.give_up()


def _may_live(held: bytes | str) -> bool:
    """False only for a process of this host that is gone."""
    try:
        holder = json.loads(held)
        if holder["host"] != socket.gethostname():
            return True
        os.kill(int(holder["pid"]), 0)
    except ProcessLookupError:
        return False
    except (ValueError, TypeError, KeyError, PermissionError):
        return True
    return True


def _who(held: bytes | str) -> str:
    try:
        holder = json.loads(held)
        return f"Process {holder['pid']} on {holder['host']}"
    except (ValueError, TypeError, KeyError):
        return "Another publisher"
