"""Whether both sides gave the same: compared in full, in processes of their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.projects import TASK

CLOSE = 1e-12
"""By how much probabilities may differ from Snorkel's, whose exponentials round by the processor."""


def votes(root: str, theirs: str) -> dict[str, Any]:
    """Compare the first votes in ``root`` with those in a file, one column per function; count vote patterns."""
    other = pq.ParquetFile(theirs).read()
    different = {
        name: int((_first(Path(root), name, other.num_rows) != other[name].to_numpy()).sum())
        for name in other.column_names
    }
    return {"equal": not any(different.values()), "different": different, "patterns": _patterns(Path(root))}


def _first(root: Path, function: str, rows: int) -> npt.NDArray[np.int8]:
    parts: list[npt.NDArray[np.int8]] = []
    for file in sorted((root / "data/votes" / TASK).glob("*.parquet")):
        parts.append(_votes(file, function))
        if sum(map(len, parts)) >= rows:
            break
    return np.concatenate(parts)[:rows]


def _votes(file: Path, function: str) -> npt.NDArray[np.int8]:
    column = pq.ParquetFile(file).read([function])[function]
    if column.null_count:
        raise ValueError(f"{file} has {column.null_count} faults, where the benchmark has none.")
    found: npt.NDArray[np.int8] = column.to_numpy().astype(np.int8)
    return found


def labels(root: str, ours: str, theirs: str) -> dict[str, Any]:
    """Compare probabilities in a folder with those in a file, within `CLOSE`; count the vote patterns in ``root``."""
    other = pq.ParquetFile(theirs).read()
    parts = [pq.ParquetFile(file).read(other.column_names) for file in sorted(Path(ours).glob("*.parquet"))]
    equal = all(_alike(pa.concat_tables(parts)[name], other[name]) for name in other.column_names)
    return {"equal": equal, "patterns": _patterns(Path(root))}


def _alike(ours: pa.ChunkedArray, theirs: pa.ChunkedArray) -> bool:
    mine, other = ours.to_numpy(), theirs.to_numpy()
    return mine.shape == other.shape and bool((np.abs(mine - other) <= CLOSE).all())


def folders(ours: str, theirs: str, whole: bool = False) -> dict[str, Any]:
    """Compare all votes and labels of one project with those in another, which may have more unless ``whole``."""
    mine, others = (set(_tables(Path(root))) for root in (ours, theirs))
    equal = mine == others if whole else mine <= others
    for name in sorted(mine & others):
        own, other = (pq.ParquetFile(Path(root) / name).read() for root in (ours, theirs))
        if not whole and set(own.column_names) <= set(other.column_names):  # of votes a column per function
            other = other.select(own.column_names)
        equal &= own.equals(other)
    return {"equal": equal, "files": len(mine)}


def _tables(root: Path) -> Iterator[str]:
    for folder in ("data/votes", "data/labels"):
        yield from (str(file.relative_to(root)) for file in (root / folder).rglob("*.parquet"))


def engine_votes(root: str, rows: int) -> dict[str, Any]:
    """Compare pattern functions with the engine's own search, one pattern at a time, on the first rows."""
    import duckdb

    from benchmarks.functions.patterns import PATTERNS
    from benchmarks.theirs import head

    texts = head(Path(root), ["body"], rows)
    different = {}
    for name, (label, pattern) in PATTERNS.items():
        found = duckdb.execute("SELECT regexp_matches(body, ?) AS hit FROM texts", [pattern]).fetchnumpy()["hit"]
        expected = np.where(found, label, -1)
        different[name] = int((_first(Path(root), f"pattern_{name}", texts.num_rows) != expected).sum())
    return {"equal": not any(different.values()), "different": different}


def _patterns(root: Path) -> int:
    """How many distinct rows the label matrix has."""
    seen: set[bytes] = set()
    for file in sorted((root / "data/votes" / TASK).glob("*.parquet")):
        rows = np.stack([_votes(file, function) for function in sorted(pq.read_schema(file).names)], axis=1)
        seen |= {row.tobytes() for row in np.unique(rows.view(f"V{rows.shape[1]}"))}
    return len(seen)
