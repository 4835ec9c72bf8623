"""What an audit finds of one view: rows and values by kind, the first keys of each, the rows that plain Feast read."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any
from zlib import crc32

from feast.infra.key_encoding_utils import deserialize_entity_key

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
