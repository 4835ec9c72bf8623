"""Measures validation: `python -m benchmarks.validation [NAME ...] [--scale S]`; one line of JSON per figure.

Progress goes to stderr. Lines of runs at scale 1 on this repository's own corpus are kept in
``benchmarks/results.jsonl``.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from benchmarks.command import measure, parsed, parser
from benchmarks.labels import CORPUS
from benchmarks.validation_bench import ValidationBench
from benchmarks.validation_figures import FIGURES


def main() -> int:
    """Measure the figures named on the command line, all by default; 1 when a result is not equal."""
    options = _options()
    if not any(options.events.glob("*.parquet")):
        print(f"{options.events} holds no events to amplify; run `make demo` first.", file=sys.stderr)
        return 2
    kept = (options.scale, options.events, options.months) == (1, CORPUS, None)
    with tempfile.TemporaryDirectory(prefix="weakfish-bench-", dir=options.work) as work:
        bench = ValidationBench(Path(work), options.scale, options.events, options.months)
        return measure(options.names or list(FIGURES), lambda name: FIGURES[name](bench), kept)


def _options() -> argparse.Namespace:
    made = parser("validation", __doc__.splitlines()[0], FIGURES, "10 GB")
    made.add_argument("--events", type=Path, default=CORPUS, help="the corpus to amplify")
    made.add_argument("--months", type=int, help="that Great Expectations gets of twelve; else nothing is kept")
    return parsed(made, FIGURES)


if __name__ == "__main__":
    sys.exit(main())
