"""Files that travel by the project's storage, for executors that do not see its folder.

What an item names goes up before its job, and what its work leaves comes back with its receipt. Partitions are objects
of the storage anyway: of these, only pointers travel.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from weakfish.contracts.pointers import pointer_file, pointer_of
from weakfish.contracts.storage import FLEET, Storage
from weakfish.errors import WeakfishError
from weakfish.files import sha256, whole_file

OBJECTS = Path(".weakfish") / "objects"
"""Where a machine keeps partitions, `weakfish.contracts.pointers`: below it the SHA-256, then the partition's name."""

WRITTEN = ("data", ".weakfish")
"""The folders in which workers write."""

LEFT = (OBJECTS, Path(".weakfish") / "hashes")
"""What is each machine's own."""


class Carrier:
    """Carries the files of one job."""

    def __init__(self, storage: Storage, job: str) -> None:
        self.storage, self.prefix = storage, f"{FLEET}/{job}"
        self._up: dict[str, str] = {}

    def send(self, root: Path, items: Sequence[str]) -> tuple[dict[str, str], ...]:
        """Put what each item names where executors find it; by item, where the file of each path lies."""
        return tuple({name: self._sent(root, name) for name in _named(root, json.loads(item))} for item in items)

    def _sent(self, root: Path, name: str) -> str:
        if name not in self._up:
            file = root / name
            if file.is_relative_to(root / OBJECTS):
                self._up[name] = self.storage.object(file.parent.name)
            else:
                self._up[name] = self._put(file)
        return self._up[name]

    def _put(self, file: Path) -> str:
        place = f"{self.prefix}/{sha256(file)}"
        self.storage.put(place, file, create=True)
        return place

    def unpack(self, root: Path, places: Mapping[str, str]) -> None:
        """Write the files of an item on an executor."""
        for name, place in places.items():
            if not (root / name).exists():
                self._get(root, name, place)

    def _get(self, root: Path, name: str, place: str) -> None:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or path.parts[0] not in WRITTEN:
            raise WeakfishError(
                f"A worker names the file {name!r}, which is not a project's; this is a defect of Weakfish."
            )
        with whole_file(root / name) as part:
            if place.startswith(f"{self.prefix}/"):
                content = self.storage.get(place)
                if content is None:
                    raise WeakfishError(
                        f"{self.storage.uri}/{place} is gone, though its job has not ended; run this again."
                    )
                part.write_bytes(content)
            else:
                self.storage.fetch(place.rpartition("/")[2], part)

    def leave(self, root: Path, before: Mapping[str, tuple[int, int]]) -> dict[str, str]:
        """Put what the work has written on an executor since ``before``, and delete it there."""
        found = {name: self._put(root / name) for name, state in files_of(root).items() if before.get(name) != state}
        for name in found:
            (root / name).unlink()
        return found

    def fetch(self, root: Path, places: Mapping[str, str]) -> None:
        """Write what the work of an item left where the driver's project has it."""
        for name, place in places.items():
            self._get(root, name, place)

    def end(self) -> None:
        """Delete the files of the job."""
        self.storage.delete([found.path for found in self.storage.listing(self.prefix)])


def files_of(root: Path) -> dict[str, tuple[int, int]]:
    """The files of an executor's folder in which workers write, by path: size and time; fetched partitions apart."""
    found = {}
    for top in WRITTEN:
        for file in (root / top).rglob("*"):
            if file.is_file() and not any(file.is_relative_to(root / own) for own in LEFT):
                state = file.stat()
                found[file.relative_to(root).as_posix()] = (state.st_size, state.st_mtime_ns)
    return found


def _named(root: Path, value: Any) -> Iterator[str]:
    """The files that texts in an item name, also those of folders, with pointers in place of partitions."""
    if isinstance(value, str):
        if value.partition("/")[0] not in WRITTEN:
            return
        file = root / value
        if file.is_dir():
            yield from (each.relative_to(root).as_posix() for each in file.rglob("*") if each.is_file())
        elif file.is_file():
            yield value
        elif pointer_of(file):
            yield pointer_file(file).relative_to(root).as_posix()
    elif isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _named(root, each)


def emptied(root: Path) -> None:
    """Delete what is left in the folders in which workers write."""
    for top in WRITTEN:
        for left in (root / top).iterdir():
            if left != root / OBJECTS and not left.is_symlink():
                shutil.rmtree(left) if left.is_dir() else left.unlink()
