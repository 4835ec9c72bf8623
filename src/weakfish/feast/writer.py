"""Writes of a view's rows, where they are newer than what the store has: scripts, calls of them, and attempts.

Rows are compared on the server, by a script, so that a row is written whole or not at all and nothing gets between.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from redis.crc import key_slot

from weakfish.errors import StoreError
from weakfish.feast import clients
from weakfish.feast import layout as keys
from weakfish.feast.clients import LOST, Retrying, reason
from weakfish.feast.encoding import SECOND, Encoded, binary, fixed
from weakfish.feast.exchange import Argument, Call, Exchange

Item = TypeVar("Item")


@dataclass(frozen=True)
class Change:
    """Calls of a script that change rows; making them twice is the same as making them once.

    Attributes
    ----------
    what : str
        What is written, for messages.
    size : int
        How many rows or keys.
    windows : callable
        Gives the calls in lists of about one pipeline each; those of one call in one slot of a cluster, if told so.
    """

    what: str
    size: int
    script: str
    windows: Callable[[bool], Iterator[Sequence[Call]]]

    def make(self, client: Any) -> int:
        """Make it by a client of a server or a cluster; returns how many rows changed.

        Raises
        ------
        StoreError
            When the server was away for longer than `RETRY_SECONDS`; some rows are changed then, each of them whole.
        redis.RedisError
            When the server refuses what it is told.
        """
        with closing(Exchange(client)) as exchange:
            return sum(_performed(exchange, self, window) for window in self.windows(keys.is_cluster(client)))

    def queue(self, pipe: Any) -> int:
        """Add it to a pipeline or transaction of one server; returns how many answers that adds, each a count of rows.

        The script's text goes along, since a transaction cannot wait for it to be loaded.
        """
        calls = [call for window in self.windows(False) for call in window]
        for call in calls:
            pipe.execute_command(*call.command("EVAL", self.script))
        return len(calls)


def writes(
    encoded: Encoded, *, until: int | None = None, gone: Sequence[bytes] = (), expire: int | None = None
) -> Change:
    """Rows of a view, to be written.

    Parameters
    ----------
    until
        Microseconds since 1970: replace every stored row whose event time is not after it, and leave all others. By
        default, rows that are older than the stored ones are left out.
    gone
        Fields that each row that is written loses.
    expire
        Seconds after which the keys of written rows expire (Feast's ``key_ttl_seconds``).
    """
    mode = "newer" if until is None else "until"
    settings: list[Argument] = [mode, *_seconds_nanos(until or 0), expire or 0, packed(gone)]
    script = write_script(len(encoded.fields()))
    calls = functools.partial(windows, encoded, settings)
    return Change(f"view {encoded.view}", len(encoded), script, calls)


def removals(entities: Sequence[bytes], view: str | None, fields: Sequence[bytes], until: int = 0) -> Change:
    """Fields of some keys, to be removed where the view's event time is not after ``until`` (microseconds) or missing.

    ``view`` is the view's name online; without one, the fields of all these keys are removed.
    """
    arguments: list[Argument] = [keys.time_field(view or ""), packed(fields), *_seconds_nanos(until)]
    what = f"view {view}" if view else "what is left of other views"
    return Change(what, len(entities), REMOVE, functools.partial(key_windows, entities, arguments))


def write_all(
    exchange: Exchange, batches: Iterable[Encoded], *, expire: int | None = None
) -> Generator[int, None, None]:
    """Write batches of rows where they are newer, some thousands at a time; says how many each time.

    A thread makes the next ones while some are sent. Raises what `Change.make` raises, and what making a batch raises.
    """
    by_slot = keys.is_cluster(exchange.client)
    changes = (writes(encoded, expire=expire) for encoded in batches)
    made = ((change, window) for change in changes for window in change.windows(by_slot))
    with closing(prefetch(made)) as coming:
        for change, window in coming:
            _performed(exchange, change, window)
            yield sum(len(call.keys) for call in window)


def _seconds_nanos(microseconds: int) -> tuple[int, int]:
    seconds, rest = divmod(microseconds, SECOND)
    return seconds, rest * 1000


def prefetch(items: Iterator[Item]) -> Generator[Item, None, None]:
    """The items, each made by a thread while the one before is used; an error is raised where its item would come."""
    end: Any = object()
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, items, end)
        while (item := coming.result()) is not end:
            coming = pool.submit(next, items, end)
            yield item


def _performed(exchange: Exchange, change: Change, calls: Sequence[Call]) -> int:
    """The sum of the answers to some calls of a change, repeated while the server is away.

    Repeating is safe: a row that was written already is not newer than itself. Answers to calls in one pipeline are
    lost together, so after each loss fewer are sent at once, after each success more; and a success restarts the clock.
    A connection that is cut again and again therefore still gets all rows across.
    """
    total, retry, done, at_once = 0, Retrying(), 0, len(calls)
    while done < len(calls):
        sent = calls[done : done + at_once]
        try:
            answers = exchange.call(change.script, sent)
        except LOST as error:
            if not retry.again(error):
                raise StoreError(
                    f"The online store went away while {change.what} was being written ({reason(error)}; waited "
                    f"{clients.RETRY_SECONDS:g} s for it); every row is whole, old or new: start the server and "
                    "run this again."
                ) from error
            at_once = max(1, len(sent) // 2)
        else:
            total += sum(answers)
            retry, done, at_once = Retrying(), done + len(sent), 2 * at_once
    return total


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

local function row_time(key, field)
  local stored = redis.pcall('HGET', key, field)
  if type(stored) ~= 'table' then return stored end
  if not string.find(stored.err, 'WRONGTYPE') then return redis.call('HGET', key, field) end
  redis.call('DEL', key)
  return false
end

local function is_after(proto, seconds, nanos)
  local time = time_of(proto)
  if not time then return false end
  return time[1] > seconds or (time[1] == seconds and time[2] > nanos)
end
"""
"""A ``Timestamp`` message as seconds and nanoseconds; one that is none counts as older than any.

A key of another type, which can only stand in the way of a row, is deleted: it holds no row and no time. Negative
numbers are read by their complement: their ten bytes as one number are more than a double holds.
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
  local stored = row_time(key, time_field)
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
  local stored = row_time(KEYS[number], time_field)
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


ROWS, CONTENTS, BYTES = 100, 2_048, 65_536
"""Of one call, at most; but one row at least."""

WINDOW_ROWS, WINDOW_BYTES = 10_000, 8 * 2**20
"""Of one pipeline."""

RARE = 0.1
"""The share of values of a column below which those of another length, such as nulls, are written in other calls."""


def windows(encoded: Encoded, settings: Sequence[Argument], by_slot: bool) -> Iterator[list[Call]]:
    """Calls that write rows, with ``settings`` as their arguments after names and contents."""
    columns = list(encoded.fields().values())
    names = packed(list(encoded.fields()))
    size = max(1, sum(column.nbytes for column in columns) // max(1, len(encoded)))
    most = max(1, min(WINDOW_ROWS, WINDOW_BYTES // size))
    at_once = max(1, min(ROWS, CONTENTS // len(columns), BYTES // size))
    for start in range(0, len(encoded), most):
        keys, part = encoded.keys[start : start + most], [column[start : start + most] for column in columns]
        calls: list[Call] = []
        for places in _alike(keys, part):
            rows, formats = _rows([column.take(places) for column in part] if places is not None else part)
            found = (keys.take(places) if places is not None else keys).to_pylist()
            for ours, contents in _calls(found, rows, at_once, by_slot):
                calls.append(Call(ours, (names, contents, formats, *settings)))
        yield calls


def _alike(keys: pa.Array, columns: Sequence[pa.Array]) -> list[pa.Array | None]:
    """The places of rows whose values are as long as most are, and of the others; None for all rows in their order.

    Rows of which all values have a length that is known beforehand cost the server an eighth less. Rows of one key stay
    in their order.
    """
    odd = np.zeros(len(keys), np.bool_)
    for column in columns:
        lengths = pc.binary_length(column).to_numpy(zero_copy_only=False)
        differs = lengths != lengths.max()
        if np.count_nonzero(differs) < RARE * len(keys):
            odd |= differs
    if not 0 < np.count_nonzero(odd) < len(keys) / 2 or len(set(keys.to_pylist())) < len(keys):
        return [None]
    return [pa.array(np.flatnonzero(~odd)), pa.array(np.flatnonzero(odd))]


def _calls(keys: list[bytes], rows: pa.Array, at_once: int, by_slot: bool) -> Iterator[tuple[list[bytes], bytes]]:
    """Keys and contents of some rows each."""
    ends = {*range(at_once, len(keys), at_once), len(keys)}
    if by_slot:
        slots = np.array([key_slot(key) for key in keys])
        order = np.argsort(slots, kind="stable")
        keys, rows = [keys[place] for place in order], rows.take(pa.array(order))
        ends |= set((np.flatnonzero(np.diff(slots[order])) + 1).tolist())
    _, offsets, data = rows.buffers()
    places = np.frombuffer(offsets, np.int32)[rows.offset : rows.offset + len(rows) + 1]
    contents = memoryview(data or b"")
    for first, end in pairwise([0, *sorted(ends)]):
        yield keys[first:end], contents[places[first] : places[end]].tobytes()


def key_windows(keys: Sequence[bytes], arguments: Sequence[Argument], by_slot: bool) -> Iterator[list[Call]]:
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
            pieces += [binary(fixed(lengths.astype("<u4"))), column]
            kinds.append("I4c0")
    formats = ["<" + "".join(kinds[start : start + PART]) for start in range(0, len(kinds), PART)]
    rows = pc.binary_join_element_wise(*pieces, pa.scalar(b"", pa.binary()))
    return rows, packed([one.encode() for one in formats])
