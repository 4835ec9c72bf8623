"""The service as an ASGI application: from a request's bytes to Feast's JSON.

A request's head is judged before its body is read, and its body is read only as far as the limit. Threads wait for the
store while the event loop goes on.
"""

from __future__ import annotations

import asyncio
import hmac
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import weakfish.feast.adapter  # noqa: F401 - first: it makes the import of Feast cheap

import orjson
from feast import errors
from feast.value_type import ValueType
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from weakfish.errors import UnknownName, WeakfishError
from weakfish.feast.clients import ERRORS
from weakfish.feast.read_plan import ReadPlan
from weakfish.feast.serving import THREADS, ServeSettings, metrics, say
from weakfish.feast.serving.access import Authenticator, authenticator, require_permission, wrong_token
from weakfish.feast.serving.messages import JSON, Columns, FeatureRequest, checked, document, parse, refusal, rendered
from weakfish.feast.serving.snapshots import Snapshot, Watcher
from weakfish.project.paths import Project

if TYPE_CHECKING:
    from feast.permissions.user import User

FEATURES, HEALTH = "/get-online-features", "/health"
CLOSE = {"Connection": "close"}
LONGEST_PATH = 200
"""Characters of a path that the access log shows."""

Message = MutableMapping[str, Any]


class FeatureServer:
    """The server's paths, answered from the snapshot that its watcher keeps current.

    The watcher is made when the server starts and stopped after its last answer.
    """

    def __init__(self, project: Project, settings: ServeSettings) -> None:
        self.project, self.settings = project, settings
        self.token = settings.token
        self.pool = ThreadPoolExecutor(settings.threads, thread_name_prefix=THREADS)
        self.aside = ThreadPoolExecutor(2, thread_name_prefix=THREADS)  # for what waits for nobody
        self.asking = ThreadPoolExecutor(settings.threads, thread_name_prefix=THREADS)  # issuers of tokens
        self.watcher: Watcher
        self.authenticator: Authenticator | None = None
        self.paths: dict[str, tuple[str, Callable[[bytes, User | None], Response]]] = {
            FEATURES: ("POST", self._features),
            HEALTH: ("GET", self._health),
            "/metrics": ("GET", lambda *_: Response(metrics.page(), media_type=metrics.CONTENT_TYPE)),
            "/openapi.json": ("GET", self._openapi),
        }

    async def __call__(self, scope: Message, receive: Any, send: Any) -> None:
        """Serve one request, or the life of the server."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http":
            began = time.perf_counter()
            try:
                response = await self._response(scope, receive)
            except ClientDisconnect:
                return
            await response(scope, receive, send)
            if self.settings.access_log:
                seconds = time.perf_counter() - began
                client, path = (scope.get("client") or ("-",))[0], quote(scope["path"][:LONGEST_PATH])
                say(f"{client} {scope['method']} {path} {response.status_code} {seconds * 1000:.1f} ms")

    async def _live(self, receive: Any, send: Any) -> None:
        await receive()
        try:
            self.watcher = Watcher(self.project, self.settings)
            self.authenticator = authenticator(self.watcher.snapshot.store, self.token is not None)
        except WeakfishError as error:
            say(str(error))
            await send({"type": "lifespan.startup.failed", "message": ""})
            return
        self.watcher.start()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await asyncio.to_thread(self.watcher.stop)
        for pool in (self.pool, self.aside, self.asking):
            pool.shutdown(wait=False, cancel_futures=True)
        await send({"type": "lifespan.shutdown.complete"})

    async def _response(self, scope: Message, receive: Any) -> Response:
        path, headers, user = scope["path"], dict(scope["headers"]), None
        run = asyncio.get_running_loop().run_in_executor
        try:
            _check_head(scope)
            if self.authenticator and path != HEALTH:
                user = await self._user(self.authenticator, headers)
            self._check(scope["method"], path, headers)
            body = b"" if scope["method"] == "GET" else await self._body(scope, receive, headers)
            if path == HEALTH:
                return self._answer(path, body, user)  # whatever all threads wait for
            return await run(self.pool if path == FEATURES else self.aside, self._answer, path, body, user)
        except asyncio.CancelledError:
            say(f"A request was not finished within {self.settings.finish_seconds} seconds of the end; it got 503.")
            return self._refused(path, refusal(503, "The server is ending; try again in a moment.", CLOSE))
        except HTTPException as refused:
            return self._refused(path, refused)

    async def _user(self, authenticator: Authenticator, headers: Mapping[bytes, bytes]) -> User:
        """Who asks; refused when the issuer of the tokens takes too long to say how they are signed."""
        run = asyncio.get_running_loop().run_in_executor
        try:
            async with asyncio.timeout(self.settings.request_seconds):
                return await run(self.asking, authenticator.user, headers)
        except TimeoutError:
            sentence = "The token could not be checked, since its issuer does not answer; try again in a moment."
            raise refusal(503, sentence, {"Retry-After": "1"}) from None

    def _refused(self, path: str, refused: HTTPException) -> Response:
        """An answer that says why there is none, counted."""
        metrics.answered(path if path in self.paths else metrics.OTHER, refused.status_code)
        return Response(orjson.dumps({"detail": refused.detail}), refused.status_code, refused.headers, JSON)

    def _check(self, method: str, path: str, headers: Mapping[bytes, bytes]) -> None:
        """Refuse a request by its head."""
        taken, _ = self.paths.get(path, ("", None))
        scheme, _, shown = headers.get(b"authorization", b"").partition(b" ")
        is_shown = self.token and hmac.compare_digest(shown.strip(), self.token) and scheme.lower() == b"bearer"
        if self.token and path != HEALTH and not is_shown:
            raise wrong_token()
        if not taken:
            raise refusal(404, f"There is nothing here; there are {', '.join(self.paths)}.")
        if method != taken:
            raise refusal(405, f"This path takes {taken} alone.", {"Allow": taken})
        kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
        is_json = kind == b"application/json" or (kind.startswith(b"application/") and kind.endswith(b"+json"))
        if method == "POST" and not is_json:  # which is what Feast's server takes for JSON
            raise refusal(415, f"The body must be declared as JSON, by the header Content-Type: {JSON}.")

    async def _body(self, scope: Message, receive: Any, headers: Mapping[bytes, bytes]) -> bytes:
        """A request's whole body; refused as soon as it is, or is announced to be, too large or too slow."""
        most, seconds, parts = self.settings.max_bytes, self.settings.request_seconds, bytearray()
        too_large = refusal(413, f"The body is larger than {most:,} bytes; ask for fewer entities at once.", CLOSE)
        if int(headers.get(b"content-length", b"0")) > most:
            raise too_large
        try:
            async with asyncio.timeout(seconds):
                async for part in Request(scope, receive).stream():
                    parts += part
                    if len(parts) > most:
                        raise too_large
        except TimeoutError:
            raise refusal(408, f"The body did not arrive within {seconds:g} seconds.", CLOSE) from None
        return bytes(parts)

    def _answer(self, path: str, body: bytes, user: User | None) -> Response:
        """The answer to a request that was checked, counted."""
        try:
            response = self.paths[path][1](body, user)
        except HTTPException as refused:
            if refused.status_code == 500:
                self._tell(refused.detail, refused.__cause__ or refused)
            raise
        except Exception as error:
            self._tell(f"A request failed: {type(error).__name__}.", error)
            raise refusal(500, "The server could not answer this request; its log says why.") from error
        metrics.answered(path, response.status_code)
        return response

    def _features(self, body: bytes, user: User | None) -> Response:
        began = time.perf_counter()
        question = parse(body, self.settings.max_entities)
        if self.watcher.lost:
            raise _lost()
        try:
            answer = features(self.watcher.snapshot, question, user)
        except ERRORS as error:
            self.watcher.check_now()
            raise _lost() from error
        metrics.took(question.feature_service or "", time.perf_counter() - began)
        return Response(answer, media_type=JSON)

    def _health(self, *_: Any) -> Response:
        if self.watcher.lost:
            raise _lost()
        return Response(media_type=JSON)

    def _openapi(self, *_: Any) -> Response:
        inputs, with_token = self.watcher.snapshot.inputs(), bool(self.token or self.authenticator)
        return Response(document(inputs, self.settings.max_entities, with_token), media_type=JSON)

    def _tell(self, sentence: str, error: BaseException) -> None:
        """Tell the operator what should not happen; with --debug, where."""
        say(sentence)
        if "--debug" in sys.argv:
            traceback.print_exception(error)


