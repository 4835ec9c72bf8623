"""The cache of facts: a folder that may vanish at any time, one file per partition's bytes and fact.

A file begins with the SHA-256 of the rest; one that does not fit is as good as none. What a run neither reads nor
writes is dropped at its end.
"""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa

from weakfish.checks.expectations.facts import Fact
from weakfish.files import whole_file

_FORMAT = 1
"""Raised whenever facts or what they mean change."""

_VERSIONS = (_FORMAT, platform.python_version(), pa.__version__, duckdb.__version__, np.__version__)

_DIGEST = 32
"""Bytes of a SHA-256."""


class Kept:
    """Facts by the hash of the bytes that they are about and the identity of what was asked."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._used: set[Path] = set()

    def get(self, bytes_hash: str, identity: str) -> Fact | None:
        """The fact, or None when it is not there or damaged. Arrays are views of the file."""
        file = self._file(bytes_hash, identity)
        self._used.add(file)
        try:
            with pa.memory_map(str(file)) as stream:
                whole = stream.read_buffer()
        except (OSError, pa.ArrowInvalid):
            return None
        if len(whole) < _DIGEST:
            return None
        digest, content = whole.slice(0, _DIGEST), whole.slice(_DIGEST)
        if hashlib.sha256(content).digest() != digest.to_pybytes():
            return None
        return _read(content)

    def put(self, bytes_hash: str, identity: str, fact: Fact) -> None:
        """Keep a fact."""
        file = self._file(bytes_hash, identity)
        self._used.add(file)
        content = _written(fact)
        with whole_file(file) as part, part.open("wb") as stream:
            stream.write(hashlib.sha256(content).digest())
            stream.write(content)

    def drop_unused(self) -> None:
        """Drop what nobody asked for."""
        for folder in self.folder.glob("?" * 64):
            for file in folder.glob("*"):
                if file not in self._used:
                    file.unlink(missing_ok=True)
            if not any(folder.glob("*")):
                shutil.rmtree(folder, ignore_errors=True)

    def _file(self, bytes_hash: str, identity: str) -> Path:
        asked = hashlib.sha256(repr((_VERSIONS, identity)).encode()).hexdigest()
        return self.folder / bytes_hash / asked


def _written(fact: Fact) -> pa.Buffer:
    arrays = pa.table({} if fact.array is None else {"array": pa.array(fact.array)})
    parts = [arrays.replace_schema_metadata({"numbers": json.dumps(fact.numbers)})]
    parts += [] if fact.table is None else [fact.table]
    sink = pa.BufferOutputStream()
    for part in parts:
        with pa.ipc.new_stream(sink, part.schema) as writer:
            writer.write_table(part.combine_chunks())
    return sink.getvalue()


def _read(content: pa.Buffer) -> Fact:
    source = pa.BufferReader(content)
    arrays = pa.ipc.open_stream(source).read_all()
    table = pa.ipc.open_stream(source).read_all() if source.tell() < len(content) else None
    numbers = json.loads(arrays.schema.metadata[b"numbers"])
    array = None
    if arrays.num_columns:
        found = arrays["array"]
        array = found.chunk(0).to_numpy() if found.num_chunks else found.to_numpy()
    return Fact(numbers, array, table)
