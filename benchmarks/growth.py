"""How the whole pipeline grows: `python -m benchmarks.growth [EVENTS ...] [--only NAME ...] [--limit SECONDS]`.

Prints a line of JSON for each stage: ``name`` (`pipeline`, `new_month` or what grows), ``size``, ``stage``,
``seconds``, ``cpu_seconds``, ``pss_mb``, ``bytes_per_row`` and ``ended`` (0: well). Of several --runs, each from
nothing, the least seconds and the most memory are kept, and ``runs`` says how many there were. With --keep the lines
replace those of the same name, size and stage in ``benchmarks/growth.jsonl``, of which docs/scale.md has its table and
its picture.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.growth_label import write_project
from benchmarks.growth_payments import TASK, VIEWS, Shape, add, make
from benchmarks.growth_picture import write_page
from benchmarks.growth_stages import RUN, measure, stages
from benchmarks.process import REPOSITORY

KEPT = REPOSITORY / "benchmarks/growth.jsonl"
SIZES = (100_000, 1_000_000)

Line = dict[str, Any]

UP_TO_FEATURES = [["fetch"], ["ingest"], ["validate", "events"], ["accept"], ["vote"], ["label"], ["features"]]
UP_TO_VOTES = UP_TO_FEATURES[:5]
UP_TO_TRAINING = [command for command in stages(VIEWS, TASK) if command[0] not in ("publish", "evaluate", "report")][
    :-2
]


def pipeline(root: Path, events: int, limit: float) -> Iterator[Line]:
    """All stages on so many events of twelve months, then those up to features with a month more."""
    shape = Shape(events)
    make(root, shape)
    _weakfish(root, "online", "start")
    try:
        yield from _lines("pipeline", root, events, stages(VIEWS, TASK), limit)
    finally:
        _weakfish(root, "online", "stop")
    if not finished(root):
        return
    _, start = shape.periods[-1]
    add(root, 12, events // 12, shape, (start, start + 1))
    yield from _lines("new_month", root, events, UP_TO_FEATURES, limit)


def finished(root: Path) -> bool:
    """Whether all stages ran."""
    return (root / "reports/metrics.json").exists()


def partitions(root: Path, days: int, limit: float) -> Iterator[Line]:
    """A hundred events a day."""
    make(root, Shape(days * 100, days=days))
    yield from _lines("partitions", root, days, UP_TO_FEATURES, limit)


def functions(root: Path, number: int, limit: float) -> Iterator[Line]:
    """So many functions on 100,000 events of twelve months."""
    make(root, Shape(100_000, functions=number))
    yield from _lines("functions", root, number, [*UP_TO_VOTES, ["label"]], limit)


def classes(root: Path, number: int, limit: float) -> Iterator[Line]:
    """So many classes, 200 functions, 24,000 events of twelve months."""
    write_project(root, 200, number, 12, 2_000)
    yield from _lines("classes", root, number, [["label"]], limit)


def entities(root: Path, number: int, limit: float) -> Iterator[Line]:
    """So many events, each of a customer of its own."""
    make(root, Shape(number, customers=number))
    yield from _lines("entities", root, number, UP_TO_FEATURES, limit)


def skew(root: Path, percent: int, limit: float) -> Iterator[Line]:
    """A million events, so many per cent of which are of one customer."""
    make(root, Shape(1_000_000, share=percent / 100))
    yield from _lines("skew", root, percent, UP_TO_TRAINING, limit)


GROWS: dict[str, tuple[Callable[[Path, int, float], Iterator[Line]], Sequence[int]]] = {
    "pipeline": (pipeline, SIZES),
    "partitions": (partitions, (100, 1_000, 10_000)),
    "functions": (functions, (10, 100, 1_000)),
    "classes": (classes, (2, 10, 50)),
    "entities": (entities, (100_000, 1_000_000)),
    "skew": (skew, (0, 30)),
}


def _lines(name: str, root: Path, size: int, commands: Sequence[Sequence[str]], limit: float) -> Iterator[Line]:
    """A line for each command; after one that does not end well there are no more."""
    rows = 0
    for command in commands:
        done = measure(root, command, limit)
        rows = rows or _rows(root)
        line = {
            "name": name,
            "size": size,
            "stage": done.stage,
            "seconds": round(done.seconds, 1),
            "cpu_seconds": round(done.cpu_seconds, 1),
            "pss_mb": round(done.pss_mb),
            "bytes_per_row": round(done.bytes / rows, 1) if rows else None,
            "ended": done.ended,
        }
        yield line
        if done.ended != 0:
            print((root / "log.txt").read_text(errors="replace")[-2000:], file=sys.stderr)
            return


def _rows(root: Path) -> int:
    """How many events are staged."""
    import pyarrow.parquet as pq

    folder = root / "data/staged" if (root / "data/staged").exists() else root / "data/events"
    return sum(pq.read_metadata(file).num_rows for file in folder.glob("*.parquet"))


def _weakfish(root: Path, *arguments: str) -> None:
    with (root / "log.txt").open("ab") as log:
        subprocess.run([sys.executable, "-c", RUN, *arguments], cwd=root, check=True, stdout=log, stderr=log)


def keep(lines: Sequence[Line]) -> None:
    """Put lines in the place of those of the same name, size and stage."""
    old = [json.loads(line) for line in KEPT.read_text(encoding="utf-8").splitlines()] if KEPT.exists() else []
    found = {(line["name"], line["size"], line["stage"]): line for line in [*old, *lines]}
    order = [*GROWS, "new_month"]
    every = sorted(found.values(), key=lambda line: (order.index(line["name"]), line["size"]))
    KEPT.write_text("".join(f"{json.dumps(line)}\n" for line in every), encoding="utf-8")
    write_page(every)


def best(lines: Sequence[Line]) -> Line:
    """The line of several runs of a stage."""
    worst = next((line for line in lines if line["ended"] != 0), lines[0])
    least = {unit: min(line[unit] for line in lines) for unit in ("seconds", "cpu_seconds")}
    return {**worst, **least, "pss_mb": max(line["pss_mb"] for line in lines), "runs": len(lines)}


def main() -> int:
    """Print the lines; 1 when a stage failed or took too long."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__)
    parser.add_argument("events", nargs="*", type=int, help=f"numbers of events of `pipeline` (default: {SIZES})")
    parser.add_argument("--only", nargs="*", choices=list(GROWS), default=list(GROWS), help="what grows")
    parser.add_argument("--sizes", nargs="*", type=int, help="sizes of what grows, if it is not the pipeline")
    parser.add_argument("--limit", type=float, default=600, help="seconds after which a stage is ended")
    parser.add_argument("--runs", type=int, default=1, help="how often all is run, from nothing each time")
    parser.add_argument("--keep", action="store_true", help="keep the lines, and put them into docs/scale.md")
    parser.add_argument("--work", type=Path, help="where to make projects; 20 GB for ten million events")
    asked = parser.parse_args()
    well = True
    for name in asked.only:
        grow, usual = GROWS[name]
        for size in (asked.events if name == "pipeline" else asked.sizes) or usual:
            found: dict[tuple[str, str], list[Line]] = {}
            for _ in range(asked.runs):
                with tempfile.TemporaryDirectory(dir=asked.work) as folder:
                    for line in grow(Path(folder) / "project", size, asked.limit):
                        print(json.dumps(line), flush=True)
                        found.setdefault((line["name"], line["stage"]), []).append(line)
                        well &= line["ended"] == 0
                if asked.keep:
                    keep([best(lines) for lines in found.values()])
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
