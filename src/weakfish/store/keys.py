"""How Feast lays rows out in Redis, with no need of Feast itself, so that a probe stays fast.

A key is Feast's entity key (serialization version 3) followed by the project's name; a hash below it holds a field per
view and feature, and a time per view. The project is told by parsing the key: names may end in one another.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from itertools import islice

import redis

STRING = 2
BATCH = 1_000


def marker(project: str) -> str:
    """The key of what was published last."""
    return f"weakfish:publish:{project}"


def lock(project: str) -> str:
    """The key that a publisher holds while it works."""
    return f"weakfish:publishing:{project}"


def time_field(view: str) -> bytes:
    """The field that holds the event time of a view's row."""
    return f"_ts:{view}".encode()


def fields(view: str, features: Iterable[str]) -> Iterator[bytes]:
    """The fields of a view's row, its time included."""
    yield time_field(view)
    for feature in features:
        yield feature_field(view, feature)


def feature_field(view: str, feature: str) -> bytes:
    """The field that holds a feature's value."""
    import mmh3

    return struct.pack("<I", mmh3.hash(f"{view}:{feature}", signed=False))


def join_keys(key: bytes, project: str) -> tuple[str, ...] | None:
    """The join keys of one of a project's entity keys, sorted; None when the key is not the project's."""
    try:
        (count,) = struct.unpack_from("<I", key)
        names, position = [], 4
        for number in range(2 * count):
            kind, length = struct.unpack_from("<II", key, position)
            start, position = position + 8, position + 8 + length
            if position > len(key):
                return None
            if number < count:
                if kind != STRING:
                    return None
                names.append(key[start:position].decode())
    except (struct.error, UnicodeDecodeError):
        return None
    return tuple(names) if names and key[position:] == project.encode() else None


def of_project(client: redis.Redis, project: str) -> Iterator[bytes]:
    """All entity keys of a project, each once."""
    seen: set[bytes] = set()
    for key in client.scan_iter(match=b"*" + _literally(project.encode()), count=10_000):
        if key not in seen and join_keys(key, project) is not None:
            seen.add(key)
            yield key


def batches(keys: Iterable[bytes], size: int = BATCH) -> Iterator[list[bytes]]:
    """Keys in lists of at most ``size``."""
    rest = iter(keys)
    while batch := list(islice(rest, size)):
        yield batch


def _literally(name: bytes) -> bytes:
    """A name as a pattern that matches just it."""
    return b"".join(b"\\" + bytes([byte]) if byte in b"*?[]\\^" else bytes([byte]) for byte in name)
