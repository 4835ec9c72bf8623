"""What a publication changes in the store: rows over rows, then away with what is gone, then the marker.

Up to `LIMIT` rows go in one transaction with the marker: every command of a reader sees all of the old or all of the
new, and a publisher that is killed, or a server out of memory, changes nothing. More rows than that, and all rows of a
cluster, go batch by batch under a marker that says what is under way; each row is old or new as a whole even then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import redis

from weakfish.errors import StoreError
from weakfish.store import keys
from weakfish.store.online.encode import Encoded
from weakfish.store.online.write import commands, removals, remove, write
from weakfish.store.publishing.claim import Claim
from weakfish.store.publishing.patience import patiently
from weakfish.store.publishing.probe import Marker, parse_marker

LIMIT = 10_000


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

        return patiently(delete)

    def count(self, counts: Counts, rows: int) -> None:
        return None


class Changes:
    """Takes changes and makes them; ``commit`` makes those that are left, and says in the store what it now holds.

    Attributes
    ----------
    before : Marker or None
        What the store said of itself.
    """

    def __init__(self, client: redis.Redis, name: str, claim: Claim) -> None:
        self.client, self.name, self.claim = client, name, claim
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
            with self.claim.writing, self.client.pipeline(transaction=True) as pipe:
                self.client.set(self.claim.key, self.claim.value, nx=True, ex=60)  # a server that restarted forgot it
                self.claim.check(pipe)
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

        for change, rows in zip(changes, patiently(attempt), strict=True):
            self._count(change, rows)
        self._held = text

    def _count(self, change: Change, rows: int) -> None:
        if change.view is not None:
            change.count(self.counts[change.view], rows)
