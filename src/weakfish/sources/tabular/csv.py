"""CSV: records are found by the parity of quotes and read by Arrow; what is no row is a reject with its line number.

Where each quote opens or closes a field, a line end behind an even number of quotes ends a record. The first quote that
does neither ends such a run, as does a record whose lines could all be rows; that record is then read by the grammar
itself, a regular expression.
"""

from __future__ import annotations

from codecs import BOM_UTF8
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv as pacsv

from weakfish.errors import SourceError
from weakfish.sources.tabular import pieces as sizes
from weakfish.sources.tabular.charsets import is_utf8
from weakfish.sources.tabular.dialect import open_rows
from weakfish.sources.tabular.escapes import LINE_END, undone
from weakfish.sources.tabular.formats import with_point
from weakfish.sources.tabular.grammar import CR, MOST, Grammar, Positions
from weakfish.sources.tabular.pieces import Bad, Piece, Rejects, Tally, places_of
from weakfish.sources.tabular.raw_files import RawFile, Text, count_ends, count_lines
from weakfish.sources.tabular.settings import TabularSettings

Bytes = npt.NDArray[np.uint8]
LF, SPACE = 10, 32
LONGEST_RUN = 4096
"""The most records that are read by the grammar before quotes are asked again."""


class _Marks:
    """Where lines end in a block and, for records that begin behind an even or odd number of quotes, where they end."""

    def __init__(self, block: bytes, grammar: Grammar, *, last: bool) -> None:
        codes = np.frombuffer(block, np.uint8)
        self.stops, self.ends = _line_ends(codes, last=last)
        quotes = np.flatnonzero(codes == grammar.quote[0]) if grammar.quote else np.empty(0, np.int64)
        around = np.pad(codes, 1, constant_values=LF) if len(quotes) else codes
        ordinary = np.ones(256, np.bool_)
        ordinary[[LF, CR, *grammar.delimiter, *grammar.quote]] = False
        before, after = ordinary[around[quotes]], ordinary[around[quotes + 2 * bool(len(quotes))]]
        between = before & after  # text in a field without quotes; within quotes it would be wrong
        self._inner, self._quotes = quotes[between], quotes[~between]
        self._before, self._after = before[~between], after[~between]
        self._codes, self._grammar = codes, grammar
        self._line_starts = self.ends
        if grammar.escaped:
            hidden = np.flatnonzero(codes == LINE_END[1])
            hidden = hidden[codes[np.maximum(hidden - 1, 0)] == LINE_END[0]]
            self._line_starts = np.sort(np.append(self.ends, hidden + 1))
        self._by_parity: dict[int, tuple[Positions, Positions]] = {}

    def run(self, start: int) -> tuple[Positions, bool]:
        """The line ends (by number) that end the records from ``start`` on, as far as quotes decide it.

        The second says whether a quote decided nothing; the record behind the run has it then.
        """
        parity = int(np.searchsorted(self._quotes, start)) % 2
        if parity not in self._by_parity:
            self._by_parity[parity] = self._of(parity)
        records, strange = self._by_parity[parity]
        place = int(np.searchsorted(strange, start))
        stopped = place < len(strange)
        first = np.searchsorted(self.stops, start)
        last = np.searchsorted(self.stops, strange[place]) if stopped else len(self.stops)
        return records[slice(*np.searchsorted(records, np.array([first, last])))], stopped

    def _of(self, parity: int) -> tuple[Positions, Positions]:
        """The line ends that end records, and the quotes that neither open nor close a field."""
        if not len(self._quotes) and not len(self._inner):
            return np.arange(len(self.stops)), self._inner
        opens = np.arange(len(self._quotes)) % 2 == parity
        strange = self._quotes[np.where(opens, self._before, self._after)]
        inner = self._inner[np.searchsorted(self._quotes, self._inner) % 2 != parity]
        records = np.flatnonzero(np.searchsorted(self._quotes, self.stops) % 2 == parity)
        doubtful = self._doubtful(records)
        return records, np.sort(np.concatenate([strange, inner, doubtful])) if len(inner) or len(doubtful) else strange

    def _doubtful(self, records: Positions) -> Positions:
        """Where records begin of which `Grammar.swallows`; it is asked only where counts of delimiters allow it."""
        firsts = np.append(0, records[:-1] + 1) if len(records) else records
        several = np.flatnonzero(records > firsts)
        width = self._grammar.width or 0
        if not len(several) or width < 2:
            return firsts[:0]
        marks = np.flatnonzero(self._codes == self._grammar.delimiter[0])
        spaced = marks[self._codes[np.minimum(marks + 1, len(self._codes) - 1)] == SPACE]
        counts, spaces = (np.diff(np.searchsorted(found, self.stops), prepend=0) for found in (marks, spaced))
        whole = counts == width - 1
        first, last = firsts[several], records[several]
        chosen = (counts[first] >= width - 1) & (counts[last] >= width - 1)
        for rows, share in ((whole, MOST), (whole & (spaces == 0), 2 * MOST - 1)):
            before = np.append(0, np.cumsum(rows))
            enough = before[last] - before[first + 1] + 2 >= share * (last - first + 1)
            chosen &= enough if rows is whole else enough | (spaces[first] > 0) | (not self._grammar.prose)
        starts, stops = np.append(0, self.ends)[first[chosen]], self.stops[last[chosen]]
        block, swallows = self._codes.data, self._grammar.swallows
        doubtful = [start for start, stop in zip(starts, stops, strict=True) if swallows(bytes(block[start:stop]))]
        return np.array(doubtful, np.int64)

    def lines(self, places: Any) -> Any:
        """How many lines end before each place."""
        return np.searchsorted(self._line_starts, places, "right")


