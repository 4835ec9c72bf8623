"""What ingest, validate and accept take where one month holds more text than fits into one array, or into memory.

    python -m benchmarks.growth_parts [--rows 40000] [--bytes 65536] [--folder DIR]

Prints a line of JSON for each stage: ``name``, ``rows``, ``text_mb``, ``parts`` (files of the table that it wrote),
``seconds`` and ``peak_rss_mb``, the peaks of its processes added up. All rows are of one month, in random order, and
have one long text each, but for one in a thousand, which have none and are set aside.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.process import run

PARAMS = """
events: {{key: key, time: at}}
source: {{reader: "sources.made:Made", rows: {rows}, bytes: {bytes}}}
validation: {{max_quarantined_share: 0.5}}
tasks:
  topic: {{classes: [first, second], functions: all}}
label_models:
  topic: {{method: majority}}
evaluate: {{text: [text], seeds: [1], bootstrap: 10}}
"""

SOURCE = """
from datetime import UTC, datetime, timedelta
import numpy as np
import pyarrow as pa
from weakfish.sources import Source

class Made(Source):
    schema = pa.schema([("key", pa.string()), ("at", pa.timestamp("us", tz="UTC")), ("text", pa.string())])

    def read(self, raw):
        draw, (rows, size) = np.random.default_rng(1), (self.settings[name] for name in ("rows", "bytes"))
        letters = draw.choice(np.frombuffer(b"etaoin shrdlu cmfwyp", np.uint8), 1 << 24).tobytes().decode()
        order, second, start = draw.permutation(rows), 27 * 86_400 / rows, datetime(2024, 1, 1, tzinfo=UTC)
        for first in range(0, rows, 500):
            numbers = order[first : first + 500].tolist()
            places = draw.integers(len(letters) - size, size=len(numbers)).tolist()
            columns = [
                [f"k{number:08}" for number in numbers],
                [start + timedelta(seconds=number * second) for number in numbers],
                [n % 1000 and letters[at : at + size] or None for n, at in zip(numbers, places)],
            ]
            yield pa.RecordBatch.from_arrays(
                [pa.array(column, field.type) for column, field in zip(columns, self.schema)], schema=self.schema
            )
"""

SUITE = """
import great_expectations.expectations as gxe
EXPECTATIONS = [gxe.ExpectColumnValuesToNotBeNull(column="text", severity="critical", meta={"why": "It is read."})]
"""

TABLES = {"ingest": "staged", "validate": "staged", "accept": "events"}


def stage(root: str, verb: str) -> dict[str, Any]:
    """Run a stage of the project in ``root``."""
    from weakfish.cli.main import cli

    arguments = {"ingest": ["ingest"], "validate": ["validate", "events"], "accept": ["accept"]}[verb]
    with contextlib.chdir(root):
        begin = time.perf_counter()
        cli.main(arguments, prog_name="weakfish", standalone_mode=False)
        return {"seconds": round(time.perf_counter() - begin, 1)}


def write_project(root: Path, rows: int, size: int) -> None:
    """A project whose events are made up."""
    for folder in ("sources", "validation", "data/raw"):
        (root / folder).mkdir(parents=True)
        (root / folder / "__init__.py").touch()
    (root / "params.yaml").write_text(PARAMS.format(rows=rows, bytes=size), encoding="utf-8")
    (root / "dvc.yaml").write_text("stages: {}\n", encoding="utf-8")
    (root / "sources/made.py").write_text(SOURCE, encoding="utf-8")
    (root / "validation/events.py").write_text(SUITE, encoding="utf-8")


def main() -> None:
    """Write the project, run the stages one after the other, print their lines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=40_000)
    parser.add_argument("--bytes", type=int, default=1 << 16)
    parser.add_argument("--folder", help="where the project is made, for a while (default: the system's)")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=asked.folder) as name:
        root = Path(name)
        write_project(root, asked.rows, asked.bytes)
        for verb, table in TABLES.items():
            done = run("growth_parts:stage", root=name, verb=verb)
            parts = len(list((root / "data" / table).glob("*.parquet")))
            line = {"name": verb, "rows": asked.rows, "text_mb": asked.rows * asked.bytes >> 20, "parts": parts}
            print(json.dumps(line | {"seconds": done.seconds, "peak_rss_mb": done.peak_rss_mb}), flush=True)


if __name__ == "__main__":
    main()
