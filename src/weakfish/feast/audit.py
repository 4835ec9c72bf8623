"""What an audit finds of one view: rows and values by kind, the first keys of each, the rows that plain Feast read."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from zlib import crc32

from weakfish.feast.adapter import plain_store

import pyarrow as pa
import redis
from feast import FeatureStore, FeatureView, RepoConfig
from feast.feature_view import DUMMY_ENTITY_ID, DUMMY_ENTITY_VAL
from feast.infra.key_encoding_utils import deserialize_entity_key
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.type_map import python_values_to_proto_values

from weakfish.contracts.publications import Marker
from weakfish.contracts.record import EVENT_TIMESTAMP
from weakfish.feast.clients import retried
from weakfish.feast.diff import Difference, Known, Layout, Online, differences, leftovers
from weakfish.feast.probe import Receipt, event_time
from weakfish.feast.publication import Contents, batches
from weakfish.feast.registry import quiet, views
from weakfish.project.runs import Progress

FIRST = 5
"""Keys of each kind that are named, the smallest first."""

SAMPLE = 100
"""Rows of each view that plain Feast reads too, and that the probe looks for: those of the smallest checksums."""

BAD = ("missing", "stale", "different", "unexpected")
KINDS = ("equal", *BAD, "newer")
TIMES = "event_timestamp"
"""What the times of a row, event and created, are called among its features."""


class Findings:
    """What was found of one view."""

    def __init__(self, project: str, features: Sequence[str]) -> None:
        self.project = project.encode()
        self.rows: Counter[str] = Counter()
        self.features = {name: Counter[str]() for name in (TIMES, *features)}
        self._first: dict[tuple[str | None, str], list[bytes]] = {}
        self._sample: list[tuple[int, bytes]] = []
        self._sampled: set[bytes] = set()
        self._otherwise: set[bytes] = set()

    def count_row(self, kind: str, key: bytes) -> None:
        """Count a row of a kind."""
        self.rows[kind] += 1
        self._remember(None, kind, key)

    def count_feature(self, feature: str, kind: str, key: bytes) -> None:
        """Count a value of a kind in a row that is not equal."""
        self.features[feature][kind] += 1
        self._remember(feature, kind, key)

    def sample(self, keys: Iterable[bytes]) -> list[int]:
        """Look at keys of equal rows; returns the positions of those that are in the sample so far."""
        fresh = [(crc32(key), key, position) for position, key in enumerate(keys)]
        best = heapq.nsmallest(SAMPLE, [*((sum_, key, -1) for sum_, key in self._sample), *fresh])
        self._sample = [(sum_, key) for sum_, key, _ in best]
        return [position for _, _, position in best if position >= 0]

    def read_otherwise(self, keys: Iterable[bytes], otherwise: Iterable[bytes]) -> None:
        """Take what plain Feast made of rows of the sample."""
        self._sampled.update(keys)
        self._otherwise.update(otherwise)

    def kept(self) -> list[bytes]:
        """The keys of the sample."""
        return [key for _, key in self._sample]

    def is_bad(self) -> bool:
        """Whether anything is not as it is to be."""
        return any(self.rows[kind] for kind in BAD) or bool(self._otherwise)

    def result(self) -> dict[str, Any]:
        """The result as JSON."""
        features: dict[str, dict[str, Any]] = {}
        for name, counts in self.features.items():
            every = counts + Counter(equal=self.rows["equal"])
            first = self._named(name)
            features[name] = {kind: every[kind] for kind in KINDS if every[kind]}
            features[name] |= {"first": first} if first else {}
        return {
            "rows": {kind: self.rows[kind] for kind in KINDS},
            "features": features,
            "first": self._named(None),
            "sample": {
                "rows": len(self._sampled),
                "different": len(self._otherwise),
                "first": [self._entity(key) for key in sorted(self._otherwise)[:FIRST]],
            },
        }

    def _remember(self, feature: str | None, kind: str, key: bytes) -> None:
        first = self._first.setdefault((feature, kind), [])
        if kind != "equal" and (len(first) < FIRST or key < first[-1]):
            first.append(key)
            first.sort()
            del first[FIRST:]

    def _named(self, feature: str | None) -> dict[str, list[dict[str, Any]]]:
        found = {kind: first for (name, kind), first in self._first.items() if name == feature and first}
        return {kind: [self._entity(key) for key in first] for kind, first in found.items()}

    def _entity(self, key: bytes) -> dict[str, Any]:
        entity = deserialize_entity_key(key.removesuffix(self.project), 3)
        values = (getattr(value, str(value.WhichOneof("val"))) for value in entity.entity_values)
        plain = (value.hex() if isinstance(value, bytes) else value for value in values)
        return dict(zip(entity.join_keys, plain, strict=True))


def entity(found: dict[str, Any]) -> str:
    """An entity by its join keys."""
    return ", ".join(f"{key}={value}" for key, value in found.items())


CLOSE = timedelta(microseconds=1)
"""How far Feast's reading of an event time may be off: it makes a float of it."""


