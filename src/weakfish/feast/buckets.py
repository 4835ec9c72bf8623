"""As-of joins bucket by bucket: both sides fall into buckets by a hash of the view's keys.

All that there is of an entity on either side lies in one bucket, and no row of the spine depends on another one. So
neither the number of buckets nor how the spine is cut changes an answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from weakfish.feast.asof import AsOfJoin, Numbered, ViewColumns, spine_keys
from weakfish.feast.source_files import Session, StoredRows, open_listed, quoted
from weakfish.feast.spine import numbered, row_number, spine_of_files
from weakfish.files import whole_file

ROW, BUCKET = "row", "bucket"
"""Columns of what lies on disk for a while: the number of a row of the spine, and its bucket."""

BUCKETS = "Putting rows into buckets"

Places = npt.NDArray[np.int64]


def spine_of_events(
    opened: Session, files: Sequence[Path], starts: Sequence[int], time: str, keys: Sequence[str]
) -> Numbered:
    """The spine of events as they lie, given the numbers of the first rows of each file."""
    return spine_of_files(opened, open_listed(opened, files, "the events"), row_number(starts), time, keys)


def spine_of_bucket(opened: Session, files: Sequence[Path], unit: str, keys: Sequence[str]) -> Numbered:
    """The spine of what `scatter_spine` wrote of a bucket; times are in ``unit``."""
    stored = open_listed(opened, files, "a bucket of the events")
    columns = "".join(f", f.c{number}" for number in range(len(keys)))
    return numbered(opened, f"SELECT f.row, f.t{columns} FROM {stored.scan} f", unit, keys)  # noqa: S608


def scatter_spine(
    opened: Session, view: ViewColumns, spine: Numbered, kinds: Mapping[str, str], files: Sequence[Path], rows: int
) -> list[int]:
    """Write rows of the spine that have an entity of a view to a file for each bucket; returns how many each has.

    Parameters
    ----------
    kinds
        DuckDB's types of the view's keys.
    rows
        Rows that are held at a time, as a row group of a file.

    Raises
    ------
    UserError
        When keys of the spine and of the view cannot be compared.
    """
    keys = spine_keys(view, spine, kinds)
    bucket = _bucket({key: kinds[name] for name, key in zip(view.keys, keys, strict=True)}, len(files))
    there = " AND ".join(f"{key} IS NOT NULL" for key in keys) or "true"  # others have no answer
    return _scatter(opened, f"SELECT s.*, {bucket} AS {BUCKET} FROM spine s WHERE {there}", files, rows)  # noqa: S608


def scatter_rows(opened: Session, view: ViewColumns, source: StoredRows, files: Sequence[Path], rows: int) -> list[int]:
    """Write rows of a view, all their columns, as `scatter_spine` does those of the spine."""
    bucket = _bucket({source.column(key): source.type(key) for key in view.keys}, len(files))
    return _scatter(opened, f"SELECT f.*, {bucket} AS {quoted(_BESIDE)} FROM {source.scan} f", files, rows)  # noqa: S608


def join(
    opened: Session, view: ViewColumns, source: StoredRows, spine: Numbered, files: Mapping[int, Path], rows: int
) -> None:
    """Write the number and the features of each row of the spine that has an answer, in their order.

    Parameters
    ----------
    files
        By the number after the last row of each, in their order; all are written.
    """
    ends = np.array([*files])
    found = AsOfJoin(opened, view, source, spine, 0).features(rows)

    def places(piece: pa.Table) -> Places:
        found: Places = np.searchsorted(ends, piece[ROW].to_numpy(), "right")
        return found

    write_cut(found, found.schema, places, list(files.values()))


_BESIDE = "weakfish bucket"
"""A column beside those of a view, which have names of their own."""


def _bucket(keys: Mapping[str, str], buckets: int) -> str:
    """The bucket of an entity, alike where its keys are alike, given DuckDB's types of the view's by expressions."""
    texts = []
    for key, kind in keys.items():
        value = f"TRY_CAST({key} AS {kind})"
        if kind in ("FLOAT", "DOUBLE"):
            value += " + 0.0"  # -0 equals 0, and has another text
        texts.append(f"CAST({value} AS VARCHAR)")
    return f"CAST(hash({', '.join(texts)}) % {buckets} AS BIGINT)" if texts else "CAST(0 AS BIGINT)"


def _scatter(opened: Session, query: str, files: Sequence[Path], rows: int) -> list[int]:
    last = len(opened.types(f"FROM ({query})", BUCKETS)) - 1
    reader = opened.stream(f"FROM ({query}) ORDER BY {last + 1}", rows, BUCKETS)
    return write_cut(reader, reader.schema.remove(last), lambda piece: piece[last].to_numpy(), files)


def write_cut(
    reader: pa.RecordBatchReader,
    schema: pa.Schema,
    places: Callable[[pa.Table], Places],
    files: Sequence[Path],
) -> list[int]:
    """Write rows that come in the order of their places, each to the file of its place; returns how many each has.

    All files are written, also those without rows; each appears whole.
    """
    counts = [0] * len(files)

    def pieces() -> Iterator[tuple[int, pa.Table]]:
        for batch in reader:
            table = pa.Table.from_batches([batch])
            at = places(table)
            for place in np.unique(at).tolist():
                first, last = np.searchsorted(at, [place, place + 1]).tolist()
                yield place, table.slice(first, last - first).select(schema.names)

    for place, group in groupby(pieces(), itemgetter(0)):
        with whole_file(files[place]) as part, pq.ParquetWriter(part, schema, compression="lz4") as writer:
            for _, table in group:
                writer.write_table(table)
                counts[place] += table.num_rows
    for place, file in enumerate(files):
        if not counts[place]:
            with whole_file(file) as part:
                pq.write_table(schema.empty_table(), part, compression="lz4")
    return counts
