"""Which stages are stale, by ``dvc.lock``, ``params.yaml`` and the records of runs: in milliseconds, without DVC.

`weakfish status` asks DVC, which also looks at code. The page and the table of stages are made by every gate, so they
cannot wait for that; what they must know is whether figures are about the data that lie there now.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from weakfish.contracts.ledgers import Run
from weakfish.project.stages import read_yaml

REPORT = "report"
"""The stage that renders the page: nothing is read from it, so it is never stale for a reader."""

TRUTHS = dict.fromkeys(("true", "yes", "on"), "true") | dict.fromkeys(("false", "no", "off"), "false")
"""Names that YAML 1.1 reads as truth values."""

MARGIN = 1.0
"""Seconds by which a run must have ended after ``dvc.lock`` was written to count as one outside of DVC."""


@dataclass(frozen=True)
class LockedFile:
    """One dep or out of a stage in ``dvc.lock``."""

    path: str
    md5: str | None = None
    size: int | None = None
    nfiles: int | None = None


@dataclass(frozen=True)
class LockedStage:
    """One stage of ``dvc.lock``; ``params`` are settings by file, then by name."""

    outs: Sequence[LockedFile] = ()
    deps: Sequence[LockedFile] = ()
    params: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Lock:
    """``dvc.lock``."""

    stages: Mapping[str, LockedStage] = field(default_factory=dict)


def stale_stages(
    root: Path, lock: Lock, runs: Mapping[str, Run], changed: Mapping[str, str] | None = None
) -> dict[str, str]:
    """The stages whose outs are about other data or settings than lie there now, each with why.

    A stage is stale when a stage before it has made other outs since than those that it read, when its settings
    changed, or when a stage before it is stale. Nothing is said of stages that never ran, and of code, but for what
    is known to have ``changed``: stages with why, as DVC says it.
    """
    made = _Made(root, lock, runs)
    names = [name for name in lock.stages if name != REPORT]
    found = {name: why for name in names if (why := made.changed(name))} | dict(changed or {})
    while True:  # as often as stages stand behind each other
        new = {
            name: f"{before} is stale"
            for name in names
            if name not in found and (before := next((of for of in made.before(name) if of in found), None))
        }
        if not new:
            return found
        found |= new


class _Made:
    """What each stage read and made, by ``dvc.lock`` and by what lies there."""

    def __init__(self, root: Path, lock: Lock, runs: Mapping[str, Run]) -> None:
        self.root, self.stages, self.runs = root, lock.stages, runs
        self.outs = {out.path: out.md5 for stage in lock.stages.values() for out in stage.outs}
        self.maker = {out.path: name for name, stage in lock.stages.items() for out in stage.outs}

    @cached_property
    def params(self) -> Mapping[str, Any]:
        return read_yaml(self.root / "params.yaml")

    @cached_property
    def by_hand(self) -> dict[str, float]:
        """The stages that ran outside of DVC since it last wrote its lock and made something else, and when."""
        file = self.root / "dvc.lock"
        written = file.stat().st_mtime if file.is_file() else 0.0
        ended = {
            name: run.finished_at.timestamp()
            for name, run in self.runs.items()
            if run.exit_code == 0 and run.finished_at is not None and name in self.stages
        }
        later = {name: time for name, time in ended.items() if time > written + MARGIN}
        return {name: time for name, time in later.items() if not self._made_the_same(name)}

    def before(self, stage: str) -> list[str]:
        """The stages whose outs a stage reads."""
        return sorted({maker for dep in self._deps(stage) for maker in self._makers(dep)})

    def changed(self, stage: str) -> str | None:
        """Why a stage is stale in itself; None where it is not."""
        for dep, md5 in self._deps(stage).items():
            makers, now = self._makers(dep), self._md5(dep)
            if makers and now is not None and md5 is not None and now != md5:
                return f"{dep} was made anew by {', '.join(makers)}"
            run = self.runs.get(stage)
            ended = run.finished_at.timestamp() if run and run.finished_at else 0.0
            if late := [maker for maker in makers if self.by_hand.get(maker, 0.0) > ended]:
                return f"{', '.join(late)} ran since, outside of DVC"
        for name, value in self.stages[stage].params.get("params.yaml", {}).items():
            if _plain(_setting(self.params, name)) != _plain(value):
                return f"{name} changed in params.yaml"
        return None

    def _deps(self, stage: str) -> dict[str, str | None]:
        return {dep.path: dep.md5 for dep in self.stages[stage].deps}

    def _makers(self, path: str) -> list[str]:
        return sorted({maker for out, maker in self.maker.items() if _below(out, path) or _below(path, out)})

    def _md5(self, path: str) -> str | None:
        """The hash of a dep by what its makers made last, as DVC writes it; None where that is not known."""
        if path in self.outs:
            return self.outs[path]
        for out, md5 in self.outs.items():
            if _below(path, out):
                inside = self._listing(md5)
                within = path.removeprefix(f"{out}/")
                return None if inside is None else inside.get(within) or _hashed(_cut(inside, within))
        files: dict[str, str] = {}
        for out, md5 in self.outs.items():
            if _below(out, path):
                inside = self._listing(md5) if str(md5).endswith(".dir") else {"": str(md5)}
                if inside is None or md5 is None:
                    return None
                files |= {f"{out}/{name}".rstrip("/").removeprefix(f"{path}/"): of for name, of in inside.items()}
        if not files:
            return None
        for file in (self.root / path).rglob("*"):  # such as a .gitkeep, which no stage made
            name = file.relative_to(self.root / path).as_posix()
            if file.is_file() and name not in files and not any(_below(f"{path}/{name}", out) for out in self.outs):
                files[name] = hashlib.md5(file.read_bytes(), usedforsecurity=False).hexdigest()
        return _hashed(files)

    def _listing(self, md5: str | None) -> dict[str, str] | None:
        """The files of a folder that DVC keeps, and their hashes; None where its cache lacks it."""
        file = self.root / ".dvc/cache/files/md5" / str(md5)[:2] / str(md5)[2:]
        try:
            return {entry["relpath"]: entry["md5"] for entry in json.loads(file.read_text(encoding="utf-8"))}
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _made_the_same(self, stage: str) -> bool:
        """Whether the outs that lie there are those of the lock."""
        return all(_of_disk(self.root / out) == self.outs[out] for out, by in self.maker.items() if by == stage)


def _below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder}/")


def _cut(files: Mapping[str, str], folder: str) -> dict[str, str]:
    return {name.removeprefix(f"{folder}/"): of for name, of in files.items() if name.startswith(f"{folder}/")}


def _hashed(files: Mapping[str, str]) -> str:
    """The hash of a folder as DVC makes it: of the list of its files, by path, with their hashes."""
    listed = [{"md5": md5, "relpath": name} for name, md5 in sorted(files.items())]
    return hashlib.md5(json.dumps(listed, sort_keys=True).encode(), usedforsecurity=False).hexdigest() + ".dir"


def _of_disk(path: Path) -> str | None:
    """The hash of what lies at a path, as DVC makes it; None where nothing does."""

    def md5(file: Path) -> str:
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()

    if path.is_file():
        return md5(path)
    if not path.is_dir():
        return None
    return _hashed({file.relative_to(path).as_posix(): md5(file) for file in path.rglob("*") if file.is_file()})


def _setting(params: Mapping[str, Any], name: str) -> Any:
    found: Any = params
    for part in name.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return found


def _plain(value: Any) -> str:
    return json.dumps(_named(value), sort_keys=True, default=str)


def _named(value: Any) -> Any:
    """A value whose names compare as YAML reads them: DVC writes ``on`` without quotes, which is a truth value then."""
    if isinstance(value, dict):
        return {TRUTHS.get(str(key).lower(), str(key)): _named(of) for key, of in value.items()}
    return [_named(each) for each in value] if isinstance(value, list) else value
