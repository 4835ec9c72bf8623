"""Values of data as source text: Python as `ruff format` would write it, YAML on one line; whatever they hold."""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterable, Mapping
from typing import Any

import yaml

from weakfish.rules.rule import literal

WIDTH = 120
"""Of a line of code."""


def listed(values: Iterable[Any], indent: int = 0, brackets: str = "[]") -> str:
    """A list (or a tuple) with an item per line, as a formatter leaves it; ``indent`` is that of its first line."""
    values = list(values)
    if brackets == "()" and len(values) == 1:  # the one comma that a formatter takes to be no wish for lines
        return f"({literal(values[0])},)"
    items = "".join(f"{' ' * (indent + 4)}{literal(value)},\n" for value in values)
    return f"{brackets[0]}\n{items}{' ' * indent}{brackets[1]}" if items else brackets


def flow(values: Iterable[Any]) -> str:
    """A short list on one line."""
    return f"[{', '.join(map(literal, values))}]"


def yaml_value(value: Any) -> str:
    """A value on one line of YAML; texts that YAML would read as something else are quoted."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{yaml_value(name)}: {yaml_value(each)}" for name, each in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(yaml_value, value)) + "]"
    if isinstance(value, str) and not value.isprintable():  # line breaks of any kind, which other styles would fold
        return _dumped(value, default_style='"').removesuffix("\n")
    return _dumped([value], default_flow_style=True).removesuffix("\n")[1:-1]  # as it may stand in a list


def _dumped(value: Any, **style: Any) -> str:
    dumped: str = yaml.safe_dump(value, allow_unicode=True, width=float("inf"), **style)
    return dumped


def yaml_block(value: Mapping[str, Any], indent: int) -> str:
    """A mapping, and the mappings in it, as lines of YAML; lists stay on one."""
    lines = []
    for name, each in value.items():
        nested = isinstance(each, Mapping) and bool(each)
        start = " " * indent + f"{yaml_value(name)}:"
        lines += [start, yaml_block(each, indent + 2)] if nested else [f"{start} {yaml_value(each)}"]
    return "\n".join(lines)


def slug(text: str, otherwise: str = "value") -> str:
    """Small ASCII letters, digits and underscores, a letter first, of a text; for names in code."""
    plain = re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")[:40].rstrip("_")
    if not plain:
        return otherwise
    return plain if plain[0].isalpha() and not keyword.iskeyword(plain) else f"{otherwise}_{plain}"


def unused(name: str, taken: set[str]) -> str:
    """The name, with a number where it is taken; it is taken from then on."""
    number, found = 1, name
    while found in taken:
        number += 1
        found = f"{name}_{number}"
    taken.add(found)
    return found


def counted(number: int, what: str) -> str:
    """How many there are of something, in words: `1 row`, `20,000 rows`."""
    return f"{number:,} {what}{'s' * (number != 1)}"
