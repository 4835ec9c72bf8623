"""The audit: all that is online compared with the feature tables, and a sample of it read by plain Feast too."""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

from weakfish.feast.adapter import plain_store

import pyarrow as pa
import pyarrow.compute as pc
import redis
from feast import FeatureStore, FeatureView, RepoConfig
from feast.feature_view import DUMMY_ENTITY_ID, DUMMY_ENTITY_VAL
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.type_map import python_values_to_proto_values

from weakfish.contracts.publications import SHARES, Marker, Receipt
from weakfish.contracts.record import EVENT_TIMESTAMP
from weakfish.engine import fleet
from weakfish.feast import searching, server
from weakfish.feast.clients import retried
from weakfish.feast.contents import Contents
from weakfish.feast.diff import (
    Difference,
    Hashes,
    KeySearch,
    KnownKeys,
    Layout,
    Online,
    differences,
    hashes_in,
    keep_hashes,
    keys_and_others,
)
from weakfish.feast.encoding import Encoded, entity_of
from weakfish.feast.executors import reach, reached
from weakfish.feast.latest_rows import LatestRows, is_spread, shards
from weakfish.feast.probe import BAD, BETWEEN, EXPIRING, event_time, fingerprint, share_of
from weakfish.feast.registry import quiet, views
from weakfish.files import whole_file
from weakfish.project.paths import Project
from weakfish.project.runs import Progress, temporary_folder

FIRST = 5
"""Keys of each kind that are named, the smallest first."""

SAMPLE = 100
"""Rows of each view that plain Feast reads too, and that the probe looks for: those of the smallest checksums."""

KINDS = ("equal", *BAD, "newer")
TIMES = "event_timestamp"
"""What the times of a row, event and created, are called among its features."""

CLOSE = timedelta(microseconds=1)
"""How far Feast's reading of an event time may be off: it makes a float of it."""


def audit(contents: Contents, client: redis.Redis, store: FeatureStore, marker: Marker, name: str) -> Receipt:
    """Compare all that is online with the tables as of the publication.

    The result, `Receipt.audit`, is ``{"passed": bool, "views": {view: {"rows": counts, "features": {feature: counts},
    "first": {kind: [entity]}, "sample": {"rows": int, "different": int, "first": [entity]}}}}``: counts by kind, an
    entity being its join keys. A feature that is not all equal names its ``first`` too. What most entities lost since
    the publication before is under ``emptied``, as `weakfish.contracts.publications.Emptied`.

    Raises
    ------
    StoreError, redis.RedisError
        When the store cannot be read.
    TableError
        When a feature table cannot.
    """
    with ExitStack() as stack:
        found = _Audit(contents, client, store, marker, name, stack).run()
    result = {view: each.result() for view, each in found.items()}
    for view, content in marker.views.items():
        if view in result and "emptied" in content:
            result[view]["emptied"] = content["emptied"]
    passed = not any(of["sample"]["different"] or any(of["rows"].get(kind) for kind in BAD) for of in result.values())
    sample = {view: [row.key for row in each.sample] for view, each in found.items()}
    shares = {view: each.shares for view, each in found.items()}
    return Receipt(marker.version, marker.digest(), {"passed": passed, "views": result}, sample, shares)


