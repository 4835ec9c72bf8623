"""Our sides: the public verbs on a benchmark's project, timed without imports."""

from __future__ import annotations

import operator
import time
from concurrent.futures import ThreadPoolExecutor
from functools import reduce
from pathlib import Path
from typing import Any

from benchmarks.process import resident_mb
from benchmarks.projects import TASK

THREADS = 2
"""As many as `weakfish.labeling.label` has."""


def votes(root: str) -> dict[str, Any]:
    """``weakfish vote`` on the project in ``root``."""
    from weakfish.labeling.vote import vote
    from weakfish.project.paths import Project

    _heavy_for_votes()
    start = time.perf_counter()
    vote(Project(Path(root)))
    return {"seconds": time.perf_counter() - start}


def labels(root: str) -> dict[str, Any]:
    """``weakfish label``: fit on the votes in ``root``, write labels."""
    from weakfish.labeling.label import label
    from weakfish.project.paths import Project

    _heavy_for_labels()
    start = time.perf_counter()
    label(Project(Path(root)))
    return {"seconds": time.perf_counter() - start}


def fit_and_predict(root: str, out: str) -> dict[str, Any]:
    """Fit on the votes in ``root``, write probabilities to the folder ``out``: what Snorkel's side does, no more."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from weakfish.contracts.tables import partitions
    from weakfish.contracts.votes_file import Votes
    from weakfish.labeling.label_model import Sums, fit
    from weakfish.labeling.matrix import votes_of
    from weakfish.project.paths import Project

    _heavy_for_labels()
    before, start = resident_mb(), time.perf_counter()
    project = Project(Path(root))
    task = project.task(TASK)
    names = list(partitions(project.table("events")))

    def votes(partition: str) -> Votes:
        return votes_of(project, TASK, list(task.functions), partition).votes

    def sums(partition: str) -> Sums:
        return Sums.of(votes(partition), len(task.classes))

    def predict(partition: str) -> int:
        found = model.probabilities(votes(partition))
        columns = {f"p_{name}": found[:, number] for number, name in enumerate(task.classes)}
        pq.write_table(pa.table(columns), Path(out) / f"{partition}.parquet", compression="zstd")
        return len(found)

    Path(out).mkdir()
    with ThreadPoolExecutor(THREADS) as pool:
        model = fit(reduce(operator.add, pool.map(sums, names)), task)
        rows = sum(pool.map(predict, names))
    return {"seconds": time.perf_counter() - start, "rows": rows, "rss_mb_before": before}


def votes_and_labels(root: str) -> dict[str, Any]:
    """``weakfish vote``, then ``weakfish label``."""
    from weakfish.labeling.label import label
    from weakfish.labeling.vote import vote
    from weakfish.project.paths import Project

    _heavy_for_votes()
    _heavy_for_labels()
    start = time.perf_counter()
    vote(Project(Path(root)))
    middle = time.perf_counter()
    label(Project(Path(root)))
    end = time.perf_counter()
    return {"seconds": end - start, "votes_seconds": middle - start, "labels_seconds": end - middle}


def _heavy_for_votes() -> None:
    import contextlib

    import duckdb  # noqa: F401
    import ibis.backends.duckdb  # noqa: F401

    import weakfish.project.params  # noqa: F401

    with contextlib.suppress(ImportError):
        import pyperscan  # noqa: F401


def _heavy_for_labels() -> None:
    import snorkel.labeling.model  # noqa: F401
    import torch._dynamo  # noqa: F401 -- torch imports it when an optimizer is made
