"""What is said to Redis: rows are asked for, scripts are called, and a key is read, through one client.

One server is asked directly: commands are put together as bytes, sent over a connection that redis-py opened and that
is kept here, and hiredis reads the answers. What is not plainly an answer, and every other kind of client (a
cluster, a primary that Sentinels name), goes through redis-py's own pipeline, with its retries and errors.
"""

from __future__ import annotations

import asyncio
import functools
import os
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha1
from itertools import islice
from typing import Any

import hiredis
import redis
from redis.exceptions import NoScriptError

from weakfish.feast import layout
from weakfish.feast.clients import is_one_server, socket_of
from weakfish.feast.deadlines import LONGEST_SIZE, refuse_huge

Row = list[bytes | None]
"""Fields of a hash, None for those that it lacks; empty where the key holds something else than a hash."""

MAX_ROWS = 5_000
"""Hashes asked for in one round trip."""


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

    def commands(self, keys: Sequence[bytes]) -> bytes:
        """One HMGET a key, one after another, as the server reads them."""
        head, tail = self._head, self._tail
        if len(set(map(len, keys))) == 1:
            head += b"%d\r\n" % len(keys[0])
            return head + (tail + head).join(keys) + tail
        return b"".join([b"%b%d\r\n%b%b" % (head, len(key), key, tail) for key in keys])


Wants = Sequence[tuple[Want, Sequence[bytes]]]
Argument = bytes | str | int


@dataclass(frozen=True)
class Call:
    """One call of a script."""

    keys: Sequence[bytes]
    arguments: Sequence[Argument]

    def command(self, *script: str) -> tuple[Argument, ...]:
        """The whole command, given its name and its script or the script's digest."""
        return (*script, len(self.keys), *self.keys, *self.arguments)


@functools.lru_cache(maxsize=256)
def digest(script: str) -> str:
    """The name by which a server knows a script that it has seen."""
    return sha1(script.encode(), usedforsecurity=False).hexdigest()


