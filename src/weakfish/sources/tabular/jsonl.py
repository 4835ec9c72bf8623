"""JSON Lines, and objects in an array or printed over lines, as columns; keys of inner objects are columns too.

What stands in ``{"client": {"ip": ...}}`` is the column of the header ``client.ip``, unless ``client`` itself is a
column of text: then it is JSON. Values are text, numbers as they stand there.
"""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import accumulate, chain
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pajson

from weakfish.errors import SourceError
from weakfish.sources.tabular import pieces as sizes
from weakfish.sources.tabular.charsets import is_utf8
from weakfish.sources.tabular.json_documents import (
    DEEPEST,
    MOST_VALUES,
    Document,
    documents,
    elements,
    is_too_full,
    spans_lines,
)
from weakfish.sources.tabular.pieces import TOLD, Bad, Piece, Rejects, Tally
from weakfish.sources.tabular.raw_files import RawFile, Text, first_end, last_end
from weakfish.sources.tabular.settings import TabularSettings

GUESSED_FROM = 100
"""How many lines tell what types to ask the fast reader for."""

EXACT = 1 << 53
"""The whole numbers from which on a float may be another: the fast reader does not keep their digits."""

Path = tuple[str, ...]
"""A key, behind those of the objects around it."""


class NoObject(Exception):
    """A line that is no row, and why."""


class NotText(NoObject):
    """A line with bytes that are not UTF-8."""


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


def pairs(line: bytes, is_column: Callable[[str], bool]) -> Iterator[tuple[Path, str | None]]:
    """Paths of keys and values of the object in a line, in order, repeated ones included; raises `NoObject`."""
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError:
        raise NotText from None
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
    return ((path, _as_text(value)) for path, value in leaves(found, is_column))


def leaves(
    found: Iterable[tuple[str, Any]], is_column: Callable[[str], bool], start: Path = ()
) -> Iterator[tuple[Path, Any]]:
    """Paths and values of an object; an inner object is one value only where it is a column itself."""
    for key, value in found:
        path = (*start, key)
        if isinstance(value, dict | _Object) and not is_column(header_of(path)):
            yield from leaves(value.items() if isinstance(value, dict) else value, is_column, path)
        else:
            yield path, value


def header_of(path: Path) -> str:
    """The header of what stands in inner objects: ``client.ip``."""
    return ".".join(path)


MANY = 50
"""The most keys of an inner object that become columns: one with more is a table of its own, and stays JSON."""

MOST_KEYS = 500
"""The most keys that become columns at all: objects with more stay JSON as a whole."""

CELLS = 1 << 25
"""The most cells, keys by objects, of a block for the fast reader, which makes a column of each key."""


class TooManyKeys(Exception):
    """Objects have more than `MOST_KEYS` keys."""


def keys_of(lines: Iterable[bytes]) -> dict[str, bool]:
    """The headers of the objects in some lines, in order, and whether all their values are texts.

    Those of inner objects are apart. An inner object stays whole where it is a plain value elsewhere, or its keys are
    many. Raises `TooManyKeys`.
    """
    whole: set[str] = set()
    inner: dict[str, set[str]] = {}
    found: dict[Path, set[bool]] = {}
    for line in lines:
        if is_too_full(line):
            continue
        with suppress(ValueError, RecursionError):
            record = json.loads(line)
            whole |= set(_wide(record)) if isinstance(record, dict) else set()
            for path, value in leaves(record.items() if isinstance(record, dict) else (), whole.__contains__):
                kinds = found.setdefault(path, set())
                if len(found) > MANY * MOST_KEYS:
                    raise TooManyKeys
                if value is not None:
                    kinds.add(isinstance(value, str))
                    whole.add(header_of(path))
                for depth in range(1, len(path)):
                    inner.setdefault(header_of(path[:depth]), set()).add(path[depth])
        whole |= {header for header, keys in inner.items() if len(keys) > MANY}
    kept: dict[str, bool] = {}
    for path, kinds in found.items():
        above = next((header for depth in range(1, len(path)) if (header := header_of(path[:depth])) in whole), None)
        header = above or header_of(path)
        if header not in inner or header in whole:  # else it is null in some objects, and an object in the others
            kept[header] = kept.get(header, True) and kinds <= {True}
    if len(kept) > MOST_KEYS:
        raise TooManyKeys
    return kept


