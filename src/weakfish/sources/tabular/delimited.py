"""CSV as pieces of text columns: whole blocks by Arrow's reader, and record by record what that would misread.

A record is fields with a delimiter between them, up to a line end (LF, CRLF or CR) outside of quotes. A field that
begins with a quote ends with one; a quote within another field is a character like others. A line that is no record (a
quote that never closes, or text behind one that did) is a reject, and reading goes on at the next line; so is a record
with more or fewer fields than the header. Both ways of reading give the same rows, wherever blocks begin.
"""

from __future__ import annotations

import re
from codecs import BOM_UTF8
from collections.abc import Iterator
from dataclasses import dataclass, field

import pyarrow as pa

from weakfish.errors import SourceError
from weakfish.sources.tabular import piece as sizes
from weakfish.sources.tabular.blocks import is_clean, is_utf8, parse
from weakfish.sources.tabular.files import RawFile
from weakfish.sources.tabular.piece import Bad, Piece, tell_columns
from weakfish.sources.tabular.records import Record, Records
from weakfish.sources.tabular.rejects import Rejects, Tally
from weakfish.sources.tabular.settings import TabularSettings
from weakfish.sources.tabular.text import Text, count_ends, last_end

_BLANK = re.compile(rb"\A[\r\n]|\n[\r\n]|\r\r")


def read_delimited(file: RawFile, settings: TabularSettings, rejects: Rejects, tally: Tally) -> Iterator[Piece]:
    """Yield the rows of a CSV file.

    Raises
    ------
    SourceError
        When the header cannot be read, has none of the columns, or has one of them twice.
    """
    with Text(file, settings.encoding) as text:
        delimiter = settings.delimiter or ("\t" if file.suffix == ".tsv" else ",")
        reader = _Delimited(text, delimiter, settings.quote, rejects, tally)
        header = reader.header()
        if header is None:
            rejects.note(file.name, text.damage or "is empty: it has no header and no rows")
            if text.damage is not None:
                raise SourceError(f"{file.name}, line 1: {text.damage}; bring the file again, or take it away.")
            return
        reader.width, reader.wanted = len(header), _wanted(header, file, settings)
        tell_columns(header, file, settings, rejects)
        yield from reader.pieces()


def _wanted(header: list[str], file: RawFile, settings: TabularSettings) -> dict[str, int]:
    """The place of each column of the settings that a header has."""
    wanted: dict[str, int] = {}
    exact = {name for name in header if name in settings.columns}
    for place, name in enumerate(header):
        column = settings.column_of(name)
        if column is None or (name != column and column in exact):
            continue
        if column in wanted:
            raise SourceError(
                f"{file.name}, line 1: column {column!r} stands there twice, as fields {wanted[column] + 1} and "
                f"{place + 1}; rename one of them."
            )
        wanted[column] = place
    if not wanted:
        found = ", ".join(repr(name[:40]) for name in header[:20])
        raise SourceError(
            f"{file.name}, line 1: the header has none of source.columns, it has {found}; add a header line, or "
            "correct source.columns or source.delimiter in params.yaml."
        )
    return wanted


