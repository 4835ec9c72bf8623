"""What is said to Redis: steps that know no socket, and the two clients, sync and async, that perform them.

A read or a write is a generator of steps (`Ask`, `Commands` and so on), which is sent what the server answered. One
server is asked for rows directly: commands are put together as bytes, sent over a connection that redis-py opened and
that is kept here, and hiredis reads the answers. What is not plainly an answer, and every other kind of client (a
cluster, a primary that Sentinels name), goes through redis-py's own pipeline, with its retries and errors.
"""

from __future__ import annotations

import asyncio
import functools
import os
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha1
from itertools import islice
from typing import Any, TypeVar

import hiredis
import redis
import redis.asyncio
from redis.exceptions import NoScriptError

from weakfish.feast.clients import is_one_server, socket_of, transport_of

Row = list[bytes | None]
MAX_ROWS = 5_000
"""Hashes asked for in one round trip."""

Result = TypeVar("Result")


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
Argument = bytes | memoryview | str | int


@dataclass(frozen=True)
class Call:
    """One call of a script."""

    keys: Sequence[bytes]
    arguments: Sequence[Argument]

    def command(self, *script: str) -> tuple[Argument, ...]:
        """The whole command, given its name and its script or the script's digest."""
        return (*script, len(self.keys), *self.keys, *self.arguments)


@dataclass(frozen=True, slots=True)
class Ask:
    """Read rows over a connection of our own; the answer is None where redis-py has to be asked instead."""

    packed: bytes
    count: int


@dataclass(frozen=True, slots=True)
class Commands:
    """Run commands in one pipeline of redis-py; the answers hold errors where ``raises`` is False."""

    commands: Sequence[tuple[Argument, ...]]
    raises: bool = True


@dataclass(frozen=True, slots=True)
class Single:
    """Run one command."""

    command: tuple[Argument, ...]


@dataclass(frozen=True, slots=True)
class Wait:
    """Let some seconds pass."""

    seconds: float


Step = Ask | Commands | Single | Wait
Steps = Generator[Step, Any, Result]


def fetching(wants: Wants) -> Steps[list[list[Row]]]:
    """The rows of each want's keys, in few round trips."""
    total = sum(len(keys) for _, keys in wants)
    rows: list[Row] = []
    for part in [wants] if total <= MAX_ROWS else _parts(wants):
        commands = [command for want, keys in part for command in want.commands(keys)]
        found = yield Ask(commands[0] if len(commands) == 1 else b"".join(commands), len(commands))
        if found is None:
            found = yield Commands([("HMGET", key, *want.fields) for want, keys in part for key in keys])
        rows = found if total <= MAX_ROWS else rows + found
    if len(wants) == 1:
        return [rows]
    rest = iter(rows)
    return [list(islice(rest, len(keys))) for _, keys in wants]


def _parts(wants: Wants) -> Iterator[Wants]:
    for want, keys in wants:
        for start in range(0, len(keys), MAX_ROWS):
            yield [(want, keys[start : start + MAX_ROWS])]


