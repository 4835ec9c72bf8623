"""What a publication changes in Redis: rows over old rows, then away with what is gone, then the marker, all at once.

Up to `LIMIT` rows go in one transaction: every command of a reader sees all of the old or all of the new, and a
publisher that is killed, or a server out of memory, changes nothing. Larger publications go in transactions of that
size, under a marker that says so; each row is still old or new as a whole, and the next publication repairs one that
was cut off.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import redis
from feast import FeatureView, RepoConfig
from feast.infra.key_encoding_utils import serialize_entity_key
from google.protobuf.timestamp_pb2 import Timestamp

from weakfish.store import keys
from weakfish.store.claim import Claim
from weakfish.store.online.store import Rows
from weakfish.store.probe import UNDER_WAY, Marker

LIMIT = 10_000


class Transaction:
    """Collects changes; ``commit`` makes them. Row values are overwritten whatever their event times are.

    Feast itself skips a row whose event time is not newer than the stored one, so corrections would never arrive.
    """

    def __init__(self, client: redis.Redis, name: str, claim: Claim) -> None:
        self.client, self.name, self.claim = client, name, claim
        self.written: dict[str, set[bytes]] = defaultdict(set)
        self._sets: list[tuple[bytes, dict[bytes, bytes]]] = []
        self._deletes: list[tuple[bytes, list[bytes]]] = []

    def add(self, config: RepoConfig, view: FeatureView, rows: Rows) -> None:
        """Take rows as Feast's engine hands them out: entity key, values, event time, created time."""
        names = {feature.name: keys.feature_field(view.name, feature.name) for feature in view.features}
        for entity, values, time, _ in rows:
            key = serialize_entity_key(entity, config.entity_key_serialization_version) + self.name.encode()
            stamp = Timestamp()
            stamp.FromDatetime(time)
            row = {names[name]: value.SerializeToString() for name, value in values.items()}
            self._sets.append((key, {keys.time_field(view.name): stamp.SerializeToString(), **row}))
            self.written[view.name].add(key)
            self._flush_if_full()

    def remove_all_but(self, views: Sequence[FeatureView], kept: Iterable[str]) -> None:
        """Delete every field of the project that belongs to no view, or to a row that a view no longer has.

        ``kept`` are the views whose rows stand as they are; of all others, only rows added here stay.
        """
        unchanged = set(kept)
        layout = [
            (view.name, tuple(sorted(view.join_keys)), set(keys.fields(view.name, (f.name for f in view.features))))
            for view in views
        ]
        for batch in keys.batches(keys.of_project(self.client, self.name)):
            with self.client.pipeline(transaction=False) as pipe:
                for key in batch:
                    pipe.hkeys(key)
                present = pipe.execute()
            for key, found in zip(batch, present, strict=True):
                kind = keys.join_keys(key, self.name)
                expected: set[bytes] = set()
                for view, join_keys, names in layout:
                    if join_keys == kind and (view in unchanged or key in self.written[view]):
                        expected |= names
                gone = sorted(set(found) - expected)
                if gone:
                    self._deletes.append((key, gone))
                    self._flush_if_full()

    def commit(self, marker: Marker) -> None:
        """Make all that is left to change, and say in the store what it now holds."""
        self._execute(marker)

    def _flush_if_full(self) -> None:
        if len(self._sets) + len(self._deletes) >= LIMIT:
            self._execute(Marker(UNDER_WAY, ""))

    def _execute(self, marker: Marker) -> None:
        with self.claim.writing, self.client.pipeline(transaction=True) as pipe:
            self.claim.check(pipe)
            pipe.multi()
            for key, row in self._sets:
                pipe.hset(key, mapping=_any(row))
            for key, names in self._deletes:
                pipe.hdel(key, *names)
            pipe.set(keys.marker(self.name), marker.text())
            pipe.execute()
        self._sets, self._deletes = [], []


def _any(row: dict[bytes, bytes]) -> Any:
    """The row as redis-py's types want it."""
    return row
