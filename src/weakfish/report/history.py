"""What was accepted when: the git revisions of the baseline, each with the verdicts of its time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from weakfish.errors import WeakfishError
from weakfish.project import Project

if TYPE_CHECKING:
    from weakfish.checks.change.history import Accepted

LIMIT = 20
"""Accepted revisions that trends go back, at most."""


def accepted_revisions(root: Path) -> Sequence[Accepted]:
    """The last revisions that accepted a baseline, oldest first; none outside of git."""
    from weakfish.checks.change.history import revisions

    try:
        return revisions(Project(root), limit=LIMIT)
    except WeakfishError:  # a page is made of whatever there is
        return []


def accepting(table: str, history: Sequence[Accepted]) -> Accepted | None:
    """The revision that last accepted this data of a table, not a later one that only kept it."""
    found: Accepted | None = None
    for revision in reversed(history):
        entry = revision.tables.get(table)
        if entry is None or (found and entry.data_version != found.tables[table].data_version):
            break
        found = revision
    return found
