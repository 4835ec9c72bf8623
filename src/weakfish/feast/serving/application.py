"""The service as an ASGI application: HTTP in and out, and threads that wait for the store while the loop goes on.

A request's head is judged before its body is read, and its body is read only as far as the limit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from weakfish.errors import WeakfishError
from weakfish.feast.serving.requests import Refusal
from weakfish.feast.serving.service import Reply, Request, Service, refused
from weakfish.feast.serving.snapshot import Say

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

BODY_SECONDS = 10.0


class ClientGone(Exception):
    """The client hung up before its request was whole."""


class Application:
    """An ASGI application around a service, which is made when the server starts and closed after its last answer."""

    def __init__(self, make: Callable[[], Service], threads: int, say: Say) -> None:
        self.make, self.say = make, say
        self.pool = ThreadPoolExecutor(threads, thread_name_prefix="request")
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
        most = self.service.settings.most_bytes
        try:
            self.service.check(method, path, headers)
            body = b"" if method == "GET" else await _body(headers, receive, most)
        except Refusal as refusal:
            return self.service.counted(path, refused(refusal))
        request = Request(method, path, headers, body)
        return await asyncio.get_running_loop().run_in_executor(self.pool, self.service.reply, request)

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


CLOSE = (("Connection", "close"),)


def _too_large(most: int) -> Refusal:
    return Refusal(413, f"The body is larger than {most:,} bytes; ask for fewer entities at once.", CLOSE)


def _headers(reply: Reply) -> Iterable[tuple[bytes, bytes]]:
    length = str(len(reply.body)).encode()
    headers = [(b"content-type", reply.content_type.encode()), (b"content-length", length)]
    return [*headers, *((name.lower().encode(), value.encode()) for name, value in reply.headers)]
