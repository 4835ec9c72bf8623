"""The entry of the command line, and the warm process that the stages of one `dvc repro` or `weakfish run` share.

Most of what a stage of a small project costs is imports: Great Expectations, Feast, Snorkel. Under DVC the first stage
starts a server that imports them once; each stage is a fork of it, with the stage's own arguments, environment, folder
and standard streams. The server imports nothing of the project, starts no threads, and ends with the process that runs
the stages. Where there is no `fork`, or anything about the server is in doubt, the stage runs in its own process, with
the same result. ``WEAKFISH_FORK_SERVER=0`` switches it off.
"""

from __future__ import annotations

import gc
import hashlib
import importlib
import json
import os
import select
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

SWITCH = "WEAKFISH_FORK_SERVER"
OF_ONE_STAGE = {"DVC_STAGE", "OLDPWD", "PWD", "SHLVL", "_"}
"""Variables that differ from stage to stage; no library reads them when it is imported."""

PRELOADED: Mapping[str, tuple[str, ...]] = {
    "validate": ("weakfish.checks.validate", "weakfish.checks.gx:import_gx"),
    "accept": ("weakfish.checks.gates", "weakfish.report.page"),
    "gate": ("weakfish.checks.gates", "weakfish.report.page"),
    "gather-reviews": ("weakfish.reviews.gathering",),
    "vote": ("weakfish.labeling.vote",),
    "label": ("weakfish.labeling.label", "weakfish.labeling.snorkel_model"),
    "features": ("weakfish.features.build", "weakfish.labeling.snorkel_model"),
    "publish": ("weakfish.feast.publish",),
    "training-set": ("weakfish.training.sets",),
    "evaluate": ("weakfish.evaluation.evaluate",),
    "report": ("weakfish.report.page",),
}
"""What a verb imports; the server imports it before it forks, so that the next stage has it too."""

SHELLS = {"sh", "dash", "bash", "zsh"}
LONGEST_PATH = 103
"""Bytes that a socket's path may have on macOS; Linux allows 107."""

SECONDS_TO_START = 20.0
SECONDS_TO_END = 5.0
"""How long a stage whose caller was killed may take to end before it is killed too."""

_STALE, _ENDED = b"stale\n", b"ended "


def main() -> None:
    """Run a command: a stage under DVC as a fork of the warm process, everything else right here."""
    arguments = sys.argv[1:]
    if "DVC_STAGE" in os.environ and arguments and arguments[0] in PRELOADED and _is_possible():
        code = _by_server(arguments)
        if code is not None:
            sys.exit(code)
    from weakfish.cli.main import main as run

    run()


def _is_possible() -> bool:
    return hasattr(os, "fork") and hasattr(socket, "send_fds") and os.environ.get(SWITCH, "1") != "0"


# --- The stage's own process -----------------------------------------------------------------------------------------


def _by_server(arguments: Sequence[str]) -> int | None:
    """The exit code of the command as a fork of the server; None where no server takes it."""
    try:
        place = _socket_file()
        for _ in range(2):  # a server with old code ends itself: then a new one is started, once
            with _connected(place) as connection:
                request = {"arguments": arguments, "folder": str(Path.cwd()), "environment": dict(os.environ)}
                socket.send_fds(connection, [json.dumps(request).encode() + b"\n"], [0, 1, 2])
                answer = _wait(connection)
            if answer.startswith(_ENDED):
                return int(answer[len(_ENDED) :])
            if answer != _STALE:
                # The fork was killed: a shell would say 128 + the signal, of which nothing is known here but that.
                return 137
    except (OSError, ValueError):
        return None
    return None


