"""Bad rows, counted and located, as the metrics that the library judges row-level expectations by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from weakfish.checks.expectations.facts import Fact
from weakfish.checks.expectations.source import Source
from weakfish.checks.gx import EXAMPLES
from weakfish.contracts.verdicts import Rows


def counted(
    source: Source,
    metric: str,
    columns: Sequence[str],
    parts: Mapping[str, Fact],
    rows: Mapping[str, Rows],
    examples: Sequence[Fact],
) -> dict[str, Any]:
    """Values of all metrics that a row-level expectation may need.

    ``parts`` say how many values are missing in each of ``columns`` and how many rows the expectation is about,
    ``rows`` are the bad ones by partition, ``examples`` hold the values of the first.
    """
    nulls = [sum(fact.numbers["nulls"][place] for fact in parts.values()) for place in range(len(columns))]
    first = [(found[:EXAMPLES] + source.starts[part]).tolist() for part, found in rows.items()]
    values = _examples([source.schema.field(name).type for name in columns], nulls, examples)
    if metric.startswith("column_values"):
        shown: list[Any] = [value for (value,) in values]
    elif metric.startswith("column_pair"):
        shown = values
    else:
        shown = [dict(zip(columns, row, strict=True)) for row in values]
    bad = sum(map(len, rows.values()))
    return {
        "table.row_count": source.rows,
        "column_values.nonnull.unexpected_count": nulls[0],
        f"{metric}.filtered_row_count": sum(fact.numbers["considered"] for fact in parts.values()),
        f"{metric}.unexpected_count": bad,
        f"{metric}.unexpected_values": shown[:bad],
        f"{metric}.unexpected_index_list": [row for of in first for row in of][:EXAMPLES],
        f"{metric}.unexpected_index_query": None,
    }


def _examples(kinds: Sequence[pa.DataType], nulls: Sequence[int], found: Sequence[Fact]) -> list[tuple[Any, ...]]:
    """The values of the first bad rows, as the library has them of pandas."""
    tables = [fact.table for fact in found if fact.table is not None and fact.table.num_rows]
    if not tables:
        return []
    rows = pa.concat_tables(tables).slice(0, EXAMPLES)
    series = []
    for place, (kind, missing) in enumerate(zip(kinds, nulls, strict=True)):
        chunks = [chunk.cast(kind) for chunk in rows.column(place).chunks]
        chunks += [pa.nulls(1, kind)] if missing else []  # what pandas makes of a column with nulls
        series.append(list(pa.chunked_array(chunks, kind).to_pandas()[: rows.num_rows]))
    return list(zip(*series, strict=True))
