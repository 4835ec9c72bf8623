"""Which projects keep tables in one storage: each leaves a mark there, so that no other deletes what it names."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from pathlib import Path

from weakfish.contracts.storage import PROJECTS, Storage, storage_of
from weakfish.errors import UserError, WeakfishError
from weakfish.files import whole_file
from weakfish.project.git import git_output
from weakfish.project.paths import Project

MARKED = Path(".weakfish") / "storage"
"""A file that says in which storage this project's mark is."""


def leave_mark(project: Project) -> None:
    """Say in the project's storage that it keeps tables there, once; whoever cannot be reached is asked next time."""
    with suppress(WeakfishError, OSError):
        storage, file = storage_of(project.root), project.root / MARKED
        if storage is None or (file.exists() and file.read_text(encoding="utf-8") == storage.uri):
            return
        if identity := _identity(project.root):
            storage.put(f"{PROJECTS}/{identity}", json.dumps({"name": project.root.name}).encode())
            with whole_file(file) as part:
                part.write_text(storage.uri, encoding="utf-8")


def require_alone(project: Project, storage: Storage) -> None:
    """Raise `UserError` where another project keeps tables in the storage."""
    marks = {found.path: found for found in storage.listing(PROJECTS)}
    mine = _identity(project.root)
    if mine is None and len(marks) == 1:  # a shallow clone, which does not know the first commit
        return
    for path in sorted(marks):
        if path != f"{PROJECTS}/{mine}":
            raise UserError(
                f"Nothing was deleted: the project {_name(storage, path)} keeps tables in {storage.uri}, too, and what "
                f"it names is not known here; give each project an address of its own, or delete {storage.uri}/{path} "
                "if it is gone."
            )


def _name(storage: Storage, path: str) -> str:
    try:
        return repr(str(json.loads(storage.get(path) or b"")["name"]))
    except (ValueError, KeyError, TypeError):
        return repr(path.rpartition("/")[2])


def _identity(root: Path) -> str | None:
    """What all clones of a project have in common, and no other project has: its first commit, and its place in it.

    None without commits, and in a shallow clone.
    """
    if (git_output(root, "rev-parse", "--is-shallow-repository") or "").strip() != "false":
        return None
    first, place = (
        git_output(root, "rev-list", "--max-parents=0", "HEAD"),
        git_output(root, "rev-parse", "--show-prefix"),
    )
    if not first or place is None:
        return None
    return hashlib.sha256(f"{min(first.split())} {place.strip()}".encode()).hexdigest()[:16]
