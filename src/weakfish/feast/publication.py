"""A publication: what is to be published, of the work tree or of a revision, and the changes that bring it about."""

from __future__ import annotations

import os
import sys
from collections import defaultdict
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import weakfish.feast.adapter  # noqa: F401 - first: it makes the import of Feast cheap

import redis
from feast import FeatureStore, FeatureView, FileSource

from weakfish.contracts.publications import Marker
from weakfish.contracts.record import microseconds, moment
from weakfish.engine import fleet
from weakfish.errors import StoreError, UserError, WeakfishError, reason
from weakfish.feast import filling, probe, searching, server
from weakfish.feast import layout as keys
from weakfish.feast.clients import ERRORS
from weakfish.feast.commit import Changes, Counts, PublishingLock
from weakfish.feast.contents import Contents, description, is_of_table
from weakfish.feast.diff import KeySearch, KnownKeys, Layout, Losses, Online, hashes_in, is_most
from weakfish.feast.encoding import entity_of, view_name
from weakfish.feast.executors import reach
from weakfish.feast.filling import Filling, Intent
from weakfish.feast.latest_rows import ROWS, LatestRows, is_spread, shards
from weakfish.feast.online import ProjectRedisOnlineStore, ProjectRedisOnlineStoreConfig
from weakfish.feast.registry import new_registry, quiet, replaced, views
from weakfish.feast.source_files import SCHEMES, as_they_lie, resolved
from weakfish.feast.writer import removals
from weakfish.project.paths import Project
from weakfish.project.runs import Progress, temporary_folder

BEGINNING = datetime(1900, 1, 1, tzinfo=UTC)


def publication(
    contents: Contents, client: redis.Redis, name: str, lock: PublishingLock
) -> tuple[Marker, dict[str, Counts]]:
    """Publish what differs from what the store holds; raises what `publish` raises.

    Returns
    -------
    Marker, dict of str to Counts
        What the store now holds, and what became of each view's rows.
    """
    with new_registry(contents.source, contents.project) as store:
        _check_type(store)
        return _Publication(contents, store, Changes(client, name, lock)).run()


@dataclass(frozen=True)
class _Differing:
    """A file of a view's rows that differ, how many of them are to be written, and the item that says so."""

    view: str
    rows: int
    item: dict[str, Any]


