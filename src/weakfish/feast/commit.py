"""Writes of a publication: what changes and the marker that says so, under a lock, in few transactions, retried.

Workers write for a publisher by its `Claim`; lock, marker and commit stay with it.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import redis

from weakfish.contracts.publications import Marker, parse_marker
from weakfish.errors import StoreError
from weakfish.feast import layout as keys
from weakfish.feast.clients import ERRORS, retried
from weakfish.feast.writer import Change
from weakfish.files import existed

SECONDS = 60
"""How long a lock lives that nobody renews."""

RENEWED = 15
"""Seconds between renewals."""


class PublishingLock:
    """The right to publish a Feast project to a server, renewed in the background until it is released."""

    def __init__(self, client: redis.Redis, name: str) -> None:
        self.client, self.key = client, keys.lock(name)
        holder = {"host": socket.gethostname(), "pid": os.getpid(), "since": time.time(), "token": secrets.token_hex(8)}
        self.value = json.dumps(holder).encode()
        self.writing = threading.Lock()
        self._ended = threading.Event()

    def acquire(self) -> None:
        """Take the key; raises `StoreError` while another publisher that may be alive holds it."""
        if self.client.set(self.key, self.value, nx=True, ex=SECONDS):
            return
        held = keys.text(self.client, self.key)
        who = None if held == keys.NO_TEXT else _living_holder(held)
        if who is not None:
            raise StoreError(
                f"{who} is publishing to this online store; wait for it to end (a lock that nobody renews expires "
                f"after {SECONDS} s)."
            )
        self.client.set(self.key, self.value, ex=SECONDS)

    def check(self, pipe: redis.client.Pipeline) -> None:
        """Watch the key in a transaction about to begin; raises `StoreError` when it is no longer ours."""
        _check(pipe, self.key, self.value)

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


def _check(pipe: redis.client.Pipeline, key: str, value: bytes) -> None:
    pipe.watch(key)  # type: ignore[no-untyped-call]
    if pipe.get(key) != value:
        raise StoreError("Another publisher took over while this one stood still; publish again.")


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


def _living_holder(held: bytes | str | None) -> str | None:
    """Who holds a lock; None where nobody does, or a process of this host that is gone."""
    if held is None:
        return None
    try:
        holder = json.loads(held)
        host, process, began = holder["host"], int(holder["pid"]), float(holder.get("since", time.time()))
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return "Another publisher"
    if host == socket.gethostname() and not existed(process, began):
        return None
    return f"Process {process} on {host}"


LIMIT = 10_000
"""Rows of one transaction; more are written in parts, between which the marker says how far it got."""


@dataclass
class Counts:
    """What became of a view's rows: ``left`` ones are newer in the store than what the tables know."""

    written: int = 0
    unchanged: int = 0
    removed: int = 0
    left: int = 0


