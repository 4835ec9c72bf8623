"""Projects to test on: a copy of this repository, as a clone would have it, and a tiny one about orders."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent


def clone(to: Path) -> Path:
    """This repository as git sees it, uncommitted changes included, in the new folder ``to`` with one commit."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=REPOSITORY,
        check=True,
        capture_output=True,
        text=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (REPOSITORY / name).is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPOSITORY / name, to / name)
    git(to, "init", "--quiet")
    git(to, "add", "--all")
    git(to, "-c", "user.name=test", "-c", "user.email=test@example.org", "commit", "--quiet", "--message", "clone")
    return to


def git(root: Path, *arguments: str) -> str:
    """Run git in ``root``, return what it prints."""
    return subprocess.run(["git", *arguments], cwd=root, check=True, capture_output=True, text=True).stdout


def weakfish(root: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the `weakfish` of this environment in ``root``."""
    return command(root, str(BIN / "weakfish"), *arguments, **environment)


def command(root: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a program in ``root`` with this environment's programs first on the path."""
    path = os.pathsep.join([str(BIN), os.environ["PATH"]])
    env = {**os.environ, "PATH": path, "COLUMNS": "100", **environment}
    return subprocess.run(list(arguments), cwd=root, env=env, capture_output=True, text=True, check=False)


def tiny(root: Path) -> Path:
    """The project in `tests/orders` (30 orders, one of them without a time), in the new folder ``root``."""
    return Path(shutil.copytree(Path(__file__).parent / "orders", root, ignore=shutil.ignore_patterns("__pycache__")))


def write(file: Path, text: str) -> None:
    """Write a dedented text, folders included."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(textwrap.dedent(text).lstrip("\n"), encoding="utf-8")


def replace(file: Path, old: str, new: str) -> None:
    """Replace a text that must be there."""
    text = file.read_text(encoding="utf-8")
    assert old in text, f"{old!r} is not in {file}"
    file.write_text(text.replace(old, new), encoding="utf-8")


def contents(folder: Path) -> dict[str, bytes]:
    """The bytes of every file below ``folder``, by path."""
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}
