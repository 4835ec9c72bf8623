"""`weakfish gc`: delete from the storage what no git revision names, what nobody exported, and what is not just put.

A revision names objects by the pointers that DVC keeps for its ``dvc.lock``. Where this machine's DVC cache lacks some,
nobody can tell what they name, and nothing is deleted.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

from weakfish.contracts.pointers import SUFFIX, Pointer
from weakfish.contracts.record import parse, read
from weakfish.contracts.storage import (
    AT_ONCE,
    ENDED,
    EXPORTS,
    FLEET,
    NOTES,
    OBJECTS,
    RUNNING,
    Found,
    Storage,
    storage_of,
)
from weakfish.errors import Busy, UserError
from weakfish.project.dvc import cached_file
from weakfish.project.git import git, git_output
from weakfish.project.paths import Project
from weakfish.project.sharing import leave_mark, require_alone

ABANDONED = timedelta(hours=1)
"""After which a collection that says it is running was killed."""

BATCH = 1_000
"""Objects that are deleted before the collection says again that it is running."""

LOCK = "dvc.lock"


@dataclass(frozen=True)
class Collected:
    """What a collection deleted, or would: objects and their bytes; and how many it spared, and why."""

    uri: str
    objects: int
    bytes: int
    named: int
    young: int


def collect(project: Project, revisions: Sequence[str], older: timedelta, dry_run: bool) -> Collected:
    """Delete the objects that nothing names and that are older than ``older``.

    Parameters
    ----------
    revisions
        The git revisions that count, beside the work tree; by default all commits of all branches and tags.

    Raises
    ------
    UserError
        When the project has no storage, is in no git repository, or git does not know a revision; when it is not known
        what a revision names; or when another project keeps tables in the storage. Nothing is deleted then.
    Busy
        While another collection is at work in the storage.
    StorageError
        When the storage cannot be reached.
    """
    storage = storage_of(project.root)
    if storage is None:
        raise UserError("storage is not set in params.yaml, so all tables lie in data/; use `dvc gc`.")
    if git_output(project.root, "rev-parse", "HEAD") is None:
        raise UserError(
            f"{project.root} is in no git repository with commits, which would say what counts; commit first."
        )
    if not revisions and (git_output(project.root, "rev-parse", "--is-shallow-repository") or "").strip() == "true":
        raise UserError(
            "Nothing was deleted: this clone is shallow, so what earlier revisions name is not known; run `git fetch "
            "--unshallow`, or give --rev for each revision that counts."
        )
    leave_mark(project)
    require_alone(project, storage)
    if dry_run:
        return _look(project, storage, revisions, older, datetime.now(UTC))[0]
    if not storage.put(RUNNING, b"", create=True):
        found = storage.look(RUNNING)
        if found and datetime.now(UTC) - found.at < ABANDONED:
            raise Busy(f"Another `weakfish gc` is at work in {storage.uri}, or was killed within the hour; try later.")
        storage.put(RUNNING, b"")
    try:
        begun = storage.look(RUNNING)  # by the clock of the storage, as the age of objects
        now = begun.at if begun else datetime.now(UTC)
        collected, dead = _look(project, storage, revisions, older, now)
        for start in range(0, len(dead), BATCH):
            storage.delete(dead[start : start + BATCH])
            storage.put(RUNNING, b"")
    finally:
        storage.put(ENDED, uuid.uuid4().bytes)  # who put objects meanwhile looks whether they are still there
        storage.delete([RUNNING])
    return collected


def _look(
    project: Project, storage: Storage, revisions: Sequence[str], older: timedelta, now: datetime
) -> tuple[Collected, list[str]]:
    """What is to be deleted, as figures and as paths, the notes on votes that are to be deleted among them."""
    named = {*_of_work_tree(project.root), *_of_revisions(project, revisions), *_exported(storage)}
    kept, dead, young = set[str](), dict[str, Found](), 0
    for found in storage.listing(OBJECTS):
        digest = found.path.rpartition("/")[2]
        if digest in named:
            kept.add(digest)
        elif now - found.at <= older:
            young += 1
        else:
            dead[digest] = found
    size = sum(found.size for found in dead.values())
    paths = [found.path for found in dead.values()] + _dead_notes(storage, dead.keys())
    paths += [found.path for found in storage.listing(FLEET) if now - found.at > older]  # of jobs that were killed
    return Collected(storage.uri, len(dead), size, len(kept), young), paths


def _of_work_tree(root: Path) -> Iterator[str]:
    for file in (root / "data").rglob(f"*{SUFFIX}"):
        yield read(Pointer, file).sha256


def _of_revisions(project: Project, revisions: Sequence[str]) -> set[str]:
    """What revisions name, and the ``dvc.lock`` that lies there; raises `UserError` where that is not known."""
    seen, lost = set[str](), dict[str, str]()
    with cached_file(project) as file_of:
        pointers = _Pointers(file_of)
        for revision, text in _locks(project, revisions):
            for out, md5 in _tables(text):
                if md5 in seen:
                    continue
                seen.add(md5)
                if not pointers.add(out, md5):
                    lost.setdefault(revision, out)
    if lost:
        revision, out = next(iter(lost.items()))
        others = f" (and some of {len(lost) - 1} other revisions)" if len(lost) > 1 else ""
        raise UserError(
            f"Nothing was deleted: what {out} names at {revision}{others} is not in this machine's DVC cache; run "
            "`dvc fetch --all-commits`, or give --rev for each revision that counts."
        )
    return set(pointers.named.values())


class _Pointers:
    """What pointers in DVC's cache name, by the MD5 of each, so that one that many revisions have is read once."""

    def __init__(self, file_of: Callable[[str], Path]) -> None:
        self._file_of = file_of
        self.named: dict[str, str] = {}

    def add(self, out: str, md5: str) -> bool:
        """Read the pointers of an out that is a folder; False where DVC's cache lacks a part of it."""
        try:
            for each in json.loads(self._file_of(md5).read_text(encoding="utf-8")):
                if each["relpath"].endswith(SUFFIX) and each["md5"] not in self.named:
                    content = json.loads(self._file_of(each["md5"]).read_bytes())
                    self.named[each["md5"]] = parse(Pointer, content, f"A pointer of {out}").sha256
        except (FileNotFoundError, ValueError):
            return False
        return True