def calling(script: str, calls: Sequence[Call]) -> Steps[list[int]]:
    """The answers to calls of a script; a server that does not know it is told once. Raises what a call raised."""
    commands = [call.command("EVALSHA", digest(script)) for call in calls]
    answers: list[Any] = yield Commands(commands, raises=False)
    unknown = [place for place, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
    if unknown:
        yield Single(("SCRIPT LOAD", script))
        again = yield Commands([commands[place] for place in unknown], raises=False)
        for place, answer in zip(unknown, again, strict=True):
            answers[place] = answer
    for answer in answers:
        if isinstance(answer, Exception):
            raise answer
    return answers


@functools.lru_cache(maxsize=256)
def digest(script: str) -> str:
    """The name by which a server knows a script that it has seen."""
    return sha1(script.encode(), usedforsecurity=False).hexdigest()


MORE = object()
"""What hiredis says while an answer is incomplete."""


class Answers:
    """Rows as they come in, for one request after another, in the order of the requests."""

    def __init__(self) -> None:
        self._reader = hiredis.Reader(notEnoughData=MORE)
        self.feed: Callable[[bytes], None] = self._reader.feed
        self._rows: list[Row] = []

    def take(self, count: int) -> list[Row] | None:
        """The next ``count`` rows; None while some are missing. Raises `NotARow` for any other answer."""
        rows, gets = self._rows, self._reader.gets
        while len(rows) < count:
            row = gets()
            if type(row) is not list:
                if row is MORE:
                    return None
                raise NotARow
            rows.append(row)
        self._rows = []
        return rows


class NotARow(Exception):
    """An error or a push: redis-py asks again, and says what is wrong."""


class Exchange:
    """Performs steps through one sync client; threads may share it."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self._direct = is_one_server(client)
        self.idle: deque[_Line] = deque()
        self._process = os.getpid()

    def run(self, steps: Steps[Result]) -> Result:
        """What a generator of steps returns; raises what it raises, and `redis.RedisError`."""
        perform = self._perform
        try:
            step = next(steps)
            while True:
                try:
                    answer = perform(step)
                except Exception as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(answer)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]

    def fetch(self, wants: Wants) -> list[list[Row]]:
        """The rows of each want's keys; raises `redis.RedisError`."""
        return self.run(fetching(wants))

    def _perform(self, step: Step) -> Any:
        match step:
            case Ask(packed, count):
                return self._ask(packed, count) if self._direct else None
            case Commands(commands, raises):
                with self.client.pipeline(transaction=False) as pipe:
                    for command in commands:
                        pipe.execute_command(*command)
                    return pipe.execute(raise_on_error=raises)
            case Single(command):
                return self.client.execute_command(*command)
            case Wait(seconds):
                return time.sleep(seconds)

    def _ask(self, packed: bytes, count: int) -> list[Row] | None:
        line = self._line()
        try:
            rows = line.ask(packed, count)
        except TimeoutError as error:
            line.end()
            raise redis.TimeoutError("Timeout reading from socket") from error
        except (OSError, NotARow):  # the server hung up or refused: redis-py connects anew and tries again
            line.end()
            return None
        except BaseException:
            line.end()
            raise
        self.idle.append(line)
        return rows

    def _line(self) -> _Line:
        if self._process != os.getpid():  # a fork must not speak on its parent's lines
            self.idle, self._process = deque(), os.getpid()
        try:
            line = self.idle.pop()
        except IndexError:
            return _Line(self.client.connection_pool)
        if line.is_open():
            return line
        line.end()
        return self._line()


class _Line:
    """A connection taken out of redis-py's pool for as long as it works, and what reads its answers."""

    def __init__(self, pool: Any) -> None:
        self.pool = pool
        self.connection = pool.get_connection()
        self.socket = socket_of(self.connection)
        self.answers = Answers()

    def is_open(self) -> bool:
        return self.socket is not None and socket_of(self.connection) is self.socket

    def ask(self, packed: bytes, count: int) -> list[Row]:
        """Send commands and read as many rows."""
        self.socket.sendall(packed)
        while True:
            data = self.socket.recv(65_536)
            if not data:
                raise ConnectionResetError
            self.answers.feed(data)
            rows = self.answers.take(count)
            if rows is not None:
                return rows

    def end(self) -> None:
        """Close it and tell the pool."""
        self.connection.disconnect()
        self.pool.release(self.connection)


class AsyncExchange:
    """Performs steps through one async client, in its event loop."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self._direct = is_one_server(client)
        self._line: _AsyncLine | None = None
        self._opening = asyncio.Lock()

    async def run(self, steps: Steps[Result]) -> Result:
        """What a generator of steps returns; raises what it raises, and `redis.RedisError`."""
        perform = self._perform
        try:
            step = next(steps)
            while True:
                try:
                    answer = await perform(step)
                except Exception as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(answer)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]

    async def _perform(self, step: Step) -> Any:
        match step:
            case Ask(packed, count):
                return await self._ask(packed, count) if self._direct else None
            case Commands(commands, raises):
                async with self.client.pipeline(transaction=False) as pipe:
                    for command in commands:
                        pipe.execute_command(*command)
                    return await pipe.execute(raise_on_error=raises)
            case Single(command):
                return await self.client.execute_command(*command)
            case Wait(seconds):
                return await asyncio.sleep(seconds)

    async def _ask(self, packed: bytes, count: int) -> list[Row] | None:
        line = self._line
        if line is None or not line.is_open:
            line = await self._opened()
        try:
            return await line.ask(packed, count)
        except OSError:  # the server hung up: redis-py connects anew and tries again
            return None

    async def _opened(self) -> _AsyncLine:
        """The line that all requests share."""
        async with self._opening:
            line = self._line
            if line is None or not line.is_open:
                if line is not None:
                    await line.end()
                pool = self.client.connection_pool
                line = self._line = _AsyncLine(pool, await pool.get_connection())
            return line


class _AsyncLine(asyncio.Protocol):
    """A connection that redis-py opened, whose answers are read here from then on."""

    def __init__(self, pool: Any, connection: Any) -> None:
        self.pool, self.connection = pool, connection
        self.is_open = True
        self._answers = Answers()
        self._waiting: deque[tuple[asyncio.Future[list[Row] | None], int]] = deque()
        self._loop = asyncio.get_running_loop()
        self._timeout: float | None = connection.socket_timeout
        self._transport = transport_of(connection)
        self._before = self._transport.get_protocol()
        self._transport.set_protocol(self)

    async def ask(self, packed: bytes, count: int) -> list[Row] | None:
        """Send commands and wait for as many rows; None when the server answers something else.

        Raises
        ------
        ConnectionError
            When the connection ends before.
        redis.TimeoutError
            When the answers take longer than redis-py is told to wait.
        """
        answer: asyncio.Future[list[Row] | None] = self._loop.create_future()
        self._waiting.append((answer, count))
        self._transport.write(packed)
        if self._timeout is None:
            return await answer
        timer = self._loop.call_later(self._timeout, self._give_up, answer)
        try:
            return await answer
        finally:
            timer.cancel()

    def data_received(self, data: bytes) -> None:
        """Hand out the answers that are complete."""
        self._answers.feed(data)
        waiting = self._waiting
        try:
            while waiting and (rows := self._answers.take(waiting[0][1])) is not None:
                answer, _ = waiting.popleft()
                if not answer.done():  # nobody waits for a request that was cancelled
                    answer.set_result(rows)
        except NotARow:
            self._settle(lambda answer: answer.set_result(None))
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell all who wait, and redis-py, that nothing will come any more."""
        self._settle(lambda answer: answer.set_exception(ConnectionResetError()))
        self._before.connection_lost(exc)

    async def end(self) -> None:
        """Give the connection back, closed."""
        await self.connection.disconnect(nowait=True)
        await self.pool.release(self.connection)

    def _settle(self, settle: Callable[[asyncio.Future[list[Row] | None]], None]) -> None:
        self.is_open = False
        for answer, _ in self._waiting:
            if not answer.done():
                settle(answer)
        self._waiting.clear()

    def _give_up(self, answer: asyncio.Future[list[Row] | None]) -> None:
        if not answer.done():
            answer.set_exception(redis.TimeoutError("Timeout reading from socket"))
        self.is_open = False
        self._transport.close()