def _line_ends(codes: Bytes, *, last: bool) -> tuple[Positions, Positions]:
    """Where each line stops, and where the next one begins: behind LF, CRLF or CR."""
    returns = codes == CR
    if not returns.any():
        stops = np.flatnonzero(codes == LF)
        return stops, stops + 1
    feeds = np.append(codes == LF, False)
    stops = np.flatnonzero(returns | (feeds[:-1] & ~np.append(False, returns[:-1])))
    if returns[-1] and not last:  # LF may follow
        stops = stops[:-1]
    return stops, stops + 1 + (returns[stops] & feeds[stops + 1])


def read_delimited(file: RawFile, settings: TabularSettings, rejects: Rejects, tally: Tally) -> Iterator[Piece]:
    """Yield the rows of a CSV file.

    Raises
    ------
    SourceError
        When the header cannot be read, has none of the columns, or has one of them twice.
    """
    with Text(file, settings.encoding, escaped=settings.escape is not None) as text:
        opening = open_rows(text, file, settings)
        tally.header, tally.blank = opening.header, opening.blank
        tally.lines = opening.header + opening.blank
        if opening.names is None:
            rejects.note(file.name, text.damage or "is empty: it has no header and no rows")
            if text.damage is not None:
                raise SourceError(f"{file.name}, line 1: {text.damage}; bring the file again, or take it away.")
            return
        where = f"{file.name}, line {opening.line}"
        places = places_of(opening.names, file, settings, rejects, where)
        for note in opening.notes:
            rejects.note(file.name, note)
        for piece in _Delimited(text, opening.grammar, rejects, tally).pieces(len(opening.names), places):
            yield _written_out(piece, settings)
        if text.note is not None:
            rejects.note(file.name, text.note)


def _written_out(piece: Piece, settings: TabularSettings) -> Piece:
    """A piece without escapes, and with decimal points."""
    columns = dict(piece.columns)
    for name, values in columns.items():
        number = settings.decimal == "," and settings.columns[name] in ("integer", "number")
        if settings.escape is not None or number:
            texts = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
            texts = undone(texts) if settings.escape is not None else texts
            columns[name] = with_point(texts) if number else texts
    return replace(piece, columns=columns)


_Told = tuple[int, str, bytes, int]
"""The line, the reason, its text, and how many lines it spans."""


