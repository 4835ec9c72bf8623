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

import pyarrow.compute as pc

from weakfish.errors import WeakfishError
from weakfish.labeling.votes_file import ABSTAIN, read_votes
from weakfish.project import Project

PACKAGES = ("duckdb", "hyperscan", "ibis-framework", "numpy", "pandas", "pyarrow", "snorkel")
"""Packages whose versions the votes may depend on."""


class Pieces:
    """The cached pieces of a project."""

    def __init__(self, project: Project) -> None:
        self._folder = project.root / ".weakfish" / "votes"

    def file(self, key: str) -> Path:
        """Where the piece of a key lies, or would."""
        return self._folder / key[:2] / f"{key}.parquet"

    @staticmethod
    def highest(file: Path, keys: str) -> int | None:
        """The highest vote of a piece that is whole and about the events with the fingerprint ``keys``, or None."""
        if not file.exists():
            return None
        try:
            votes = read_votes(file, keys)
        except WeakfishError:
            file.unlink(missing_ok=True)
            return None
        os.utime(file)
        highest = pc.max(votes).as_py()
        return ABSTAIN if highest is None else int(highest)

    def bound(self, megabytes: int) -> None:
        """Delete the pieces that were not used longest, until all are within a size."""
        files = sorted(self._folder.glob("*/*.parquet"), key=lambda file: file.stat().st_mtime_ns, reverse=True)
        total = 0
        for file in files:
            total += file.stat().st_size
            if total > megabytes << 20:
                file.unlink(missing_ok=True)


def piece_key(identity: str, contents: Sequence[str], keys: str) -> str:
    """The key of a function's votes on a partition, whatever tasks it votes in."""
    parts = [identity, *contents, keys, engine_version()]
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
