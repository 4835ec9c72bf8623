"""Asking Redis for fields of many hashes in one round trip, with as little Python around it as can be.

Lists of keys come in, each with the fields to read; the rows go out in the same order. One server is asked directly:
the commands are put together as bytes, sent over a connection that redis-py made and this module keeps, and the
answers read by hiredis. Whatever is not plainly an answer, and every other kind of client (a Cluster, a primary that
Sentinels name), goes through redis-py's own pipeline, with its retries and errors.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import hiredis
import redis
import redis.asyncio

Row = list[bytes | None]
MOST = 5_000
"""Hashes asked for in one round trip."""

MORE = object()
"""What hiredis says while an answer is incomplete."""

_READ = 65_536


@dataclass(frozen=True)
class Want:
    """Fields to be read together from every one of some hashes."""

    fields: tuple[bytes, ...]
    _head: bytes = field(init=False, repr=False)
    _tail: bytes = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_head", b"*%d\r\n$5\r\nHMGET\r\n$" % (len(self.fields) + 2))
        object.__setattr__(
            self, "_tail", b"".join(b"\r\n$%d\r\n%b" % (len(name), name) for name in self.fields) + b"\r\n"
        )

    def commands(self, keys: Sequence[bytes]) -> list[bytes]:
        """One HMGET a key, as the server reads it."""
        head, tail = self._head, self._tail
        return [b"%b%d\r\n%b%b" % (head, len(key), key, tail) for key in keys]


Wants = Sequence[tuple[Want, Sequence[bytes]]]


class Exchange:
    """Reads through one sync client; threads may share it."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self._direct = _is_one_server(client)
        self._idle: deque[_Line] = deque()
        self._process = os.getpid()

    def fetch(self, wants: Wants) -> list[list[Row]]:
        """The rows of each want's keys; raises `redis.RedisError`."""
        total = sum(len(keys) for _, keys in wants)
        if total > MOST:
            return [self._in_parts(want, keys) for want, keys in wants]
        rows = self._ask(wants, total) if self._direct else None
        return split(self._pipelined(wants) if rows is None else rows, wants)

    def _in_parts(self, want: Want, keys: Sequence[bytes]) -> list[Row]:
        parts = (keys[start : start + MOST] for start in range(0, len(keys), MOST))
        return [row for part in parts for row in self.fetch([(want, part)])[0]]

    def _ask(self, wants: Wants, total: int) -> list[Row] | None:
        """The rows, over a line of our own; None when redis-py should ask instead."""
        commands = [command for want, keys in wants for command in want.commands(keys)]
        line = self._line()
        try:
            rows = line.ask(commands[0] if total == 1 else b"".join(commands), total)
        except TimeoutError as error:
            line.end()
            raise redis.TimeoutError("Timeout reading from socket") from error
        except OSError:  # the server hung up: redis-py connects anew and tries again
            line.end()
            return None
        except BaseException:
            line.end()
            raise
        if rows is None:
            line.end()
        else:
            self._idle.append(line)
        return rows

    def _line(self) -> _Line:
        if self._process != os.getpid():  # a fork must not speak on its parent's lines
            self._idle, self._process = deque(), os.getpid()
        try:
            line = self._idle.pop()
        except IndexError:
            return _Line(self.client.connection_pool)
        if line.is_open():
            return line
        line.end()
        return self._line()

    def _pipelined(self, wants: Wants) -> list[Row]:
        with self.client.pipeline(transaction=False) as pipe:
            for want, keys in wants:
                for key in keys:
                    pipe.hmget(key, want.fields)
            rows: list[Row] = pipe.execute()
        return rows


class _Line:
    """A connection taken out of redis-py's pool for as long as it works, and what reads its answers."""

    def __init__(self, pool: Any) -> None:
        self.pool = pool
        self.connection = pool.get_connection()
        self.socket = self.connection._sock
        self.reader = hiredis.Reader(notEnoughData=MORE)

    def is_open(self) -> bool:
        return self.socket is not None and self.connection._sock is self.socket

    def ask(self, packed: bytes, count: int) -> list[Row] | None:
        """Send commands and read as many answers; None when one is no list."""
        self.socket.sendall(packed)
        gets, feed, receive = self.reader.gets, self.reader.feed, self.socket.recv
        rows: list[Row] = []
        while len(rows) < count:
            row = gets()
            while row is MORE:
                data = receive(_READ)
                if not data:
                    raise ConnectionResetError
                feed(data)
                row = gets()
            if type(row) is not list:
                return None
            rows.append(row)
        return rows

    def end(self) -> None:
        """Close it and tell the pool."""
        self.connection.disconnect()
        self.pool.release(self.connection)


def _is_one_server(client: Any) -> bool:
    """True for a client whose connections all lead to one server, and hand out bytes."""
    pool = getattr(client, "connection_pool", None)
    if type(client) is not redis.Redis or type(pool) is not redis.ConnectionPool:
        return False
    return not pool.connection_kwargs.get("decode_responses") and getattr(pool, "cache", None) is None


def split(rows: list[Row], wants: Wants) -> list[list[Row]]:
    """Rows of all wants, one after the other, by want."""
    if len(wants) == 1:
        return [rows]
    parts, start = [], 0
    for _, keys in wants:
        parts.append(rows[start : start + len(keys)])
        start += len(keys)
    return parts


