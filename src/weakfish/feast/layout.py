"""How Feast lays rows out in Redis, with no need of Feast itself, so that a probe stays fast.

A key is Feast's entity key (serialization version 3) followed by the project's name; a hash below it holds a field per
view and feature, and two of times per view. The project is told by parsing the key: names may end in one another.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

import redis

from weakfish.feast.key_ranges import EntityKeys

STRING = 2
BATCH = 1_000


def marker(project: str) -> str:
    """The key of what was published last; its braces put it into one slot of a cluster with the project's lock."""
    return f"weakfish:publish:{{{project}}}"


def lock(project: str) -> str:
    """The key that a publisher holds while it works."""
    return f"weakfish:publishing:{{{project}}}"


def time_field(view: str) -> bytes:
    """The field that holds the event time of a view's row."""
    return f"_ts:{view}".encode()


def created_field(view: str) -> bytes:
    """The field that holds a view's row's event time and created time, each 8 bytes: ours, unknown to Feast."""
    return f"_created:{view}".encode()


def fields(view: str, features: Iterable[str]) -> Iterator[bytes]:
    """The fields of a view's row, its times included."""
    yield time_field(view)
    yield created_field(view)
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


def scanned(client: redis.Redis, project: str, wanted: Callable[[bytes], bool] = lambda key: True) -> Iterator[bytes]:
    """All entity keys of a project that are wanted, as they are found: some may come twice."""
    for key in client.scan_iter(match=b"*" + _literally(project.encode()), count=10_000):
        if wanted(key) and join_keys(key, project) is not None:
            yield key


def of_project(
    client: redis.Redis, project: str, wanted: Callable[[bytes], bool] = lambda key: True
) -> Iterator[bytes]:
    """All entity keys of a project that are wanted, each once; all are found before the first comes."""
    for _, found in EntityKeys(scanned(client, project, wanted)).groups():
        yield from found


def is_of_other_type(answer: object) -> bool:
    """Whether Redis answers that a key holds another type than the command is for."""
    return isinstance(answer, Exception) and str(answer).startswith("WRONGTYPE")


def answers(found: Iterable[Any], of_other_type: Any = None) -> list[Any]:
    """The answers of a pipeline that does not raise; raises the first error but that a key holds another type."""
    kept = []
    for answer in found:
        if isinstance(answer, Exception) and not is_of_other_type(answer):
            raise answer
        kept.append(of_other_type if isinstance(answer, Exception) else answer)
    return kept


NO_TEXT = b"\xff"
"""What stands for the text of a key that holds something else."""


def text(client: redis.Redis, key: str) -> bytes | None:
    """The text that a key holds; None where there is no such key, `NO_TEXT` where it holds something else."""
    try:
        found = client.get(key)
    except redis.ResponseError as error:
        if is_of_other_type(error):
            return NO_TEXT
        raise
    return found if isinstance(found, bytes) else None


def is_cluster(client: object) -> bool:
    """Whether a client talks to a Redis Cluster, where a key lives on the node of its slot."""
    return isinstance(client, redis.RedisCluster)


def records(client: redis.Redis, project: str) -> Iterator[bytes]:
    """All keys that Weakfish itself keeps of a project: its marker and what belongs to it, but not the lock."""
    ending = f":{{{project}}}".encode()
    held = lock(project).encode()
    for key in client.scan_iter(match=b"weakfish:*" + _literally(ending) + b"*", count=10_000):
        tail = key.partition(ending)[2]
        if key != held and (not tail or tail.startswith(b":")):
            yield key


def size(client: redis.Redis) -> int:
    """How many keys a store holds, whosever they are; on a cluster, of all primaries (the client asks just one)."""
    return int(client.dbsize(target_nodes="primaries") if is_cluster(client) else client.dbsize())


def batches(keys: Iterable[bytes], size: int = BATCH) -> Iterator[list[bytes]]:
    """Keys in lists of at most ``size``."""
    rest = iter(keys)
    while batch := list(islice(rest, size)):
        yield batch


def _literally(name: bytes) -> bytes:
    """A name as a pattern that matches just it."""
    return re.sub(rb"[*?\[\]\\^]", rb"\\\g<0>", name)
