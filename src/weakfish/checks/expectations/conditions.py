"""Row-level expectations as Ibis expressions, by the name that Great Expectations gives to their metric.

Each condition means what the library's own means over pandas. What it means for types and arguments that are not
listed here is left to the library: `Unsure`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import reduce
from itertools import combinations
from operator import add, and_, eq, ge, gt, le, lt, or_
from typing import Any

import ibis
import ibis.expr.types as ir
import pyarrow as pa

from weakfish.checks.expectations.python_regex import search
from weakfish.checks.expectations.table import Unsure

EXACT = 2**53
"""Whole numbers below it are the same as doubles, which pandas makes of them where a column has nulls."""

_MOST_SUMMED = 7
"""Columns that are added in the order in which they stand; of more, NumPy adds in another."""

Arguments = Mapping[str, Any]

Verdict = tuple[ir.BooleanValue, ir.BooleanValue]
"""Whether the condition is about a row, and whether the row is bad."""


def family(kind: pa.DataType) -> str:
    """How pandas treats a type: as whole numbers, floats, texts, truth values, times, days, or otherwise."""
    tests = {
        "int": pa.types.is_integer,
        "float": lambda found: pa.types.is_float64(found) or pa.types.is_float32(found),
        "text": lambda found: pa.types.is_string(found) or pa.types.is_large_string(found),
        "bool": pa.types.is_boolean,
        "time": lambda found: pa.types.is_timestamp(found) and found.unit != "ns",  # which DuckDB cuts to microseconds
        "day": pa.types.is_date32,
    }
    return next((name for name, test in tests.items() if test(kind)), "other")


def condition_of(
    metric: str, domain: Arguments, arguments: Arguments, schema: pa.Schema
) -> Callable[[ir.Table], Verdict]:
    """The condition behind a metric of the library; raises `Unsure` when it is not surely known."""
    names = columns_of(domain)
    kinds = [schema.field(name).type for name in names]
    if "column" not in domain:
        holds, rule = _known(_OF_ROWS, metric)(kinds, arguments), domain.get("ignore_row_if")
        return lambda rows: _about(considered(rows, names, rule), holds([rows[name] for name in names]))
    (name,), (kind,) = names, kinds
    if metric == "column_values.nonnull":
        return lambda rows: (ibis.literal(True), rows[name].isnull())
    if metric == "column_values.null":
        return lambda rows: (ibis.literal(True), rows[name].notnull())
    good = _known(_OF_VALUES, metric)(kind, arguments)
    return lambda rows: _about(rows[name].notnull(), good(rows[name]))


def columns_of(domain: Arguments) -> list[str]:
    """The columns that a metric's domain names."""
    if domain.get("column"):
        return [str(domain["column"])]
    if domain.get("column_list"):
        return list(domain["column_list"])
    return [str(domain[name]) for name in ("column_A", "column_B") if domain.get(name)]


def considered(rows: ir.Table, names: Sequence[str], rule: str | None) -> ir.BooleanValue:
    """Which rows ``ignore_row_if`` leaves."""
    present = [rows[name].notnull() for name in names]
    if rule in ("both_values_are_missing", "all_values_are_missing"):
        return reduce(or_, present)
    if rule in ("either_value_is_missing", "any_value_is_missing"):
        return reduce(and_, present)
    if rule in ("neither", "never"):
        return ibis.literal(True)
    raise Unsure(f"ignore_row_if={rule!r}")


def _known(table: Mapping[str, Any], metric: str) -> Any:
    if metric not in table:
        raise Unsure(f"the metric {metric}")
    return table[metric]


def _about(about: ir.BooleanValue, good: ir.BooleanValue) -> Verdict:
    return about, about & ~good.fill_null(False)


def _need(found: bool, what: str) -> None:
    if not found:
        raise Unsure(what)


