"""Metrics of a column that are one number, or a few: from facts of its partitions, as pandas has them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from weakfish.checks.expectations import facts, order, summaries, unique
from weakfish.checks.expectations.facts import Fact
from weakfish.checks.expectations.kinds import Unsure, family
from weakfish.checks.expectations.scan import total

Parts = Mapping[str, Fact]


@dataclass(frozen=True)
class Number:
    """A metric: the facts that it follows from, and how, given those of all partitions and the rows of the table.

    ``on_nothing`` says whether it has a value where the column has none.
    """

    spec: Any
    value: Callable[[Parts, int], Any]
    on_nothing: bool = False


def number(metric: str, column: str, kind: pa.DataType, arguments: Mapping[str, Any]) -> Number:
    """The metric of this name; raises `Unsure` when it is not known for such columns."""
    of = family(kind)
    if metric == "column.non_null_proportion":
        nulls = facts.Nulls(column)
        return Number(nulls, lambda parts, rows: _share(rows - _nulls(parts), rows), on_nothing=True)
    if metric in ("column.distinct_values.count", "column.unique_proportion") and of != "other":
        hashes = facts.Hashes((column,), "any_value_is_missing")
        if metric == "column.distinct_values.count":
            return Number(hashes, lambda parts, _: unique.distinct(parts), on_nothing=True)
        return Number(hashes, lambda parts, rows: _share(unique.distinct(parts), rows - _nulls(parts)), on_nothing=True)
    if kind in (pa.float64(), pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32()):
        if metric in _MOMENTS:
            moments = summaries.Moments(column)
            return Number(moments, lambda parts, _: _MOMENTS[metric](total(moments, parts), of == "int"))
        if metric in ("column.median", "column.quantile_values"):
            shares = [0.5] if metric == "column.median" else list(arguments["quantiles"])
            method = "linear" if metric == "column.median" else arguments.get("allow_relative_error") or "nearest"
            return Number(summaries.Sorted(column), _ranked(shares, method, single=metric == "column.median"))
    if kind == pa.bool_() and metric in ("column.mean", "column.sum"):
        return Number(summaries.Moments(column), _of_truth(metric, column))
    raise Unsure(f"the metric {metric} of {kind}")


def _of_truth(metric: str, column: str) -> Callable[[Parts, int], Any]:
    def value(parts: Parts, _: int) -> Any:
        if _nulls(parts):
            raise Unsure(f"{metric} of truth values beside nulls")  # to pandas they are objects
        return _MOMENTS[metric](total(summaries.Moments(column), parts), True)

    return value


def _ranked(shares: list[float], method: Any, single: bool) -> Callable[[Parts, int], Any]:
    if not all(isinstance(share, int | float) and 0 <= share <= 1 for share in shares):
        raise Unsure(f"quantiles {shares}")

    def value(parts: Parts, _: int) -> Any:
        arrays = [fact.array for fact in parts.values() if fact.array is not None]
        found = [order.quantile(arrays, share, method) for share in shares]
        if single or _nulls(parts):
            found = [float(one) for one in found]  # pandas holds whole numbers beside nulls as floats
        return found[0] if single else found

    return value


def _mean(fact: Fact, _: bool) -> float:
    return float(fact.numbers["sum"] / fact.numbers["count"])


def _sum(fact: Fact, whole: bool) -> float | int:
    found: float | int = fact.numbers["sum"]
    if whole and abs(found) >= 2**63:
        raise Unsure("a sum beyond 64 bits")
    return int(found) if whole and not fact.numbers["nulls"] else float(found)


def _deviation(fact: Fact, _: bool) -> float:
    count = fact.numbers["count"]
    return math.sqrt(fact.numbers["squares"] / (count - 1)) if count > 1 else math.nan


_MOMENTS = {"column.mean": _mean, "column.sum": _sum, "column.standard_deviation": _deviation}


def _share(part: int, whole: int) -> float | int:
    return part / whole if whole else 0


def _nulls(parts: Parts) -> int:
    found = [fact.sure().numbers["nulls"] for fact in parts.values()]
    return sum(one[0] if isinstance(one, list) else one for one in found)