class AsyncExchange:
    """Reads through one async client, in its event loop."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self._direct = _is_one_async_server(client)
        self._line: _AsyncLine | None = None
        self._opening = asyncio.Lock()

    async def fetch(self, wants: Wants) -> list[list[Row]]:
        """The rows of each want's keys; raises `redis.RedisError`."""
        total = sum(len(keys) for _, keys in wants)
        if total > MOST:
            return [await self._in_parts(want, keys) for want, keys in wants]
        rows = await self._ask(wants, total) if self._direct else None
        return split(await self._pipelined(wants) if rows is None else rows, wants)

    async def _in_parts(self, want: Want, keys: Sequence[bytes]) -> list[Row]:
        rows: list[Row] = []
        for start in range(0, len(keys), MOST):
            rows += (await self.fetch([(want, keys[start : start + MOST])]))[0]
        return rows

    async def _ask(self, wants: Wants, total: int) -> list[Row] | None:
        """The rows, over the line that all share; None when redis-py should ask instead."""
        line = self._line
        if line is None or not line.is_open:
            line = await self._opened()
        packed = b"".join([command for want, keys in wants for command in want.commands(keys)])
        try:
            return await line.ask(packed, total)
        except OSError:  # the server hung up: redis-py connects anew and tries again
            return None

    async def _opened(self) -> _AsyncLine:
        async with self._opening:
            line = self._line
            if line is None or not line.is_open:
                if line is not None:
                    await line.end()
                line = self._line = await _AsyncLine.to(self.client.connection_pool)
            return line

    async def _pipelined(self, wants: Wants) -> list[Row]:
        async with self.client.pipeline(transaction=False) as pipe:
            for want, keys in wants:
                for key in keys:
                    pipe.hmget(key, want.fields)
            rows: list[Row] = await pipe.execute()
        return rows


class _AsyncLine(asyncio.Protocol):
    """A connection that redis-py opened, whose answers are read here from then on."""

    def __init__(self, pool: Any, connection: Any) -> None:
        self.pool, self.connection = pool, connection
        self.is_open = True
        self._reader = hiredis.Reader(notEnoughData=MORE)
        self._waiting: deque[tuple[asyncio.Future[list[Row] | None], int, list[Row]]] = deque()
        self._loop = asyncio.get_running_loop()
        self._patience: float | None = connection.socket_timeout
        self._transport = connection._writer.transport
        self._before = self._transport.get_protocol()
        self._transport.set_protocol(self)

    @classmethod
    async def to(cls, pool: Any) -> _AsyncLine:
        """A line to a pool's server; raises `redis.RedisError`."""
        return cls(pool, await pool.get_connection())

    async def ask(self, packed: bytes, count: int) -> list[Row] | None:
        """Send commands and wait for as many answers; None when one is no list.

        Raises
        ------
        ConnectionError
            When the connection ends before.
        redis.TimeoutError
            When the answers take longer than redis-py is told to wait.
        """
        answers: asyncio.Future[list[Row] | None] = self._loop.create_future()
        self._waiting.append((answers, count, []))
        self._transport.write(packed)
        if self._patience is None:
            return await answers
        timer = self._loop.call_later(self._patience, self._give_up, answers)
        try:
            return await answers
        finally:
            timer.cancel()

    def data_received(self, data: bytes) -> None:
        """Hand out the answers that are complete."""
        self._reader.feed(data)
        waiting, gets = self._waiting, self._reader.gets
        while waiting:
            answers, count, rows = waiting[0]
            while len(rows) < count:
                row = gets()
                if row is MORE:
                    return
                if type(row) is not list:
                    self._break_off()
                    return
                rows.append(row)
            waiting.popleft()
            if not answers.done():  # nobody waits for a request that was cancelled
                answers.set_result(rows)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell all who wait, and redis-py, that nothing will come any more."""
        self.is_open = False
        for answers, _, _ in self._waiting:
            if not answers.done():
                answers.set_exception(ConnectionResetError())
        self._waiting.clear()
        self._before.connection_lost(exc)

    async def end(self) -> None:
        """Give the connection back, closed."""
        await self.connection.disconnect(nowait=True)
        await self.pool.release(self.connection)

    def _break_off(self) -> None:
        """An answer was no row: let redis-py ask, and say what is wrong."""
        self.is_open = False
        for answers, _, _ in self._waiting:
            if not answers.done():
                answers.set_result(None)
        self._waiting.clear()
        self._transport.close()

    def _give_up(self, answers: asyncio.Future[list[Row] | None]) -> None:
        if not answers.done():
            answers.set_exception(redis.TimeoutError("Timeout reading from socket"))
        self.is_open = False
        self._transport.close()


def _is_one_async_server(client: Any) -> bool:
    """True for a client whose connections all lead to one server, and hand out bytes."""
    pool = getattr(client, "connection_pool", None)
    if type(client) is not redis.asyncio.Redis or type(pool) is not redis.asyncio.ConnectionPool:
        return False
    return not pool.connection_kwargs.get("decode_responses")