@dataclass
class _Delimited:
    text: Text
    grammar: Grammar
    rejects: Rejects
    tally: Tally

    def pieces(self, width: int, places: dict[str, int]) -> Iterator[Piece]:
        """Yield the rows, a block at a time."""
        while True:
            self.text.fill(sizes.BLOCK)
            if not self.text.buffer:
                break
            yield self._piece(width, places)
        if self.text.damage is not None:
            lines = 1 if self.text.tail else 0
            self._refuse(self.text.line, self.text.damage, self.text.tail, lines)
            self.tally.lines += lines

    def _piece(self, width: int, places: dict[str, int]) -> Piece:
        """The rows of the records that end in the next block, or of the next record where none does."""
        block = self.text.buffer[: sizes.BLOCK]
        last = self.text.ended and len(block) == len(self.text.buffer)
        marks = _Marks(block, self.grammar, last=last)
        parts = [np.empty((3, 0), np.int64)]  # where each record begins and stops, and how many lines are before it
        told: list[_Told] = []
        cuts: list[tuple[int, int]] = []
        start, most, skipped = 0, 1, None
        while start < len(block):
            run, stopped = marks.run(start)
            if len(run):
                starts = np.append(start, marks.ends[run[:-1]])
                parts.append(np.stack([starts, marks.stops[run], marks.lines(starts)]))
                start = int(marks.ends[run[-1]])
            if start >= len(block) or (start and not stopped and not last):
                break
            most = min(2 * most, LONGEST_RUN) if len(run) < most else 1
            starts, stops, behind = self.grammar.run(block, start, most)
            if len(starts):
                parts.append(np.stack([starts, stops, marks.lines(starts)]))
                start = behind
                continue
            record = self.grammar.record_at(self.text, start)
            line = int(marks.lines(start))
            if record.skip:
                skipped = record
                break
            if record.problem is None:
                parts.append(np.array([[start], [start + len(record.raw)], [line]]))
            else:
                told.append((self.text.line + line, record.problem, record.raw, 1))
                cuts.append((start, record.end))
            start = record.end
        piece = self._read(np.concatenate(parts, 1), start, cuts, told, (width, places))
        lines_taken = count_lines(self.text.buffer[:start])
        lines_taken += self.text.buffer.count(LINE_END, 0, start) if self.grammar.escaped else 0
        self.tally.lines += lines_taken
        self.text.take(start, lines_taken)
        if skipped is not None:
            self._refuse(self.text.line, skipped.problem or "", self.text.skip_line(sizes.BLOCK), 1)
            self.tally.lines += 1
        return piece

    def _read(
        self,
        records: Positions,
        end: int,
        cuts: list[tuple[int, int]],
        told: list[_Told],
        shape: tuple[int, dict[str, int]],
    ) -> Piece:
        """The rows of records by Arrow's reader, which does not see what is cut out; reports what is not a row."""
        (width, places), buffer = shape, self.text.buffer
        starts, stops, lines = records[:, records[0] < records[1]]
        self.tally.blank += records.shape[1] - len(starts)
        utf8 = is_utf8(buffer[:end])

        def ragged(number: int, fields: int) -> None:
            raw = buffer[starts[number] : stops[number]]
            reason = f"has {fields} field{'s' * (fields != 1)} instead of {width}"
            told.append((self.text.line + int(lines[number]), reason, raw, count_ends(raw) + 1))

        gone: list[int] = []  # Arrow could not say of a record that is not UTF-8 that it is ragged
        for number in () if utf8 else range(len(starts)):
            raw = buffer[starts[number] : stops[number]]
            if not is_utf8(raw) and (fields := len(self.grammar.fields(raw))) != width:
                ragged(number, fields)
                gone.append(number)
                cuts.append((int(starts[number]), int(stops[number])))
        seen = np.delete(np.arange(len(starts)), gone)
        columns, skipped = self._parse(_without(buffer, end, cuts), len(seen), width, places, utf8=utf8)
        for place, fields in skipped:
            ragged(int(seen[place]), fields)
        for each in sorted(told):
            self._refuse(*each)
        rows = lines[np.delete(seen, [place for place, _ in skipped])] + self.text.line
        if any(len(column) != len(rows) for column in columns.values()):
            raise SourceError(f"{self.text.name}: its rows cannot be told apart; report this file's form to Weakfish.")
        self.tally.rows += len(rows)
        bad: list[Bad] = []
        if not utf8:
            columns = {column: _decoded(column, values, bad, self.text) for column, values in columns.items()}
        return Piece(columns, len(rows), rows, tuple(bad))

    def _parse(
        self, content: bytes, records: int, width: int, places: dict[str, int], *, utf8: bool
    ) -> tuple[dict[str, pa.ChunkedArray], list[tuple[int, int]]]:
        """The wanted columns of records, and the number and fields of those that are ragged."""
        skipped: list[tuple[int, int]] = []
        kind = pa.string() if utf8 else pa.binary()
        if not records:
            return dict.fromkeys(places, pa.chunked_array([], kind)), skipped

        def skip(row: pacsv.InvalidRow) -> str:
            skipped.append((row.number - 1, row.actual_columns))
            return "skip"

        if content.startswith(BOM_UTF8):  # Arrow would take the mark off, within a file too
            content = b"\n" + content
        names = [str(place) for place in range(width)]
        quote = self.grammar.quote.decode() if self.grammar.quote in content else ""
        table = pacsv.read_csv(
            pa.BufferReader(content),
            pacsv.ReadOptions(column_names=names, block_size=len(content) + 1, use_threads=False),
            pacsv.ParseOptions(
                delimiter=self.grammar.delimiter.decode(),
                quote_char=quote or False,
                newlines_in_values=bool(quote),
                invalid_row_handler=skip,
            ),
            pacsv.ConvertOptions(
                check_utf8=False,
                column_types=dict.fromkeys(names, kind),
                include_columns=[names[place] for place in places.values()],
                strings_can_be_null=False,
                quoted_strings_can_be_null=False,
            ),
        )
        return dict(zip(places, table.columns, strict=True)), skipped

    def _refuse(self, line: int, reason: str, raw: bytes, lines: int) -> None:
        self.rejects.line(self.text.name, line, reason, raw, lines)
        self.tally.rejected += 1


def _without(buffer: bytes, end: int, cuts: list[tuple[int, int]]) -> bytes:
    """The first ``end`` bytes but for what is cut out."""
    edges = [0, *(edge for cut in sorted(cuts) for edge in cut), end]
    return b"".join(buffer[first:last] for first, last in zip(edges[::2], edges[1::2], strict=True))


def _decoded(column: str, values: pa.ChunkedArray, bad: list[Bad], text: Text) -> pa.Array:
    """Bytes as text; a field that is not UTF-8 is null and reported."""
    try:
        return values.cast(pa.string())
    except pa.ArrowInvalid:
        texts: list[str | None] = []
        for row, value in enumerate(values.to_pylist()):
            try:
                texts.append(value.decode("utf-8"))
            except UnicodeDecodeError:
                texts.append(None)
                bad.append(Bad(row, column, text.not_text, value))
        return pa.array(texts, pa.string())