class _Audit:
    """The state of one audit: what is known of keys, and how workers reach the store where they do the work."""

    def __init__(
        self,
        contents: Contents,
        client: redis.Redis,
        store: FeatureStore,
        marker: Marker,
        name: str,
        stack: ExitStack,
    ) -> None:
        self.contents, self.store, self.marker, self.name = contents, store, marker, name
        self.served = [view for view in views(store) if view.name in marker.views]
        self.layouts = {str(view.name): Layout.of(view.name, marker.views[view.name]) for view in self.served}
        self.online, self.known = Online(client), KnownKeys(self.layouts, self.layouts)
        self.reach: dict[str, Any] | None = None
        self.folder = Path()
        if is_spread(contents.project, sum(marker.views[view]["rows"] for view in self.layouts)):
            self.reach = reach(server.resolve(contents.project))
            self.folder = stack.enter_context(temporary_folder(contents.project.temporary, "audit"))

    def run(self) -> dict[str, Findings]:
        """What is found, by view."""
        found = {str(view.name): self._spread(view) if self.reach else self._here(view) for view in self.served}
        for view in self.served:
            found[str(view.name)].read_by_feast(self.online.client, self._rows(view))
        search, layouts = KeySearch(self.name, thorough=False), self.layouts
        project, home = self.contents.project, self.folder / "left"
        for left in searching.found(project, self.online, self.known, search, self.reach, home):
            for view in left.rows:
                until = self.marker.until(view)
                ((stamp,),) = self.online.rows([left.key], layouts[view].fields[:1])
                time = event_time(stamp) if stamp is not None else None
                kind = "newer" if time is not None and until is not None and time > until else "unexpected"
                found[view].count(None, kind, left.key)
        return found

    def _rows(self, view: FeatureView) -> LatestRows:
        return LatestRows(view, self.store.config, self.contents.as_of)

    def _asked(self, view: FeatureView) -> AuditQuestion:
        others = self.known.times_of_others(view.name)
        return AuditQuestion(
            self.marker.until(view.name), self.store.config.online_store.key_ttl_seconds is None, others
        )

    def _here(self, view: FeatureView) -> Findings:
        found, asked = Findings(self.name, [feature.name for feature in view.features]), self._asked(view)
        progress = Progress(f"audit {view.name}, rows", self.marker.views[view.name].get("entities"))
        for batch, encoded in self._rows(view).batches():
            own, others = found.look(self.online, asked, batch, encoded)
            self.known.take(view.name, own, others)
            progress.add(len(encoded))
        return found

    def _spread(self, view: FeatureView) -> Findings:
        """Let workers look, shard by shard."""
        found, rows = Findings(self.name, [feature.name for feature in view.features]), self._rows(view)
        project, home = self.contents.project, self.folder / str(len(list(self.folder.iterdir())))
        stored = self.marker.views[view.name]["rows"]
        common = {"rows": rows.packed(), "asked": self._asked(view).packed(), "store": self.reach, "name": self.name}
        made = shards(self.contents, rows, stored, home, "audit")
        items = [{**common, "shard": shard, "to": f"{shard}.found"} for shard in made]
        for place, receipt in fleet.run(project, f"{__name__}:looked", items, f"audit: shards of {view.name}"):
            to = project.root / f"{made[place]}.found"
            if receipt["any"]:
                own, *others = hashes_in(to.with_name(f"{to.name}.keys.npz"))
                self.known.take(view.name, own, others)
            found.merge(receipt, to)
        return found


@dataclass(frozen=True)
class AuditQuestion:
    """What an audit wants to know of a view's rows.

    Attributes
    ----------
    until : int or None
        Microseconds since 1970 after which rows online are a service's.
    lasting : bool
        Whether no key is to expire.
    others : sequence of bytes
        Fields to be read along, by which `KnownKeys` learns of other views' rows.
    """

    until: int | None
    lasting: bool
    others: Sequence[bytes]

    def packed(self) -> dict[str, Any]:
        """The question as an item has it."""
        return {**vars(self), "others": [field.hex() for field in self.others]}


class Sampled(NamedTuple):
    """A row of the sample; those of the smallest checksums are in it."""

    checksum: int
    key: bytes
    row: pa.RecordBatch


