"""An iterator in, the same items out, each made by another thread while the one before is used."""

from __future__ import annotations

import asyncio
import functools
import re
import struct
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from hashlib import sha1
from itertools import islice
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import redis
from redis.crc import key_slot
from redis.exceptions import AuthorizationError, ClusterDownError, NoScriptError, RedisClusterException, TryAgainError

from weakfish.errors import StoreError
from weakfish.feast import layout as keys
from weakfish.feast import values as wire
from weakfish.feast.encoding import Encoded

Item = TypeVar("Item")


def ahead(items: Iterator[Item]) -> Generator[Item, None, None]:
    """The items, one of them made ahead; an error in making one is raised where it would have come."""
    end: Any = object()
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, items, end)
        while (item := coming.result()) is not end:
            coming = pool.submit(next, items, end)
            yield item


_TIMES = """
local known = {}

local function parsed(proto)
  local seconds, nanos, at, size = 0, 0, 1, #proto
  while at <= size do
    local tag, first, value, unit = string.byte(proto, at), at + 1, 0, 1
    repeat
      at = at + 1
      local byte = string.byte(proto, at)
      if not byte then return nil end
      value, unit = value + byte % 128 * unit, unit * 128
    until byte < 128
    if at - first == 9 then
      value, unit = -1, 1
      for place = first, first + 8 do
        value, unit = value - (127 - string.byte(proto, place) % 128) * unit, unit * 128
      end
    end
    if tag == 8 then seconds = value elseif tag == 16 then nanos = value else return nil end
    at = at + 1
  end
  return {seconds, nanos}
end

local function time_of(proto)
  local found = known[proto]
  if found == nil then
    found = parsed(proto) or false
    known[proto] = found
  end
  return found
end

local function is_after(proto, seconds, nanos)
  local time = time_of(proto)
  if not time then return false end
  return time[1] > seconds or (time[1] == seconds and time[2] > nanos)
end
"""
"""A ``Timestamp`` message as seconds and nanoseconds; one that is none counts as older than any.

Negative numbers are read by their complement: their ten bytes as one number are more than a double holds.
"""

PART = 40
"""Fields that are written by one command of a script; Lua has room for so many local variables, twice, and to spare."""

_WRITE = (
    _TIMES
    + """
local names, content, formats, mode = cmsgpack.unpack(ARGV[1]), ARGV[2], cmsgpack.unpack(ARGV[3]), ARGV[4]
local seconds, nanos, expire, gone = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7]), cmsgpack.unpack(ARGV[8])
local call, read, most = redis.call, struct.unpack, 2000
local time_field, created_field = names[1], names[2]

local function is_newer(key, proto, created)
  local stored = call('HGET', key, time_field)
  if not stored then return true end
  if mode == 'until' then return not is_after(stored, seconds, nanos) end
  if stored ~= proto then
    local time = time_of(proto)
    if is_after(stored, time[1], time[2]) then return false end
    local before = time_of(stored)
    if not before or before[1] ~= time[1] or before[2] ~= time[2] then return true end
  end
  local held = call('HGET', key, created_field)
  if not held or #held ~= 16 or string.sub(held, 1, 8) ~= string.sub(created, 1, 8) then return true end
  local high, low = read('>i4I4', created, 9)
  local held_high, held_low = read('>i4I4', held, 9)
  return high > held_high or (high == held_high and low >= held_low)
end

local written, at, is_written = 0, 1, false
local $LOCALS
for number = 1, #KEYS do
  local key = KEYS[number]
$PARTS
  if is_written then
    for first = 1, #gone, most do call('HDEL', key, unpack(gone, first, math.min(first + most - 1, #gone))) end
    if expire > 0 then call('EXPIRE', key, expire) end
    written = written + 1
  end
end
return written
"""
)


@functools.lru_cache(maxsize=256)
def write_script(width: int) -> str:
    """The script that writes rows of so many fields, the two times among them; local variables hold them, no tables.

    Keys: the rows'. Arguments: field names (time, created, features), contents, a format of ``struct`` for every `PART`
    fields, mode (``newer``, ``until``), the time of ``until`` in seconds and nanoseconds, seconds until a
    key expires or 0, fields to be deleted. Answer: how many rows were written.
    """
    parts = []
    for number, start in enumerate(range(0, width, PART)):
        count = min(PART, width - start)
        values = ", ".join(f"v{place}" for place in range(1, count + 1))
        fields = ", ".join(f"names[{start + place}], v{place}" for place in range(1, count + 1))
        parts.append(f"  {values}, at = read(formats[{number + 1}], content, at)")
        if number == 0:
            parts.append("  is_written = is_newer(key, v1, v2)")
        parts.append(f"  if is_written then call('HSET', key, {fields}) end")
    names = ", ".join(f"v{place}" for place in range(1, min(PART, width) + 1))
    return _WRITE.replace("$LOCALS", names).replace("$PARTS", "\n".join(parts))