@dataclass
class _Delimited:
    text: Text
    delimiter: str
    quote: str | None
    rejects: Rejects
    tally: Tally
    width: int = 0
    wanted: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.records = Records(self.text, self.delimiter, self.quote)
        self._quote = (self.quote or "").encode()

    def header(self) -> list[str] | None:
        """The names in the first line that is not blank; None in a file without one."""
        self.text.fill(sizes.SMALL)
        for record in self.records.some(1, 1):
            lines = record.lines
            self.text.take(record.end, lines)
            if record.problem is not None:
                raise SourceError(
                    f"{self.text.name}, line {record.line}: the header {record.problem}; correct it there."
                )
            if record.blank:
                self.tally.lines += lines
                self.tally.blank += lines
                return self.header()
            self.tally.lines += lines
            self.tally.header = lines
            try:
                return [name.decode("utf-8").strip() for name in record.fields]
            except UnicodeDecodeError as error:
                raise SourceError(
                    f"{self.text.name}, line {record.line}: the header is not UTF-8; set source.encoding."
                ) from error
        return None

    def pieces(self) -> Iterator[Piece]:
        """Yield the rows in blocks that shrink where the fast reader refuses one, and grow again behind it."""
        size, stride = sizes.BLOCK, sizes.SMALL
        while True:
            self.text.fill(size)
            if not self.text.buffer:
                break
            size = min(size, max(len(self.text.buffer), 1))
            cut = self._cut(size)
            found = self._fast(self.text.buffer[:cut]) if cut else None
            if found is not None:
                yield found
                size, stride = min(size * 2, sizes.BLOCK), sizes.SMALL
            elif size > sizes.SMALL:
                size //= 2
            else:
                yield self._slow(stride)
                size, stride = sizes.SMALL, min(stride * 2, sizes.BLOCK // 16)
        self._end()

    def _cut(self, size: int) -> int:
        """A line end within ``size`` bytes that is probably that of a record: quotes before it come in pairs."""
        buffer, ended = self.text.buffer, self.text.ended
        if ended and size >= len(buffer):
            return len(buffer)
        cut = last_end(buffer, size, ended=ended)
        if self._quote and buffer.count(self._quote, 0, cut) % 2:
            for _ in range(100):
                before = last_end(buffer, cut - 1, ended=False)
                if buffer.count(self._quote, before, cut) % 2:
                    return before
                cut = before
        return cut

    def _fast(self, block: bytes) -> Piece | None:
        """The rows of a block of whole records, by Arrow's reader; None where that might read them otherwise."""
        if not is_utf8(block):
            return None
        first, ends = self.text.line, count_ends(block)
        lines = ends + (not block.endswith((b"\n", b"\r")))
        quoted = bool(self._quote) and self._quote in block
        if quoted and not is_clean(block, self.delimiter, self.quote or "", self.width):
            return None
        content, numbers, refused = (block, None, []) if quoted else self._lines(block, first)
        if content.startswith(BOM_UTF8):  # Arrow would take the mark off, within a file too
            return None
        try:
            columns = parse(content, self.delimiter, self.quote if quoted else None, (self.width, self.wanted))
        except pa.ArrowInvalid:
            return None
        rows = len(next(iter(columns.values())))
        if numbers is not None and len(numbers) != rows:
            return None
        for number, raw in refused:
            found = raw.count(self.delimiter.encode()) + 1
            self._refuse(number, f"has {found} fields instead of {self.width}", raw, 1)
        self.tally.lines += lines
        self.tally.rows += rows
        self.tally.records += rows
        if numbers is not None:
            self.tally.blank += lines - rows - len(refused)
            self.text.take(len(block), lines)
            return Piece(columns, rows, lambda: numbers)
        if _BLANK.search(block):
            self.tally.blank += sum(record.blank for record in self._records_of(block, first))
        self.text.take(len(block), lines)
        return Piece(columns, rows, lambda: [r.line for r in self._records_of(block, first) if not r.blank])

    def _records_of(self, block: bytes, first: int) -> list[Record]:
        return Records.of_block(block, first, self.delimiter, self.quote)

    def _lines(self, block: bytes, first: int) -> tuple[bytes, list[int], list[tuple[int, bytes]]]:
        """A block without quotes: lines with the right number of fields, their numbers, and the other lines."""
        lines = (
            block.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n") if b"\r" in block else block.split(b"\n")
        )
        mark, between = self.delimiter.encode(), self.width - 1
        kept = [place for place, line in enumerate(lines) if line and line.count(mark) == between]
        refused = [(first + place, line) for place, line in enumerate(lines) if line and line.count(mark) != between]
        numbers = [first + place for place in kept]
        return (b"\n".join(lines[place] for place in kept) if refused else block), numbers, refused

    def _slow(self, stride: int) -> Piece:
        """The rows of the next ``stride`` bytes or more, read record by record."""
        rows: list[Record] = []
        size = lines = 0
        skip: Record | None = None
        for record in self.records.some(stride, None):
            if record.skip:
                skip = record
                break
            size, lines = record.end, lines + record.lines
            self.tally.lines += record.lines
            if record.blank:
                self.tally.blank += record.lines
            elif record.problem is not None:
                self._refuse(record.line, record.problem, record.raw, record.lines)
            elif len(record.fields) != self.width:
                self._refuse(
                    record.line, f"has {len(record.fields)} fields instead of {self.width}", record.raw, record.lines
                )
            else:
                rows.append(record)
        self.text.take(size, lines)
        if skip is not None:
            self._refuse(skip.line, skip.problem or "", self.text.skip_line(sizes.BLOCK), 1)
            self.tally.lines += 1
        self.tally.rows += len(rows)
        self.tally.records += len(rows)
        return _piece(rows, self.wanted)

    def _end(self) -> None:
        if self.text.damage is not None:
            lines = 1 if self.text.tail else 0
            self._refuse(self.text.line, self.text.damage, self.text.tail, lines)
            self.tally.lines += lines

    def _refuse(self, line: int, reason: str, raw: bytes, lines: int) -> None:
        self.rejects.line(self.text.name, line, reason, raw, lines)
        self.tally.rejected += 1
        self.tally.records += 1


def _piece(rows: list[Record], wanted: dict[str, int]) -> Piece:
    """Records as text columns; a field that is not UTF-8 is null, and told of."""
    bad: list[Bad] = []
    columns: dict[str, pa.Array] = {}
    for column, place in wanted.items():
        values: list[str | None] = []
        for number, record in enumerate(rows):
            try:
                values.append(record.fields[place].decode("utf-8"))
            except UnicodeDecodeError:
                values.append(None)
                bad.append(Bad(number, column, "is not UTF-8", record.fields[place]))
        columns[column] = pa.array(values, pa.string())
    return Piece(columns, len(rows), lambda: [record.line for record in rows], tuple(bad))