def _is_number(value: Any) -> bool:
    """Whether it is a number, and the same as a whole number and as a double."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < EXACT


def _number(value: Any, whole: bool) -> Any:
    """A column or a Python number as int64, or as a double without a sign of zero."""
    if not isinstance(value, ir.Value):
        return ibis.literal(value if whole else float(value), "int64" if whole else "float64")
    return value.cast("int64") if whole else value.cast("float64") + 0.0


# What must hold of the values of one column: a type and a metric's arguments give the expression of a good value.

Good = Callable[[Any], ir.BooleanValue]


def _between(kind: pa.DataType, arguments: Arguments) -> Good:
    low, high = arguments.get("min_value"), arguments.get("max_value")
    ends = [end for end in (low, high) if end is not None]
    of = family(kind)
    _need(bool(ends), "between without limits")
    _need(type(low) is type(high) or len(ends) == 1 or all(map(_is_number, ends)), "limits of two types")
    _need(len(ends) == 1 or low <= high, "limits in the wrong order")  # type: ignore[operator]
    _need(of in ("int", "float", "bool", "time"), f"between on {kind}")
    for end in ends:
        if of == "time":
            naive = isinstance(end, datetime) and end.tzinfo is None
            _need(isinstance(end, datetime) and naive == (kind.tz is None), f"a limit {end!r} on {kind}")
        else:
            _need(_is_number(end), f"a limit {end!r} on {kind}")
    whole = of != "float" and kind != pa.uint64() and all(isinstance(end, int) for end in ends)
    over, under = (gt if arguments.get("strict_min") else ge), (lt if arguments.get("strict_max") else le)

    def convert(value: Any) -> Any:
        if of != "time":
            return _number(value, whole)
        return value if isinstance(value, ir.Value) else ibis.literal(value, _time(kind))

    return lambda value: reduce(
        and_,
        [test(convert(value), convert(end)) for test, end in ((over, low), (under, high)) if end is not None],
    )


def _time(kind: pa.DataType) -> Any:
    return ibis.dtype(f"timestamp('{kind.tz}', 6)" if kind.tz else "timestamp(6)")


def _in_set(kind: pa.DataType, arguments: Arguments) -> Good:
    found = arguments.get("value_set")
    _need(isinstance(found, list | set | tuple), "no set")
    members, of = list(found or ()), family(kind)
    if of in ("int", "float"):
        _need(all(map(_is_number, members)), f"a set of other values on {kind}")
        whole = of == "int" and kind != pa.uint64() and all(isinstance(value, int) for value in members)
        listed = [_number(value + 0, whole) for value in members]
        return lambda value: _number(value, whole).isin(listed)
    type_ = {"text": str, "bool": bool}.get(of)
    _need(type_ is not None and all(type(value) is type_ for value in members), f"a set of other values on {kind}")
    _need(not any("\0" in value for value in members if type_ is str), "a text with a NUL")
    return lambda value: value.isin(members)


def _not(build: Callable[[pa.DataType, Arguments], Good]) -> Callable[[pa.DataType, Arguments], Good]:
    def negated(kind: pa.DataType, arguments: Arguments) -> Good:
        good = build(kind, arguments)
        return lambda value: ~good(value)

    return negated


def _length(kind: pa.DataType, arguments: Arguments) -> Good:
    _need(family(kind) == "text", f"lengths of {kind}")
    if "value" in arguments:
        arguments = {"min_value": arguments["value"], "max_value": arguments["value"]}
    good = _between(pa.int32(), arguments)
    return lambda value: good(value.length())


def _matches(kind: pa.DataType, arguments: Arguments) -> Good:
    listed = arguments.get("regex_list")
    patterns = [str(arguments.get("regex"))] if listed is None else [str(pattern) for pattern in listed]
    combine = {"any": or_, "all": and_}.get(arguments.get("match_on") or "any")
    if family(kind) != "text" or not patterns or combine is None:
        raise Unsure(f"patterns on {kind}")
    for pattern in patterns:
        try:
            re.compile(pattern)
        except re.error as error:
            raise Unsure(str(error)) from error
    return lambda value: reduce(combine, [search(value, pattern) for pattern in patterns])


_OF_VALUES = {
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

# What must hold between the columns of a row: their types and a metric's arguments give the expression of a good row.

Holds = Callable[[Sequence[Any]], ir.BooleanValue]


def _compared(test: Any, kinds: Sequence[pa.DataType]) -> Holds:
    of = {family(kind) for kind in kinds}
    numeric = of <= {"int", "float"}
    same = kinds[0] == kinds[1] and of <= {"text", "time", "bool"}
    _need(numeric or same, f"{kinds[0]} with {kinds[1]}")
    whole = of == {"int"} and pa.uint64() not in kinds
    return lambda values: test(*((_number(value, whole) for value in values) if numeric else values))


def _greater(kinds: Sequence[pa.DataType], arguments: Arguments) -> Holds:
    _need(pa.bool_() not in kinds, "an order of truth values")
    return _compared(ge if arguments.get("or_equal") else gt, kinds)


def _equal(kinds: Sequence[pa.DataType], _: Arguments) -> Holds:
    return _compared(eq, kinds)


def _pair_in_set(kinds: Sequence[pa.DataType], arguments: Arguments) -> Holds:
    pairs = [tuple(pair) for pair in arguments.get("value_pairs_set") or ()]
    _need(bool(pairs), "no pairs")
    for pair in pairs:
        for kind, value in zip(kinds, pair, strict=True):
            fits = {"int": _is_number(value), "float": _is_number(value), "text": type(value) is str}
            fits["bool"] = type(value) is bool
            _need(family(kind) in fits and (value is None or fits[family(kind)]), f"a pair with {value!r} on {kind}")

    def equal(value: Any, kind: pa.DataType, member: Any) -> ir.BooleanValue:
        if member is None:
            return value.isnull()
        if family(kind) in ("int", "float"):
            value, member = _number(value, False), _number(member, False)
        return (value == member).fill_null(False)

    return lambda values: reduce(or_, [reduce(and_, map(equal, values, kinds, pair)) for pair in pairs])


def _unlike_each_other(kinds: Sequence[pa.DataType], _: Arguments) -> Holds:
    of = {family(kind) for kind in kinds}
    _need(of <= {"int", "float"} or of == {"text"}, "columns of several types")

    def holds(values: Sequence[Any]) -> ir.BooleanValue:
        nulls = reduce(add, [value.isnull().cast("int8") for value in values])
        pairs = combinations(zip(values, kinds, strict=True), 2)
        same = [_compared(eq, [a[1], b[1]])([a[0], b[0]]).fill_null(False) for a, b in pairs]
        return (nulls < 2) & ~reduce(or_, same)

    return holds


def _sum_is(kinds: Sequence[pa.DataType], arguments: Arguments) -> Holds:
    total = arguments.get("sum_total")
    doubles = all(kind in (pa.float64(), pa.int64(), pa.int32()) for kind in kinds)
    _need(doubles and _is_number(total) and len(kinds) <= _MOST_SUMMED, "a sum of other columns")
    kind = "float64" if pa.float64() in kinds else "decimal(38, 0)"
    return lambda values: reduce(add, [value.cast(kind) for value in values]).cast("float64") == float(total)  # type: ignore[arg-type]


_OF_ROWS = {
    "column_pair_values.a_greater_than_b": _greater,
    "column_pair_values.equal": _equal,
    "column_pair_values.in_set": _pair_in_set,
    "select_column_values.unique.within_record": _unlike_each_other,
    "multicolumn_sum.equal": _sum_is,
}
