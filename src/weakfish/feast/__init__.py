"""Feast's plug-ins: registry, offline store, online store, publishing and serving."""

from __future__ import annotations

import atexit
import os
import shutil
import sys
from contextlib import suppress
from pathlib import Path

from weakfish.errors import UserError
from weakfish.project.paths import Project
from weakfish.project.runs import lasting_folder

COUNTS = "PROMETHEUS_MULTIPROCESS_DIR"
"""Names the folder of Feast's counts; where it is not set, Feast makes one in the system's when it is imported."""


def place_counts() -> None:
    """Let Feast, which is not imported yet, count below the project's folder: there a next start deletes what is left.

    Outside of a project, and where it cannot be written, Feast has its own way.
    """
    if "feast" in sys.modules or COUNTS in os.environ:
        return
    with suppress(UserError, OSError):
        folder = lasting_folder(Project.find().temporary, "feast")
        os.environ[COUNTS] = str(folder)
        atexit.register(_remove, folder, os.getpid())


def _remove(folder: Path, process: int) -> None:
    if os.getpid() == process:  # and no fork of it
        shutil.rmtree(folder, ignore_errors=True)


place_counts()
