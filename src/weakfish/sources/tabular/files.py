"""Files of a tabular source: which ones a path means, what they are, how they reach ``data/raw``, and opening them.

`find` turns a setting into files and stable names, `link` puts them into the raw folder, `listed` finds them there.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import shutil
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast
from urllib.parse import unquote

import pyarrow as pa

from weakfish.errors import ParamsError, SourceError

COMPRESSED = (".gz", ".bz2", ".zst", ".xz")
FORMATS = {
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
}
DAMAGE = (EOFError, zlib.error, lzma.LZMAError, OSError, ValueError)
"""What the libraries raise on compressed data that is cut off or broken."""

_NULL = "__HIVE_DEFAULT_PARTITION__"


@dataclass(frozen=True)
class RawFile:
    """A file and its name: its path below the folder that the setting means, with slashes."""

    path: Path
    name: str

    @property
    def suffix(self) -> str:
        """The suffix that tells the format, in small letters, without that of a compression."""
        return PurePosixPath(plain_name(self.name)).suffix

    @property
    def hive(self) -> dict[str, str | None]:
        """Columns that folders such as ``year=2024`` state."""
        pairs = [part.partition("=") for part in PurePosixPath(self.name).parts[:-1]]
        return {key: None if value == _NULL else unquote(value) for key, sign, value in pairs if sign and key}


def plain_name(name: str) -> str:
    """A file's name in small letters without the suffix of a compression."""
    lower = name.lower()
    return next((lower.removesuffix(suffix) for suffix in COMPRESSED if lower.endswith(suffix)), lower)


def format_of(file: RawFile, setting: str | None) -> str:
    """``csv``, ``jsonl`` or ``parquet``; raises `SourceError` where neither setting nor suffix tells."""
    found = setting or FORMATS.get(file.suffix)
    if found is None:
        known = ", ".join(FORMATS)
        raise SourceError(
            f"{file.name} has none of the suffixes {known}; set source.format in params.yaml, or --format of init."
        )
    return found


def find(path: str, root: Path) -> list[RawFile]:
    """The files that a path means, by name: a file, all in a directory whose suffix is known, or those of a glob.

    Raises
    ------
    ParamsError
        When the path cannot be used.
    SourceError
        When there is no such file.
    """
    try:
        found = _find(root / path)
    except (OSError, ValueError, NotImplementedError) as error:
        raise ParamsError(f"params.yaml: source.path cannot be used: {error}; correct it there.") from error
    if not found:
        raise SourceError(f"There is no file for source.path {path!r}; correct it in params.yaml, or bring the data.")
    return sorted(found, key=lambda file: file.name)


def _find(path: Path) -> list[RawFile]:
    if path.is_file():
        return [RawFile(path, path.name)]
    if path.is_dir():
        known = [file for file in path.rglob("*") if FORMATS.get(RawFile(file, file.name).suffix)]
        return _below(path, known, hidden=("_", "."))
    parts = path.parts
    first = next((place for place, part in enumerate(parts) if any(sign in part for sign in "*?[")), len(parts))
    if first == len(parts):
        return []
    if ".." in parts[first:]:
        raise ValueError("'..' may not stand behind the first wildcard")
    base = Path(*parts[:first])
    return _below(base, list(base.glob(str(Path(*parts[first:])))), hidden=(".",))


def _below(base: Path, files: list[Path], hidden: tuple[str, ...]) -> list[RawFile]:
    """Files that are not hidden, nor in a hidden folder, nor what an earlier fetch put into ``data/raw``."""
    named = [(file, file.relative_to(base)) for file in files]
    seen = [(file, name) for file, name in named if not any(part.startswith(hidden) for part in name.parts)]
    return [RawFile(file, name.as_posix()) for file, name in seen if file.is_file()]


def link(files: list[RawFile], raw: Path) -> None:
    """Put files into the raw folder under their names: as hard links, or as copies where that cannot be."""
    for file in files:
        target = raw / file.name
        target.parent.mkdir(parents=True, exist_ok=True)
        source = file.path.resolve()
        try:
            os.link(source, target)
        except OSError:
            try:
                shutil.copyfile(source, target)
            except OSError as error:
                raise SourceError(f"{file.path} cannot be read ({error.strerror}); make it readable.") from error


def listed(raw: Path) -> list[RawFile]:
    """The files in the raw folder, by name; raises `SourceError` when there are none."""
    files = [RawFile(file, file.relative_to(raw).as_posix()) for file in _walk(raw)]
    if not files:
        raise SourceError(f"{raw} holds no file; run `weakfish fetch`, which puts the raw data there.")
    return sorted(files, key=lambda file: file.name)


def _walk(folder: Path) -> Iterator[Path]:
    for place, _, names in os.walk(folder):
        yield from (Path(place) / name for name in names)


def opened(path: Path) -> BinaryIO:
    """Open a file for reading, decompressed by its suffix; broken data raises one of `DAMAGE` while it is read."""
    match path.suffix.lower():
        case ".gz":
            return cast(BinaryIO, gzip.open(path, "rb"))
        case ".bz2":
            return cast(BinaryIO, bz2.open(path, "rb"))
        case ".xz":
            return cast(BinaryIO, lzma.open(path, "rb"))
        case ".zst":
            return cast(BinaryIO, pa.input_stream(str(path), compression="zstd"))
        case _:
            return path.open("rb")