class Exchange:
    """Talks to Redis through one client; threads may share it. Everything raises `redis.RedisError`."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.idle: deque[_Line] = deque()
        self._is_direct = is_one_server(client)
        self._is_plain = self._is_direct and client.connection_pool.connection_class is redis.Connection
        self._process = os.getpid()

    def fetch(self, wants: Wants) -> list[list[Row]]:
        """The rows of each want's keys, in few round trips."""
        rows: list[Row] = []
        for part in _parts(wants):
            found = self._ask([_commands(part)], _count(part), list) if self._is_direct and _count(part) else None
            if found is None:
                asked = [("HMGET", key, *want.fields) for want, keys in part for key in keys]
                found = layout.answers(self._pipeline(asked, raises=False), of_other_type=[])
            rows += found
        return _split(rows, wants)

    async def fetch_async(self, wants: Wants) -> list[list[Row]]:
        """What `fetch` does, while the event loop goes on.

        A connection that is open already waits in the loop. Everything else, such as opening one, repeating after a
        loss, TLS and clusters, is `fetch` in a thread.
        """
        count = _count(wants) if self._is_plain else 0
        line = self._idle() if 0 < count <= MAX_ROWS else None
        if line is not None:
            try:
                rows = await line.ask_async(_commands(wants), count)
            except BaseException as error:
                line.fail(error)
            else:
                self.idle.append(line)
                return _split(rows, wants)
        return await asyncio.to_thread(self.fetch, wants)

    def call(self, script: str, calls: Sequence[Call]) -> list[int]:
        """The answers to calls of a script; a server that does not know it is told once. Raises what a call raised."""
        commands = [call.command("EVALSHA", digest(script)) for call in calls]
        found = self._numbers(commands)
        if found is not None:
            return found
        answers = self._pipeline(commands, raises=False)
        unknown = [place for place, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
        if unknown:
            self.client.execute_command("SCRIPT LOAD", script)
            again = self._pipeline([commands[place] for place in unknown], raises=False)
            for place, answer in zip(unknown, again, strict=True):
                answers[place] = answer
        return layout.answers(answers, of_other_type=0)

    def numbers(self, commands: Sequence[tuple[Argument, ...]]) -> list[int]:
        """The answers to commands that are answered with a number; 0 where redis-py has an error for one."""
        answers = list[int]()
        for start in range(0, len(commands), MAX_ROWS):
            part = commands[start : start + MAX_ROWS]
            found = self._numbers(part)
            answers += layout.answers(self._pipeline(part, raises=False), of_other_type=0) if found is None else found
        return answers

    def _numbers(self, commands: Sequence[tuple[Argument, ...]]) -> list[int] | None:
        """Numbers over a connection of our own; None where redis-py has to be asked instead."""
        if not self._is_direct or not commands:
            return None
        packed = [hiredis.pack_command(command) for command in commands]  # type: ignore[arg-type]
        return self._ask(packed, len(commands), int)

    def _pipeline(self, commands: Sequence[tuple[Any, ...]], *, raises: bool = True) -> list[Any]:
        with self.client.pipeline(transaction=False) as pipe:
            for command in commands:
                pipe.execute_command(*command)
            answers: list[Any] = pipe.execute(raise_on_error=raises)
            return answers

    def close(self) -> None:
        """Give the connections that nobody uses back to redis-py."""
        while line := self._idle():
            line.pool.release(line.connection)

    def _ask(self, packed: Iterable[bytes], count: int, kind: type) -> list[Any] | None:
        """Answers of a kind over a connection of our own; None where redis-py has to be asked instead."""
        line = self._idle() or _Line(self.client.connection_pool)
        try:
            answers = line.ask(packed, count, kind)
        except BaseException as error:
            line.fail(error)
            return None
        self.idle.append(line)
        return answers

    def _idle(self) -> _Line | None:
        """A connection that nobody uses."""
        if self._process != os.getpid():  # a fork must not speak on its parent's lines
            self.idle, self._process = deque(), os.getpid()
        try:
            return self.idle.pop()
        except IndexError:
            return None


def _commands(wants: Wants) -> bytes:
    return b"".join([want.commands(keys) for want, keys in wants])


def _count(wants: Wants) -> int:
    return sum([len(keys) for _, keys in wants])


def _split(rows: list[Row], wants: Wants) -> list[list[Row]]:
    """Rows by the want that they answer."""
    if len(wants) == 1:
        return [rows]
    rest = iter(rows)
    return [list(islice(rest, len(keys))) for _, keys in wants]


def _parts(wants: Wants) -> Iterator[Wants]:
    if _count(wants) <= MAX_ROWS:
        yield wants
        return
    for want, keys in wants:
        for start in range(0, len(keys), MAX_ROWS):
            yield [(want, keys[start : start + MAX_ROWS])]


class NotAnAnswer(Exception):
    """An error or a push: redis-py asks again, and says what is wrong."""


MORE = object()
"""What hiredis says while an answer is incomplete."""

RECEIVED = 65_536
"""Bytes that are read at once."""


class _Line:
    """A connection taken out of redis-py's pool for as long as it works, and what reads its answers."""

    def __init__(self, pool: Any) -> None:
        self.pool = pool
        self.connection = pool.get_connection()
        self.socket = socket_of(self.connection)
        self._reader, self._head = hiredis.Reader(notEnoughData=MORE), b""

    def ask(self, packed: Iterable[bytes], count: int, kind: type) -> list[Any]:
        """Send commands and read as many answers; raises `NotAnAnswer` for one that is not of the kind."""
        self._head, seconds = b"", self.socket.gettimeout()
        for piece in packed:  # each has the whole of the socket's timeout, and so have all answers
            self.socket.sendall(piece)
        end, answers = time.monotonic() + (seconds or 0), list[Any]()
        while not self._has_read(answers, count, kind):
            if seconds is not None:
                left = end - time.monotonic()
                if left <= 0:
                    raise TimeoutError
                self.socket.settimeout(left)
            self._feed(self.socket.recv(RECEIVED))
        self.socket.settimeout(seconds)
        return answers

    async def ask_async(self, packed: bytes, count: int) -> list[Row]:
        """What `ask` does, in the event loop, for rows."""
        loop, seconds, rows = asyncio.get_running_loop(), self.socket.gettimeout(), list[Row]()
        self._head = b""
        self.socket.setblocking(False)
        async with asyncio.timeout(seconds):
            await loop.sock_sendall(self.socket, packed)
            while not self._has_read(rows, count, list):
                self._feed(await loop.sock_recv(self.socket, RECEIVED))
        self.socket.settimeout(seconds)
        return rows

    def _feed(self, data: bytes) -> None:
        if not data:
            raise ConnectionResetError
        if len(self._head) < LONGEST_SIZE:
            self._head = refuse_huge(self._head + data[:LONGEST_SIZE])
        self._reader.feed(data)

    def _has_read(self, answers: list[Any], count: int, kind: type) -> bool:
        """Move answers that came whole; tells whether these are all."""
        gets = self._reader.gets
        while len(answers) < count:
            answer = gets()
            if type(answer) is kind:
                answers.append(answer)
            elif answer is MORE:
                return False
            elif kind is list and layout.is_of_other_type(answer):
                answers.append([])
            else:
                raise NotAnAnswer
        return True

    def fail(self, error: BaseException) -> None:
        """Close it, since an answer may be on its way; raises the error unless redis-py is to connect and try again."""
        self.connection.disconnect()
        self.pool.release(self.connection)
        if isinstance(error, TimeoutError):
            raise redis.TimeoutError("Timeout reading from socket") from error
        if not isinstance(error, (OSError, NotAnAnswer)):
            raise error
