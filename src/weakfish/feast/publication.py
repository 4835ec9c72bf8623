"""A publication: what is to be published, of the work tree or of a revision, and the changes that bring it about."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import weakfish.feast.adapter  # noqa: F401 - first: it makes the import of Feast cheap

import pyarrow as pa
import pyarrow.compute as pc
import redis
import yaml
from feast import FeatureStore, FeatureView, FileSource

from weakfish.contracts.manifests import FeaturesManifest, read_manifest
from weakfish.contracts.pointers import SUFFIX as POINTER
from weakfish.contracts.pointers import named
from weakfish.contracts.publications import Marker
from weakfish.contracts.record import EVENT_TIMESTAMP, microseconds, moment, utc
from weakfish.contracts.tables import partitions, read_partition
from weakfish.errors import StoreError, UserError, WeakfishError, reason
from weakfish.feast import layout as keys
from weakfish.feast import probe
from weakfish.feast.clients import ERRORS
from weakfish.feast.commit import Changes, Counts, PublishingLock
from weakfish.feast.diff import NO_HASH, KnownKeys, Layout, Losses, Online, differences, is_most, leftovers
from weakfish.feast.encoding import Encoded, encode, entity_of, view_name
from weakfish.feast.online import ProjectRedisOnlineStore, ProjectRedisOnlineStoreConfig
from weakfish.feast.registry import new_registry, quiet, replaced, views
from weakfish.feast.retrieval import latest
from weakfish.feast.source_files import SCHEMES, as_they_lie, resolved
from weakfish.feast.writer import removals, writes
from weakfish.files import whole_folder
from weakfish.project.dvc import Revision
from weakfish.project.params import PublishParams
from weakfish.project.paths import Project
from weakfish.project.runs import Progress

ROWS = 5_000
"""Rows that are encoded, compared and written at a time: what bounds memory."""


@dataclass(frozen=True)
class Contents:
    """What is to be published, or was.

    Attributes
    ----------
    project
        The project whose registry and online store it is for.
    source
        The project that tables and definitions are read from: the same, or a revision of it somewhere else.
    version
        The hash of all that decides what is published.
    as_of
        The time that the store is to answer for.
    revision
        ``name`` and ``commit`` of what is gone back to; None for the work tree.
    """

    project: Project
    source: Project
    version: str
    as_of: datetime
    revision: dict[str, str] | None = None

    @classmethod
    def of_work_tree(cls, project: Project) -> Contents:
        """What lies in the work tree."""
        return cls(project, project, probe.expected_version(project), probe.as_of(project))

    @classmethod
    def of_marker(cls, project: Project, marker: Marker) -> Contents:
        """What is published, so that it can be compared; its version differs where tables or settings changed since."""
        as_of, revision = datetime.fromisoformat(marker.as_of), marker.revision
        if revision is None:
            return cls(project, project, probe.expected_version(project), as_of)
        return replace(at_revision(project, revision["commit"], revision["name"]), as_of=as_of, revision=revision)


def description(contents: Contents, store: FeatureStore, view: FeatureView) -> tuple[dict[str, Any], datetime | None]:
    """What the marker and the report say of a view, and the time of the first of its rows that is left for later.

    The description's ``version`` changes when the view's rows or its fields do. Rows ``until`` that time are the
    table's, which knows events or has a row so far; what is online with a later one was pushed by a service, and is
    not the publication's to change. Raises `TableError` when the table is missing or cut off.
    """
    table, as_of = str(view.batch_source.name), contents.as_of
    known = read_manifest(contents.source, FeaturesManifest, f"features/{table}")
    rows, ends = 0, list[tuple[datetime | None, datetime | None]]([(None, None)])
    for file in partitions(Path(view.batch_source.path)).values():
        times = read_partition(file, [EVENT_TIMESTAMP])[EVENT_TIMESTAMP]
        past, later = times.filter(pc.less_equal(times, as_of)), times.filter(pc.greater(times, as_of))
        rows += len(past)
        ends.append((pc.max(past).as_py(), pc.min(later).as_py()))
    last, first_later = ([utc(time) for time in times if time] for times in zip(*ends, strict=True))
    last_row = max(last, default=None)
    until = min(as_of, known.as_of) if known.as_of else as_of
    content: dict[str, Any] = {
        "table": table,
        "join_keys": sorted(view.join_keys),
        "features": [feature.name for feature in view.features],
        "types": {feature.name: str(feature.dtype) for feature in view.features},
        "data_version": known.data_version,
        "last_row_at": last_row.isoformat() if last_row else None,
        "rows": rows,
        "until": utc(max(until, last_row) if last_row else until).isoformat(),
    }
    if (name := view_name(view, store.config)) != view.name:
        content["online_name"] = name
    entities = [str(field.dtype) for field in view.entity_columns]
    content["version"] = probe.digest([probe.FORMAT, view.name, entities, content])
    return content, min(first_later, default=None)


def is_of_table(source: Project, view: FeatureView) -> bool:
    """Whether a view is over a feature table of the project, and not over Parquet of the team's own."""
    path, table = getattr(view.batch_source, "path", None), source.table("features") / str(view.batch_source.name)
    return isinstance(path, str) and (probe.repository(source) / path).resolve() == table.resolve()


def batches(contents: Contents, store: FeatureStore, view: FeatureView) -> Iterator[tuple[pa.RecordBatch, Encoded]]:
    """The last row of each entity as of the publication, as it is offline and as it is to be online, in batches."""
    with latest(view, contents.as_of, store.config, known=True) as reader:
        for whole in reader:
            for start in range(0, whole.num_rows, ROWS):
                batch = whole.slice(start, ROWS)
                yield batch, encode(view, store.config, batch)


