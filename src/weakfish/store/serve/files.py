"""The registry's file, and what tells that it changed; needs neither Feast nor a server."""

from __future__ import annotations

from pathlib import Path

from weakfish.project import Project
from weakfish.store.publishing.probe import settings

Stamp = tuple[int, int, int]


def registry_file(project: Project) -> Path:
    """Where the project's registry is."""
    file: Path = settings(project)["registry_file"]
    return file


def stamp_of(file: Path) -> Stamp | None:
    """What changes whenever a file does; None when it is not there."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