REMOVE = (
    _TIMES
    + """
local time_field, fields = ARGV[1], cmsgpack.unpack(ARGV[2])
local seconds, nanos, most = tonumber(ARGV[3]), tonumber(ARGV[4]), 2000
local removed = 0
for number = 1, #KEYS do
  local stored = redis.call('HGET', KEYS[number], time_field)
  if not stored or not is_after(stored, seconds, nanos) then
    for first = 1, #fields, most do
      redis.call('HDEL', KEYS[number], unpack(fields, first, math.min(first + most - 1, #fields)))
    end
    removed = removed + 1
  end
end
return removed
"""
)
"""Keys: the rows'. Arguments: the view's time field, the fields to be deleted, seconds and nanoseconds of the last
event time of a row that may lose them. Answer: how many rows lost them.
"""


@functools.lru_cache(maxsize=256)
def digest(script: str) -> str:
    """The name by which a server knows a script that it has seen."""
    return sha1(script.encode(), usedforsecurity=False).hexdigest()


ROWS, CONTENTS, BYTES = 100, 2_048, 65_536
"""Of one call, at most; but one row at least."""

WINDOW_ROWS, WINDOW_BYTES = 10_000, 8 * 2**20
"""Of one pipeline."""

Argument = bytes | memoryview | str | int


@dataclass(frozen=True)
class Call:
    """One call of a script."""

    keys: Sequence[bytes]
    arguments: Sequence[Argument]

    def command(self, *script: str) -> tuple[Argument, ...]:
        """The whole command, given its name and its script or the script's digest."""
        return (*script, len(self.keys), *self.keys, *self.arguments)


