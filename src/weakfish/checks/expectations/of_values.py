"""What must hold of the values of one column: a metric's arguments in, a mask of the good values out."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from weakfish.checks.expectations.kinds import Unsure, is_number, need, numbers
from weakfish.checks.expectations.patterns import search
from weakfish.checks.expectations.source import Mask, as_mask

Good = Callable[[pa.Array], Mask]
"""Which values are good; of a null it may say either."""


def _between(of: str, kind: pa.DataType, arguments: Mapping[str, Any]) -> Good:
    low, high = arguments.get("min_value"), arguments.get("max_value")
    ends = [end for end in (low, high) if end is not None]
    need(bool(ends), "between without limits")
    need(type(low) is type(high) or len(ends) == 1 or all(map(is_number, ends)), "limits of two types")
    need(len(ends) == 1 or low <= high, "limits in the wrong order")  # type: ignore[operator]
    convert = {"int": _as_number, "float": _as_number, "bool": _as_number, "time": _as_time}
    need(of in convert, f"between on {kind}")
    edges = [None if end is None else convert[of](end, kind) for end in (low, high)]
    whole = of == "int" and kind != pa.uint64() and all(isinstance(end, int) for end in ends)
    over = pc.greater if arguments.get("strict_min") else pc.greater_equal
    under = pc.less if arguments.get("strict_max") else pc.less_equal

    def good(values: pa.Array) -> Mask:
        if of in ("int", "float", "bool"):
            values = numbers(values, whole or of == "bool")
        found = np.ones(len(values), np.bool_)
        for edge, test in zip(edges, (over, under), strict=True):
            if edge is not None:
                found = found & as_mask(test(values, edge))
        return found

    return good


def _as_number(value: Any, kind: pa.DataType) -> pa.Scalar:
    need(is_number(value), f"a limit {value!r} on {kind}")
    return pa.scalar(value)


def _as_time(value: Any, kind: pa.DataType) -> pa.Scalar:
    need(isinstance(value, datetime) and (value.tzinfo is None) == (kind.tz is None), f"a limit {value!r} on {kind}")
    try:
        return pa.scalar(value, pa.timestamp("ns" if kind.unit == "ns" else "us", kind.tz))
    except (pa.ArrowInvalid, OverflowError) as error:
        raise Unsure(str(error)) from error


def _in_set(of: str, kind: pa.DataType, arguments: Mapping[str, Any]) -> Good:
    found = arguments.get("value_set")
    need(isinstance(found, list | set | tuple), "no set")
    members = list(found or ())
    if of in ("int", "float"):
        need(all(map(is_number, members)), f"a set of other values on {kind}")
        whole = of == "int" and kind != pa.uint64() and all(isinstance(value, int) for value in members)
        listed = pa.array([value + 0 if whole else float(value) + 0.0 for value in members])
        listed = listed.cast(pa.int64() if whole else pa.float64())
        return lambda values: as_mask(pc.is_in(_unsigned_zero(numbers(values, whole)), value_set=listed))
    type_ = {"text": str, "bool": bool}.get(of)
    need(type_ is not None and all(type(value) is type_ for value in members), f"a set of other values on {kind}")
    texts = pa.array(members, kind)
    return lambda values: as_mask(pc.is_in(values, value_set=texts))


def _unsigned_zero(values: pa.Array) -> pa.Array:
    return pc.add(values, 0.0) if pa.types.is_floating(values.type) else values


def _not(build: Callable[..., Good]) -> Callable[..., Good]:
    def negated(of: str, kind: pa.DataType, arguments: Mapping[str, Any]) -> Good:
        good = build(of, kind, arguments)
        return lambda values: ~good(values)

    return negated


def _length(of: str, kind: pa.DataType, arguments: Mapping[str, Any]) -> Good:
    need(of == "text", f"lengths of {kind}")
    if "value" in arguments:
        arguments = {"min_value": arguments["value"], "max_value": arguments["value"]}
    good = _between("int", pa.int32(), arguments)
    return lambda values: good(pc.utf8_length(values))


def _matches(of: str, kind: pa.DataType, arguments: Mapping[str, Any]) -> Good:
    listed = arguments.get("regex_list")
    patterns = [str(arguments.get("regex"))] if listed is None else [str(pattern) for pattern in listed]
    combine = {"any": np.logical_or, "all": np.logical_and}.get(arguments.get("match_on") or "any")
    need(of == "text" and bool(patterns) and combine is not None, f"patterns on {kind}")
    for pattern in patterns:
        try:
            re.compile(pattern)
        except re.error as error:
            raise Unsure(str(error)) from error
    return lambda values: combine.reduce([search(values, pattern) for pattern in patterns])  # type: ignore[union-attr]


OF_VALUES = {
    "column_values.between": _between,
    "column_values.in_set": _in_set,
    "column_values.not_in_set": _not(_in_set),
    "column_values.value_length.between": _length,
    "column_values.value_length.equals": _length,
    "column_values.match_regex": _matches,
    "column_values.not_match_regex": _not(_matches),
    "column_values.match_regex_list": _matches,
    "column_values.not_match_regex_list": _not(_matches),
}
