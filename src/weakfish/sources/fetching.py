"""Raw data into ``data/raw``, and what there would be to fetch now."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from weakfish.contracts.ledgers import write_ledger
from weakfish.files import whole_folder, write_json
from weakfish.project.paths import Project
from weakfish.sources.declared import source


def fetch(project: Project) -> None:
    """Fill ``data/raw``; a failed fetch leaves nothing behind."""
    reader = source(project)
    with whole_folder(project.data / "raw") as raw:
        reader.fetch(raw)
    write_ledger(project, "fetch", rows_in=None, rows_out=None, fetched=reader.fetched() or None)


def look(project: Project) -> None:
    """Write ``data/files.json``: which files the source would read now, and how large and old they are.

    Of a source that reads a table with versions it says which, and of any other when it was asked, so that fetch runs
    each time.
    """
    reader = source(project)
    found: dict[str, Any] = dict(reader.newest())
    for file in reader.files():
        state = file.stat()
        found[str(file)] = {"size": state.st_size, "modified_ns": state.st_mtime_ns}
    write_json(project.data / "files.json", found or {"asked_at": datetime.now(UTC).isoformat()})
