"""Measures votes and labels: `python -m benchmarks.labels [NAME ...] [--scale S]`; one line of JSON per figure.

Progress goes to stderr. Lines of runs at scale 1 on this repository's own corpus are kept in
``benchmarks/results.jsonl``.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from benchmarks.bench import Bench
from benchmarks.figures import keep
from benchmarks.label_figures import FIGURES
from benchmarks.process import REPOSITORY

CORPUS = REPOSITORY / "data/events"
EPOCHS = 500


def main() -> int:
    """Measure the figures named on the command line, all by default; 1 when a result is not equal."""
    options = _options()
    if not any(options.events.glob("*.parquet")):
        print(f"{options.events} holds no events to amplify; run `make demo` first.", file=sys.stderr)
        return 2
    names = options.names or list(FIGURES)
    months = max(FIGURES[name].months for name in names)
    equal = True
    with tempfile.TemporaryDirectory(prefix="weakfish-bench-", dir=options.work) as work:
        bench = Bench(options.events, Path(work), options.scale, options.epochs, months)
        for name in names:
            print(name, file=sys.stderr, flush=True)
            figure = FIGURES[name].measure(bench, FIGURES[name].months)
            print(figure.line(), flush=True)
            equal &= figure.equal
            if (options.scale, options.epochs, options.events) == (1, EPOCHS, CORPUS):
                keep([figure])
    return 0 if equal else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.labels", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(FIGURES)}")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the rows; below 1 nothing is kept")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="of the label model; else nothing is kept")
    parser.add_argument("--work", type=Path, help="where to make events and projects; 8 GB at scale 1")
    parser.add_argument("--events", type=Path, default=CORPUS, help="the corpus to amplify")
    options = parser.parse_args()
    for name in options.names:
        if name not in FIGURES:
            parser.error(f"{name!r} is not a figure; they are {', '.join(FIGURES)}")
    return options


if __name__ == "__main__":
    sys.exit(main())
