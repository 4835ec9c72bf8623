"""Votes that were computed before: one piece per labeling function and partition, found by what it was computed from.

A key holds the function's identity, the stored bytes of the columns that it reads, and the version of the engine. The
cache lies in ``.weakfish/votes``, outside of DVC's outs; it may be deleted at any time, and forgets what was used last
longest ago.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from weakfish.errors import WeakfishError
from weakfish.files import read_json, write_json
from weakfish.labeling.votes_file import fingerprint, read_votes
from weakfish.project import Project
from weakfish.tables import open_partition, read_partition

PACKAGES = ("duckdb", "hyperscan", "ibis-framework", "numpy", "pandas", "pyarrow", "snorkel")
"""Packages whose versions the votes may depend on."""

PART = 1 << 22


class Pieces:
    """The cached pieces of a project."""

    def __init__(self, project: Project) -> None:
        self._folder = project.root / ".weakfish" / "votes"

    def file(self, key: str) -> Path:
        """Where the piece of a key lies, or would."""
        return self._folder / key[:2] / f"{key}.parquet"

    def holds(self, key: str, keys: str) -> bool:
        """Whether the piece is there and whole, and about the events with the fingerprint ``keys``."""
        file = self.file(key)
        if not file.exists():
            return False
        try:
            read_votes(file, keys)
        except WeakfishError:
            file.unlink(missing_ok=True)
            return False
        os.utime(file)
        return True

    def bound(self, megabytes: int) -> None:
        """Delete the pieces that were not used longest, until all are within a size."""
        files = sorted(self._folder.glob("*/*.parquet"), key=lambda file: file.stat().st_mtime_ns, reverse=True)
        total = 0
        for file in files:
            total += file.stat().st_size
            if total > megabytes << 20:
                file.unlink(missing_ok=True)


class Contents:
    """Hashes of stored columns, remembered while a file's time and size stay what they were.

    The hash is that of the column's chunks as they lie in the Parquet file: nothing is decoded.
    """

    def __init__(self, project: Project) -> None:
        self._file = project.root / ".weakfish" / "contents.json"
        try:
            self._known: dict[str, dict[str, Any]] = read_json(self._file)
        except WeakfishError:
            self._known = {}

    def of(self, file: Path, columns: Sequence[str]) -> list[str]:
        """One hash per column."""
        known = self._entry(file)["columns"]
        missing = [name for name in columns if name not in known]
        if missing:
            known.update(_column_hashes(file, missing))
        return [known[name] for name in columns]

    def keys(self, file: Path, key: str) -> str:
        """The fingerprint of a partition's keys."""
        entry = self._entry(file)
        if entry["keys"] is None:
            entry["keys"] = fingerprint(read_partition(file, [key])[key])
        return str(entry["keys"])

    def save(self, files: Sequence[Path]) -> None:
        """Remember what is known of these files, and nothing else."""
        write_json(self._file, {str(file): self._known[str(file)] for file in files if str(file) in self._known})

    def _entry(self, file: Path) -> dict[str, Any]:
        state = file.stat()
        stamp = [state.st_mtime_ns, state.st_size, state.st_ino]
        entry = self._known.get(str(file))
        if entry is None or entry["stamp"] != stamp:
            entry = self._known[str(file)] = {"stamp": stamp, "columns": {}, "keys": None}
        return entry


def piece_key(identity: str, contents: Sequence[str], keys: str, classes: int) -> str:
    """The key of a function's votes on a partition; ``classes`` is how many the task has."""
    parts = [identity, *contents, keys, str(classes), engine_version()]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


@cache
def engine_version() -> str:
    """A hash of the packages' versions and of the code that computes votes."""
    labeling = Path(__file__).parent.parent
    alone = [labeling / f"{name}.py" for name in ("dependencies", "functions", "identity", "votes_file")]
    folders = (labeling / "voting", labeling.parent / "compute")
    files = sorted([*alone, *(file for folder in folders for file in folder.rglob("*.py"))])
    code = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
    versions = {name: _version(name) for name in PACKAGES} | {"python": platform.python_version()}
    return hashlib.sha256(json.dumps([versions, code], sort_keys=True).encode()).hexdigest()


def _version(package: str) -> str:
    try:
        return version(package)
    except ModuleNotFoundError:
        return "absent"


def _column_hashes(file: Path, names: Sequence[str]) -> dict[str, str]:
    parquet = open_partition(file)
    metadata = parquet.metadata
    digests = {name: hashlib.sha256(str(parquet.schema_arrow.field(name).type).encode()) for name in names}
    with file.open("rb") as stream:
        for group in range(metadata.num_row_groups):
            for number in range(metadata.num_columns):
                chunk = metadata.row_group(group).column(number)
                digest = digests.get(chunk.path_in_schema.partition(".")[0])
                if digest is None:
                    continue
                start = chunk.dictionary_page_offset if chunk.has_dictionary_page else chunk.data_page_offset
                digest.update(f"{group} {chunk.num_values}".encode())
                stream.seek(start)
                for done in range(0, chunk.total_compressed_size, PART):
                    digest.update(stream.read(min(PART, chunk.total_compressed_size - done)))
    return {name: digest.hexdigest() for name, digest in digests.items()}
