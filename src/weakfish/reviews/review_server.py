"""The page of a session, answered to on loopback by this process alone; whoever has its address has its token."""

from __future__ import annotations

import hmac
import json
import secrets
import threading
from collections.abc import Callable, Mapping
from functools import cache
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from jinja2 import Environment, PackageLoader, StrictUndefined

from weakfish.errors import UserError, WeakfishError
from weakfish.reviews.gained import Gained
from weakfish.reviews.session import ReviewSession
from weakfish.reviews.showing import Shown

HOST = "127.0.0.1"
FOLDER = Path(__file__).parent / "templates"

TOKEN = "X-Weakfish-Token"  # noqa: S105
"""The header that shows the token again, which a page of another site cannot send."""

PURPOSES = {
    "estimate": "Estimate: rows drawn at random, which measure the labels",
    "learn": "Learn: rows whose answers teach the label model most",
    "audit": "Audit: rows that one labeling function decides",
    "resolve": "Resolve: rows on which reviewers disagree",
}
"""What the page says that answers are for."""

MOST = 1 << 16
"""Bytes of a request that are read."""

Served = tuple[HTTPStatus, Any]


class ReviewServer:
    """A session's page on a port of loopback; 0 takes a free one.

    Raises
    ------
    UserError
        When another program listens on the port.
    """

    def __init__(self, session: ReviewSession, port: int = 0) -> None:
        self.session, self.shown, self.gained = session, Shown(session), Gained(session)
        self.token = secrets.token_urlsafe(24)
        self._explaining = threading.Lock()
        try:
            self._http = ThreadingHTTPServer((HOST, port), _handler(self))
        except OSError as error:
            raise UserError(
                f"Port {port} of {HOST} cannot be used ({error.strerror}), perhaps by another `weakfish review`; give "
                "another --port, or none for one that is free."
            ) from error
        self._http.daemon_threads = True

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self._http.server_address[1])

    @property
    def address(self) -> str:
        """What to open."""
        return f"http://{HOST}:{self.port}/?token={self.token}"

    def serve(self) -> None:
        """Answer requests until `stop`, or an interrupt."""
        self._http.serve_forever(poll_interval=0.2)

    def stop(self) -> None:
        """End `serve`, from another thread, and close the port."""
        self._http.shutdown()
        self.close()

    def close(self) -> None:
        """Close the port."""
        self._http.server_close()

    # --- What is answered ---------------------------------------------------------------------------------------------

    def page(self, nonce: str) -> str:
        """The page, with its style sheet and its script."""
        session = self.session
        meanings = session.project.params.meanings.get(session.task, {})
        said = {
            "task": session.task,
            "kind": session.kind,
            "purpose": PURPOSES[session.kind],
            "reviewer": session.reviewer,
            "function": session.function,
            "classes": [{"name": name, "meaning": meanings.get(name)} for name in session.classes],
        }
        files = {name: (FOLDER / f"review.{name}").read_text(encoding="utf-8") for name in ("css", "js")}
        return _environment().get_template("review.html.j2").render(said=said, nonce=nonce, **files)

    def state(self) -> dict[str, Any]:
        """The row that is asked now, null when none is left, and how far the session is."""
        asked = self.session.current
        return {
            "asked": asked and self.shown.row(asked),
            "given": self.session.given,
            "questions": self.session.questions,
            "file": str(self.session.file.relative_to(self.session.project.root)),
        }

    def why(self) -> dict[str, Any]:
        """Why the row that is asked has its label."""
        asked = self.session.current
        if asked is None:
            return {}
        with self._explaining:
            return self.shown.why(asked)

    def bought(self) -> dict[str, Any]:
        """What the answers have bought so far."""
        with self._explaining:
            estimated = self.gained.estimates()
            return {
                "estimates": estimated.to_json() if estimated else None,
                "changing": self.gained.changing(),
                "teaches": self.session.project.task(self.session.task).label_model.known != "none",
            }

    def answer(self, content: Mapping[str, Any]) -> dict[str, Any]:
        """Keep an answer, then give the state; raises `UserError`."""
        note = content.get("note")
        if content.get("said") not in ("class", "unsure", "skip") or not isinstance(note, str | None):
            raise UserError("An answer says a class, unsure or skip.")
        self.session.answer(str(content.get("key")), content["said"], content.get("label"), note)
        return self.state()

    def undo(self, _: Mapping[str, Any]) -> dict[str, Any]:
        """Take the last answer back, then give the state; raises `UserError`."""
        self.session.undo()
        return self.state()


