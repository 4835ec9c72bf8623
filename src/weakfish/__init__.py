"""Weakfish turns events into labels that nobody typed, features that train and serve the same, and evidence for both.

`weakfish.open` gives a project's tables, metrics and explanations to Python: see `weakfish.api`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from weakfish.api import OpenProject

__version__ = "0.1.0"


def open(path: str | Path = ".") -> OpenProject:
    """The project that holds ``path``, a file or folder in it; by default the working directory.

    Nothing is read before it is asked for, and nothing is ever written.

    Raises
    ------
    weakfish.errors.UserError
        When ``path`` is in no project.
    """
    from weakfish.api import OpenProject

    return OpenProject.at(Path(path))
