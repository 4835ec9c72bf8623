"""Raw files: which ones a setting means, how they reach ``data/raw``, and their text as a buffer of UTF-8 bytes.

Compressed files are decompressed, byte order marks taken off, other encodings turned into UTF-8; bytes that are no
characters of the encoding become bytes that are no UTF-8, so that readers see them. Where no encoding is stated, each
file decides it by its bytes. A file that ends before its compressed data does leaves `Text.damage` and the torn last
line in `Text.tail`.
"""

from __future__ import annotations

import bz2
import codecs
import gzip
import lzma
import os
import re
import shutil
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any, BinaryIO, cast
from urllib.parse import unquote

import pyarrow as pa

from weakfish.errors import ParamsError, SourceError
from weakfish.sources.tabular.charsets import WEAK, CharacterCount, guess, is_wide, weigh
from weakfish.sources.tabular.escapes import EscapeMask

COMPRESSED = (".gz", ".bz2", ".zst", ".xz")
FORMATS = {
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
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
        When there is no such file, or it is a table.
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
        if (path / "_delta_log").is_dir():  # its folder also holds files of other versions
            raise SourceError(f"{path} is a Delta table; set source.format: delta in params.yaml to read it.")
        known = [file for file in path.rglob("*") if FORMATS.get(RawFile(file, file.name).suffix)]
        rows = [file for file in known if RawFile(file, file.name).suffix != ".json"]  # .json may be about them
        return _below(path, rows or known, hidden=("_", "."))
    base, pattern = split(path)
    if pattern is None:
        return []
    if ".." in Path(pattern).parts:
        raise ValueError("'..' may not stand behind the first wildcard")
    return _below(base, base.glob(pattern), hidden=(".",))


def split(path: str | Path) -> tuple[Path, str | None]:
    """The part of a path before the first one with a wildcard, and the pattern from there on."""
    parts = Path(path).parts
    first = next((number for number, part in enumerate(parts) if any(sign in part for sign in "*?[")), len(parts))
    return Path(*parts[:first]), str(Path(*parts[first:])) if parts[first:] else None


def _below(base: Path, files: Iterable[Path], hidden: tuple[str, ...]) -> list[RawFile]:
    """Files that are not hidden, nor in a hidden folder, nor what an earlier fetch put into ``data/raw``."""
    named = [(file, file.relative_to(base)) for file in files if file.is_file()]
    return [
        RawFile(file, name.as_posix())
        for file, name in named
        if not any(part.startswith(hidden) for part in name.parts)
    ]


def link(files: list[RawFile], raw: Path) -> None:
    """Put files into the raw folder under their names: as hard links, or as copies where that cannot be."""
    for file in files:
        target, source = raw / file.name, file.path.resolve()
        target.parent.mkdir(parents=True, exist_ok=True)
        with suppress(OSError):
            os.link(source, target)
            continue
        try:
            shutil.copyfile(source, target)
        except OSError as error:
            raise SourceError(f"{file.path} cannot be read ({error.strerror}); make it readable.") from error


def listed(raw: Path) -> list[RawFile]:
    """The files in the raw folder, by name; raises `SourceError` when there are none."""
    files = [RawFile(file, file.relative_to(raw).as_posix()) for file in raw.rglob("*") if not file.is_dir()]
    if not files:
        raise SourceError(f"{raw} holds no file; run `weakfish fetch`, which puts the raw data there.")
    return sorted(files, key=lambda file: file.name)


def opened(path: Path) -> BinaryIO:
    """Open a file for reading, decompressed by its suffix; broken data raises one of `DAMAGE` while it is read."""
    suffix = path.suffix.lower()
    if suffix == ".zst":
        return cast(BinaryIO, pa.input_stream(str(path), compression="zstd"))
    by_suffix: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
    return cast(BinaryIO, by_suffix.get(suffix, open)(path, "rb"))


READ = 1 << 18
_END = re.compile(rb"\r\n|\n|\r")
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def _keep_invalid(error: UnicodeError) -> tuple[str | bytes, int]:
    if isinstance(error, UnicodeEncodeError):
        return b"\xff", error.end
    if isinstance(error, UnicodeDecodeError):
        return "\udcff", error.end
    raise error


codecs.register_error("weakfish.keep_invalid", _keep_invalid)


NO_TEXT = "has bytes that are not text in"
"""How the reason begins for which bytes of a file are no text."""

_UTF_8 = ("utf-8", "utf-8-sig", "ascii")


class Text:
    """The bytes of a file from line `line` on, as far as they have been read.

    ``encoding`` is None until a byte order mark, what was stated, or the first bytes beyond ASCII decide it; the last
    leave their ``evidence``. ``note`` says what a person should know of the decision. Where backslashes escape, what is
    ``escaped`` is hidden.
    """

    def __init__(self, file: RawFile, encoding: str | None, *, escaped: bool = False) -> None:
        self.name = file.name
        self._mask = EscapeMask() if escaped else None
        self.encoding: str | None = None
        self.evidence: CharacterCount | None = None
        self.note: str | None = None
        self._path = file.path
        self.buffer = b""
        self.line = 1
        self.taken = 0
        self.ended = False
        self.damage: str | None = None
        self._begun = False
        self.tail = b""
        self._open = ExitStack()
        self._packed = file.path.suffix.lower() in COMPRESSED
        self._decoder: codecs.IncrementalDecoder | None = None
        try:
            self._stream = self._open.enter_context(opened(file.path))
            self._ahead = self._read()
        except DAMAGE as error:
            self._ahead = b""
            self._damaged(error)
        self._begin(encoding)

    def __enter__(self) -> Text:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    @cached_property
    def not_text(self) -> str:
        """What to say of bytes that are none of the encoding's, with the one that the whole file is likely in."""
        own = codecs.lookup(self.encoding or "utf-8").name
        said = f"{NO_TEXT} {own}"
        if self.evidence is not None or own.startswith(("utf-16", "utf-32")):  # its bytes decided it already
            return said
        found = weigh(_parts(self._path))
        likely = codecs.lookup("utf-8" if found.is_utf8 else guess(found.telling)).name
        return said if likely == own else f"{said}; it is likely {likely} (--encoding, or source.encoding)"

    def fill(self, size: int) -> None:
        """Read on until the buffer holds ``size`` bytes or the file ends."""
        parts = [self.buffer]
        held = seen = len(self.buffer) if self._begun else 0
        self._begun = True
        while held < size and not self.ended:
            part = self._next()
            parts.append(part)
            held += len(part)
        self.buffer = b"".join(parts)
        if self.damage is not None and not self.tail:
            whole = max(last_end(self.buffer, len(self.buffer), ended=True), seen)
            self.buffer, self.tail = self.buffer[:whole], self.buffer[whole:]

    def take(self, size: int, lines: int) -> None:
        """Drop what has been read from the front."""
        self.buffer = self.buffer[size:]
        self.taken += size
        self.line += lines

    def skip_line(self, size: int) -> bytes:
        """Drop the line at the front, however long, holding no more than ``size`` bytes of it; return its start."""
        start = self.buffer[:1000]
        while True:
            end = _END.search(self.buffer)
            if end and (end[0] != b"\r" or end.end() < len(self.buffer) or self.ended):
                self.take(end.end(), 1)
                return start
            if self.ended:
                self.take(len(self.buffer), 1)
                self.tail = b""  # is the end of this line
                return start
            self.buffer = self.buffer[-1:] if self.buffer.endswith(b"\r") else b""
            self.fill(size)

    def _begin(self, stated: str | None) -> None:
        start = self._more()
        while len(start) < 4 and not self.ended:
            start += self._more()
        mark, marked = next(((mark, name) for mark, name in _MARKS if start.startswith(mark)), (b"", None))
        if marked is None and stated is not None and stated not in _UTF_8:
            found, single = weigh([start]), len("ö".encode().decode(stated, "replace")) == 2
            if found.right >= (1 if single else WEAK) and not found.wrong:  # two bytes may be one character elsewhere
                stated, self.note = "utf-8", f"is UTF-8 and is read as that, although source.encoding says {stated}"
        self._use(marked or stated or is_wide(start[:4096]))
        self.buffer = self._utf8(start[len(mark) :] if marked == "utf-8" else start)

    def _use(self, encoding: str | None) -> None:
        self.encoding = encoding
        if encoding is not None and encoding not in _UTF_8:
            self._decoder = codecs.getincrementaldecoder(encoding)("weakfish.keep_invalid")

    def _decide(self, part: bytes) -> None:
        """Decide the encoding by the first bytes beyond ASCII; where some are not UTF-8, by those of the whole file."""
        found = weigh([part])
        if found.wrong or not found.right:
            found = weigh(_parts(self._path))
        self.evidence = found
        self._use("utf-8" if found.is_utf8 else guess(found.telling))
        if not found.is_utf8:
            self.note = (
                f"is not UTF-8 ({found.wrong:,} of {found.right + found.wrong:,} characters beyond ASCII are not) and "
                f"is read as {self.encoding}, which is a guess; set source.encoding"
            )

    def _next(self) -> bytes:
        return self._utf8(self._more())

    def _more(self) -> bytes:
        """The next bytes; those behind them have been read by then, so that what is torn off is known to be."""
        part = self._ahead
        if part:
            try:
                self._ahead = self._read()
            except DAMAGE as error:
                self._ahead = b""
                self._damaged(error)
        self.ended = not self._ahead
        return part

    def _read(self) -> bytes:
        return _part(self._stream, packed=self._packed)

    def _utf8(self, part: bytes) -> bytes:
        if self.encoding is None and not part.isascii():
            self._decide(part)
        if self._decoder is not None:
            part = self._decoded(part, self._decoder)
        return part if self._mask is None else self._mask.hide(part, last=self.ended)

    def _decoded(self, part: bytes, decoder: codecs.IncrementalDecoder) -> bytes:
        try:
            text = decoder.decode(part, self.ended)
        except UnicodeError as error:  # of encodings that ask no handler of errors
            self._damaged(error)
            return b""
        text = text.removeprefix("\ufeff") if self.line == 1 and not self.buffer else text
        return text.encode("utf-8", "weakfish.keep_invalid")

    def _damaged(self, error: BaseException) -> None:
        reason = str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
        kind = "compressed data" if self._packed else "file"
        self.damage = f"the {kind} cannot be read from here on ({reason}); what follows is lost"


def _part(stream: BinaryIO, *, packed: bool) -> bytes:
    read = getattr(stream, "read1", stream.read) if packed else stream.read
    part: bytes = read(READ)
    return part


def _parts(path: Path) -> Iterator[bytes]:
    """The bytes of a file, as far as they can be had."""
    packed = path.suffix.lower() in COMPRESSED
    with suppress(*DAMAGE), opened(path) as stream:
        while part := _part(stream, packed=packed):
            yield part


def last_end(buffer: bytes, size: int, *, ended: bool) -> int:
    """The place behind the last line end within the first ``size`` bytes; 0 where there is none."""
    place = buffer.rfind(b"\n", 0, size) + 1
    if place:
        return place
    place = buffer.rfind(b"\r", 0, size if ended and size >= len(buffer) else max(size - 1, 0)) + 1
    return place if buffer[place : place + 1] != b"\n" else 0


def count_ends(block: bytes) -> int:
    """How many lines end in a block."""
    returns = block.count(b"\r")
    return block.count(b"\n") + (returns - block.count(b"\r\n") if returns else 0)


def count_lines(block: bytes) -> int:
    """How many lines a block has, the last one without an end too."""
    return count_ends(block) + (bool(block) and not block.endswith((b"\n", b"\r")))


def first_end(buffer: bytes, start: int) -> tuple[int, int]:
    """Where the line end at or behind ``start`` begins and ends; the buffer's length twice where there is none."""
    found = _END.search(buffer, start)
    return found.span() if found else (len(buffer), len(buffer))
