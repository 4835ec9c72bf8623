"""The service as an ASGI application: HTTP in and out, and threads that wait for the store while the loop goes on.

A request's head is judged before its body is read, and its body is read only as far as the limit.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol

from weakfish.errors import UserError, WeakfishError

TOKEN = "WEAKFISH_SERVE_TOKEN"  # noqa: S105 - the variable's name
SHORTEST_TOKEN = 16

BODY_SECONDS = 10.0
JSON = "application/json"
CLOSE = (("Connection", "close"),)


@dataclass(frozen=True)
class ServeSettings:
    """Where to listen, how many may work, how much may be asked, and the token to show (None: none)."""

    host: str
    port: int
    workers: int
    threads: int
    max_entities: int
    max_bytes: int
    store_seconds: float
    token: bytes | None = field(default=None, repr=False)


def token() -> bytes | None:
    """The token that clients have to show; None when the variable is not set.

    Raises
    ------
    UserError
        When it is set to nothing, or to so little that it can be guessed.
    """
    value = os.environ.get(TOKEN)
    if value is None:
        return None
    if len(value) < SHORTEST_TOKEN or value != value.strip() or not value.isascii() or not value.isprintable():
        raise UserError(
            f"{TOKEN} is set, but not to {SHORTEST_TOKEN} or more ASCII characters without space around them; correct "
            "it, or unset it if clients need no token."
        )
    return value.encode()


class Refusal(Exception):
    """An answer other than 200: the HTTP status, and the sentence that the client gets as ``{"detail": ...}``."""

    def __init__(self, status: int, sentence: str, headers: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence
        self.headers = headers


@dataclass(frozen=True, slots=True)
class Reply:
    """What a request is answered with; ``headers`` come beside the content's type and length."""

    status: int
    body: bytes
    content_type: str = JSON
    headers: tuple[tuple[str, str], ...] = ()


class Service(Protocol):
    """What answers requests; see `weakfish.feast.serving.service`."""

    def start(self) -> None:
        """Begin to look after the store and the registry."""

    def stop(self) -> None:
        """End that."""

    def check(self, method: str, path: str, headers: Mapping[bytes, bytes]) -> None:
        """Refuse a request by its head; raises `Refusal`."""

    def reply(self, path: str, body: bytes) -> Reply:
        """The answer to a request that was checked."""

    def refused(self, path: str, refusal: Refusal) -> Reply:
        """The answer to a request that was refused."""


Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Say = Callable[[str], None]


class ClientGone(Exception):
    """The client hung up before its request was whole."""


class Application:
    """An ASGI application around a service, which is made when the server starts and closed after its last answer.

    Threads wait for the store while the event loop goes on.
    """

    def __init__(self, make: Callable[[], Service], settings: ServeSettings, say: Say) -> None:
        self.make, self.max_bytes, self.say = make, settings.max_bytes, say
        self.pool = ThreadPoolExecutor(settings.threads, thread_name_prefix="request")
        self.service: Service

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one request, or the life of the server."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http":
            try:
                reply = await self._reply(scope, receive)
            except ClientGone:
                return
            await send({"type": "http.response.start", "status": reply.status, "headers": _headers(reply)})
            await send({"type": "http.response.body", "body": reply.body})

    async def _reply(self, scope: Message, receive: Receive) -> Reply:
        method, path, headers = scope["method"], scope["path"], dict(scope["headers"])
        try:
            self.service.check(method, path, headers)
            body = b"" if method == "GET" else await _body(headers, receive, self.max_bytes)
        except Refusal as refusal:
            return self.service.refused(path, refusal)
        return await asyncio.get_running_loop().run_in_executor(self.pool, self.service.reply, path, body)

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            self.service = self.make()
        except WeakfishError as error:
            self.say(str(error))
            await send({"type": "lifespan.startup.failed", "message": ""})
            return
        self.service.start()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await asyncio.to_thread(self.service.stop)
        self.pool.shutdown()
        await send({"type": "lifespan.shutdown.complete"})


async def _body(headers: dict[bytes, bytes], receive: Receive, most: int) -> bytes:
    """A request's whole body; refused as soon as it is, or is announced to be, too large or too slow."""
    if int(headers.get(b"content-length", b"0")) > most:
        raise _too_large(most)
    message = await receive()
    if not message.get("more_body"):  # nearly always
        return _part(message, most)
    try:
        async with asyncio.timeout(BODY_SECONDS):
            parts = [_part(message, most)]
            while message.get("more_body"):
                message = await receive()
                parts.append(_part(message, most - sum(map(len, parts))))
            return b"".join(parts)
    except TimeoutError:
        raise Refusal(408, f"The body did not arrive within {BODY_SECONDS:.0f} seconds.", CLOSE) from None


def _part(message: Message, most: int) -> bytes:
    if message["type"] == "http.disconnect":
        raise ClientGone
    part: bytes = message.get("body", b"")
    if len(part) > most:
        raise _too_large(most)
    return part


def _too_large(most: int) -> Refusal:
    return Refusal(413, f"The body is larger than {most:,} bytes; ask for fewer entities at once.", CLOSE)


def _headers(reply: Reply) -> Iterable[tuple[bytes, bytes]]:
    length = str(len(reply.body)).encode()
    headers = [(b"content-type", reply.content_type.encode()), (b"content-length", length)]
    return [*headers, *((name.lower().encode(), value.encode()) for name, value in reply.headers)]
