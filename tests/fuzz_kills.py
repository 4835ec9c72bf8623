"""Kills at random moments: the next run mends what is left, and ends with the bytes of a run that nobody disturbed.

A stage is killed in a process of its own and run again; some cases kill `weakfish run` instead, its DVC, or all of it.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import random
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import own_data
import psutil
import redis
import yaml
from forks import ended, forked
from in_process import run_here
from projects import BIN, replace
from stores import dump, port, redis_server

from weakfish.cli import dvc_process
from weakfish.cli.fork_server import PRELOADED
from weakfish.contracts.ledgers import read_runs
from weakfish.project.paths import Project
from weakfish.project.stages import stages_of

OF_A_RUN = ("index.html", "junit.xml", "registry.db", "registry.json")
"""Files that say when something ran, and one with the digest of such a file."""

SECONDS = 90
WHOLE_RUNS = 0.12


@dataclass
class Stage:
    """A stage by name: its command, and what it makes."""

    name: str
    command: list[str]
    outs: list[str]
    seconds: dict[str, float] = field(default_factory=dict)
    """How long it takes undisturbed, by what was taken away before: nothing, its outs, or what it published."""


@contextlib.contextmanager
def cases(folder: Path, only: Sequence[str] = (), kills: int = 0) -> Iterator[Callable[[random.Random], str | None]]:
    """Kill something once, and run it again.

    Parameters
    ----------
    only
        The stages to kill; all where there are none.
    kills
        Kill stages one after the other, each this often while it works, and nothing else; without end where it is 0.
    """
    own_data.orders(folder / "orders.csv", (1, 2, 3), each=60, labelled=0.7)
    root = folder / "shop"
    flags = ["--yes", "--label", "outcome", "--entity", "customer_id"]
    with redis_server(folder / "redis") as client:
        os.environ["WEAKFISH_REDIS"] = f"127.0.0.1:{port(client)}"
        run_here(folder, ["init", str(root), "--from", str(folder / "orders.csv"), *flags])
        for old, new in (("seeds: [1, 2, 3]", "seeds: [1]"), ("bootstrap: 500", "bootstrap: 20")):
            replace(root / "params.yaml", old, new)
        _run(root)
        stages = [stage for stage in _stages(root) if not only or stage.name in only]
        assert stages, f"There is no stage {only}."
        undisturbed = Undisturbed(root, folder / "undisturbed", client)
        in_time: Counter[str] = Counter()

        def one(draw: random.Random) -> str | None:
            undisturbed.restore()
            stage = draw.choice(stages)
            if kills:
                stage = min(stages, key=lambda stage: in_time[stage.name])
                if in_time[stage.name] >= kills:
                    return None
            elif draw.random() < WHOLE_RUNS:
                who, moment = draw.choice(("run", "DVC", "all")), draw.random() * 1.1
                what = f"a kill of {who} in {stage.name} at {moment:.3f} of its time"
                _kill_a_run(root, stage, who, moment)
                _run(root)
                undisturbed.check(what)
                left = [str(path) for path in root.rglob(".*.part-*")]
                assert not left, f"{left[0]} is left after {what}"
                return f"weakfish run, {who} killed"
            before = draw.choice(("nothing", "outs", "published") if stage.name == "publish" else ("nothing", "outs"))
            moment = draw.random()
            what = f"a kill of {stage.name} at {moment:.3f} of its time, {before} taken away before"
            if before not in stage.seconds:
                _take_away(before, stage, undisturbed)
                begun = time.monotonic()
                assert ended(_begun(root, stage)) == 0, f"{stage.name} fails with {before} taken away before"
                stage.seconds[before] = time.monotonic() - begun
                undisturbed.check(f"{stage.name} with {before} taken away before")
            _take_away(before, stage, undisturbed)
            killed = _killed(_begun(root, stage), moment * stage.seconds[before])
            if not killed:  # the machine is faster than it was
                del stage.seconds[before]
            code = ended(_begun(root, stage))
            assert code == 0, f"{stage.name} ends with {code} after {what}"
            undisturbed.check(what)
            in_time[stage.name] += killed
            return f"{stage.name}, {'killed' if killed else 'done before'}"

        yield one


class Undisturbed:
    """A project and what it published, as a run left them that nobody disturbed."""

    def __init__(self, root: Path, copy: Path, client: redis.Redis) -> None:
        self.root, self.client, self._copy, self._is_whole = root, client, copy, True
        shutil.copytree(root, copy, symlinks=True)
        self._made, self._published = _made(root), _published(client)
        self._keys = {key: client.dump(key) for key in client.scan_iter()}

    def restore(self) -> None:
        """Put all back, unless the case before found nothing: what it left would be a finding of each that follows."""
        if not self._is_whole:
            for process in psutil.process_iter():
                with contextlib.suppress(psutil.Error):
                    if process.cwd() == str(self.root):
                        process.kill()
            shutil.rmtree(self.root)
            shutil.copytree(self._copy, self.root, symlinks=True)
            self.client.flushall()
            for key, value in self._keys.items():
                self.client.restore(key, 0, value)
        self._is_whole = False

    def check(self, what: str) -> None:
        """Compare what is there with what was."""
        now = _made(self.root)
        differing = sorted(path for path in self._made.keys() | now.keys() if self._made.get(path) != now.get(path))
        assert not differing, f"{differing[0]} differs after {what} ({len(differing)} files do)"
        assert _published(self.client) == self._published, f"the store differs after {what}"
        self._is_whole = True


def _take_away(what: str, stage: Stage, of: Undisturbed) -> None:
    """Delete a stage's outs, as DVC does before it runs, or what it published."""
    if what == "published":
        of.client.flushall()
    elif what == "outs":
        for out in stage.outs:
            _remove(of.root / out)


