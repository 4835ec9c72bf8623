"""CSV record by record: the exact reading that `delimited` falls back on, and that says on which line a record begins.

Bytes in, records out: fields as bytes, the lines that each spans, or what is wrong with it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from weakfish.sources.tabular import piece as sizes
from weakfish.sources.tabular.text import Text, count_ends, first_end


@dataclass(frozen=True)
class Record:
    """A record, a blank line, or a line that is neither; ``end`` is where the next one begins in the buffer.

    ``skip`` is set on a line that is longer than the buffer may be: it has to be skipped in the stream.
    """

    line: int
    lines: int
    end: int
    fields: tuple[bytes, ...] = ()
    problem: str | None = None
    raw: bytes = b""
    skip: bool = False

    @property
    def blank(self) -> bool:
        """Whether nothing stands in the line."""
        return not self.fields and self.problem is None


class Records:
    """Reads records off the front of a text."""

    def __init__(self, text: Text, delimiter: str, quote: str | None) -> None:
        self._text = text
        self._delimiter = delimiter.encode()
        self._quote = (quote or "").encode()
        d, q = re.escape(self._delimiter), re.escape(self._quote)
        bare = rb"[^" + d + rb"\r\n]*+"
        one = bare
        if quote:
            quoted = q + rb"[^" + q + rb"]*+(?:" + q + q + rb"[^" + q + rb"]*+)*+" + q
            one = rb"(?>" + quoted + rb"|(?!" + q + rb")" + bare + rb")"
        self._field = re.compile(one)
        self._record = re.compile(one + rb"(?:" + d + one + rb")*+")

    @classmethod
    def of_block(cls, block: bytes, line: int, delimiter: str, quote: str | None) -> list[Record]:
        """All records of a block that is known to hold nothing else."""
        text = Text.__new__(Text)
        text.buffer, text.line, text.ended = block, line, True
        return list(cls(text, delimiter, quote).some(len(block), None))

    def some(self, size: int, most: int | None) -> Iterator[Record]:
        """Yield records until they span ``size`` bytes, or ``most`` of them; reads on where one needs more."""
        start, line, count = 0, self._text.line, 0
        while start < size and (most is None or count < most) and self._has(start):
            record = self._next(start, line)
            yield record
            start, line, count = record.end, line + record.lines, count + 1

    def _has(self, start: int) -> bool:
        return start < len(self._text.buffer) or self._more(start)

    def _more(self, start: int) -> bool:
        """Read on, while what is held behind ``start`` is no longer than a record may be."""
        held = len(self._text.buffer)
        if self._text.ended or held - start > sizes.LONGEST:
            return False
        self._text.fill(max(2 * (held - start), sizes.SMALL) + start)
        return len(self._text.buffer) > held

    def _next(self, start: int, line: int) -> Record:
        while True:
            buffer = self._text.buffer
            found = self._record.match(buffer, start)
            end = found.end() if found else start
            undecided = end >= len(buffer) or (buffer[end] == 13 and end + 1 == len(buffer))
            open_quote = self._opens(buffer, start) if not found else self._opens_behind(buffer, end)
            if not (undecided or open_quote) or not self._more(start):
                break
        if not found or (end < len(buffer) and buffer[end] not in b"\r\n"):
            reason = "has a quote that never closes" if open_quote or not found else "has text behind a closing quote"
            return self._refused(start, line, reason)
        if end - start > sizes.LONGEST:
            return self._refused(start, line, None)
        _, after = first_end(buffer, end)
        if end == start:
            return Record(line, 1, after)
        raw = buffer[start:end]
        return Record(line, count_ends(raw) + 1, after, self._fields(raw), raw=raw)

    def _opens(self, buffer: bytes, place: int) -> bool:
        """Whether the field at ``place``, where the match ended, begins with a quote that nothing closes yet."""
        return bool(self._quote) and buffer[place : place + 1] == self._quote

    def _opens_behind(self, buffer: bytes, end: int) -> bool:
        return buffer[end : end + 1] == self._delimiter and self._opens(buffer, end + 1)

    def _refused(self, start: int, line: int, reason: str | None) -> Record:
        buffer = self._text.buffer
        while (found := first_end(buffer, start))[0] == len(buffer) and self._more(start):
            buffer = self._text.buffer
        end, after = found
        long = f"is longer than {sizes.LONGEST >> 20} MiB"
        if end == len(buffer) and not self._text.ended:
            return Record(line, 1, after, problem=long, skip=True)
        if reason is None:
            reason = long
        return Record(line, 1, after, problem=reason, raw=buffer[start : min(end, start + 1000)])

    def _fields(self, raw: bytes) -> tuple[bytes, ...]:
        if not self._quote or self._quote not in raw:
            return tuple(raw.split(self._delimiter))
        fields = []
        place = 0
        while True:
            found = self._field.match(raw, place)
            end = found.end() if found else len(raw)
            value = raw[place:end]
            if value.startswith(self._quote):
                value = value[1:-1].replace(self._quote * 2, self._quote)
            fields.append(value)
            if end >= len(raw):
                return tuple(fields)
            place = end + 1
