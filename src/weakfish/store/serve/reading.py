"""A question to a response's body: what is asked for is resolved, the store read, and what was found counted.

Values, statuses and order are the online store's (`weakfish.store.online.reads`), which computes on-demand views by
Feast's own function; here they get the form of Feast's JSON.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import orjson
from feast import errors
from feast.protos.feast.serving.ServingService_pb2 import FieldStatus

from weakfish.errors import UnknownName
from weakfish.store.connection.address import ERRORS
from weakfish.store.online.decode import ZERO, rfc3339
from weakfish.store.online.response import Answer, Column
from weakfish.store.serve import metrics
from weakfish.store.serve.contract import Question, Refusal, shortened
from weakfish.store.serve.generation import Asked, Generation

NAMES: dict[int, str] = {number: name for name, number in FieldStatus.items()}
NOT_FOUND, OUTSIDE_MAX_AGE = FieldStatus.NOT_FOUND, FieldStatus.OUTSIDE_MAX_AGE
SECOND = 1_000_000_000


def read(generation: Generation, question: Question) -> bytes:
    """The body of the answer to a question.

    Raises
    ------
    Refusal
        When there is no such service or feature, or the entities are not what these need, or Feast cannot answer.
    redis.RedisError
        When the store cannot be read.
    """
    asked = _resolved(generation, question)
    columns = asked.needs.columns(question.entities)
    try:
        answer = generation.answer(asked, columns)
    except (*ERRORS, Refusal):
        raise
    except Exception as error:
        raise _failed(asked, error) from error
    _count(generation, answer)
    return _json(answer)


def _resolved(generation: Generation, question: Question) -> Asked:
    try:
        return generation.resolve(question)
    except UnknownName as error:
        raise Refusal(404, shortened(str(error))) from None
    except (errors.FeastObjectNotFoundException, KeyError) as error:
        raise Refusal(404, _sentence(error)) from None
    except (errors.FeastError, ValueError) as error:
        raise Refusal(422, _sentence(error)) from None


def _failed(asked: Asked, error: Exception) -> Refusal:
    if asked.plan.on_demand:
        names = ", ".join(sorted(view.name for view in asked.plan.on_demand))
        told = f"The on-demand views ({names}) could not be computed: {type(error).__name__}."
        return Refusal(500, shortened(told))
    return Refusal(500, "The features could not be read; the server's log says why.")


def _sentence(error: Exception) -> str:
    """What Feast says, as one sentence."""
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    return shortened(" ".join(text.split()).rstrip(".") + ".")


def _json(answer: Answer) -> bytes:
    """The body; columns of one view share what they say of its rows, which is written out once."""
    said: dict[int, list[str]] = {}
    about: dict[str, Any] = {"feature_names": answer.names}
    if answer.versions:
        about["feature_view_metadata"] = [_version(*pair) for pair in answer.versions]
    results = [
        {
            "values": column.values,
            "statuses": _said(said, column.statuses, NAMES.__getitem__),
            "event_timestamps": _said(said, column.times, _time),
        }
        for column in answer.columns
    ]
    return orjson.dumps({"results": results, "metadata": about})


def _said(said: dict[int, list[str]], items: list[Any], text: Callable[[Any], str]) -> list[str]:
    found = said.get(id(items))
    if found is None:
        found = said[id(items)] = list(map(text, items))
    return found


@lru_cache(maxsize=10_000)
def _time(time: tuple[int, int]) -> str:
    return "1970-01-01T00:00:00Z" if time == ZERO else rfc3339(time)


def _version(name: str, version: int) -> dict[str, Any]:
    return {"name": name, "version": version} if version else {"name": name}


def _count(generation: Generation, answer: Answer) -> None:
    read: dict[str, Column] = {column.view: column for column in answer.columns if column.view is not None}
    if not read:
        return
    now = generation.now()
    for view, column in read.items():
        times = [time for time in column.times if time != ZERO]
        seconds, nanos = min(times, default=ZERO)
        age = (now - seconds * SECOND - nanos) / SECOND if times else None
        missing, old = column.statuses.count(NOT_FOUND), column.statuses.count(OUTSIDE_MAX_AGE)
        metrics.read(view, len(column.statuses), missing, old, age)
