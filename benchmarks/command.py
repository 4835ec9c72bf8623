"""The command line that all groups of figures share: `python -m benchmarks.GROUP [NAME ...] [--scale S] [--work W]`.

One line of JSON per figure goes to stdout, progress to stderr.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from benchmarks.figures import Figure, keep


def parser(group: str, description: str, names: Collection[str], space: str) -> argparse.ArgumentParser:
    """A parser with what every group takes; ``space`` says what a full run needs on disk."""
    made = argparse.ArgumentParser(prog=f"python -m benchmarks.{group}", description=description)
    made.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(names)}")
    made.add_argument("--scale", type=float, default=1.0, help="share of the rows; below 1 nothing is kept")
    made.add_argument("--work", type=Path, help=f"where to make data and projects; {space} at scale 1")
    return made


def parsed(parser: argparse.ArgumentParser, names: Collection[str]) -> argparse.Namespace:
    """The options; ends with a sentence and 2 when a figure is none of ``names``."""
    options = parser.parse_args()
    for name in options.names:
        if name not in names:
            parser.error(f"{name!r} is not a figure; they are {', '.join(names)}")
    return options


def measure(names: Sequence[str], figure: Callable[[str], Figure], kept: bool) -> int:
    """Measure figures by name, print each, keep it if asked to; 1 when a result is not equal."""
    equal = True
    for name in names:
        print(name, file=sys.stderr, flush=True)
        found = figure(name)
        print(found.line(), flush=True)
        equal &= found.equal
        if kept:
            keep([found])
    return 0 if equal else 1
