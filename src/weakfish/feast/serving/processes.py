"""`weakfish serve` from the outside: a socket, one process or several that answer on it, until a signal ends them.

The server is uvicorn (uvloop, httptools); each process has a service of its own. Nothing here imports Feast before a
process serves, so that a parent of several stays small.
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
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import uvicorn
from uvicorn.config import STARTUP_FAILURE

from weakfish.errors import StoreError, UserError
from weakfish.feast import probe
from weakfish.feast.serving import THREADS, TOKEN, ServeSettings, say
from weakfish.feast.serving.connections import Connection, HttpServer, Supervisor
from weakfish.project.paths import Project
from weakfish.project.runs import temporary_folder

HANGING_SECONDS = 30
"""After so many without a sign of life, a process is replaced."""

THREAD_SECONDS = 0.5
BACKLOG = 2048
OTHER_FILES = 100
"""Files that a process has open for other things than connections: libraries, the registry, counts, logs."""

FOLDERS = ("PROMETHEUS_MULTIPROC_DIR", "PROMETHEUS_MULTIPROCESS_DIR")
"""Where processes keep counts together: prometheus_client's name for it, and Feast's."""


def serve(project: Project, settings: ServeSettings) -> None:
    """Answer requests until SIGTERM or SIGINT; those under way are finished.

    Raises
    ------
    UserError
        When the address cannot be listened on.
    StoreError
        When nothing was published yet, or one of several processes could not start.
    SystemExit
        3, when the only process could not start; it has said why.
    """
    with _socket(settings) as listening:
        described = probe.settings(project)
        registry = described["registry_file"]
        if not registry.exists():
            raise StoreError(f"{registry} does not exist, so nothing was published yet; run `weakfish publish`.")
        config = uvicorn.Config(
            functools.partial(application, project, settings),
            factory=True,
            http=Connection,
            workers=settings.workers,
            timeout_graceful_shutdown=settings.finish_seconds,
            timeout_keep_alive=settings.idle_seconds,
            timeout_worker_healthcheck=HANGING_SECONDS,
            log_config=None,
            log_level=logging.ERROR,
            access_log=False,
            lifespan="on",
            ws="none",
            server_header=False,
            proxy_headers=False,
        )
        auth = described.get("auth")
        kind = auth.get("type") if isinstance(auth, dict) else auth
        _allow_files(settings)
        _tell(settings, listening, is_open=settings.token is None and kind in (None, "no_auth"))
        for name in FOLDERS:
            os.environ.pop(name, None)  # of another server
        if settings.workers == 1:
            signal.signal(signal.SIGTERM, lambda *_: None)  # uvicorn raises it again when all is done
            try:
                HttpServer(config).run([listening])
            finally:
                _end_threads()
            return
        with temporary_folder(Path(tempfile.gettempdir()), "weakfish-serve") as folder:
            os.environ.update(dict.fromkeys(FOLDERS, str(folder)))
            supervisor = Supervisor(config, [listening])
            supervisor.run()
            if any(process.exitcode == STARTUP_FAILURE for process in supervisor.processes):
                raise StoreError("A process of the server could not start; it said why above.")


def _end_threads() -> None:
    """End the process here if a thread still works on a request that was given up: Python would wait for it."""
    deadline = time.monotonic() + THREAD_SECONDS
    while any(thread.name.startswith(THREADS) for thread in threading.enumerate()):
        if time.monotonic() > deadline:
            sys.stdout.flush()
            os._exit(0)
        time.sleep(0.01)


def application(project: Project, settings: ServeSettings) -> Any:
    """The ASGI application of one process."""
    from weakfish.feast import place_counts
    from weakfish.feast.serving import metrics  # noqa: F401 - before Feast, which has other plans for counts

    place_counts()
    from weakfish.feast.serving.application import FeatureServer

    if settings.workers > 1:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent too, which ends this process
    warnings.simplefilter("ignore")  # Feast's, at every request
    logging.getLogger("feast").setLevel(logging.ERROR)
    logging.getLogger("weakfish").addHandler(_Saying())
    return FeatureServer(project, settings)


class _Saying(logging.Handler):
    """Puts what the online store logs with what the server says."""

    def emit(self, record: logging.LogRecord) -> None:
        """Say a record's sentence."""
        say(record.getMessage())


def _tell(settings: ServeSettings, listening: socket.socket, is_open: bool) -> None:
    host, port = listening.getsockname()[:2]
    place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    print(f"http://{place}", flush=True)
    if is_open and not ipaddress.ip_address(host).is_loopback:
        say(f"Anyone who reaches {place} can read all features; set {TOKEN} to require a token.")


def _allow_files(settings: ServeSettings) -> None:
    """Let this process and its children open a file per connection, as far as the system allows it."""
    import resource

    needed = settings.max_connections + settings.threads + OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < needed:
        allowed = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
        if allowed < needed:
            say(f"The system allows {hard:,} open files (ulimit -Hn): too few for --max-connections.")


def _socket(settings: ServeSettings) -> socket.socket:
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
