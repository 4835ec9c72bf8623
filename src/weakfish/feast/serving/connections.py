"""What a connection may cost before anyone knows who is there: uvicorn's protocol with limits, and a good end.

uvicorn bounds neither the size of a request's head nor the time that it takes, and closes connections while the client
still sends, which can cost the client its answer. All of uvicorn that is overridden stands here.
"""

from __future__ import annotations

import asyncio
import math
import socket
import time
from collections.abc import Iterator
from typing import Any, cast

import httptools
import orjson
import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.supervisors import multiprocess

from weakfish.feast.serving import ServeSettings

PIECE = 4096
"""Bytes that are parsed at once: the parser does not say where in them a head ends."""

MOST_WAITING = 16
"""Requests that a client may send ahead of the answers."""

LINGER_SECONDS = 5.0
"""How long a client that is still sending may take to read its last answer."""

LAST_CALL_SECONDS = 2.0
"""How long an idle connection is kept when the server ends: its next request can be under way."""

REFUSALS = {
    400: "This is not an HTTP request.",
    408: "The head of the request did not arrive within {request_seconds:g} seconds.",
    431: "The head of the request is larger than {max_head:,} bytes.",
    503: "The server has as many connections as it may have; try again in a moment.",
}
"""What is answered to what never becomes a request."""


class _Lingering:
    """A transport that, when closed, discards what still arrives until the client has read its answer and hangs up.

    A socket that is closed with unread bytes in it is reset, and the answer is lost with it.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop, self._has_ended = transport, loop, False
        self._timer: asyncio.TimerHandle | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def is_closing(self) -> bool:
        return self._has_ended or self._transport.is_closing()

    def write(self, data: bytes) -> None:
        if not self._transport.is_closing():  # uvloop raises then, and nobody is told yet that the client has gone
            self._transport.write(data)

    def close(self) -> None:
        if not self.is_closing():
            self._has_ended = True
            self._transport.write_eof()
            self._transport.resume_reading()
            self.abort_unless_read(LINGER_SECONDS)

    def abort_unless_read(self, seconds: float, before: float = math.inf) -> None:
        """End the connection once the client takes nothing of what waits for it for some seconds."""
        self.wait_on()
        self._timer = self._loop.call_later(seconds, self._look, seconds, before)

    def wait_on(self) -> None:
        """End it no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _look(self, seconds: float, before: float) -> None:
        if self._transport.is_closing():
            return
        left = self._transport.get_write_buffer_size()
        if 0 < left < before:
            self.abort_unless_read(seconds, left)
        else:
            self._transport.abort()


