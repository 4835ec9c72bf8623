"""``weakfish.lock``: which version wrote a project, from which proposal, and what each file was like."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path, PurePosixPath
from typing import Any

from packaging.version import InvalidVersion, Version
from pydantic import ValidationError, field_validator

from weakfish import __version__
from weakfish.errors import UserError
from weakfish.files import whole_file
from weakfish.params import Section
from weakfish.scaffold.proposal import Proposal

FILE = "weakfish.lock"


class Record(Section):
    """What stands in ``weakfish.lock``; ``files`` are SHA-256 of what was written, by path."""

    version: str
    proposal: Proposal
    files: dict[str, str]

    @field_validator("files")
    @classmethod
    def _within_the_project(cls, files: dict[str, str]) -> dict[str, str]:
        for path in files:
            if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
                raise ValueError(f"{path} lies outside of the project")
        return files


def record_of(proposal: Proposal, files: dict[str, str]) -> Record:
    """The record of files that this version makes from a proposal."""
    return Record(version=__version__, proposal=proposal, files={path: hash_of(text) for path, text in files.items()})


def hash_of(text: str) -> str:
    """The SHA-256 of a file with this text."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def write_record(root: Path, record: Record) -> None:
    """Write the record of a project: all of it, since defaults may change, in the order of columns and tasks."""
    content = record.model_dump(mode="json")
    with whole_file(root / FILE) as part:
        part.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def read_record(root: Path) -> Record:
    """The record of a project.

    Raises
    ------
    UserError
        When there is none, it cannot be read, or a later version of Weakfish wrote it.
    """
    file = root / FILE
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        written = str(content["version"])
        later = Version(written) > Version(__version__)
    except FileNotFoundError as error:
        raise UserError(
            f"{root} has no {FILE}: `weakfish init` did not make this project, so there is nothing to bring along."
        ) from error
    except (OSError, ValueError, KeyError, TypeError, InvalidVersion) as error:
        raise _unreadable(file, error) from error
    if later:
        raise UserError(
            f"{file} was written by Weakfish {written}, which is later than {__version__}; install that version or a "
            "later one."
        )
    try:
        return Record.model_validate(content)
    except ValidationError as error:
        raise _unreadable(file, error.errors()[0]["msg"]) from error


def _unreadable(file: Path, error: Any) -> UserError:
    reason = str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
    return UserError(f"{file} is no record of Weakfish ({reason}); bring it back from git: `git checkout -- {FILE}`.")