def _run(root: Path) -> None:
    """`weakfish run`, which waits until what is left of the one before has ended."""
    done = subprocess.run([BIN / "weakfish", "run"], cwd=root, capture_output=True, text=True, check=False)
    assert not done.returncode, f"`weakfish run` ends with {done.returncode}: {(done.stdout + done.stderr)[-1200:]}"


def _begun(root: Path, stage: Stage) -> int:
    """A fork that runs a stage, in a session of its own; what it prints goes where this process's errors go."""
    for name in PRELOADED.get(stage.command[0], ()):
        module, _, function = name.partition(":")
        found = importlib.import_module(module)
        if function:
            getattr(found, function)()

    def work() -> None:
        os.setsid()
        os.dup2(2, 1)
        run_here(root, stage.command)

    return forked(work)


def _killed(child: int, seconds: float) -> bool:
    """Kill a process and all that it started after a while; False when it had ended by then."""
    time.sleep(seconds)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    return ended(child) == -signal.SIGKILL


def _kill_a_run(root: Path, stage: Stage, who: str, moment: float) -> None:
    """Begin `weakfish run` on one stage, and kill it, the DVC below it, or all of it while it works."""
    command = [BIN / "weakfish", "run", "--force", "--single-item", stage.name]
    process = subprocess.Popen(command, cwd=root, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(moment * (3 + (read_runs(Project(root))[stage.name].seconds or 0.0)))
    with contextlib.suppress(psutil.NoSuchProcess):
        own = psutil.Process(process.pid)
        below = own.children(recursive=True)
        chosen = {
            "run": [own],
            "DVC": [each for each in below if dvc_process.__name__ in each.cmdline()],
            "all": [*below, own],
        }
        for each in chosen[who]:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()
    process.wait(SECONDS)


def _stages(root: Path) -> list[Stage]:
    """The stages that make something, in the order of the file."""
    written = yaml.safe_load((root / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    found = []
    for name in stages_of(root):
        whole, _, item = name.partition("@")
        stage = written[whole].get("do", written[whole])
        text = stage["cmd"].replace("${key}", item).replace("${item}", item)
        outs = [out if isinstance(out, str) else next(iter(out)) for out in _listed(stage)]
        outs = [out.replace("${key}", item).replace("${item}", item) for out in outs]
        command = text.removeprefix("${weakfish} ").split()
        found.append(Stage(name, command, outs))
    return [stage for stage in found if stage.outs]


def _listed(stage: Mapping[str, Any]) -> Iterator[Any]:
    for kind in ("outs", "metrics", "plots"):
        yield from stage.get(kind, ())


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _made(root: Path) -> dict[str, bytes]:
    """All that the stages make."""
    files = [file for place in ("data", "reports") for file in (root / place).rglob("*") if file.is_file()]
    return {str(file.relative_to(root)): file.read_bytes() for file in files if file.name not in OF_A_RUN}


def _published(client: redis.Redis) -> dict[bytes, Any]:
    """What the store serves: the hashes of entities."""
    return {key: value for key, value in dump(client).items() if isinstance(value, dict)}
