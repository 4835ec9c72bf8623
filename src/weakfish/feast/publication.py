"""One publication from begin to end: a new registry, rows of the views that changed, one commit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import redis
from feast import FeatureStore, FeatureView

from weakfish.errors import UserError
from weakfish.feast import layout as keys
from weakfish.feast import probe
from weakfish.feast.changes import (
    Changes,
    Counts,
    Known,
    Layout,
    Online,
    Orphans,
    Removed,
    Rows,
    differences,
    leftovers,
)
from weakfish.feast.contents import ROWS, Contents, batches, description, extent
from weakfish.feast.encoding import Encoded
from weakfish.feast.online import ProjectRedisOnlineStore, ProjectRedisOnlineStoreConfig
from weakfish.feast.probe import Marker, microseconds, moment
from weakfish.feast.publisher_lock import Claim
from weakfish.feast.registry import new_registry, quiet, replaced, views
from weakfish.project.runs import Progress

BEGINNING = datetime(1900, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Published:
    """What the store holds after a publication, and what became of each view's rows."""

    marker: Marker
    counts: dict[str, Counts]


def publication(contents: Contents, client: redis.Redis, name: str, claim: Claim) -> Published:
    """Publish what differs from what the store holds; raises what `publish` raises."""
    with new_registry(contents.source, contents.project) as store:
        _check_type(store)
        return _Publication(contents, store, Changes(client, name, claim)).run()


