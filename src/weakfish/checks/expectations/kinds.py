"""How pandas treats Arrow's types, and what the engine does not surely know of them."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

EXACT = 2**53
"""Whole numbers below it are the same as doubles, which pandas makes of them where a column has nulls."""


class Unsure(Exception):
    """The engine does not surely say what the library would; the library is asked, over pandas."""


def family(kind: pa.DataType) -> str:
    """How pandas treats a type: as whole numbers, floats, texts, truth values, times, days, or otherwise."""
    tests = {
        "int": pa.types.is_integer,
        "float": lambda found: pa.types.is_float64(found) or pa.types.is_float32(found),
        "text": lambda found: pa.types.is_string(found) or pa.types.is_large_string(found),
        "bool": pa.types.is_boolean,
        "time": pa.types.is_timestamp,
        "day": pa.types.is_date32,
    }
    return next((name for name, test in tests.items() if test(kind)), "other")


def need(found: bool, what: str) -> None:
    """Raise `Unsure`, about ``what``, unless ``found``."""
    if not found:
        raise Unsure(what)


def is_number(value: Any) -> bool:
    """Whether it is a number, and the same as a whole number and as a double."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < EXACT


def numbers(values: pa.Array, whole: bool) -> pa.Array:
    """The values as int64, or as doubles."""
    if pa.types.is_boolean(values.type):
        values = values.cast(pa.int8())
    return values.cast(pa.int64() if whole else pa.float64(), safe=False)
