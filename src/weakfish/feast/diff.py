"""Rows as they are online beside rows as they are to be: encoded rows in, those that are not the same out."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import compress
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import redis

from weakfish.contracts.publications import Marker, parse_marker
from weakfish.errors import StoreError
from weakfish.feast import layout as keys
from weakfish.feast.commit import Claim, patiently
from weakfish.feast.encoding import Encoded
from weakfish.feast.exchange import Exchange, Want
from weakfish.feast.probe import event_time
from weakfish.feast.writer import commands, removals, remove, write

Row = Sequence[bytes | None]
"""A row's fields: event time, created time, then features in the view's order; None for a field that is not there."""


class Online:
    """Reads rows of one store, and waits for it where it went away."""

    def __init__(self, client: redis.Redis) -> None:
        self.client = client
        self._exchange = Exchange(client)

    def rows(self, found: Sequence[bytes], fields: Sequence[bytes]) -> list[list[bytes | None]]:
        """Fields of rows by their keys."""
        if not found:
            return []
        want = Want(tuple(fields))
        return patiently(lambda: self._exchange.fetch([(want, found)])[0])

    def fields(self, found: Sequence[bytes]) -> list[set[bytes]]:
        """The names of all fields that keys hold."""

        def read() -> list[set[bytes]]:
            with self.client.pipeline(transaction=False) as pipe:
                for key in found:
                    pipe.hkeys(key)
                return [set(fields) for fields in pipe.execute()]

        return patiently(read)

    def keys(self, project: str) -> list[bytes]:
        """All entity keys of a project."""
        return patiently(lambda: list(keys.of_project(self.client, project)))


@dataclass(frozen=True)
class Layout:
    """How a view's rows lie in the store: the join keys of its keys, sorted, and its fields, the event time first."""

    kind: tuple[str, ...]
    fields: tuple[bytes, ...]

    @classmethod
    def of(cls, view: str, content: Mapping[str, Any]) -> Layout:
        """The layout of a view as the marker describes it."""
        name = content.get("online_name", view)
        return cls(tuple(content["join_keys"]), tuple(keys.fields(name, content["features"])))


@dataclass(frozen=True)
class Difference:
    """A row that is online not what it is to be: its position among the encoded rows, and both sides' fields."""

    position: int
    online: Row
    offline: Row

    @property
    def is_missing(self) -> bool:
        """Whether the row is not there, as Feast's readers see it."""
        return self.online[0] is None

    @property
    def event_us(self) -> int | None:
        """The event time online, in microseconds since 1970; None where it is missing or no time."""
        return None if self.online[0] is None else event_time(self.online[0])


def differences(
    online: Online, encoded: Encoded, also: Sequence[bytes] = ()
) -> tuple[list[Difference], list[list[bytes | None]]]:
    """The rows whose bytes are not the same online; and of every row the fields ``also`` of its key, as they are."""
    fields = encoded.fields()
    width = len(fields)
    there = online.rows(encoded.keys.to_pylist(), [*fields, *also])
    extra = [row[width:] for row in there] if also else [[] for _ in there]
    here = map(list, zip(*(column.to_pylist() for column in fields.values()), strict=True))
    pairs = enumerate(zip((row[:width] for row in there) if also else there, here, strict=True))
    return [Difference(place, one, other) for place, (one, other) in pairs if one != other], extra


Hashes = npt.NDArray[np.int64]
Kind = tuple[str, ...]
NONE: Hashes = np.empty(0, np.int64)


@dataclass(frozen=True)
class Leftover:
    """What a key holds beyond what the tables have: rows by view, with their fields, and fields of no view."""

    key: bytes
    rows: Mapping[str, Sequence[bytes]]
    orphans: Sequence[bytes]


class Known:
    """The keys that views have in the tables, and in which of them the store has rows of other views.

    Parameters
    ----------
    layouts
        Of all views that are served.
    read
        The views whose keys are going to be added; of the others, all rows in the store are taken to be theirs.
    """

    def __init__(self, layouts: Mapping[str, Layout], read: Iterable[str]) -> None:
        self.layouts = layouts
        self.read = list(read)
        self._keys: dict[str, list[Hashes]] = {view: [] for view in self.read}
        self._present: dict[str, list[Hashes]] = {view: [] for view in self.read}

    def others(self, view: str) -> list[str]:
        """The other views whose rows lie in the same keys."""
        kind = self.layouts[view].kind
        return [other for other in self.read if other != view and self.layouts[other].kind == kind]

    def times_of_others(self, view: str) -> list[bytes]:
        """The fields to read along with a view's rows, so that `add` learns of the other views' rows there."""
        return [self.layouts[other].fields[0] for other in self.others(view)]

    def add(self, view: str, found: Sequence[bytes], times: Sequence[Sequence[bytes | None]]) -> None:
        """Take keys of a view, and what the store has there in the fields `times_of_others`."""
        hashes = hashed(found)
        self._keys[view].append(hashes)
        for place, other in enumerate(self.others(view)):
            there = np.fromiter((row[place] is not None for row in times), np.bool_, len(found))
            self._present[other].append(hashes[there])

    def count(self, view: str) -> int:
        """How many keys a view has."""
        return sum(map(len, self._keys[view]))

    def unknown(self) -> _Unknown:
        """Which views have a row in a key, or may have, that is not in the tables."""
        strays = {view: np.setdiff1d(_joined(self._present[view]), _joined(self._keys[view])) for view in self.read}
        seen: dict[Kind, list[Hashes]] = {}
        for view in self.read:
            seen.setdefault(self.layouts[view].kind, []).extend(self._keys[view])
        return _Unknown(self, strays, {kind: np.unique(_joined(found)) for kind, found in seen.items()})