Waiting = tuple[Change, str | None, str]
"""A change, the view whose rows it changes, and the field of `Counts` for rows changed."""


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
        self._held = keys.text(client, keys.marker(name))
        if self._held == keys.NO_TEXT:
            client.delete(keys.marker(name))
            self._held = None
        self.before = parse_marker(self._held)
        self._coming: dict[str, Any] = {}
        self._parts = keys.is_cluster(client)
        self._waiting: list[Waiting] = []

    def begin(self, version: str, as_of: str, until: dict[str, str]) -> None:
        """Say what is coming, and up to which time each view's rows are the publication's to change."""
        self._coming = {"version": version, "as_of": as_of, "until": until}

    def add(self, change: Change, view: str | None = None, counted: str = "") -> None:
        """Take a change of a view's rows, or of what is no view's; make it if there are too many for one transaction.

        ``counted`` is the field of `Counts` for rows that change; the view's other rows are newer in the store.
        """
        if view is not None:
            self.counts.setdefault(view, Counts())
        if change.size:
            self._waiting.append((change, view, counted))
        if self._parts or sum(waiting.size for waiting, _, _ in self._waiting) > LIMIT:
            self._make_parts()

    def commit(self, marker: Marker) -> None:
        """Make all that is left, and write the marker."""
        if self._parts:
            self._make_parts()
        waiting, self._waiting = self._waiting, []
        self._transaction(marker, waiting)

    def claim(self, rows: int) -> Claim | None:
        """What lets workers make changes of so many rows, once the marker says that it is under way.

        None where they are few enough for a transaction with all others.
        """
        if not self._parts and sum(waiting.size for waiting, _, _ in self._waiting) + rows <= LIMIT:
            return None
        self._make_parts()
        marker = self._under_way(None)
        self._transaction(marker, [])
        return Claim(self.name, self.lock.value.decode(), marker.text())

    def _under_way(self, view: str | None) -> Marker:
        done = sum(counts.written + counts.removed for counts in self.counts.values())
        return replace(self.before or Marker("", ""), under_way={**self._coming, "view": view, "rows": done})

    def _make_parts(self) -> None:
        self._parts = True
        while self._waiting:
            waiting = change, view, _ = self._waiting.pop(0)
            marker = self._under_way(view)
            if keys.is_cluster(self.client):
                self._transaction(marker, [])
                self._count(waiting, change.make(self.client))
            else:
                self._transaction(marker, [waiting])

    def _transaction(self, marker: Marker, changes: Sequence[Waiting]) -> None:
        """Changes and marker at once; already done if the marker is there: then only the answer was lost."""
        text = marker.text().encode()

        def attempt() -> list[int]:
            with self.lock.writing, self.client.pipeline(transaction=True) as pipe:
                self.client.set(
                    self.lock.key, self.lock.value, nx=True, ex=SECONDS
                )  # a server that restarted forgot it
                self.lock.check(pipe)
                pipe.watch(keys.marker(self.name))  # type: ignore[no-untyped-call]
                found: Any = pipe.get(keys.marker(self.name))
                if found == text and found != self._held:
                    return [change.size for change, _, _ in changes]
                if found != self._held:
                    raise StoreError(NOT_AS_LEFT)
                pipe.multi()
                answers = [change.queue(pipe) for change, _, _ in changes]
                pipe.set(keys.marker(self.name), text)
                given = iter(pipe.execute())
                return [sum(next(given) for _ in range(count)) for count in answers]

        for waiting, rows in zip(changes, retried(attempt), strict=True):
            self._count(waiting, rows)
        self._held = text

    def _count(self, waiting: Waiting, rows: int) -> None:
        change, view, counted = waiting
        if view is not None:
            counts = vars(self.counts[view])
            counts[counted] += rows
            counts["left"] += change.size - rows


NOT_AS_LEFT = (
    "The online store is not as this publisher left it: it lost its data, or another one was at work; run `weakfish "
    "publish` again."
)


@dataclass(frozen=True)
class Claim:
    """What lets any process write for a publisher: that the lock and the marker are as that one left them.

    Attributes
    ----------
    name : str
        The Feast project's.
    lock, marker : str
        What the two keys hold meanwhile.
    """

    name: str
    lock: str
    marker: str

    def make(self, client: redis.Redis, change: Change) -> int:
        """Make a change, with the check in one transaction but on a cluster, where it comes before; rows changed.

        Making it twice is the same as making it once, and says the same.

        Raises
        ------
        StoreError
            When another publisher took over, or the store lost its data.
        """
        if not change.size:
            return 0

        def attempt() -> int:
            with client.pipeline(transaction=True) as pipe:
                _check(pipe, keys.lock(self.name), self.lock.encode())
                pipe.watch(keys.marker(self.name))  # type: ignore[no-untyped-call]
                if pipe.get(keys.marker(self.name)) != self.marker.encode():
                    raise StoreError(NOT_AS_LEFT)
                if keys.is_cluster(client):
                    return -1
                pipe.multi()
                change.queue(pipe)
                return sum(pipe.execute())

        changed = retried(attempt)
        return change.make(client) if changed < 0 else changed
