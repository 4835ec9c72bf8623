"""The staged events of the validation figures: `prepare` makes them of a corpus, some rows of which it spoils.

Twelve months of amplified events (`benchmarks.amplify`), a small partition of rows without a time as the demo has one,
and one of the months again with other rows, come out as Parquet.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from benchmarks.amplify import KEY, TIME, Month, amplify, write_month

MONTHS = 12
CHANGED = 6
"""Which month changes: the seventh."""

UNDATED = "undated"
UNDATED_SHARE = 2000
"""One row of so many stands in the partition of rows without a time."""

SPOILED = {"sender": "someone@example.org", "size_bytes": 0, "n_hops": 99}
"""Values that the suite does not allow; a row of the corpus gets each, and all rows amplified from it inherit them."""


def prepare(corpus: str, work: str, rows: int) -> dict[str, Any]:
    """Write ``staged/`` and ``changed/`` below ``work``; return the amplifier's summary."""
    spoiled, staged, changed = (str(Path(work) / name) for name in ("corpus", "staged", "changed"))
    for folder in (spoiled, changed):
        Path(folder).mkdir()
    pq.write_table(_spoiled(ds.dataset(corpus, format="parquet").to_table()), Path(spoiled) / "all.parquet")
    summary = amplify(spoiled, staged, rows, MONTHS)
    write_month(Month(spoiled, changed, CHANGED, rows // MONTHS * CHANGED, rows // MONTHS, seed=2))
    first = min(Path(staged).glob("*.parquet"))
    _write_undated(first, max(12, rows // UNDATED_SHARE), Path(staged) / f"{UNDATED}.parquet")
    return summary


def _spoiled(events: pa.Table) -> pa.Table:
    for row, (name, value) in enumerate(SPOILED.items()):
        place = events.schema.get_field_index(name)
        values = events[name].combine_chunks()
        new = pa.concat_arrays([values.slice(0, row), pa.array([value], values.type), values.slice(row + 1)])
        events = events.set_column(place, events.schema.field(name), new)
    return events


def _write_undated(source: Path, rows: int, to: Path) -> None:
    """Rows of another partition without a time: a third under the same key, a third under none, a third under a new."""
    batch = next(pq.ParquetFile(source).iter_batches(rows))
    keys = np.array(batch[KEY].to_pylist(), object)
    third = len(keys) // 3
    keys[:third] = None
    keys[third : 2 * third] = [key[::-1] for key in keys[third : 2 * third]]
    table = pa.Table.from_batches([batch])
    for name, values in (
        (KEY, pa.array(keys, pa.string())),
        (TIME, pa.nulls(len(keys), table.schema.field(TIME).type)),
    ):
        table = table.set_column(table.schema.get_field_index(name), table.schema.field(name), values)
    pq.write_table(table, to, compression="zstd")
