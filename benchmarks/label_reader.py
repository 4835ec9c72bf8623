"""How long the label stage takes with a reader, and how much memory: made-up short texts, and votes on a part of them.

    python -m benchmarks.label_reader [--rows 1000000] [--folder DIR]

Prints one line of JSON: ``rows``, ``seconds``, ``cpu_seconds``, ``peak_rss_mb``, the reader's ``gain``, and how many
rows have a label. Texts have 4 to 20 words; votes are made, since it is labels that are measured.
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
  topic: {classes: [first, second], functions: all}
label_models:
  topic: {method: auto, reader: auto, reads: [text]}
evaluate: {text: [text], seeds: [1], bootstrap: 10}
"""
RUN = "from weakfish.cli.main import main; main()"
FUNCTIONS, WORDS, MONTHS = 10, 20_000, 20


def write_project(root: Path, rows: int) -> None:
    """A project whose events and votes are made up."""
    (root / "labeling_functions").mkdir(parents=True)
    (root / "params.yaml").write_text(PARAMS, encoding="utf-8")
    (root / "dvc.yaml").write_text("stages: {}\n", encoding="utf-8")
    names = [f"function_{number}" for number in range(FUNCTIONS)]
    lines = [f'{name} = threshold("{name}", 1, "size", above=1, why="Made.")' for name in names]
    text = "\n".join(["from weakfish.rules import threshold", "", *lines, ""])
    (root / "labeling_functions/made.py").write_text(text, encoding="utf-8")
    draw = np.random.default_rng(1)
    letters = np.array(list("etaoinshrdlucmfwypvbgkjqxz"))
    words = np.array(["".join(draw.choice(letters, size)) for size in draw.integers(2, 11, WORDS)], object)
    common = 1 / np.arange(1, WORDS + 1)
    by_class = [common * draw.lognormal(0, 0.7, WORDS) for _ in range(2)]
    for month in range(MONTHS):
        name = f"{2020 + month // 12}-{month % 12 + 1:02}"
        size = rows // MONTHS
        truth, sizes = draw.integers(2, size=size), draw.integers(4, 21, size)
        texts = np.empty(size, object)
        for kind, weights in enumerate(by_class):
            mine = np.flatnonzero(truth == kind)
            drawn = draw.choice(words, int(sizes[mine].sum()), p=weights / weights.sum())
            for row, part in zip(mine, np.split(drawn, np.cumsum(sizes[mine])[:-1]), strict=True):
                texts[row] = " ".join(part)
        start = datetime.fromisoformat(f"{name}-01").replace(tzinfo=UTC)
        keys = pa.array([f"{name}-{row:07}" for row in range(size)])
        times = pa.array([start + timedelta(seconds=row) for row in range(size)], TIME)
        columns = {"key": keys, "at": times, "text": pa.array(texts), "size": pa.array(sizes)}
        write_partition(root / "data/events", name, pa.table(columns))
        voted, by_function = draw.random(size) < 0.6, {}
        for place, function in enumerate(names):
            votes = np.where(draw.random(size) < 0.85 - 0.02 * place, truth, 1 - truth)
            by_function[function] = np.where(voted & (draw.random(size) < 0.4), votes, -1).astype(np.int8)
        write_votes(root / f"data/votes/topic/{name}.parquet", by_function, fingerprint(pa.chunked_array([keys])))
    made = {name: {"module": "labeling_functions.made", "identity": "ab"} for name in names}
    write_json(root / "data/votes/topic.manifest.json", {"task": "topic", "functions": made})


def main() -> int:
    """Print the line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.label_reader", description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, help="where the project is made, a temporary folder by default")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        root = options.folder or Path(scratch) / "project"
        if not root.exists():
            write_project(root, options.rows)
        began = time.monotonic()
        subprocess.run([sys.executable, "-c", RUN, "label"], cwd=root, check=True)
        seconds, used = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
        made = json.loads((root / "data/labels/topic.manifest.json").read_text())["models"][-1]["reader"]
        told = json.loads((root / "reports/labeling_functions.json").read_text())["tasks"]["topic"]
        line = {"name": "label_reader", "rows": told["rows"], "labelled": told["labelled"], "gain": made.get("gain")}
        line |= {"seconds": round(seconds, 1), "cpu_seconds": round(used.ru_utime + used.ru_stime, 1)}
        line |= {"peak_rss_mb": used.ru_maxrss >> 10}
        print(json.dumps(line), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