class _Publication:
    """The state of one publication: descriptions by view, as they are to be and as they were, and the changes."""

    def __init__(self, contents: Contents, store: FeatureStore, changes: Changes) -> None:
        self.contents, self.store, self.changes = contents, store, changes
        self.client, self.name = changes.client, changes.name
        before = changes.before
        self.before: Mapping[str, Mapping[str, Any]] = before.views if before else {}
        self.intact = before is not None and probe.holds(contents.project, self.client, self.name, before)
        online = [view for view in views(store) if view.batch_source is not None]
        self.served = [view for view in online if is_of_table(contents.source, view)]
        self.own = [view for view in online if view not in self.served and view.enabled]
        self.now: dict[str, dict[str, Any]] = {}
        self.due: list[datetime] = []
        self.until: dict[str, int] = {}
        self.losses: dict[str, Losses] = {}
        self.no_hash: list[bytes] = []
        for view in self.served:
            self.now[view.name], due = description(contents, store, view)
            self.due += [due] if due else []
            # Rows up to then are the publication's to change: those it knows, and those that earlier ones knew.
            earlier = before.until(view.name) if before else None
            now = microseconds(self.now[view.name]["until"])
            self.until[view.name] = now if earlier is None else max(now, earlier)
        everything = [*store.list_all_feature_views(), *store.list_label_views()]
        # Rows that were published of a view that is no longer served are removed; those of other writers stay.
        rest = [view for view in everything if view.name not in self.now]
        kept = [view for view in rest if view.name not in self.before or getattr(view, "online", True)]
        self.others: dict[str, dict[str, Any]] = {view.name: {"fields": _fields(view, store)} for view in kept}
        self.layouts = {view: Layout.of(view, content) for view, content in self.now.items()}
        same = {view for view, now in self.now.items() if self._was(view).get("version") == now["version"]}
        self.changed = [view for view in self.now if not (self.intact and view in same)]
        self.known = KnownKeys(self.layouts, self.changed)
        self.online = Online(self.client)
        self.is_first = before is None and next(keys.scanned(self.client, self.name), None) is None
        stored = sum(self.now[view]["rows"] for view in self.changed)
        self.is_spread = is_spread(contents.project, stored)
        self.folder, self.reach = Path(), dict[str, Any]()  # where workers leave files, and how they reach the store
        self.differing: list[_Differing] = []

    def run(self) -> tuple[Marker, dict[str, Counts]]:
        """Fill what changed, take away what is gone, and commit."""
        with ExitStack() as stack:
            if self.is_spread:
                self.folder = stack.enter_context(temporary_folder(self.contents.project.temporary, "publish"))
                self.reach = reach(server.resolve(self.contents.project))
            return self._run()

    def _run(self) -> tuple[Marker, dict[str, Counts]]:
        contents, as_of = self.contents, self.contents.as_of.isoformat()
        until = {view: moment(time).isoformat() for view, time in self.until.items()}
        self._materialize()
        self.changes.begin(contents.version, as_of, until)
        for view in self.served:
            if view.name in self.changed:
                self.changes.counts[view.name] = Counts()
                self._compare(view) if self.is_spread else self._fill(view)
                self.now[view.name]["entities"] = self.known.count(view.name)
            else:
                self._keep_losses(view.name)
                entities = self.now[view.name]["entities"] = self.before[view.name]["entities"]
                self.changes.counts[view.name] = Counts(unchanged=entities)
            with quiet():
                self.store.registry.apply_materialization(view, self.name, BEGINNING, contents.as_of)
        self._write_what_differs()
        self._clear()
        self._tell_losses()
        self._tell_no_hash()
        due = min(self.due).isoformat() if self.due else None
        marker = Marker(contents.version, as_of, due, self.now, contents.revision, others=self.others)
        with replaced(contents.project, self.store, contents.version):
            self.changes.commit(marker)
        return marker, self.changes.counts

    def _materialize(self) -> None:
        """Let Feast write the last rows of views over the team's own Parquet, which no revision keeps."""
        contents = self.contents
        for view in self.own if contents.revision is None else ():
            self.others[view.name]["files"] = probe.stamps(contents.project, _paths(view, contents.project))
            try:
                with quiet():
                    self.store.materialize(BEGINNING, contents.as_of, [view.name])
            except (WeakfishError, *ERRORS):
                raise
            except Exception as error:
                raise StoreError(
                    f"View {view.name}, over Parquet of its own, could not be materialized ({reason(error)}); correct "
                    "its source or its definition."
                ) from error

    def _intent(self, name: str) -> Intent:
        before, expire = self._was(name), self.store.config.online_store.key_ttl_seconds
        fields = Layout.of(name, before).fields if before else ()
        return Intent(
            until=self.until[name],
            gone=sorted(set(fields) - set(self.layouts[name].fields)),
            retyped=self._retyped(name),
            others=self.known.times_of_others(name),
            expire=expire,
            keeps=expire is None and not self.intact,
            is_first=self.is_first,
        )

    def _fill(self, view: FeatureView) -> None:
        """Compare and write the rows of a view, batch by batch."""
        name = str(view.name)
        own = Filling(self._intent(name), self.now[name]["features"], self.changes.counts[name])
        progress = Progress(f"publish {name}, rows", self._was(name).get("entities"))
        for _, encoded in LatestRows(view, self.store.config, self.contents.as_of).batches():
            found = own.compare(self.online, encoded)
            self.known.take(name, found.own, found.others)
            for change, counts in own.intent.changes(encoded, found.ours, found.newer):
                self.changes.add(change, *((name, "written") if counts else ()))
            progress.add(len(encoded))
        self.losses[name], self.no_hash = own.losses, self.no_hash + own.no_hash

    def _compare(self, view: FeatureView) -> None:
        """Let workers compare the rows of a view, shard by shard, and leave what differs in files."""
        name, home = str(view.name), self.folder / str(len(self.losses))
        rows, losses = LatestRows(view, self.store.config, self.contents.as_of), Losses(self.now[name]["features"])
        common = {"rows": rows.packed(), "intent": self._intent(name).packed(), "store": self.reach}
        made = shards(self.contents, rows, self.now[name]["rows"], home, "publish")
        items = [{**common, "shard": shard, "to": f"{shard}.differ"} for shard in made]
        project, what = self.contents.project, f"publish: shards of {name} compared"
        for place, receipt in fleet.run(project, f"{filling.__name__}:compared", items, what):
            to = items[place]["to"]
            if receipt["any"]:
                own, *others = hashes_in(project.root / f"{to}.keys.npz")
                self.known.take(name, own, others)
                self.differing.append(_Differing(name, receipt["differ"], {**common, "file": f"{to}.rows"}))
            self._count(name, receipt["counts"])
            losses.take(*receipt["losses"])
            self.no_hash += map(bytes.fromhex, receipt["no_hash"])
        self.losses[name] = losses

    def _write_what_differs(self) -> None:
        """Make the changes of rows that workers found to differ: here if they are few, and else by workers again."""
        project, changes = self.contents.project, self.changes
        claim = changes.claim(sum(each.rows for each in self.differing)) if self.differing else None
        if claim is None:
            for each in self.differing:
                for change, counts in filling.that_differ(project, each.item):
                    changes.add(change, *((each.view, "written") if counts else ()))
            return
        items = [{**each.item, "claim": vars(claim)} for each in self.differing]
        work, what = f"{filling.__name__}:written", "publish: shards written"
        for place, receipt in fleet.run(project, work, items, what):
            self._count(self.differing[place].view, receipt)

    def _count(self, view: str, more: Mapping[str, int]) -> None:
        counts = vars(self.changes.counts[view])
        for name, number in more.items():
            counts[name] += number

    def _clear(self) -> None:
        """Away with rows of entities that are gone, and with fields of views and features that are gone."""
        before = self.changes.before.others if self.changes.before else {}
        known = {name: of["fields"] for name, of in before.items()}
        now = {name: of["fields"] for name, of in self.others.items()}
        thorough = not self.intact or known != now or _shapes(self.before) != _shapes(self.now)
        if self.is_first or not (thorough or self.changed):
            return
        waiting: dict[tuple[str | None, tuple[bytes, ...]], list[bytes]] = defaultdict(list)
        here = {**self.now, **self.others}
        gone = {keys.time_field(view): view for view in (*self.before, *before) if view not in here}

        def clear() -> None:
            for (view, fields), found in waiting.items():
                name, until = (self.now[view].get("online_name", view), self.until[view]) if view else (None, 0)
                self.changes.add(removals(found, name, fields, until), view, "removed")
                for row in gone.keys() & fields if view is None else ():
                    self.changes.counts.setdefault(gone[row], Counts()).removed += len(found)
            waiting.clear()

        others = {bytes.fromhex(field) for fields in now.values() for field in fields}
        search = KeySearch(self.name, thorough, others)
        store, home = (self.reach, self.folder / "left") if self.is_spread else (None, Path())
        for left in searching.found(self.contents.project, self.online, self.known, search, store, home):
            self.no_hash += [left.key] if left.is_no_hash else []
            orphans = list(left.orphans)
            for view, present in left.rows.items():
                waiting[view, self.layouts[view].fields].append(left.key)
                orphans += [field for field in self._retyped(view) if field in present]
            if orphans:
                waiting[None, tuple(orphans)].append(left.key)
            if sum(map(len, waiting.values())) >= ROWS:
                clear()
        clear()

    def _keep_losses(self, view: str) -> None:
        """Of a view that stays as it was published, what was lost then."""
        if emptied := self._was(view).get("emptied"):
            self.now[view]["emptied"] = emptied

    def _tell_losses(self) -> None:
        """Note what most entities of a view lost since it was published before."""
        since = self.changes.before.as_of if self.changes.before else ""
        for view, losses in self.losses.items():
            was = self._was(view)
            if was.get("version") == self.now[view]["version"]:  # rows were repaired, that is all
                self._keep_losses(view)
            elif was and since:
                removed, entities = self.changes.counts[view].removed, was["entities"]
                features, gone = losses.most(), (removed, entities) if is_most(removed, entities) else None
                if features or gone:
                    self.now[view]["emptied"] = {"since": since, "features": features, "removed": gone}

    def _tell_no_hash(self) -> None:
        """Say on stderr which keys held something that is no hash, and are written anew."""
        found = sorted(set(self.no_hash))
        if found:
            first = ", ".join(probe.entity(entity_of(key, self.name)) for key in found[:1])
            print(
                f"weakfish: Of the entities' keys in the online store, {len(found):,} held no hash (first: {first}); "
                "they are deleted and written as the feature tables have them.",
                file=sys.stderr,
            )

    def _was(self, view: str) -> Mapping[str, Any]:
        """How a view was published; empty where it was not."""
        return self.before.get(view) or {}

    def _retyped(self, view: str) -> list[bytes]:
        """Fields whose features have another type than they were published with."""
        types, now = self._was(view).get("types") or {}, self.now[view]
        changed = [name for name, kind in now["types"].items() if types.get(name, kind) != kind]
        return [keys.feature_field(now.get("online_name", view), name) for name in changed]


