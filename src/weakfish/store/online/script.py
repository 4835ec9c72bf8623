"""The scripts by which the server itself decides, row by row, whether what it is given is newer than what it holds.

A call takes the keys of some rows and the contents of all their fields as one string, row after row, so that the server
need not parse an argument for each. A script runs alone: no reader and no other writer sees half a row.
Times are compared as whole numbers that a double holds exactly, never as strings, which Lua compares by locale.
"""

from __future__ import annotations

import functools
from hashlib import sha1

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
