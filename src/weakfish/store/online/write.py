"""Encoded rows into Redis by compare-and-set on the server: newer rows replace older ones, whoever writes last.

The newer event time wins; at equal event times the newer created time (unknown being the oldest), and of equals the
last written. A row changes in one step, all of its fields at once. Writing a row twice does no harm, so a run that
fails is simply repeated.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from weakfish.store import keys
from weakfish.store.online import wire
from weakfish.store.online.ahead import ahead
from weakfish.store.online.calls import Argument, Call, key_windows, packed, windows
from weakfish.store.online.encode import Encoded
from weakfish.store.online.script import REMOVE, write_script
from weakfish.store.online.sending import sent, sent_async


@dataclass(frozen=True)
class Written:
    """How many rows were written, and how many were left since the store had newer ones."""

    written: int = 0
    older: int = 0

    def __add__(self, other: Written) -> Written:
        return Written(self.written + other.written, self.older + other.older)


def write(
    client: Any,
    encoded: Encoded,
    *,
    until: int | None = None,
    gone: Sequence[bytes] = (),
    expire: int | None = None,
) -> Written:
    """Write rows of a view.

    Parameters
    ----------
    client
        A ``redis.Redis`` or ``redis.cluster.RedisCluster``.
    until
        Microseconds since 1970: replace every stored row whose event time is not after it, and leave all others.
    gone
        Fields that each row that is written loses.
    expire
        Seconds after which the keys of written rows expire (Feast's ``key_ttl_seconds``).

    Raises
    ------
    StoreError
        When the server was away for longer than `sending.PATIENCE`; some rows are in then, each of them whole.
    redis.RedisError
        When the server refuses what it is told.
    """
    done, script = Written(), write_script(len(encoded.fields()))
    for window in windows(encoded, _settings(until, gone, expire), by_slot=keys.is_cluster(client)):
        done += _sum(window, sent(client, script, window, encoded.view))
    return done


def write_all(client: Any, batches: Iterable[Encoded], *, expire: int | None = None) -> Generator[Written, None, None]:
    """Write batches of rows; tells how many were, a few thousand at a time. A thread makes the next while one is sent.

    Raises what `write` raises, and what making a batch raises.
    """
    by_slot, settings = keys.is_cluster(client), _settings(None, (), expire)

    def made() -> Iterator[tuple[Encoded, list[Call]]]:
        for encoded in batches:
            for window in windows(encoded, settings, by_slot=by_slot):
                yield encoded, window

    with closing(ahead(made())) as coming:
        for encoded, window in coming:
            yield _sum(window, sent(client, write_script(len(encoded.fields())), window, encoded.view))


async def write_async(
    client: Any,
    encoded: Encoded,
    *,
    until: int | None = None,
    gone: Sequence[bytes] = (),
    expire: int | None = None,
) -> Written:
    """What `write` does, by a client of ``redis.asyncio``."""
    done, script = Written(), write_script(len(encoded.fields()))
    for window in windows(encoded, _settings(until, gone, expire), by_slot=keys.is_cluster(client)):
        done += _sum(window, await sent_async(client, script, window, encoded.view))
    return done


def commands(
    pipe: Any,
    encoded: Encoded,
    *,
    until: int | None = None,
    gone: Sequence[bytes] = (),
    expire: int | None = None,
) -> int:
    """Add what `write` would do to a pipeline or transaction of one server; returns how many answers that adds.

    Each answer counts rows written. The scripts' text goes along, since a transaction cannot wait for one to be loaded.
    """
    found = windows(encoded, _settings(until, gone, expire), by_slot=False)
    return _queue(pipe, write_script(len(encoded.fields())), [call for window in found for call in window])


def remove(client: Any, entities: Sequence[bytes], view: str, fields: Sequence[bytes], until: int) -> int:
    """Delete fields from the rows of some keys whose event time is not after ``until`` (microseconds) or not there.

    Returns how many rows lost them. Raises what `write` raises.
    """
    removed = 0
    for window in key_windows(entities, _removal(view, fields, until), by_slot=keys.is_cluster(client)):
        removed += sum(sent(client, REMOVE, window, view))
    return removed


def removals(pipe: Any, entities: Sequence[bytes], view: str, fields: Sequence[bytes], until: int) -> int:
    """Add what `remove` would do to a pipeline or transaction of one server; returns how many answers that adds."""
    found = key_windows(entities, _removal(view, fields, until), by_slot=False)
    return _queue(pipe, REMOVE, [call for window in found for call in window])


def _queue(pipe: Any, script: str, calls: Sequence[Call]) -> int:
    for call in calls:
        pipe.execute_command(*call.command("EVAL", script))
    return len(calls)


def _settings(until: int | None, gone: Sequence[bytes], expire: int | None) -> list[Argument]:
    mode = "newer" if until is None else "until"
    return [mode, *_parts(until or 0), expire or 0, packed(gone)]


def _removal(view: str, fields: Sequence[bytes], until: int) -> list[Argument]:
    return [keys.time_field(view), packed(fields), *_parts(until)]


def _parts(microseconds: int) -> tuple[int, int]:
    seconds, rest = divmod(microseconds, wire.SECOND)
    return seconds, rest * 1000


def _sum(window: Sequence[Call], counts: Sequence[int]) -> Written:
    rows = sum(len(call.keys) for call in window)
    return Written(sum(counts), rows - sum(counts))
