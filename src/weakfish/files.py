"""Files that appear whole or not at all: write beside, then rename; JSON in one canonical form."""

from __future__ import annotations

import glob
import hashlib
import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from weakfish.errors import TableError

CLOCK_SECONDS = 1.0
"""By how much a process's start and a file's time may be wrong against each other."""


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Yield an empty folder beside ``folder`` that replaces it when the block ends well, and vanishes otherwise."""
    with part_folder(folder) as part:
        yield part
        if folder.exists():
            shutil.rmtree(folder)
        part.rename(folder)


@contextmanager
def part_folder(target: Path, within: Path | None = None) -> Iterator[Path]:
    """Yield an empty folder beside ``target``, or ``within`` one, that goes with the block.

    Those for the same target that killed processes left go, too.
    """
    home = within or target.parent
    home.mkdir(parents=True, exist_ok=True)
    prefix = f".{target.name}.part-"
    for left in home.glob(f"{glob.escape(prefix)}*"):
        if not _lives(left):
            shutil.rmtree(left, ignore_errors=True)
    part = Path(tempfile.mkdtemp(prefix=prefix, suffix=f"-{os.getpid()}", dir=home))
    part.chmod(0o755)
    try:
        yield part
    finally:
        shutil.rmtree(part, ignore_errors=True)


@contextmanager
def whole_file(file: Path) -> Iterator[Path]:
    """Yield a path beside ``file`` that replaces it when the block ends well, and vanishes otherwise."""
    file.parent.mkdir(parents=True, exist_ok=True)
    # processes of several machines may have one number
    part = file.with_name(f".{file.name}.part-{secrets.token_hex(4)}-{os.getpid()}")
    try:
        yield part
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)


def drop_parts(folder: Path, deep: bool = True) -> None:
    """Delete unfinished files and folders that killed processes left in a folder, and below it if ``deep``."""
    find = folder.rglob if deep else folder.glob
    for part in list(find(".*.part-*")):
        if part.name.rpartition("-")[2].isdigit() and not _lives(part):
            if part.is_dir():
                shutil.rmtree(part, ignore_errors=True)
            else:
                part.unlink(missing_ok=True)


def _lives(part: Path) -> bool:
    """Whether the process is at work that an unfinished file or folder names; earlier versions named none."""
    process = part.name.rpartition("-")[2]
    try:
        return process.isdigit() and existed(int(process), part.stat().st_mtime)
    except FileNotFoundError:
        return False


def existed(process: int, written: float) -> bool:
    """Whether a process that is at work existed when a file was written that names it."""
    import psutil

    try:
        found = psutil.Process(process)
        begun: float = found.create_time()
        # Who was killed with its parent waits to be collected by process 1, and has let go of all that it held.
        return begun <= written + CLOCK_SECONDS and found.status() != psutil.STATUS_ZOMBIE
    except (psutil.NoSuchProcess, ValueError, OverflowError):
        return False


def write_json(file: Path, content: Any) -> None:
    """Write ``content`` in canonical form: sorted keys, two spaces, one newline at the end, no NaN."""
    text = json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    with whole_file(file) as part:
        part.write_text(text + "\n", encoding="utf-8")


def read_json(file: Path) -> Any:
    """Read a JSON file; raises `TableError` when it is missing or cut off."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise TableError(f"{file} does not exist; run `dvc repro`, which makes it.") from error
    except ValueError as error:
        raise TableError(f"{file} is not JSON ({error}); delete it and run `dvc repro`.") from error


def write_arrays(file: Path, **arrays: Any) -> None:
    """Write arrays of numbers for another process."""
    import numpy as np

    with whole_file(file) as part, part.open("wb") as stream:
        np.savez(stream, allow_pickle=False, **arrays)


def read_arrays(file: Path) -> dict[str, Any]:
    """The arrays that `write_arrays` wrote."""
    import numpy as np

    with np.load(file, allow_pickle=False) as found:
        return dict(found)


def sha256(file: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sha256_of(files: Mapping[str, Path]) -> dict[str, str]:
    """The SHA-256 of each of some files, by name; several are read at once, since hashing leaves the interpreter."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return dict(zip(files, pool.map(sha256, files.values()), strict=True))
