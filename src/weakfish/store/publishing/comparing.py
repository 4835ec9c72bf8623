"""Rows as they are online beside rows as they are to be: encoded rows in, those that are not the same out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import redis

from weakfish.store import keys
from weakfish.store.online.encode import Encoded
from weakfish.store.online.exchange import Exchange, Want
from weakfish.store.publishing.patience import patiently
from weakfish.store.publishing.times import event_time

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
