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
from benchmarks.command import measure, parsed, parser
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
    kept = (options.scale, options.epochs, options.events) == (1, EPOCHS, CORPUS)
    with tempfile.TemporaryDirectory(prefix="weakfish-bench-", dir=options.work) as work:
        bench = Bench(Path(work), options.scale, options.events, options.epochs, months)
        return measure(names, lambda name: FIGURES[name].measure(bench, FIGURES[name].months), kept)


def _options() -> argparse.Namespace:
    made = parser("labels", __doc__.splitlines()[0], FIGURES, "8 GB")
    made.add_argument("--epochs", type=int, default=EPOCHS, help="of the label model; else nothing is kept")
    made.add_argument("--events", type=Path, default=CORPUS, help="the corpus to amplify")
    return parsed(made, FIGURES)


if __name__ == "__main__":
    sys.exit(main())
