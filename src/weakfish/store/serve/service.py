"""A request in, a reply out, with no server around it: what paths there are, who may ask, what went wrong.

Threads of a server call `Service.reply` side by side. No traceback leaves: whatever is raised becomes a status and one
sentence, and what a client cannot help stands on stderr too.
"""

from __future__ import annotations

import hmac
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import orjson

from weakfish.project import Project
from weakfish.store.connection.address import ERRORS
from weakfish.store.serve import metrics, openapi
from weakfish.store.serve.contract import Refusal, parse
from weakfish.store.serve.keeper import Keeper, Say
from weakfish.store.serve.reading import read
from weakfish.store.serve.settings import Settings

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
