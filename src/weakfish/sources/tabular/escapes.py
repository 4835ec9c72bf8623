"""Backslash escapes, as MySQL and PostgreSQL write them: hidden from the reader of CSV, and undone in its values."""

from __future__ import annotations

import re

import pyarrow as pa
import pyarrow.compute as pc

ESCAPE = "\\"
NULL = "\\N"

_HIDDEN = dict(zip(b"\"',;\t| \r\n", range(0x0E, 0x17), strict=True))
"""What may delimit, quote or end a line, and the control character that stands behind a backslash instead of it."""

LINE_END = bytes([0x5C, _HIDDEN[10]])
"""An escaped line end, hidden."""

_PAIR = re.compile(rb"\\(?:\\|([\"',;\t| \r\n]))")
_BEHIND = re.compile(r"\\(.)", re.DOTALL)
_MEANING = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "Z": "\x1a", "0": "\0", '"': '"', "'": "'", "\\": "\\"}
_MEANING |= {chr(code): chr(character) for character, code in _HIDDEN.items()}
_WRITTEN = re.compile(rb"\\[^ntrbZ0N\"'\\,;\t| \r\n]")


class EscapeMask:
    """Hides what is escaped, in a text that comes in parts; its length stays."""

    def __init__(self) -> None:
        self._held = b""

    def hide(self, part: bytes, *, last: bool) -> bytes:
        """The next part; a backslash at its end waits for what follows."""
        part = self._held + part
        odd = (len(part) - len(part.rstrip(b"\\"))) % 2
        self._held = part[len(part) - odd :] if not last else b""
        return _PAIR.sub(_hide, part[: len(part) - len(self._held)])


def _hide(found: re.Match[bytes]) -> bytes:
    return found[0] if found[1] is None else bytes([0x5C, _HIDDEN[found[1][0]]])


def undone(values: pa.Array) -> pa.Array:
    """Texts as they were before they were escaped; a backslash and N alone is null."""
    if not pc.any(pc.match_substring(values, ESCAPE), min_count=0).as_py():
        return values
    return pa.array(
        [
            None if value is None or value == NULL else _BEHIND.sub(lambda pair: _MEANING.get(pair[1], pair[0]), value)
            for value in values.to_pylist()
        ],
        pa.string(),
    )


def is_escaped(text: bytes, delimiter: str) -> bool:
    r"""Whether some field is ``\N``, or a quote or a line end stands behind a backslash, and all backslashes escape."""
    mark = re.escape(delimiter.encode())
    null = rb"(?:^|[\r\n]|" + mark + rb")\\N(?=" + mark + rb"|[\r\n]|\Z)"
    text = text.replace(b"\\\\", b"")
    signs = null + rb"|\\\"(?!" + mark + rb"|[\r\n]|\Z)|\\\r?\n"
    return re.search(signs, text) is not None and _WRITTEN.search(text) is None
