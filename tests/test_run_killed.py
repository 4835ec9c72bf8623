"""Kills of `weakfish run` and its DVC, a DVC by hand, and what they leave: the next run works, or says who does."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import duckdb
import psutil
import pytest
from projects import BIN, command, git, replace, tiny, weakfish, write

from weakfish.contracts.ledgers import read_run
from weakfish.errors import Busy
from weakfish.files import drop_parts, existed, part_folder, whole_folder
from weakfish.project.paths import Project
from weakfish.project.runs import (
    DVC,
    INTERRUPTED,
    await_end,
    lock_file,
    locked,
    mend_locks_of_dvc,
    run_recorded,
    sweep_project,
)

HOLD = """
  hold:
    cmd: "test ! -e pause || { echo $$ > at_work; sleep 300; }; touch held"
    outs: [held]
"""
"""A stage that goes on until it is ended, where there is a file ``pause``."""

PROCESS = r"process \d+ since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC; wait for it to end\."


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tiny(tmp_path / "orders")
    with (root / "dvc.yaml").open("a", encoding="utf-8") as pipeline:
        pipeline.write(HOLD)
    write(root / ".gitignore", "data/\nreports/\n.weakfish/\n")
    git(root, "init", "--quiet")
    assert command(root, "dvc", "init", "--quiet").returncode == 0
    return root


def until(what: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@contextmanager
def held(root: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A command at work in the stage `hold`, and the process of that stage; both are gone after the block."""
    (root / "pause").touch()
    (root / "at_work").unlink(missing_ok=True)
    process = subprocess.Popen(
        arguments, cwd=root, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    stage = 0
    try:
        until(lambda: (root / "at_work").exists() and (root / "at_work").read_text().strip())
        stage = int((root / "at_work").read_text())
        (root / "pause").unlink()
        yield process, stage
    finally:
        for each in (process.pid, stage):
            with suppress(ProcessLookupError):
                os.killpg(os.getpgid(each), signal.SIGKILL) if each else None
        process.wait()


def test_dvc_and_its_stage_end_with_a_run_that_was_killed_and_the_next_run_works(project: Path) -> None:
    with held(project, str(BIN / "weakfish"), "run", "hold") as (run, stage):
        dvc = int(lock_file(Project(project), DVC).read_text())
        assert existed(dvc, time.time())
        run.kill()
        run.wait()
        last = weakfish(project, "run", "hold")  # waits for them
        assert last.returncode == 0, last.stderr
        assert (project / "held").exists()
        assert not existed(dvc, time.time())
        assert not existed(stage, time.time())


def test_a_stage_ends_whose_dvc_was_killed(project: Path) -> None:
    with held(project, str(BIN / "weakfish"), "run", "hold") as (run, stage):
        os.kill(int(lock_file(Project(project), DVC).read_text()), signal.SIGKILL)
        assert run.wait(60) == 3
        assert not existed(stage, time.time())
    assert weakfish(project, "run", "hold").returncode == 0


def test_a_dvc_by_hand_is_named_by_all_that_it_keeps_away(project: Path) -> None:
    with held(project, str(BIN / "dvc"), "repro", "--quiet", "hold"):
        for arguments in (("run",), ("ingest",), ("accept-baseline",)):
            refused = weakfish(project, *arguments)
            assert refused.returncode == 2
            assert re.search(f"weakfish: DVC is at work in this project, in {PROCESS}", refused.stderr), refused.stderr
    assert weakfish(project, "run", "hold").returncode == 0  # its locks went with it


def test_whoever_holds_the_lock_of_dvc_is_named(project: Path) -> None:
    with (project / ".dvc/tmp/lock").open("w") as lock:
        lock.write(f" {os.getpid()}\n")
        lock.flush()
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(Busy, match=f"^DVC is at work in this project, in process {os.getpid()} since .* UTC; wait"):
            mend_locks_of_dvc(Project(project))
    mend_locks_of_dvc(Project(project))


def test_who_waits_to_be_collected_is_dead(project: Path) -> None:
    child = os.fork()
    if not child:
        os._exit(0)
    until(lambda: psutil.Process(child).status() == psutil.STATUS_ZOMBIE)
    locks = project / ".dvc/tmp/rwlock"
    locks.write_text(f'{{"write": {{"{project}/held": {{"pid": {child}, "cmd": "dvc"}}}}, "read": {{}}}}')
    try:
        assert not existed(child, time.time())
        mend_locks_of_dvc(Project(project))
        assert not locks.exists()
    finally:
        os.waitpid(child, 0)


def test_a_stage_by_hand_is_waited_for_and_named(project: Path) -> None:
    file = lock_file(Project(project), "label")
    with locked(Project(project), "label"), pytest.raises(Busy, match=f"^The stage label is at work .*, in {PROCESS}$"):
        await_end(file, "The stage label is", 0.1)
    await_end(file, "The stage label is", 0.1)


def of_size(root: Path, most: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command of `weakfish` whose processes may write files of so many bytes."""
    limited = f'ulimit -f {most // 1024}; exec "$@"'
    return command(root, "bash", "-c", limited, "bash", str(BIN / "weakfish"), *arguments)


def test_what_the_system_refuses_to_dvc_is_a_sentence_with_the_file(project: Path) -> None:
    refused = of_size(project, 0, "status")
    assert (refused.returncode, refused.stderr) == (
        3,
        f"weakfish: {project} cannot be written to: the disk reports an error; put that right and run this again.\n",
    )
    (project / "large").write_bytes(os.urandom(3 << 20))
    replace(project / "dvc.yaml", "touch held", "ln large held")
    refused = of_size(project, 1 << 20, "run", "hold")
    assert (refused.returncode, refused.stderr.splitlines()[-1]) == (
        3,
        f"weakfish: {project}/held cannot be used: the file would be larger than this process may write; put that "
        "right and run this again.",
    )
    assert "[Errno" not in refused.stderr


@pytest.mark.parametrize("by_hand", [False, True])
def test_what_killed_processes_left_anywhere_goes_and_what_others_write_stays(project: Path, by_hand: bool) -> None:
    ours, dead = os.getpid(), 2**22 + 1  # one more than Linux gives
    names = ("data/.events.part-x-{}", "data/masks/.events.parquet.part-{}", ".params.yaml.part-{}")
    for name in (*names, "reports/plots/.a.json.part-{}", "sources/.a.py.part-{}"):
        for number in (ours, dead):
            file = project / name.format(number)
            if "part-x-" in name:
                file.mkdir(parents=True)
                (file / "a").touch()
            else:
                write(file, "")
    write(project / "data/.notes.part-one", "")
    if by_hand:
        assert weakfish(project, "ingest").returncode == 0
    else:
        sweep_project(Project(project))
    left = {str(each.relative_to(project)) for each in project.rglob(".*.part-*")}
    assert left == {
        *(name.format(ours) for name in names),
        f"reports/plots/.a.json.part-{ours}",
        f"sources/.a.py.part-{ours}",
        "data/.notes.part-one",
    }


def test_folders_of_killed_processes_go_with_the_next_for_the_same_target(tmp_path: Path) -> None:
    for name in (".a.part-x-4194305", ".a.part-old", f".a.part-x-{os.getpid()}", ".b.part-x-4194305"):
        (tmp_path / name / "within").mkdir(parents=True)
    with whole_folder(tmp_path / "a") as part, part_folder(tmp_path / "a"):
        assert part.name.endswith(f"-{os.getpid()}")
        (part / "made").touch()
    left = {each.name for each in tmp_path.iterdir()}
    assert left == {"a", f".a.part-x-{os.getpid()}", ".b.part-x-4194305"}
    assert (tmp_path / "a/made").exists()
    drop_parts(tmp_path)
    assert {each.name for each in tmp_path.iterdir()} == {"a", f".a.part-x-{os.getpid()}"}


@pytest.fixture
def _interruptible() -> Iterator[None]:
    """What a shell has in the background ignores interrupts."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_interruptible")
def test_an_interrupt_amid_a_query_is_recorded_as_one(tmp_path: Path) -> None:
    project = Project(tiny(tmp_path / "orders"))

    def work(_: Project) -> None:
        with duckdb.connect() as engine:
            threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
            engine.execute("select sum(a.range * b.range % 7) from range(100000) a, range(100000) b").fetchall()

    with pytest.raises(KeyboardInterrupt):
        run_recorded(project, "vote", work)
    run = read_run(project, "vote")
    assert run is not None
    assert (run.exit_code, run.message) == (INTERRUPTED, "It was interrupted.")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
