"""Hashes of a table's files, remembered while the files stay as they are, so that each is read for them once.

They lie below ``.weakfish/hashes``, by folder of ``data/``. All of it may be deleted at any time.
"""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from weakfish.contracts.pointers import exists, pointer_of
from weakfish.files import sha256_of, whole_file

SETTLED, SETTLED_FINE = 2 * 10**9, 10**8
"""Nanoseconds after which a file's times tell a later change of it: whatever the clock of its file system ticks in, and
where that ticks in less than milliseconds, as times that are no multiple of them show."""

MILLISECOND = 10**6

_UNFINISHED = re.compile(r"\.(.+)\.part-[^/]*")
"""A folder that is being written, see `weakfish.files.part_folder`; its files keep their marks when it is renamed."""


class FolderMemory:
    """What is known of the bytes of a folder's files; nothing is kept of folders outside of a project's ``data``.

    A file is the same while its size, times and inode are; one that a pointer stands for, while its SHA-256 is.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._file, self._now = folder, _memory_of(folder.absolute()), time.time_ns()
        self._known = _remembered(self._file) if self._file else {}
        self._before = json.dumps(self._known)

    def of(self, file: Path) -> dict[str, Any]:
        """What is known of a file as it is now, by whoever found it out; what is added to it is kept by `save`."""
        if pointer := pointer_of(file):
            marks: list[Any] = [pointer.sha256]
        else:
            state = file.stat()
            marks = [state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino]
        entry = self._known.get(file.name)
        if entry is None or entry.get("marks") != marks:
            entry = self._known[file.name] = {"marks": marks} | ({"sha256": pointer.sha256} if pointer else {})
        return entry

    def save(self) -> None:
        """Keep what is known of the files that are there, but of those that may change without a mark."""
        there = {name: entry for name, entry in self._known.items() if exists(self._folder / name)}
        kept = {name: entry for name, entry in there.items() if self._is_settled(*entry["marks"][1:3])}
        text = json.dumps(kept)
        if self._file and text != self._before:
            with contextlib.suppress(OSError), whole_file(self._file) as part:
                part.write_text(text, encoding="utf-8")

    def _is_settled(self, *times: int) -> bool:
        """Whether times are so old that a file which changes now gets others, even in a coarse clock's next tick.

        What a pointer stands for has none.
        """
        if not times:
            return True
        fine = any(at % MILLISECOND for at in times)
        return self._now - max(times) > (SETTLED_FINE if fine else SETTLED)


def hashes_of(files: Mapping[str, Path]) -> dict[str, str]:
    """The SHA-256 of each of some files, by name; what is remembered is not read again."""
    memories = {folder: FolderMemory(folder) for folder in {file.parent for file in files.values()}}
    facts = {name: memories[file.parent].of(file) for name, file in files.items()}
    new = {name: file for name, file in files.items() if "sha256" not in facts[name]}
    for name, found in sha256_of(new).items():
        facts[name]["sha256"] = found
    for memory in memories.values() if new else ():
        memory.save()
    return {name: str(facts[name]["sha256"]) for name in files}


def _memory_of(folder: Path) -> Path | None:
    """The file of a folder's memory: ``.weakfish/hashes/labels/<task>.json`` of ``data/labels/<task>``."""
    for data in (folder, *folder.parents):
        if data.name == "data" and (data.parent / "params.yaml").is_file():
            inside = _UNFINISHED.sub(r"\1", folder.relative_to(data).as_posix())
            return data.parent / ".weakfish" / "hashes" / f"{inside}.json"
    return None


def _remembered(memory: Path) -> dict[str, Any]:
    try:
        found = json.loads(memory.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {name: entry for name, entry in found.items() if isinstance(entry, dict)}  # earlier versions had lists
