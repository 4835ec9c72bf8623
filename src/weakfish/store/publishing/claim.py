"""One publisher at a time on a server: a key that expires unless its holder lives."""

from __future__ import annotations

import json
import os
import secrets
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import redis

from weakfish.errors import StoreError
from weakfish.store import keys
from weakfish.store.connection.address import ERRORS

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
