"""Measures the feature store: `python -m benchmarks.store [NAME ...] [--scale S]`; one line of JSON per figure.

Progress goes to stderr. Lines of runs at scale 1 are kept in ``benchmarks/results.jsonl``.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from benchmarks.command import measure, parsed, parser
from benchmarks.store_bench import StoreBench
from benchmarks.store_figures import BY_NAME, FIGURES


def main() -> int:
    """Measure the figures named on the command line, by default all that take minutes; 1 when a result is not equal."""
    options = parsed(parser("store", __doc__.splitlines()[0], FIGURES | BY_NAME, "1 GB"), FIGURES | BY_NAME)
    with (
        tempfile.TemporaryDirectory(prefix="weakfish-bench-", dir=options.work) as work,
        StoreBench(Path(work), options.scale) as bench,
    ):
        figures = FIGURES | BY_NAME
        return measure(options.names or list(FIGURES), lambda name: figures[name](bench), options.scale == 1)


if __name__ == "__main__":
    sys.exit(main())
