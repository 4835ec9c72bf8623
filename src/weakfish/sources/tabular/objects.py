"""A line of JSON Lines as keys and values: values as text, numbers as they stand there; the exact way of `lines`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

DEEPEST = 200
"""How deep brackets may be nested: the libraries call themselves for each, until the stack ends."""


class NoObject(Exception):
    """A line that is no row, and why."""


class _Object(list[tuple[str, Any]]):
    """An object as its pairs: a key may stand there twice."""


class _Number(str):
    """A number as it stands there."""


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


def halves(row: dict[str, str | None]) -> Iterator[tuple[str, str, bytes]]:
    """Make null, and tell of, texts that cannot be UTF-8: JSON can escape half of a surrogate pair."""
    for column, value in row.items():
        if value is not None and not value.isascii():
            try:
                value.encode("utf-8")
            except UnicodeEncodeError:
                row[column] = None
                yield column, "holds half of a surrogate pair", value.encode("utf-8", "backslashreplace")


def _depth(text: str) -> int:
    """How deep brackets are nested, those in strings counted too."""
    deepest = depth = 0
    for character in text:
        if character in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif character in "]}":
            depth -= 1
    return deepest


def pairs(line: bytes) -> Iterator[tuple[str, str | None]]:
    """Keys and values of the object in a line, in order, a key as often as it stands there; raises `NoObject`."""
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError:
        raise NoObject("is not UTF-8") from None
    if text.count("[") + text.count("{") >= DEEPEST and _depth(text) > DEEPEST:
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
