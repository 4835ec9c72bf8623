"""A text file as a buffer of UTF-8 bytes that readers take blocks from, with the number of the line it begins at.

Compressed files are decompressed, byte order marks taken off, other encodings turned into UTF-8; bytes that are no
characters of the encoding become bytes that are no UTF-8, so that readers see them. A file that ends before its
compressed data does leaves `damage` and the torn last line in `tail`.
"""

from __future__ import annotations

import codecs
import re
from contextlib import ExitStack
from types import TracebackType

from weakfish.sources.tabular.files import COMPRESSED, DAMAGE, RawFile, opened

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


class Text:
    """The bytes of a file from line `line` on, as far as they have been read."""

    def __init__(self, file: RawFile, encoding: str | None) -> None:
        self.name = file.name
        self.buffer = b""
        self.line = 1
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

    def _begin(self, encoding: str | None) -> None:
        start = self._more()
        while len(start) < 4 and not self.ended:
            start += self._more()
        mark, marked = next(((mark, name) for mark, name in _MARKS if start.startswith(mark)), (b"", None))
        name = encoding or marked or "utf-8"
        if name in ("utf-8", "utf-8-sig", "ascii"):
            self.buffer = start[len(mark) :] if marked == "utf-8" else start
            return
        self._decoder = codecs.getincrementaldecoder(name)("weakfish.keep_invalid")
        self.buffer = self._utf8(start)

    def _next(self) -> bytes:
        return self._utf8(self._more()) if self._decoder else self._more()

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
        read = getattr(self._stream, "read1", self._stream.read) if self._packed else self._stream.read
        part: bytes = read(READ)
        return part

    def _utf8(self, part: bytes) -> bytes:
        if self._decoder is None:
            return part
        try:
            text = self._decoder.decode(part, self.ended)
        except UnicodeError as error:  # of encodings that ask no handler of errors
            self._damaged(error)
            return b""
        text = text.removeprefix("\ufeff") if self.line == 1 and not self.buffer else text
        return text.encode("utf-8", "weakfish.keep_invalid")

    def _damaged(self, error: BaseException) -> None:
        reason = str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
        kind = "compressed data" if self._packed else "file"
        self.damage = f"the {kind} cannot be read from here on ({reason}); what follows is lost"


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


def first_end(buffer: bytes, start: int) -> tuple[int, int]:
    """Where the line end at or behind ``start`` begins and ends; the buffer's length twice where there is none."""
    found = _END.search(buffer, start)
    return found.span() if found else (len(buffer), len(buffer))