DEFINED = re.compile(r"feature_repo/.*|params\.yaml|dvc\.yaml")
"""Files of a revision that decide what is published, as git has them."""


def folder(project: Project) -> Path:
    """Where the tables of revisions that were gone back to are."""
    return project.root / ".weakfish" / "rollback"


def at_revision(project: Project, name: str, called: str | None = None) -> Contents:
    """What the project would have published at a revision, as of the time that it said then.

    Parameters
    ----------
    called
        What people called the revision, where ``name`` is its commit.

    Raises
    ------
    UserError
        When git does not know the revision, DVC's cache no longer has its feature tables, or they cannot be published.
    """
    with closing(Revision(project, name)) as revision:
        home = folder(project) / revision.commit
        if not home.is_dir():
            with whole_folder(home) as part:
                _lay_out(revision, part)
        source = Project(home)
        today, then = (probe.settings(each)["project"] for each in (project, source))
        if today != then:
            raise UserError(f"At {revision.name} the Feast project was {then}, not {today}; name a later revision.")
        named = {"name": called or revision.name, "commit": revision.commit}
        version = probe.digest(["rollback", revision.commit, probe.FORMAT])
        return Contents(project, source, version, _as_of(source, revision), named)


def tidy(project: Project, marker: Marker) -> None:
    """Delete the tables of all revisions but the one that is published."""
    commit = marker.revision["commit"] if marker.revision else None
    for home in folder(project).glob("*"):
        if home.name != commit:
            shutil.rmtree(home, ignore_errors=True)


def _lay_out(revision: Revision, home: Path) -> None:
    """Write a revision's definitions, settings, feature tables and label manifests into an empty folder."""
    sources = {**revision.sources("*.py"), **revision.sources("*.yaml"), **revision.sources(".feastignore")}
    found = {path: content for path, content in sources.items() if DEFINED.fullmatch(path)}
    if not any(path.startswith("feature_repo/") for path in found):
        raise UserError(f"At {revision.name} there was no feature_repo; name a later revision.")
    paths = list(revision.files("features"))
    with suppress(UserError):  # a revision that had no labels
        paths += [path for path in revision.files("labels") if path.endswith(".manifest.json")]
    for path, content in found.items():
        _write(home / path, content)
    for path in paths:
        if path.endswith(POINTER):
            (home / "data" / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(revision.fetched(path), named(home / "data" / path))
        else:
            _write(home / "data" / path, revision.bytes(path))


def _write(file: Path, content: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)


def _as_of(source: Project, revision: Revision) -> datetime:
    """The time that the revision's own settings say, whatever else stands in them that is not understood any more."""
    try:
        settings: Any = yaml.safe_load((source.root / "params.yaml").read_text(encoding="utf-8"))
        setting = PublishParams.model_validate(settings.get("publish") or {}).as_of
    except (OSError, ValueError, AttributeError, yaml.YAMLError) as error:
        raise UserError(
            f"publish.as_of in params.yaml cannot be read at {revision.name} ({type(error).__name__}); name a later "
            "revision."
        ) from error
    return probe.as_of(source, setting)


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

    def run(self) -> tuple[Marker, dict[str, Counts]]:
        """Fill what changed, take away what is gone, and commit."""
        contents, as_of = self.contents, self.contents.as_of.isoformat()
        until = {view: moment(time).isoformat() for view, time in self.until.items()}
        self._materialize()
        self.changes.begin(contents.version, as_of, until)
        for view in self.served:
            if view.name in self.changed:
                self._fill(view)
            else:
                self._keep_losses(view.name)
                entities = self.now[view.name]["entities"] = self.before[view.name]["entities"]
                self.changes.counts[view.name] = Counts(unchanged=entities)
            with quiet():
                self.store.registry.apply_materialization(view, self.name, BEGINNING, contents.as_of)
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

    def _fill(self, view: FeatureView) -> None:
        name, until, before = str(view.name), self.until[view.name], self._was(view.name)
        counts = self.changes.counts[name] = Counts()
        expire = self.store.config.online_store.key_ttl_seconds
        fields = Layout.of(name, before).fields if before else ()
        gone, retyped = sorted(set(fields) - set(self.layouts[name].fields)), self._retyped(name)
        losses = self.losses[name] = Losses(self.now[name]["features"])
        progress = Progress(f"publish {name}, rows", before.get("entities"))
        for _, encoded in batches(self.contents, self.store, view):
            found = encoded.keys.to_pylist()
            if self.is_first:
                self.known.add(name, found, [[None] * len(self.known.others(name))] * len(found))
                self.changes.add(writes(encoded, until=until, expire=expire), name, "written")
                progress.add(len(encoded))
                continue
            different, others = differences(self.online, encoded, self.known.times_of_others(name))
            self.known.add(name, found, others)
            self.no_hash += [found[d.position] for d in different if d.online[0] is NO_HASH]
            ours = [d.position for d in different if d.event_us is None or d.event_us <= until]
            newer = sorted({d.position for d in different}.difference(ours))
            losses.add(encoded, (d for d in different if d.event_us is None or d.event_us <= until))
            counts.unchanged += len(encoded) - len(different)
            if expire is None and not self.intact:
                wrong = {d.position for d in different}
                self.online.keep([found[position] for position in wrong])
                kept = self.online.keep([key for position, key in enumerate(found) if position not in wrong])
                counts.written, counts.unchanged = counts.written + kept, counts.unchanged - kept
            counts.left += len(newer)
            rows = taken(encoded, ours)
            self.changes.add(writes(rows, until=until, gone=gone, expire=expire), name, "written")
            if retyped:
                self.changes.add(removals([found[position] for position in newer], None, retyped))
            progress.add(len(encoded))
        self.now[name]["entities"] = self.known.count(name)

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
        for left in leftovers(self.online, self.name, self.known, thorough=thorough, others=others):
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
