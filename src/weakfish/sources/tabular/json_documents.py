"""Where the objects of a JSON file are that has not one in each line: elements of an array, or printed over lines."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import NamedTuple

from weakfish.sources.tabular import pieces as sizes
from weakfish.sources.tabular.raw_files import READ, Text, count_ends, count_lines

_TOKEN = re.compile(rb'"(?:[^"\\\r\n]|\\.)*+"|["{}]')
_BEGIN = re.compile(rb"[^\s,\[\]]")
_JUNK = re.compile(rb"[^{\r\n]*")


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
    while True:
        if place > sizes.BLOCK:
            text.take(place, line)
            place = line = 0
        found = _BEGIN.search(text.buffer, place)
        begin = found.start() if found else len(text.buffer)
        if found is None and not text.ended:
            text.fill(begin + READ)
            continue
        line += count_ends(text.buffer[place:begin])
        if found is None:
            text.take(begin, count_lines(text.buffer))
            return
        raw, problem = _document(text, begin)
        yield Document(text.line + line, raw, problem)
        line += count_ends(raw)
        place = begin + len(raw)


def _document(text: Text, begin: int) -> tuple[bytes, str | None]:
    """What begins there, as far as it reaches, and what is wrong with it."""
    form = _JUNK if text.buffer[begin] != 123 else None
    while True:
        end = form.match(text.buffer, begin).end() if form else _end(text.buffer, begin)  # type: ignore[union-attr]
        held = len(text.buffer)
        if text.ended or held - begin > sizes.LONGEST or (end is not None and end < held):
            break
        text.fill(begin + max(2 * (held - begin), READ))
    raw = text.buffer[begin:end]
    if form:
        return raw, "is not a JSON object"
    if end is None:  # the next one may begin in a line of its own, as this one does
        indent = re.search(rb"[^\r\n]*\Z", text.buffer[:begin])
        again = re.search(rb"[\r\n]+" + re.escape(indent[0] if indent else b"") + rb"\{", raw)
        raw = raw[: again.start()] if again else raw
    if len(raw) > sizes.LONGEST:
        return raw, f"is longer than {sizes.LONGEST >> 20} MiB"
    return raw, None if end is not None else "has a bracket or a quote that never closes"


def _end(buffer: bytes, begin: int) -> int | None:
    """Where the object that begins there ends; None where it does not."""
    depth = 0
    for token in _TOKEN.finditer(buffer, begin):
        if token[0] == b"{":
            depth += 1
        elif token[0] == b"}":
            depth -= 1
            if not depth:
                return token.end()
        elif token[0] == b'"':  # of a text that has no end
            return None
    return None
