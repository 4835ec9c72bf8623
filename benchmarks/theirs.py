"""Snorkel's sides: its own tools on the same Parquet files, timed without imports."""

from __future__ import annotations

import importlib
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.process import resident_mb
from benchmarks.projects import TASK


def votes(root: str, functions: str, rows: int, out: str) -> dict[str, Any]:
    """`PandasLFApplier` on the first rows of the events in ``root``; votes go to the Parquet file ``out``.

    ``functions`` is a module with ``FUNCTIONS`` and ``COLUMNS``. Only those columns are read, which helps Snorkel.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq
    from snorkel.labeling import PandasLFApplier

    sys.path.insert(0, root)
    module = importlib.import_module(functions)
    start = time.perf_counter()
    frame = head(Path(root), module.COLUMNS, rows).to_pandas()
    matrix = PandasLFApplier(module.FUNCTIONS).apply(frame, progress_bar=False)
    columns = {function.name: matrix[:, number] for number, function in enumerate(module.FUNCTIONS)}
    pq.write_table(pa.table(columns), out, compression="zstd")
    return {"seconds": time.perf_counter() - start, "rows": len(frame)}


def head(root: Path, columns: list[str], rows: int) -> Any:
    """The first rows of a project's events, read by row group."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    batches: list[pa.RecordBatch] = []
    for file in sorted((root / "data/events").glob("*.parquet")):
        for batch in pq.ParquetFile(file).iter_batches(columns=columns):
            left = rows - sum(map(len, batches))
            if left <= 0:
                return pa.Table.from_batches(batches)
            batches.append(batch.slice(0, left))
    return pa.Table.from_batches(batches)


def labels(root: str, out: str) -> dict[str, Any]:
    """`LabelModel` on the whole matrix of the votes in ``root``; probabilities go to the Parquet file ``out``.

    The matrix is int64, as Snorkel's appliers make it.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq
    import torch._dynamo  # noqa: F401 -- torch imports it when an optimizer is made
    from snorkel.labeling.model import LabelModel

    from weakfish.project.paths import Project

    task = Project(Path(root)).task(TASK)
    before, start = resident_mb(), time.perf_counter()
    matrix = _matrix(Path(root), list(task.functions))
    model = LabelModel(cardinality=len(task.classes), verbose=False)
    settings = task.label_model
    model.fit(
        matrix,
        class_balance=settings.class_balance,
        n_epochs=settings.n_epochs,
        lr=settings.lr,
        l2=settings.l2,
        seed=settings.seed,
        log_freq=settings.n_epochs,
        progress_bar=False,
    )
    found = model.predict_proba(matrix)
    columns = {f"p_{name}": found[:, number] for number, name in enumerate(task.classes)}
    pq.write_table(pa.table(columns), out, compression="zstd")
    return {"seconds": time.perf_counter() - start, "rows": len(matrix), "rss_mb_before": before}


def _matrix(root: Path, functions: list[str]) -> Any:
    import numpy as np
    import pyarrow.parquet as pq

    files = sorted(file.name for file in (root / "data/events").glob("*.parquet"))
    rows = sum(pq.ParquetFile(root / "data/events" / file).metadata.num_rows for file in files)
    matrix = np.empty((rows, len(functions)), np.int64)
    for column, name in enumerate(functions):
        first = 0
        for file in files:
            votes = pq.ParquetFile(root / "data/votes" / TASK / file).read([name])[name].to_numpy()
            matrix[first : first + len(votes), column] = votes
            first += len(votes)
    return matrix