class Findings:
    """What was found of one view.

    Attributes
    ----------
    sample : list of Sampled
        The rows that plain Feast reads too.
    shares : list of int
        By share, the sum of the fingerprints of rows that are equal.
    otherwise : list of bytes
        The keys that plain Feast read otherwise than the table has them.
    """

    def __init__(self, project: str, features: Sequence[str]) -> None:
        self.counts = {name: Counter[str]() for name in (None, TIMES, *features)}
        self.sample: list[Sampled] = []
        self.otherwise: list[bytes] = []
        self.shares = [0] * SHARES
        self._project, self._features = project, features
        self._first: dict[tuple[str | None, str], list[bytes]] = defaultdict(list)

    def count(self, feature: str | None, kind: str, key: bytes) -> None:
        """Count a row of a kind, or with a ``feature`` its value in a row that is not equal."""
        self.counts[feature][kind] += 1
        if kind != "equal":
            self._name(feature, kind, key)

    def _name(self, feature: str | None, kind: str, key: bytes) -> None:
        first = self._first[feature, kind]
        if len(first) < FIRST or key < first[-1]:
            first.append(key)
            first.sort()
            del first[FIRST:]

    def look(
        self, online: Online, asked: AuditQuestion, batch: pa.RecordBatch, encoded: Encoded
    ) -> tuple[Hashes, list[Hashes]]:
        """Compare a batch with the store; returns what `KnownKeys.take` takes."""
        keys = encoded.keys.to_pylist()
        different, others = differences(online, encoded, asked.others)
        for difference in different:
            key = keys[difference.position]
            kind, kinds = _kinds(difference, int(encoded.event_us[difference.position]), asked.until)
            self.count(None, kind, key)
            for feature, one in zip((TIMES, *self._features), kinds, strict=True):
                self.count(feature, one, key)
        wrong = {difference.position for difference in different}
        for position, is_expiring in enumerate(online.expiring(keys) if asked.lasting else ()):
            if is_expiring and position not in wrong:
                wrong.add(position)
                self.count(None, EXPIRING, keys[position])
                for feature in (TIMES, *self._features):
                    self.count(feature, "equal", keys[position])
        same = [position for position in range(len(encoded)) if position not in wrong]
        self.counts[None]["equal"] += len(same)
        whole = pc.binary_join_element_wise(*encoded.fields().values(), BETWEEN).to_pylist()
        for position in same:
            self.shares[share_of(keys[position])] += fingerprint(keys[position], whole[position])
        self._sample(batch, keys, same)
        return keys_and_others(keys, others, len(asked.others))

    def _sample(self, batch: pa.RecordBatch, keys: Sequence[bytes], same: Iterable[int]) -> None:
        """Take those of a batch's equal rows into the sample that have the smallest checksums so far."""
        fresh = heapq.nsmallest(SAMPLE, ((crc32(keys[position]), keys[position], position) for position in same))
        if len(self.sample) == SAMPLE:  # most batches have none
            last = self.sample[-1].checksum, self.sample[-1].key
            fresh = [each for each in fresh if each[:2] < last]
        rows = (Sampled(checksum, key, batch.take([position])) for checksum, key, position in fresh)
        self._among(rows)

    def _among(self, rows: Iterable[Sampled]) -> None:
        self.sample = heapq.nsmallest(SAMPLE, [*self.sample, *rows], key=lambda row: row[:2])

    def read_by_feast(self, client: redis.Redis, rows: LatestRows) -> None:
        """Let plain Feast read the sample."""
        if self.sample:
            batch = pa.Table.from_batches([row.row for row in self.sample]).combine_chunks().to_batches()[0]
            found = retried(partial(differing, client, rows.config, rows.view, batch))
            self.otherwise = [self.sample[place].key for place in found]

    def receipt(self, file: Path) -> dict[str, Any]:
        """What was found as a receipt, with the sample in a file."""
        if self.sample:
            with whole_file(file) as part, pa.ipc.new_stream(str(part), self.sample[0].row.schema) as writer:
                for row in self.sample:
                    writer.write_batch(row.row)
        return {
            "counts": [[name, dict(counts)] for name, counts in self.counts.items()],
            "first": [[*of, [key.hex() for key in first]] for of, first in self._first.items()],
            "sample": [[row.checksum, row.key.hex()] for row in self.sample],
            "shares": self.shares,
        }

    def merge(self, receipt: Mapping[str, Any], to: Path) -> None:
        """Add what a worker found."""
        for feature, counts in receipt["counts"]:
            self.counts[feature].update(counts)
        for feature, kind, first in receipt["first"]:
            for key in first:
                self._name(feature, kind, bytes.fromhex(key))
        self.shares = [mine + other for mine, other in zip(self.shares, receipt["shares"], strict=True)]
        if receipt["sample"]:
            with pa.ipc.open_stream(to) as reader:
                named = [(checksum, bytes.fromhex(key)) for checksum, key in receipt["sample"]]
                self._among([Sampled(*of, row) for of, row in zip(named, reader, strict=True)])

    def result(self) -> dict[str, Any]:
        """The result as JSON."""
        rows, features = self.counts[None], {}
        for name, counts in self.counts.items():
            if name is not None:
                every, first = counts + Counter(equal=rows["equal"]), self._named(name)
                features[name] = {kind: every[kind] for kind in KINDS if every[kind]} | (
                    {"first": first} if first else {}
                )
        otherwise = [entity_of(key, self._project) for key in sorted(self.otherwise)[:FIRST]]
        return {
            "rows": {kind: rows[kind] for kind in KINDS if rows[kind] or kind != EXPIRING},
            "features": features,
            "first": self._named(None),
            "sample": {"rows": len(self.sample), "different": len(self.otherwise), "first": otherwise},
        }

    def _named(self, feature: str | None) -> dict[str, list[dict[str, Any]]]:
        return {
            kind: [entity_of(key, self._project) for key in first]
            for (name, kind), first in self._first.items()
            if name == feature and first
        }


