"""CSV record by record: the exact reading that `delimited` falls back on, and that says on which line a record begins.

Bytes in, records out: fields as bytes, the lines that each spans, or what is wrong with it.
"""

from __future__ import annotations

import re
from codecs import BOM_UTF8
from collections.abc import Iterator
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from weakfish.errors import SourceError
from weakfish.sources.tabular import pieces as sizes
from weakfish.sources.tabular.pieces import Bad, Piece, Rejects, Tally, tell_columns
from weakfish.sources.tabular.raw_files import RawFile, Text, count_ends, first_end, last_end
from weakfish.sources.tabular.settings import TabularSettings


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


_MOST_REPEATS = 900  # RE2 repeats no more than a thousand times


def is_clean(block: bytes, delimiter: str, quote: str, width: int) -> bool:
    """Whether a block is nothing but records of the right number of fields, as `delimited` reads them."""
    if width > _MOST_REPEATS:
        return False
    d, q = re.escape(delimiter), re.escape(quote)
    one = f"(?:{q}(?:[^{q}]|{q}{q})*{q}|[^{q}{d}\\r\\n][^{d}\\r\\n]*|)"
    record = f"{one}(?:{d}{one}){{{width - 1}}}"
    pattern = f"\\A(?:(?:{record})?(?:\\r\\n|\\n|\\r))*(?:{record})?\\z"
    try:
        return bool(pc.match_substring_regex(pa.scalar(block, pa.large_binary()), pattern).as_py())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return False


def parse(
    block: bytes, delimiter: str, quote: str | None, shape: tuple[int, dict[str, int]]
) -> dict[str, pa.ChunkedArray]:
    """The columns of a clean block as text; ``shape`` is how many fields its records have and which are wanted."""
    width, places = shape
    names = [f"f{place}" for place in range(width)]
    wanted = {names[place]: column for column, place in places.items()}
    if not block.strip(b"\r\n"):
        return {column: pa.chunked_array([], pa.string()) for column in places}
    read = pacsv.ReadOptions(column_names=names, block_size=len(block) + 1)
    parse = pacsv.ParseOptions(delimiter=delimiter, quote_char=quote or False, newlines_in_values=quote is not None)
    convert = pacsv.ConvertOptions(
        column_types={name: pa.string() for name in names},
        include_columns=list(wanted),
        strings_can_be_null=False,
        quoted_strings_can_be_null=False,
    )
    table = pacsv.read_csv(pa.BufferReader(block), read, parse, convert)
    return {column: table[name] for name, column in wanted.items()}


def is_utf8(block: bytes) -> bool:
    """Whether a block is UTF-8 throughout."""
    try:
        block.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


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
