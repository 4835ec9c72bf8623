"""A question to a response's body: what is asked for is resolved, the store read, and what was found counted.

Values, statuses and order are the online store's (`weakfish.feast.online`), which computes on-demand views by
Feast's own function; here they get the form of Feast's JSON.
"""

from __future__ import annotations

import hmac
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import weakfish.feast.adapter  # noqa: F401 - first: it makes the import of Feast cheap

import orjson
from feast import errors
from feast.protos.feast.serving.ServingService_pb2 import FieldStatus

from weakfish.errors import UnknownName
from weakfish.feast.clients import ERRORS
from weakfish.feast.decoding import ZERO, Answer, Column, rfc3339
from weakfish.feast.serving import metrics, openapi
from weakfish.feast.serving.requests import Question, Refusal, parse, shortened
from weakfish.feast.serving.snapshot import Asked, Generation, Keeper, Say, Settings
from weakfish.project.paths import Project

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


JSON = "application/json"
OTHER = "other"
LOST = "The online store does not answer; try again in a moment."


@dataclass(frozen=True, slots=True)
class Request:
    """What a server was asked; headers are by lower-case name."""

    method: str
    path: str
    headers: Mapping[bytes, bytes]
    body: bytes


@dataclass(frozen=True, slots=True)
class Reply:
    """What it is to answer; ``headers`` come beside the content's type and length."""

    status: int
    body: bytes
    content_type: str = JSON
    headers: tuple[tuple[str, str], ...] = ()


class Service:
    """The paths of the server, answered from what its keeper keeps."""

    def __init__(self, project: Project, settings: Settings, say: Say) -> None:
        self.settings, self.say = settings, say
        self.keeper = Keeper(project, settings, say)
        self.bearer = b"Bearer " + settings.token if settings.token else None
        self.paths: dict[str, tuple[str, Callable[[Request], Reply]]] = {
            "/get-online-features": ("POST", self._features),
            "/health": ("GET", self._health),
            "/metrics": ("GET", self._metrics),
            "/openapi.json": ("GET", self._openapi),
        }

    def start(self) -> None:
        """Begin to look after the store and the registry."""
        self.keeper.start()

    def stop(self) -> None:
        """End that."""
        self.keeper.stop()

    def check(self, method: str, path: str, headers: Mapping[bytes, bytes]) -> None:
        """Refuse a request by its head; raises `Refusal`."""
        taken, _ = self.paths.get(path, ("", None))
        if self.bearer and path != "/health" and not self._shows_token(headers):
            raise Refusal(401, "The token is missing or wrong.", (("WWW-Authenticate", "Bearer"),))
        if not taken:
            raise Refusal(404, f"There is nothing here; there are {', '.join(self.paths)}.")
        if method != taken:
            raise Refusal(405, f"This path takes {taken} alone.", (("Allow", taken),))
        if method == "POST" and not is_json(headers.get(b"content-type", b"")):
            raise Refusal(415, f"The body must be declared as JSON, by the header Content-Type: {JSON}.")

    def reply(self, request: Request) -> Reply:
        """The answer to a request that was checked, counted."""
        try:
            reply = self.paths[request.path][1](request)
        except Refusal as refusal:
            if refusal.status == 500:
                self._told(refusal.sentence, refusal.__cause__ or refusal)
            reply = refused(refusal)
        except Exception as error:
            self._told(f"A request failed: {type(error).__name__}.", error)
            reply = refused(Refusal(500, "The server could not answer this request; its log says why."))
        return self.counted(request.path, reply)

    def counted(self, path: str, reply: Reply) -> Reply:
        """A reply that is about to be sent; paths that do not exist are counted together."""
        metrics.answered(path if path in self.paths else OTHER, reply.status)
        return reply

    def _shows_token(self, headers: Mapping[bytes, bytes]) -> bool:
        shown = headers.get(b"authorization", b"")
        return self.bearer is not None and hmac.compare_digest(shown, self.bearer)

    def _features(self, request: Request) -> Reply:
        began = time.perf_counter()
        question = parse(request.body, self.settings.most_entities)
        if self.keeper.lost:
            raise lost()
        generation = self.keeper.generation
        try:
            body = read(generation, question)
        except ERRORS as error:
            self.keeper.doubt()
            raise lost() from error
        metrics.took(question.feature_service or "", time.perf_counter() - began)
        return Reply(200, body)

    def _health(self, request: Request) -> Reply:
        if self.keeper.lost:
            raise lost()
        return Reply(200, b"")

    def _metrics(self, request: Request) -> Reply:
        return Reply(200, metrics.page(), metrics.CONTENT_TYPE)

    def _openapi(self, request: Request) -> Reply:
        needs = self.keeper.generation.needs()
        return Reply(200, openapi.document(needs, self.settings.most_entities, self.bearer is not None))

    def _told(self, sentence: str, error: BaseException) -> None:
        """Tell who runs the server what should not happen; with --debug, where."""
        self.say(sentence)
        if "--debug" in sys.argv:
            traceback.print_exception(error)


def lost() -> Refusal:
    """What every request gets while the store does not answer."""
    return Refusal(503, LOST, (("Retry-After", "1"),))


def refused(refusal: Refusal) -> Reply:
    """The reply that says what is wrong."""
    return Reply(refusal.status, orjson.dumps({"detail": refusal.sentence}), headers=refusal.headers)


def is_json(content_type: bytes) -> bool:
    """Whether a content type is JSON, as Feast's server sees it."""
    kind = content_type.partition(b";")[0].strip().lower()
    return kind == b"application/json" or (kind.startswith(b"application/") and kind.endswith(b"+json"))
