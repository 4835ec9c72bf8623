"""What Data Docs need for their looks: files out of pinned npm packages, cached, then laid beside the pages.

A package is fetched once, checked by its hash, and kept in ``.weakfish/assets`` (or the folder that ``WEAKFISH_ASSETS``
names, for projects to share and for machines without network); pages refer to copies below ``reports/gx/_assets``.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from weakfish.errors import SourceError
from weakfish.files import whole_file, whole_folder
from weakfish.project.paths import Project
from weakfish.sources.npm import NpmPackage, members

FOLDER = "WEAKFISH_ASSETS"
"""The environment variable that names a cache for several projects."""

SLOW, PATIENCE = 5.0, 600.0
"""After a fetch that took ``SLOW`` seconds to fail none is tried for ``PATIENCE`` seconds: a run waits only once."""

TIMEOUT = 60.0
"""Seconds that npm may take for one package."""


@dataclass(frozen=True)
class Package:
    """An npm package, the files of it that pages load, in that order, and files that only go with them."""

    npm: NpmPackage
    loaded: tuple[str, ...]
    beside: tuple[str, ...]

    @property
    def folder(self) -> str:
        """The name of its folder among the assets."""
        return self.npm.filename.removesuffix(".tgz")

    @property
    def files(self) -> tuple[str, ...]:
        """All files that are taken out of it, by their paths within."""
        return (*self.loaded, *self.beside)

    def lies_in(self, assets: Path) -> bool:
        """Whether all its files are there."""
        return all((assets / self.folder / file).is_file() for file in self.files)


def _npm(name: str, version: str, sha256: str) -> NpmPackage:
    return NpmPackage(name, version, sha256, timeout_seconds=TIMEOUT)


LOOKS = (
    Package(
        _npm("bootstrap", "4.3.1", "b109c069bbb7cee57c3ddffb65d8481db5fe7e428b6d9b1ca502119a0429bd16"),
        ("dist/css/bootstrap.min.css",),
        ("LICENSE",),
    ),
    Package(
        _npm("@forevolve/bootstrap-dark", "1.1.0", "20b089d52bc2ae80424fc43e5263023e96bd8479e7c5d346b8766c1b792a1cfd"),
        ("dist/css/bootstrap-prefers-dark.min.css",),
        ("LICENSE",),
    ),
    Package(
        _npm(
            "@fortawesome/fontawesome-free",
            "6.6.0",
            "cf0b890ab2b68d3c4ea0f93ceb81cc24b956cccf9db36c63be044a672bd3b4dd",
        ),
        ("css/fontawesome.min.css", "css/solid.min.css"),
        ("webfonts/fa-solid-900.woff2", "LICENSE.txt"),
    ),
)
"""The styles that every page loads, in the versions and the order that Great Expectations' templates name.

Their scripts are not among them: what they do for this page, `page.js` does.
"""


def lay_out(project: Project, into: Path, packages: Sequence[Package]) -> list[str]:
    """Lay the files of packages into the folder ``into`` and return the paths of those to load, relative to it.

    Raises
    ------
    SourceError
        When a package is neither cached nor to be had: npm is missing, the network is off, or its hash is another.
    """
    cache = Path(os.environ.get(FOLDER) or project.root / ".weakfish" / "assets")
    if not all(package.lies_in(cache) for package in packages):
        try:
            _fill(cache, packages)
        except OSError as error:
            raise SourceError(f"{cache} cannot be written ({error.strerror}); let {FOLDER} name another.") from error
    for package in packages:
        for name in package.files:
            _copy(cache / package.folder / name, into / package.folder / name)
    return [f"{package.folder}/{file}" for package in packages for file in package.loaded]


def _fill(cache: Path, packages: Sequence[Package]) -> None:
    cache.mkdir(parents=True, exist_ok=True)
    refusal = cache / "refused.txt"
    with _alone(cache):
        if refusal.is_file() and time.time() - refusal.stat().st_mtime < PATIENCE:
            minutes = f"It was tried less than {PATIENCE / 60:g} minutes ago."
            raise SourceError(f"{refusal.read_text(encoding='utf-8')} {minutes}")
        began = time.monotonic()
        try:
            for package in packages:
                if not package.lies_in(cache):
                    _fetch(package, cache)
        except SourceError as error:
            if time.monotonic() - began >= SLOW:
                refusal.write_text(str(error), encoding="utf-8")
            raise
        refusal.unlink(missing_ok=True)


def _fetch(package: Package, cache: Path) -> None:
    wanted = re.compile("package/(?:" + "|".join(map(re.escape, package.files)) + ")")
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=cache) as scratch:
        tarball = package.npm.fetch(Path(scratch))
        with whole_folder(cache / package.folder) as folder:
            for name, content in members(tarball, wanted):
                file = folder / name.removeprefix("package/")
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(content)
    if not package.lies_in(cache):
        raise SourceError(f"{package.npm} does not hold all of {', '.join(package.files)}; pin a version that does.")


def _copy(source: Path, target: Path) -> None:
    if not (target.is_file() and target.stat().st_size == source.stat().st_size):
        with whole_file(target) as part:
            shutil.copyfile(source, part)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Wait until no other process fetches into this folder."""
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
