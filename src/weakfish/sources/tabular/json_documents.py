"""Where the objects of a JSON file are that has not one in each line: elements of an array, or printed over lines.

The array may stand within objects, under a key: `elements` finds its objects, `key_of_list` the key.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

from weakfish.errors import SourceError
from weakfish.sources.tabular import pieces as sizes
from weakfish.sources.tabular.raw_files import READ, Text, count_ends, count_lines

_TOKEN = re.compile(rb'"(?:[^"\\\r\n]|\\.)*+"|["{}]')
_TOKEN_OF_LIST = re.compile(rb'"(?:[^"\\\r\n]|\\.)*+"|["\[\]]')
_BEGIN = re.compile(rb"[^\s,\[\]]")
_JUNK = re.compile(rb"[^{\r\n]*")
_ELEMENT = re.compile(rb"[^\s,]")
_PLAIN_ELEMENT = re.compile(rb'"(?:[^"\\\r\n]|\\.)*+"?|[^\s,\[\]{}"]+|.', re.DOTALL)
_STEP = re.compile(rb'"(?:[^"\\]|\\.)*+"|["{}\[\]:]')

_LAST_LINE = re.compile(rb"[\r\n]")

DEEPEST = 200
"""How deep brackets may be nested: the libraries call themselves for each, until the stack ends."""

ENDLESS = 10_000
"""How many brackets are open where none of them is taken to close."""

NEVER_CLOSES = "has a bracket or a quote that never closes"


MOST_VALUES = 1 << 17
"""The most values, inner ones included, of an object that is read: each takes a hundred times its bytes in memory."""

_TEXTS = re.compile(rb'"(?:[^"\\]|\\.)*+"', re.DOTALL)


def is_too_full(line: bytes) -> bool:
    """Whether an object has more than `MOST_VALUES` values."""
    return len(line) > MOST_VALUES < _separators(line) and _values_of(line) > MOST_VALUES


@lru_cache(maxsize=2)  # blocks that hold the line are tried in several sizes
def _values_of(line: bytes) -> int:
    return _separators(line) - sum(_separators(text[0]) for text in _TEXTS.finditer(line))


def _separators(line: bytes) -> int:
    return line.count(b",") + line.count(b"{") + line.count(b"[")


class Document(NamedTuple):
    """An object, or what stands in the place of one and why it is none; ``line`` is where it begins."""

    line: int
    raw: bytes
    problem: str | None = None


def spans_lines(text: Text) -> bool:
    """Whether a file is an array, or begins with an object that does not end in its line."""
    text.fill(READ)
    start = text.buffer.lstrip()
    if not start.startswith(b"{"):
        return start.startswith(b"[")
    first = re.split(rb"[\r\n]", start, maxsplit=1)[0]
    if _end(first, 0) is not None or len(first) == len(start):
        return False
    end = _end(start, 0)
    if end is None:
        return first.strip() == b"{"
    try:
        json.loads(start[:end])
    except (ValueError, RecursionError):
        return False
    return True


def documents(text: Text) -> Iterator[Document]:
    """Yield the objects of a file, and what stands in their place; at the end the text has taken all lines."""
    place = line = 0  # bytes and line ends of the buffer that are done
    unclosed: set[int] = set()
    while True:
        if place > sizes.BLOCK:
            text.take(place, line)
            place = line = 0
        found = _BEGIN.search(text.buffer, place)
        begin = found.start() if found else len(text.buffer)
        if found is None and not text.ended:
            begin -= text.buffer.endswith(b"\r")  # LF may follow
            line += count_ends(text.buffer[place:begin])
            place = begin
            text.fill(begin + READ)
            continue
        line += count_ends(text.buffer[place:begin])
        if found is None:
            text.take(begin, count_lines(text.buffer))
            return
        raw, problem = _document(text, begin, unclosed)
        yield Document(text.line + line, raw, problem)
        line += count_ends(raw)
        place = begin + len(raw)


Keys = Sequence[bytes | None]
"""The brackets that are open at a place of a file: of an object its last key, as it is written; None of a list."""


class _Walk:
    """Goes through the tokens of a file up to a number of bytes, and counts the lines behind it."""

    def __init__(self, text: Text, most: int | None = None) -> None:
        self.text, self.most = text, most
        self.place = self.line = 0  # bytes and line ends of the buffer that are done
        self.keys: list[bytes | None] = []
        self._unclosed: set[int] = set()

    def opened(self) -> Iterator[tuple[bytes, Keys]]:
        """Yield each bracket that opens, when it is behind, and the keys before it, until the next one."""
        name = b""
        while (token := self._token()) is not None:
            if token[:1] == b'"':
                name = token
            elif token == b":" and self.keys:
                self.keys[-1] = name
            elif token in (b"{", b"["):
                yield token, self.keys
                self.keys.append(b"" if token == b"{" else None)
            elif token in (b"}", b"]") and self.keys:
                self.keys.pop()

    def elements(self) -> Iterator[Document]:
        """Yield the elements of the list that has just opened."""
        text = self.text
        while True:
            self._drop()
            found = _ELEMENT.search(text.buffer, self.place)
            if found is None:
                if text.ended:
                    return
                begin = max(len(text.buffer) - text.buffer.endswith(b"\r"), self.place)  # LF may follow
                self.line += count_ends(text.buffer[self.place : begin])
                self.place = begin
                text.fill(len(text.buffer) + READ)
                continue
            begin = found.start()
            self.line += count_ends(text.buffer[self.place : begin])
            self.place = begin
            if found[0] == b"]":
                return
            raw, problem = _document(text, begin, self._unclosed, _PLAIN_ELEMENT)
            yield Document(text.line + self.line, raw, problem)
            self.line += count_ends(raw)
            self.place = begin + len(raw)

    def _token(self) -> bytes | None:
        text = self.text
        while True:
            self._drop()
            found = _STEP.search(text.buffer, self.place)
            whole = found is not None and found[0] != b'"'
            if whole or text.ended or len(text.buffer) - self.place > sizes.LONGEST:
                break
            text.fill(self.place + max(2 * (len(text.buffer) - self.place), READ))
        if found is None or not whole or (self.most is not None and found.end() > self.most):
            return None
        self.line += count_ends(text.buffer[self.place : found.end()])
        self.place = found.end()
        return found[0]

    def _drop(self) -> None:
        if self.most is None and self.place > sizes.BLOCK:
            self.text.take(self.place, self.line)
            self.place = self.line = 0


def _header(keys: Keys) -> str | None:
    """The keys of objects within each other, perhaps in a list of all; None where another list is around."""
    if len(keys) > DEEPEST:
        return None
    inner = keys[1:] if keys and keys[0] is None else keys
    return None if None in inner else ".".join(json.loads(key) for key in inner if key)


def elements(text: Text, key: str) -> Iterator[Document]:
    """Yield the objects in the lists under a key, such as ``data`` or ``result.rows``; in the end all lines are taken.

    Raises
    ------
    SourceError
        When no object has a list under that key.
    """
    walk, lists, torn = _Walk(text), 0, False
    for bracket, keys in walk.opened():
        if bracket == b"[" and keys and _header(keys) == key:
            lists += 1
            for document in walk.elements():
                torn |= document.problem == NEVER_CLOSES
                yield document
    if not lists:
        raise SourceError(
            f"{text.name}: no object has a list under the key {key!r}; correct source.records in params.yaml, or "
            "--records of init."
        )
    if walk.keys and not torn:
        yield Document(text.line + walk.line, text.buffer[walk.place : walk.place + 1000], NEVER_CLOSES)
    while not text.ended or text.buffer:
        text.take(len(text.buffer), count_lines(text.buffer))
        text.fill(sizes.BLOCK)


def key_of_list(text: Text, most: int) -> str | None:
    """The key of the longest list of objects in the first bytes of a file that is one object; None where it is not.

    Where the first object is longer, its end is looked for: another one may follow.
    """
    found, walk, objects = Counter[str](), _Walk(text, sizes.LONGEST), 0
    for bracket, keys in walk.opened():
        if walk.place > most and not found:
            return None
        if not keys:
            objects += 1
            if bracket == b"[" or objects > 1:
                return None
        elif (
            walk.place <= most
            and bracket == b"{"
            and keys[-1] is None
            and len(keys) <= DEEPEST
            and (header := _header(keys[:-1]))
        ):
            found[header] += 1
    return next((header for header, number in found.most_common(1) if number > 1), None)


def _document(text: Text, begin: int, unclosed: set[int], junk: re.Pattern[bytes] = _JUNK) -> tuple[bytes, str | None]:
    """What begins there, as far as it reaches, and what is wrong with it; ``junk`` is the form of what is no object.

    ``unclosed`` are places in the file of brackets that never close, from earlier calls: else each of many that open
    only would be followed to the end of the file.
    """
    opening = text.buffer[begin : begin + 1]
    form = None if opening == b"{" or (opening == b"[" and junk is _PLAIN_ELEMENT) else junk
    known = text.taken + begin in unclosed
    opened: list[int] = []
    end: int | None = None
    while not known:
        opened.clear()
        end = form.match(text.buffer, begin).end() if form else _end(text.buffer, begin, opened)  # type: ignore[union-attr]
        held = len(text.buffer)
        if text.ended or held - begin > sizes.LONGEST or (end is not None and end < held):
            break
        text.fill(begin + max(2 * (held - begin), READ))
    closed = not known and end is not None
    if not closed and not known:
        unclosed.clear()
        unclosed.update(text.taken + place for place in opened)
    if opening != b"{":
        return text.buffer[begin : end if closed else None], "is not a JSON object"
    if not closed:  # the next one may begin in a line of its own, as this one does
        indent = _LAST_LINE.split(text.buffer[max(begin - 1000, 0) : begin])[-1]
        again = re.compile(rb"[\r\n]" + re.escape(indent) + rb"\{").search(text.buffer, begin)
        end = again.start() if again else None
    raw = text.buffer[begin:end]
    if len(raw) > sizes.LONGEST:
        return raw, f"is longer than {sizes.LONGEST >> 20} MiB"
    return raw, None if closed else NEVER_CLOSES


def _end(buffer: bytes, begin: int, opened: list[int] | None = None) -> int | None:
    """Where the object or list that begins there ends; None where it does not, or is `ENDLESS`.

    ``opened`` gets the places of the brackets that are open then.
    """
    opened = [] if opened is None else opened
    for token in (_TOKEN_OF_LIST if buffer[begin] == 91 else _TOKEN).finditer(buffer, begin):
        if token[0] in (b"{", b"["):
            opened.append(token.start())
            if len(opened) > ENDLESS:
                return None
        elif token[0] in (b"}", b"]"):
            opened.pop()
            if not opened:
                return token.end()
        elif token[0] == b'"':  # of a text that has no end
            return None
    return None
