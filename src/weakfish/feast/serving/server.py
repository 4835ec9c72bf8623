"""`weakfish serve`: a socket, one process or several that answer on it, until a signal ends them in good order.

The server is uvicorn (uvloop, httptools). Each process has a service of its own; the counts of several are kept in
files that all of them read.
"""

from __future__ import annotations

import functools
import ipaddress
import logging
import os
import signal
import socket
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import uvicorn
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess

from weakfish.errors import StoreError, UserError
from weakfish.feast.serving.snapshot import TOKEN, Settings, registry_file, stamp_of
from weakfish.project.paths import Project

if TYPE_CHECKING:
    from weakfish.feast.serving.application import Application


SECONDS_TO_FINISH = 30
IDLE_SECONDS = 75
HANGING_SECONDS = 30
"""After so many without a sign of life, a process is replaced."""

BACKLOG = 2048
FOLDERS = ("PROMETHEUS_MULTIPROC_DIR", "PROMETHEUS_MULTIPROCESS_DIR")
"""Where processes keep counts together: prometheus_client's name for it, and Feast's."""


def serve(project: Project, settings: Settings) -> None:
    """Answer requests until SIGTERM or SIGINT; those under way are finished.

    Raises
    ------
    UserError
        When the address cannot be listened on.
    StoreError
        When nothing was published yet, or one of several processes could not begin.
    SystemExit
        3, when the only process could not begin; it has said why.
    """
    with _socket(settings) as listening:
        if stamp_of(registry_file(project)) is None:
            raise StoreError(f"{registry_file(project)} is not there: nothing was published; run `weakfish publish`.")
        config = uvicorn.Config(
            functools.partial(application, project, settings),
            factory=True,
            workers=settings.workers,
            timeout_graceful_shutdown=SECONDS_TO_FINISH,
            timeout_keep_alive=IDLE_SECONDS,
            timeout_worker_healthcheck=HANGING_SECONDS,
            log_config=None,
            log_level=logging.WARNING,
            access_log=False,
            lifespan="on",
            ws="none",
            server_header=False,
            proxy_headers=False,
        )
        _tell(settings, listening)
        for name in FOLDERS:
            os.environ.pop(name, None)  # of another server
        if settings.workers > 1:
            _several(config, listening)
        else:
            signal.signal(signal.SIGTERM, lambda *_: None)  # uvicorn raises it again when all is done
            uvicorn.Server(config).run([listening])


def application(project: Project, settings: Settings) -> Application:
    """The ASGI application of one process."""
    with _without_torch():
        from weakfish.feast.serving import metrics  # noqa: F401 - before Feast, which has other plans for counts
        from weakfish.feast.serving.application import Application
        from weakfish.feast.serving.service import Service

    warnings.simplefilter("ignore")  # Feast's, at every request
    logging.getLogger("feast").setLevel(logging.ERROR)
    return Application(lambda: Service(project, settings, say), settings.threads, say)


def _several(config: uvicorn.Config, listening: socket.socket) -> None:
    with tempfile.TemporaryDirectory(prefix="weakfish-serve-") as folder:
        os.environ.update(dict.fromkeys(FOLDERS, folder))
        supervisor = Multiprocess(config, [listening])
        supervisor.run()
        if any(process.exitcode == STARTUP_FAILURE for process in supervisor.processes):
            raise StoreError("A process of the server could not begin; it said why before.")


@contextmanager
def _without_torch() -> Iterator[None]:
    """Let Feast find no torch while it is imported: serving never needs it, and it takes 180 MiB a process.

    Whoever needs it in an on-demand view can import it afterwards.
    """
    if "torch" in sys.modules:
        yield
        return
    sys.modules["torch"] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules["torch"]


def _tell(settings: Settings, listening: socket.socket) -> None:
    host, port = listening.getsockname()[:2]
    place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    print(f"http://{place}", flush=True)
    if settings.token is None and not ipaddress.ip_address(host).is_loopback:
        say(f"Whoever reaches {place} can read all features; set {TOKEN} to let in those who know it alone.")


def say(sentence: str) -> None:
    """Put a sentence with its time on stderr."""
    sys.stderr.write(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} weakfish serve: {sentence}\n")
    sys.stderr.flush()


def _socket(settings: Settings) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        found = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise UserError(f"{settings.host} is no address of this machine ({error.strerror}); correct --host.") from error
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(address)
        found.listen(BACKLOG)
        found.set_inheritable(True)
    except OSError as error:
        found.close()
        raise UserError(
            f"Port {settings.port} of {settings.host} cannot be listened on ({error.strerror}); choose another --port."
        ) from error
    return found