def _wide(record: dict[str, Any], above: Path = ()) -> Iterator[str]:
    """Headers of the inner objects with more than `MANY` keys."""
    for key, value in record.items():
        if isinstance(value, dict) and len(value) > MANY:
            yield header_of((*above, key))
        elif isinstance(value, dict):
            yield from _wide(value, (*above, key))


_STRING = re.compile(rb'"((?:[^"\\]|\\.)*+)("\s*+:|"|\\?\Z)', re.DOTALL)
_SPACED = re.compile(rb'"\s++:|\\"')


def _keys_in(block: bytes) -> int:
    """How many different keys a block has at most."""
    if _SPACED.search(block):
        return len({body for body, end in _STRING.findall(block) if end.endswith(b":")})
    return len({part[part.rfind(b'"') + 1 :] for part in block.split(b'":')})


_HALF = re.compile("[\ud800-\udfff]")
_SPACES = bytes(32 if byte in b"\r\n" else byte for byte in range(256))
_FAST = {"string": pa.string(), "integer": pa.int64(), "number": pa.float64(), "boolean": pa.bool_()}


def read_lines(file: RawFile, settings: TabularSettings, rejects: Rejects, tally: Tally) -> Iterator[Piece]:
    """Yield the rows of a file of JSON objects: one in each line, elements of an array, or printed over lines.

    With ``records`` in the settings they are the elements of the arrays under that key.

    Raises
    ------
    SourceError
        When nothing of the file can be read.
    """
    with Text(file, settings.encoding) as text:
        reader = _Lines(text, file, settings, rejects, tally)
        yield from reader.documents() if settings.records or spans_lines(text) else reader.pieces()
        if text.note is not None:
            rejects.note(file.name, text.note)


