"""A git revision of a project laid out as a folder: its sources from git, its tables as links into DVC's cache.

So whatever reads a project reads a revision of it too. The work tree, git and the cache stay as they are.
"""

from __future__ import annotations

import json
import re
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from weakfish.errors import UserError
from weakfish.project.git import git, git_output
from weakfish.project.locked import cache_of, cached
from weakfish.project.paths import MARKS, Project
from weakfish.project.runs import temporary_folder
from weakfish.project.stages import read_yaml

WORK_TREE = "the work tree"


@dataclass(frozen=True)
class ProjectVersion:
    """A project as it was at a revision, or as it is in the work tree.

    Attributes
    ----------
    name
        What people call it.
    commit
        The commit; None for the work tree.
    project
        The folder where all of it lies.
    """

    name: str
    commit: str | None
    project: Project

    def __str__(self) -> str:
        named = self.commit is None or self.commit.startswith(self.name)
        return self.name if named else f"{self.name} ({str(self.commit)[:7]})"

    def has(self, path: str) -> bool:
        """Whether a file or a folder is there, by its path from the project's root."""
        return (self.project.root / path).exists()


def work_tree(project: Project) -> ProjectVersion:
    """The project as it lies there."""
    return ProjectVersion(WORK_TREE, None, project)


def commit_of(project: Project, name: str) -> str:
    """The commit that a revision is; raises `UserError` where there is no git, or it does not know the revision."""
    if git_output(project.root, "rev-parse", "--git-dir") is None:
        raise UserError(
            f"{project.root} is in no git repository, so there is no earlier version; `git init`, commit, and "
            "`weakfish run` begin a history."
        )
    asked = git_output(project.root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
    if asked is None:
        raise UserError(
            f"Git does not know the revision {name!r} in {project.root}; `git log` lists those that there are."
        )
    return asked.strip()


@contextmanager
def laid_out(project: Project, name: str, wanted: Sequence[str]) -> Iterator[ProjectVersion]:
    """Yield the project as it was at a revision, with those of its outs that lie in, or below, ``wanted`` paths.

    What the cache lacks comes from DVC's default remote, where there is one.

    Raises
    ------
    UserError
        When there is no git, git does not know the revision, the project was none yet or had not run, or neither cache
        nor remote have its tables.
    """
    commit = commit_of(project, name)
    with temporary_folder(project.temporary, "revision") as home:
        archive, root = home / "sources.tar", home / "project"
        done = git(project.root, "archive", "--format=tar", f"--output={archive}", commit)
        with suppress(OSError, tarfile.TarError), tarfile.open(archive) as files:
            files.extractall(root, filter="data")
        if done.returncode or not all((root / mark).is_file() for mark in MARKS):
            raise UserError(f"At {name} the project had no DVC pipeline yet; name a later revision.")
        version = ProjectVersion(name, commit, Project(root))
        _link_outs(project, version, wanted)
        kept = project.root / ".weakfish" / "objects"  # what pointers stand for, fetched once for all versions
        kept.mkdir(parents=True, exist_ok=True)
        (root / ".weakfish").mkdir(exist_ok=True)
        (root / ".weakfish/objects").symlink_to(kept.resolve(), target_is_directory=True)
        yield version


def _link_outs(project: Project, version: ProjectVersion, wanted: Sequence[str]) -> None:
    """Link the files of a version's outs to where the cache has them; raises `UserError`."""
    outs = [out for out in _outs(version.project.root) if _is_wanted(out["path"], wanted)]
    if not outs:
        raise UserError(
            f"At {version.name} dvc.lock has no {wanted[0]}; name a later revision, or commit dvc.lock if no commit "
            "has it yet."
        )
    cache, lost = cache_of(project.root), list[str]()
    for out in outs:
        files = _files(cache, out) if cache else None
        if files is None:
            lost.append(out["path"])
            continue
        for path, file in files.items():
            if file.is_file():
                _link(_within(version, path), file)
            else:
                lost.append(path)
    if lost:
        _fetch(project, version, lost)


def _outs(root: Path) -> list[Mapping[str, Any]]:
    """The outs that dvc.lock names by path and MD5; what is no MD5 names nothing in the cache."""
    stages = read_yaml(root / "dvc.lock").get("stages") or {}
    outs = [out for stage in stages.values() for out in stage.get("outs") or ()]
    return [out for out in outs if _MD5.fullmatch(str(out.get("md5")))]


_MD5 = re.compile(r"[0-9a-f]{32}(\.dir)?")


def _within(version: ProjectVersion, path: str) -> Path:
    """A path of a revision's outs; raises `UserError` for one that leaves the project, which nothing that ran wrote."""
    asked = PurePosixPath(path)
    if asked.is_absolute() or ".." in asked.parts:
        raise UserError(f"dvc.lock of {version.name} names {path}, which is not in the project; do not trust it.")
    return version.project.root / path


def _is_wanted(path: str, wanted: Sequence[str]) -> bool:
    return any(PurePosixPath(path).is_relative_to(one) or PurePosixPath(one).is_relative_to(path) for one in wanted)


def _files(cache: Path, out: Mapping[str, Any]) -> dict[str, Path] | None:
    """The files of an out in the cache, by path; None where it is a folder and the cache has lost what lay in it."""
    if not str(out["md5"]).endswith(".dir"):
        return {out["path"]: cached(cache, out["md5"])}
    try:
        listed = json.loads(cached(cache, out["md5"]).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return {
        f"{out['path']}/{each['relpath']}": cached(cache, each["md5"]) for each in listed if _MD5.fullmatch(each["md5"])
    }


def _link(path: Path, file: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(file.absolute())


def _fetch(project: Project, version: ProjectVersion, paths: Sequence[str]) -> None:
    """Write what the cache has lost and a remote has; raises `UserError`."""
    from weakfish.project.dvc import Revision

    with closing(Revision(project, version.commit or "", version.name)) as revision:
        for path in paths:
            for file in revision.below(path):
                place = _within(version, file)
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(revision.content(file))