def _check_head(scope: Message) -> None:
    """Refuse a head that leaves open where its request goes or how its body is to be read (RFC 9112, 3.2 and 6.1)."""
    given = [(name, value.strip().lower()) for name, value in scope["headers"]]
    hosts = sum(name == b"host" for name, _ in given)
    if hosts > 1 or (not hosts and scope["http_version"] != "1.0"):
        raise refusal(400, "The request must have one Host header.", CLOSE)
    if [value for name, value in given if name == b"transfer-encoding"] not in ([], [b"chunked"]):
        raise refusal(501, "The only Transfer-Encoding that is taken is chunked.", CLOSE)
    if any(name == b"content-encoding" and value != b"identity" for name, value in given):
        raise refusal(415, "The body must not be compressed; send it without Content-Encoding.", CLOSE)


def _lost() -> HTTPException:
    return refusal(503, "The online store does not answer; try again in a moment.", {"Retry-After": "1"})


def features(snapshot: Snapshot, question: FeatureRequest, user: User | None = None) -> bytes:
    """The body of the answer to a question; permissions count for a ``user`` alone.

    Raises
    ------
    HTTPException
        When there is no such service or feature, the user may not read it, the entities are not what it needs, or
        Feast cannot answer.
    redis.RedisError
        When the store cannot be read.
    """
    try:
        if user is not None:
            require_permission(snapshot.store, question, snapshot.services, user)
        plan = snapshot.plan(question)
    except UnknownName as error:
        raise refusal(404, str(error)) from None
    except (errors.FeastError, KeyError, ValueError) as error:
        text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
        status = 404 if isinstance(error, errors.FeastObjectNotFoundException | KeyError) else 422
        raise refusal(status, " ".join(text.split()).rstrip(".") + ".") from None
    columns = checked(plan.inputs, question.entities)
    try:
        response = snapshot.response(plan, columns)
        body, seen = rendered(plan, response)
    except ERRORS:
        raise
    except Exception as error:
        raise _failure(snapshot, plan, columns, error) from error
    for view, (statuses, times) in seen.items():
        _count(view, statuses, times, snapshot)
    if response.unreadable:
        for read in plan.views:
            for feature, column in zip(read.features, read.columns, strict=True):
                if column in response.unreadable:
                    metrics.unreadable(read.name, feature, response.unreadable[column])
    return body


