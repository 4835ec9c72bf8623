"""A line of JSON Lines as keys and values: values as text, numbers as they stand there; the exact way of `lines`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import pyarrow as pa
import pyarrow.json as pajson

from weakfish.errors import SourceError
from weakfish.sources.tabular import pieces as sizes
from weakfish.sources.tabular.charsets import is_utf8
from weakfish.sources.tabular.pieces import Bad, Piece, Rejects, Tally
from weakfish.sources.tabular.raw_files import RawFile, Text, first_end, last_end
from weakfish.sources.tabular.settings import TabularSettings

DEEPEST = 200
"""How deep brackets may be nested: the libraries call themselves for each, until the stack ends."""


class NoObject(Exception):
    """A line that is no row, and why."""


class _Object(list[tuple[str, Any]]):
    """An object as its pairs: a key may stand there twice."""


class _Number(str):
    """A number, as it is written."""


_DECODER = json.JSONDecoder(object_pairs_hook=_Object, parse_int=_Number, parse_float=_Number, parse_constant=_Number)


def _as_text(value: Any) -> str | None:
    return str(value) if isinstance(value, str) else None if value is None else _json(value)


def _json(value: Any) -> str:
    """A value as JSON, numbers as they stood there."""
    if isinstance(value, _Object):
        return "{" + ",".join(f"{_json(key)}:{_json(inner)}" for key, inner in value) + "}"
    if isinstance(value, list):
        return "[" + ",".join(_json(inner) for inner in value) + "]"
    return str(value) if isinstance(value, _Number) else json.dumps(value, ensure_ascii=False)


def pairs(line: bytes) -> Iterator[tuple[str, str | None]]:
    """Keys and values of the object in a line, in order, repeated keys included; raises `NoObject`."""
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError:
        raise NoObject("is not UTF-8") from None
    depths = accumulate((character in "[{") - (character in "]}") for character in text)  # those in strings, too
    if text.count("[") + text.count("{") >= DEEPEST and max(depths) > DEEPEST:
        raise NoObject(f"nests brackets deeper than {DEEPEST}")
    try:
        found = _DECODER.decode(text)
    except RecursionError:
        raise NoObject(f"nests brackets deeper than {DEEPEST}") from None
    except ValueError as error:
        raise NoObject(f"is not JSON ({error})") from None
    if not isinstance(found, _Object):
        raise NoObject("is not a JSON object")
    return ((key, _as_text(value)) for key, value in found)


_HALF = re.compile("[\ud800-\udfff]")
_FAST = {"string": pa.string(), "integer": pa.int64(), "number": pa.float64(), "boolean": pa.bool_()}


def read_lines(file: RawFile, settings: TabularSettings, rejects: Rejects, tally: Tally) -> Iterator[Piece]:
    """Yield the rows of a file of JSON Lines.

    Raises
    ------
    SourceError
        When nothing of the file can be read.
    """
    with Text(file, settings.encoding) as text:
        yield from _Lines(text, file, settings, rejects, tally).pieces()
        if text.note is not None:
            rejects.note(file.name, text.note)


@dataclass
class _Lines:
    text: Text
    file: RawFile
    settings: TabularSettings
    rejects: Rejects
    tally: Tally
    names: dict[str, str] = field(default_factory=dict)  # key in the file -> column
    told: set[str] = field(default_factory=set)
    types: dict[str, pa.DataType] | None = None

    def pieces(self) -> Iterator[Piece]:
        """Yield the rows in blocks that shrink where the fast reader refuses one, and grow again behind it."""
        size = sizes.BLOCK
        while True:
            self.text.fill(size)
            if not self.text.buffer:
                break
            size = min(size, len(self.text.buffer))
            block = self._block(size)
            if not block:
                line = self.text.line
                self._refuse(line, f"is longer than {sizes.LONGEST >> 20} MiB", self.text.skip_line(sizes.BLOCK))
                self.tally.lines += 1
                continue
            lines = block.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
            if not lines[-1]:
                lines.pop()  # what is behind the last line end
            found = self._fast(block, lines)
            if found is None and size > sizes.BLOCK // 16:
                size //= 2
                continue
            piece = found or self._slow(lines)
            self.tally.lines += len(lines)
            self.tally.blank += sum(not line.strip(b" \t") for line in lines)
            self.tally.rows += piece.rows
            self.text.take(len(block), len(lines))
            yield piece
            size = min(size * 2, sizes.BLOCK) if found else size
        self._end()

    def _block(self, size: int) -> bytes:
        """Whole lines of about this size, one at least; nothing where that is longer than a record may be."""
        text = self.text
        if text.ended and size >= len(text.buffer):
            return text.buffer
        cut = last_end(text.buffer, size, ended=text.ended)
        while not cut:
            end = first_end(text.buffer, 0)[1]
            if end < len(text.buffer) or text.ended:
                cut = end
            elif len(text.buffer) > sizes.LONGEST:
                break
            else:
                text.fill(2 * len(text.buffer))
        return text.buffer[:cut]

    def _fast(self, block: bytes, lines: list[bytes]) -> Piece | None:
        """The rows of a block, by Arrow's reader; None where that might read them otherwise."""
        if b"NaN" in block or b"Inf" in block or not is_utf8(block):
            return None
        lines = [line.strip(b" \t") for line in lines]
        # it would read `{}{}` as two
        whole = all(line[0] == 123 and line[-1] == 125 and len(line) < sizes.LONGEST for line in lines if line)
        flat = all(len(line) < DEEPEST or line.count(b"[") + line.count(b"{") < DEEPEST for line in lines)
        if not (whole and flat):
            return None
        numbers = [self.text.line + place for place, line in enumerate(lines) if line]
        if not numbers:
            return Piece({}, 0, ())
        if self.types is None:
            self.types = self._guess(next(line for line in lines if line))
        columns = self._parse(b"\n".join(lines), len(numbers))
        return None if columns is None else Piece(columns, len(numbers), numbers)

    def _guess(self, line: bytes) -> dict[str, pa.DataType] | None:
        """The types in which Arrow's reader gives the columns, as the first object has them."""
        try:
            first = json.loads(line)
        except (ValueError, RecursionError):
            return None
        types: dict[str, pa.DataType] = {}
        for key, value in first.items():
            column = self._column(key)
            kind = self.settings.columns.get(column or "")
            if column is None or kind is None or key != next(k for k, c in self.names.items() if c == column):
                continue
            whole = isinstance(value, int) and not isinstance(value, bool) and kind in ("string", "time")
            types[key] = pa.int64() if whole else _FAST.get(kind, pa.string())
        for column, kind in self.settings.columns.items():
            if column not in self.names.values():
                types[column] = _FAST.get(kind, pa.string())
        return types

    def _parse(self, block: bytes, rows: int) -> dict[str, pa.ChunkedArray] | None:
        if not self.types:
            return None
        read = pajson.ReadOptions(block_size=len(block) + 1, use_threads=False)
        try:
            schema = pa.schema(list(self.types.items()))
            table = pajson.read_json(pa.BufferReader(block + b"\n"), read, pajson.ParseOptions(explicit_schema=schema))
        except (pa.ArrowException, ValueError, NotImplementedError):
            return None
        others = [name for name in table.column_names if name not in self.types]
        if table.num_rows != rows or any(self.settings.column_of(name) for name in others):
            return None
        for name in others:
            self._column(name)
        for name in self.types:
            if name not in self.names and table[name].null_count < rows:
                self.names[name] = name
        return {self.names.get(name, name): table[name] for name in self.types}

    def _slow(self, lines: list[bytes]) -> Piece:
        """The rows of a block, read line by line."""
        rows: list[dict[str, str | None]] = []
        numbers: list[int] = []
        bad: list[Bad] = []
        for number, line in enumerate(lines, self.text.line):
            if not line.strip(b" \t"):
                continue
            try:
                if len(line) > sizes.LONGEST:
                    raise NoObject(f"is longer than {sizes.LONGEST >> 20} MiB")
                found = self._object(line)
            except NoObject as error:
                self._refuse(number, str(error), line)
                continue
            for column, value in found.items():  # JSON can escape half of a surrogate pair
                if value is not None and _HALF.search(value):
                    raw = value.encode("utf-8", "backslashreplace")
                    bad.append(Bad(len(rows), column, "holds half of a surrogate pair", raw))
                    found[column] = None
            rows.append(found)
            numbers.append(number)
        columns = {name: pa.array([row.get(name) for row in rows], pa.string()) for name in self.settings.columns}
        return Piece(columns, len(rows), numbers, tuple(bad))

    def _object(self, line: bytes) -> dict[str, str | None]:
        found: dict[str, str | None] = {}
        for key, value in pairs(line):
            column = self._column(key)
            if column is None:
                continue
            if column in found:
                raise NoObject(f"has the key {key!r} twice")
            found[column] = value
        return found

    def _column(self, key: str) -> str | None:
        if key in self.names:
            return self.names[key]
        if key in self.told:
            return None
        column = self.settings.column_of(key)
        if column is not None:
            self.names[key] = column
        elif key not in self.told and len(self.told) < 1000:
            self.told.add(key)
            self.rejects.note(
                self.file.name, f"has a column {key[:100]!r} that is not in source.columns; it is left out"
            )
        return column

    def _end(self) -> None:
        if self.text.damage is not None:
            if not self.tally.records:
                raise SourceError(
                    f"{self.file.name}, line {self.text.line}: {self.text.damage}; bring or remove the file."
                )
            self._refuse(self.text.line, self.text.damage, self.text.tail)
            self.tally.lines += bool(self.text.tail)
        if not self.tally.records:
            self.rejects.note(self.file.name, "is empty: it has no rows")
            return
        if self.tally.rows and not self.names:
            raise SourceError(f"{self.file.name}: no line has any of source.columns; correct them in params.yaml.")
        for name in self.settings.columns:
            if name not in self.names.values() and name not in self.file.hive:
                self.rejects.note(self.file.name, f"has no column {name!r}; it is null in all its rows", name)

    def _refuse(self, line: int, reason: str, raw: bytes) -> None:
        self.rejects.line(self.file.name, line, reason, raw)
        self.tally.rejected += 1
