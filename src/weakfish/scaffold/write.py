"""A proposal's files on disk, all of them or none: written beside their place, then moved there as a whole."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from weakfish import __version__
from weakfish.errors import UserError
from weakfish.files import whole_file
from weakfish.project import MARKS
from weakfish.scaffold import git
from weakfish.scaffold.proposal import Proposal
from weakfish.scaffold.record import record_of, write_record
from weakfish.scaffold.render import render


def check_free(folder: Path) -> None:
    """Raise `UserError` unless a project can come to be in a folder: absent or empty, and in no other project."""
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise UserError(f"{folder} is a file or a link; name a folder that does not exist.")
    if folder.is_dir() and any(folder.iterdir()):
        raise UserError(f"{folder} is not empty, and nothing in it is overwritten; name a folder that does not exist.")
    for above in folder.parents:
        if all((above / mark).is_file() for mark in MARKS):
            raise UserError(f"{folder} would lie in the project {above}; name a folder outside of it.")
    git.check_git()


def write(folder: Path, proposal: Proposal) -> git.State:
    """Write a whole project into an absent or empty folder, and say what git has of it.

    Inside a repository of others nothing is staged; everywhere else the project becomes a repository of its own.

    Raises
    ------
    UserError
        When the folder cannot be written.
    WeakfishError
        When git fails. Nothing is left behind.
    """
    files = render(proposal, __version__)
    inside = git.outer(folder)
    with _new(folder) as part:
        for path, text in files.items():
            put(part / path, text)
        write_record(part, record_of(proposal, files))
        return "outer" if inside else git.begin(part, f"Begin {proposal.name} with weakfish init")


def put(file: Path, text: str) -> None:
    """Write a text; one that names its interpreter becomes a program."""
    with whole_file(file) as part:
        part.write_text(text, encoding="utf-8", newline="\n")
        if text.startswith("#!"):
            part.chmod(part.stat().st_mode | 0o111)


@contextmanager
def _new(folder: Path) -> Iterator[Path]:
    """Yield an empty folder whose contents come to be those of ``folder`` when the block ends well.

    A folder that exists stays the same one: somebody's working directory may be there, or a disk of its own.
    """
    made = [place for place in folder.parents if not place.exists()]
    there = folder.is_dir()
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        prefix = f".{folder.name}.part-"
        part = Path(tempfile.mkdtemp(prefix=prefix, dir=folder if there else folder.parent))
    except OSError as error:
        raise UserError(f"{folder} cannot be written ({error.strerror}); name another folder.") from error
    part.chmod(0o755)
    moved: list[Path] = []
    try:
        yield part
        if there:
            for child in sorted(part.iterdir()):
                moved.append(child.rename(folder / child.name))
        else:
            part.rename(folder)
    except BaseException:
        for path in moved:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        shutil.rmtree(part, ignore_errors=True)
        for place in made:
            with suppress(OSError):
                place.rmdir()
        raise
    shutil.rmtree(part, ignore_errors=True)
