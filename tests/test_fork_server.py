"""Stages under DVC are forks of one warm process: the same answers, no stale code, nothing left running."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from projects import ORDERS, write

from weakfish.cli import fork_server

SOURCE = Path(__file__).resolve().parents[1] / "src/weakfish"
STAGE = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell's background job ignores it
    "from weakfish.cli.fork_server import main; main()"
)
SLOW = """
    import os, time
    from pathlib import Path

    here = Path(__file__).parent
    (here / "started").write_text(str(os.getpid()))
    time.sleep(100)
    """


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project whose suite says in a file which process loads it, then sleeps."""
    root = tmp_path / "project"
    write(root / "params.yaml", textwrap.dedent(ORDERS))
    write(root / "dvc.yaml", "stages: {}\n")
    write(root / "validation/events.py", textwrap.dedent(SLOW))
    return root


@pytest.fixture
def engine() -> Iterator[Path]:
    """A copy of the engine, to be edited; its servers end with this process, and here at the latest.

    Its path is short, because the sockets of its servers lie beside it.
    """
    with tempfile.TemporaryDirectory(prefix="wf") as name:
        shutil.copytree(SOURCE, Path(name) / "engine/weakfish", ignore=shutil.ignore_patterns("__pycache__"))
        yield Path(name) / "engine"
        for process in servers(Path(name)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGTERM)


def stage(root: Path, engine: Path, *arguments: str, server: bool = True) -> subprocess.Popen[str]:
    """A stage as DVC starts it."""
    settings = {"DVC_STAGE": arguments[0], "PYTHONPATH": str(engine), "TMPDIR": str(engine.parent)}
    return subprocess.Popen(
        [sys.executable, "-c", STAGE, *arguments],
        cwd=root,
        env={**os.environ, **settings, "WEAKFISH_FORK_SERVER": "1" if server else "0"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def servers(below: Path) -> list[int]:
    """The servers whose sockets lie below a folder."""
    found = [(each.pid, each.info["cmdline"] or []) for each in psutil.process_iter(["cmdline"])]
    told = [(process, " ".join(command)) for process, command in found]
    return [process for process, line in told if "weakfish.cli.fork_server" in line and str(below) in line]


def until(holds: Callable[[], object]) -> None:
    """Wait for something that another process brings about."""
    for _ in range(600):
        if holds():
            return
        time.sleep(0.05)
    raise AssertionError("it never came about")


def ended(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_a_stage_says_and_returns_what_it_does_in_a_process_of_its_own(
    project: Path, engine: Path, tmp_path: Path
) -> None:
    for root, *arguments in (
        (project, "accept"),
        (project, "gate", "nothing"),
        (tmp_path, "report"),
        (project, "vote", "-x"),
    ):
        alone, forked = stage(root, engine, *arguments, server=False), stage(root, engine, *arguments)
        assert (forked.communicate(), forked.returncode) == (alone.communicate(), alone.returncode)
        assert forked.returncode != 0


def test_a_module_that_cannot_be_imported_is_an_error_of_its_stage(project: Path, engine: Path) -> None:
    write(engine / "weakfish/feast/publish.py", "from redis.utils import no_such_name")
    said, errors = stage(project, engine, "publish").communicate()
    assert "unexpected ImportError: cannot import name 'no_such_name' from 'redis.utils'" in errors
    assert stage(project, engine, "publish", server=False).communicate() == (said, errors)


def test_the_stages_of_a_run_share_a_server_which_an_edit_of_the_engine_replaces(project: Path, engine: Path) -> None:
    stage(project, engine, "gate", "nothing").communicate()
    first = servers(engine.parent)
    stage(project, engine, "gate", "nothing").communicate()
    assert len(first) == 1
    assert servers(engine.parent) == first

    edited = engine / "weakfish/errors.py"
    edited.write_text(edited.read_text().replace('"""All errors', '"""  All errors'))
    stage(project, engine, "gate", "nothing").communicate()
    until(lambda: len(servers(engine.parent)) == 1)
    assert servers(engine.parent) != first


def test_a_server_ends_with_the_process_that_runs_the_stages(project: Path, engine: Path) -> None:
    run = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {STAGE!r}, 'gate', 'nothing'])"
    settings = {"DVC_STAGE": "gate", "PYTHONPATH": str(engine), "TMPDIR": str(engine.parent)}
    subprocess.run(
        [sys.executable, "-c", run], cwd=project, env={**os.environ, **settings}, capture_output=True, check=True
    )
    until(lambda: not servers(engine.parent))
    assert not list(engine.parent.glob("weakfish-*/*"))


def test_where_the_temporary_folder_is_deep_the_socket_is_made_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / ("deep" * 30)))
    with socket.socket(socket.AF_UNIX) as listener:
        place = fork_server._socket_file()
        listener.bind(str(place))
        place.unlink()


def test_a_signal_to_a_stage_reaches_its_fork(project: Path, engine: Path) -> None:
    running = stage(project, engine, "validate", "events")
    started = project / "validation/started"
    until(lambda: started.exists() and started.read_text())
    assert int(started.read_text()) != running.pid
    running.send_signal(signal.SIGINT)
    _, errors = running.communicate(timeout=60)
    assert (running.returncode, errors.strip()) == (130, "weakfish: interrupted.")


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks into /proc")
def test_a_stage_that_is_killed_leaves_no_fork_behind(project: Path, engine: Path) -> None:
    running = stage(project, engine, "validate", "events")
    started = project / "validation/started"
    until(lambda: started.exists() and started.read_text())
    running.kill()
    running.communicate()
    until(lambda: ended(int(started.read_text())))
