"""Pointers: small files that stand in ``data/`` for partitions whose bytes lie in storage that machines share.

``data/events/2002-08.pointer`` stands for ``data/events/2002-08.parquet``, and all who work with partitions go on to
name the latter; `local` says where its bytes are on this machine. A pointer names no address, so another bucket gives
the same one. Without ``storage`` in params.yaml there are none.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq

from weakfish.contracts.record import read
from weakfish.contracts.storage import AT_ONCE, setting_of, storage_of
from weakfish.errors import UserError
from weakfish.files import sha256_of, whole_file, whole_folder, write_json

SUFFIX = ".pointer"

IN_USE = 600.0
"""Seconds for which a fetched file stays after it was asked for, however little the cache may hold."""

_fetching: defaultdict[Path, threading.Lock] = defaultdict(threading.Lock)


@dataclass(frozen=True)
class Pointer:
    """What a pointer says of a partition: the SHA-256 of its bytes, its rows, and how many bytes it has."""

    sha256: str
    rows: int
    bytes: int


def pointer_file(file: Path) -> Path:
    """Where the pointer of a partition lies, if it has one."""
    return file.with_suffix(SUFFIX)


def named(file: Path) -> Path:
    """The partition that a file is or points to."""
    return file.with_suffix(".parquet") if file.suffix == SUFFIX else file


def pointer_of(file: Path) -> Pointer | None:
    """The pointer of a partition; None where its bytes lie in ``data/``, or where it does not exist."""
    pointer = pointer_file(file)
    return read(Pointer, pointer) if pointer.is_file() and not file.is_file() else None


def copy_partition(file: Path, folder: Path) -> None:
    """Copy a partition into a folder; of one whose bytes lie in storage, its pointer."""
    found = file if file.is_file() else pointer_file(file)
    shutil.copyfile(found, folder / found.name)


def exists(file: Path) -> bool:
    """Whether a partition is there, in ``data/`` or in the storage."""
    return file.is_file() or pointer_file(file).is_file()


def listed(folder: Path, pattern: str = "*") -> list[Path]:
    """The partitions of a folder whose names fit a pattern, in order, wherever their bytes lie."""
    return sorted({named(file) for suffix in (".parquet", SUFFIX) for file in folder.glob(f"{pattern}{suffix}")})


def local(file: Path) -> Path:
    """A file with the bytes of a partition: itself, or what its pointer stands for, fetched if need be.

    Where a process asks for one partition of a folder after the other, the next ones are fetched with it, at once.

    Raises
    ------
    StorageError
        When the storage cannot be reached, or its object is missing or damaged.
    UserError
        When there is a pointer and no storage is set.
    """
    if file.is_file() or (pointer := pointer_of(file)) is None:
        return file
    root = root_of(file)
    if root is None:
        return file
    if not _is_there(_kept(root, pointer, file.name), pointer):
        ahead = _next_ones(file)
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(partial(_bring, root), ahead))
        _Fetched.last[file.parent] = [file, *ahead][-1]
    return fetched(root, pointer, file.name)


def _next_ones(file: Path) -> list[Path]:
    """What whoever reads a folder in order opens next; nothing where this is not what comes after the last fetched."""
    files = listed(file.parent)
    place = files.index(file)
    goes_on = place > 0 and _Fetched.last.get(file.parent) == files[place - 1]
    return files[place + 1 : place + AT_ONCE] if goes_on else []


def _bring(root: Path, file: Path) -> None:
    if pointer := pointer_of(file):
        fetched(root, pointer, file.name)


def all_local(files: Iterable[Path]) -> list[Path]:
    """`local` of several files, which are fetched at once."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(local, files))


def fetched(root: Path, pointer: Pointer, name: str) -> Path:
    """The file of this machine's cache with what a pointer stands for, fetched if need be; raises as `local` does."""
    kept = _kept(root, pointer, name)
    with _fetching[kept]:
        if _is_there(kept, pointer):
            with contextlib.suppress(OSError):
                os.utime(kept)
            return kept
        storage = storage_of(root)
        if storage is None:
            raise UserError(
                f"The bytes of {name} lie in storage that machines share ({pointer.sha256[:12]}), and none is set; add "
                "storage to params.yaml, or set WEAKFISH_STORAGE."
            )
        with whole_file(kept) as part:
            storage.fetch(pointer.sha256, part)
        _bound(root, pointer.bytes)
    return kept


@contextmanager
def whole_tables(folder: Path) -> Iterator[Path]:
    """`whole_folder` for a folder of tables, whose partitions go into the project's storage before it is renamed.

    Who is killed leaves at most objects that no pointer names. A storage that cannot be used by its setting is told
    before the block begins.
    """
    root = root_of(folder)
    if root:
        storage_of(root)
    with whole_folder(folder) as part:
        yield part
        if root:
            settle(root, part)


def settle(root: Path, folder: Path) -> None:
    """Put all partitions at any depth of a folder into the project's storage, if it has one; leave pointers."""
    storage = storage_of(root)
    files = sorted(folder.rglob("*.parquet")) if storage else []
    if not storage or not files:
        return
    hashes = sha256_of({str(file): file for file in files})
    storage.keep({digest: Path(file) for file, digest in hashes.items()})
    for file, digest in zip(files, hashes.values(), strict=True):
        pointer = Pointer(digest, pq.read_metadata(file).num_rows, file.stat().st_size)
        kept = _home(root) / digest / file.name
        kept.parent.mkdir(parents=True, exist_ok=True)
        file.replace(kept)  # the next stage reads it
        write_json(pointer_file(file), asdict(pointer))
    _bound(root)


def root_of(file: Path) -> Path | None:
    """The project below whose ``data/`` a file lies; None of others."""
    for above in file.absolute().parents:
        if above.name == "data" and (above.parent / "params.yaml").is_file():
            return above.parent
    return None


def _home(root: Path) -> Path:
    return root / ".weakfish" / "objects"


def _kept(root: Path, pointer: Pointer, name: str) -> Path:
    return _home(root) / pointer.sha256 / name


def _is_there(kept: Path, pointer: Pointer) -> bool:
    return kept.is_file() and kept.stat().st_size == pointer.bytes


class _Fetched:
    """What this process fetched: the last of each folder, and the bytes since it last looked at the cache's size."""

    last: dict[Path, Path] = {}  # noqa: RUF012 - of the class
    bytes = 0


def _bound(root: Path, more: int | None = None) -> None:
    """Delete the files of the cache that were not asked for longest, until the others are within the setting.

    With ``more`` bytes, that is only looked at when a tenth of the setting was fetched.
    """
    setting = setting_of(root)
    if setting is None:
        return
    most = setting.max_cache_megabytes << 20
    _Fetched.bytes += more or 0
    if more is not None and _Fetched.bytes < most // 10:
        return
    _Fetched.bytes = total = 0
    stats = []
    for file in _home(root).glob("*/*"):
        with contextlib.suppress(FileNotFoundError):
            stats.append((file.stat().st_mtime, file.stat().st_size, file))
    for at, size, file in sorted(stats, reverse=True):
        total += size
        if total > most and time.time() - at > IN_USE:
            file.unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                file.parent.rmdir()
