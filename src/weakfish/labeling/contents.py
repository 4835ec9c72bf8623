"""Hashes of the events' partitions and their columns, so that what did not change is known without reading it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from weakfish.errors import WeakfishError
from weakfish.files import read_json, sha256, write_json
from weakfish.labeling.votes_file import fingerprint
from weakfish.project import Project
from weakfish.tables import open_partition, read_partition

PART = 1 << 22
"""Bytes that are read at a time."""


class Contents:
    """Hashes of partitions, remembered while a file's time and size stay what they were.

    The hash of a column is that of its chunks as they lie in the Parquet file: nothing is decoded.
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

    def file(self, file: Path) -> str:
        """The SHA-256 of a file."""
        entry = self._entry(file)
        if entry["file"] is None:
            entry["file"] = sha256(file)
        return str(entry["file"])

    def keys(self, file: Path, key: str) -> str:
        """The fingerprint of a partition's keys."""
        known = self._entry(file)["keys"]
        if key not in known:
            known[key] = fingerprint(read_partition(file, [key])[key])
        return str(known[key])

    def save(self, files: Sequence[Path]) -> None:
        """Remember what is known of these files, and nothing else."""
        write_json(self._file, {str(file): self._known[str(file)] for file in files if str(file) in self._known})

    def _entry(self, file: Path) -> dict[str, Any]:
        state = file.stat()
        stamp = [state.st_mtime_ns, state.st_size, state.st_ino]
        entry = self._known.get(str(file))
        if entry is None or entry["stamp"] != stamp:
            entry = self._known[str(file)] = {"stamp": stamp, "columns": {}, "keys": {}, "file": None}
        return entry


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
