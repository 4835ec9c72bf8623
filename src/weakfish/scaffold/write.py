"""A project on disk: its files, its requirements, ``weakfish.lock``, and its texts as they were generated.

The lock says which version wrote the project, from which proposal. `weakfish upgrade` merges the generated texts with
what the team made of them.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path, PurePosixPath
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version
from pydantic import Field, ValidationError, field_validator

from weakfish import __version__
from weakfish.errors import UserError, WeakfishError, of_system
from weakfish.files import whole_file, whole_folder
from weakfish.project.git import git
from weakfish.project.params import Section
from weakfish.project.paths import MARKS
from weakfish.scaffold.proposal import Proposal
from weakfish.scaffold.render import render

WHEELS = "wheels"
WHOLE = "weakfish[pipeline]"
HEAD = """\
# Weakfish, and what it stands on in the versions that it was installed with; `weakfish upgrade` renews them.
"""


@dataclass(frozen=True)
class Requirements:
    """The text of the file, and the wheel of Weakfish that it names, to be copied into the project."""

    text: str
    wheel: Path | None = None

    def copy_wheel(self, root: Path) -> None:
        """Put the wheel into the project, in place of an earlier one; without a wheel, nothing."""
        if self.wheel is None:
            return
        folder = root / WHEELS
        folder.mkdir(exist_ok=True)
        for old in folder.glob("weakfish-*.whl"):
            if old.name != self.wheel.name:
                old.unlink()
        shutil.copyfile(self.wheel, folder / self.wheel.name)


def installed() -> Requirements:
    """What this environment holds of Weakfish's requirements."""
    weakfish = distribution("weakfish")
    line, wheel = _origin(json.loads(weakfish.read_text("direct_url.json") or "{}"))
    pins = [f"{name}=={version}\n" for name, version in sorted(_closure(weakfish).items())]
    return Requirements(HEAD + line + "".join(pins), wheel)


def _origin(url: dict[str, Any]) -> tuple[str, Path | None]:
    """The line that installs Weakfish from where it came (PEP 610), and the wheel that goes with it."""
    place = str(url.get("url", ""))
    if vcs := url.get("vcs_info"):
        return f"{WHOLE} @ {vcs['vcs']}+{place}@{vcs['commit_id']}\n", None
    file = Path(unquote(urlsplit(place).path))
    if place.startswith("file:") and file.suffix == ".whl" and file.is_file():
        return f"./{WHEELS}/{file.name}[pipeline]\n", file
    if "dir_info" in url and (file / "pyproject.toml").is_file():
        note = "# It was installed from a folder of this machine: name an index, a commit or a wheel for others.\n"
        return f"{note}{WHOLE} @ {file.as_uri()}\n", None
    if "archive_info" in url and not place.startswith("file:"):
        return f"{WHOLE} @ {place}\n", None
    note = "# It was installed from files that are gone or were no wheel: this version has to be in your index.\n"
    return f"{note if place else ''}{WHOLE}=={__version__}\n", None


def _closure(weakfish: Distribution) -> dict[str, str]:
    """The installed distributions that Weakfish needs, by name; builds of one version (``+cpu``) are not told apart."""
    found: dict[str, str] = {}
    seen, waiting = set[tuple[str, str]](), list(_needs(weakfish, {"", "pipeline"}))
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        try:
            one = distribution(name)
        except PackageNotFoundError:  # of an extra that is not installed
            continue
        found[name] = Version(one.version).public
        waiting += _needs(one, {extra})
    return found


def _needs(one: Distribution, extras: set[str]) -> Iterator[tuple[str, str]]:
    for text in one.requires or ():
        needed = Requirement(text)
        if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in extras):
            for extra in ("", *needed.extras):
                yield canonicalize_name(needed.name), extra


FILE = "weakfish.lock"

BASE = ".weakfish-base"
"""The folder of generated texts, in git; each has `.txt` behind its name, so that no tool takes it for what it is."""


class ProjectRecord(Section):
    """What stands in ``weakfish.lock``; version 0.1 kept in ``files`` the SHA-256 of what it had written, by path."""

    version: str
    proposal: Proposal
    files: dict[str, str] = Field(default={})

    @field_validator("files")
    @classmethod
    def _within_the_project(cls, files: dict[str, str]) -> dict[str, str]:
        for path in files:
            if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
                raise ValueError(f"{path} lies outside of the project")
        return files


def write_base(root: Path, files: Mapping[str, str]) -> None:
    """Keep the generated texts, and no others."""
    with whole_folder(root / BASE) as folder:
        for path, text in files.items():
            put(folder / f"{path}.txt", text)


