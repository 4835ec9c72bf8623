"""A join that does not fit into the memory it may use: 10 million spine rows against 50 million feature rows.

Feature values follow from account and hour, so that the whole result is known without another engine. Nothing is held
whole here either: features are made and results checked batch by batch.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks import store_data, store_projects
from benchmarks.figures import Figure
from benchmarks.session import ask, session
from benchmarks.store_bench import StoreBench
from benchmarks.store_data import BEGIN, HOUR, KEY
from weakfish.contracts.tables import ROWS_IN_A_GROUP, TIME

ACCOUNTS = 50_000
HOURS = 1_000
SPINE_ROWS = 10_000_000
FEATURES = ("stat_0", "stat_1")
LIMIT = "2GB"
"""What DuckDB may hold; the process holds more, Feast and its imports to begin with."""

HOURS_AT_ONCE = 20


def pit_join_out_of_core(bench: StoreBench) -> Figure:
    """Seconds from a spine in Parquet to features in Parquet under a memory limit; nothing compares."""
    root = bench.work / "pit_join_out_of_core"
    accounts, rows = bench.scaled(ACCOUNTS), bench.scaled(SPINE_ROWS)
    spine, out = root / "spine.parquet", root / "out.parquet"
    ask("store_out_of_core:make", light=True, root=str(root), accounts=accounts, rows=rows)
    project = store_projects.make(root, FEATURES, offline={"memory_limit": LIMIT})
    ask("store_projects:apply", project=str(root))
    with session("store_out_of_core:join", repo=project.ours) as ours:
        done = ours.ask(spine=str(spine), out=str(out))
    check = ask("store_out_of_core:check", light=True, out=str(out), accounts=accounts, rows=rows)
    sizes = {"accounts": accounts, "feature_rows": accounts * HOURS, "features": len(FEATURES), "limit": LIMIT}
    return Figure(
        "pit_join_out_of_core",
        done["seconds"],
        None,
        "s",
        check["equal"],
        rows,
        ours.peak_rss_mb,
        None,
        bench.sizes(None, **sizes),
    )


def make(root: str, accounts: int, rows: int) -> None:
    """Write the feature table and the spine below ``root``."""
    folder = Path(root) / "data/features" / store_projects.VIEW
    folder.mkdir(parents=True)
    for month, hours in _months():
        with pq.ParquetWriter(folder / f"{month}.parquet", _batch(1, hours[:1]).schema, compression="zstd") as writer:
            for first in range(0, len(hours), HOURS_AT_ONCE):
                writer.write_table(_batch(accounts, hours[first : first + HOURS_AT_ONCE]), ROWS_IN_A_GROUP)
    store_data.spine(Path(root) / "spine.parquet", accounts, HOURS, rows)


def join(repo: str) -> Iterator[Any]:
    """A side: ``get_historical_features`` from the Parquet file ``spine`` to the Parquet file ``out``."""
    from feast import FeatureStore

    store: Any = FeatureStore(repo_path=repo)
    service = store.get_feature_service(store_projects.SERVICE)
    asked: Any = yield {}
    begin = time.perf_counter()
    store.get_historical_features(entity_df=asked["spine"], features=service).to_parquet(asked["out"])
    yield {"seconds": time.perf_counter() - begin}


def check(out: str, accounts: int, rows: int) -> dict[str, Any]:
    """Whether every spine row is there once, in order, with the values of its account's last full hour."""
    file = pq.ParquetFile(out)
    equal, position = True, 0
    for batch in file.iter_batches():
        table = pa.table(batch)
        numbers = np.arange(position, position + table.num_rows)
        equal &= bool((table["row"].to_numpy() == numbers).all())
        position += table.num_rows
        expected = _expected(table, accounts)
        equal &= all(table[name].combine_chunks().equals(values) for name, values in expected.items())
    return {"equal": equal and position == rows, "rows": position}


def _expected(table: pa.Table, accounts: int) -> dict[str, pa.Array]:
    times = table["event_timestamp"].cast(pa.timestamp("us")).to_numpy()
    hour = np.minimum((times - BEGIN) // HOUR, HOURS - 1)
    number = pc.utf8_slice_codeunits(table[KEY], len("account-")).cast(pa.int64()).to_numpy()
    unknown = (hour < 0) | (number >= accounts)
    return {name: pa.array(values, mask=unknown) for name, values in _values(number, hour).items()}


def _values(number: npt.NDArray[np.int64], hour: npt.NDArray[np.int64]) -> dict[str, npt.NDArray[np.float64]]:
    return dict(zip(FEATURES, (number + hour / HOURS, hour + number / ACCOUNTS), strict=True))


def _batch(accounts: int, hours: npt.NDArray[np.int64]) -> pa.Table:
    """The rows of some hours, in the order of time and account."""
    hour, number = (grid.ravel() for grid in np.meshgrid(hours, np.arange(accounts), indexing="ij"))
    times = pa.array(BEGIN + hour * HOUR).cast(TIME)
    return pa.table(
        {KEY: store_data.names(number), "event_timestamp": times, "created": times, **_values(number, hour)}
    )


def _months() -> Iterator[tuple[np.datetime64, npt.NDArray[np.int64]]]:
    hours = np.arange(HOURS)
    months = (BEGIN + hours * HOUR).astype("datetime64[M]")
    for month in np.unique(months):
        yield month, hours[months == month]
