"""Feature tables and spines to measure on, made up from a seed: accounts, and ten numbers about each.

They go to Parquet as the pipeline writes it: a partition a month, rows in order of time, key and created time.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from weakfish.contracts.tables import TIME, write_partition

KEY = "account"
FEATURES = tuple(f"stat_{number}" for number in range(10))
BEGIN = np.datetime64("2024-01-01T00:00:00", "us")
HOUR = np.timedelta64(3_600_000_000, "us")
NULL_SHARE = 0.01
CORRECTED_SHARE = 0.01
ENDED_SHARE = 0.05
UNKNOWN_SHARE = 0.01
LATEST = timedelta(hours=20)

Times = npt.NDArray[np.datetime64]


def present() -> datetime:
    """The present (UTC), on the full second."""
    return datetime.now(UTC).replace(microsecond=0)


def names(numbers: npt.NDArray[np.int64]) -> pa.Array:
    """The keys of accounts."""
    padded = pc.utf8_lpad(pa.array(numbers).cast(pa.string()), 8, "0")
    return pc.binary_join_element_wise("account-", padded, "")


def histories(folder: Path, accounts: int, hours: int, seed: int = 1) -> None:
    """A row per account and full hour, some corrected a microsecond later; one account in twenty ends halfway."""
    rng = np.random.default_rng(seed)
    number, hour = (grid.ravel() for grid in np.meshgrid(np.arange(accounts), np.arange(hours), indexing="ij"))
    kept = (hour < hours // 2) | (number >= round(accounts * ENDED_SHARE))
    number, hour = number[kept], hour[kept]
    again = np.flatnonzero(rng.random(len(number)) < CORRECTED_SHARE)
    created = np.concatenate([np.zeros(len(number), np.int64), np.ones(len(again), np.int64)])
    number, hour = np.concatenate([number, number[again]]), np.concatenate([hour, hour[again]])
    order = np.lexsort((created, number, hour))
    times = BEGIN + hour[order] * HOUR
    _write(folder, number[order], times, times + created[order].astype("timedelta64[us]"), rng)


def spine(file: Path, accounts: int, hours: int, rows: int, seed: int = 2) -> None:
    """Accounts at random times, from half a day before the first feature row to half a day after the last.

    One in a hundred is unknown; the column ``row`` numbers the rows.
    """
    rng = np.random.default_rng(seed)
    number = rng.integers(accounts, size=rows)
    number[rng.random(rows) < UNKNOWN_SHARE] += accounts
    begin, end = BEGIN - 12 * HOUR, BEGIN + (hours + 12) * HOUR
    times = begin + rng.integers((end - begin).astype(np.int64), size=rows).astype("timedelta64[us]")
    columns = {KEY: names(number), "event_timestamp": pa.array(times).cast(TIME), "row": pa.array(np.arange(rows))}
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), file, compression="zstd")


def latest(folder: Path, accounts: int, until: datetime, seed: int = 3) -> None:
    """One row per account, at a random microsecond of the twenty hours before ``until`` (UTC)."""
    rng = np.random.default_rng(seed)
    end = np.datetime64(until.replace(tzinfo=None), "us")
    ages = rng.integers(int(LATEST.total_seconds() * 1e6), size=accounts).astype("timedelta64[us]")
    times = end - ages
    order = np.argsort(times, kind="stable")
    _write(folder, rng.permutation(accounts), times[order], times[order], rng)


def _write(folder: Path, number: npt.NDArray[np.int64], times: Times, created: Times, rng: np.random.Generator) -> None:
    columns = {
        KEY: names(number),
        "event_timestamp": pa.array(times).cast(TIME),
        "created": pa.array(created).cast(TIME),
    }
    for name in FEATURES:
        values = rng.lognormal(1, 2, len(number))
        columns[name] = pa.array(values, mask=rng.random(len(number)) < NULL_SHARE)
    table = pa.table(columns)
    months = times.astype("datetime64[M]")
    for month in np.unique(months):
        first, last = np.searchsorted(months, [month, month + 1])
        write_partition(folder, str(month), table.slice(first, last - first))