class Connection(HttpToolsProtocol):
    """One connection: uvicorn's, with limits on what comes before a whole head, and answers that arrive."""

    transport: Any
    cycle: Any

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Count the connection; beyond the limit, the one that has been waiting longest for a request makes room."""
        self.settings: ServeSettings = cast(Any, self.app).settings
        self._in_head = self._in_body = self._is_over = self._is_last = self._keeps_alive = False
        self._has_begun = self._has_progress = False
        self._head_bytes = self._raw_bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._since = time.monotonic()
        super().connection_made(cast(asyncio.Transport, _Lingering(transport, self.loop)))
        self._expect(self.settings.request_seconds)
        if len(self.connections) > self.settings.max_connections:
            others = (cast(Connection, one) for one in self.connections if one is not self)
            waiting = [one for one in others if one.is_waiting()]
            if waiting:
                min(waiting, key=lambda one: one._since).transport.abort()
            else:
                self._refuse(503)

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more."""
        self._expect(None)
        self.transport.wait_on()
        super().connection_lost(exc)

    def is_waiting(self) -> bool:
        """Whether all whole heads that came are answered."""
        return self.cycle is None or bool(self.cycle.response_complete)

    def data_received(self, data: bytes) -> None:
        """Parse, as long as what arrives keeps to the limits; the time for a head begins with its first byte."""
        self._unset_keepalive_if_required()
        place, most = 0, self.settings.max_head
        while place < len(data) and not self._is_over and not self.transport.is_closing():
            size = PIECE if self._in_body else min(PIECE, most - self._raw_bytes)
            self._take(data[place : place + size])
            place += size

    def _take(self, data: bytes) -> None:
        self._has_begun = self._has_progress = False
        try:
            self._parse(data)
        except httptools.HttpParserError:
            self._refuse(431 if self._head_bytes > self.settings.max_head else 400)
            return
        self._raw_bytes = 0 if self._has_progress else self._raw_bytes + len(data)
        if self._raw_bytes >= self.settings.max_head:
            self._refuse(431)
        elif self._has_progress and not self._in_head:
            self._expect(None)
        elif self._has_begun or not (self._in_body or self._timer):  # or an empty line, which begins nothing
            self._expect(self.settings.request_seconds)

    def _parse(self, data: bytes) -> None:
        """Parse; raises `httptools.HttpParserError`.

        A request to upgrade to another protocol is an ordinary one to a server that does not (RFC 9110, 7.8), but the
        parser stops behind its head and would take its body for the next request. So it gets the head once more,
        without the wish.
        """
        while data:
            try:
                self.parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as stop:
                line = b"%b %b HTTP/%b\r\n" % (
                    *(self.parser.get_method(), self.url),
                    self.parser.get_http_version().encode(),
                )
                kept = [b"%b: %b\r\n" % header for header in self.headers if header[0] != b"upgrade"]
                data = b"".join([line, *kept, b"\r\n", data[stop.args[0] :]])
                self.parser = httptools.HttpRequestParser(self)
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)

    def on_message_begin(self) -> None:
        """Begin to count."""
        self._in_head = self._has_begun = True
        self._head_bytes = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """Keep a part of the address."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header; those behind a body in pieces are counted, and not kept."""
        self._count(len(name) + len(value) + len(b":\r\n"))
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Begin to answer. Until the body is whole, the connection is to be closed after the answer."""
        if self.parser.get_method() == b"CONNECT":
            raise ValueError("this is no proxy")
        if self.parser.should_upgrade():
            return
        if len(self.pipeline) >= MOST_WAITING:
            raise ValueError("too many requests ahead of their answers")
        self._in_head, self._in_body, self._has_progress = False, True, True
        super().on_headers_complete()
        self._keeps_alive, self.cycle.keep_alive = self.cycle.keep_alive, False

    def on_chunk_header(self) -> None:
        """See that the body goes on."""
        self._has_progress = True

    def on_body(self, body: bytes) -> None:
        """Keep a part of the body."""
        self._has_progress = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Keep the connection after the answer, if the client wants that."""
        if self.parser.should_upgrade():
            return
        self._in_body, self._has_progress = False, True
        if not self.cycle.response_started:
            self.cycle.keep_alive = self._keeps_alive and not self._is_last
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        self._since = time.monotonic()
        super().on_response_complete()

    def timeout_keep_alive_handler(self) -> None:
        """End a connection that was idle for too long."""
        self.transport.abort()

    def pause_writing(self) -> None:
        """Wait for the client to read its answer, as long as it reads."""
        super().pause_writing()
        self.transport.abort_unless_read(self.settings.request_seconds)

    def resume_writing(self) -> None:
        """The client has read enough."""
        if not self.transport.is_closing():
            self.transport.wait_on()
        super().resume_writing()

    def shutdown(self) -> None:
        """Answer what is under way, or comes in a moment, as the last of this connection."""
        self._is_last = True
        if not self.is_waiting():
            self.cycle.keep_alive = False
        elif not self._in_head and not self.transport.is_closing():
            self._expect(LAST_CALL_SECONDS)

    def _count(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > self.settings.max_head:
            raise ValueError("the head is too large")

    def _expect(self, seconds: float | None) -> None:
        """End the connection if no whole head comes within some seconds; None: whenever it comes."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if seconds is None else self.loop.call_later(seconds, self._end)

    def _end(self) -> None:
        if self._in_head or not self.is_waiting():
            self._refuse(408)
        else:
            self.transport.abort()

    def _refuse(self, status: int) -> None:
        """Parse no more, and say why; but answers to whole requests come first, and then the connection is closed."""
        from weakfish.feast.serving import metrics  # not in a process that only looks after others

        self._is_over = True
        self._expect(None)
        if not self.is_waiting():
            if not self._in_body or self.pipeline or self.cycle.response_started:
                self.cycle.keep_alive = False
                return
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        metrics.answered(metrics.OTHER, status)
        body = orjson.dumps({"detail": REFUSALS[status].format_map(vars(self.settings))})
        headers = [
            *self.server_state.default_headers,
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        head = b"".join(b"%b: %b\r\n" % header for header in headers)
        self.transport.write(STATUS_LINE[status] + head + b"\r\n" + body)
        self.transport.close()


class HttpServer(uvicorn.Server):
    """uvicorn's, but clients that were connected when it was told to end are answered, and the end has a bound."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept no more; answer all who are connected, those too whom the system connected for us."""
        queues = [listening.dup() for listening in sockets or []]
        for server in self.servers:
            server.close()
        for listening in sockets or []:
            listening.close()
        await asyncio.sleep(0)  # here the event loop closes its own
        accepted = [client for queue in queues for client in queued(queue)]
        for client in accepted:
            await asyncio.get_running_loop().connect_accepted_socket(self._connection, client)
        await super().shutdown(sockets)

    def _connection(self) -> asyncio.Protocol:
        return Connection(self.config, self.server_state, self.lifespan.state)


multiprocess.Server = HttpServer  # type: ignore[attr-defined]  # what each of several processes runs


class Supervisor(multiprocess.Multiprocess):
    """uvicorn's, but the process that ends last finds all connections that the system made for the others."""

    def terminate_all(self) -> None:
        """Let go of the sockets, then tell all processes to end."""
        for listening in self.sockets:
            listening.close()
        super().terminate_all()


def queued(listening: socket.socket) -> Iterator[socket.socket]:
    """The connections that lie in a socket's queue; closes the socket."""
    with listening:
        listening.setblocking(False)
        while True:
            try:
                client, _ = listening.accept()
            except ConnectionAbortedError:  # this client has gone
                continue
            except OSError:
                return
            yield client