def differing(client: redis.Redis, config: RepoConfig, view: FeatureView, rows: pa.RecordBatch) -> list[int]:
    """Positions of rows that plain Feast's reader does not return as the table has them."""
    names = [feature.name for feature in view.features]
    expected = {feature.name: _protos(rows, feature) for feature in view.features}
    times = [time.astimezone(UTC) for time in rows.column(EVENT_TIMESTAMP).to_pylist()]
    found = _read(client, config, view, rows, names)
    return [
        position
        for position, (time, values) in enumerate(found)
        if not _is_time(time, times[position])
        or values is None
        or any(not _is_same(values[name], expected[name][position]) for name in names)
    ]


def _read(client: redis.Redis, config: RepoConfig, view: FeatureView, rows: pa.RecordBatch, names: list[str]) -> Any:
    columns = [field for field in view.entity_columns if field.name != DUMMY_ENTITY_ID]
    values = zip(*(_protos(rows, column) for column in columns), strict=True)
    entities = [EntityKey(join_keys=[column.name for column in columns], entity_values=row) for row in values]
    if not columns:
        nobody = EntityKey(join_keys=[DUMMY_ENTITY_ID], entity_values=[Value(string_val=DUMMY_ENTITY_VAL)])
        entities = [nobody] * rows.num_rows
    return plain_store(client).online_read(config, view, entities, list(names))


def _protos(rows: pa.RecordBatch, field: Any) -> list[Value]:
    values = rows.column(field.name).to_numpy(zero_copy_only=False)
    with quiet():
        found: list[Value] = python_values_to_proto_values(values, field.dtype.to_value_type())
    return found


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


def audit(contents: Contents, client: redis.Redis, store: FeatureStore, marker: Marker, name: str) -> Receipt:
    """Compare all that is online with the tables as of the publication.

    The result, `Receipt.audit`, is ``{"passed": bool, "views": {view: {"rows": counts, "features": {feature: counts},
    "first": {kind: [entity]}, "sample": {"rows": int, "different": int, "first": [entity]}}}}``: counts by kind, an
    entity being its join keys. A feature that is not all equal names its ``first`` too.

    Raises
    ------
    StoreError, redis.RedisError
        When the store cannot be read.
    TableError
        When a feature table cannot.
    """
    served = [view for view in views(store) if view.name in marker.views]
    layouts = {str(view.name): Layout.of(view.name, marker.views[view.name]) for view in served}
    online, known, found = Online(client), Known(layouts, layouts), {}
    for view in served:
        found[str(view.name)] = _view(contents, online, store, marker, view, known)
    for left in leftovers(online, name, known, thorough=False):
        for view in left.rows:
            until = marker.until(view)
            ((stamp,),) = online.rows([left.key], layouts[view].fields[:1])
            time = event_time(stamp) if stamp is not None else None
            kind = "newer" if time is not None and until is not None and time > until else "unexpected"
            found[view].count_row(kind, left.key)
    result = {view: each.result() for view, each in found.items()}
    passed = all(not each.is_bad() for each in found.values())
    return Receipt(
        marker.version,
        marker.digest(),
        {"passed": passed, "views": result},
        {v: each.kept() for v, each in found.items()},
    )


