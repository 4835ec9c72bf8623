"""Cached pieces that are outs too: what another processor would round otherwise is versioned by DVC, and pulled.

DVC deletes the outs of a stage before the stage runs. The pieces of the last version are then read from DVC's cache,
where ``dvc.lock`` says which they are.
"""

from __future__ import annotations

import hashlib
from functools import cached_property
from pathlib import Path

import pyarrow as pa

from weakfish.contracts.record import Rooted
from weakfish.project.cache import Cache
from weakfish.project.locked import locked_files

DIGITS = 16
"""Of the SHA-256 of a piece's bytes, in the name of its file."""


class Versioned(Cache):
    """The pieces of a scope, which `write` puts into a folder below ``data/`` too; threads may share it.

    Each file there is named ``<key>-<digits>``. A piece of the last version comes before one that this machine made, so
    that who pulls a version computes with its numbers.
    """

    def __init__(self, project: Rooted, scope: str, table: str) -> None:
        super().__init__(project, scope)
        self._root, self._table = project.root, f"data/{table}"
        self._asked: set[str] = set()

    @cached_property
    def _last(self) -> dict[str, tuple[str, Path]]:
        """The digits and files of the last version by key."""
        folder = self._root / self._table
        files = list(folder.iterdir()) if folder.is_dir() else []
        found = {file.name: file for file in files} or locked_files(self._root, self._table)
        parts = [(name.partition("-"), file) for name, file in found.items()]
        return {key: (digits, file) for (key, _, digits), file in parts}

    def get(self, key: str) -> pa.Buffer | None:
        """A piece of the last version, or one that was put here; None where neither is there and whole."""
        self._asked.add(key)
        here, (digits, file) = super().get(key), self._last.get(key, ("", Path()))
        try:
            content = file.read_bytes() if digits else b""
        except OSError:
            return here
        return pa.py_buffer(content) if digits and digits_of(content) == digits else here

    def brought(self, key: str) -> bool:
        """Whether a piece is there; one of the last version then lies in the cache too, where all workers find it."""
        content, here = self.get(key), super().get(key)
        if content is not None and (here is None or here != content):
            super().put(key, content)
        return content is not None

    def put(self, key: str, content: bytes | pa.Buffer) -> None:
        """Keep a piece."""
        self._asked.add(key)
        super().put(key, content)

    def write(self, folder: Path) -> None:
        """Write the pieces that were asked for or put into a folder, which is made where there are any."""
        for key in sorted(self._asked):
            if (content := self.get(key)) is not None:
                folder.mkdir(exist_ok=True)
                (folder / file_of(key, content)).write_bytes(content)


def file_of(key: str, content: bytes | pa.Buffer) -> str:
    """The name of a piece's file."""
    return f"{key}-{digits_of(content)}"


def digits_of(content: bytes | pa.Buffer) -> str:
    """What a file's name says of its bytes."""
    return hashlib.sha256(content).hexdigest()[:DIGITS]
