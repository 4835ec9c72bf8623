"""Asking Redis for fields of many hashes from an event loop: `exchange` once more, without threads.

One server is asked over one connection, which all requests of the loop share: commands leave as they come, and answers,
which come back in the same order, are handed to whoever waits. Everything else goes through redis-py's own pipeline.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any

import hiredis
import redis
import redis.asyncio

from weakfish.store.online.exchange import MORE, MOST, Row, Want, Wants, split


class AsyncExchange:
    """Reads through one async client, in its event loop."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self._direct = _is_one_server(client)
        self._line: _Line | None = None
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

    async def _opened(self) -> _Line:
        async with self._opening:
            line = self._line
            if line is None or not line.is_open:
                if line is not None:
                    await line.end()
                line = self._line = await _Line.to(self.client.connection_pool)
            return line

    async def _pipelined(self, wants: Wants) -> list[Row]:
        async with self.client.pipeline(transaction=False) as pipe:
            for want, keys in wants:
                for key in keys:
                    pipe.hmget(key, want.fields)
            rows: list[Row] = await pipe.execute()
        return rows


class _Line(asyncio.Protocol):
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
    async def to(cls, pool: Any) -> _Line:
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


def _is_one_server(client: Any) -> bool:
    """True for a client whose connections all lead to one server, and hand out bytes."""
    pool = getattr(client, "connection_pool", None)
    if type(client) is not redis.asyncio.Redis or type(pool) is not redis.asyncio.ConnectionPool:
        return False
    return not pool.connection_kwargs.get("decode_responses")