def _locks(project: Project, revisions: Sequence[str]) -> Iterator[tuple[str, str]]:
    """The text of ``dvc.lock`` of each revision, with the beginning of its commit, and the one of the work tree."""
    root = project.root
    if (root / LOCK).is_file():
        yield "the work tree", (root / LOCK).read_text(encoding="utf-8")
    for commit in _commits(root, revisions):
        shown = git(root, "show", f"{commit}:./{LOCK}")
        if shown.returncode == 0:  # else the project had none
            yield commit[:7], shown.stdout


def _commits(root: Path, revisions: Sequence[str]) -> list[str]:
    if not revisions:
        # without --full-history git leaves out the commits of a branch whose merge changed nothing
        return git(root, "rev-list", "--all", "HEAD", "--full-history", "--", f"./{LOCK}").stdout.split()
    found = []
    for revision in revisions:
        parsed = git(root, "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}")
        if parsed.returncode:
            raise UserError(
                f"Git does not know the revision {revision!r} in {root}; `git log` lists those that there are."
            )
        found.append(parsed.stdout.strip())
    return found


def _tables(lock: str) -> Iterator[tuple[str, str]]:
    """The outs of a ``dvc.lock`` that may hold pointers, and the hash of each."""
    content: Any = yaml.safe_load(lock)
    for stage in ((content or {}).get("stages") or {}).values():
        for out in stage.get("outs") or ():
            path = str(out["path"])
            if path.startswith("data/") and path != "data/raw" and str(out.get("md5", "")).endswith(".dir"):
                yield path, out["md5"]


def _exported(storage: Storage) -> Iterator[str]:
    """The objects that exports name: JSON lists of hashes."""
    for found in storage.listing(EXPORTS):
        yield from json.loads(storage.get(found.path) or b"[]")


def _dead_notes(storage: Storage, dead: Set[str]) -> list[str]:
    """The notes on votes whose object is deleted, and those that nobody can read."""

    def holds(path: str) -> bool:
        try:
            return json.loads(storage.get(path) or b"")["votes"]["sha256"] not in dead
        except (ValueError, KeyError, TypeError):
            return False

    paths = [found.path for found in storage.listing(NOTES)]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return [path for path, is_alive in zip(paths, pool.map(holds, paths), strict=True) if not is_alive]