class _Publication:
    """The state of one publication: descriptions by view, as they are to be and as they were, and the changes."""

    def __init__(self, contents: Contents, store: FeatureStore, changes: Changes) -> None:
        self.contents, self.store, self.changes = contents, store, changes
        self.client, self.name = changes.client, changes.name
        before = changes.before
        self.intact = before is not None and probe.holds(contents.project, self.client, self.name, before)
        self.before: Mapping[str, Mapping[str, Any]] = before.views if before else {}
        self.served = views(store)
        self.extents = {str(view.name): extent(contents, view) for view in self.served}
        self.now = {str(view.name): description(contents, store, view, self.extents[view.name]) for view in self.served}
        self.until = {view: self._until(before, view) for view in self.now}
        self.layouts = {view: Layout.of(view, content) for view, content in self.now.items()}
        self.changed = [view for view in self.now if not self._is_kept(view)]
        self.known = Known(self.layouts, self.changed)
        self.online = Online(self.client)
        self.is_first = before is None and next(keys.of_project(self.client, self.name), None) is None

    def run(self) -> Published:
        """Fill what changed, take away what is gone, and commit."""
        contents = self.contents
        until = {view: moment(time).isoformat() for view, time in self.until.items()}
        self.changes.begin(contents.version, contents.as_of.isoformat(), until)
        for view in self.served:
            if view.name in self.changed:
                self._fill(view)
            else:
                entities = self.before[view.name]["entities"]
                self.now[view.name]["entities"] = entities
                self.changes.counts[view.name] = Counts(unchanged=entities)
            with quiet():
                self.store.registry.apply_materialization(view, self.name, BEGINNING, contents.as_of)
        self._clear()
        due = min((found.due for found in self.extents.values() if found.due), default=None)
        marker = Marker(
            contents.version,
            contents.as_of.isoformat(),
            due.isoformat() if due else None,
            self.now,
            contents.revision,
        )
        with replaced(contents.project, self.store, contents.version):
            self.changes.commit(marker)
        return Published(marker, self.changes.counts)

    def _fill(self, view: FeatureView) -> None:
        name, until = str(view.name), self.until[view.name]
        counts = self.changes.counts[name] = Counts()
        expire = self.store.config.online_store.key_ttl_seconds
        gone = sorted(self._fields_before(name) - set(self.layouts[name].fields))
        retyped = self._retyped(name)
        progress = Progress(f"publish {name}, rows", (self.before.get(name) or {}).get("entities"))
        for _, encoded in batches(self.contents, self.store, view):
            found = encoded.keys.to_pylist()
            if self.is_first:
                self.known.add(name, found, [[None] * len(self.known.others(name))] * len(found))
                self.changes.add(Rows(name, encoded, until, expire=expire))
                progress.add(len(encoded))
                continue
            different, others = differences(self.online, encoded, self.known.times_of_others(name))
            self.known.add(name, found, others)
            ours = [d.position for d in different if d.event_us is None or d.event_us <= until]
            newer = sorted({d.position for d in different}.difference(ours))
            counts.unchanged += len(encoded) - len(different)
            counts.left += len(newer)
            self.changes.add(Rows(name, taken(encoded, ours), until, gone, expire))
            if retyped:
                self.changes.add(Orphans([(found[position], retyped) for position in newer]))
            progress.add(len(encoded))
        self.now[name]["entities"] = self.known.count(name)

    def _clear(self) -> None:
        """Away with rows of entities that are gone, and with fields of views and features that are gone."""
        thorough = not self.intact or _shapes(self.before) != _shapes(self.now)
        if self.is_first or not (thorough or self.changed):
            return
        gone: dict[str, list[bytes]] = {view: [] for view in self.layouts}
        orphans: list[tuple[bytes, list[bytes]]] = []
        for left in leftovers(self.online, self.name, self.known, thorough=thorough):
            fields = list(left.orphans)
            for view, present in left.rows.items():
                gone[view].append(left.key)
                fields += [field for field in self._retyped(view) if field in present]
            if fields:
                orphans.append((left.key, fields))
            if len(orphans) >= ROWS:
                self.changes.add(Orphans(orphans))
                orphans = []
            for view in left.rows:
                if len(gone[view]) >= ROWS:
                    self._remove(view, gone[view])
                    gone[view] = []
        self.changes.add(Orphans(orphans))
        for view, found in gone.items():
            self._remove(view, found)

    def _remove(self, view: str, found: list[bytes]) -> None:
        name = self.now[view].get("online_name", view)
        self.changes.add(Removed(view, name, found, self.layouts[view].fields, self.until[view]))

    def _is_kept(self, view: str) -> bool:
        """Whether the store has a view as it is to be."""
        before = self.before.get(view)
        return self.intact and before is not None and before.get("version") == self.now[view]["version"]

    def _until(self, before: Marker | None, view: str) -> int:
        """Rows up to this time are the publication's to change: those it knows, and those that earlier ones knew."""
        now = microseconds(self.now[view]["until"])
        earlier = before.until(view) if before else None
        return now if earlier is None else max(now, earlier)

    def _fields_before(self, view: str) -> set[bytes]:
        before = self.before.get(view)
        return set(Layout.of(view, before).fields) if before else set()

    def _retyped(self, view: str) -> list[bytes]:
        """Fields whose features have another type than they were published with."""
        before, now = self.before.get(view) or {}, self.now[view]
        types = before.get("types") or {}
        online = now.get("online_name", view)
        changed = [name for name, kind in now["types"].items() if types.get(name, kind) != kind]
        return [keys.feature_field(online, name) for name in changed]


def taken(encoded: Encoded, positions: list[int]) -> Encoded:
    """Some of the rows, by their positions."""
    if len(positions) == len(encoded):
        return encoded
    places = pa.array(positions, pa.int64())
    return replace(
        encoded,
        keys=encoded.keys.take(places),
        times=encoded.times.take(places),
        event_us=encoded.event_us[positions],
        created_us=encoded.created_us[positions],
        created=encoded.created.take(places),
        values={name: column.take(places) for name, column in encoded.values.items()},
    )


def _shapes(described: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What decides which fields there are, and of which type."""
    names = ("online_name", "join_keys", "features", "types")
    return {view: [content.get(name) for name in names] for view, content in described.items()}


def _check_type(store: FeatureStore) -> None:
    if not isinstance(store.config.online_store, ProjectRedisOnlineStoreConfig):
        raise UserError(
            "feature_store.yaml names another online store; let online_store.type be "
            f"{ProjectRedisOnlineStore.__module__}.{ProjectRedisOnlineStore.__name__}."
        )
