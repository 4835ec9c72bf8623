"""Which data the report is about: every out in ``dvc.lock``, and the git revision that it belongs to."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

import yaml
from pydantic import ValidationError

from weakfish.report.inputs import Inputs
from weakfish.report.records import Lock, LockedOut


@dataclass(frozen=True)
class Version:
    """The version of one out; ``change`` since git's last commit: ``same``, ``changed``, ``new``, None if unknown."""

    stage: str
    path: str
    md5: str
    size: int | None
    files: int | None
    change: str | None

    @property
    def is_data(self) -> bool:
        """Whether it is data, not a report on data."""
        return not self.path.startswith("reports/")


def versions(inputs: Inputs) -> list[Version]:
    """One line per out, in the pipeline's order."""
    committed = _committed(inputs.root)
    order = [stage for stage in inputs.stages if stage in inputs.lock.stages]
    return [_version(stage, out, committed) for stage in order for out in inputs.lock.stages[stage].outs]


def revision(root: Path) -> str | None:
    """The short git revision, with ``+`` when tracked files differ from it; None outside of git."""
    commit = _git(root, "rev-parse", "--short", "HEAD")
    if commit is None:
        return None
    return commit.strip() + ("+" if _git(root, "status", "--porcelain", "--untracked-files=no") else "")


def _version(stage: str, out: LockedOut, committed: dict[str, str | None] | None) -> Version:
    change = None
    if committed is not None:
        change = "new" if out.path not in committed else "same" if committed[out.path] == out.md5 else "changed"
    return Version(stage, out.path, (out.md5 or "").removesuffix(".dir")[:8], out.size, out.nfiles, change)


def _committed(root: Path) -> dict[str, str | None] | None:
    text = _git(root, "show", "HEAD:./dvc.lock")
    try:
        lock = Lock.model_validate(yaml.safe_load(text)) if text else None
    except (yaml.YAMLError, ValidationError):
        return None
    return {out.path: out.md5 for stage in lock.stages.values() for out in stage.outs} if lock else None


def _git(root: Path, *arguments: str) -> str | None:
    command = ["git", "-C", str(root), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", timeout=10, check=False)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout if done.returncode == 0 else None
