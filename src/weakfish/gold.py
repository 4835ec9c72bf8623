"""Gold labels, those that people gave: where a task's lie, and which rows are its test part.

`ingest` writes ``data/gold/<task>/<part>/<partition>.parquet`` (the events' key and ``label``); tools for developing
labeling functions read the part ``dev``, and `evaluate` alone reads ``test``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import mmh3
import pyarrow as pa
import pyarrow.compute as pc

from weakfish.params import GoldParams
from weakfish.project import Project

GOLD_LABEL = "label"
"""The label column of a table of gold labels; the other is the events' key."""

Part = Literal["dev", "test", "undated"]
"""``undated`` rows are those that a split by time can put on neither side."""

HASHES = 1 << 32


def folder(project: Project, task: str, part: Part) -> Path:
    """The folder of a part of a task's gold labels; it need not exist."""
    return project.table("gold") / task / part


def in_test(settings: GoldParams, keys: pa.ChunkedArray, times: pa.ChunkedArray) -> pa.ChunkedArray:
    """Whether each row lies in the test part.

    By ``split``, rows from that time on do, and rows without a time are null: they belong to neither part. Without it,
    the share ``test_share`` of rows does, chosen by a hash of the key, which depends on nothing else.

    Parameters
    ----------
    keys : strings
    times : timestamps, UTC, microseconds
    """
    if settings.split_time is not None:
        return pc.greater_equal(times, pa.scalar(settings.split_time, times.type))
    below = settings.share_of_test * HASHES
    chunks = [
        pa.array([mmh3.hash(key, signed=False) < below for key in chunk.to_pylist()], pa.bool_())
        for chunk in pa.chunked_array(keys).chunks
    ]
    return pa.chunked_array(chunks, pa.bool_())