def looked(project: Project, item: fleet.Item) -> fleet.Receipt:
    """Look at a shard, wherever a worker is.

    Writes rows for the sample to the file ``to``, and what is known of all keys to ``<to>.keys.npz``.
    """
    rows = LatestRows.unpacked(project, item["rows"], item["shard"])
    others = [bytes.fromhex(field) for field in item["asked"]["others"]]
    asked, found = AuditQuestion(**{**item["asked"], "others": others}), list[tuple[Hashes, list[Hashes]]]()
    findings = Findings(item["name"], [feature.name for feature in rows.view.features])
    with reached(project, item) as client:
        online = Online(client)
        for batch, encoded in rows.batches():
            found.append(findings.look(online, asked, batch, encoded))
    to = project.root / item["to"]
    if found:
        keep_hashes(to.with_name(f"{to.name}.keys.npz"), found)
    return {**findings.receipt(to), "any": bool(found)}


def _kinds(difference: Difference, expected: int, until: int | None) -> tuple[str, Sequence[str]]:
    """The kind of a row that is not equal, and those of its times and features."""
    online, offline, time = difference.online, difference.offline, difference.event_us
    if not difference.is_missing and time in (None, expected):
        kinds = ["equal" if tuple(online[:2]) == tuple(offline[:2]) else "different"]
        pairs = zip(online[2:], offline[2:], strict=True)
        kinds += ["equal" if there == here else "missing" if there is None else "different" for there, here in pairs]
        return ("different" if "different" in kinds else "missing"), kinds
    if time is None:
        whole = "missing"
    elif until is not None and time > until:
        whole = "newer"
    else:
        whole = "stale" if time < expected else "different"
    return whole, [whole] * (len(online) - 1)


def differing(client: redis.Redis, config: RepoConfig, view: FeatureView, rows: pa.RecordBatch) -> list[int]:
    """Positions of rows that plain Feast's reader does not return as the table has them."""

    def protos(field: Any) -> list[Value]:
        values = rows.column(field.name).to_numpy(zero_copy_only=False)
        with quiet():
            found: list[Value] = python_values_to_proto_values(values, field.dtype.to_value_type())
        return found

    keys = [field for field in view.entity_columns if field.name != DUMMY_ENTITY_ID]
    columns, values = [field.name for field in keys], zip(*map(protos, keys), strict=True)
    entities = [EntityKey(join_keys=columns, entity_values=row) for row in values]
    if not keys:
        nobody = EntityKey(join_keys=[DUMMY_ENTITY_ID], entity_values=[Value(string_val=DUMMY_ENTITY_VAL)])
        entities = [nobody] * rows.num_rows
    expected = {feature.name: protos(feature) for feature in view.features}
    times = [time.astimezone(UTC) for time in rows.column(EVENT_TIMESTAMP).to_pylist()]
    found = plain_store(client).online_read(config, view, entities, list(expected))
    return [
        position
        for position, (time, features) in enumerate(found)
        if not _is_time(time, times[position])
        or features is None
        or any(not _is_same(features[name], of[position]) for name, of in expected.items())
    ]


def _is_time(found: datetime | None, expected: datetime) -> bool:
    return found is not None and abs(found - expected) <= CLOSE


def _is_same(found: Value, expected: Value) -> bool:
    """Equal, as bytes too, for NaN is not itself; the members of a set come in no order."""
    if found == expected or found.SerializeToString() == expected.SerializeToString():
        return True
    kind = found.WhichOneof("val")
    if kind is None or kind != expected.WhichOneof("val") or "set" not in kind:
        return False
    return sorted(getattr(found, kind).val) == sorted(getattr(expected, kind).val)