def _failure(snapshot: Snapshot, plan: ReadPlan, columns: Columns, error: Exception) -> HTTPException:
    """What a client is told when features could not be read or computed."""
    if not plan.on_demand:
        return refusal(500, "The features could not be read; the server's log says why.")
    views, why = ", ".join(sorted(view.name for view in plan.on_demand)), type(error).__name__
    if texts := _unusable_texts(snapshot, plan, columns):
        named = ", ".join(map(repr, texts))
        return refusal(422, f"The on-demand views ({views}) cannot use the text of {named} ({why}); correct it.")
    return refusal(500, f"The on-demand views ({views}) could not be computed: {why}.")


MOST_TRIED = 16
"""Columns of texts for each of which the views are computed once more, to see whether they fail on it."""

TEXTS = {ValueType.STRING: "0", ValueType.UNIX_TIMESTAMP: "1970-01-01T00:00:00+00:00"}
"""Texts of types that most code can use."""


def _unusable_texts(snapshot: Snapshot, plan: ReadPlan, columns: Columns) -> list[str]:
    """The request's texts that on-demand views fail on: with nulls, or texts that are usable, they are computed."""

    def works(names: Iterable[str], instead: Mapping[ValueType, str]) -> bool:
        others = {name: [instead.get(plan.inputs.request[name])] * len(columns[name]) for name in names}
        try:
            snapshot.response(plan, {**columns, **others})
        except ERRORS:
            raise
        except Exception:  # of code that is the team's own
            return False
        return True

    texts = [name for name in columns if name in plan.inputs.request and str in set(map(type, columns[name]))]
    for instead in (TEXTS, {}) if texts else ():
        if works(texts, instead):
            if len(texts) > MOST_TRIED:
                return texts
            others = ({*texts} - {name} for name in texts)
            return [name for name, rest in zip(texts, others, strict=True) if not works(rest, instead)] or texts
    return []


def _count(view: str, statuses: list[str], times: list[tuple[int, int]], snapshot: Snapshot) -> None:
    """Tell the metrics what was read of a view."""
    known = [time for time in times if time != (0, 0)]
    seconds, nanos = min(known, default=(0, 0))
    age = (snapshot.now() - seconds * 1_000_000_000 - nanos) / 1e9 if known else None
    metrics.read(view, len(statuses), statuses.count("NOT_FOUND"), statuses.count("OUTSIDE_MAX_AGE"), age)