def _wait(connection: socket.socket) -> bytes:
    """The server's last word; signals that reach this process meanwhile go on to the fork."""

    def forward(number: int, _: object) -> None:
        connection.sendall(bytes([number]))

    before = {number: signal.signal(number, forward) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        answer = b""
        while part := connection.recv(64):
            answer += part
        return answer
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _connected(place: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    deadline, begun = time.monotonic() + SECONDS_TO_START, False
    while True:
        try:
            connection.connect(str(place))
            return connection
        except OSError:
            if not begun:
                place.unlink(missing_ok=True)
                subprocess.Popen(
                    [sys.executable, "-m", __spec__.name, str(place), str(_owner())],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,
                )
                begun = True
            if time.monotonic() > deadline:
                connection.close()
                raise
            time.sleep(0.01)


def _socket_file() -> Path:
    """A path short enough for a socket, in a folder that nobody else may enter, one per run of the pipeline."""
    key = hashlib.sha256("\n".join([str(Path.cwd()), sys.executable, str(_owner())]).encode()).hexdigest()[:24]
    for temporary in (tempfile.gettempdir(), "/tmp"):  # noqa: S108
        place = Path(temporary) / f"weakfish-{os.getuid()}" / key
        if len(os.fsencode(place)) <= LONGEST_PATH:
            break
    place.parent.mkdir(mode=0o700, exist_ok=True)
    found = place.parent.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) != 0o700:
        raise PermissionError(place.parent)
    return place


def _owner() -> int:
    """The process that runs the stages: the nearest ancestor that is no shell."""
    process = os.getppid()
    while (name := _process(process)) and name[0] in SHELLS:
        process = name[1]
    return process


def _process(process: int) -> tuple[str, int] | None:
    """A process's name and parent."""
    asked = ["ps", "-o", "ppid=,comm=", "-p", str(process)]
    try:
        if (file := Path(f"/proc/{process}/stat")).exists():
            name, _, rest = file.read_text().partition("(")[2].rpartition(")")
            return name, int(rest.split()[1])
        parent, name = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.split(None, 1)
        return Path(name.strip()).name.removeprefix("-"), int(parent)
    except (OSError, ValueError, IndexError, subprocess.SubprocessError):
        return None


# --- The server ------------------------------------------------------------------------------------------------------


def _serve(place: Path, owner: int) -> None:
    """Fork a process per stage until the owner is gone or the code on disk is another one."""
    import psutil

    caller = psutil.Process(owner)  # and no later process of its number
    server, code, environment = os.getpid(), _version(), _lasting(os.environ)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(place))
    listener.listen(8)
    try:
        while caller.is_running():
            _reap()
            if not select.select([listener], [], [], 0.5)[0]:
                continue
            connection, _ = listener.accept()
            request, streams = _received(connection)
            if _version() != code or request is None or _lasting(request["environment"]) != environment:
                connection.sendall(_STALE)
                return
            _preload(PRELOADED[request["arguments"][0]])
            gc.freeze()
            if os.fork() == 0:
                listener.close()
                _run(connection, request, streams)
            connection.close()
            for stream in streams:
                os.close(stream)
    finally:
        if os.getpid() == server:
            place.unlink(missing_ok=True)


def _preload(names: Sequence[str]) -> None:
    """Import what a verb imports; what cannot be imported is an error of the stage, which imports it again."""
    for name in names:
        module, _, function = name.partition(":")
        with suppress(Exception):
            found = importlib.import_module(module)
            if function:
                getattr(found, function)()


def _run(connection: socket.socket, request: dict[str, Any], streams: Sequence[int]) -> NoReturn:
    """Become the stage: its streams, folder, environment and arguments, then the command as always."""
    os.setsid()
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(str(request["folder"]))
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv = ["weakfish", *request["arguments"]]
    for name, number, mode in (("stdin", 0, "r"), ("stdout", 1, "w"), ("stderr", 2, "w")):
        setattr(sys, name, open(number, mode, buffering=1 if number == 2 else -1, closefd=False))  # noqa: SIM115
    done = threading.Event()
    threading.Thread(target=_follow, args=(connection, done), daemon=True).start()
    code = 3
    try:
        from weakfish.cli.main import main as run

        run()
    except SystemExit as exit:
        code = exit.code if isinstance(exit.code, int) else 0 if exit.code is None else 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        done.set()
        connection.sendall(_ENDED + str(code).encode())
        connection.shutdown(socket.SHUT_WR)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # DuckDB's bindings report leaks when a fork's interpreter ends
    sys.exit(code)


def _follow(connection: socket.socket, done: threading.Event) -> None:
    """Pass on the signals of the stage's caller; end with it when it was killed, children and all."""
    while number := connection.recv(1):
        os.kill(os.getpid(), number[0])
    if not done.is_set():
        os.killpg(0, signal.SIGTERM)
        time.sleep(SECONDS_TO_END)
        os.killpg(0, signal.SIGKILL)


def _reap() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def _received(connection: socket.socket) -> tuple[dict[str, Any] | None, Sequence[int]]:
    connection.settimeout(SECONDS_TO_START)
    data, streams, _, _ = socket.recv_fds(connection, 1 << 16, 3)
    while data and not data.endswith(b"\n"):
        data += (part := connection.recv(1 << 16))
        if not part:
            break
    connection.settimeout(None)
    if len(streams) != 3 or not data.endswith(b"\n"):
        return None, streams
    return json.loads(data), streams


def _lasting(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name not in OF_ONE_STAGE}


def _version() -> list[tuple[str, int, int]]:
    """The engine's source as it lies on disk: an edit in the midst of a run makes the server stale."""
    root = Path(__file__).parents[1]
    stats = [(str(file), file.stat()) for file in sorted(root.rglob("*.py"))]
    return [(file, found.st_mtime_ns, found.st_size) for file, found in stats]


if __name__ == "__main__":
    _serve(Path(sys.argv[1]), int(sys.argv[2]))