def failure(receipt: Receipt) -> str | None:
    """What an audit found, in a sentence; None when it passed."""
    if receipt.passed:
        return None
    said = []
    for view, found in receipt.audit["views"].items():
        counts = [f"{found['rows'][kind]:,} {kind}" for kind in BAD if found["rows"].get(kind)]
        if found["sample"]["different"]:
            counts.append(f"{found['sample']['different']:,} read otherwise by plain Feast")
        first = next((keys[0] for kind in BAD if (keys := found["first"].get(kind))), None)
        first = first or next(iter(found["sample"]["first"]), None)
        if counts:
            said.append(f"{view} has {', '.join(counts)} (first: {entity(first or {})})")
    return (
        f"The online store does not hold what the feature tables say: {'; '.join(said)}; run `weakfish publish`, which "
        "writes these rows again, and see reports/publish.json."
    )


def _view(
    contents: Contents, online: Online, store: FeatureStore, marker: Marker, view: FeatureView, known: Known
) -> Findings:
    content = marker.views[view.name]
    features = [feature.name for feature in view.features]
    found, until = Findings(store.project, features), marker.until(view.name)
    progress = Progress(f"audit {view.name}, rows", content.get("entities"))
    for batch, encoded in batches(contents, store, view):
        keys = encoded.keys.to_pylist()
        different, others = differences(online, encoded, known.times_of_others(view.name))
        known.add(view.name, keys, others)
        for difference in different:
            key = keys[difference.position]
            kind, kinds = _kinds(difference, int(encoded.event_us[difference.position]), until)
            found.count_row(kind, key)
            for feature, one in zip((TIMES, *features), kinds, strict=True):
                found.count_feature(feature, one, key)
        wrong = {difference.position for difference in different}
        same = [position for position in range(len(encoded)) if position not in wrong]
        found.rows["equal"] += len(same)
        sampled = [same[place] for place in found.sample(keys[position] for position in same)]
        _read_by_feast(
            found, online.client, store, view, batch.take(pa.array(sampled, pa.int64())), [keys[p] for p in sampled]
        )
        progress.add(len(encoded))
    return found


def _read_by_feast(
    found: Findings, client: redis.Redis, store: FeatureStore, view: FeatureView, batch: Any, keys: Sequence[bytes]
) -> None:
    """Let plain Feast read rows of the sample."""
    if keys:
        otherwise = retried(lambda: differing(client, store.config, view, batch))
        found.read_otherwise(keys, (keys[position] for position in otherwise))


def _kinds(difference: Difference, expected: int, until: int | None) -> tuple[str, Iterator[str]]:
    """The kind of a row that is not equal, and those of its times and features."""
    time = difference.event_us
    if difference.is_missing:
        whole = "missing"
    elif time is None or time == expected:
        return _by_value(difference)
    elif until is not None and time > until:
        whole = "newer"
    else:
        whole = "stale" if time < expected else "different"
    return whole, iter([whole] * (len(difference.online) - 1))


def _by_value(difference: Difference) -> tuple[str, Iterator[str]]:
    online, offline = difference.online, difference.offline
    kinds = ["equal" if tuple(online[:2]) == tuple(offline[:2]) else "different"]
    pairs = zip(online[2:], offline[2:], strict=True)
    kinds += ["equal" if there == here else "missing" if there is None else "different" for there, here in pairs]
    return ("different" if "different" in kinds else "missing"), iter(kinds)
