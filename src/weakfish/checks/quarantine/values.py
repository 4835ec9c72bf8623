"""Values that a patch sets: from YAML, or from the command line, into a scalar of the column's own type."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

import pyarrow as pa
import yaml

NULL = "null"
"""What stands for no value on the command line, whatever the column's type."""


def typed(value: Any, kind: pa.DataType) -> pa.Scalar:
    """``value``, as YAML gives it, as a scalar of type ``kind``; nothing is converted that would lose or guess.

    Raises
    ------
    ValueError
        When it does not fit; the message says what fits, and never the value.
    """
    if value is None:
        return pa.scalar(None, kind)
    if pa.types.is_dictionary(kind):
        return pa.scalar(typed(value, kind.value_type).as_py(), kind)
    fits, convert, wanted = _rule(kind)
    if not fits(value):
        raise ValueError(f"must be {wanted}, or null; the column is {kind}")
    try:
        return pa.scalar(convert(value), kind)
    except (pa.ArrowException, OverflowError, TypeError, ValueError, InvalidOperation) as error:
        raise ValueError(f"must be {wanted}, or null; the column is {kind}") from error


def from_text(text: str, kind: pa.DataType) -> Any:
    """What ``text``, as typed on the command line, says in YAML, for a column of type ``kind``."""
    if text == NULL:
        return None
    if _is_text(kind) or pa.types.is_temporal(kind):
        return text
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def as_yaml(value: pa.Scalar) -> Any:
    """A typed value in the form that a patch file holds: times in ISO form, UTC."""
    plain = value.as_py()
    if isinstance(plain, datetime):
        return plain.astimezone(UTC).isoformat().replace("+00:00", "Z") if plain.tzinfo else plain.isoformat() + "Z"
    return plain.isoformat() if isinstance(plain, date) else str(plain) if isinstance(plain, Decimal) else plain


_Rule = tuple[Callable[[Any], bool], Callable[[Any], Any], str]


def _rule(kind: pa.DataType) -> _Rule:
    """What fits a type, how it is converted, and how people are told."""
    if pa.types.is_timestamp(kind):
        return _is(str, datetime), _time, "a time with its zone, such as 2024-01-31T09:30:00Z"
    if pa.types.is_date(kind):
        return _is(str, date), _date, "a date, such as 2024-01-31"
    if pa.types.is_boolean(kind):
        return _is(bool), _as_it_is, "true or false"
    if pa.types.is_integer(kind):
        return _is(int), _as_it_is, "a whole number that the type can hold"
    if pa.types.is_floating(kind):
        return _is_finite, float, "a number"
    if pa.types.is_decimal(kind):
        return _is(int, float, str), lambda value: Decimal(str(value)), "a number that the type can hold"
    if _is_text(kind):
        return _is(str), _as_it_is, "text (in quotes, if it looks like a number)"
    return lambda value: True, _as_it_is, "a value that the type can hold"


def _is(*kinds: type) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, kinds) and (bool in kinds or not isinstance(value, bool))


def _is_finite(value: Any) -> bool:
    return _is(int, float)(value) and math.isfinite(value)


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _as_it_is(value: Any) -> Any:
    return value


def _time(value: str | datetime) -> datetime:
    time = datetime.fromisoformat(value) if isinstance(value, str) else value
    if time.tzinfo is None:
        raise ValueError("no zone")
    return time.astimezone(UTC)


def _date(value: str | date) -> date:
    if isinstance(value, datetime):
        raise ValueError("a time")
    return date.fromisoformat(value) if isinstance(value, str) else value
