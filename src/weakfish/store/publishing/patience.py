"""Waiting for a server that went away: a piece of work goes in, its result comes out, or the error that stayed.

The work is done again from its beginning, so it has to be such that doing it twice is the same as doing it once.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import redis
from redis.exceptions import ClusterDownError, RedisClusterException

T = TypeVar("T")

WAITS = (0.2, 0.5, 1.0, 2.0, 4.0)
"""Seconds between one try and the next."""

GONE = (redis.ConnectionError, redis.TimeoutError, redis.WatchError, ClusterDownError, RedisClusterException)
"""What a client raises when its server went away; a connection lost in a transaction is a `redis.WatchError`."""

FOR_GOOD = (redis.AuthenticationError, redis.exceptions.AuthorizationError)
"""Errors of a connection that time does not heal."""


def patiently(work: Callable[[], T]) -> T:
    """Do a piece of work, and again after a while when the connection is lost; the last try's error is raised."""
    for wait in WAITS:
        try:
            return work()
        except FOR_GOOD:
            raise
        except GONE:
            time.sleep(wait)
    return work()
