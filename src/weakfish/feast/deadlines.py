"""How long redis-py waits: its timeout is that of a whole answer here, for every kind of client."""

from __future__ import annotations

import time
from typing import Any

import redis
from redis._parsers.hiredis import SENTINEL, _HiredisParser  # type: ignore[attr-defined]
from redis.cluster import RedisCluster


class DeadlineParser(_HiredisParser):
    """redis-py's parser, whose timeout begins anew with every piece of an answer; here it is that of the whole answer.

    An array that no server here would send is refused before it is made, too.
    """

    def read_response(self, *arguments: Any, **named: Any) -> Any:
        """Read an answer; raises `redis.TimeoutError` when it is not whole in time."""
        self.head, self.end = b"", time.monotonic() + (self._socket_timeout or 0)
        return super().read_response(*arguments, **named)

    def read_from_socket(self, timeout: Any = SENTINEL, raise_on_timeout: bool = True) -> bool:
        """Read a piece."""
        if timeout is SENTINEL and self._socket_timeout is not None:
            timeout = self.end - time.monotonic()
            if timeout <= 0:
                raise redis.TimeoutError("Timeout reading from socket")
        has_read: bool = super().read_from_socket(timeout, raise_on_timeout)  # type: ignore[no-untyped-call]
        if has_read and len(self.head) < LONGEST_SIZE:
            self.head = refuse_huge(self.head + self._buffer[:LONGEST_SIZE])
        return has_read


LONGEST_SIZE = 9
"""Bytes of an array's head with which it has ten million elements: hiredis makes room for all before the first."""


def refuse_huge(head: bytes) -> bytes:
    """What an answer begins with; raises `redis.ConnectionError` for an array of ten million elements or more."""
    if head[:1] in (b"*", b"%", b"~", b">") and head[1:LONGEST_SIZE].isdigit() and len(head) >= LONGEST_SIZE:
        raise redis.ConnectionError("an answer of more elements than there can be")
    return head


def with_deadlines(connection: Any) -> None:
    """Begin a connection, with a `DeadlineParser`."""
    if type(connection._parser) is _HiredisParser:
        connection._parser.__class__ = DeadlineParser
    connection.on_connect()


class DeadlineCluster(RedisCluster):
    """redis-py's, with connections that have a `DeadlineParser`."""

    def on_connect(self, connection: Any) -> None:
        """Begin a connection."""
        connection._parser.__class__ = DeadlineParser
        super().on_connect(connection)  # type: ignore[no-untyped-call]