def windows(encoded: Encoded, settings: Sequence[Argument], *, by_slot: bool) -> Iterator[list[Call]]:
    """Calls that write rows, with ``settings`` as their arguments after names and contents."""
    columns = list(encoded.fields().values())
    names = packed(list(encoded.fields()))
    size = max(1, sum(column.nbytes for column in columns) // max(1, len(encoded)))
    most = max(1, min(WINDOW_ROWS, WINDOW_BYTES // size))
    at_once = max(1, min(ROWS, CONTENTS // len(columns), BYTES // size))
    for start in range(0, len(encoded), most):
        keys = encoded.keys[start : start + most].to_pylist()
        rows, formats = _rows([column[start : start + most] for column in columns])
        ends = _ends(len(keys), at_once)
        if by_slot:
            slots = np.array([key_slot(key) for key in keys])
            order = np.argsort(slots, kind="stable")
            keys, rows = [keys[place] for place in order], rows.take(pa.array(order))
            ends = sorted({*ends, *(np.flatnonzero(np.diff(slots[order])) + 1).tolist()})
        yield list(_calls(keys, rows, ends, (names, formats), settings))


def key_windows(keys: Sequence[bytes], arguments: Sequence[Argument], *, by_slot: bool) -> Iterator[list[Call]]:
    """Calls that take keys and the same arguments each."""
    found = iter(keys)
    while window := list(islice(found, WINDOW_ROWS)):
        if by_slot:
            window.sort(key=key_slot)
        calls: list[list[bytes]] = []
        for key in window:
            if not calls or len(calls[-1]) == ROWS or (by_slot and key_slot(key) != key_slot(calls[-1][0])):
                calls.append([])
            calls[-1].append(key)
        yield [Call(call, arguments) for call in calls]


def packed(texts: Sequence[bytes]) -> bytes:
    """A MessagePack array of byte strings."""
    return (
        b"\xdd"
        + struct.pack(">I", len(texts))
        + b"".join(b"\xdb" + struct.pack(">I", len(text)) + text for text in texts)
    )


def _calls(
    keys: Sequence[bytes],
    rows: pa.Array,
    ends: Sequence[int],
    layout: tuple[bytes, bytes],
    settings: Sequence[Argument],
) -> Iterator[Call]:
    _, offsets, data = rows.buffers()
    places = np.frombuffer(offsets, np.int32)[rows.offset : rows.offset + len(rows) + 1]
    contents, start = memoryview(data or b""), 0
    names, formats = layout
    for end in ends:
        yield Call(keys[start:end], (names, contents[places[start] : places[end]].tobytes(), formats, *settings))
        start = end


def _ends(count: int, at_once: int) -> list[int]:
    return [*range(at_once, count, at_once), count]


def _rows(columns: Sequence[pa.Array]) -> tuple[pa.Array, bytes]:
    """The contents of each row one after another, and how Lua's ``struct`` reads them: a format for every `PART`.

    Where the strings of a column have one length, it stands in the format, else before each of them.
    """
    pieces: list[Any] = []
    kinds: list[str] = []
    for column in columns:
        lengths = pc.binary_length(column).to_numpy(zero_copy_only=False)
        size = int(lengths[0])
        if size and (lengths == size).all():
            pieces.append(column)
            kinds.append(f"c{size}")
        else:
            pieces += [wire.binary(wire.fixed(lengths.astype("<u4"))), column]
            kinds.append("I4c0")
    formats = ["<" + "".join(kinds[start : start + PART]) for start in range(0, len(kinds), PART)]
    rows = pc.binary_join_element_wise(*pieces, pa.scalar(b"", pa.binary()))
    return rows, packed([one.encode() for one in formats])


PATIENCE = 15.0
"""Seconds from a connection's loss until giving up."""

PAUSES = (0.1, 2.0)
"""Seconds before the first new try, and at most; each is twice the one before."""

LOST = (redis.ConnectionError, redis.TimeoutError, ClusterDownError, TryAgainError, RedisClusterException)


def sent(client: Any, script: str, calls: Sequence[Call], view: str) -> list[int]:
    """The answers to calls of a script that writes to ``view``.

    Raises
    ------
    StoreError
        When the server was away for longer than `PATIENCE`.
    redis.RedisError
        When it refuses what it is told.
    """
    pauses = _Pauses(view)
    while True:
        try:
            return _answers(client, script, calls)
        except LOST as error:
            time.sleep(pauses.after(error))


async def sent_async(client: Any, script: str, calls: Sequence[Call], view: str) -> list[int]:
    """What `sent` does, by a client of ``redis.asyncio``."""
    pauses = _Pauses(view)
    while True:
        try:
            return await _answers_async(client, script, calls)
        except LOST as error:
            await asyncio.sleep(pauses.after(error))


def _answers(client: Any, script: str, calls: Sequence[Call]) -> list[int]:
    """Call a script; a server that does not know it is told, once."""
    answers = _run(client, script, calls)
    unknown = _unknown(answers)
    if unknown:
        client.script_load(script)
        answers = _merged(answers, unknown, _run(client, script, [calls[place] for place in unknown]))
    return _checked(answers)


async def _answers_async(client: Any, script: str, calls: Sequence[Call]) -> list[int]:
    answers = await _run_async(client, script, calls)
    unknown = _unknown(answers)
    if unknown:
        await client.script_load(script)
        answers = _merged(answers, unknown, await _run_async(client, script, [calls[place] for place in unknown]))
    return _checked(answers)


def _run(client: Any, script: str, calls: Sequence[Call]) -> list[Any]:
    name = digest(script)
    with client.pipeline(transaction=False) as pipe:
        for call in calls:
            pipe.execute_command(*call.command("EVALSHA", name))
        return list(pipe.execute(raise_on_error=False))


async def _run_async(client: Any, script: str, calls: Sequence[Call]) -> list[Any]:
    name = digest(script)
    async with client.pipeline(transaction=False) as pipe:
        for call in calls:
            pipe.execute_command(*call.command("EVALSHA", name))
        return list(await pipe.execute(raise_on_error=False))


def _unknown(answers: Sequence[Any]) -> list[int]:
    return [place for place, answer in enumerate(answers) if isinstance(answer, NoScriptError)]


def _merged(answers: list[Any], places: Sequence[int], again: Sequence[Any]) -> list[Any]:
    for place, answer in zip(places, again, strict=True):
        answers[place] = answer
    return answers


def _checked(answers: Sequence[Any]) -> list[int]:
    for answer in answers:
        if isinstance(answer, Exception):
            raise answer
    return list(answers)


class _Pauses:
    """How long to wait for a server that is away."""

    def __init__(self, view: str) -> None:
        self.view = view
        self._next, self._most = PAUSES
        self._end: float | None = None

    def after(self, error: Exception) -> float:
        """Seconds until the next try; raises `StoreError` after the last, and at once what no waiting cures."""
        if isinstance(error, (redis.AuthenticationError, AuthorizationError)):
            raise error
        now = time.monotonic()
        self._end = now + PATIENCE if self._end is None else self._end
        if now >= self._end:
            raise StoreError(
                f"The online store went away while view {self.view} was being written ({_reason(error)}; waited "
                f"{PATIENCE:g} s for it); every row is whole, old or new: start the server and run this again."
            ) from error
        pause, self._next = self._next, min(2 * self._next, self._most)
        return min(pause, self._end - now)


def _reason(error: Exception) -> str:
    return re.sub(r"^.* of pipeline .*caused error: ", "", " ".join(str(error).split())).rstrip(".")


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