def _shapes(described: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What decides which fields there are, and of which type."""
    names = ("online_name", "join_keys", "features", "types")
    return {view: [content.get(name) for name in names] for view, content in described.items()}


def _fields(view: Any, store: FeatureStore) -> list[str]:
    """All fields that a view's rows can have: those computed on demand may hold their keys too."""
    names = {field.name for field in (*view.schema, *view.features)}
    return sorted(field.hex() for field in keys.fields(view_name(view, store.config), names))


def _paths(view: FeatureView, project: Project) -> list[str]:
    """The Parquet files of a view and the folders that hold them, from the project; none where it is not local."""
    source = view.batch_source
    if not isinstance(source, FileSource) or source.path.startswith(SCHEMES):
        return []
    found = as_they_lie(source.path, probe.repository(project), f"view {view.name}")
    place = resolved(source.path, probe.repository(project))
    folders = {folder for file in found for folder in file.parents if folder.is_relative_to(place)}
    return sorted(os.path.relpath(path, project.root) for path in {*found, *folders})


def _check_type(store: FeatureStore) -> None:
    if not isinstance(store.config.online_store, ProjectRedisOnlineStoreConfig):
        raise UserError(
            "feature_store.yaml names another online store; let online_store.type be "
            f"{ProjectRedisOnlineStore.__module__}.{ProjectRedisOnlineStore.__name__}."
        )
