"""A project as it was at a git revision: sources from git, tables from DVC's cache; the work tree stays as it is."""

from __future__ import annotations

import builtins
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from weakfish.contracts.pointers import SUFFIX, Pointer, fetched
from weakfish.contracts.record import parse
from weakfish.contracts.tables import read_partition
from weakfish.errors import UserError
from weakfish.project.paths import Project

_LATER = "name a later revision, or commit dvc.lock if no commit has it yet."


class Revision:
    """What git and DVC track of a project at a git revision, until `close`.

    Tables that the cache lacks come from the default remote, where the project has one.

    Attributes
    ----------
    name, commit : str
        The revision as it was given, or ``called``, and the commit that it is.

    Raises
    ------
    UserError
        When the project is in no git repository, git does not know the revision, or it has no DVC project there; from
        the methods, when a table was not tracked then, or neither cache nor remote still have it.
    """

    def __init__(self, project: Project, name: str, called: str | None = None) -> None:
        from dvc.api import DVCFileSystem
        from dvc.exceptions import NotDvcRepoError
        from dvc.fs import GitFileSystem
        from dvc.repo import Repo
        from dvc.scm import SCM, SCMError, resolve_rev

        self.name, self._project = called or name, project
        try:
            scm = SCM(str(project.root))
            self.commit: str = resolve_rev(scm, f"{name}^{{commit}}")
            files = GitFileSystem(scm=scm, rev=self.commit)
            root = PurePosixPath("/") / project.root.relative_to(Path(scm.root_dir).resolve()).as_posix()
            repository = Repo(str(root), fs=files, scm=scm, config=_remotes(project))
        except SCMError as error:
            raise UserError(
                f"Git does not know the revision {name!r} in {project.root}; `git log` lists those that there are."
            ) from error
        except NotDvcRepoError as error:
            raise UserError(f"At {name} the project had no DVC pipeline yet; name a later revision.") from error
        self._git, self._sources = files, root
        self._root = root.relative_to(repository.root_dir)
        self._repository, self._files = repository, DVCFileSystem(repository)

    def close(self) -> None:
        """Close DVC's databases."""
        self._files.close()
        self._repository.close()

    def partitions(self, table: str) -> list[str]:
        """The partitions of a table, by name."""
        names = [PurePosixPath(path) for path in self._list(f"data/{table}")]
        return sorted(path.stem for path in names if path.suffix in (".parquet", SUFFIX))

    def parquet(self, path: str, columns: Sequence[str] | None = None) -> pa.Table:
        """A Parquet file below ``data/``: some of its columns, or all."""
        pointer = self._pointer(path)
        if pointer is None:
            return pq.read_table(pa.BufferReader(self.bytes(path)), columns=columns)
        return read_partition(self.fetched(path), columns)

    def fetched(self, path: str) -> Path:
        """A file of this machine with the bytes of a partition below ``data/`` that lies in storage."""
        partition = PurePosixPath(path).with_suffix(".parquet")
        pointer = self._pointer(str(partition))
        if pointer is None:
            raise self._lost(f"data/{path}")
        return fetched(self._project.root, pointer, partition.name)

    def sha256(self, path: str) -> str:
        """The SHA-256 of a Parquet file below ``data/``."""
        pointer = self._pointer(path)
        return pointer.sha256 if pointer else hashlib.sha256(self.bytes(path)).hexdigest()

    def pointers(self, folder: str) -> dict[str, Pointer]:
        """The pointers of all partitions below a folder of ``data/`` that lie in storage, by paths below ``data/``."""
        paths = (path for path in self.files(folder) if path.endswith(SUFFIX))
        return {path: parse(Pointer, self.json(path), f"data/{path} at {self.name}") for path in paths}

    def _pointer(self, path: str) -> Pointer | None:
        """The pointer of a partition that lies in storage; None of others."""
        pointer = PurePosixPath(path).with_suffix(SUFFIX)
        if not any(PurePosixPath(found).name == pointer.name for found in self._list(f"data/{pointer.parent}")):
            return None
        return parse(Pointer, self.json(str(pointer)), f"data/{pointer} at {self.name}")

    def json(self, path: str) -> Any:
        """A JSON file below ``data/``."""
        return json.loads(self.bytes(path))

    def bytes(self, path: str) -> bytes:
        """The bytes of a file below ``data/``."""
        folder = str(PurePosixPath(f"data/{path}").parent)
        if not any(PurePosixPath(found).name == PurePosixPath(path).name for found in self._list(folder)):
            raise UserError(f"At {self.name} dvc.lock has no data/{path}; {_LATER}")
        return self.content(f"data/{path}")

    def content(self, path: str) -> builtins.bytes:
        """The bytes of a file of an out, by its path from the project's root."""
        try:
            content: bytes = self._files.read_bytes(str(self._root / path))
        except Exception as error:
            raise self._lost(path) from error
        return content

    def files(self, folder: str) -> list[str]:
        """All files below a folder of ``data/``, by their paths below ``data/``."""
        self._list(f"data/{folder}")
        return [path.removeprefix("data/") for path in self.below(f"data/{folder}")]

    def below(self, path: str) -> list[str]:
        """The files of an out, or the one that it is, by their paths from the project's root."""
        try:
            found = self._files.find(str(self._root / path))
        except Exception as error:
            raise self._lost(path) from error
        return sorted(PurePosixPath(path).relative_to(self._root).as_posix() for path in found)

    def sources(self, pattern: str) -> dict[str, builtins.bytes]:
        """The files in git whose paths from the project's root match a pattern (``folder/*.py``), by path."""
        found = (PurePosixPath(path) for path in self._git.find(str(self._sources)))
        mine = {path.relative_to(self._sources).as_posix(): path for path in found}
        wanted = sorted((name, path) for name, path in mine.items() if PurePosixPath(name).match(pattern))
        return {name: self._git.fs.cat_file(str(path)) for name, path in wanted}

    def _list(self, folder: str) -> list[str]:
        try:
            found: list[str] = self._files.ls(str(self._root / folder), detail=False)
        except FileNotFoundError as error:
            raise UserError(f"At {self.name} dvc.lock has no {folder}; {_LATER}") from error
        except Exception as error:
            raise self._lost(folder) from error
        return found

    def _lost(self, path: str) -> UserError:
        return UserError(
            f"DVC's cache no longer holds {path} of {self.name} ({self.commit[:7]}), nor does a remote; "
            "check that revision out and run `dvc repro` to make it again, or name another."
        )


@contextmanager
def cached_file(project: Project) -> Iterator[Callable[[str], Path]]:
    """Yield what says where DVC's cache on this machine has the file with an MD5, or would have it.

    Raises `UserError` where there is no repository of DVC.
    """
    from dvc.exceptions import NotDvcRepoError
    from dvc.repo import Repo

    try:
        opened = Repo(str(project.root))
    except NotDvcRepoError as error:
        raise UserError(f"{project.root} is in no repository of DVC; run `dvc init` there.") from error
    with opened as repository:
        cache = repository.cache.local
        yield lambda md5: Path(cache.oid_to_path(md5))


def _remotes(project: Project) -> dict[str, Any]:
    """Today's settings of DVC on where data lie: remotes may have come or moved since the revision."""
    from dvc.config import Config
    from dvc.repo import Repo

    today = Config(str(Path(Repo.find_root(str(project.root))) / Repo.DVC_DIR))
    return {section: dict(today[section]) for section in ("core", "remote", "cache") if section in today}
