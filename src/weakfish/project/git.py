"""Git, as a program: what it says of a folder, whatever repository the process was started for."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

_ELSEWHERE = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_COMMON_DIR")
"""What git sets for its hooks, and would act on another repository for."""


def git(folder: Path, *arguments: str, timeout: float | None = None) -> subprocess.CompletedProcess[str]:
    """Run git in a folder, whatever it ends with; raises `OSError` where there is no git."""
    environment = {name: value for name, value in os.environ.items() if name not in _ELSEWHERE}
    return subprocess.run(
        ["git", *arguments],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        timeout=timeout,
        check=False,
    )


def git_output(folder: Path, *arguments: str, timeout: float = 10) -> str | None:
    """What git prints; None where it fails, hangs or is not there, or where the folder is in no repository."""
    try:
        done = git(folder, *arguments, timeout=timeout)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout if done.returncode == 0 else None
