"""The one cache of computed pieces: votes, fits, features, facts of checks, each found by what it was computed from.

It lies in ``.weakfish/cache``, outside of DVC's outs. All of it may vanish at any time, and a piece that was cut off or
altered is as good as none.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa

from weakfish.contracts.record import Rooted
from weakfish.files import sha256, whole_file

_DIGEST = 32
"""Bytes of a SHA-256, which every piece that `Cache.put` keeps begins with."""


def key_of(*parts: Any) -> str:
    """The key of a piece: a SHA-256 of all that it depends on (JSON; tuples are lists)."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


class Cache:
    """The pieces of one scope, such as ``votes`` or ``facts/<table>``; threads may share it."""

    def __init__(self, project: Rooted, scope: str) -> None:
        self.folder = project.root / ".weakfish" / "cache" / scope
        self._used: set[Path] = set()

    def file(self, key: str) -> Path:
        """Where a piece lies, or would: for pieces that are files with a format, and checks, of their own.

        Whoever makes one writes it whole (`weakfish.files.whole_file`).
        """
        file = self.folder / key[:2] / key
        self._used.add(file)
        return file

    def get(self, key: str) -> pa.Buffer | None:
        """A piece that was put here, mapped into memory; None when it is not there or damaged."""
        file = self.file(key)
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
        self.touch(file)
        return content

    def put(self, key: str, content: bytes | pa.Buffer) -> None:
        """Keep a piece."""
        with whole_file(self.file(key)) as part, part.open("wb") as stream:
            stream.write(hashlib.sha256(content).digest())
            stream.write(content)

    def take(self, file: Path) -> str:
        """Move a file into the cache, whole, under the SHA-256 of its bytes, which is returned."""
        digest = sha256(file)
        place = self.file(digest)
        place.parent.mkdir(parents=True, exist_ok=True)
        file.replace(place)
        return digest

    def taken(self, digest: str) -> Path | None:
        """The file that `take` moved here; None when it is not there or damaged."""
        place = self.file(digest)
        return place if place.is_file() and sha256(place) == digest else None

    @staticmethod
    def touch(file: Path) -> None:
        """Note that a piece was used, so that `bound` keeps it longer."""
        with contextlib.suppress(OSError):
            os.utime(file)

    def bound(self, megabytes: int) -> None:
        """Delete the pieces of this scope that were not used longest, until all are within a size."""
        stats = []
        for file in self._files():
            with contextlib.suppress(FileNotFoundError):
                stats.append((file.stat().st_mtime_ns, file.stat().st_size, file))
        total = 0
        for _, size, file in sorted(stats, reverse=True):
            total += size
            if total > megabytes << 20:
                file.unlink(missing_ok=True)

    def drop_unused(self) -> None:
        """Delete the pieces of this scope that nobody asked this object for."""
        for file in self._files():
            if file not in self._used:
                file.unlink(missing_ok=True)

    def _files(self) -> list[Path]:
        return [file for file in self.folder.glob("??/*") if not file.name.startswith(".")]
