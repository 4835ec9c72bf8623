"""Row-level expectations on Arrow columns: a metric's name and arguments in, two masks per batch out.

Each condition means what the library's condition of the same name means over pandas. What it means for types or
arguments that are not listed here is left to the library: `Unsure`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from weakfish.checks.expectations.kinds import Unsure, family
from weakfish.checks.expectations.of_rows import OF_ROWS
from weakfish.checks.expectations.of_values import OF_VALUES
from weakfish.checks.expectations.source import Batch, Mask


@dataclass(frozen=True)
class Verdicts:
    """Of a batch's rows: which the condition is about, and which of those are bad."""

    considered: Mask
    bad: Mask


Condition = Callable[[Batch], Verdicts]


def condition_of(metric: str, domain: Mapping[str, Any], arguments: Mapping[str, Any], schema: pa.Schema) -> Condition:
    """The condition behind a metric of the library; raises `Unsure` when it is not surely known."""
    kinds = {name: family(schema.field(name).type) for name in columns_of(domain)}
    if "column" in domain:
        column, of = domain["column"], kinds[domain["column"]]
        if metric == "column_values.nonnull":
            return lambda batch: Verdicts(np.ones(batch.rows, np.bool_), ~batch.present(column))
        if metric == "column_values.null":
            return lambda batch: Verdicts(np.ones(batch.rows, np.bool_), batch.present(column))
        good = _known(OF_VALUES, metric)(of, schema.field(column).type, arguments)
        return lambda batch: _about(batch.present(column), good(batch.column(column)))
    build = _known(OF_ROWS, metric)
    names = columns_of(domain)
    holds = build(names, [kinds[name] for name in names], schema, arguments)
    rule = domain.get("ignore_row_if")
    return lambda batch: _about(considered(batch, names, rule), holds(batch))


def columns_of(domain: Mapping[str, Any]) -> list[str]:
    """The columns that a metric's domain names."""
    if domain.get("column"):
        return [str(domain["column"])]
    if domain.get("column_list"):
        return list(domain["column_list"])
    return [str(domain[name]) for name in ("column_A", "column_B") if domain.get(name)]


def considered(batch: Batch, names: Sequence[str], rule: str | None) -> Mask:
    """The rows that ``ignore_row_if`` leaves."""
    present = np.stack([batch.present(name) for name in names])
    if rule in ("both_values_are_missing", "all_values_are_missing"):
        return np.asarray(present.any(axis=0))
    if rule in ("either_value_is_missing", "any_value_is_missing"):
        return np.asarray(present.all(axis=0))
    if rule in ("neither", "never"):
        return np.ones(batch.rows, np.bool_)
    raise Unsure(f"ignore_row_if={rule!r}")


def _known(table: Mapping[str, Any], metric: str) -> Any:
    if metric not in table:
        raise Unsure(f"the metric {metric}")
    return table[metric]


def _about(rows: Mask, good: Mask) -> Verdicts:
    return Verdicts(rows, rows & ~good)
