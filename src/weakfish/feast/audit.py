"""The audit: all that is online compared with the feature tables, and a sample of it read by plain Feast too."""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
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
from weakfish.feast.clients import retried
from weakfish.feast.diff import Difference, KnownKeys, Layout, Online, differences, leftovers
from weakfish.feast.encoding import entity_of
from weakfish.feast.probe import BAD, BETWEEN, EXPIRING, event_time, fingerprint, share_of
from weakfish.feast.publication import Contents, batches
from weakfish.feast.registry import quiet, views
from weakfish.project.runs import Progress

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
    served = [view for view in views(store) if view.name in marker.views]
    layouts = {str(view.name): Layout.of(view.name, marker.views[view.name]) for view in served}
    online, known, found = Online(client), KnownKeys(layouts, layouts), {}
    for view in served:
        found[str(view.name)] = _view(contents, online, store, marker, view, known)
    for left in leftovers(online, name, known, thorough=False):
        for view in left.rows:
            until = marker.until(view)
            ((stamp,),) = online.rows([left.key], layouts[view].fields[:1])
            time = event_time(stamp) if stamp is not None else None
            kind = "newer" if time is not None and until is not None and time > until else "unexpected"
            found[view].count(None, kind, left.key)
    result = {view: each.result() for view, each in found.items()}
    for view, content in marker.views.items():
        if view in result and "emptied" in content:
            result[view]["emptied"] = content["emptied"]
    passed = not any(of["sample"]["different"] or any(of["rows"].get(kind) for kind in BAD) for of in result.values())
    sample = {view: [key for _, key in each.sample] for view, each in found.items()}
    shares = {view: each.shares for view, each in found.items()}
    return Receipt(marker.version, marker.digest(), {"passed": passed, "views": result}, sample, shares)


class Findings:
    """What was found of one view.

    Attributes
    ----------
    sample : list of tuple
        The checksums and keys of the rows that plain Feast reads too.
    shares : list of int
        By share, the sum of the fingerprints of rows that are equal.
    otherwise : set of bytes
        The keys that plain Feast read otherwise than the table has them. It reads more rows than those of the sample,
        how many depends on their order; of those that are equal only the sample counts, so that audits repeat.
    """

    def __init__(self, project: str, features: Sequence[str]) -> None:
        self.counts = {name: Counter[str]() for name in (None, TIMES, *features)}
        self.sample: list[tuple[int, bytes]] = []
        self.otherwise: set[bytes] = set()
        self.shares = [0] * SHARES
        self._project = project
        self._first: dict[tuple[str | None, str], list[bytes]] = defaultdict(list)

    def count(self, feature: str | None, kind: str, key: bytes) -> None:
        """Count a row of a kind, or with a ``feature`` its value in a row that is not equal."""
        self.counts[feature][kind] += 1
        first = self._first[feature, kind]
        if kind != "equal" and (len(first) < FIRST or key < first[-1]):
            first.append(key)
            first.sort()
            del first[FIRST:]

    def take(self, keys: Iterable[bytes]) -> list[int]:
        """Look at keys of equal rows; returns the positions of those that are in the sample so far."""
        fresh = [(crc32(key), key, position) for position, key in enumerate(keys)]
        best = heapq.nsmallest(SAMPLE, [*((checksum, key, -1) for checksum, key in self.sample), *fresh])
        self.sample = [(checksum, key) for checksum, key, _ in best]
        return [position for _, _, position in best if position >= 0]

    def result(self) -> dict[str, Any]:
        """The result as JSON."""
        rows, features = self.counts[None], {}
        for name, counts in self.counts.items():
            if name is not None:
                every, first = counts + Counter(equal=rows["equal"]), self._named(name)
                features[name] = {kind: every[kind] for kind in KINDS if every[kind]} | (
                    {"first": first} if first else {}
                )
        read = self.otherwise.union(key for _, key in self.sample)
        otherwise = [entity_of(key, self._project) for key in sorted(self.otherwise)[:FIRST]]
        return {
            "rows": {kind: rows[kind] for kind in KINDS if rows[kind] or kind != EXPIRING},
            "features": features,
            "first": self._named(None),
            "sample": {"rows": len(read), "different": len(self.otherwise), "first": otherwise},
        }

    def _named(self, feature: str | None) -> dict[str, list[dict[str, Any]]]:
        return {
            kind: [entity_of(key, self._project) for key in first]
            for (name, kind), first in self._first.items()
            if name == feature and first
        }


def _view(
    contents: Contents, online: Online, store: FeatureStore, marker: Marker, view: FeatureView, known: KnownKeys
) -> Findings:
    features = [feature.name for feature in view.features]
    found, until = Findings(store.project, features), marker.until(view.name)
    lasting = store.config.online_store.key_ttl_seconds is None
    progress = Progress(f"audit {view.name}, rows", marker.views[view.name].get("entities"))
    for batch, encoded in batches(contents, store, view):
        keys = encoded.keys.to_pylist()
        different, others = differences(online, encoded, known.times_of_others(view.name))
        known.add(view.name, keys, others)
        for difference in different:
            key = keys[difference.position]
            kind, kinds = _kinds(difference, int(encoded.event_us[difference.position]), until)
            found.count(None, kind, key)
            for feature, one in zip((TIMES, *features), kinds, strict=True):
                found.count(feature, one, key)
        wrong = {difference.position for difference in different}
        for position, is_expiring in enumerate(online.expiring(keys) if lasting else ()):
            if is_expiring and position not in wrong:
                wrong.add(position)
                for feature, kind in ((None, EXPIRING), (TIMES, "equal"), *((each, "equal") for each in features)):
                    found.count(feature, kind, keys[position])
        same = [position for position in range(len(encoded)) if position not in wrong]
        found.counts[None]["equal"] += len(same)
        whole = pc.binary_join_element_wise(*encoded.fields().values(), BETWEEN).to_pylist()
        for position in same:
            found.shares[share_of(keys[position])] += fingerprint(keys[position], whole[position])
        sampled = [same[place] for place in found.take(keys[position] for position in same)]
        if sampled:
            rows = batch.take(pa.array(sampled, pa.int64()))
            otherwise = retried(partial(differing, online.client, store.config, view, rows))
            found.otherwise.update(keys[sampled[place]] for place in otherwise)
        progress.add(len(encoded))
    return found


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
