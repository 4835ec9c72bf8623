"""Write what changes, and the marker that says so: under a lock, in as few transactions as possible, with retries."""

from __future__ import annotations

import json
import os
import secrets
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol

import redis

from weakfish.contracts.publications import Marker, parse_marker
from weakfish.errors import StoreError
from weakfish.feast import layout as keys
from weakfish.feast.clients import ERRORS, retried
from weakfish.feast.encoding import Encoded
from weakfish.feast.writer import commands, removals, remove, write

SECONDS = 60
RENEWED = 15


class PublishingLock:
    """The right to publish a Feast project to a server, renewed in the background until it is released."""

    def __init__(self, client: redis.Redis, name: str) -> None:
        self.client, self.key = client, keys.lock(name)
        holder = {"host": socket.gethostname(), "pid": os.getpid(), "token": secrets.token_hex(8)}
        self.value = json.dumps(holder).encode()
        self.writing = threading.Lock()
        self._ended = threading.Event()

    def acquire(self) -> None:
        """Take the key; raises `StoreError` while another publisher that may be alive holds it."""
        if self.client.set(self.key, self.value, nx=True, ex=SECONDS):
            return
        held = self.client.get(self.key)
        if held is not None and _may_live(held):
            raise StoreError(
                f"{_who(held)} is publishing to this online store; wait for it to end (a lock that nobody renews "
                f"expires after {SECONDS} s)."
            )
        self.client.set(self.key, self.value, ex=SECONDS)

    def check(self, pipe: redis.client.Pipeline) -> None:
        """Watch the key in a transaction about to begin; raises `StoreError` when it is no longer ours."""
        pipe.watch(self.key)  # type: ignore[no-untyped-call]
        if pipe.get(self.key) != self.value:
            raise StoreError("Another publisher took over while this one stood still; publish again.")

    def renew(self) -> None:
        """Keep the key from expiring, until it is released."""
        while not self._ended.wait(RENEWED):
            with self.writing:
                try:
                    if self.client.get(self.key) == self.value:
                        self.client.expire(self.key, SECONDS)
                except ERRORS:
                    continue  # the publication itself meets the same error and says so

    def release(self) -> None:
        """Delete the key, if it still is ours."""
        self._ended.set()
        try:
            if self.client.get(self.key) == self.value:
                self.client.delete(self.key)
        except ERRORS:
            return  # it expires


@contextmanager
def publishing_lock(client: redis.Redis, name: str) -> Iterator[PublishingLock]:
    """Hold the lock on a Feast project for the length of a block."""
    lock = PublishingLock(client, name)
    lock.acquire()
    threading.Thread(target=lock.renew, daemon=True).start()
    try:
        yield lock
    finally:
        lock.release()


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


LIMIT = 10_000
"""Rows of one transaction; more are written in parts, between which the marker says how far it got."""


@dataclass
class Counts:
    """What became of a view's rows: ``left`` ones are newer in the store than what the tables know."""

    written: int = 0
    unchanged: int = 0
    removed: int = 0
    left: int = 0


class Change(Protocol):
    """A part of what changes."""

    @property
    def view(self) -> str | None:
        """The view whose rows change."""

    def __len__(self) -> int: ...

    def queue(self, pipe: Any) -> int:
        """Add it to a transaction; returns how many answers that adds."""

    def make(self, client: Any) -> int:
        """Make it on a cluster; returns the number of rows."""

    def count(self, counts: Counts, rows: int) -> None:
        """Count that so many rows were changed."""


@dataclass(frozen=True)
class Rows:
    """Rows to be written over all that is not newer than ``until``; they lose the fields ``gone``.

    ``expire`` is Feast's ``key_ttl_seconds``: how long after their last writing keys live.
    """

    view: str
    encoded: Encoded
    until: int
    gone: Sequence[bytes] = ()
    expire: int | None = None

    def __len__(self) -> int:
        return len(self.encoded)

    def queue(self, pipe: Any) -> int:
        return commands(pipe, self.encoded, until=self.until, gone=self.gone, expire=self.expire)

    def make(self, client: Any) -> int:
        return write(client, self.encoded, until=self.until, gone=self.gone, expire=self.expire).written

    def count(self, counts: Counts, rows: int) -> None:
        counts.written += rows
        counts.left += len(self) - rows


