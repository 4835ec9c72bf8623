"""Makes millions of events of the few thousand of a corpus: `python -m benchmarks.amplify OUT --rows 2000000`.

The corpus's Parquet comes in; a folder of monthly partitions with the same columns and types comes out, and a summary.

A row's text is the head of one real text joined at the end of a line to the tail of another (`benchmarks.texts`); its
subject is another one's; its other columns are those of the message that gave the head, together. Keys are random,
event times fall evenly into a month; a second time column keeps its distance from the event time.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from benchmarks.texts import Texts

KEY, TIME, TEXT, SUBJECT = "message_id", "received_at", "body", "subject"
OTHER_TIMES = ("sent_at",)
FIRST_MONTH = np.datetime64("2002-01", "M")
ROW_GROUP = 131_072


@dataclass(frozen=True)
class Month:
    """One partition to make: ``rows`` rows that follow ``first`` rows of earlier partitions."""

    corpus: str
    out: str
    number: int
    first: int
    rows: int
    seed: int


def amplify(corpus: str, out: str, rows: int, months: int, seed: int = 1, processes: int = 2) -> dict[str, Any]:
    """Write ``rows`` events in ``months`` partitions of equal size (the first ones one row larger) to ``out``.

    Returns
    -------
    dict
        ``rows``, ``seconds``, ``repeated_texts`` (share of rows whose text another row has before it),
        ``text_length`` and ``corpus_text_length`` (characters: mean, median, 90th percentile).

    Raises
    ------
    ValueError
        When the corpus is too small for so many rows.
    """
    start = time.perf_counter()
    lengths_before = pc.utf8_length(_read(corpus, [TEXT])[TEXT]).to_numpy()
    sizes = np.full(months, rows // months) + (np.arange(months) < rows % months)
    starts = np.cumsum(sizes) - sizes
    jobs = [Month(corpus, out, n, int(starts[n]), int(sizes[n]), seed) for n in range(months) if sizes[n]]
    Path(out).mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        made = list(pool.map(write_month, jobs))
    hashes, lengths = (np.concatenate(column) for column in zip(*made, strict=True))
    return {
        "rows": rows,
        "seconds": round(time.perf_counter() - start, 2),
        "repeated_texts": round(1 - len(np.unique(hashes)) / rows, 6),
        "text_length": _spread(lengths),
        "corpus_text_length": _spread(lengths_before),
    }


def write_month(job: Month) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int32]]:
    """Write one partition, a row group at a time; return each text's hash and length."""
    import duckdb

    events = _read(job.corpus)
    texts = Texts.of(events[TEXT].to_pylist())
    if job.first + job.rows > texts.combinations:
        raise ValueError(
            f"{job.corpus} has texts for {texts.combinations} rows, not for {job.first + job.rows}; ask for fewer."
        )
    month = FIRST_MONTH + job.number
    hashes, lengths = [], []
    with pq.ParquetWriter(
        Path(job.out) / f"{month}.parquet",
        events.schema,
        compression="zstd",
        use_dictionary=[field.name for field in events.schema if field.name not in (KEY, TIME, TEXT)],
    ) as writer:
        for batch in _batches(job, events, texts, month):
            writer.write_table(batch, row_group_size=ROW_GROUP)
            hashes.append(duckdb.from_arrow(batch.select([TEXT])).project(f"hash({TEXT}) AS h").fetchnumpy()["h"])
            lengths.append(pc.utf8_length(batch[TEXT]).to_numpy())
    return np.concatenate(hashes), np.concatenate(lengths)


def _batches(job: Month, events: pa.Table, texts: Texts, month: np.datetime64) -> Iterator[pa.Table]:
    rng = np.random.default_rng([job.seed, job.number])
    begin, end = (at.astype("datetime64[us]").astype(np.int64) for at in (month, month + 1))
    times = np.sort(rng.integers(begin, end, job.rows))
    for first in range(0, job.rows, ROW_GROUP):
        numbers = np.arange(first, min(first + ROW_GROUP, job.rows))
        source, made = texts.make(job.first + numbers, job.seed)
        at = pa.array(times[numbers], pa.int64()).cast(events.schema.field(TIME).type)
        new = {KEY: _keys(rng, len(numbers)), TIME: at, TEXT: made}
        new[SUBJECT] = events[SUBJECT].take(pa.array(rng.integers(events.num_rows, size=len(numbers))))
        copied = events.drop_columns([*new]).take(pa.array(source))
        for name in OTHER_TIMES:
            distance = pc.subtract(copied[name], events[TIME].take(pa.array(source)))
            new[name] = pc.add(at, distance.combine_chunks())
        yield pa.table({name: new.get(name, copied[name] if name not in new else None) for name in events.schema.names})


def _keys(rng: np.random.Generator, rows: int) -> pa.StringArray:
    """Random keys of 32 hexadecimal digits."""
    digits = np.array([f"{byte:02x}".encode() for byte in range(256)], "S2")
    data = digits[rng.integers(256, size=(rows, 16), dtype=np.uint8)].tobytes()
    offsets = np.arange(rows + 1, dtype=np.int32) * 32
    return pa.StringArray.from_buffers(rows, pa.py_buffer(offsets), pa.py_buffer(data))


def _read(corpus: str, columns: list[str] | None = None) -> pa.Table:
    table = ds.dataset(corpus, format="parquet").to_table(columns)
    return table.replace_schema_metadata().combine_chunks()


def _spread(lengths: npt.NDArray[Any]) -> dict[str, float]:
    middle, high = np.quantile(lengths, [0.5, 0.9])
    return {"mean": round(float(lengths.mean()), 1), "median": float(middle), "p90": float(high)}


def main() -> None:
    """Amplify from the command line; the summary goes to stdout as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.amplify", description=__doc__.splitlines()[0])
    parser.add_argument("out", help="folder to write partitions to")
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--months", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--events", default=str(Path(__file__).parent.parent / "data/events"), help="the corpus")
    options = parser.parse_args()
    json.dump(amplify(options.events, options.out, options.rows, options.months, options.seed), sys.stdout)
    print()


if __name__ == "__main__":
    main()