def read_base(root: Path, record: ProjectRecord) -> dict[str, str | None]:
    """The text of each file as it was generated last, by path.

    Version 0.1 kept hashes alone; the text is that of the work tree or of the commit that has the hash, and None where
    neither has.
    """
    folder = root / BASE
    if folder.is_dir():
        files = [file for file in sorted(folder.rglob("*.txt")) if file.is_file()]
        return {file.relative_to(folder).as_posix()[:-4]: file.read_text(encoding="utf-8") for file in files}
    return {path: _text_of(root, path, known) for path, known in record.files.items()}


def _text_of(root: Path, path: str, known: str) -> str | None:
    file = root / path
    if file.is_file() and hashlib.sha256(file.read_bytes()).hexdigest() == known:
        return file.read_text(encoding="utf-8")
    for commit in git(root, "log", "--format=%H", "--", path).stdout.split():
        text = git(root, "show", f"{commit}:./{path}").stdout
        if hashlib.sha256(text.encode("utf-8")).hexdigest() == known:
            return text
    return None


def write_record(root: Path, record: ProjectRecord) -> None:
    """Write the record of a project: all of it, since defaults may change, in the order of columns and tasks."""
    content = record.model_dump(mode="json", exclude={"files"})
    with whole_file(root / FILE) as part:
        part.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def read_record(root: Path) -> ProjectRecord:
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
        return ProjectRecord.model_validate(content)
    except ValidationError as error:
        raise _unreadable(file, error.errors()[0]["msg"]) from error


def _unreadable(file: Path, error: Any) -> UserError:
    reason = str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
    return UserError(f"{file} is no record of Weakfish ({reason}); bring it back from git: `git checkout -- {FILE}`.")


State = Literal["committed", "staged", "outer"]


def outer(folder: Path) -> Path | None:
    """The repository whose work tree a folder would lie in and which does not ignore it."""
    there = next(place for place in (folder, *folder.parents) if place.is_dir())
    found = git(there, "rev-parse", "--show-toplevel")
    if found.returncode or not found.stdout.strip():
        return None
    if git(there, "check-ignore", "--quiet", "--", str(folder)).returncode == 0:
        return None
    return Path(found.stdout.strip())


def begin(folder: Path, message: str) -> State:
    """Make a repository of a folder, with all that is in it as the first commit.

    The files are left staged where git does not know who commits, or does not let it be done.

    Raises
    ------
    WeakfishError
        When git fails otherwise.
    """
    for arguments in (("init", "--quiet"), ("add", "--all")):
        done = git(folder, *arguments)
        if done.returncode:
            lines = (done.stderr or done.stdout).strip().splitlines() or [f"exit code {done.returncode}"]
            raise WeakfishError(f"`git {arguments[0]}` failed: {lines[-1].rstrip('.')}; correct that and run it again.")
    for who in ("GIT_AUTHOR_IDENT", "GIT_COMMITTER_IDENT"):  # what git makes up of the machine's names does not count
        if git(folder, "-c", "user.useConfigOnly=true", "var", who).returncode:
            return "staged"
    return "staged" if git(folder, "commit", "--quiet", "--message", message).returncode else "committed"


def check_free(folder: Path) -> None:
    """Raise `UserError` unless a project can come to be in a folder: absent or empty, and in no other project."""
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise UserError(f"{folder} is a file or a link; name a folder that does not exist.")
    if folder.is_dir() and any(folder.iterdir()):
        raise UserError(f"{folder} is not empty, and nothing in it is overwritten; name a folder that does not exist.")
    for above in folder.parents:
        if all((above / mark).is_file() for mark in MARKS):
            raise UserError(f"{folder} would lie in the project {above}; name a folder outside of it.")
    if shutil.which("git") is None:
        raise UserError("There is no git on PATH, and a project's history lies in git; install it.")


def write(folder: Path, proposal: Proposal) -> State:
    """Write a whole project into an absent or empty folder, and say what git has of it.

    Inside a repository of others nothing is staged; everywhere else the project becomes a repository of its own.

    Raises
    ------
    UserError
        When the folder cannot be written.
    WeakfishError
        When git fails. Nothing is left behind.
    """
    requirements = installed()
    files = render(proposal, requirements.text)
    inside = outer(folder)
    with _new(folder) as part:
        for path, text in files.items():
            put(part / path, text)
        requirements.copy_wheel(part)
        write_base(part, files)
        write_record(part, ProjectRecord(version=__version__, proposal=proposal))
        return "outer" if inside else begin(part, f"Begin {proposal.name} with weakfish init")


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
    except BaseException as error:
        for path in moved:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        refused = of_system(error, folder) if isinstance(error, OSError) else None
        shutil.rmtree(part, ignore_errors=True)
        for place in made:
            with suppress(OSError):
                place.rmdir()
        if refused:  # by the disk of the new folder, which may be another one than this folder's
            raise refused from error
        raise
    shutil.rmtree(part, ignore_errors=True)