@dataclass(frozen=True)
class _Unknown:
    known: Known
    strays: Mapping[str, Hashes]
    seen: Mapping[Kind, Hashes]

    def views(self, found: Sequence[bytes], kinds: Sequence[Kind]) -> list[list[str]]:
        """For each key the views that may have a row there that is not theirs."""
        hashes = hashed(found)
        views: list[list[str]] = [[] for _ in found]
        for kind, seen in self.seen.items():
            mine = np.fromiter((each == kind for each in kinds), np.bool_, len(found))
            new = mine & ~_among(hashes, seen)
            for view, strays in self.strays.items():
                if self.known.layouts[view].kind == kind:
                    for place in np.flatnonzero(new | (mine & _among(hashes, strays))):
                        views[place].append(view)
        return views


def leftovers(online: Online, project: str, known: Known, *, thorough: bool) -> Iterator[Leftover]:
    """Look through a project's keys for rows that are in no view's keys, and for fields of no view.

    ``thorough`` looks for such fields in all keys, not just in those of which something is not known.
    """
    unknown, layouts = known.unknown(), known.layouts
    prefixes = {layout.kind: _prefix(layout.kind) for layout in layouts.values()}
    for batch in keys.batches(online.keys(project)):
        kinds = [_kind(key, project, prefixes) for key in batch]
        views = unknown.views(batch, kinds)
        asked = [thorough or kind not in prefixes for kind in kinds]
        for kind in prefixes if not thorough else ():
            mine = [place for place, each in enumerate(kinds) if each == kind and views[place]]
            names = [view for view in layouts if layouts[view].kind == kind]
            times = online.rows([batch[place] for place in mine], [layouts[view].fields[0] for view in names])
            for place, row in zip(mine, times, strict=True):
                there = [view for view, time in zip(names, row, strict=True) if time is not None]
                asked[place] = not there or any(view in there for view in views[place])
        places = list(compress(range(len(batch)), asked))
        for place, present in zip(places, online.fields([batch[place] for place in places]), strict=True):
            found = _leftover(batch[place], present, views[place], kinds[place], layouts)
            if found.rows or found.orphans:
                yield found


def _leftover(
    key: bytes, present: set[bytes], views: Sequence[str], kind: Kind, layouts: Mapping[str, Layout]
) -> Leftover:
    rows = {view: [field for field in layouts[view].fields if field in present] for view in views}
    mine = [layout.fields for layout in layouts.values() if layout.kind == kind]
    return Leftover(key, {view: found for view, found in rows.items() if found}, sorted(present.difference(*mine)))


def hashed(found: Sequence[bytes]) -> Hashes:
    """Keys by 8 bytes each; the same key gives the same number for as long as the process lives."""
    return np.fromiter(map(hash, found), np.int64, len(found))


def _joined(parts: Sequence[Hashes]) -> Hashes:
    return np.concatenate([NONE, *parts])


def _among(hashes: Hashes, ordered: Hashes) -> npt.NDArray[np.bool_]:
    """Which of the numbers are in a sorted array."""
    if not len(ordered):
        return np.zeros(len(hashes), np.bool_)
    places = np.minimum(np.searchsorted(ordered, hashes), len(ordered) - 1)
    found: npt.NDArray[np.bool_] = ordered[places] == hashes
    return found


def _prefix(kind: Kind) -> bytes:
    """How keys of these join keys begin."""
    names = b"".join(struct.pack("<II", keys.STRING, len(name.encode())) + name.encode() for name in kind)
    return struct.pack("<I", len(kind)) + names


def _kind(key: bytes, project: str, prefixes: Mapping[Kind, bytes]) -> Kind:
    for kind, prefix in prefixes.items():
        if key.startswith(prefix):
            return kind
    return keys.join_keys(key, project) or ()


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
