"""Calls of a script to the server, in one pipeline, again when the server did not know it or was away for a while."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Sequence
from typing import Any

import redis
from redis.exceptions import (
    AuthorizationError,
    ClusterDownError,
    NoScriptError,
    RedisClusterException,
    TryAgainError,
)

from weakfish.errors import StoreError
from weakfish.store.online.calls import Call
from weakfish.store.online.script import digest

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
