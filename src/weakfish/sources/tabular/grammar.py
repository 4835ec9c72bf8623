"""What a record of CSV is: fields between delimiters; one that begins with a quote reaches to the next single quote."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from weakfish.sources.tabular import pieces as sizes
from weakfish.sources.tabular.raw_files import READ, Text, count_ends, first_end

Positions = npt.NDArray[np.int64]
CR = 13
MOST = 0.9
"""The share of a record's lines that have to be rows for the record to be none."""

_PROSE = ",;"
"""Delimiters that running text has too."""


@dataclass(frozen=True)
class CsvRecord:
    """A record, a blank line, or a line that is neither; ``end`` is where the next one begins in the buffer.

    ``skip`` is set on a line that is longer than the buffer may be: it has to be skipped in the stream.
    """

    end: int
    raw: bytes
    problem: str | None = None
    skip: bool = False

    @property
    def lines(self) -> int:
        """How many lines the record spans."""
        return 1 if self.problem else count_ends(self.raw) + 1


RESUMES = sys.version_info < (3, 11, 5)
"""Whether a possessive repeat goes on behind a group that did not match (CPython's issue 106052).

An atomic group does not, and takes sixty bytes a field.
"""


class Grammar:
    """The records of a text, ``escaped`` where that hides what stands behind backslashes.

    ``width`` is how many fields they should have, where that is known.
    """

    def __init__(self, delimiter: str, quote: str | None, *, escaped: bool = False) -> None:
        self.escaped = escaped
        self.delimiter, self.quote = delimiter.encode(), (quote or "").encode()
        self.prose = delimiter in _PROSE
        self.width: int | None = None
        d, q = re.escape(self.delimiter), re.escape(self.quote)
        one = bare = rb"[^" + d + rb"\r\n]*+"
        self._in_line = None
        if quote:
            quoted = q + rb"[^" + q + rb"]*+(?:" + q + q + rb"[^" + q + rb"]*+)*+" + q
            one = rb"(?>" + quoted + rb"|(?!" + q + rb")" + bare + rb")"
            self._in_line = re.compile(rb"(?:^|" + d + rb")(" + quoted + rb"(?=" + d + rb"|\Z)|" + bare + rb")")
        more = rb"(?:" + d + one + rb")*"
        record = one + (rb"(?>" + more + rb")" if RESUMES else more + rb"+")
        self._record = re.compile(record)
        self._whole = re.compile(rb"(" + record + rb")(?:\r\n|\n|\r(?!\Z))")
        self._field = re.compile(rb"(?:^|" + d + rb")(" + one + rb")")

    def records(self, text: Text, size: int) -> Iterator[CsvRecord]:
        """Yield the records that begin in the first ``size`` bytes."""
        start = 0
        while start < size and (start < len(text.buffer) or self._more(text, start)):
            record = self.record_at(text, start)
            yield record
            start = record.end

    def record_at(self, text: Text, start: int) -> CsvRecord:
        """The record that begins at a place in the buffer; reads on where it needs more."""
        while True:
            buffer = text.buffer
            found = self._record.match(buffer, start)
            end = found.end() if found else start
            opened = end + len(self.delimiter) if found and buffer.startswith(self.delimiter, end) else end
            unclosed = bool(self.quote) and (not found or opened > end) and buffer.startswith(self.quote, opened)
            undecided = end >= len(buffer) or (buffer[end] == CR and end + 1 == len(buffer))
            if not (undecided or unclosed) or not self._more(text, start):
                break
        if unclosed:
            return self._refused(text, start, "has a quote that never closes")
        if end < len(buffer) and buffer[end] not in b"\r\n":
            return self._refused(text, start, "has text behind a closing quote")
        if end - start > sizes.LONGEST:
            return self._refused(text, start, _long())
        if self.swallows(raw := buffer[start:end]):
            return self._refused(text, start, "has a quote that closes on a later line, and each of the lines is a row")
        return CsvRecord(first_end(buffer, end)[1], raw)

    def run(self, block: bytes, start: int, most: int) -> tuple[Positions, Positions, int]:
        """Where records from ``start`` on begin and stop, at most so many, and where the next one begins."""
        found: list[tuple[int, int]] = []
        while len(found) < most and (match := self._whole.match(block, start)) and not self.swallows(match[1]):
            start = match.end()
            found.append(match.span(1))
        starts, stops = np.array(found, np.int64).reshape(-1, 2).T
        return starts, stops, start

    def fields(self, raw: bytes) -> list[bytes]:
        """The fields of a record."""
        q, found = self.quote, self.written(raw)
        return [f[1:-1].replace(q * 2, q) if f.startswith(q) else f for f in found] if q and q in raw else found

    def written(self, raw: bytes) -> list[bytes]:
        """The fields of a record, their quotes included."""
        if not self.quote or self.quote not in raw:
            return raw.split(self.delimiter)
        return self._field.findall(raw)

    def swallows(self, raw: bytes) -> bool:
        """Whether a record over several lines is rather a row of each, the first with a quote that is text.

        Then nearly every line has all fields, and the lines are alike: where the first has a number, the others have
        one too; where it has none, some column is a single word in all of them. Lines of running text that have as many
        delimiters as a row, by chance, have spaces behind them.
        """
        if self._in_line is None or self.width is None or self.width < 2 or not (b"\n" in raw or b"\r" in raw):
            return False
        lines = raw.splitlines()
        first, last = self._in_line.findall(lines[0]), self._in_line.findall(lines[-1])
        if len(first) != self.width or len(last) != self.width:
            return False
        inner = [line.split(self.delimiter) for line in lines[1:-1]]  # no quote is in them, but for doubled ones
        rows = [row for row in (first, *inner, last) if len(row) == self.width]
        if len(rows) < MOST * len(lines):
            return False
        evidence = (len(rows) - 1) * (self.width - 1)
        if self.prose:
            spaced = [any(f[:1] == b" " != head[:1] for f, head in zip(row, first, strict=True)) for row in rows]
            if evidence < 2 or sum(spaced) > (1 - MOST) * len(lines):
                return False
        shapes = [[_shape(field) for field in column] for column in zip(*rows, strict=True)]
        numbered = [column for column in shapes if b"0" in column[0]]
        if numbered:
            return any(column.count(column[0]) >= MOST * len(rows) for column in numbered)
        return evidence >= 12 if self.prose else any(set(column) == {b"a"} for column in shapes)

    def _more(self, text: Text, start: int) -> bool:
        """Read on, while what is held behind ``start`` is no longer than a record may be."""
        held = len(text.buffer)
        if text.ended or held - start > sizes.LONGEST:
            return False
        text.fill(start + max(2 * (held - start), READ))
        return len(text.buffer) > held

    def _refused(self, text: Text, start: int, reason: str) -> CsvRecord:
        """The line at ``start`` as one that is no record: the next line may begin one again."""
        while (found := first_end(text.buffer, start))[0] == len(text.buffer) and self._more(text, start):
            pass
        end, after = found
        skip = end == len(text.buffer) and not text.ended
        return CsvRecord(after, text.buffer[start : min(end, start + 1000)], _long() if skip else reason, skip)


def _shape(field: bytes) -> bytes:
    """A field with each number as 0 and each word as a."""
    return _WORDS.sub(b"a", _NUMBERS.sub(b"0", field))


_NUMBERS = re.compile(rb"[-+]?\d[\d.,:/+-]*")
_WORDS = re.compile(rb"[A-Za-z_\x80-\xff]+")


def _long() -> str:
    return f"is longer than {sizes.LONGEST >> 20} MiB"
