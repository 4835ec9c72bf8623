"""Online features over HTTP: Feast's `/get-online-features`, its JSON, at the speed of the store behind it."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime

from weakfish.errors import UserError

TOKEN = "WEAKFISH_SERVE_TOKEN"  # noqa: S105 - the variable's name
SHORTEST_TOKEN = 16
THREADS = "request"
"""How the names of threads begin that answer requests."""


@dataclass(frozen=True)
class ServeSettings:
    """Where to listen, how many may work, limits, the token to show (None: none), and what is logged.

    Attributes
    ----------
    max_entities, max_bytes, max_head : what a request may ask for; bytes of its body and of its head
    max_connections : of one process
    request_seconds : what a request's head may take, and then its body
    idle_seconds : how long a connection is kept for another request
    store_seconds : what the store may take
    finish_seconds : what requests under way may take when the server ends
    """

    host: str
    port: int
    workers: int
    threads: int
    max_entities: int
    max_bytes: int
    max_head: int
    max_connections: int
    request_seconds: float
    idle_seconds: int
    store_seconds: float
    finish_seconds: int
    token: bytes | None = field(default=None, repr=False)
    access_log: bool = False


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


def say(sentence: str) -> None:
    """Put a sentence with its time on stderr."""
    sys.stderr.write(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} weakfish serve: {sentence}\n")
    sys.stderr.flush()