@cache
def _environment() -> Environment:
    loader = PackageLoader("weakfish.reviews")
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)


def _handler(server: ReviewServer) -> type[BaseHTTPRequestHandler]:
    """The handler of a server's requests."""
    reads: dict[str, Callable[[], Any]] = {"/state": server.state, "/why": server.why, "/bought": server.bought}
    writes: dict[str, Callable[[Mapping[str, Any]], Any]] = {"/answer": server.answer, "/undo": server.undo}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 60

        def do_GET(self) -> None:
            url = urlsplit(self.path)
            if not self._is_at_home():
                return
            if url.path == "/":
                given = parse_qs(url.query).get("token", [""])[0]
                self._page() if self._is_token(given) else self._refuse()
            elif url.path in reads:
                self._answer(reads[url.path]) if self._is_token(self.headers.get(TOKEN, "")) else self._refuse()
            else:
                self._say(HTTPStatus.NOT_FOUND, {"error": "There is no such page."})

        def do_POST(self) -> None:
            if not self._is_at_home():
                return
            if not self._is_token(self.headers.get(TOKEN, "")):
                self._refuse()
            elif self.path not in writes:
                self._say(HTTPStatus.NOT_FOUND, {"error": "There is no such page."})
            else:
                self._answer(lambda: writes[self.path](self._content()))

        def _is_at_home(self) -> bool:
            """Whether the request names this machine: another name may be one that a site made point here."""
            host = (self.headers.get("Host") or "").rpartition(":")[0]
            if host in (HOST, "localhost"):
                return True
            self.close_connection = True
            self._say(HTTPStatus.FORBIDDEN, {"error": f"This page is at {HOST} only."})
            return False

        def _is_token(self, given: str) -> bool:
            return hmac.compare_digest(given.encode(), server.token.encode())

        def _refuse(self) -> None:
            self.close_connection = True  # what else the request holds is not read
            self._say(
                HTTPStatus.FORBIDDEN, {"error": "Open the address that `weakfish review` printed; it has a token."}
            )

        def _content(self) -> Mapping[str, Any]:
            size = int(self.headers.get("Content-Length") or 0)
            if size > MOST:
                self.close_connection = True
                raise UserError(f"A note may have {MOST:,} bytes, not {size:,}.")
            found = json.loads(self.rfile.read(size) or b"{}")
            if not isinstance(found, dict):
                raise UserError("An answer is a JSON object.")
            return found

        def _answer(self, work: Callable[[], Any]) -> None:
            try:
                status, content = HTTPStatus.OK, work()
            except UserError as error:
                status, content = HTTPStatus.CONFLICT, {"error": str(error)}
            except ValueError as error:
                status, content = HTTPStatus.BAD_REQUEST, {"error": f"That is no request of this page: {error}."}
            except (WeakfishError, OSError) as error:
                status, content = HTTPStatus.INTERNAL_SERVER_ERROR, {"error": str(error)}
            self._say(status, content)

        def _page(self) -> None:
            nonce = secrets.token_urlsafe(12)
            policy = (
                f"default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; connect-src 'self'; "
                "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
            )
            self._send(HTTPStatus.OK, server.page(nonce).encode(), "text/html; charset=utf-8", policy)

        def _say(self, status: HTTPStatus, content: Any) -> None:
            self._send(status, json.dumps(content).encode(), "application/json", "default-src 'none'")

        def _send(self, status: HTTPStatus, content: bytes, kind: str, policy: str) -> None:
            try:
                self.send_response(status)
                for name, value in {
                    "Content-Type": kind,
                    "Content-Length": str(len(content)),
                    "Content-Security-Policy": policy,
                    "Cache-Control": "no-store",
                    "Referrer-Policy": "no-referrer",
                    "X-Content-Type-Options": "nosniff",
                }.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)
            except ConnectionError:  # the browser went away; what it said is kept
                self.close_connection = True

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing: addresses have the token."""

    return Handler
