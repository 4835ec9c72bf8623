"""How much memory the label stage takes with many functions and classes, by partitions: made-up votes.

    python -m benchmarks.growth_label [--functions 200] [--classes 50] [--partitions 12] [--rows 2000]

Prints one line of JSON: the sizes, ``seconds`` and ``peak_rss_mb`` of the stage. Each function votes for at most
`VOTED` classes, so that pairs of votes are counted.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa

from weakfish.contracts.tables import TIME, write_partition
from weakfish.contracts.votes_file import fingerprint, write_votes
from weakfish.files import write_json

PARAMS = """
events: {key: key, time: at}
source: {reader: "sources.made:Made"}
tasks:
  topic: {classes: [CLASSES], functions: all}
label_models:
  topic: {method: majority}
evaluate: {text: [key], seeds: [1], bootstrap: 10}
"""
RUN = "from weakfish.cli.main import main; main()"
VOTED, COVERAGE, RIGHT = 20, 0.1, 0.7


def write_project(root: Path, functions: int, classes: int, partitions: int, rows: int) -> None:
    """A project whose events and votes are made up; ``rows`` are those of a partition."""
    (root / "labeling_functions").mkdir(parents=True)
    named = ", ".join(f"class_{number:03}" for number in range(classes))
    (root / "params.yaml").write_text(PARAMS.replace("CLASSES", named), encoding="utf-8")
    (root / "dvc.yaml").write_text("stages: {}\n", encoding="utf-8")
    names = [f"function_{number:03}" for number in range(functions)]
    lines = [f'{name} = threshold("{name}", 1, "size", above=1, why="Made.")' for name in names]
    text = "\n".join(["from weakfish.rules import threshold", "", *lines, ""])
    (root / "labeling_functions/made.py").write_text(text, encoding="utf-8")
    draw = np.random.default_rng(1)
    for month in range(partitions):
        name = f"{2020 + month // 12}-{month % 12 + 1:02}"
        start = datetime.fromisoformat(f"{name}-01").replace(tzinfo=UTC)
        keys = pa.array([f"{name}-{row:07}" for row in range(rows)])
        times = pa.array([start + timedelta(seconds=row) for row in range(rows)], TIME)
        write_partition(root / "data/events", name, pa.table({"key": keys, "at": times, "size": pa.array([1] * rows)}))
        truth, known = draw.integers(classes, size=rows), fingerprint(pa.chunked_array([keys]))
        by_function = {}
        for place, function in enumerate(names):
            own = (np.arange(VOTED) + place * 7) % classes
            said = np.where(
                np.isin(truth, own) & (draw.random(rows) < RIGHT), truth, own[draw.integers(VOTED, size=rows)]
            )
            by_function[function] = np.where(draw.random(rows) < COVERAGE, said, -1).astype(np.int8)
        write_votes(root / f"data/votes/topic/{name}.parquet", by_function, known)
    made = {name: {"module": "labeling_functions.made", "identity": "ab"} for name in names}
    write_json(root / "data/votes/topic.manifest.json", {"task": "topic", "functions": made})


def main() -> int:
    """Print the line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth_label", description=__doc__.splitlines()[0])
    sizes = {"functions": 200, "classes": 50, "partitions": 12, "rows": 2_000}
    for name, size in sizes.items():
        parser.add_argument(f"--{name}", type=int, default=size)
    asked = {name: getattr(parser.parse_args(), name) for name in sizes}
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch) / "project"
        write_project(root, **asked)
        began = time.monotonic()
        subprocess.run([sys.executable, "-c", RUN, "label"], cwd=root, check=True, stdout=subprocess.DEVNULL)
        seconds, used = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
        line = {"name": "growth_label", **asked, "seconds": round(seconds, 1), "peak_rss_mb": used.ru_maxrss >> 10}
        print(json.dumps(line), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