@dataclass
class _Lines:
    text: Text
    file: RawFile
    settings: TabularSettings
    rejects: Rejects
    tally: Tally
    names: dict[str, str] = field(default_factory=dict)  # header -> column
    paths: dict[str, Path] = field(default_factory=dict)  # column -> where it stands, of those seen
    told: set[str] = field(default_factory=set)
    types: dict[Path, pa.DataType] | None = None

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
            numbers = range(self.text.line, self.text.line + len(lines))
            found = self._fast(lines, numbers)
            if found is None and size > sizes.BLOCK // 16:
                size //= 2
                continue
            piece = found or self._slow(lines, numbers)
            self.tally.lines += len(lines)
            self.tally.blank += sum(not line.strip(b" \t") for line in lines)
            self.tally.rows += piece.rows
            self.text.take(len(block), len(lines))
            yield piece
            size = min(size * 2, sizes.BLOCK) if found else size
        self._end()

    def documents(self) -> Iterator[Piece]:
        """Yield the rows of a file whose objects have no line each."""
        waiting: list[Document] = []
        held, records = 0, self.settings.records
        for document in chain(elements(self.text, records) if records else documents(self.text), [None]):
            if document is not None and document.problem is not None:
                self._refuse(document.line, document.problem, document.raw)
            elif document is not None:
                waiting.append(document)
                held += len(document.raw)
            if waiting and (document is None or held >= sizes.BLOCK):
                lines = [each.raw.translate(_SPACES) for each in waiting]
                numbers = [each.line for each in waiting]
                piece = self._fast(lines, numbers) or self._slow(lines, numbers)
                self.tally.rows += piece.rows
                yield piece
                waiting, held = [], 0
        self.tally.lines = self.text.line - 1
        self.tally.blank = max(self.tally.lines - self.tally.records, 0)
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

    def _fast(self, lines: list[bytes], numbers: Sequence[int]) -> Piece | None:
        """The rows of some lines, by Arrow's reader; None where that might read them otherwise."""
        lines = [line.strip(b" \t") for line in lines]
        block = b"\n".join(lines)
        if b"NaN" in block or b"Inf" in block or not is_utf8(block):
            return None
        # it would read `{}{}` as two
        whole = all(line[0] == 123 and line[-1] == 125 and len(line) < sizes.LONGEST for line in lines if line)
        flat = all(len(line) < DEEPEST or line.count(b"[") + line.count(b"{") < DEEPEST for line in lines)
        few = not any(map(is_too_full, lines))
        if not (whole and flat and few) or self.settings.whole or _keys_in(block) * len(lines) > CELLS:
            return None
        numbers = [number for number, line in zip(numbers, lines, strict=True) if line]
        if not numbers:
            return Piece({}, 0, ())
        if self.types is None:
            self.types = self._guess([line for line in lines if line][:GUESSED_FROM])
        columns = self._parse(block, len(numbers))
        return None if columns is None else Piece(columns, len(numbers), numbers)

    def _guess(self, lines: list[bytes]) -> dict[Path, pa.DataType]:
        """Where columns stand, and the types in which Arrow's reader gives them, as the first objects have them.

        There are none where that reader would not do.
        """
        types: dict[Path, pa.DataType] = {}
        paths = dict(self.paths)
        for line in lines:
            try:
                found = json.loads(line)
            except (ValueError, RecursionError):
                return {}
            for path, value in leaves(found.items(), self._is_column):
                column = self._column(path) if value is not None else None
                if column is None or path in types:
                    continue
                if paths.setdefault(column, path) != path:
                    return {}  # two keys of one column
                whole = isinstance(value, int) and not isinstance(value, bool)
                kind = self.settings.columns[column]
                types[path] = pa.int64() if whole and kind in ("string", "time") else _FAST.get(kind, pa.string())
        for column, kind in self.settings.columns.items():
            types.setdefault(paths.get(column, (column,)), _FAST.get(kind, pa.string()))
        return types

    def _parse(self, block: bytes, rows: int) -> dict[str, pa.ChunkedArray] | None:
        schema = _nested(self.types or {})
        if not schema:
            return None
        read = pajson.ReadOptions(block_size=len(block) + 1, use_threads=False)
        try:
            table = pajson.read_json(pa.BufferReader(block + b"\n"), read, pajson.ParseOptions(explicit_schema=schema))
        except (pa.ArrowException, ValueError, NotImplementedError):
            return None
        found = dict(_flat(table, self.types or {}))
        others = [path for path, values in found.items() if path not in (self.types or {}) and values.null_count < rows]
        if table.num_rows != rows or any(self._is_column(header_of(path)) for path in others):
            return None
        for path in others:
            self._column(path)
        columns = {}
        for path in self.types or {}:
            values, column = found[path], self.settings.column_of(header_of(path))
            if pa.types.is_floating(values.type) and pc.any(pc.greater_equal(pc.abs(values), EXACT)).as_py():
                return None
            if values.null_count < rows:
                self._column(path)
            columns[column or header_of(path)] = values
        return columns

    def _slow(self, lines: list[bytes], numbers: Sequence[int]) -> Piece:
        """The rows of some lines, read one by one."""
        rows: list[dict[str, str | None]] = []
        places: list[int] = []
        bad: list[Bad] = []
        known = len(self.paths)
        for number, line in zip(numbers, lines, strict=True):
            if not line.strip(b" \t"):
                continue
            try:
                if len(line) > sizes.LONGEST:
                    raise NoObject(f"is longer than {sizes.LONGEST >> 20} MiB")
                if is_too_full(line):
                    raise NoObject(f"holds more than {MOST_VALUES:,} values")
                found = self._object(line)
            except NoObject as error:
                self._refuse(number, self.text.not_text if isinstance(error, NotText) else str(error), line)
                continue
            for column, value in found.items():  # JSON can escape half of a surrogate pair
                if value is not None and _HALF.search(value):
                    raw = value.encode("utf-8", "backslashreplace")
                    bad.append(Bad(len(rows), column, "holds half of a surrogate pair", raw))
                    found[column] = None
            rows.append(found)
            places.append(number)
        if len(self.paths) > known:
            self.types = None  # where more columns stand is known now
        columns = {name: pa.array([row.get(name) for row in rows], pa.string()) for name in self.settings.columns}
        return Piece(columns, len(rows), places, tuple(bad))

    def _object(self, line: bytes) -> dict[str, str | None]:
        """The columns of an object.

        Where two keys are of one column, as ``id`` and ``Id``, the one of its very name counts, else the one that the
        file had first.
        """
        found: dict[str, str | None] = {}
        taken: dict[str, Path] = {}
        for path, value in pairs(line, self._is_column):
            column = self._column(path) if value is not None or self._is_column(header_of(path)) else None
            if column is None:
                continue
            if column in taken:
                if taken[column] == path:
                    raise NoObject(f"has the key {header_of(path)!r} twice")
                first, second = sorted((taken[column], path), key=lambda each: self._rank(column, each))
                self._tell(header_of(second), beside=header_of(first))
                if first != path:
                    continue
            found[column], taken[column] = value, path
        if self.settings.whole is not None:
            found[self.settings.whole] = line.decode("utf-8").strip()
            self.names.setdefault("", self.settings.whole)
        return found

    def _rank(self, column: str, path: Path) -> tuple[bool, int]:
        header = header_of(path)
        return header != column, list(self.names).index(header)

    def _is_column(self, header: str) -> bool:
        return self.settings.column_of(header) is not None

    def _column(self, path: Path) -> str | None:
        header = header_of(path)
        if header not in self.names:
            column = self.settings.column_of(header)
            if column is None:
                if self.settings.whole is None:
                    self._tell(header)
                return None
            self.names[header] = column
            self.paths.setdefault(column, path)
        return self.names[header]

    def _tell(self, header: str, beside: str | None = None) -> None:
        """Tell once of a key that is left out, of so many keys at most."""
        if header in self.told or len(self.told) > TOLD:
            return
        self.told.add(header)
        if len(self.told) > TOLD:
            reason = f"has more than {TOLD:,} keys that are not in source.columns; they are left out"
            self.rejects.note(self.file.name, f"{reason}, and source.whole names a column for whole objects")
        elif beside is None:
            self.rejects.left_out(self.file.name, header)
        else:
            reason = f"has a key {header[:100]!r} beside {beside[:100]!r}, which is of the same column; it is left out"
            self.rejects.note(self.file.name, f"{reason} where both have a value")

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
            raise SourceError(
                f"{self.file.name}: no line has any of source.columns; correct them in "
                "params.yaml, or name the key that holds the rows as source.records."
            )
        for name in self.settings.columns:
            if name not in self.names.values() and name not in self.file.hive:
                self.rejects.lacks(self.file.name, name)

    def _refuse(self, line: int, reason: str, raw: bytes) -> None:
        self.rejects.line(self.file.name, line, reason, raw)
        self.tally.rejected += 1


def _nested(types: Mapping[Path, pa.DataType]) -> pa.Schema | None:
    """Fields of inner objects as those of structures; None where there are none, or a field is an object too."""
    tree: dict[str, Any] = {}
    for path, kind in types.items():
        node = tree
        for key in path[:-1]:
            node = node.setdefault(key, {})
            if not isinstance(node, dict):
                return None
        if path[-1] in node:
            return None
        node[path[-1]] = kind
    return pa.schema(_fields(tree)) if tree else None


def _fields(tree: Mapping[str, Any]) -> list[pa.Field]:
    return [pa.field(key, pa.struct(_fields(node)) if isinstance(node, dict) else node) for key, node in tree.items()]


def _flat(table: pa.Table, types: Mapping[Path, pa.DataType]) -> Iterator[tuple[Path, pa.ChunkedArray]]:
    """The values of a table by path, those of structures apart unless they are asked for."""
    waiting = deque[tuple[Path, pa.ChunkedArray]](((name,), table[name]) for name in table.column_names)
    while waiting:
        path, values = waiting.popleft()
        if pa.types.is_struct(values.type) and path not in types:
            waiting += [((*path, inner.name), pc.struct_field(values, inner.name)) for inner in values.type]
        else:
            yield path, values