@dataclass(frozen=True)
class Removed:
    """Rows to be removed that are not newer than ``until``."""

    view: str
    name: str
    entities: Sequence[bytes]
    fields: Sequence[bytes]
    until: int

    def __len__(self) -> int:
        return len(self.entities)

    def queue(self, pipe: Any) -> int:
        return removals(pipe, self.entities, self.name, self.fields, self.until)

    def make(self, client: Any) -> int:
        return remove(client, self.entities, self.name, self.fields, self.until)

    def count(self, counts: Counts, rows: int) -> None:
        counts.removed += rows
        counts.left += len(self) - rows


@dataclass(frozen=True)
class Orphans:
    """Fields of no view, by key."""

    fields: Sequence[tuple[bytes, Sequence[bytes]]]
    view: None = None

    def __len__(self) -> int:
        return len(self.fields)

    def queue(self, pipe: Any) -> int:
        for key, names in self.fields:
            pipe.hdel(key, *names)
        return len(self.fields)

    def make(self, client: Any) -> int:
        def delete() -> int:
            with client.pipeline(transaction=False) as pipe:
                self.queue(pipe)
                return len(pipe.execute())

        return retried(delete)

    def count(self, counts: Counts, rows: int) -> None:
        return None


class Changes:
    """Takes changes and makes them; ``commit`` makes those that are left, and says in the store what it now holds.

    Attributes
    ----------
    before : Marker or None
        What the store said of itself.
    """

    def __init__(self, client: redis.Redis, name: str, lock: PublishingLock) -> None:
        self.client, self.name, self.lock = client, name, lock
        self.counts: dict[str, Counts] = {}
        self._held = client.get(keys.marker(name))
        self.before = parse_marker(self._held)
        self._coming: dict[str, Any] = {}
        self._parts = keys.is_cluster(client)
        self._waiting: list[Change] = []

    def begin(self, version: str, as_of: str, until: dict[str, str]) -> None:
        """Say what is coming, and up to which time each view's rows are the publication's to change."""
        self._coming = {"version": version, "as_of": as_of, "until": until}

    def add(self, change: Change) -> None:
        """Take a change, and make it if there are too many for one transaction."""
        if change.view is not None:
            self.counts.setdefault(change.view, Counts())
        if len(change):
            self._waiting.append(change)
        if self._parts or sum(map(len, self._waiting)) > LIMIT:
            self._make_parts()

    def commit(self, marker: Marker) -> None:
        """Make all that is left, and write the marker."""
        if self._parts:
            self._make_parts()
        waiting, self._waiting = self._waiting, []
        self._transaction(marker, waiting)

    def _make_parts(self) -> None:
        self._parts = True
        while self._waiting:
            change = self._waiting.pop(0)
            done = sum(counts.written + counts.removed for counts in self.counts.values())
            under_way = {**self._coming, "view": change.view, "rows": done}
            marker = replace(self.before or Marker("", ""), under_way=under_way)
            if keys.is_cluster(self.client):
                self._transaction(marker, [])
                self._count(change, change.make(self.client))
            else:
                self._transaction(marker, [change])

    def _transaction(self, marker: Marker, changes: Sequence[Change]) -> None:
        """Changes and marker at once; done already if the marker stands there, since its answer alone was lost."""
        text = marker.text().encode()

        def attempt() -> list[int]:
            with self.lock.writing, self.client.pipeline(transaction=True) as pipe:
                self.client.set(self.lock.key, self.lock.value, nx=True, ex=60)  # a server that restarted forgot it
                self.lock.check(pipe)
                pipe.watch(keys.marker(self.name))  # type: ignore[no-untyped-call]
                found: Any = pipe.get(keys.marker(self.name))
                if found == text and found != self._held:
                    return [len(change) for change in changes]
                if found != self._held:
                    raise StoreError(
                        "The online store is not as this publisher left it: it lost its data, or another one was at "
                        "work; run `weakfish publish` again."
                    )
                pipe.multi()
                answers = [change.queue(pipe) for change in changes]
                pipe.set(keys.marker(self.name), text)
                given = iter(pipe.execute())
                return [sum(next(given) for _ in range(count)) for count in answers]

        for change, rows in zip(changes, retried(attempt), strict=True):
            self._count(change, rows)
        self._held = text

    def _count(self, change: Change, rows: int) -> None:
        if change.view is not None:
            change.count(self.counts[change.view], rows)
