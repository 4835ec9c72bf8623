"""The labels of one partition: votes and a chosen model in, ``data/labels/<task>/<partition>.parquet`` out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from weakfish.labeling.matrix import LabelMatrix
from weakfish.labeling.modeling.choice import Chosen
from weakfish.labeling.modeling.model import batches, covered, majority
from weakfish.labeling.modeling.patterns import Patterns
from weakfish.labeling.modeling.ties import decide
from weakfish.tables import TIME


@dataclass(frozen=True)
class Columns:
    """How the columns of labels are named: the events' key and time, and the task's classes."""

    key: str
    time: str
    classes: list[str]


def write_labels(file: Path, matrix: LabelMatrix, chosen: Chosen, seed: int, names: Columns) -> dict[str, Any]:
    """Write the labels of a partition batch by batch; the same votes and model give the same bytes.

    Returns
    -------
    dict
        ``rows``, ``covered``, and ``mean``: the mean probability of each class over covered rows, None without any.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    rows, total = 0, np.zeros(len(names.classes))
    writer: pq.ParquetWriter | None = None
    for place, patterns in batches(matrix.votes):
        table, sums = _labels(place, patterns, matrix, chosen, seed, names)
        writer = writer or _writer(file, table.schema, names)
        writer.write_table(table)
        rows, total = rows + int(patterns.counts[covered(patterns.votes)].sum()), total + sums
    if writer is None:
        empty = Patterns(matrix.votes, np.zeros(0, np.int64), np.zeros(0, np.int64))
        table, _ = _labels(slice(0, 0), empty, matrix, chosen, seed, names)
        writer = _writer(file, table.schema, names)
        writer.write_table(table)
    writer.close()
    mean = {name: float(value / rows) if rows else None for name, value in zip(names.classes, total, strict=True)}
    return {"rows": len(matrix.votes), "covered": rows, "mean": mean}


def _writer(file: Path, schema: pa.Schema, names: Columns) -> pq.ParquetWriter:
    """Few distinct values but for keys and times, for which a dictionary or statistics would be made in vain."""
    return pq.ParquetWriter(
        file,
        schema,
        compression={name: "lz4" if name == names.key else "zstd" for name in schema.names},
        compression_level={name: 1 for name in schema.names if name != names.key},
        use_dictionary=[name for name in schema.names if name not in (names.key, names.time)],
        column_encoding={names.time: "DELTA_BINARY_PACKED"},
        write_statistics=[names.key, names.time],
        write_page_checksum=True,
    )


def _labels(
    place: slice, patterns: Patterns, matrix: LabelMatrix, chosen: Chosen, seed: int, names: Columns
) -> tuple[pa.Table, np.ndarray]:
    """The labels of a batch, and the sums of the probabilities of covered rows."""
    keys, times = (column.slice(place.start, place.stop - place.start) for column in (matrix.keys, matrix.times))
    posterior, most = chosen.probabilities(patterns.votes), majority(patterns.votes, len(names.classes))
    seen = covered(patterns.votes)
    rows = pa.array(patterns.inverse)
    columns = {names.key: keys, names.time: times.cast(TIME)}
    columns |= {f"p_{name}": _spread(posterior[:, number], rows) for number, name in enumerate(names.classes)}
    columns |= {f"majority_{name}": _spread(most[:, number], rows) for number, name in enumerate(names.classes)}
    columns["covered"] = _spread(seen, rows)
    columns["n_votes"] = _spread((patterns.votes >= 0).sum(axis=1).astype(np.int32), rows)
    winners = decide(posterior, keys, seed, patterns.inverse)
    uncovered = ~seen[patterns.inverse]
    indices = pa.array(winners.astype(np.int8), mask=uncovered)
    columns["label"] = pa.array(names.classes).take(indices)
    return pa.table(columns), (posterior * (patterns.counts * seen)[:, None]).sum(axis=0)


def _spread(values: Any, rows: pa.Array) -> pa.Array:
    return pa.array(np.ascontiguousarray(values)).take(rows)
