"""Hashes of rows and rows that equal each other: Arrow in, NumPy out, one small database per thread."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

_OF_THREAD = threading.local()


def hashes(columns: Sequence[pa.Array]) -> npt.NDArray[np.uint64]:
    """A 64-bit hash of each row; rows that are equal have the same, null being equal to null."""
    names = ", ".join(f"c{number}" for number in range(len(columns)))
    found = _run(columns, f"SELECT hash({names}) AS hash FROM weakfish_rows")["hash"]  # noqa: S608
    return np.asarray(found, np.uint64)


def repeated(columns: Sequence[pa.Array | pa.ChunkedArray]) -> npt.NDArray[np.int64]:
    """Positions, ascending, of the rows that stand there more than once; null is equal to null."""
    names = ", ".join(f"c{number}" for number in range(len(columns)))
    place = pa.array(np.arange(len(columns[0])), pa.int64())
    several = f"count(*) OVER (PARTITION BY {names}) > 1"
    query = f"SELECT place FROM weakfish_rows QUALIFY {several} ORDER BY place"  # noqa: S608
    return np.asarray(_run(columns, query, place=place)["place"], np.int64)


def _run(
    columns: Sequence[pa.Array | pa.ChunkedArray], query: str, **more: pa.Array
) -> dict[str, npt.NDArray[np.generic]]:
    connection = getattr(_OF_THREAD, "connection", None)
    if connection is None:
        connection = _OF_THREAD.connection = duckdb.connect(config={"threads": 1})
    table = pa.table({**{f"c{number}": column for number, column in enumerate(columns)}, **more})
    connection.register("weakfish_rows", table)
    try:
        found: dict[str, npt.NDArray[np.generic]] = connection.execute(query).fetchnumpy()
        return found
    finally:
        connection.unregister("weakfish_rows")
