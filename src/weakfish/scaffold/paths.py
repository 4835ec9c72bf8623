"""Where the data lie, seen from a project yet to be: ``source.path``, and what of it the fetch stage watches."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from weakfish.errors import SourceError, UserError
from weakfish.sources.tabular.files import find

WILD = "*?["
"""What makes a part of a path a pattern."""


@dataclass(frozen=True)
class Place:
    """``given`` is the absolute path of the data, ``path`` and ``fetch_dep`` are as in `proposal.Proposal`."""

    given: str
    path: str
    fetch_dep: str | None


def place(given: str, project: Path) -> Place:
    """A file, directory or pattern, from the working directory, as a project in the folder ``project`` names it.

    It is relative where the data lie beside the project or below its parent, so that both can move together.

    Raises
    ------
    UserError
        When there is no file, or the files that it means would come to be those of the project, too.
    """
    absolute = os.path.abspath(given)  # noqa: PTH100  `Path.resolve` would follow links
    try:
        find(absolute, Path("/"))
    except SourceError as error:
        raise UserError(f"There is no file {given}; correct --from, or bring the data.") from error
    base, rest = (Path(absolute), None) if Path(absolute).exists() else split(absolute)
    folder = base.resolve()
    project = project.parent.resolve() / project.name
    for known in (base, base.parent.resolve() / base.name):
        if known.is_relative_to(project.parent):
            base = Path(os.path.relpath(known, project))
            break
    path = str(base / rest) if rest else str(base)
    if not project.is_relative_to(folder):
        return Place(absolute, path, str(base))
    if rest is None or len(Path(rest).parts) > 1:
        raise UserError(
            f"The project in {project} would lie among the data that {given} means, and its own files be read as data; "
            "choose a folder elsewhere."
        )
    return Place(absolute, path, None)


def split(path: str) -> tuple[Path, str | None]:
    """The part of a path before the first one with a wildcard, and the pattern from there on."""
    parts = Path(path).parts
    first = next((number for number, part in enumerate(parts) if any(sign in part for sign in WILD)), len(parts))
    return Path(*parts[:first]), str(Path(*parts[first:])) if parts[first:] else None
