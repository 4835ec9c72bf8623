"""`range(column)`: rows whose numbers lie outside the extremes that were accepted, named by their keys."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from weakfish.checks.change.column import Column
from weakfish.checks.change.compare import Comparison, percent, rounded
from weakfish.checks.check import Check, Rows, Severity, judged
from weakfish.tables import read_partition

WHY = "Nothing was fitted or reviewed on such values: what rules and models do there is a guess."


def outside(against: Comparison, column: str, files: Mapping[str, Path], severity: Severity) -> Check | None:
    """Count the rows outside of the accepted extremes of a column of numbers; None where it is none.

    Only partitions whose own extremes lie outside are read.
    """
    before, limit = against.accepted.columns[column], against.limits.out_of_range
    sides = against.sides(column)
    if before.kind != "number" or before.low is None or before.high is None or not sides:
        return None
    low, high = before.low, before.high
    parts = against.by_partition(column)
    beyond = [name for name, part in parts.items() if _is_beyond(part, low, high)]
    rows = {name: _rows(files[name], column, low, high) for name in beyond}
    counts = [(sum(len(rows[name]) for name in w.partitions if name in rows), now.rows, w) for w, now, _ in sides]
    bad, total, window = max(counts, key=lambda side: side[0] / side[1])
    return Check(
        check=f"range({column})",
        expectation="range",
        severity=severity,
        why=WHY,
        status=judged(severity, bad <= limit * total),
        kind="change",
        against_baseline=True,
        found=f"{bad:,} of {total:,} rows in the {window.name} have {column} outside of {low:g} to {high:g}.",
        arguments={"column": column, "compared": window.name, "min_value": low, "max_value": high},
        unexpected=bad,
        unexpected_share=rounded(bad / total),
        threshold=limit,
        detects=f"Any share of rows above {percent(limit)}.",
        by_partition={name: rounded(len(of) / parts[name].rows) for name, of in rows.items()},
        rows={name: of for name, of in rows.items() if len(of) and name in window.partitions},
    )


def _is_beyond(part: Column, low: float, high: float) -> bool:
    return (part.low is not None and part.low < low) or (part.high is not None and part.high > high)


def _rows(file: Path, column: str, low: float, high: float) -> Rows:
    values = read_partition(file, [column])[column].combine_chunks()
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    numbers = pc.cast(values, pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    return np.flatnonzero(np.isfinite(numbers) & ((numbers < low) | (numbers > high))).astype(np.int64)
