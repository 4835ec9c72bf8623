"""Compare rows as they are online with rows as they are to be, and find what is online and in no table."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from pathlib import Path
from typing import Any

import weakfish.feast.adapter  # noqa: F401 - first: it makes the import of Feast cheap

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import redis
from feast.protos.feast.types.Value_pb2 import Value

from weakfish.contracts.publications import ENOUGH_ENTITIES
from weakfish.feast import layout as keys
from weakfish.feast.clients import retried
from weakfish.feast.encoding import Encoded
from weakfish.feast.exchange import Exchange, Want
from weakfish.feast.key_ranges import EntityKeys, Spool, hashed, range_of
from weakfish.feast.probe import event_time
from weakfish.files import whole_file

Row = Sequence[bytes | None]
"""A row's fields: event time, created time, then features in the view's order; None for a field that is not there."""


NO_HASH = b"\xff"
"""What stands for each field of a key that holds no hash: no value and no time."""


class Online:
    """Reads rows of one store, and waits for it where it went away."""

    def __init__(self, client: redis.Redis) -> None:
        self.client = client
        self._exchange = Exchange(client)

    def rows(self, found: Sequence[bytes], fields: Sequence[bytes]) -> list[list[bytes | None]]:
        """Fields of rows by their keys; `NO_HASH` for all fields of a key that holds something else."""
        if not found:
            return []
        want, no_hash = Want(tuple(fields)), list[bytes | None]([NO_HASH]) * len(fields)
        rows = retried(lambda: self._exchange.fetch([(want, found)])[0])
        return [row or no_hash for row in rows]

    def fields(self, found: Sequence[bytes]) -> list[set[bytes] | None]:
        """The names of all fields that keys hold; None for a key that holds no hash."""

        def read() -> list[set[bytes] | None]:
            with self.client.pipeline(transaction=False) as pipe:
                for key in found:
                    pipe.hkeys(key)
                answers = keys.answers(pipe.execute(raise_on_error=False))
            return [None if fields is None else set(fields) for fields in answers]

        return retried(read)

    def expiring(self, found: Sequence[bytes]) -> list[bool]:
        """Whether keys go away by themselves at some time; False for all where this user may not ask that."""
        try:
            return [left >= 0 for left in retried(lambda: self._exchange.numbers([("PTTL", key) for key in found]))]
        except redis.exceptions.NoPermissionError:
            return [False] * len(found)

    def keep(self, found: Sequence[bytes]) -> int:
        """Let keys stay that would go away by themselves; how many those were, 0 where this user may not do that."""
        try:
            return sum(retried(lambda: self._exchange.numbers([("PERSIST", key) for key in found])))
        except redis.exceptions.NoPermissionError:
            return 0

    def keys(self, project: str) -> EntityKeys:
        """All entity keys of a project."""
        return retried(lambda: EntityKeys(keys.scanned(self.client, project)))


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
    extra = [[None if one is NO_HASH else one for one in row[width:]] for row in there]
    here = map(list, zip(*(column.to_pylist() for column in fields.values()), strict=True))
    pairs = enumerate(zip((row[:width] for row in there) if also else there, here, strict=True))
    return [Difference(place, one, other) for place, (one, other) in pairs if one != other], extra


NOTHING = pa.array(
    [
        value.SerializeToString()
        for value in (Value(), Value(int32_val=0), Value(int64_val=0), Value(float_val=0), Value(double_val=0))
    ]
    + [Value(bool_val=False).SerializeToString()]
)
"""Values that say nothing: null, 0 and false."""


class Losses:
    """Counts, by feature, the values that were something online and are to be nothing."""

    def __init__(self, features: Sequence[str]) -> None:
        self.features = features
        self.lost = np.zeros(len(features), np.int64)
        self.had = np.zeros(len(features), np.int64)

    def add(self, encoded: Encoded, written: Iterable[Difference]) -> None:
        """Take rows as they are to be, and those of them that are written over what is online."""
        self.had += [len(column) - pc.sum(_is_nothing(column)).as_py() for column in encoded.values.values()]
        nothing = {None, *NOTHING.to_pylist()}
        for one in written:
            was, now = (np.array([of in nothing for of in row[2:]]) for row in (one.online, one.offline))
            self.lost += ~was & now
            self.had += now.astype(np.int64) - was

    def take(self, lost: Sequence[int], had: Sequence[int]) -> None:
        """Take what was counted elsewhere, of other rows."""
        self.lost += lost
        self.had += had

    def most(self) -> dict[str, tuple[int, int]]:
        """The features that most entities lost: how many did, and how many had a value."""
        found = zip(self.features, self.lost.tolist(), self.had.tolist(), strict=True)
        return {name: (lost, had) for name, lost, had in found if is_most(lost, had)}


def is_most(lost: int, had: int) -> bool:
    """Whether so many are most of them, and enough to say so."""
    return had >= ENOUGH_ENTITIES and 2 * lost > had


def _is_nothing(column: pa.Array) -> pa.Array:
    return pc.or_(pc.is_null(column), pc.fill_null(pc.is_in(column, NOTHING), True))


Hashes = npt.NDArray[np.uint64]
Kind = tuple[str, ...]


@dataclass(frozen=True)
class Leftover:
    """What a key holds beyond what the tables have: rows by view, with their fields, and fields of no view."""

    key: bytes
    rows: Mapping[str, Sequence[bytes]]
    orphans: Sequence[bytes]
    is_no_hash: bool = False


class KnownKeys:
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
        self._keys = {view: Spool() for view in self.read}
        self._present = {view: Spool() for view in self.read}
        self._counts: Counter[str] = Counter()

    def others(self, view: str) -> list[str]:
        """The other views whose rows lie in the same keys."""
        kind = self.layouts[view].kind
        return [other for other in self.read if other != view and self.layouts[other].kind == kind]

    def times_of_others(self, view: str) -> list[bytes]:
        """The fields to read along with a view's rows, so that `add` learns of the other views' rows there."""
        return [self.layouts[other].fields[0] for other in self.others(view)]

    def add(self, view: str, found: Sequence[bytes], times: Sequence[Sequence[bytes | None]]) -> None:
        """Take keys of a view, and what the store has there in the fields `times_of_others`."""
        self.take(view, *keys_and_others(found, times, len(self.others(view))))

    def take(self, view: str, own: Hashes, others: Sequence[Hashes]) -> None:
        """Take keys of a view by their hashes, and those of them where the store has rows of each of the `others`."""
        self._counts[view] += len(own)
        _keep(self._keys[view], own)
        for other, there in zip(self.others(view), others, strict=True):
            _keep(self._present[other], there)

    def count(self, view: str) -> int:
        """How many keys a view has."""
        return self._counts[view]

    def strangers(self, ranges: Sequence[int]) -> Strangers:
        """What tells views whose rows are not in the tables, of keys of some ranges (`weakfish.feast.key_ranges`)."""
        own, present = (
            {view: np.frombuffer(spools[view].read(ranges), np.uint64) for view in self.read}
            for spools in (self._keys, self._present)
        )
        return Strangers(self.layouts, own, present)


def keys_and_others(
    found: Sequence[bytes], times: Sequence[Sequence[bytes | None]], others: int
) -> tuple[Hashes, list[Hashes]]:
    """The hashes of keys, and by other view of those where the store has a row of it."""
    hashes = hashes_of(found)
    there = (np.fromiter((row[place] is not None for row in times), np.bool_, len(found)) for place in range(others))
    return hashes, [hashes[each] for each in there]


def keep_hashes(file: Path, known: Sequence[tuple[Hashes, list[Hashes]]]) -> None:
    """Write what is known of the keys of batches, as `keys_and_others` has it, to a file."""
    columns = [[own for own, _ in known], *zip(*(others for _, others in known), strict=True)]
    with whole_file(file) as part, part.open("wb") as stream:
        np.savez(stream, *(np.concatenate(column) for column in columns))


def hashes_in(file: Path) -> list[Hashes]:
    """What `keep_hashes` wrote: the hashes of all keys, then by other view of those where the store has a row of it."""
    with np.load(file) as found:
        return [found[name] for name in found.files]


class Strangers:
    """Tells the views that may have rows in keys where the tables have none.

    Parameters
    ----------
    layouts
        Of all views that are served.
    own, present
        Hashes by view: of its keys in the tables, and of keys of others in which the store has a row of it.
    """

    def __init__(self, layouts: Mapping[str, Layout], own: Mapping[str, Hashes], present: Mapping[str, Hashes]) -> None:
        self.layouts, self.own, self.present = layouts, own, present
        self._strays = {view: np.setdiff1d(present[view], own[view]) for view in own}
        seen: dict[Kind, list[Hashes]] = {}
        for view in own:
            seen.setdefault(layouts[view].kind, []).append(own[view])
        self._known = {kind: np.unique(np.concatenate(hashes)) for kind, hashes in seen.items()}

    def views(self, found: Sequence[bytes], kinds: Sequence[Kind]) -> list[list[str]]:
        """For each key, given its kind, the views that may have a row there that is not in the tables."""
        hashes, of_keys = hashes_of(found), [list[str]() for _ in found]
        for view, strays in self._strays.items():
            kind = self.layouts[view].kind
            mine = np.fromiter((each == kind for each in kinds), np.bool_, len(found))
            for place in np.flatnonzero(mine & (~_among(hashes, self._known[kind]) | _among(hashes, strays))):
                of_keys[place].append(view)
        return of_keys


@dataclass(frozen=True)
class KeySearch:
    """What is looked for in a project's keys: rows that are in no view's keys, and fields of no view.

    ``thorough`` looks for such fields in all keys, not just in those of which something is not known; ``others`` are
    fields of views whose rows are not looked at.
    """

    project: str
    thorough: bool
    others: Collection[bytes] = ()

    def leftovers(self, online: Online, found: Iterable[bytes], strangers: Strangers) -> Iterator[Leftover]:
        """What is left over in some keys."""
        layouts = strangers.layouts
        fields = {view: layout.fields for view, layout in layouts.items()}
        prefixes = {layout.kind: _prefix(layout.kind) for layout in layouts.values()}
        for batch in keys.batches(found):
            kinds = [_kind(key, self.project, prefixes) for key in batch]
            views = strangers.views(batch, kinds)
            asked = [self.thorough or kind not in prefixes for kind in kinds]
            for kind in prefixes if not self.thorough else ():
                mine = [place for place, each in enumerate(kinds) if each == kind and views[place]]
                names = [view for view in layouts if layouts[view].kind == kind]
                times = online.rows([batch[place] for place in mine], [fields[view][0] for view in names])
                for place, row in zip(mine, times, strict=True):
                    there = [view for view, time in zip(names, row, strict=True) if time is not None]
                    asked[place] = not there or any(view in there for view in views[place])
            places = list(compress(range(len(batch)), asked))
            for place, present in zip(places, online.fields([batch[place] for place in places]), strict=True):
                if present is None:  # nothing that is ours; it goes with the rows that it may stand for, or as a field
                    rows = {view: list(fields[view]) for view in views[place]}
                    orphans = [] if rows else [NO_HASH]
                else:
                    rows = {view: [field for field in fields[view] if field in present] for view in views[place]}
                    ours = [layout.fields for layout in layouts.values() if layout.kind == kinds[place]]
                    orphans = sorted(present.difference(self.others, *ours))
                rows = {view: found for view, found in rows.items() if found}
                if rows or orphans:
                    yield Leftover(batch[place], rows, orphans, present is None)


def leftovers(online: Online, known: KnownKeys, search: KeySearch) -> Iterator[Leftover]:
    """What is left over in all keys of a project."""
    for ranges, found in online.keys(search.project).groups():
        yield from search.leftovers(online, found, known.strangers(ranges))


def hashes_of(found: Sequence[bytes]) -> Hashes:
    """Keys by 8 bytes each."""
    return np.fromiter(map(hashed, found), np.uint64, len(found))


def _keep(spool: Spool, hashes: Hashes) -> None:
    """Put hashes into their ranges."""
    ranges = range_of(hashes)
    for number in np.unique(ranges).tolist():
        spool.add(number, hashes[ranges == number].tobytes())


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
