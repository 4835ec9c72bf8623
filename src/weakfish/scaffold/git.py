"""Git of a new project: whether one is there already, a repository with one commit where it is not."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Literal

from weakfish.errors import UserError, WeakfishError

State = Literal["committed", "staged", "outer"]

_ELSEWHERE = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_COMMON_DIR")
"""What git sets for its hooks, and would act on another repository for."""


def check_git() -> None:
    """Raise `UserError` when there is no git."""
    if shutil.which("git") is None:
        raise UserError("There is no git on PATH, and a project's history lies in git; install it.")


def outer(folder: Path) -> Path | None:
    """The repository whose work tree a folder would lie in and which does not ignore it."""
    there = next(place for place in (folder, *folder.parents) if place.is_dir())
    found = _git(there, "rev-parse", "--show-toplevel")
    if found.returncode or not found.stdout.strip():
        return None
    if _git(there, "check-ignore", "--quiet", "--", str(folder)).returncode == 0:
        return None
    return Path(found.stdout.strip())


def begin(folder: Path, message: str) -> State:
    """Make a repository of a folder, with all that is in it as the first commit.

    The files are left staged where git does not know who commits, or does not let it be done.

    Raises
    ------
    WeakfishError
        When git fails otherwise.
    """
    for arguments in (("init", "--quiet"), ("add", "--all")):
        done = _git(folder, *arguments)
        if done.returncode:
            raise WeakfishError(f"`git {arguments[0]}` failed: {_last(done)}; correct that and run it again.")
    if not all(_said(folder, who) for who in ("GIT_AUTHOR_IDENT", "GIT_COMMITTER_IDENT")):
        return "staged"
    return "staged" if _git(folder, "commit", "--quiet", "--message", message).returncode else "committed"


def _said(folder: Path, who: str) -> bool:
    """Whether somebody said who commits; what git makes up of the machine's names does not count."""
    return _git(folder, "-c", "user.useConfigOnly=true", "var", who).returncode == 0


def _git(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name not in _ELSEWHERE}
    return subprocess.run(
        ["git", *arguments],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def _last(done: subprocess.CompletedProcess[str]) -> str:
    lines = (done.stderr or done.stdout).strip().splitlines()
    return lines[-1].rstrip(".") if lines else f"exit code {done.returncode}"
